use super::super::samples::{ask, reply};
use std::time::Duration;

use super::*;

const SCOPE: Scope = Scope { network: NetworkId(0), port: None };

fn at(seconds: u64) -> Instant {
    Instant::default() + Duration::from_secs(seconds)
}

/// Keeps an answer of 60 s that a port's question for a name brought.
fn keep(cache: &mut Cache, now: Instant, scope: Scope, owner: u32, name: &str) {
    let bytes = ask(7, name, 1);
    let key = Key::new(scope, &Question::parse(&bytes).unwrap());
    cache.insert(now, key, PortId(owner), &reply(&bytes, &[60], None, false));
}

fn has(cache: &Cache, now: Instant, scope: Scope, name: &str, kind: u16) -> bool {
    let bytes = ask(9, name, kind);
    let question = Question::parse(&bytes).unwrap();
    let answer = cache.answer(now, &Key::new(scope, &question), &question);
    answer.inspect(|answer| assert_eq!(answer[..2], [0, 9])).is_some()
}

#[test]
fn an_answer_is_good_for_its_time_its_scope_and_its_question() {
    let mut cache = Cache::default();
    keep(&mut cache, at(1), SCOPE, 1, "web");
    assert!(has(&cache, at(1), SCOPE, "WEB", 1));
    assert!(has(&cache, at(60), SCOPE, "web", 1));
    assert!(!has(&cache, at(61), SCOPE, "web", 1));
    assert!(!has(&cache, at(1), SCOPE, "web", 28));
    assert!(!has(&cache, at(1), Scope { network: NetworkId(1), port: None }, "web", 1));
    assert!(!has(&cache, at(1), Scope { port: Some(PortId(1)), ..SCOPE }, "web", 1));
    keep(&mut cache, at(70), SCOPE, 2, "web");
    assert!(has(&cache, at(129), SCOPE, "web", 1));
    assert_eq!((cache.len(), cache.counters.inserted), (1, 2));
}

#[test]
fn questions_for_everything_are_not_kept() {
    let mut cache = Cache::default();
    let bytes = ask(7, "web", 255);
    let key = Key::new(SCOPE, &Question::parse(&bytes).unwrap());
    cache.insert(at(0), key, PortId(1), &reply(&bytes, &[60], None, false));
    assert!(cache.is_empty());
}

#[test]
fn who_asks_too_much_throws_his_own_out() {
    let mut cache = Cache::new(Limits { entries: 4, ..Limits::default() });
    ["a", "b"].iter().for_each(|name| keep(&mut cache, at(0), SCOPE, 1, name));
    (0..100).for_each(|number| keep(&mut cache, at(0), SCOPE, 2, &format!("n{number}")));
    assert!(has(&cache, at(0), SCOPE, "a", 1) && has(&cache, at(0), SCOPE, "b", 1));
    assert!(has(&cache, at(0), SCOPE, "n99", 1) && has(&cache, at(0), SCOPE, "n98", 1));
    assert_eq!((cache.len(), cache.counters.evicted), (4, 98));
    // A third one gets its place from who has the most.
    keep(&mut cache, at(0), SCOPE, 3, "c");
    assert!(has(&cache, at(0), SCOPE, "c", 1));
    assert_eq!(cache.len(), 4);
}

#[test]
fn bytes_are_limited_too() {
    let mut cache = Cache::new(Limits { bytes: 2000, ..Limits::default() });
    (0..100).for_each(|number| keep(&mut cache, at(0), SCOPE, 2, &format!("n{number}")));
    assert!(cache.bytes() <= 2000 && cache.len() > 1, "{} bytes", cache.bytes());
    let mut none = Cache::new(Limits { bytes: 10, ..Limits::default() });
    keep(&mut none, at(0), SCOPE, 1, "a");
    assert!(none.is_empty());
}

#[test]
fn what_goes_is_forgotten() {
    let other = Scope { network: NetworkId(1), port: None };
    let own = Scope { port: Some(PortId(3)), ..SCOPE };
    let mut cache = Cache::default();
    keep(&mut cache, at(0), SCOPE, 1, "a");
    keep(&mut cache, at(0), other, 2, "a");
    keep(&mut cache, at(0), own, 3, "a");
    cache.forget_port(PortId(3));
    assert!(!has(&cache, at(0), own, "a", 1));
    cache.forget_network(NetworkId(0));
    assert!(!has(&cache, at(0), SCOPE, "a", 1) && has(&cache, at(0), other, "a", 1));
    cache.forget_network(NetworkId(1));
    assert_eq!((cache.len(), cache.bytes(), cache.owners.len(), cache.order.len()), (0, 0, 0, 0));
}
