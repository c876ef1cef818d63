//! Prefixes that the host uses, which automatic subnets keep out of the way of.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::ipam::{Subnet, overlap};
use super::model::NetworkSpec;
use super::resolv_conf::ResolvConf;

/// A prefix, and what the host uses it for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Occupied {
    /// Which addresses.
    pub prefix: IpNet,
    /// `address 172.17.0.2/16 of eth0`, `route to 10.0.0.0/8 by wg0`, `name server 10.0.0.53`.
    pub by: String,
}

/// Routes of `/proc/net/route` (IPv4): addresses are hexadecimal in the host's byte order. Default routes
/// occupy nothing.
pub fn routes_v4(text: &str) -> Vec<Occupied> {
    let route = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let (interface, destination) = (words.next()?, words.next()?);
        let mask = words.nth(5)?;
        let address =
            |hex: &str| u32::from_str_radix(hex, 16).ok().map(|bits| Ipv4Addr::from(bits.to_ne_bytes()));
        let net = Ipv4Net::with_netmask(address(destination)?, address(mask)?).ok()?;
        routed(net.trunc().into(), interface)
    };
    text.lines().skip(1).filter_map(route).collect()
}

/// Routes of `/proc/net/ipv6_route`, but for those of `lo`, link-local addresses and multicast.
pub fn routes_v6(text: &str) -> Vec<Occupied> {
    let route = |line: &str| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let ([destination, length, ..], [.., interface]) = (words.as_slice(), words.as_slice()) else {
            return None;
        };
        let address = Ipv6Addr::from_bits(u128::from_str_radix(destination, 16).ok()?);
        let net = Ipv6Net::new(address, u8::from_str_radix(length, 16).ok()?).ok()?;
        let is_own = *interface == "lo" || address.is_multicast() || address.is_unicast_link_local();
        if is_own { None } else { routed(net.trunc().into(), interface) }
    };
    text.lines().filter_map(route).collect()
}

fn routed(prefix: IpNet, interface: &str) -> Option<Occupied> {
    (prefix.prefix_len() > 0).then(|| Occupied { prefix, by: format!("route to {prefix} by {interface}") })
}

/// The host's prefixes, with the name servers that it asks elsewhere than on its loopback.
pub fn with_name_servers(host: &[Occupied], asked: &ResolvConf) -> Vec<Occupied> {
    let outside = asked.servers.iter().map(SocketAddr::ip).filter(|ip| !ip.is_loopback());
    let servers = outside.map(|ip| Occupied { prefix: ip.into(), by: format!("name server {ip}") });
    host.iter().cloned().chain(servers).collect()
}

/// What there is to say about a new network's subnets, one line each: which one was passed over for the host's
/// sake, and which one overlaps what the host uses because somebody chose it. `without` are the subnets that it
/// would have if the host used nothing.
pub fn remarks(spec: &NetworkSpec, got: &[Subnet], without: &[Subnet], host: &[Occupied]) -> Vec<String> {
    let name = &spec.name;
    let in_the_way = |prefix: IpNet| host.iter().find(|it| overlap(it.prefix, prefix));
    let remark = |(got, without): (&Subnet, &Subnet)| {
        let (got, without) = (got.prefix(), without.prefix());
        if got != without {
            let by = &in_the_way(without)?.by;
            return Some(format!(
                "network '{name}' is given {got}: {without} is passed over, for the host's {by}"
            ));
        }
        let by = &in_the_way(got)?.by;
        Some(format!(
            "WARNING: subnet {got} of network '{name}' overlaps the host's {by}: from its containers, those \
             addresses are the network's"
        ))
    };
    got.iter().zip(without).filter_map(remark).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Linux prints them.
    const ROUTES: &str = "\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t010011AC\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0
wg0\t0000000A\t00000000\t0001\t0\t0\t0\t000000FF\t0\t0\t0
bad\tx
";
    const ROUTES6: &str = "\
fd000000000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000001 00000000 00000001     eth0
fe800000000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000001 00000000 00000001     eth0
00000000000000000000000000000000 00 00000000000000000000000000000000 00 00000000000000000000000000000000 ffffffff 00000001 00000000 00200200       lo
00000000000000000000000000000000 00 00000000000000000000000000000000 00 fd000000000000000000000000000001 00000400 00000001 00000000 00000003     eth0
ff000000000000000000000000000000 08 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000003 00000000 00000001     eth0
";

    #[test]
    fn routes_are_read_as_the_kernel_prints_them() {
        let shown = |routes: Vec<Occupied>| routes.into_iter().map(|it| it.by).collect::<Vec<_>>();
        // The file is in the host's byte order: this one was written on a little-endian machine.
        if cfg!(target_endian = "little") {
            assert_eq!(
                shown(routes_v4(ROUTES)),
                ["route to 172.17.0.0/16 by eth0", "route to 10.0.0.0/8 by wg0"]
            );
        }
        assert_eq!(shown(routes_v6(ROUTES6)), ["route to fd00::/64 by eth0"]);
        assert!(routes_v4("").is_empty() && routes_v6("x\n").is_empty());
    }

    #[test]
    fn what_is_passed_over_is_said_and_what_overlaps_is_warned_of() {
        let subnet = |text: &str| Subnet::new(&text.parse::<IpNet>().unwrap().into()).unwrap();
        let host = [Occupied {
            prefix: "172.18.0.0/16".parse().unwrap(),
            by: "address 172.18.0.2/16 of eth0".into(),
        }];
        let spec = NetworkSpec::named("net");
        let said = |got: &str, without: &str| remarks(&spec, &[subnet(got)], &[subnet(without)], &host);
        assert_eq!(
            said("172.19.0.0/16", "172.18.0.0/16"),
            ["network 'net' is given 172.19.0.0/16: 172.18.0.0/16 is passed over, for the host's address \
                 172.18.0.2/16 of eth0"]
        );
        assert_eq!(
            said("172.18.5.0/24", "172.18.5.0/24"),
            [
                "WARNING: subnet 172.18.5.0/24 of network 'net' overlaps the host's address 172.18.0.2/16 of eth0: \
                 from its containers, those addresses are the network's"
            ]
        );
        assert!(said("10.0.0.0/8", "10.0.0.0/8").is_empty());
    }
}
