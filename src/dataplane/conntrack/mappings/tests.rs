use proptest::prelude::*;

use super::*;

const TO: Addr = Addr::v4([192, 0, 2, 1]);

fn flow(host: u8, port: u16, server: u8, outside: u16) -> (Tuple, Tuple) {
    let original = Tuple {
        source: Addr::v4([10, 0, 0, host]),
        destination: Addr::v4([198, 51, 100, server]),
        source_port: port,
        destination_port: 53,
        protocol: 17,
    };
    (original, Tuple { source: TO, source_port: outside, ..original }.invert())
}

fn mappings() -> Mappings {
    Mappings::new(FixedState::with_seed(1))
}

#[test]
fn flows_of_one_endpoint_share_a_mapping() {
    let mut mappings = mappings();
    let flows = [flow(2, 5000, 1, 6000), flow(2, 5000, 2, 6000)];
    for (original, reply) in &flows {
        assert!(mappings.acquire(original, reply));
        assert_eq!(mappings.outside(original, TO), Some(6000));
    }
    assert_eq!(mappings.len(), 1);
    for ((original, reply), left) in flows.iter().zip([Some(6000), None]) {
        mappings.release(original, reply);
        assert_eq!(mappings.outside(original, TO), left);
    }
    assert!(mappings.is_empty());
}

#[test]
fn who_shares_a_port_or_leaves_his_own_owns_nothing() {
    let mut mappings = mappings();
    let [first, second, other] = [flow(2, 5000, 1, 6000), flow(3, 5000, 2, 6000), flow(2, 5000, 3, 6001)];
    assert!(mappings.acquire(&first.0, &first.1));
    assert!(!mappings.acquire(&second.0, &second.1));
    assert!(!mappings.acquire(&other.0, &other.1));
    assert_eq!(mappings.outside(&second.0, TO), None);
    assert_eq!(mappings.unowned(17, TO, 6000, (6000, 6002)).collect::<Vec<_>>(), [6001, 6002]);
    mappings.release(&first.0, &first.1);
    // From now on it may.
    assert!(mappings.acquire(&second.0, &second.1));
}

#[test]
fn pools_are_used_again() {
    let mut mappings = mappings();
    for n in 0..100 {
        let (original, reply) = flow(2, 5000, 1, 6000 + n);
        let reply = Tuple { destination: Addr::v4([192, 0, 2, n as u8]), ..reply };
        assert!(mappings.acquire(&original, &reply));
        assert_eq!(mappings.outside(&original, reply.destination), Some(6000 + n));
        mappings.release(&original, &reply);
    }
    assert_eq!((mappings.pools.len(), mappings.pool_of.len()), (1, 0));
    assert!(mappings.pools[0].owned.iter().all(|word| *word == 0));
}

#[test]
fn protocols_without_ports_have_no_mappings() {
    let mut mappings = mappings();
    let (original, reply) = flow(2, 0, 1, 0);
    assert!(!mappings.acquire(&Tuple { protocol: 47, ..original }, &Tuple { protocol: 47, ..reply }));
    assert!(mappings.is_empty() && mappings.pool_of.is_empty());
}

#[test]
fn a_mapping_is_small() {
    assert_eq!(size_of::<Mapping>(), 32);
}

proptest! {
    #[test]
    fn unowned_ports_as_a_plain_search(
        owned in prop::collection::btree_set(prop_oneof![0..200u16, 65_400..=65_535u16], 0..200),
        ends in prop::array::uniform2(prop_oneof![0..200u16, 65_400..=65_535u16]),
        by in 0..200u16,
    ) {
        let mut mappings = mappings();
        for port in &owned {
            let (original, reply) = flow(2, *port, 1, *port);
            prop_assert!(mappings.acquire(&original, &reply));
        }
        let (low, high) = (ends[0].min(ends[1]), ends[0].max(ends[1]));
        let start = low.saturating_add(by).min(high);
        let plain: Vec<_> =
            (start..=high).chain(low..start).filter(|port| !owned.contains(port)).collect();
        prop_assert_eq!(mappings.unowned(17, TO, start, (low, high)).collect::<Vec<_>>(), plain);
    }
}
