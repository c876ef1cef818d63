//! Random filter expressions: from the supported grammar, and words in any order.

use proptest::prelude::*;
use proptest::sample::select;

fn pick(choices: &'static [&'static str]) -> impl Strategy<Value = String> + Clone {
    select(choices).prop_map(str::to_owned)
}

fn protocol() -> impl Strategy<Value = String> {
    pick(&["ip", "ip6", "arp", "rarp", "tcp", "udp", "icmp", "icmp6", "sctp", "igmp", "pim", "ah", "esp"])
}

fn simple() -> impl Strategy<Value = String> {
    pick(&[
        "vlan",
        "vlan 5",
        "vlan 6",
        "broadcast",
        "ether multicast",
        "ip multicast",
        "ip6 multicast",
        "less 60",
        "greater 60",
        "ether host 02:00:00:00:00:01",
        "ether src 02:00:00:00:00:02",
        "ether proto 0x806",
        "ip proto 17",
        "ip6 proto 6",
        "proto \\icmp",
    ])
}

fn direction() -> impl Strategy<Value = String> {
    pick(&["", "src ", "dst ", "src or dst ", "src and dst "])
}

/// `value`, or two of them in parentheses, or not it.
fn values(value: impl Strategy<Value = String> + Clone) -> impl Strategy<Value = String> {
    let two = (value.clone(), pick(&["or", "and"]), value.clone());
    prop_oneof![
        4 => value.clone(),
        1 => two.prop_map(|(a, junction, b)| format!("({a} {junction} {b})")),
        1 => value.prop_map(|value| format!("not {value}")),
    ]
}

fn addressed() -> impl Strategy<Value = String> {
    let host = pick(&["10.0.0.1", "10.0.0.2", "192.168.1.9", "10.0", "1.2.3.4"]);
    let net =
        pick(&["10", "10.0.0.0/8", "192.168.0.0/16", "10.0.0", "0.0.0.0/0", "192.168 mask 255.255.0.0"]);
    let six = pick(&["fd00::1", "fd00::2", "::1"]);
    let net6 = pick(&["fd00::/8", "fd00::/64", "::/0"]);
    let v4 = pick(&["", "ip ", "arp "]);
    let v6 = pick(&["", "ip6 "]);
    prop_oneof![
        (v4.clone(), direction(), values(host)).prop_map(|(p, d, v)| format!("{p}{d}host {v}")),
        (v4, direction(), values(net)).prop_map(|(p, d, v)| format!("{p}{d}net {v}")),
        (v6.clone(), direction(), values(six)).prop_map(|(p, d, v)| format!("{p}{d}host {v}")),
        (v6, direction(), values(net6)).prop_map(|(p, d, v)| format!("{p}{d}net {v}")),
    ]
}

fn ports() -> impl Strategy<Value = String> {
    let transport = pick(&["", "tcp ", "udp ", "sctp "]);
    let port = values(pick(&["80", "53", "443", "1000", "0", "65535"]));
    let range = values(pick(&["1-1000", "80", "2000-1000", "0-65535"]));
    prop_oneof![
        (transport.clone(), direction(), port).prop_map(|(t, d, v)| format!("{t}{d}port {v}")),
        (transport, direction(), range).prop_map(|(t, d, v)| format!("{t}{d}portrange {v}")),
    ]
}

fn arithmetic() -> impl Strategy<Value = String> {
    let number = pick(&[
        "0", "1", "2", "5", "13", "255", "0x800", "1000", "0x1fff", "010", "31", "tcpflags", "tcp-syn",
    ]);
    let leaf = prop_oneof![3 => number, 1 => Just("len".to_owned())];
    leaf.prop_recursive(3, 8, 2, |inner| {
        let header = pick(&["ip", "ip6", "tcp", "udp", "icmp", "icmp6", "arp", "ether", "sctp"]);
        let size = pick(&["", ":1", ":2", ":4"]);
        let operator = pick(&["+", "-", "*", "/", "%", "&", "|", "^", "<<", ">>"]);
        prop_oneof![
            4 => (header, inner.clone(), size).prop_map(|(h, index, size)| format!("{h}[{index}{size}]")),
            3 => (inner.clone(), operator, inner.clone()).prop_map(|(a, o, b)| format!("{a} {o} {b}")),
            1 => (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} + {b})")),
            1 => inner.prop_map(|inner| format!("- {inner}")),
        ]
    })
}

fn relation() -> impl Strategy<Value = String> {
    let comparison = pick(&["=", "==", "!=", "<", "<=", ">", ">="]);
    (arithmetic(), comparison, arithmetic()).prop_map(|(a, c, b)| format!("{a} {c} {b}"))
}

/// An expression all of which is supported.
pub(crate) fn expression() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![2 => protocol(), 1 => simple(), 3 => addressed(), 3 => ports(), 2 => relation()];
    leaf.prop_recursive(4, 12, 3, |inner| {
        let junction = pick(&["and", "or", "&&", "||"]);
        let bare = pick(&["443", "10.0.0.3", "(53 or 80)"]);
        prop_oneof![
            4 => (inner.clone(), junction.clone(), inner.clone()).prop_map(|(a, j, b)| format!("{a} {j} {b}")),
            1 => (ports(), junction, bare).prop_map(|(a, j, b)| format!("{a} {j} {b}")),
            1 => inner.clone().prop_map(|inner| format!("not {inner}")),
            2 => inner.prop_map(|inner| format!("({inner})")),
        ]
    })
}

/// Words of the language in any order, and expressions with one more word in them.
pub(crate) fn words() -> impl Strategy<Value = String> {
    const WORDS: &[&str] = &[
        "ip",
        "ip6",
        "arp",
        "tcp",
        "udp",
        "icmp",
        "ether",
        "src",
        "dst",
        "host",
        "net",
        "port",
        "portrange",
        "proto",
        "and",
        "or",
        "not",
        "(",
        ")",
        "[",
        "]",
        "80",
        "443",
        "tcp[13]",
        "&",
        "|",
        "+",
        "-",
        "=",
        "!=",
        ">",
        "<",
        "/8",
        "/",
        "mask",
        "vlan",
        "5",
        "len",
        "less",
        "greater",
        "broadcast",
        "multicast",
        "fd00::1",
        "02:00:00:00:00:01",
        "1000-2000",
        ":",
        "%",
        "^",
        "http",
        "\\tcp",
        "10.0.0.1",
        "10.0.0.0/8",
        "10",
        "1:2",
        "1:2:3",
        "gateway",
        "mpls",
        "0x",
        "08",
        "1.2.3.4.5.6",
    ];
    let soup = prop::collection::vec(select(WORDS), 1..8).prop_map(|words| words.join(" "));
    let disturbed =
        (expression(), select(WORDS), any::<prop::sample::Index>()).prop_map(|(text, word, at)| {
            let mut words: Vec<&str> = text.split(' ').collect();
            words.insert(at.index(words.len() + 1), word);
            words.join(" ")
        });
    prop_oneof![soup, disturbed]
}
