use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::dataplane::PortId;
use crate::dataplane::conntrack::state::{State, Talk};
use crate::dataplane::conntrack::{FlowId, NewFlow, Room, Source, Status, Update};
use protocol::{ICMP, TCP, UDP};

const NOW: Instant = Instant(0);
const TO: Addr = Addr::v4([192, 0, 2, 1]);
const GRE: u8 = 47;

/// For a flow that takes nobody's place.
fn translate_source(
    flows: &Conntrack,
    now: Instant,
    inbound: &Tuple,
    to: Addr,
    ports: Option<(u16, u16)>,
) -> Result<Tuple, DropReason> {
    super::translate_source(flows, now, inbound, to, ports, None)
}

fn inside(host: u8, port: u16, protocol: u8, server: u8) -> Tuple {
    let destination_port = match protocol {
        ICMP => port,
        GRE => 0,
        _ => 53,
    };
    Tuple {
        source: Addr::v4([10, 0, 0, host]),
        destination: Addr::v4([198, 51, 100, server]),
        source_port: port,
        destination_port,
        protocol,
    }
}

fn insert(flows: &mut Conntrack, original: &Tuple, reply: &Tuple) -> FlowId {
    let first =
        Update { state: State::Udp(Talk::Asked), timeout: 100, assured: true, droppable: false, bytes: 0 };
    let new = NewFlow {
        original: *original,
        reply: *reply,
        status: Status::SNAT,
        owner: PortId(1),
        source: Source::Port,
        first,
        replaces: None,
    };
    flows.insert(NOW, &new, Room(None)).unwrap()
}

type Range = Option<(u16, u16)>;

/// A translated flow, in the table.
fn open(flows: &mut Conntrack, original: &Tuple, ports: Range) -> Result<(u16, FlowId), DropReason> {
    let outgoing = translate_source(flows, NOW, original, TO, ports)?;
    Ok((outgoing.source_port, insert(flows, original, &outgoing.invert())))
}

#[test]
fn a_port_is_preserved_and_is_the_same_for_all_destinations() {
    let mut flows = Conntrack::new(1);
    for protocol in [TCP, UDP, ICMP] {
        for server in 1..4 {
            let original = inside(2, 40_000, protocol, server);
            let outgoing = translate_source(&flows, NOW, &original, TO, None).unwrap();
            assert_eq!(outgoing, Tuple { source: TO, ..original });
            insert(&mut flows, &original, &outgoing.invert());
        }
    }
    assert_eq!(flows.mappings().len(), 3);
}

#[test]
fn another_endpoint_gets_another_port_of_the_same_kind_and_keeps_it() {
    for (protocol, port, range) in
        [(TCP, 40_000, 1024..=65535), (UDP, 500, 1..=1023), (UDP, 1024, 1024..=65535), (ICMP, 7, 0..=65535)]
    {
        let mut flows = Conntrack::new(1);
        open(&mut flows, &inside(2, port, protocol, 1), None).unwrap();
        let (other, _) = open(&mut flows, &inside(3, port, protocol, 2), None).unwrap();
        assert!(other != port && range.contains(&other), "{protocol} {port} {other}");
        for server in 1..5 {
            if server != 2 {
                assert_eq!(open(&mut flows, &inside(3, port, protocol, server), None).unwrap().0, other);
            }
        }
    }
}

#[test]
fn an_icmp_identifier_is_both_ports() {
    let mut flows = Conntrack::new(1);
    open(&mut flows, &inside(2, 7, ICMP, 1), None).unwrap();
    let outgoing = translate_source(&flows, NOW, &inside(3, 7, ICMP, 1), TO, None).unwrap();
    assert_ne!(outgoing.source_port, 7);
    assert_eq!(outgoing.source_port, outgoing.destination_port);
}

#[test]
fn a_mapping_ends_with_its_last_flow() {
    let mut flows = Conntrack::new(1);
    let (port, first) = open(&mut flows, &inside(2, 5000, UDP, 1), None).unwrap();
    let (_, second) = open(&mut flows, &inside(2, 5000, UDP, 2), None).unwrap();
    flows.remove(NOW, first);
    assert_ne!(translate_source(&flows, NOW, &inside(3, port, UDP, 3), TO, None).unwrap().source_port, port);
    flows.remove(NOW, second);
    assert!(flows.mappings().is_empty());
    assert_eq!(translate_source(&flows, NOW, &inside(3, port, UDP, 3), TO, None).unwrap().source_port, port);
}

#[test]
fn a_mapping_holds_for_one_protocol_and_one_outside_address() {
    let mut flows = Conntrack::new(1);
    open(&mut flows, &inside(2, 5000, UDP, 1), None).unwrap();
    let elsewhere = Addr::v4([192, 0, 2, 2]);
    for (protocol, to) in [(TCP, TO), (UDP, elsewhere)] {
        let outgoing = translate_source(&flows, NOW, &inside(3, 5000, protocol, 1), to, None).unwrap();
        assert_eq!(outgoing.source_port, 5000);
    }
}

#[test]
fn a_range_is_kept_to() {
    let mut flows = Conntrack::new(1);
    let range = Some((30_000, 30_009));
    assert_eq!(open(&mut flows, &inside(2, 30_005, UDP, 1), range).unwrap().0, 30_005);
    for host in 3..12 {
        let (port, _) = open(&mut flows, &inside(host, 5000, UDP, 1), range).unwrap();
        assert!((30_000..=30_009).contains(&port));
    }
    assert_eq!(open(&mut flows, &inside(12, 5000, UDP, 1), range), Err(DropReason::NatExhausted));
    // To another server a port can be shared.
    assert!(open(&mut flows, &inside(12, 5000, UDP, 2), range).is_ok());
    assert_eq!(open(&mut flows, &inside(13, 5000, UDP, 9), Some((9, 8))), Err(DropReason::NatExhausted));
    // A mapping outside of the range is of no use for it.
    let (port, _) = open(&mut flows, &inside(2, 30_005, UDP, 3), Some((40_000, 40_000))).unwrap();
    assert_eq!(port, 40_000);
}

#[test]
fn an_inbound_flows_reply_tuple_is_not_taken() {
    let mut flows = Conntrack::new(1);
    let original = inside(2, 8080, TCP, 1);
    // Somebody outside reaches a published port: his packets have the tuple that answers would have.
    let inbound = Tuple { source: TO, ..original }.invert();
    let target = Tuple { destination: Addr::v4([10, 0, 0, 9]), ..inbound };
    insert(&mut flows, &inbound, &target.invert());
    assert_ne!(translate_source(&flows, NOW, &original, TO, None).unwrap().source_port, 8080);
}

#[test]
fn a_protocol_without_ports_has_one_flow_for_each_server() {
    let mut flows = Conntrack::new(1);
    for server in 1..3 {
        assert!(open(&mut flows, &inside(2, 0, GRE, server), None).is_ok());
        assert_eq!(open(&mut flows, &inside(3, 0, GRE, server), None), Err(DropReason::NatExhausted));
    }
    assert!(flows.mappings().is_empty());
}

#[test]
fn the_choice_depends_on_the_seed_alone() {
    let choice = |seed| {
        let mut flows = Conntrack::new(seed);
        open(&mut flows, &inside(2, 5000, UDP, 1), None).unwrap();
        open(&mut flows, &inside(3, 5000, UDP, 1), None).unwrap().0
    };
    assert_eq!(choice(1), choice(1));
    assert!((2..9).any(|seed| choice(seed) != choice(1)));
}

#[test]
fn a_full_port_space_is_shared() {
    let mut flows = Conntrack::new(1);
    for port in 1024..=u16::MAX {
        assert_eq!(open(&mut flows, &inside(2, port, UDP, 1), None).unwrap().0, port);
    }
    assert_eq!(flows.mappings().len(), 64_512);
    assert!(open(&mut flows, &inside(3, 5000, UDP, 2), None).is_ok());
    assert_eq!(open(&mut flows, &inside(3, 6000, UDP, 1), None), Err(DropReason::NatExhausted));
    assert_eq!(flows.mappings().len(), 64_512);
    // The only port that comes free is found.
    let ours = Tuple { source: TO, ..inside(2, 7777, UDP, 1) }.invert();
    let id = flows.lookup(NOW, &ours).unwrap().id;
    flows.remove(NOW, id);
    assert_eq!(open(&mut flows, &inside(4, 5000, UDP, 1), None).unwrap().0, 7777);
}

#[test]
fn flows_that_expire_release_their_ports() {
    let mut flows = Conntrack::new(1);
    let memory = flows.memory();
    open(&mut flows, &inside(2, 5000, UDP, 1), None).unwrap();
    assert!(flows.memory() > memory);
    flows.expire(Instant(1_000_000_000_000), 1000);
    assert!(flows.is_empty() && flows.mappings().is_empty());
}

#[derive(Debug, Clone)]
enum Step {
    Open { host: u8, port: u16, protocol: u8, server: u8 },
    Close(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let protocol = prop_oneof![4 => Just(UDP), 1 => Just(TCP), 1 => Just(ICMP), 1 => Just(GRE)];
    prop_oneof![
        3 => (1..6u8, 2000..2003u16, protocol, 1..4u8).prop_map(|(host, port, protocol, server)| {
            Step::Open { host, port: if protocol == GRE { 0 } else { port }, protocol, server }
        }),
        1 => (0..50usize).prop_map(Step::Close),
    ]
}

/// The same rules, as plainly as they can be said.
#[derive(Default)]
struct Model {
    /// Flows in the table, and whether each holds a mapping.
    flows: Vec<(Tuple, Tuple, FlowId, bool)>,
}

impl Model {
    fn is_taken(&self, tuple: &Tuple) -> bool {
        self.flows.iter().any(|(original, reply, ..)| tuple == original || tuple == reply)
    }

    /// The outside port by inside endpoint.
    fn mappings(&self) -> BTreeMap<(u8, Addr, u16), u16> {
        let held = self.flows.iter().filter(|flow| flow.3);
        held.map(|(original, reply, ..)| {
            ((original.protocol, original.source, original.source_port), reply.destination_port)
        })
        .collect()
    }

    fn is_owned(&self, protocol: u8, port: u16) -> bool {
        self.mappings().iter().any(|(inside, outside)| inside.0 == protocol && *outside == port)
    }

    fn check(&self, original: &Tuple, ports: Range, result: Result<Tuple, DropReason>) {
        let outgoing = |port| Tuple {
            source: TO,
            source_port: port,
            destination_port: if original.protocol == ICMP { port } else { original.destination_port },
            ..*original
        };
        let is_free = |port: &u16| !self.is_taken(&outgoing(*port).invert());
        let (low, high) = ports
            .filter(|_| original.protocol != GRE)
            .unwrap_or((original.source_port, original.source_port));
        let free: Vec<_> = (low..=high).filter(is_free).collect();
        let unowned: Vec<_> =
            free.iter().copied().filter(|port| !self.is_owned(original.protocol, *port)).collect();
        let mapped =
            self.mappings().get(&(original.protocol, original.source, original.source_port)).copied();
        let Ok(result) = result else {
            assert!(free.is_empty() && (ports.is_some() || original.protocol == GRE), "gave up on {free:?}");
            return;
        };
        let port = result.source_port;
        assert_eq!(result, outgoing(port), "nothing else changes");
        assert!(is_free(&port), "two flows with one reply tuple");
        if let Some(mapped) = mapped.filter(is_free) {
            assert_eq!(port, mapped, "another port for another destination");
        } else if original.protocol == GRE {
        } else if unowned.contains(&original.source_port) {
            // A mapping that cannot be used is no reason to look for one's own port.
            assert!(port == original.source_port || mapped.is_some(), "the port was not preserved");
        } else if ports.is_none() || !unowned.is_empty() {
            assert!(!self.is_owned(original.protocol, port), "another's port");
        }
        if ports.is_some() && original.protocol != GRE {
            assert!((low..=high).contains(&port), "outside of the range");
        }
    }

    fn insert(&mut self, original: Tuple, reply: Tuple, id: FlowId) {
        let inside = (original.protocol, original.source, original.source_port);
        let holds = original.protocol != GRE
            && match self.mappings().get(&inside) {
                Some(port) => *port == reply.destination_port,
                None => !self.is_owned(original.protocol, reply.destination_port),
            };
        self.flows.push((original, reply, id, holds));
    }
}

fn run(steps: &[Step], ports: Range) {
    let mut flows = Conntrack::new(7);
    let mut model = Model::default();
    for step in steps {
        match *step {
            Step::Open { host, port, protocol, server } => {
                let original = inside(host, port, protocol, server);
                if model.is_taken(&original) {
                    continue;
                }
                let result = translate_source(&flows, NOW, &original, TO, ports);
                model.check(&original, ports, result);
                if let Ok(outgoing) = result {
                    let id = insert(&mut flows, &original, &outgoing.invert());
                    model.insert(original, outgoing.invert(), id);
                }
            }
            Step::Close(which) => {
                if !model.flows.is_empty() {
                    let (_, _, id, _) = model.flows.remove(which % model.flows.len());
                    assert!(flows.remove(NOW, id));
                }
            }
        }
        assert_eq!(flows.mappings().len() as usize, model.mappings().len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_ports_as_the_model(steps in prop::collection::vec(step(), 1..80)) {
        run(&steps, None);
    }

    #[test]
    fn few_ports_as_the_model(steps in prop::collection::vec(step(), 1..80), size in 1..6u16) {
        run(&steps, Some((2001, 2000 + size)));
    }
}
