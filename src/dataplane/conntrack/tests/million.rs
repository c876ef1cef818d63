//! Tables of a million flows: how much is touched at a time.

use super::*;

const MILLION: u32 = 1_000_000;
/// Flows looked at in a slice.
const SLICE: usize = 1000;

#[test]
fn a_million_flows_come_are_shown_and_go_in_slices() {
    let mut ct = limited(MILLION, MILLION);
    for n in 0..MILLION {
        let new = flow(tuple((n % 50) as u8, n), PortId(n % 50), Source::Port);
        let room = ct.room(new.owner, new.source).unwrap();
        ct.insert(at(u64::from(n / 10_000)), &new, room).unwrap();
    }
    let per_flow = ct.memory() / MILLION as usize;
    assert!(per_flow <= 300, "{per_flow} bytes per flow");
    assert!(ct.largest_part() <= 32_768, "as many entries move at a time: {}", ct.largest_part());

    let (mut shown, mut cursor) = (0, Some(0));
    while let Some(from) = cursor {
        let (rows, next) = ct.page(at(110), from, SLICE as u32);
        assert!(rows.len() <= SLICE);
        (shown, cursor) = (shown + rows.len(), next);
    }
    assert_eq!(shown, MILLION as usize);

    while ct.next_expiry().is_some_and(|due| due <= at(100)) {
        slice(&mut ct, 100);
    }
    ct.forget_port(PortId(7));
    let mut looked = 0;
    while ct.next_expiry() == Some(at(0)) {
        looked += slice(&mut ct, 100);
    }
    assert!(looked <= MILLION as usize, "one turn");
    assert_eq!((ct.len(), ct.counters.orphaned), (MILLION / 50 * 49, 20_000));

    // All expire within 100 seconds. The sweep cannot run behind for ever: a flow is touched a few times.
    let mut looked = 0;
    for second in 120..221 {
        while ct.next_expiry().is_some_and(|due| due <= at(second)) {
            looked += slice(&mut ct, second);
        }
    }
    assert!(ct.is_empty());
    assert!(looked <= 3 * MILLION as usize, "{looked}");
}

fn slice(ct: &mut Conntrack, second: u64) -> usize {
    let before = ct.len();
    let looked = ct.expire(at(second), SLICE);
    assert!(looked <= SLICE && (before - ct.len()) as usize <= looked);
    looked
}

#[test]
fn a_million_sources_outside_take_no_more_memory_than_allowed() {
    let mut ct = limited(MILLION, MILLION);
    for n in 0..MILLION {
        let source = Addr::from_bits(Addr::v4([10, 0, 0, 0]).to_bits() + u128::from(n));
        let new = flow(Tuple { source, ..tuple(0, 0) }, UPLINK, Source::Address(source));
        ct.insert(at(0), &new, Room(None)).unwrap();
    }
    let per_flow = ct.memory() / MILLION as usize;
    assert!(per_flow <= 344, "{per_flow} bytes per flow and source");
}
