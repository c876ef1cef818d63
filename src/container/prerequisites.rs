//! What the kernel and the system must allow, and the command that mends each lack.

use std::fs;

const APPARMOR: &str = "kernel.apparmor_restrict_unprivileged_userns";

/// The current value of a kernel setting such as `user.max_user_namespaces`; `None` when this
/// kernel has none of that name.
pub fn kernel_setting(key: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/sys/{}", key.replace('.', "/"))).ok()?;
    Some(text.split_ascii_whitespace().collect::<Vec<_>>().join(" "))
}

/// Whether a seccomp filter is on this process (`Seccomp: 2` in `/proc/self/status`).
pub fn seccomp_filtered() -> bool {
    fs::read_to_string("/proc/self/status").is_ok_and(|status| {
        status.lines().filter_map(|line| line.strip_prefix("Seccomp:")).any(|mode| mode.trim() == "2")
    })
}

/// The line that most likely makes user namespaces usable, found by looking at what can forbid them.
pub fn mend_user_namespaces() -> String {
    let root = nix::unistd::geteuid().is_root();
    mend_for(&kernel_setting, root, seccomp_filtered())
}

fn mend_for(setting: &dyn Fn(&str) -> Option<String>, root: bool, seccomp: bool) -> String {
    let is = |key: &str, value: &str| setting(key).as_deref() == Some(value);
    if is("user.max_user_namespaces", "0") {
        return "sudo sysctl -w user.max_user_namespaces=15000".to_owned();
    }
    if !root && is("kernel.unprivileged_userns_clone", "0") {
        return "sudo sysctl -w kernel.unprivileged_userns_clone=1".to_owned();
    }
    if !root && is(APPARMOR, "1") {
        return format!("sudo sysctl -w {APPARMOR}=0");
    }
    if seccomp {
        return "a seccomp filter is active: start the surrounding container with \
                --security-opt seccomp=unconfined (docker, podman) or --privileged"
            .to_owned();
    }
    "run as root, or outside of the surrounding sandbox or chroot".to_owned()
}

/// The apt line that brings a well-known network tool, when its program was not found.
pub fn apt_line(program: &str) -> Option<String> {
    let package = match program {
        "ping" | "ping6" => "iputils-ping",
        "arping" => "iputils-arping",
        "tracepath" => "iputils-tracepath",
        "ip" | "ss" | "tc" | "bridge" => "iproute2",
        "traceroute" | "traceroute6" => "traceroute",
        "mtr" => "mtr-tiny",
        "ifconfig" | "route" | "netstat" | "arp" => "net-tools",
        "dig" | "nslookup" | "host" => "dnsutils",
        "nc" | "netcat" => "netcat-openbsd",
        "curl" | "wget" | "iperf3" | "tcpdump" | "nmap" | "socat" | "ethtool" => program,
        _ => return None,
    };
    Some(format!("apt-get install -y {package}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mend_is_that_of_what_is_switched_off() {
        let only = |name: &'static str, value: &'static str| {
            move |key: &str| (key == name).then(|| value.to_owned())
        };
        let cases: [(&str, &str, bool, &str); 5] = [
            ("user.max_user_namespaces", "0", true, "user.max_user_namespaces=15000"),
            ("kernel.unprivileged_userns_clone", "0", false, "kernel.unprivileged_userns_clone=1"),
            ("kernel.unprivileged_userns_clone", "0", true, "run as root, or outside"),
            (APPARMOR, "1", false, "kernel.apparmor_restrict_unprivileged_userns=0"),
            ("user.max_user_namespaces", "100", false, "run as root, or outside"),
        ];
        for (key, value, root, expected) in cases {
            let mend = mend_for(&only(key, value), root, false);
            assert!(mend.contains(expected), "{key}={value}: {mend}");
        }
        assert!(mend_for(&|_| None, false, true).contains("seccomp=unconfined"));
    }

    #[test]
    fn tools_name_their_package() {
        assert_eq!(apt_line("ping").as_deref(), Some("apt-get install -y iputils-ping"));
        assert_eq!(apt_line("tcpdump").as_deref(), Some("apt-get install -y tcpdump"));
        assert_eq!(apt_line("frobnicate"), None);
    }
}
