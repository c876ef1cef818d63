//! Replay: a capture through the pipeline of a lab, in virtual time.
//!
//! Theory of operation. The lab is built in a model and a switch of its own, with fixed ids and a
//! fixed seed. Time is the records' own, counted from the first; it never runs backwards. A record
//! enters at one port: the one the user names, or the one whose endpoint has the frame's source
//! address, or the one the record's interface names. What leaves comes back as records again. So
//! the same lab and capture give the same records on any machine.
//!
//! Sightings of frames on their way out, and of drops, are what a switch made of frames that the
//! capture also holds as they came in: they are not fed again.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::compile;
use super::lab::Lab;
use super::model::{Container, Endpoint};
use super::{Id, Kind, Model, Refused};
use crate::capture::record::{Point, Record};
use crate::dataplane::counters::Drops;
use crate::dataplane::{Counters, Egress, Frame, Instant, PortId, Switch, Verdict};
use crate::wire::{MacAddr, Offload};

/// A lab's pipeline, fed from a capture.
pub struct Replay {
    model: Model,
    switch: Switch,
    names: BTreeMap<PortId, Arc<str>>,
    /// Whose address is whose; none where several networks have it.
    owners: BTreeMap<MacAddr, Option<PortId>>,
    /// Where every frame enters, if the user says so.
    at: Option<PortId>,
    start_ns: Option<u64>,
    now: Instant,
    frame: Frame,
    summary: Summary,
}

/// What became of a capture's records.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Summary {
    /// Records that were read.
    pub records: u64,
    /// Frames that went to the one port behind which their destination lies.
    pub forwarded: u64,
    /// Frames that went to several ports.
    pub flooded: u64,
    /// Frames that the gateway took.
    pub local: u64,
    /// Frames that were held back.
    pub held: u64,
    /// Frames that were dropped, by reason.
    pub dropped: Drops,
    /// Records of frames on their way out, or dropped: not fed.
    pub skipped: u64,
    /// Records that belong to no port of the lab: not fed.
    pub unplaced: u64,
}

impl Replay {
    /// The pipeline of a lab. Every frame enters `at` a port (a name as [`Model::find_port`] takes
    /// it), or each at its own.
    ///
    /// # Errors
    /// [`Refused`] when the lab has no such port, or contradicts itself.
    pub fn new(lab: &Lab, at: Option<&str>) -> Result<Self, Refused> {
        let model = model_of(lab)?;
        let at = at.map(|port| model.find_port(port).map(|(_, endpoint)| PortId(endpoint.port)));
        let mut switch = Switch::new(0);
        for change in compile::changes(&model) {
            switch
                .apply(Instant(0), change)
                .map_err(|rejected| Refused::new(Kind::System, rejected.to_string()))?;
        }
        let name = |(container, endpoint): (&Container, &Endpoint)| {
            (PortId(endpoint.port), container.port_name(endpoint).into())
        };
        let mut owners = BTreeMap::new();
        for (_, endpoint) in endpoints(&model) {
            let port = Some(PortId(endpoint.port));
            owners.entry(endpoint.mac).and_modify(|owner| *owner = None).or_insert(port);
        }
        Ok(Self {
            owners,
            names: endpoints(&model).map(name).collect(),
            at: at.transpose()?,
            start_ns: None,
            now: Instant(0),
            frame: Frame::new(),
            summary: Summary::default(),
            model,
            switch,
        })
    }

    /// Feeds one record and appends to `out` a record for each frame that is sent, or for the drop. What
    /// the switch sends by itself until the record's time comes before it.
    pub fn feed(&mut self, record: &Record, out: &mut Vec<Record>) {
        let index = self.summary.records;
        self.summary.records += 1;
        if matches!(record.point, Some(Point::Out | Point::Drop)) {
            self.summary.skipped += 1;
            return;
        }
        let Some(from) = self.place(record) else {
            self.summary.unplaced += 1;
            return;
        };
        self.advance(record.time_ns, out);
        self.frame.set(&record.data, Offload::NONE);
        let mut egress =
            Collect { names: &self.names, time_ns: record.time_ns, of: Some((index, record)), out };
        let verdict = self.switch.input(self.now, from, &mut self.frame, &mut egress, &mut ());
        match verdict {
            Verdict::ToPort(_) | Verdict::Routed(_) => self.summary.forwarded += 1,
            Verdict::Local => self.summary.local += 1,
            Verdict::Held => self.summary.held += 1,
            Verdict::Flood(_) => self.summary.flooded += 1,
            Verdict::Drop(reason) => {
                let dropped = egress.sighting(from, Point::Drop, &record.data);
                egress.out.push(Record { comment: Some(reason.name().to_owned()), ..dropped });
                self.summary.dropped[reason] += 1;
            }
        }
    }

    /// What has become of the records so far.
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// The ports with their names and counters, in the order of their numbers.
    pub fn ports(&self) -> impl Iterator<Item = (&str, &Counters)> {
        let counters = |port: PortId| self.switch.port(port).map(|port| &port.counters);
        self.names.iter().filter_map(move |(port, name)| Some((&**name, counters(*port)?)))
    }

    /// The port where a record enters, if one can be told.
    fn place(&self, record: &Record) -> Option<PortId> {
        let by_source = || {
            let source = record.data.get(6..12)?.try_into().ok().map(MacAddr)?;
            *self.owners.get(&source)?
        };
        let by_interface = || {
            let found = self.model.find_port(&record.interface).ok();
            found.map(|(_, endpoint)| PortId(endpoint.port))
        };
        self.at.or_else(by_source).or_else(by_interface)
    }

    /// Lets time pass until a record's.
    fn advance(&mut self, time_ns: u64, out: &mut Vec<Record>) {
        let start = *self.start_ns.get_or_insert(time_ns);
        let now = self.now.max(Instant(time_ns.saturating_sub(start)));
        while let Some(due) = self.switch.poll_timeout().filter(|due| *due <= now) {
            let time_ns = start.saturating_add(due.0);
            let mut egress = Collect { names: &self.names, time_ns, of: None, out };
            self.switch.handle_timeout(due, &mut egress);
        }
        self.now = now;
    }
}

/// Makes a record of each frame that is sent.
struct Collect<'a> {
    names: &'a BTreeMap<PortId, Arc<str>>,
    time_ns: u64,
    /// The record that is being fed, and its number.
    of: Option<(u64, &'a Record)>,
    out: &'a mut Vec<Record>,
}

impl Collect<'_> {
    /// The frame that is being fed, as it was seen somewhere else.
    fn sighting(&self, port: PortId, point: Point, data: &[u8]) -> Record {
        Record {
            time_ns: self.time_ns,
            interface: self.names.get(&port).cloned().unwrap_or_default(),
            point: Some(point),
            wire_len: self.of.map_or(data.len() as u32, |(_, record)| record.wire_len),
            packet_id: self.of.map(|(index, _)| index),
            comment: None,
            data: data.to_vec(),
        }
    }
}

impl Egress for Collect<'_> {
    fn send(&mut self, to: PortId, frame: &Frame) {
        let record = self.sighting(to, Point::Out, frame.bytes());
        self.out.push(record);
    }

    fn emit(&mut self, to: PortId, bytes: &[u8], _: Offload) {
        // It is another packet than the one that is being fed, if any.
        let record = self.sighting(to, Point::Out, bytes);
        self.out.push(Record { wire_len: bytes.len() as u32, packet_id: None, ..record });
    }
}

/// The model of a lab alone, with ids that are the same each time.
pub(crate) fn model_of(lab: &Lab) -> Result<Model, Refused> {
    let given = lab.given_subnets();
    let mut ids = (0_u64..).map(|number| {
        let mut bytes = [0; 32];
        bytes.iter_mut().zip(number.to_be_bytes()).for_each(|(byte, of_number)| *byte = of_number);
        Id::new([0; 32]).derive(Id::new(bytes))
    });
    let mut next = || ids.next().unwrap_or(Id::new([0; 32])); // Numbers do not run out.
    let mut model = Model::new(next(), 0, &given)?;
    for uplink in &lab.uplinks {
        model.create_uplink(uplink, next(), 0)?;
    }
    for network in &lab.networks {
        model.create_network(network, next(), 0, &given)?;
    }
    for container in &lab.containers {
        model.create_container(container, next(), 0)?;
    }
    for route in &lab.routes {
        model.add_route(route)?;
    }
    for rule in &lab.rules {
        model.add_rule(rule, None)?;
    }
    Ok(model)
}

fn endpoints(model: &Model) -> impl Iterator<Item = (&Container, &Endpoint)> {
    model
        .containers()
        .into_iter()
        .flat_map(|container| container.endpoints.iter().map(move |endpoint| (container, endpoint)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::file::{PcapngWriter, Reader};
    use crate::control::lab::DEMO;
    use crate::control::show::{ReplayRow, replay_rows, replay_table};

    const SECOND: u64 = 1_000_000_000;
    const ALL: [u8; 6] = [0xff; 6];

    fn demo() -> Lab {
        Lab::parse("demo", "demo.toml", DEMO).unwrap()
    }

    /// The address of the endpoint with IPv4 address 172.NETWORK.0.HOST.
    fn mac(network: u8, host: u8) -> [u8; 6] {
        [0x02, 0x42, 172, network, 0, host]
    }

    fn record(at: u64, source: [u8; 6], destination: [u8; 6]) -> Record {
        let mut data = [destination, source].concat();
        data.extend([0x88, 0xb5]);
        data.resize(60, at as u8);
        Record {
            time_ns: 1_700_000_000 * SECOND + at * SECOND,
            interface: "".into(),
            point: None,
            wire_len: 60,
            packet_id: None,
            comment: None,
            data,
        }
    }

    /// Where the records went: input, port, and the reason of a drop. What the gateways say themselves is
    /// left out.
    fn run(replay: &mut Replay, records: &[Record]) -> Vec<(u64, String, Option<String>)> {
        let mut out = Vec::new();
        records.iter().for_each(|record| replay.feed(record, &mut out));
        let shown = |it: &Record| Some((it.packet_id?, it.interface.to_string(), it.comment.clone()));
        out.iter().filter_map(shown).collect()
    }

    fn to(index: u64, port: &str) -> (u64, String, Option<String>) {
        (index, port.to_owned(), None)
    }

    #[test]
    fn two_networks_stay_apart_and_learn() {
        let (alice, bob, carol) = (mac(19, 2), mac(19, 3), mac(20, 2));
        let records = [
            record(0, alice, ALL),
            record(1, bob, alice),
            record(2, alice, bob),
            record(3, carol, alice),
            record(4, alice, alice),
        ];
        let mut replay = Replay::new(&demo(), None).unwrap();
        let same = (4, "alice".to_owned(), Some("same_port".to_owned()));
        let expected = [to(0, "bob"), to(1, "alice"), to(2, "bob"), to(3, "dave"), same];
        assert_eq!(run(&mut replay, &records), expected);
        let summary = replay.summary();
        assert_eq!((summary.records, summary.forwarded, summary.flooded), (5, 2, 2));
    }

    #[test]
    fn what_was_learned_ages_in_the_captures_time() {
        let (alice, bob) = (mac(19, 2), mac(19, 3));
        let mut replay = Replay::new(&demo(), None).unwrap();
        run(&mut replay, &[record(0, alice, ALL), record(299, bob, alice)]);
        assert_eq!((replay.summary().forwarded, replay.summary().flooded), (1, 1));
        run(&mut replay, &[record(700, bob, alice), record(300, bob, alice)]);
        assert_eq!((replay.summary().forwarded, replay.summary().flooded), (1, 3));
    }

    #[test]
    fn a_record_enters_where_it_belongs() {
        let stranger = [2, 0, 0, 0, 0, 9];
        let named = |interface: &str, point| Record {
            interface: interface.into(),
            point,
            ..record(0, stranger, ALL)
        };
        let records = [
            named("carol", Some(Point::In)),
            named("carol", Some(Point::Out)),
            named("carol", Some(Point::Drop)),
            named("nobody", None),
        ];
        let mut replay = Replay::new(&demo(), None).unwrap();
        assert_eq!(run(&mut replay, &records), [to(0, "dave")]);
        assert_eq!((replay.summary().skipped, replay.summary().unplaced), (2, 1));
        let mut replay = Replay::new(&demo(), Some("bob:eth0")).unwrap();
        assert_eq!(run(&mut replay, &records), [to(0, "alice"), to(3, "alice")]);
    }

    #[test]
    fn the_same_address_on_two_networks_is_told_by_the_interface() {
        let text = "[network.a]\n[network.b]\n\
            [container.x]\nnetworks = [\"a\", \"b\"]\n\
            [container.y]\nnetworks = [\"a\", \"b\"]\n";
        let mut lab = Lab::parse("twice", "twice.toml", text).unwrap();
        lab.containers[0].networks.iter_mut().for_each(|it| it.mac = Some(MacAddr([2, 0, 0, 0, 0, 1])));
        let frame = record(0, [2, 0, 0, 0, 0, 1], ALL);
        let named = Record { interface: "x:eth1".into(), ..frame.clone() };
        let mut replay = Replay::new(&lab, None).unwrap();
        assert_eq!(run(&mut replay, &[frame, named]), [to(1, "y:eth1")]);
        assert_eq!(replay.summary().unplaced, 1);
    }

    #[test]
    fn two_runs_give_the_same_bytes() {
        let capture = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/captures/http.pcap")).unwrap();
        let run = || {
            let mut reader = Reader::open(&capture[..]).unwrap();
            let mut replay = Replay::new(&demo(), Some("alice")).unwrap();
            let (mut bytes, mut out) = (Vec::new(), Vec::new());
            while let Some(record) = reader.next_record().unwrap() {
                replay.feed(&record, &mut out);
            }
            let mut writer = PcapngWriter::new(&mut bytes, 0).unwrap();
            out.iter().for_each(|record| writer.write(record).unwrap());
            writer.finish(0, 0).unwrap();
            (bytes, replay_table(&replay_rows(&replay)))
        };
        let (bytes, table) = run();
        assert_eq!((bytes.clone(), table.clone()), run());
        assert!(bytes.len() > 1000, "{table}");
    }

    #[test]
    fn an_unknown_port_is_refused() {
        let refused = Replay::new(&demo(), Some("alise")).err().map(|refused| refused.message);
        let expected = "No such container: alise: did you mean 'alice'?";
        assert_eq!(refused.as_deref(), Some(expected));
    }

    #[test]
    fn the_table_shows_outcomes_and_ports() {
        let mut replay = Replay::new(&demo(), None).unwrap();
        run(&mut replay, &[record(0, mac(19, 2), ALL), record(1, mac(19, 2), [1, 0x80, 0xc2, 0, 0, 0])]);
        let rows = replay_rows(&replay);
        let expected = "\
OUTCOME      RECORDS   MEANING
flooded      1         To every other port of the network.
link_local   1         01:80:c2:00:00:00–0f never cross a bridge (IEEE 802.1Q table 8-1).

PORT      RX FRAMES   RX BYTES   TX FRAMES   TX BYTES   DROPS
alice     2           120        1           42         1
bob       0           0          2           102        0
carol     0           0          1           42         0
dave      0           0          1           42         0
outside   0           0          1           42         0
";
        assert_eq!(replay_table(&rows), expected);
        assert!(matches!(rows[0], ReplayRow::Outcome { outcome: "flooded", records: 1, .. }));
    }
}
