//! The table against a list that is searched from front to back.

use std::net::IpAddr;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;

const NET: NetworkId = NetworkId(1);
const WAN: NetworkId = NetworkId(2);
const LTE: NetworkId = NetworkId(3);

fn addr(text: &str) -> Addr {
    text.parse::<IpAddr>().unwrap().into()
}

fn prefix(text: &str) -> Prefix {
    let (address, len) = text.split_once('/').unwrap();
    Prefix::new(addr(address), len.parse().unwrap())
}

fn on(text: &str) -> InterfaceAddress {
    InterfaceAddress { address: addr(text.split('/').next().unwrap()), prefix: prefix(text) }
}

fn route(to: &str, via: Option<&str>, interface: NetworkId, metric: u32) -> Route {
    Route { prefix: prefix(to), via: via.map(addr), interface, metric }
}

/// A network and two uplinks, both with a default route.
fn table() -> Routes {
    let mut routes = Routes::new(7);
    let interfaces: [(NetworkId, &[&str]); 3] = [
        (NET, &["172.17.0.1/16", "fd00:17::1/64", "fe80::1/64"]),
        (WAN, &["203.0.113.2/24", "2001:db8::2/64", "fe80::1/64"]),
        (LTE, &["100.64.0.2/31", "192.0.2.1/32"]),
    ];
    for (interface, addresses) in interfaces {
        let addresses: Vec<_> = addresses.iter().map(|text| on(text)).collect();
        routes.set_interface(interface, Some(&addresses)).unwrap();
    }
    routes.add(route("0.0.0.0/0", Some("203.0.113.1"), WAN, 0)).unwrap();
    routes.add(route("0.0.0.0/0", Some("100.64.0.3"), LTE, 10)).unwrap();
    routes.add(route("::/0", Some("fe80::99"), WAN, 0)).unwrap();
    routes
}

fn found(routes: &Routes, to: &str, preferred: Option<NetworkId>) -> Option<(Kind, NetworkId, Option<Addr>)> {
    routes.lookup(addr(to), preferred).map(|entry| (entry.kind, entry.interface, entry.via))
}

#[test]
fn addresses_links_broadcasts_and_default_routes() {
    let routes = table();
    let gateway = Some(addr("203.0.113.1"));
    let expected = [
        ("172.17.0.1", Some((Kind::Local, NET, None))),
        ("172.17.0.2", Some((Kind::Connected, NET, None))),
        ("172.17.255.255", Some((Kind::Broadcast, NET, None))),
        ("172.17.0.0", Some((Kind::Broadcast, NET, None))),
        ("172.18.0.1", Some((Kind::Static, WAN, gateway))),
        // Of two addresses, both are hosts (RFC 3021); one has no link.
        ("100.64.0.3", Some((Kind::Connected, LTE, None))),
        ("192.0.2.1", Some((Kind::Local, LTE, None))),
        ("fd00:17::1", Some((Kind::Local, NET, None))),
        ("fd00:17::", Some((Kind::Connected, NET, None))),
        ("fd00:17::ffff:ffff:ffff:ffff", Some((Kind::Connected, NET, None))),
        ("2001:db8:1::1", Some((Kind::Static, WAN, Some(addr("fe80::99"))))),
    ];
    for (to, route) in expected {
        assert_eq!(found(&routes, to, None), route, "{to}");
    }
    // Their own is on every link.
    assert_eq!(found(&routes, "fe80::1", None).map(|(kind, ..)| kind), Some(Kind::Static));
    assert_eq!(found(&Routes::default(), "10.0.0.1", None), None);
}

#[test]
fn a_preferred_uplink_wins_among_equal_routes_only() {
    let mut routes = table();
    let by = |routes: &Routes, to, preferred| found(routes, to, preferred).map(|(_, interface, _)| interface);
    assert_eq!(by(&routes, "8.8.8.8", Some(LTE)), Some(LTE));
    assert_eq!(by(&routes, "8.8.8.8", Some(WAN)), Some(WAN));
    assert_eq!(by(&routes, "8.8.8.8", Some(NetworkId(9))), Some(WAN));
    // A longer prefix wins over it; so does a link over a static route of the same prefix.
    routes.add(route("8.8.8.0/24", Some("203.0.113.1"), WAN, 0)).unwrap();
    assert_eq!(by(&routes, "8.8.8.8", Some(LTE)), Some(WAN));
    routes.add(route("172.17.0.0/16", None, LTE, 0)).unwrap();
    assert_eq!(by(&routes, "172.17.0.2", Some(LTE)), Some(NET));
    // IPv6 has no default route there.
    assert_eq!(by(&routes, "2001:db8:1::1", Some(LTE)), Some(WAN));
    // The best goes: the next one takes over.
    routes.remove(&route("0.0.0.0/0", Some("203.0.113.1"), WAN, 99)).unwrap();
    assert_eq!(by(&routes, "9.9.9.9", None), Some(LTE));
}

#[test]
fn what_cannot_be_is_refused_and_changes_nothing() {
    let mut routes = table();
    let before: Vec<_> = routes.page(None, usize::MAX).copied().collect();
    let default = prefix("0.0.0.0/0");
    let refusals = [
        (route("10.0.0.0/8", None, NetworkId(9), 0), Rejected::NoInterface(NetworkId(9))),
        (route("10.0.0.0/8", Some("10.0.0.1"), WAN, 0), Rejected::Unreachable(addr("10.0.0.1"))),
        (route("10.0.0.0/8", Some("172.17.0.2"), WAN, 0), Rejected::Unreachable(addr("172.17.0.2"))),
        (route("::/0", Some("203.0.113.1"), WAN, 0), Rejected::Unreachable(addr("203.0.113.1"))),
        (route("10.0.0.0/8", Some("169.254.0.1"), WAN, 0), Rejected::Unreachable(addr("169.254.0.1"))),
        (route("0.0.0.0/0", Some("203.0.113.1"), WAN, 5), Rejected::RouteExists(default)),
    ];
    for (route, why) in refusals {
        assert_eq!(routes.add(route), Err(why));
    }
    let unknown = route("0.0.0.0/0", Some("203.0.113.9"), WAN, 0);
    assert_eq!(routes.remove(&unknown), Err(Rejected::UnknownRoute(default)));
    let taken = Rejected::AddressTaken(addr("172.17.0.1"));
    assert_eq!(routes.set_interface(LTE, Some(&[on("10.9.0.1/16"), on("172.17.0.1/24")])), Err(taken));
    assert_eq!(routes.page(None, usize::MAX).copied().collect::<Vec<_>>(), before);
}

#[test]
fn routes_come_and_go_with_their_interface() {
    let mut routes = table();
    routes.set_interface(WAN, Some(&[on("198.51.100.2/24")])).unwrap();
    assert_eq!(found(&routes, "198.51.100.2", None), Some((Kind::Local, WAN, None)));
    assert_eq!(found(&routes, "203.0.113.2", None).map(|(kind, ..)| kind), Some(Kind::Static));
    routes.set_interface(WAN, None).unwrap();
    let gateway = Some(addr("100.64.0.3"));
    assert_eq!(found(&routes, "198.51.100.2", None), Some((Kind::Static, LTE, gateway)));
    for interface in [NET, LTE] {
        routes.set_interface(interface, None).unwrap();
    }
    assert_eq!((routes.len(), routes.is_empty(), found(&routes, "172.17.0.1", None)), (0, true, None));
}

#[test]
fn a_listing_goes_on_where_it_stopped() {
    let routes = table();
    let all: Vec<_> = routes.page(None, usize::MAX).collect();
    let (mut paged, mut last) = (Vec::new(), None);
    loop {
        let page: Vec<_> = routes.page(last, 3).collect();
        let Some(end) = page.last() else { break };
        last = Some(end);
        paged.extend(page);
    }
    assert_eq!((paged.len(), &paged), (routes.len(), &all));
}

#[derive(Debug, Clone)]
enum Step {
    Set(NetworkId, Option<Vec<InterfaceAddress>>),
    Add(Route),
    Remove(Route),
}

fn addresses() -> impl Strategy<Value = Addr> {
    let v4 = (0..2_u8, 0..2_u8, 0..4_u8).prop_map(|(b, c, d)| Addr::v4([10, b, c, d]));
    let v6 = (0..2_u128, 0..3_u128).prop_map(|(b, d)| Addr::from_bits(0xfd00 << 112 | b << 64 | d));
    prop_oneof![v4, v6]
}

fn prefixes() -> impl Strategy<Value = Prefix> {
    let len = prop::sample::select(vec![0_u8, 8, 16, 24, 30, 31, 32, 48, 64, 65, 127, 128]);
    (addresses(), len).prop_map(|(address, len)| Prefix::new(address, len))
}

fn steps() -> impl Strategy<Value = Step> {
    let interface = || (0..3_u32).prop_map(NetworkId);
    let address = (addresses(), 16..=128_u8)
        .prop_map(|(address, len)| InterfaceAddress { address, prefix: Prefix::new(address, len) });
    let route = || {
        (prefixes(), option::of(addresses()), interface(), 0..3_u32)
            .prop_map(|(prefix, via, interface, metric)| Route { prefix, via, interface, metric })
    };
    prop_oneof![
        2 => (interface(), option::weighted(0.8, vec(address, 0..3))).prop_map(|(id, set)| Step::Set(id, set)),
        3 => route().prop_map(Step::Add),
        2 => route().prop_map(Step::Remove),
    ]
}

/// The longest prefix, then the kind, then the preferred uplink, then the metric, then the interface.
fn naive(all: &[RouteEntry], to: Addr, preferred: Option<NetworkId>) -> Option<RouteEntry> {
    let rank = |entry: &&RouteEntry| {
        let other = Some(entry.interface) != preferred;
        (u8::MAX - entry.prefix.bits(), entry.kind, other, entry.metric, entry.interface, entry.via)
    };
    all.iter().filter(|entry| entry.prefix.contains(to)).min_by_key(rank).copied()
}

proptest! {
    #[test]
    fn the_table_finds_what_a_search_of_the_list_finds(
        steps in vec(steps(), 1..40),
        asked in vec((addresses(), option::of((0..3_u32).prop_map(NetworkId))), 30),
    ) {
        let mut routes = Routes::new(3);
        for step in steps {
            // What is refused is no concern here.
            let _ = match step {
                Step::Set(id, addresses) => routes.set_interface(id, addresses.as_deref()),
                Step::Add(route) => routes.add(route),
                Step::Remove(route) => routes.remove(&route),
            };
            let all: Vec<_> = routes.page(None, usize::MAX).copied().collect();
            for (to, preferred) in &asked {
                prop_assert_eq!(routes.lookup(*to, *preferred), naive(&all, *to, *preferred), "{}", to);
            }
        }
    }
}
