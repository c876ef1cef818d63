//! Addresses: subnets, their leases, and the pools that automatic subnets come from.
//!
//! Theory of operation: a subnet knows one set of taken addresses. What no container may have
//! (network and broadcast address, gateway, auxiliary addresses) is put there when the subnet is
//! made; leases come and go. "Lowest free address" is then the first gap in that set. Choosing
//! ([`Subnet::choose`]) is apart from taking ([`Subnet::take`]), so that a caller can decide about
//! several subnets before it commits to any.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use super::runs::Runs;
use super::{Id, Kind, Refused};

/// A subnet as a user asks for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubnetSpec {
    /// `172.19.0.0/16`, `fd00:19::/64`.
    pub prefix: IpNet,
    /// The first usable address if none is given.
    #[serde(default)]
    pub gateway: Option<IpAddr>,
    /// The part of the subnet that addresses are handed out from; all of it if none is given.
    #[serde(default)]
    pub range: Option<IpNet>,
    /// Addresses that are in use by something else, by name.
    #[serde(default)]
    pub aux: BTreeMap<String, IpAddr>,
}

impl From<IpNet> for SubnetSpec {
    fn from(prefix: IpNet) -> Self {
        Self { prefix, gateway: None, range: None, aux: BTreeMap::new() }
    }
}

impl SubnetSpec {
    /// Pairs the flat flags of `network create` by containment, as Docker does.
    ///
    /// # Errors
    /// `bad_subnet` for a flag that lies in no subnet, or a second one for the same subnet.
    pub fn assemble(
        subnets: &[IpNet],
        ranges: &[IpNet],
        gateways: &[IpAddr],
        aux: &[(String, IpAddr)],
    ) -> Result<Vec<Self>, Refused> {
        let mut specs: Vec<Self> = subnets.iter().copied().map(Self::from).collect();
        for range in ranges {
            let spec = holder(&mut specs, "range", *range)?;
            once("range", &mut spec.range, *range)?;
        }
        for gateway in gateways {
            let spec = holder(&mut specs, "gateway", IpNet::from(*gateway))?;
            once("gateway", &mut spec.gateway, *gateway)?;
        }
        for (name, address) in aux {
            let spec = holder(&mut specs, "aux-address", IpNet::from(*address))?;
            let mut slot = spec.aux.get(name).copied();
            once("aux-address", &mut slot, *address)?;
            spec.aux.insert(name.clone(), *address);
        }
        Ok(specs)
    }
}

/// The subnet that `part` lies in.
fn holder<'a>(specs: &'a mut [SubnetSpec], flag: &str, part: IpNet) -> Result<&'a mut SubnetSpec, Refused> {
    specs.iter_mut().find(|spec| spec.prefix.contains(&part)).ok_or_else(|| {
        let part = if part.prefix_len() == part.max_prefix_len() {
            part.addr().to_string()
        } else {
            part.to_string()
        };
        bad(format!("no matching subnet for {flag} {part}: give the subnet that contains it"))
    })
}

/// Fills `slot`, which must be empty.
fn once<T: std::fmt::Display>(flag: &str, slot: &mut Option<T>, value: T) -> Result<(), Refused> {
    match slot.replace(value) {
        None => Ok(()),
        Some(first) => {
            Err(bad(format!("{flag} is given twice for the same subnet (first as {first}): give one")))
        }
    }
}

fn bad(message: String) -> Refused {
    Refused::new(Kind::BadSubnet, message)
}

/// A subnet of a network, with the addresses that are taken in it. In text it is what was asked for: leases
/// are what has them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "SubnetSpec", into = "SubnetSpec")]
pub struct Subnet {
    prefix: IpNet,
    gateway: IpAddr,
    range: Option<IpNet>,
    aux: BTreeMap<String, IpAddr>,
    taken: Runs,
}

impl TryFrom<SubnetSpec> for Subnet {
    type Error = Refused;

    fn try_from(spec: SubnetSpec) -> Result<Self, Refused> {
        Self::new(&spec)
    }
}

impl From<Subnet> for SubnetSpec {
    fn from(subnet: Subnet) -> Self {
        let Subnet { prefix, gateway, range, aux, .. } = subnet;
        Self { prefix, gateway: Some(gateway), range, aux }
    }
}

/// Why an address cannot be leased.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LeaseError {
    /// Nothing is left of the subnet, or of its range.
    #[error("no free address is left in {0}")]
    Full(IpNet),
    /// The address lies elsewhere.
    #[error("{0} is outside {1}")]
    Outside(IpAddr, IpNet),
    /// The address has another use: `"gateway"`, `"network address"`, ...
    #[error("{0} is the {1} of {2}")]
    Reserved(IpAddr, String, IpNet),
    /// A container has it.
    #[error("{0} is in use")]
    InUse(IpAddr),
}

impl LeaseError {
    /// The IP version that it is about.
    pub const fn version(&self) -> &'static str {
        let is_ipv4 = match self {
            Self::Full(prefix) => matches!(prefix, IpNet::V4(_)),
            Self::Outside(address, _) | Self::Reserved(address, ..) | Self::InUse(address) => {
                address.is_ipv4()
            }
        };
        if is_ipv4 { "IPv4" } else { "IPv6" }
    }
}

impl Subnet {
    /// Checks what was asked for and reserves the addresses that no container may have.
    ///
    /// # Errors
    /// `bad_subnet`: host bits set, too small, a prefix with another purpose, or a range, gateway
    /// or auxiliary address that lies outside or has another use.
    pub fn new(spec: &SubnetSpec) -> Result<Self, Refused> {
        let SubnetSpec { prefix, gateway, range, aux } = spec;
        check_prefix(*prefix)?;
        let mut subnet = Self {
            prefix: *prefix,
            gateway: gateway.unwrap_or_else(|| first_usable(*prefix)),
            range: *range,
            aux: BTreeMap::new(),
            taken: Runs::default(),
        };
        for end in subnet.unusable().into_iter().flatten() {
            subnet.taken.insert(number(end));
        }
        subnet.reserve("gateway", subnet.gateway)?;
        for (name, address) in aux {
            subnet.reserve(&format!("auxiliary address '{name}'"), *address)?;
            subnet.aux.insert(name.clone(), *address);
        }
        if let Some(range) = range.filter(|range| !prefix.contains(range) || range.trunc() != *range) {
            return Err(bad(format!(
                "range {range} is no part of subnet {prefix}: give a smaller prefix inside it, host bits zero"
            )));
        }
        Ok(subnet)
    }

    /// The subnet itself.
    pub const fn prefix(&self) -> IpNet {
        self.prefix
    }

    /// The gateway's address, which is never leased.
    pub const fn gateway(&self) -> IpAddr {
        self.gateway
    }

    /// The part that addresses are handed out from, if not all of it.
    pub const fn range(&self) -> Option<IpNet> {
        self.range
    }

    /// Addresses that something else uses, by name.
    pub const fn aux(&self) -> &BTreeMap<String, IpAddr> {
        &self.aux
    }

    /// The address that a lease would get: `wish`, or the lowest free one of the range.
    ///
    /// # Errors
    /// See [`LeaseError`].
    pub fn choose(&self, wish: Option<IpAddr>) -> Result<IpAddr, LeaseError> {
        match wish {
            Some(wish) => self.check(wish).map(|()| wish),
            None => {
                let range = self.range.unwrap_or(self.prefix);
                let free = self.taken.first_missing(number(range.network()));
                let free = free.filter(|free| *free <= number(range.broadcast()));
                free.map(|free| self.address(free)).ok_or(LeaseError::Full(range))
            }
        }
    }

    /// Leases `address`; false if it is taken or does not belong here.
    pub fn take(&mut self, address: IpAddr) -> bool {
        self.prefix.contains(&address) && self.taken.insert(number(address))
    }

    /// Ends the lease of `address`; false if there was none.
    pub fn release(&mut self, address: IpAddr) -> bool {
        self.prefix.contains(&address) && self.role(address).is_none() && self.taken.remove(number(address))
    }

    /// Whether a station may have the address: neither the subnet's own nor everybody's.
    pub fn is_usable(&self, address: IpAddr) -> bool {
        self.prefix.contains(&address) && !self.unusable().contains(&Some(address))
    }

    fn check(&self, wish: IpAddr) -> Result<(), LeaseError> {
        if !self.prefix.contains(&wish) {
            return Err(LeaseError::Outside(wish, self.prefix));
        }
        if let Some(role) = self.role(wish) {
            return Err(LeaseError::Reserved(wish, role, self.prefix));
        }
        if self.taken.contains(number(wish)) {
            return Err(LeaseError::InUse(wish));
        }
        Ok(())
    }

    /// What `address` is used for, if no container may have it.
    fn role(&self, address: IpAddr) -> Option<String> {
        let [network, broadcast] = self.unusable();
        if network == Some(address) {
            Some("network address".to_owned())
        } else if broadcast == Some(address) {
            Some("broadcast address".to_owned())
        } else if self.gateway == address {
            Some("gateway".to_owned())
        } else {
            let aux = self.aux.iter().find(|(_, other)| **other == address);
            aux.map(|(name, _)| format!("auxiliary address '{name}'"))
        }
    }

    fn reserve(&mut self, what: &str, address: IpAddr) -> Result<(), Refused> {
        if self.take(address) {
            return Ok(());
        }
        let prefix = self.prefix;
        let reason = match prefix.contains(&address) {
            true => "Address already in use, or the subnet's own, in",
            false => "it is outside",
        };
        Err(bad(format!(
            "failed to allocate {what} ({address}): {reason} {prefix}: choose another address of it"
        )))
    }

    /// The subnet's first and last address where they mean "the subnet" and "everybody": IPv4 but
    /// for /31 (RFC 3021); the first in IPv6, the routers' anycast address (RFC 4291 §2.6.1), but
    /// for /127 (RFC 6164).
    fn unusable(&self) -> [Option<IpAddr>; 2] {
        if self.prefix.max_prefix_len() - self.prefix.prefix_len() < 2 {
            return [None, None];
        }
        let last = self.prefix.addr().is_ipv4().then(|| self.prefix.broadcast());
        [Some(self.prefix.network()), last]
    }

    /// The inverse of [`number`] in this subnet's family.
    fn address(&self, number: u128) -> IpAddr {
        match (self.prefix, u32::try_from(number)) {
            (IpNet::V4(_), Ok(small)) => Ipv4Addr::from_bits(small).into(),
            (IpNet::V4(_), Err(_)) | (IpNet::V6(_), _) => Ipv6Addr::from_bits(number).into(),
        }
    }
}

const fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits() as u128,
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// The first address that a station may have.
fn first_usable(prefix: IpNet) -> IpAddr {
    let skip = u32::from(prefix.max_prefix_len() - prefix.prefix_len() >= 2);
    match prefix.network() {
        IpAddr::V4(first) => Ipv4Addr::from_bits(first.to_bits() | skip).into(),
        IpAddr::V6(first) => Ipv6Addr::from_bits(first.to_bits() | u128::from(skip)).into(),
    }
}

/// Prefixes with a purpose that no subnet can have.
const SPECIAL: [(IpNet, &str); 6] = [
    (v4(0, 0, 8), "'this network' (RFC 1122)"),
    (v4(127, 0, 8), "loopback"),
    (v4(224, 0, 3), "multicast and reserved addresses"),
    (v6(0, 8), "reserved addresses (RFC 4291)"),
    (v6(0xfe80, 10), "link-local addresses"),
    (v6(0xff00, 8), "multicast"),
];

const fn v4(first: u8, second: u8, length: u8) -> IpNet {
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(first, second, 0, 0), length))
}

const fn v6(first: u16, length: u8) -> IpNet {
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(first, 0, 0, 0, 0, 0, 0, 0), length))
}

fn check_prefix(prefix: IpNet) -> Result<(), Refused> {
    if prefix.trunc() != prefix {
        return Err(bad(format!("subnet {prefix} has host bits set: write {}", prefix.trunc())));
    }
    if prefix.prefix_len() == prefix.max_prefix_len() {
        return Err(bad(format!(
            "subnet {prefix} has no room for a gateway and a container: give a larger one"
        )));
    }
    match SPECIAL.iter().find(|(special, _)| overlap(*special, prefix)) {
        Some((special, what)) => Err(bad(format!(
            "subnet {prefix} overlaps {special}, {what}: use a private prefix, as 10.1.0.0/16"
        ))),
        None => Ok(()),
    }
}

/// Whether two prefixes share an address; never across families.
pub fn overlap(one: IpNet, other: IpNet) -> bool {
    one.contains(&other) || other.contains(&one)
}

/// A prefix that automatic subnets are cut from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pool {
    /// All of it.
    pub base: IpNet,
    /// The length of a subnet's prefix.
    pub size: u8,
}

/// Docker's default pools: 172.17.0.0/16 to 172.31.0.0/16, then 192.168.0.0/20 to 192.168.240.0/20.
///
/// Source: `localScopeDefaultNetworks` in moby's libnetwork/ipamutils.
fn default_pools() -> impl Iterator<Item = Pool> {
    let large = (17..=31).map(|second| Pool { base: v4(172, second, 16), size: 16 });
    large.chain([Pool { base: v4(192, 168, 16), size: 20 }])
}

impl Pool {
    /// The first subnet of it that overlaps nothing in `used`.
    fn first_free(&self, used: &[IpNet]) -> Option<IpNet> {
        let bits = self.base.max_prefix_len();
        let in_subnet = u32::from(bits.checked_sub(self.size)?);
        let last = |net: IpNet| number(net.broadcast());
        let mut start = number(self.base.network());
        loop {
            let address = match self.base {
                IpNet::V4(_) => Ipv4Addr::from_bits(u32::try_from(start).ok()?).into(),
                IpNet::V6(_) => Ipv6Addr::from_bits(start).into(),
            };
            let subnet = IpNet::new(address, self.size).ok().filter(|subnet| self.base.contains(subnet))?;
            let Some(taken) =
                used.iter().filter(|used| overlap(subnet, **used)).map(|used| last(*used)).max()
            else {
                return Some(subnet);
            };
            // Go on behind what is in the way, which may be larger than a subnet.
            let behind = taken.max(last(subnet)).checked_add(1)?;
            start = behind.checked_next_multiple_of(1u128.checked_shl(in_subnet)?)?;
        }
    }
}

impl FromStr for Pool {
    type Err = Refused;

    /// `base=10.0.0.0/8,size=24`, as Docker's flag has it.
    fn from_str(text: &str) -> Result<Self, Refused> {
        let (mut base, mut size) = (None, None);
        for part in text.split(',') {
            match part.split_once('=') {
                Some(("base", prefix)) => base = prefix.parse().ok(),
                Some(("size", length)) => size = length.parse().ok(),
                _ => {}
            }
        }
        let (Some(base), Some(size)) = (base, size) else {
            return Err(bad(format!(
                "address pool '{text}' is not base=CIDR,size=N, as base=10.0.0.0/8,size=24"
            )));
        };
        Self::new(base, size)
    }
}

impl fmt::Display for Pool {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "base={},size={}", self.base, self.size)
    }
}

impl Pool {
    /// A pool whose subnets have room for a gateway and a container.
    ///
    /// # Errors
    /// `bad_subnet`.
    pub fn new(base: IpNet, size: u8) -> Result<Self, Refused> {
        check_prefix(base)?;
        let (least, most) = (base.prefix_len(), base.max_prefix_len() - 1);
        if !(least..=most).contains(&size) {
            return Err(bad(format!(
                "subnets of address pool {base} cannot have size {size}: it takes {least} to {most} bits"
            )));
        }
        Ok(Self { base, size })
    }
}

/// The first subnet of the pools, or where they have none for IPv4 of Docker's, that overlaps nothing in `used`.
pub fn automatic_ipv4(used: &[IpNet], pools: &[Pool]) -> Option<IpNet> {
    let mut given = pools.iter().filter(|pool| pool.base.addr().is_ipv4()).peekable();
    if given.peek().is_some() {
        return given.find_map(|pool| pool.first_free(used));
    }
    default_pools().find_map(|pool| pool.first_free(used))
}

/// The first subnet of the pools that overlaps nothing in `used`; where they have none for IPv6, a unique
/// local /64 (RFC 4193) chosen by a network's id.
pub fn automatic_ipv6(id: Id, used: &[IpNet], pools: &[Pool]) -> Option<IpNet> {
    let mut given = pools.iter().filter(|pool| pool.base.addr().is_ipv6()).peekable();
    if given.peek().is_some() {
        return given.find_map(|pool| pool.first_free(used));
    }
    id.bytes().as_chunks::<5>().0.iter().find_map(|[a, b, c, d, e]| {
        let word = |high: u8, low: u8| u16::from_be_bytes([high, low]);
        let first = Ipv6Addr::new(word(0xfd, *a), word(*b, *c), word(*d, *e), 0, 0, 0, 0, 0);
        let pool = IpNet::V6(Ipv6Net::new_assert(first, 64));
        used.iter().all(|used| !overlap(pool, *used)).then_some(pool)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn subnet(prefix: &str) -> Subnet {
        Subnet::new(&SubnetSpec::from(prefix.parse::<IpNet>().unwrap())).unwrap()
    }

    fn lease(subnet: &mut Subnet) -> String {
        let address = subnet.choose(None).unwrap();
        assert!(subnet.take(address));
        address.to_string()
    }

    #[test]
    fn lowest_first_after_the_gateway() {
        let mut net = subnet("172.19.0.0/16");
        assert_eq!(net.gateway().to_string(), "172.19.0.1");
        assert_eq!(
            [lease(&mut net), lease(&mut net), lease(&mut net)],
            ["172.19.0.2", "172.19.0.3", "172.19.0.4"]
        );
        assert!(net.release("172.19.0.3".parse().unwrap()));
        assert!(!net.release("172.19.0.3".parse().unwrap()));
        assert!(!net.release("172.19.0.1".parse().unwrap()), "the gateway is not a lease");
        assert_eq!([lease(&mut net), lease(&mut net)], ["172.19.0.3", "172.19.0.5"]);
        let mut six = subnet("fd00:19::/64");
        assert_eq!([lease(&mut six), lease(&mut six)], ["fd00:19::2", "fd00:19::3"]);
    }

    #[test]
    fn small_subnets_fill_up() {
        for (prefix, room) in
            [("10.0.0.0/30", 1), ("10.0.0.0/31", 1), ("10.0.0.0/29", 5), ("fd00::/126", 2), ("fd00::/127", 1)]
        {
            let mut net = subnet(prefix);
            for _ in 0..room {
                lease(&mut net);
            }
            assert_eq!(net.choose(None), Err(LeaseError::Full(prefix.parse().unwrap())), "{prefix}");
        }
    }

    #[test]
    fn a_whole_16_is_leased_quickly() {
        let mut net = subnet("172.19.0.0/16");
        for _ in 0..65_533 {
            lease(&mut net);
        }
        assert!(net.choose(None).is_err());
        net.release("172.19.200.7".parse().unwrap());
        assert_eq!(lease(&mut net), "172.19.200.7");
    }

    #[test]
    fn range_aux_and_wishes() {
        let spec = SubnetSpec::assemble(
            &["172.28.0.0/16".parse().unwrap(), "fd00::/64".parse().unwrap()],
            &["172.28.5.0/30".parse().unwrap()],
            &["fd00::9".parse().unwrap(), "172.28.5.0".parse().unwrap()],
            &[("router".to_owned(), "172.28.5.2".parse().unwrap())],
        )
        .unwrap();
        let mut net = Subnet::new(&spec[0]).unwrap();
        assert_eq!(spec[1].gateway, Some("fd00::9".parse().unwrap()));
        assert_eq!([lease(&mut net), lease(&mut net)], ["172.28.5.1", "172.28.5.3"]);
        let table = [
            ("10.0.0.1", "10.0.0.1 is outside 172.28.0.0/16"),
            ("fd00::1", "fd00::1 is outside 172.28.0.0/16"),
            ("172.28.0.0", "172.28.0.0 is the network address of 172.28.0.0/16"),
            ("172.28.255.255", "172.28.255.255 is the broadcast address of 172.28.0.0/16"),
            ("172.28.5.0", "172.28.5.0 is the gateway of 172.28.0.0/16"),
            ("172.28.5.2", "172.28.5.2 is the auxiliary address 'router' of 172.28.0.0/16"),
            ("172.28.5.3", "172.28.5.3 is in use"),
        ];
        for (wish, why) in table {
            assert_eq!(net.choose(Some(wish.parse().unwrap())).unwrap_err().to_string(), why);
        }
        assert_eq!(net.choose(None).unwrap_err().to_string(), "no free address is left in 172.28.5.0/30");
        let outside_the_range = "172.28.7.7".parse().unwrap();
        assert_eq!(net.choose(Some(outside_the_range)), Ok(outside_the_range));
    }

    #[test]
    fn bad_subnets_are_refused_with_the_mend() {
        let table = [
            ("10.1.2.3/16", "subnet 10.1.2.3/16 has host bits set: write 10.1.0.0/16"),
            (
                "10.0.0.1/32",
                "subnet 10.0.0.1/32 has no room for a gateway and a container: give a larger one",
            ),
            (
                "0.0.0.0/0",
                "subnet 0.0.0.0/0 overlaps 0.0.0.0/8, 'this network' (RFC 1122): use a private prefix, as 10.1.0.0/16",
            ),
            (
                "127.1.0.0/16",
                "subnet 127.1.0.0/16 overlaps 127.0.0.0/8, loopback: use a private prefix, as 10.1.0.0/16",
            ),
            (
                "ff02::/64",
                "subnet ff02::/64 overlaps ff00::/8, multicast: use a private prefix, as 10.1.0.0/16",
            ),
        ];
        for (prefix, why) in table {
            let refused = Subnet::new(&SubnetSpec::from(prefix.parse::<IpNet>().unwrap())).unwrap_err();
            assert_eq!((refused.kind, refused.message.as_str()), (Kind::BadSubnet, why));
        }
    }

    #[test]
    fn bad_parts_of_a_subnet_are_refused() {
        let prefix: IpNet = "10.1.0.0/24".parse().unwrap();
        let spec = |gateway: Option<&str>, range: Option<&str>, aux: &[(&str, &str)]| SubnetSpec {
            prefix,
            gateway: gateway.map(|text| text.parse().unwrap()),
            range: range.map(|text| text.parse().unwrap()),
            aux: aux.iter().map(|(name, text)| ((*name).to_owned(), text.parse().unwrap())).collect(),
        };
        let table = [
            (spec(Some("10.2.0.1"), None, &[]), "failed to allocate gateway (10.2.0.1): it is outside"),
            (
                spec(Some("10.1.0.0"), None, &[]),
                "failed to allocate gateway (10.1.0.0): Address already in use",
            ),
            (spec(None, Some("10.0.0.0/8"), &[]), "range 10.0.0.0/8 is no part"),
            (spec(None, Some("10.1.0.9/28"), &[]), "range 10.1.0.9/28 is no part"),
            (
                spec(None, None, &[("a", "10.1.0.1")]),
                "failed to allocate auxiliary address 'a' (10.1.0.1): Address already in use",
            ),
            (
                spec(None, None, &[("a", "10.1.0.5"), ("b", "10.1.0.5")]),
                "failed to allocate auxiliary address 'b' (10.1.0.5): Address already in use",
            ),
        ];
        for (spec, why) in table {
            let refused = Subnet::new(&spec).unwrap_err();
            assert!(refused.message.starts_with(why), "{} / {why}", refused.message);
        }
        let lost = SubnetSpec::assemble(&[prefix], &[], &["10.9.0.1".parse().unwrap()], &[]).unwrap_err();
        assert_eq!(lost.message, "no matching subnet for gateway 10.9.0.1: give the subnet that contains it");
        let gateways = ["10.1.0.1".parse().unwrap(), "10.1.0.2".parse().unwrap()];
        let twice = SubnetSpec::assemble(&[prefix], &[], &gateways, &[]).unwrap_err();
        assert_eq!(twice.message, "gateway is given twice for the same subnet (first as 10.1.0.1): give one");
    }

    #[test]
    fn automatic_pools_are_dockers_and_skip_what_is_used() {
        let mut used: Vec<IpNet> = vec!["172.18.7.0/24".parse().unwrap()];
        let mut got = Vec::new();
        while let Some(pool) = automatic_ipv4(&used, &[]) {
            used.push(pool);
            got.push(pool.to_string());
        }
        assert_eq!(got[..2], ["172.17.0.0/16", "172.19.0.0/16"]);
        assert_eq!(got[13..16], ["172.31.0.0/16", "192.168.0.0/20", "192.168.16.0/20"]);
        assert_eq!((got.len(), got.last().unwrap().as_str()), (30, "192.168.240.0/20"));
        let id = Id::new(std::array::from_fn(|index| u8::try_from(index).unwrap()));
        let first = automatic_ipv6(id, &[], &[]).unwrap();
        assert_eq!(first.to_string(), "fd00:102:304::/64");
        assert_eq!(automatic_ipv6(id, &[first], &[]).unwrap().to_string(), "fd05:607:809::/64");
    }

    proptest! {
        #[test]
        fn leases_equal_a_naive_scan(
            length in 26u8..=31,
            range_length in 26u8..=31,
            gateway in proptest::option::of(0u32..64),
            steps in proptest::collection::vec((0u8..3, 0u32..70), 0..120),
        ) {
            let prefix = Ipv4Net::new("10.5.4.0".parse().unwrap(), length).unwrap();
            let range = (range_length > length).then(|| IpNet::V4(prefix.subnets(range_length).unwrap().last().unwrap()));
            let at = |offset: u32| IpAddr::V4(Ipv4Addr::from_bits(prefix.addr().to_bits() + offset));
            let spec = SubnetSpec { prefix: prefix.into(), gateway: gateway.map(at), range, aux: BTreeMap::new() };
            let Ok(mut net) = Subnet::new(&spec) else {
                prop_assert!(gateway.is_some_and(|offset| !prefix.hosts().any(|host| IpAddr::V4(host) == at(offset))));
                return Ok(());
            };
            let usable: BTreeSet<IpAddr> = prefix.hosts().map(IpAddr::V4).filter(|host| *host != net.gateway()).collect();
            let mut leased = BTreeSet::new();
            for (step, offset) in steps {
                let address = at(offset);
                match step {
                    0 => {
                        let in_range = |host: &&IpAddr| range.is_none_or(|range| range.contains(*host));
                        let naive = usable.iter().filter(in_range).find(|host| !leased.contains(*host)).copied();
                        prop_assert_eq!(net.choose(None).ok(), naive);
                        if let Some(address) = naive {
                            prop_assert!(net.take(address) && leased.insert(address));
                        }
                    }
                    1 => {
                        let free = usable.contains(&address) && !leased.contains(&address);
                        prop_assert_eq!(net.choose(Some(address)).is_ok(), free);
                        if free {
                            prop_assert!(net.take(address) && leased.insert(address));
                        }
                    }
                    _ => prop_assert_eq!(net.release(address), leased.remove(&address)),
                }
            }
        }
    }

    #[test]
    fn pools_are_cut_around_what_is_used() {
        let nets = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<IpNet>>();
        let table: [(&str, &[&str], Option<&str>); 9] = [
            ("base=10.0.0.0/8,size=24", &[], Some("10.0.0.0/24")),
            ("base=10.0.0.0/8,size=24", &["10.0.0.128/25", "10.0.1.0/24"], Some("10.0.2.0/24")),
            ("base=10.0.0.0/8,size=24", &["10.0.0.0/9"], Some("10.128.0.0/24")),
            ("base=10.0.0.0/8,size=30", &["10.0.0.0/8"], None),
            ("base=10.0.0.0/8,size=30", &["0.0.0.0/0"], None),
            ("base=192.168.0.0/23,size=24", &["192.168.0.0/24", "192.168.1.7/32"], None),
            ("base=192.168.0.0/24,size=24", &["192.168.1.0/24", "fd00::/8"], Some("192.168.0.0/24")),
            ("base=fd00::/16,size=64", &["fd00::/32"], Some("fd00:1::/64")),
            ("base=fd00::/8,size=127", &["::/0"], None),
        ];
        for (pool, used, expected) in table {
            let pool: Pool = pool.parse().unwrap();
            let found = pool.first_free(&nets(used)).map(|net| net.to_string());
            assert_eq!(found.as_deref(), expected, "{pool} without {used:?}");
        }
        let pools = ["base=fd00::/16,size=64", "base=10.9.0.0/16,size=20"].map(|text| text.parse().unwrap());
        assert_eq!(automatic_ipv4(&[], &pools).unwrap().to_string(), "10.9.0.0/20");
        assert_eq!(automatic_ipv6(Id::new([5; 32]), &[], &pools).unwrap().to_string(), "fd00::/64");
        assert_eq!(automatic_ipv4(&[], &pools[..1]).unwrap().to_string(), "172.17.0.0/16");
        for bad in [
            "10.0.0.0/8",
            "base=10.0.0.0/8",
            "base=10.0.0.0/8,size=7",
            "base=10.0.0.0/8,size=32",
            "base=10.0.0.1/8,size=24",
            "base=127.0.0.0/8,size=24",
            "base=x,size=24",
        ] {
            assert_eq!(bad.parse::<Pool>().unwrap_err().kind, Kind::BadSubnet, "{bad}");
        }
    }
}
