//! Settings of the whole, under the names that Linux gives them.

use super::{Kind, Refused};
use crate::control::naming::nearest;
use crate::dataplane::Settings;

/// How many flows there are: the data plane knows, and nobody sets it.
pub const COUNT: &str = "net.netfilter.nf_conntrack_count";

struct Key {
    name: &'static str,
    get: fn(&Settings) -> u32,
    set: fn(&mut Settings, u32),
    /// The least and the greatest value.
    range: (u32, u32),
}

/// A key for each timeout in seconds; the second word is the field.
macro_rules! timeouts {
    ($($name:literal $field:ident)*) => {
        [$(Key {
            name: concat!("net.netfilter.nf_conntrack_", $name),
            get: |settings| settings.timeouts.$field,
            set: |settings, value| settings.timeouts.$field = value,
            range: (1, i32::MAX as u32), // As the kernel keeps them, in an int.
        }),*]
    };
}

const SWITCHES: [Key; 3] = [
    Key {
        name: "net.ipv4.ip_forward",
        get: |settings| settings.forward_v4.into(),
        set: |settings, value| settings.forward_v4 = value != 0,
        range: (0, 1),
    },
    Key {
        name: "net.ipv4.conf.all.forwarding",
        get: |settings| settings.forward_v4.into(),
        set: |settings, value| settings.forward_v4 = value != 0,
        range: (0, 1),
    },
    Key {
        name: "net.ipv6.conf.all.forwarding",
        get: |settings| settings.forward_v6.into(),
        set: |settings, value| settings.forward_v6 = value != 0,
        range: (0, 1),
    },
];

const LIMITS: [Key; 3] = [
    Key {
        name: "net.ipv4.icmp_msgs_per_sec",
        get: |settings| settings.icmp_errors,
        set: |settings, value| settings.icmp_errors = value,
        range: (0, i32::MAX as u32),
    },
    Key {
        name: "net.netfilter.nf_conntrack_max",
        get: |settings| settings.conntrack.table,
        set: |settings, value| settings.conntrack.table = value,
        range: (1, 1 << 24),
    },
    Key {
        name: "net.netfilter.nf_conntrack_max_per_source",
        get: |settings| settings.conntrack.source,
        set: |settings, value| settings.conntrack.source = value,
        range: (1, 1 << 24),
    },
];

const TIMEOUTS: [Key; 12] = timeouts! {
    "generic_timeout" generic
    "icmp_timeout" icmp
    "tcp_timeout_close" tcp_close
    "tcp_timeout_close_wait" tcp_close_wait
    "tcp_timeout_established" tcp_established
    "tcp_timeout_fin_wait" tcp_fin_wait
    "tcp_timeout_last_ack" tcp_last_ack
    "tcp_timeout_syn_recv" tcp_syn_recv
    "tcp_timeout_syn_sent" tcp_syn_sent
    "tcp_timeout_time_wait" tcp_time_wait
    "udp_timeout" udp
    "udp_timeout_stream" udp_stream
};

/// Older or other names of the same.
const SYNONYMS: [(&str, &str); 3] = [
    ("net.nf_conntrack_max", "net.netfilter.nf_conntrack_max"),
    ("net.netfilter.nf_conntrack_icmpv6_timeout", "net.netfilter.nf_conntrack_icmp_timeout"),
    ("net.ipv6.conf.default.forwarding", "net.ipv6.conf.all.forwarding"),
];

fn keys() -> impl Iterator<Item = &'static Key> {
    SWITCHES.iter().chain(&LIMITS).chain(&TIMEOUTS)
}

fn find(key: &str) -> Result<&'static Key, Refused> {
    let dotted = key.replace('/', ".");
    let synonym = SYNONYMS.iter().find(|(name, _)| *name == dotted).map_or(dotted.as_str(), |(_, name)| name);
    keys().find(|known| known.name == synonym).ok_or_else(|| {
        let mend = match nearest(&dotted, keys().map(|known| known.name).chain([COUNT])) {
            Some(nearest) => format!("did you mean '{nearest}'?"),
            None => "'tapswitch sysctl' lists them".to_owned(),
        };
        Refused::new(Kind::BadSetting, format!("setting '{key}' is not known: {mend}"))
    })
}

/// Whether `key` (with dots or slashes) is the number of flows.
pub fn is_count(key: &str) -> bool {
    key.replace('/', ".") == COUNT
}

/// The name by which a key is shown, and its value.
///
/// # Errors
/// `bad_setting` for an unknown key.
pub fn get(settings: &Settings, key: &str) -> Result<(&'static str, u32), Refused> {
    find(key).map(|known| (known.name, (known.get)(settings)))
}

/// Sets a key.
///
/// # Errors
/// `bad_setting` for an unknown key, or a value that it cannot have.
pub fn set(settings: &mut Settings, key: &str, value: &str) -> Result<(), Refused> {
    if is_count(key) {
        let text = format!(
            "setting '{COUNT}' only tells how many flows there are: 'tapswitch conntrack -D' deletes some"
        );
        return Err(Refused::new(Kind::BadSetting, text));
    }
    let known = find(key)?;
    let (least, most) = known.range;
    let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    let number = value.parse().ok().filter(|number| digits && (least..=most).contains(number));
    let refuse = || {
        let text = format!("setting '{}' cannot be '{value}': it takes {least} to {most}", known.name);
        Refused::new(Kind::BadSetting, text)
    };
    (known.set)(settings, number.ok_or_else(refuse)?);
    Ok(())
}

/// All keys with their values, but for [`COUNT`].
pub fn all(settings: &Settings) -> Vec<(&'static str, u32)> {
    keys().map(|known| (known.name, (known.get)(settings))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_set_by_its_name_and_read_back() {
        for key in keys() {
            let mut settings = Settings::default();
            let other = if (key.get)(&settings) == key.range.0 { key.range.0 + 1 } else { key.range.0 };
            set(&mut settings, key.name, &other.to_string()).unwrap();
            assert_eq!(get(&settings, key.name), Ok((key.name, other)));
            let changed = all(&settings).into_iter().zip(all(&Settings::default()));
            let changed: Vec<&str> = changed.filter(|(new, old)| new != old).map(|(new, _)| new.0).collect();
            let both = ["net.ipv4.ip_forward", "net.ipv4.conf.all.forwarding"];
            if both.contains(&key.name) {
                assert_eq!(changed, both)
            } else {
                assert_eq!(changed, [key.name])
            }
            for wrong in
                [key.range.1.wrapping_add(1).to_string(), "-1".to_owned(), String::new(), "x".to_owned()]
            {
                let before = settings;
                let refused = set(&mut settings, key.name, &wrong).unwrap_err();
                assert_eq!((refused.kind, settings), (Kind::BadSetting, before), "{}={wrong}", key.name);
            }
        }
    }

    #[test]
    fn other_spellings_and_slips() {
        let mut settings = Settings::default();
        set(&mut settings, "net/ipv4/ip_forward", "0").unwrap();
        set(&mut settings, "net.nf_conntrack_max", "7").unwrap();
        assert_eq!((settings.forward_v4, settings.conntrack.table), (false, 7));
        let message = |key: &str, value: &str| set(&mut Settings::default(), key, value).unwrap_err().message;
        assert_eq!(
            message("net.ipv4.ip_forwrad", "1"),
            "setting 'net.ipv4.ip_forwrad' is not known: did you mean 'net.ipv4.ip_forward'?"
        );
        assert_eq!(
            message("kernel.panic", "1"),
            "setting 'kernel.panic' is not known: 'tapswitch sysctl' lists them"
        );
        assert_eq!(
            message("net.ipv4.ip_forward", "2"),
            "setting 'net.ipv4.ip_forward' cannot be '2': it takes 0 to 1"
        );
        assert!(message(COUNT, "0").starts_with("setting 'net.netfilter.nf_conntrack_count' only tells"));
    }
}
