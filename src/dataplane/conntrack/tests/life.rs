//! One flow at a time.

use std::time::Duration;

use super::*;

#[test]
fn a_translated_flow_is_found_by_both_tuples() {
    let mut ct = Conntrack::new(1);
    let original = tuple(2, 5000);
    let outside = Tuple { source: Addr::v4([192, 0, 2, 1]), source_port: 40_000, ..original };
    let new = NewFlow { reply: outside.invert(), status: Status::SNAT, ..flow(original, A, Source::Port) };
    let id = open(&mut ct, at(0), &new).unwrap();
    assert_eq!(ct.lookup(at(1), &original), Some(Found { id, direction: Direction::Original }));
    assert_eq!(ct.lookup(at(1), &outside.invert()), Some(Found { id, direction: Direction::Reply }));
    assert_eq!((ct.lookup(at(1), &outside), ct.lookup(at(1), &original.invert())), (None, None));
    let flow = ct.flow(id).unwrap();
    assert_eq!(flow.translated(Direction::Original), outside);
    assert_eq!(flow.translated(Direction::Reply), original.invert());
    assert!(flow.status().has(Status::SNAT) && !flow.status().has(Status::ASSURED));
}

#[test]
fn packets_are_counted_and_prolong_life() {
    let mut ct = Conntrack::new(1);
    let id = open(&mut ct, at(0), &flow(tuple(2, 1), A, Source::Port)).unwrap();
    assert_eq!(ct.flow(id).unwrap().deadline(), at(120));
    ct.update(at(100), Found { id, direction: Direction::Reply }, &LASTING);
    ct.update(at(101), Found { id, direction: Direction::Original }, &LASTING);
    ct.update(at(101), Found { id, direction: Direction::Original }, &LASTING);
    let row = ct.row(ct.flow(id).unwrap(), at(102));
    let traffic = |packets, bytes| flow::Traffic { packets, bytes };
    assert_eq!(row.traffic, [traffic(3, 2060), traffic(1, 1000)]);
    assert_eq!(row.status, Status::ASSURED.with(Status::SEEN_REPLY));
    assert_eq!((row.timeout, row.owner, row.peer), (Duration::from_secs(431_999), Some(A), None));
    ct.expire(at(5000), 10);
    assert_eq!((ct.len(), ct.counters.expired), (1, 0));
}

#[test]
fn a_deadline_that_comes_nearer_is_kept() {
    let mut ct = Conntrack::new(1);
    let id = establish(&mut ct, at(0), &flow(tuple(2, 1), A, Source::Port));
    ct.update(at(1), Found { id, direction: Direction::Original }, &Update { timeout: 10, ..LASTING });
    assert!(ct.next_expiry().unwrap() <= at(11));
    assert!(ct.lookup(Instant(10_999_999_999), &tuple(2, 1)).is_some());
    assert!(ct.lookup(at(11), &tuple(2, 1)).is_none(), "dead before the sweep");
    ct.expire(at(11), 10);
    assert_eq!((ct.len(), ct.counters.expired, ct.next_expiry()), (0, 1, None));
    assert!(ct.flow(id).is_none());
}

#[test]
fn a_slot_that_serves_again_is_another_flow() {
    let mut ct = Conntrack::new(1);
    let first = open(&mut ct, at(0), &flow(tuple(2, 1), A, Source::Port)).unwrap();
    assert!(ct.remove(at(0), first) && !ct.remove(at(0), first));
    let second = open(&mut ct, at(0), &flow(tuple(2, 2), A, Source::Port)).unwrap();
    assert_eq!((first.slot, ct.counters.deleted), (second.slot, 1));
    assert!(ct.flow(first).is_none());
    ct.update(at(1), Found { id: first, direction: Direction::Reply }, &LASTING);
    ct.set_way(Found { id: first, direction: Direction::Reply }, Way { generation: 1, ..Way::NONE });
    let flow = ct.flow(second).unwrap();
    assert_eq!((flow.status(), *flow.way(Direction::Reply)), (Status::default(), Way::NONE));
}

#[test]
fn a_way_is_kept_per_direction() {
    let mut ct = Conntrack::new(1);
    let id = open(&mut ct, at(0), &flow(tuple(2, 1), A, Source::Port)).unwrap();
    let way = Way { generation: 3, ..Way::NONE };
    ct.set_way(Found { id, direction: Direction::Reply }, way);
    let flow = ct.flow(id).unwrap();
    assert_eq!((*flow.way(Direction::Original), *flow.way(Direction::Reply)), (Way::NONE, way));
}

#[test]
fn a_flow_dies_with_the_port_on_either_side() {
    let mut ct = Conntrack::new(1);
    let from_a = establish(&mut ct, at(0), &flow(tuple(2, 1), A, Source::Port));
    let to_a = establish(&mut ct, at(0), &flow(tuple(3, 1), UPLINK, Source::Address(tuple(3, 1).source)));
    let other = establish(&mut ct, at(0), &flow(tuple(4, 1), B, Source::Port));
    ct.set_peer(from_a, UPLINK);
    ct.set_peer(to_a, A);
    ct.set_peer(other, C);
    ct.set_peer(other, UPLINK);
    ct.forget_port(A);
    ct.forget_port(C);
    let found = |ct: &Conntrack| [2, 3, 4].map(|from| ct.lookup(at(1), &tuple(from, 1)).is_some());
    assert_eq!(found(&ct), [false, false, true], "at once");
    assert_eq!(ct.page(at(1), 0, 10).0.len(), 1);
    // A new port of that number starts anew.
    let again = open(&mut ct, at(1), &flow(tuple(2, 1), A, Source::Port)).unwrap();
    assert_eq!(ct.next_expiry(), Some(at(0)));
    while ct.next_expiry() == Some(at(0)) {
        assert_eq!(ct.expire(at(1), 1), 1);
    }
    assert_eq!((ct.len(), ct.counters.orphaned), (2, 2));
    assert_eq!(ct.lookup(at(1), &tuple(2, 1)), Some(Found { id: again, direction: Direction::Original }));
}

#[test]
fn a_flow_to_itself_is_found_once() {
    let mut ct = Conntrack::new(1);
    let source = tuple(2, 1).source;
    let own = Tuple { destination: source, destination_port: 1, ..tuple(2, 1) };
    let id = open(&mut ct, at(0), &flow(own, A, Source::Port)).unwrap();
    assert_eq!(ct.lookup(at(0), &own), Some(Found { id, direction: Direction::Original }));
    ct.remove(at(0), id);
    assert_eq!(ct.lookup(at(0), &own), None);
}

#[test]
fn deleting_picks_pages_and_counts() {
    let mut ct = Conntrack::new(1);
    for n in 0..100 {
        open(&mut ct, at(0), &flow(tuple((n % 2) as u8, n), A, Source::Port)).unwrap();
    }
    let (mut cursor, mut deleted, mut asked) = (Some(0), 0, 0);
    while let Some(from) = cursor {
        let page = ct.delete_matching(at(1), from, 7, |row| {
            asked += 1;
            row.original.source == tuple(1, 0).source
        });
        assert!(page.0 <= 7);
        (deleted, cursor) = (deleted + page.0, page.1);
    }
    assert_eq!((deleted, asked, ct.len(), ct.counters.deleted), (50, 100, 50, 50));
    let (rows, rest) = ct.page(at(1), 0, 1000);
    assert_eq!((rows.len(), rest), (50, None));
    assert!(rows.iter().all(|row| row.original.source == tuple(0, 0).source));
}

#[test]
fn a_watcher_hears_of_changes_and_of_what_it_missed() {
    let mut ct = Conntrack::new(1);
    open(&mut ct, at(0), &flow(tuple(2, 0), A, Source::Port)).unwrap();
    assert_eq!(ct.events(10).count(), 0, "nobody watches");
    ct.watch(true);
    ct.watch(true);
    let id = establish(&mut ct, at(0), &flow(tuple(2, 1), A, Source::Port));
    ct.update(at(0), Found { id, direction: Direction::Original }, &LASTING);
    ct.remove(at(3), id);
    let heard: Vec<_> = ct.events(10).map(|event| (event.kind, event.flow.status)).collect();
    let both = Status::ASSURED.with(Status::SEEN_REPLY);
    let expected =
        [(EventKind::New, Status::default()), (EventKind::Update, both), (EventKind::Destroy, both)];
    assert_eq!(heard, expected);
    for n in 0..events::CAPACITY as u32 + 5 {
        open(&mut ct, at(4), &flow(tuple(3, n), A, Source::Port)).unwrap();
    }
    assert_eq!((ct.lost_events(), ct.lost_events()), (5, 0));
    assert_eq!(ct.events(10).count(), 10);
    assert_eq!(ct.events(usize::MAX).count(), events::CAPACITY - 10);
    ct.watch(false);
    open(&mut ct, at(5), &flow(tuple(4, 0), A, Source::Port)).unwrap();
    ct.watch(true);
    assert_eq!(ct.events(10).count(), 0);
}
