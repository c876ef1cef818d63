//! Values of flags. clap says which flag cannot be what; what is said here is what it can be.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use ipnet::IpNet;

use crate::wire::MacAddr;

/// An IP address, as clap reads it.
///
/// # Errors
/// What to give.
pub fn ip(text: &str) -> Result<IpAddr, String> {
    read(text, "an IP address, as 172.19.0.9 or fd00:19::9")
}

/// An IPv6 address.
///
/// # Errors
/// What to give.
pub fn ip6(text: &str) -> Result<Ipv6Addr, String> {
    read(text, "an IPv6 address, as fd00:19::9")
}

/// An address with the length of its prefix.
///
/// # Errors
/// What to give.
pub fn cidr(text: &str) -> Result<IpNet, String> {
    read(text, "an address and the length of its prefix, as 172.19.0.0/16 or fd00:19::/64")
}

/// A MAC address of six bytes.
///
/// # Errors
/// What to give.
pub fn mac(text: &str) -> Result<MacAddr, String> {
    read(text, "six bytes, as 02:42:ac:13:00:09")
}

/// A variable: `KEY=VALUE`, or `KEY` for the caller's own value.
///
/// # Errors
/// What to give.
pub fn variable(text: &str) -> Result<String, String> {
    with_key(text, "give KEY=VALUE, or KEY for your own value")
}

/// A label: `KEY=VALUE`, or `KEY` for an empty value.
///
/// # Errors
/// What to give.
pub fn label(text: &str) -> Result<String, String> {
    with_key(text, "give KEY=VALUE, or KEY alone")
}

fn with_key(text: &str, wanted: &str) -> Result<String, String> {
    let has_key = !text.is_empty() && !text.starts_with('=');
    if has_key { Ok(text.to_owned()) } else { Err(wanted.to_owned()) }
}

/// Where to listen.
///
/// # Errors
/// What to give.
pub fn listener(text: &str) -> Result<SocketAddr, String> {
    read(text, "an address and a port, as 127.0.0.1:1080 or [::1]:1080")
}

/// A whole number from `least` to `most`.
pub fn number<T: TryFrom<u64>>(least: u64, most: u64) -> impl Fn(&str) -> Result<T, String> + Clone {
    move |text| {
        let digits = text.bytes().all(|c| c.is_ascii_digit());
        let number = text.parse::<u64>().ok().filter(|number| digits && (least..=most).contains(number));
        let wanted = || match most {
            u64::MAX => format!("give a whole number, {least} or more"),
            _ => format!("give a whole number from {least} to {most}"),
        };
        number.and_then(|number| number.try_into().ok()).ok_or_else(wanted)
    }
}

/// A truth, in one of the words that there are for it.
///
/// # Errors
/// What to give.
pub fn boolean(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "t" | "1" | "yes" | "y" | "on" => Ok(true),
        "false" | "f" | "0" | "no" | "n" | "off" => Ok(false),
        _ => Err("give true or false".to_owned()),
    }
}

/// The number of a process.
///
/// # Errors
/// What to give.
pub fn pid(text: &str) -> Result<i32, String> {
    number(1, 1 << 22)(text).map_err(|_| "give the number of a process, as 'ps' lists it".to_owned())
}

fn read<T: FromStr>(text: &str, wanted: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("give {wanted}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_limits_and_no_signs() {
        let port = number::<u16>(1, 65_535);
        assert_eq!((port("1"), port("65535")), (Ok(1), Ok(65_535)));
        for wrong in ["", "0", "65536", "-1", "+1", "1.5", " 1", "99999999999999999999", "http"] {
            assert_eq!(port(wrong), Err("give a whole number from 1 to 65535".to_owned()), "{wrong}");
        }
        assert_eq!(number::<u64>(0, u64::MAX)("x"), Err("give a whole number, 0 or more".to_owned()));
    }

    #[test]
    fn what_is_wanted_is_said() {
        assert_eq!(ip("10.0.0.1"), Ok(IpAddr::from([10, 0, 0, 1])));
        assert!(ip("10.0.0").unwrap_err().starts_with("give an IP address, as "));
        assert!(cidr("10.0.0.0").unwrap_err().starts_with("give an address and the length of its prefix"));
        assert!(mac("02:42").unwrap_err().starts_with("give six bytes"));
        assert!(listener("1080").unwrap_err().starts_with("give an address and a port"));
        assert_eq!(variable("=x"), Err("give KEY=VALUE, or KEY for your own value".to_owned()));
        assert_eq!((label("a"), label("a=")), (Ok("a".to_owned()), Ok("a=".to_owned())));
        assert!(label("").is_err());
        assert_eq!((boolean("True"), boolean("off")), (Ok(true), Ok(false)));
        assert_eq!(boolean("maybe"), Err("give true or false".to_owned()));
        assert!(pid("init").unwrap_err().starts_with("give the number of a process"));
    }
}
