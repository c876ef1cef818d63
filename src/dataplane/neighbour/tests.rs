use super::*;

const NET: NetworkId = NetworkId(1);
const OTHER: NetworkId = NetworkId(2);
const A: PortId = PortId(1);
const B: PortId = PortId(2);
const C: PortId = PortId(3);
const OUR_LIMITS: Limits =
    Limits { table: 100, resolved: 20, searches: 10, frames: 3, port_bytes: 8192, bytes: 16_384 };

fn table() -> Neighbours {
    Neighbours::new(OUR_LIMITS, 1)
}

fn at(milliseconds: u64) -> Instant {
    Instant(milliseconds * 1_000_000)
}

fn addr(n: u16) -> Addr {
    let [a, b] = n.to_be_bytes();
    Addr::v4([10, 0, a, b])
}

fn mac(n: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, n])
}

fn frame(port: PortId, tag: u8) -> Held {
    Held { bytes: vec![tag; 60], offload: Offload::NONE, port, answer: vec![0xee; 70] }
}

/// An answer to a question of ours.
fn reply(address: Addr, mac: MacAddr) -> Claim {
    let conflict = Conflict::ReplaceOld;
    Claim { address, mac: Some(mac), creates: false, confirms: true, conflict, router: None }
}

/// A question to us.
fn request(address: Addr, mac: MacAddr) -> Claim {
    Claim { creates: true, confirms: false, conflict: Conflict::Replace, ..reply(address, mac) }
}

fn events(table: &mut Neighbours) -> Vec<Event> {
    std::iter::from_fn(|| table.poll_event()).collect()
}

fn state(table: &Neighbours, now: Instant, address: Addr) -> Option<State> {
    table.page(now, 0, usize::MAX).0.iter().find(|row| row.address == address).map(|row| row.state)
}

fn ask(target: Addr, to: Option<MacAddr>) -> Event {
    Event::Solicit(Solicitation { network: NET, target, to })
}

fn known(table: &Neighbours, now: Instant, address: Addr) -> NeighbourId {
    match table.resolve(now, NET, address, A) {
        Resolution::Known(id, _) => id,
        other => panic!("{address} is not known: {other:?}"),
    }
}

/// Runs the timers one after the other up to a time, and lists what they wanted done and when.
fn run(table: &mut Neighbours, until: u64) -> Vec<(u64, Event)> {
    let mut all = Vec::new();
    while let Some(due) = table.next_timeout().filter(|due| *due <= at(until)) {
        table.handle_timeout(due);
        all.extend(events(table).into_iter().map(|event| (due.0 / 1_000_000, event)));
    }
    all
}

#[test]
fn a_frame_waits_until_the_neighbour_answers() {
    let (mut table, who) = (table(), addr(2));
    assert_eq!(table.resolve(at(0), NET, who, A), Resolution::Wait);
    assert!(table.is_empty(), "looking changes nothing");
    table.hold(at(0), NET, who, frame(A, 1));
    table.hold(at(1), NET, who, frame(B, 2));
    assert_eq!(events(&mut table), [ask(who, None)], "one question for both");
    assert_eq!(table.learn(at(2), NET, C, &reply(who, mac(2))), Lesson::Moved(State::Reachable));
    let sent = |port, tag| {
        let mut held = frame(port, tag);
        held.bytes[..6].copy_from_slice(&mac(2).0);
        Event::Send(NET, held)
    };
    assert_eq!(events(&mut table), [sent(A, 1), sent(B, 2)]);
    let id = known(&table, at(3), who);
    assert_eq!(table.get(id), Some((NET, mac(2))));
    assert_eq!(table.next_timeout(), None, "an idle table sleeps");
    assert_eq!(table.held, 0);
}

#[test]
fn who_does_not_answer_is_asked_three_times() {
    let (mut table, who) = (table(), addr(2));
    table.hold(at(0), NET, who, frame(A, 1));
    let asked: Vec<_> =
        events(&mut table).into_iter().chain(run(&mut table, 2999).into_iter().map(|e| e.1)).collect();
    assert_eq!(asked, [ask(who, None), ask(who, None), ask(who, None)]);
    let dropped = Event::Drop(DropReason::NeighbourFailed, frame(A, 1));
    assert_eq!(run(&mut table, 10_000), [(3000, dropped)]);
    assert_eq!(state(&table, at(10_000), who), Some(State::Failed));
    // No negative cache: the next frame asks at once.
    assert_eq!(table.resolve(at(10_000), NET, who, A), Resolution::Wait);
    table.hold(at(10_000), NET, who, frame(A, 2));
    assert_eq!(events(&mut table), [ask(who, None)]);
    assert_eq!((table.len(), table.counters.failed), (1, 1));
    run(&mut table, 100_000);
    assert!(table.is_empty() && table.held == 0, "a failed entry is forgotten");
}

#[test]
fn a_stale_neighbour_that_is_used_is_probed() {
    let (mut table, who) = (table(), addr(2));
    assert_eq!(table.learn(at(0), NET, B, &request(who, mac(2))), Lesson::New);
    assert_eq!(state(&table, at(0), who), Some(State::Stale));
    let id = known(&table, at(1000), who);
    table.used(at(1000), id);
    table.used(at(4000), id);
    assert_eq!(state(&table, at(4000), who), Some(State::Delay));
    let probe = ask(who, Some(mac(2)));
    assert_eq!(run(&mut table, 7500), [(6000, probe.clone()), (7000, probe.clone())]);
    assert!(table.get(id).is_some(), "frames go on while it is probed");
    table.learn(at(7600), NET, B, &reply(who, mac(2)));
    assert_eq!(state(&table, at(7600), who), Some(State::Reachable));
    assert!(run(&mut table, 100_000).is_empty());
    // Reachable for 15 to 45 s, and then stale, without a timer.
    assert_eq!(state(&table, at(7600 + 14_999), who), Some(State::Reachable));
    assert_eq!(state(&table, at(7600 + 45_001), who), Some(State::Stale));
    table.used(at(60_000), id);
    assert_eq!(run(&mut table, 100_000), [65, 66, 67].map(|s| (s * 1000, probe.clone())));
    assert_eq!(state(&table, at(100_000), who), Some(State::Failed));
    assert_eq!(table.get(id), None);
    assert_eq!(table.resolve(at(100_000), NET, who, A), Resolution::Wait);
}

#[test]
fn only_who_wants_something_of_us_gets_an_entry() {
    let (mut table, who) = (table(), addr(2));
    let gratuitous = Claim { creates: false, confirms: false, ..request(who, mac(2)) };
    assert_eq!(table.learn(at(0), NET, A, &gratuitous), Lesson::Ignored);
    assert_eq!(table.learn(at(0), NET, A, &reply(who, mac(2))), Lesson::Ignored);
    assert!(table.is_empty());
    table.learn(at(0), NET, A, &request(who, mac(2)));
    assert_eq!(
        table.learn(at(1), NET, A, &Claim { mac: Some(mac(3)), ..gratuitous }),
        Lesson::Moved(State::Stale)
    );
    assert_eq!(table.resolve(at(1), OTHER, who, A), Resolution::Wait, "another network's is another");
    assert_eq!(table.get(known(&table, at(2), who)), Some((NET, mac(3))));
}

#[test]
fn the_first_of_two_arp_replies_counts() {
    let (mut table, who) = (table(), addr(2));
    table.hold(at(0), NET, who, frame(A, 1));
    table.learn(at(10), NET, B, &reply(who, mac(2)));
    assert_eq!(table.learn(at(500), NET, C, &reply(who, mac(3))), Lesson::Ignored);
    assert_eq!(table.learn(at(1011), NET, C, &reply(who, mac(3))), Lesson::Moved(State::Reachable));
}

#[test]
fn a_queue_is_bounded_and_the_newest_replaces_the_oldest() {
    let (mut table, who) = (table(), addr(2));
    (1..=4).for_each(|tag| table.hold(at(0), NET, who, frame(A, tag)));
    let mut dropped = frame(A, 1);
    dropped.answer.clear();
    assert_eq!(events(&mut table)[1..], [Event::Drop(DropReason::NeighbourQueue, dropped)]);
    // One port fills its share of bytes, with frames for several neighbours; others' may still wait.
    let mut big = frame(A, 9);
    big.bytes.resize(3000, 0);
    (10..13).for_each(|n| table.hold(at(0), NET, addr(n), big.clone()));
    let full = Resolution::Fail(DropReason::NeighbourQueue);
    assert_eq!(table.resolve(at(0), NET, who, A), full);
    assert_eq!(table.resolve(at(0), NET, addr(99), A), full);
    assert_eq!(table.resolve(at(0), NET, who, B), Resolution::Wait);
    big.port = B;
    (20..23).for_each(|n| table.hold(at(0), NET, addr(n), big.clone()));
    assert_eq!(table.resolve(at(0), NET, who, C), full, "the limit in all");
    run(&mut table, 100_000);
    assert_eq!((table.held, table.owner(A).held, table.owner(B).held), (0, 0, 0));
}

#[test]
fn a_scan_neither_evicts_neighbours_nor_hinders_others() {
    let mut table = table();
    for n in 0..20 {
        table.learn(at(0), NET, B, &request(addr(n), mac(n as u8)));
    }
    let mut refused = 0;
    let mut asked = 0;
    // 1,000 addresses a second for ten seconds.
    for step in 0..10_000 {
        let (now, target) = (at(u64::from(step)), addr(1000 + step));
        table.handle_timeout(now);
        match table.resolve(now, NET, target, A) {
            Resolution::Wait => table.hold(now, NET, target, frame(A, 0)),
            other => {
                assert_eq!(other, Resolution::Fail(DropReason::NeighbourLimit));
                refused += 1;
            }
        }
        assert_eq!(table.resolve(now, NET, addr(500), C), Resolution::Wait, "others may still search");
        asked += events(&mut table).iter().filter(|event| matches!(event, Event::Solicit(_))).count();
    }
    assert!(table.len() <= 30 && table.owner(A).searches.len == 10);
    assert_eq!(refused, 9900, "ten new searches a second");
    assert!((100..=200).contains(&asked), "asked {asked} times");
    for n in 0..20 {
        known(&table, at(10_000), addr(n));
    }
}

#[test]
fn a_port_that_claims_many_addresses_loses_its_own() {
    let mut table = table();
    for n in 0..5 {
        table.learn(at(0), NET, A, &request(addr(n), mac(1)));
    }
    for n in 100..1100 {
        table.learn(at(1), NET, B, &request(addr(n), mac(2)));
    }
    assert_eq!((table.owner(A).resolved.len, table.owner(B).resolved.len), (5, 20));
    assert_eq!(table.counters.evicted, 980);
    known(&table, at(2), addr(1099));
    // A full table: whoever owns the most yields to who owns less than an equal share.
    for port in 10..20 {
        (0..20).for_each(|n| {
            table.learn(at(3), NET, PortId(port), &request(addr(port as u16 * 100 + n), mac(3)));
        });
    }
    assert_eq!(table.len(), 100);
    assert_eq!(table.owner(A).resolved.len, 5, "below an equal share nobody is pushed");
}

#[test]
fn a_slot_that_serves_another_answers_to_no_old_name() {
    let mut table = table();
    table.learn(at(0), NET, A, &request(addr(1), mac(1)));
    let old = known(&table, at(0), addr(1));
    table.forget_port(A);
    assert_eq!(table.get(old), None);
    table.used(at(0), old);
    table.learn(at(0), NET, A, &request(addr(2), mac(2)));
    let new = known(&table, at(0), addr(2));
    assert_eq!((old.slot, table.get(old)), (new.slot, None));
    assert_eq!(table.get(NeighbourId::NONE), None);
}

#[test]
fn a_port_that_goes_takes_its_neighbours_and_searches_along() {
    let mut table = table();
    table.learn(at(0), NET, A, &request(addr(1), mac(1)));
    table.learn(at(0), OTHER, B, &request(addr(1), mac(2)));
    table.hold(at(0), OTHER, addr(5), frame(A, 1));
    table.hold(at(0), OTHER, addr(6), frame(A, 2));
    table.hold(at(0), OTHER, addr(6), frame(B, 3));
    events(&mut table);
    table.forget_port(A);
    let gone = Held { answer: Vec::new(), ..frame(A, 1) };
    assert_eq!(events(&mut table), [Event::Drop(DropReason::EgressDown, gone)]);
    assert_eq!((table.len(), table.owner(B).searches.len), (2, 1), "B inherits the search it joined");
    table.forget_network(OTHER);
    assert_eq!((table.len(), table.held, events(&mut table).len()), (0, 0, 2));
    assert_eq!(table.next_timeout(), None);
}

#[test]
fn a_neighbour_that_moves_to_another_port_belongs_there() {
    let mut table = table();
    table.learn(at(0), NET, A, &request(addr(1), mac(1)));
    table.used(at(0), known(&table, at(0), addr(1)));
    let due = table.next_timeout();
    table.learn(at(100), NET, B, &request(addr(1), mac(1)));
    assert_eq!((table.owner(A).resolved.len, table.owner(B).resolved.len), (0, 1));
    assert_eq!(table.next_timeout(), due, "and its timer runs on");
}

#[test]
fn timers_are_handled_in_slices() {
    let mut table = Neighbours::new(Limits { searches: 5000, ..Limits::default() }, 1);
    (0..1000).for_each(|n| table.hold(at(0), NET, addr(n), frame(A, 0)));
    events(&mut table);
    table.handle_timeout(at(1000));
    assert_eq!(events(&mut table).len(), SLICE);
    assert_eq!(table.next_timeout(), Some(at(1000)), "the rest is due at once");
    table.handle_timeout(at(1000));
    assert_eq!(events(&mut table).len(), 1000 - SLICE);
}
