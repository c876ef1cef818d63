use super::super::samples::ask;
use super::*;

const NETWORK: NetworkId = NetworkId(0);
const SCOPE: Scope = Scope { network: NETWORK, port: None };

fn upstream(number: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, number], 53))
}

fn request(name: &str, upstreams: u8) -> Request {
    let message = ask(7, name, 1);
    let key = Key::new(SCOPE, &Question::parse(&message).unwrap());
    let upstreams = (0..upstreams).map(upstream).collect();
    Request { scope: SCOPE, key, upstreams, whole: false, message: message.into() }
}

fn asker(port: u32, id: u16) -> Asker {
    let any = (Addr::v4([10, 0, 0, 1]), 5000);
    Asker { port: PortId(port), id, via: Via::Udp { mac: MacAddr::ZERO, source: any, gateway: any.0 } }
}

fn leg(place: usize, port: u16) -> Leg {
    let (hop, local) = (Addr::v4([10, 0, 0, 2]), (Addr::v4([10, 0, 0, 3]), port));
    Leg { place, upstream: upstream(place as u8), egress: NETWORK, hop, local, id: 9, stream: None }
}

#[test]
fn upstreams_are_asked_in_order_twice_around() {
    let cases: [(u8, &[usize], &[usize]); 5] = [
        (0, &[], &[]),
        (1, &[], &[0, 0]),
        (3, &[], &[0, 1, 2, 0, 1, 2]),
        (3, &[1], &[0, 1, 2, 0, 2]),
        (9, &[0, 2, 3, 4, 5, 6, 7], &[0, 1, 2, 3, 4, 5, 6, 7, 1]),
    ];
    for (upstreams, refusing, expected) in cases {
        let mut forwarder = Forwarder::default();
        let id = forwarder.open(request("a", upstreams), asker(1, 7));
        let mut asked = Vec::new();
        while let Some(place) = forwarder.advance(id) {
            asked.push(place);
            forwarder.set_leg(Instant(0), id, leg(place, 1024));
            if refusing.contains(&place) {
                forwarder.refuse(id, place);
            }
        }
        assert_eq!(asked, expected, "{upstreams} upstreams, of which {refusing:?} refuse");
        assert_eq!(
            (forwarder.close(id).is_some(), forwarder.waiting(), forwarder.next_timeout()),
            (true, 0, None)
        );
    }
}

#[test]
fn who_may_wait() {
    let limits = Limits { askers: 4, port: 3, reserved: 1, query: 2 };
    let mut forwarder = Forwarder::new(limits);
    let mut open = |name: &str, port| {
        let has_room = forwarder.has_room(PortId(port));
        if has_room {
            forwarder.open(request(name, 1), asker(port, 7));
        }
        has_room
    };
    assert_eq!(["a", "b", "c", "d"].map(|name| open(name, 1)), [true, true, true, false], "a port's limit");
    assert_eq!(["e", "f"].map(|name| open(name, 2)), [true, false], "all together");
    assert_eq!(["g", "h"].map(|name| open(name, 3)), [true, false], "but for one of each");
    forwarder.forget_port(PortId(1));
    assert_eq!(forwarder.waiting(), 2);
    assert!(forwarder.has_room(PortId(2)) && forwarder.has_room(PortId(1)));
    forwarder.forget_network(NETWORK);
    assert_eq!((forwarder.waiting(), forwarder.queries.len(), forwarder.same.len()), (0, 0, 0));
}

#[test]
fn who_asks_the_same() {
    let mut forwarder = Forwarder::new(Limits { query: 2, ..Limits::default() });
    let id = forwarder.open(request("a", 1), asker(1, 7));
    assert_eq!(forwarder.same(&request("a", 1)), Some(id));
    assert_eq!(forwarder.same(&request("b", 1)), None);
    assert_eq!(forwarder.same(&Request { whole: true, ..request("a", 1) }), None, "another kind of answer");
    assert!(!forwarder.join(id, asker(1, 7)), "he waits already");
    assert!(forwarder.join(id, asker(2, 7)));
    assert_eq!(forwarder.same(&request("a", 1)), None, "it is full");
    let other = forwarder.open(request("a", 1), asker(3, 7));
    // The end of the first is not the end of the second.
    forwarder.close(id);
    assert_eq!((forwarder.same(&request("a", 1)), forwarder.waiting()), (Some(other), 1));
    forwarder.outdate(NETWORK);
    assert_eq!(forwarder.same(&request("a", 1)), None);
    assert!(forwarder.close(other).unwrap().outdated);
}

#[test]
fn whose_leg_it_is() {
    let mut forwarder = Forwarder::default();
    let id = forwarder.open(request("a", 2), asker(1, 7));
    forwarder.set_leg(Instant(5), id, leg(0, 1024));
    let (ours, theirs) = ((Addr::v4([10, 0, 0, 3]), 1024), (Addr::v4([192, 0, 2, 0]), 53));
    assert_eq!(forwarder.on_leg(NETWORK, theirs, ours), Some(id));
    assert_eq!(forwarder.on_leg(NetworkId(1), theirs, ours), None);
    assert_eq!(forwarder.on_leg(NETWORK, (theirs.0, 54), ours), None);
    assert_eq!(forwarder.on_leg(NETWORK, theirs, (ours.0, 1025)), None);
    assert_eq!(forwarder.next_timeout(), Some(Instant(5) + PATIENCE));
    assert_eq!(forwarder.expired(Instant(5)), None);
    assert_eq!(forwarder.expired(Instant(5) + PATIENCE), Some(id));
    forwarder.set_leg(Instant(9), id, leg(1, 1025));
    assert_eq!(forwarder.on_leg(NETWORK, theirs, ours), None, "the leg has ended");
    assert!(!forwarder.is_taken(ours) && forwarder.is_taken((ours.0, 1025)));
}
