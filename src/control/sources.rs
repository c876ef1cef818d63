//! Who may call: addresses and prefixes of sources, as people write them.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{Kind, Refused};

/// Reads a source: a prefix, or an address alone.
///
/// # Errors
/// `bad_address` for what is neither, and for a prefix with host bits.
pub fn source(text: &str) -> Result<IpNet, Refused> {
    let address = || text.parse::<IpAddr>().ok().map(IpNet::from);
    let bad = |why: String| Refused::new(Kind::BadAddress, why);
    let net = text.parse::<IpNet>().ok().or_else(address).ok_or_else(|| {
        bad(format!(
            "source '{text}' is no address or prefix: write 192.0.2.0/24, 192.0.2.7 or 2001:db8::/32"
        ))
    })?;
    if net != net.trunc() {
        return Err(bad(format!("source {net} has host bits set: write {}", net.trunc())));
    }
    Ok(net)
}

/// Whether an address and a source are of one IP version.
pub const fn same_version(address: IpAddr, source: IpNet) -> bool {
    matches!((address, source), (IpAddr::V4(_), IpNet::V4(_)) | (IpAddr::V6(_), IpNet::V6(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_prefixes_or_addresses() {
        for (text, shown) in [
            ("192.0.2.0/24", "192.0.2.0/24"),
            ("192.0.2.7", "192.0.2.7/32"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("::1", "::1/128"),
        ] {
            assert_eq!(source(text).unwrap().to_string(), shown);
        }
        for (text, why) in [
            ("", "source '' is no address or prefix: write 192.0.2.0/24"),
            ("192.0.2.0/33", "source '192.0.2.0/33' is no address or prefix"),
            ("alice", "source 'alice' is no address or prefix"),
            ("192.0.2.7/24", "source 192.0.2.7/24 has host bits set: write 192.0.2.0/24"),
        ] {
            let refused = source(text).unwrap_err();
            assert!(refused.kind == Kind::BadAddress && refused.message.starts_with(why), "{refused}");
        }
    }
}
