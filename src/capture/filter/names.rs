//! Names of ports and protocols.
//!
//! libpcap asks the machine's `/etc/services`, where a name may stand for TCP, UDP or both and differs
//! between systems. Here a name is taken only where every system agrees; any other is refused.

use super::syntax::Protocol;

/// A service: its port, and whether it is registered for TCP and for UDP everywhere.
struct Service {
    name: &'static str,
    port: u32,
    tcp: bool,
    udp: bool,
}

const fn service(name: &'static str, port: u32, tcp: bool, udp: bool) -> Service {
    Service { name, port, tcp, udp }
}

const SERVICES: [Service; 14] = [
    service("ftp", 21, true, false),
    service("ssh", 22, true, false),
    service("telnet", 23, true, false),
    service("smtp", 25, true, false),
    service("domain", 53, true, true),
    service("bootps", 67, false, true),
    service("bootpc", 68, false, true),
    service("tftp", 69, false, true),
    service("http", 80, true, false),
    service("pop3", 110, true, false),
    service("ntp", 123, false, true),
    service("snmp", 161, false, true),
    service("https", 443, true, false),
    service("syslog", 514, false, true),
];

/// The number of a named port and the protocols it stands for (`None`: all).
pub(super) fn port(name: &str, protocol: Option<Protocol>) -> Result<(u32, Option<Protocol>), String> {
    let unknown = || "this port name is not known here; write the number".to_owned();
    let service = SERVICES.iter().find(|service| service.name == name).ok_or_else(unknown)?;
    let agreed = match protocol {
        None => service.tcp && service.udp,
        Some(Protocol::Tcp) => service.tcp,
        Some(Protocol::Udp) => service.udp,
        Some(_) => false,
    };
    if agreed {
        return Ok((service.port, protocol));
    }
    Err(format!("systems disagree on this port name; write the number {}", service.port))
}

/// `1000-2000`.
pub(super) fn port_range(text: &str) -> Result<(u32, u32), String> {
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| text.parse().ok()).flatten()
    };
    let ends = text.split_once('-').and_then(|(first, last)| Some((number(first)?, number(last)?)));
    ends.ok_or_else(|| "a range of ports as 1000-2000 was expected".to_owned())
}

/// The number of a protocol carried by `protocol`: an EtherType, or IANA's for IP.
pub(super) fn protocol(name: &str, protocol: Option<Protocol>) -> Result<u32, String> {
    const ETHER: [(&str, u32); 5] =
        [("ip", 0x0800), ("ip6", 0x86dd), ("ipv6", 0x86dd), ("arp", 0x0806), ("rarp", 0x8035)];
    const IP: [(&str, u32); 12] = [
        ("icmp", 1),
        ("igmp", 2),
        ("tcp", 6),
        ("udp", 17),
        ("gre", 47),
        ("esp", 50),
        ("ah", 51),
        ("ipv6-icmp", 58),
        ("ospf", 89),
        ("pim", 103),
        ("vrrp", 112),
        ("sctp", 132),
    ];
    let table: &[(&str, u32)] = if protocol == Some(Protocol::Ether) { &ETHER } else { &IP };
    let found = table.iter().find(|(known, _)| *known == name);
    found
        .map(|(_, number)| *number)
        .ok_or_else(|| "this protocol name is not known here; write the number".to_owned())
}
