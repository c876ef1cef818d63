//! Floods: who pays, and who does not.

use super::*;

/// A flood: `count` first packets, the n-th from `source(n)` by `owner`. Gives how many got in.
fn flood(ct: &mut Conntrack, owner: PortId, count: u32, source: impl Fn(u32) -> (Tuple, Source)) -> u32 {
    (0..count)
        .filter(|n| {
            let (tuple, source) = source(*n);
            open(ct, at(10), &flow(tuple, owner, source)).is_some()
        })
        .count() as u32
}

fn outside(n: u32) -> (Tuple, Source) {
    let address = Addr::from_bits(Addr::v4([10, 0, 0, 0]).to_bits() + u128::from(n));
    (Tuple { source: address, ..tuple(0, 9) }, Source::Address(address))
}

/// Of the flows numbered `0..count` of a container, how many are still found.
fn survivors(ct: &Conntrack, container: u8, count: u32) -> usize {
    (0..count).filter(|n| ct.lookup(at(10), &tuple(container, *n)).is_some()).count()
}

#[test]
fn one_source_ends_at_its_limit_and_loses_its_own_oldest() {
    let mut ct = limited(1000, 100);
    for n in 0..20 {
        establish(&mut ct, at(0), &flow(tuple(1, n), A, Source::Port));
        open(&mut ct, at(0), &flow(tuple(2, n), B, Source::Port)).unwrap();
    }
    assert_eq!(flood(&mut ct, A, 5000, |n| (tuple(1, 1000 + n), Source::Port)), 5000);
    assert_eq!((ct.len(), ct.counters.early_dropped), (120, 4920));
    assert_eq!((survivors(&ct, 1, 20), survivors(&ct, 2, 20)), (20, 20));
    let newest = (5920..6000).filter(|n| ct.lookup(at(10), &tuple(1, *n)).is_some()).count();
    assert_eq!(newest, 80, "the oldest went first");
}

#[test]
fn a_source_whose_flows_all_last_gets_no_more_than_its_limit() {
    let mut ct = limited(1000, 50);
    for n in 0..50 {
        establish(&mut ct, at(0), &flow(tuple(1, n), A, Source::Port));
    }
    assert_eq!(ct.room(A, Source::Port), Err(crate::dataplane::DropReason::CtSourceLimit));
    assert!(ct.room(B, Source::Port).is_ok());
    assert_eq!(flood(&mut ct, A, 10, |n| (tuple(1, 1000 + n), Source::Port)), 0);
    assert_eq!(ct.counters.refused_source, 10);
}

#[test]
fn forged_sources_by_one_port_push_out_only_each_other() {
    let mut ct = limited(500, 500);
    for n in 0..40 {
        establish(&mut ct, at(0), &flow(tuple(1, n), A, Source::Port));
        open(&mut ct, at(0), &flow(tuple(2, n), B, Source::Port)).unwrap();
    }
    // What the outside had opened before goes, what is established stays.
    let known = outside(1 << 20);
    establish(&mut ct, at(0), &flow(known.0, UPLINK, known.1));
    assert_eq!(flood(&mut ct, UPLINK, 20_000, outside), 20_000);
    assert_eq!(ct.len(), 500);
    assert_eq!((survivors(&ct, 1, 40), survivors(&ct, 2, 40)), (40, 40));
    assert!(ct.lookup(at(10), &known.0).is_some());
    // A container still opens what it wants.
    assert_eq!(flood(&mut ct, B, 100, |n| (tuple(2, 1000 + n), Source::Port)), 100);
    assert_eq!(survivors(&ct, 2, 1100), 140);
}

#[test]
fn floods_by_several_ports_share_what_is_left() {
    let mut ct = limited(400, 400);
    for n in 0..100 {
        establish(&mut ct, at(0), &flow(tuple(1, n), A, Source::Port));
    }
    for round in 0..3000 {
        for (owner, container) in [(A, 1), (B, 2), (C, 3)] {
            assert!(
                open(&mut ct, at(10), &flow(tuple(container, 1000 + round), owner, Source::Port)).is_some()
            );
        }
    }
    let of = |container| (0..4000).filter(|n| ct.lookup(at(10), &tuple(container, *n)).is_some()).count();
    assert_eq!((survivors(&ct, 1, 100), of(1), of(2), of(3)), (100, 200, 100, 100));
}

#[test]
fn a_table_full_of_lasting_flows_refuses() {
    let mut ct = limited(60, 50);
    for n in 0..30 {
        establish(&mut ct, at(0), &flow(tuple(1, n), A, Source::Port));
        establish(&mut ct, at(0), &flow(tuple(2, n), B, Source::Port));
    }
    assert_eq!(flood(&mut ct, C, 7, |n| (tuple(3, n), Source::Port)), 0);
    assert_eq!((ct.counters.refused_full, ct.counters.early_dropped, ct.len()), (7, 0, 60));
    // One that is closing makes room.
    let closing = ct.lookup(at(10), &tuple(1, 3)).unwrap();
    ct.update(at(10), closing, &Update { droppable: true, ..LASTING });
    assert_eq!(flood(&mut ct, C, 1, |n| (tuple(3, n), Source::Port)), 1);
    assert_eq!(survivors(&ct, 1, 30), 29);
}

#[test]
fn an_ipv6_source_is_its_64() {
    let mut ct = limited(1000, 10);
    let by_address = |n: u32| {
        let mut bytes = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        bytes[12..].copy_from_slice(&n.to_be_bytes());
        let source = Addr::v6(bytes);
        (Tuple { source, destination: Addr::v6([1; 16]), ..tuple(0, 1) }, Source::Address(source))
    };
    assert_eq!(flood(&mut ct, UPLINK, 500, by_address), 500);
    assert_eq!(ct.len(), 10);
}

#[test]
fn lower_limits_displace_one_for_one() {
    let mut ct = limited(1000, 1000);
    assert_eq!(flood(&mut ct, A, 100, |n| (tuple(1, n), Source::Port)), 100);
    ct.set(Limits { table: 50, source: 1000 }, Timeouts::default());
    assert_eq!((ct.len(), flood(&mut ct, B, 10, |n| (tuple(2, n), Source::Port))), (100, 10));
    assert_eq!((ct.len(), survivors(&ct, 1, 100), survivors(&ct, 2, 10)), (100, 90, 10));
}
