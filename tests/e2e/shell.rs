//! `tapswitch shell`: whose names are found there, what they do, and what is left of it.

use std::fs;
use std::io::{Read, Write};
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::{Lab, is_alive, succeeded, text, until};

scenarios! {
    our_names_come_first
    nothing_is_left_of_it
    what_is_not_ours_is_this_machines
    an_interactive_shell_says_where_it_is
    ctrl_c_is_the_shells_own
    inside_containers_all_is_ordinary
    nothing_of_this_machines_is_changed
    without_a_terminal
    zsh_reads_all_files_of_its_users
    what_hangs_on_the_kernels_interfaces_is_told
}

/// What a line prints in the shell, which must succeed.
#[track_caller]
fn prints(lab: &Lab, line: &str) -> String {
    succeeded(line, &lab.types(line))
}

/// What a line is refused with.
#[track_caller]
fn refuses(lab: &Lab, line: &str) -> String {
    let output = lab.types(line);
    assert_eq!(output.status.code(), Some(2), "{line}: {output:?}");
    let said = text(&output.stderr);
    assert_eq!(said.lines().count(), 1, "{said}");
    said
}

/// Directories of shells that are there.
fn places(lab: &Lab) -> usize {
    let entries = fs::read_dir(lab.socket().parent().unwrap()).unwrap().flatten();
    entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("shell-")).count()
}

fn our_names_come_first(lab: &Lab) {
    let first = lab.types("docker network ls");
    assert!(
        text(&first.stdout)
            .starts_with("NETWORK ID          NAME                DRIVER              SCOPE\n")
    );
    assert!(text(&first.stderr).starts_with("tapswitch: started a daemon at "), "{first:?}");
    let place = prints(lab, "dirname $(command -v docker)");
    for name in ["brctl", "bridge", "conntrack", "iptables", "sudo", "sysctl", "tapswitch", "tcpdump"] {
        assert_ne!(place, "", "{name}");
        let found = prints(lab, &format!("command -v {name}; stat -c %a $(dirname $(command -v {name}))"));
        assert!(found.ends_with(&format!("/{name}\n700\n")) && found.contains("/run/shell-"), "{found}");
    }
    assert_eq!(prints(lab, "echo $TAPSWITCH_SOCKET"), format!("{}\n", lab.socket().display()));
    assert_eq!(prints(lab, "sudo sysctl net.ipv4.ip_forward"), "net.ipv4.ip_forward = 1\n");
    assert_eq!(
        prints(lab, "sysctl -w net.ipv4.ip_forward=0 && sysctl -n net.ipv4.ip_forward").lines().last(),
        Some("0")
    );
    assert_eq!(lab.ok("sysctl net.ipv4.conf.all.forwarding"), "net.ipv4.conf.all.forwarding = 0\n");
    let nested = prints(lab, "tapswitch shell -c 'docker ps -q; tcpdump --version 2>&1 | head -1'");
    let own = lab.command(&["sh", "-c", "command -v tcpdump"]).output().unwrap();
    if own.status.success() {
        let own = format!("this machine's own tcpdump is {}", text(&own.stdout));
        assert!(nested.ends_with(&own), "not ourselves once more: {nested}");
    }
}

fn nothing_is_left_of_it(lab: &Lab) {
    lab.daemon("");
    assert_eq!(lab.types("exit 7").status.code(), Some(7));
    assert_eq!(lab.types("kill -9 $$").status.code(), Some(137));
    assert_eq!(lab.words(&["shell", "--", "sh", "-c", "docker ps -q; exit 3"]).status.code(), Some(3));
    let missing = lab.words(&["shell", "--", "no-such-program"]);
    assert!(text(&missing.stderr).starts_with("tapswitch: cannot run no-such-program"), "{missing:?}");
    assert_eq!(places(lab), 0);
    // Told to end, it ends its shell; killed, it leaves a directory, which the next one takes away.
    for (signal, left) in [(Signal::SIGTERM, 0), (Signal::SIGKILL, 1)] {
        let mut shell = lab.start(lab.tapswitch(&["shell", "--", "sleep", "1000"]));
        let asleep = || lab.processes().into_iter().find(|pid| comm(*pid) == "sleep\n");
        until("the shell", || asleep().is_some());
        let sleeping = asleep().unwrap();
        shell.signal(signal);
        shell.code();
        assert_eq!(places(lab), left, "{signal}");
        if signal == Signal::SIGKILL {
            kill(sleeping, Signal::SIGKILL).unwrap();
        }
        until("the end of what it ran", || !is_alive(sleeping));
    }
    prints(lab, "true");
    assert_eq!(places(lab), 0);
}

fn comm(pid: Pid) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default()
}

fn what_is_not_ours_is_this_machines(lab: &Lab) {
    lab.daemon("");
    assert_eq!(prints(lab, "sysctl -n kernel.ostype"), "Linux\n");
    assert!(prints(lab, "brctl show").contains("\ndocker0\t\t8000."));
    let refused = refuses(lab, "iptables -A INPUT -j DROP");
    assert!(
        refused.starts_with("tapswitch: iptables: ") && refused.contains("tapswitch rule add"),
        "{refused}"
    );
    let own = lab.command(&["sh", "-c", "command -v conntrack"]).output().unwrap();
    let refused = refuses(lab, "conntrack -F");
    assert!(refused.contains("'-F'"), "{refused}");
    if own.status.success() {
        let line = format!("this machine's own conntrack is {}", text(&own.stdout));
        assert!(refused.ends_with(&line), "{refused}");
    }
}

fn an_interactive_shell_says_where_it_is(lab: &Lab) {
    lab.daemon("");
    let home = lab.path().join("home");
    fs::create_dir(&home).unwrap();
    // The user's own settings hold, but for what would hide our names.
    fs::write(home.join(".bashrc"), "PS1='mine> '; PATH=/usr/bin:/bin\n").unwrap();
    fs::write(home.join(".zshrc"), "PROMPT='mine> '; PATH=/usr/bin:/bin\n").unwrap();
    fs::write(home.join("shrc"), "PS1='mine> '; PATH=/usr/bin:/bin\n").unwrap();
    fs::create_dir_all(home.join(".config/fish")).unwrap();
    // As if fish had read the manual pages already, which it does in the background.
    fs::create_dir_all(home.join("data/fish/generated_completions")).unwrap();
    fs::write(home.join(".config/fish/config.fish"), "function fish_prompt; echo -n 'mine> '; end\n")
        .unwrap();
    for shell in ["bash", "zsh", "fish", "dash"] {
        let path = format!("/usr/bin/{shell}");
        if !fs::exists(&path).unwrap() {
            crate::harness::skip(&format!("{shell} is not installed"));
            continue;
        }
        let line = format!("{} shell", lab.program().display());
        let mut command = lab.command(&["timeout", "60", "script", "-qec", &line, "/dev/null"]);
        command.env("SHELL", &path).env("HOME", &home).env("ENV", home.join("shrc"));
        command.env("XDG_CONFIG_HOME", home.join(".config")).env("XDG_DATA_HOME", home.join("data"));
        let typed = home.join("typed");
        fs::write(&typed, "docker network ls\nexit\n").unwrap();
        let output = command.stdin(fs::File::open(&typed).unwrap()).output().unwrap();
        let printed = text(&output.stdout);
        assert!(printed.contains("(tapswitch) ") && printed.contains("mine> "), "{shell}: {printed:?}");
        assert!(printed.contains("NETWORK ID          NAME"), "{shell}: {printed:?}");
    }
}

fn ctrl_c_is_the_shells_own(lab: &Lab) {
    lab.daemon("");
    let line = format!("{} shell", lab.program().display());
    let mut command = lab.command(&["timeout", "60", "script", "-qec", &line, "/dev/null"]);
    command.env("SHELL", "/bin/bash").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut shell = lab.start(command);
    let mut keys = shell.0.stdin.take().unwrap();
    let asleep = || lab.processes().into_iter().any(|pid| comm(pid) == "sleep\n");
    keys.write_all(b"sleep 1000\n").unwrap();
    until("a command in the shell", asleep);
    keys.write_all(b"\x03").unwrap();
    until("the end of the command", || !asleep());
    keys.write_all(b"docker network ls; exit 5\n").unwrap();
    assert_eq!(shell.code(), Some(5));
    let mut printed = String::new();
    shell.0.stdout.take().unwrap().read_to_string(&mut printed).unwrap();
    assert!(printed.contains("NETWORK ID          NAME"), "{printed}");
    assert_eq!(places(lab), 0);
}

fn inside_containers_all_is_ordinary(lab: &Lab) {
    prints(lab, "docker run -d --name box");
    let usual = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n";
    assert_eq!(prints(lab, "docker exec box sh -c 'echo $PATH$TAPSWITCH_SOCKET'"), usual);
    assert_eq!(prints(lab, "docker run --rm -- sh -c 'echo $PATH$TAPSWITCH_SOCKET'"), usual);
    // The setting is the container's own, not the switch's.
    lab.ok("sysctl net.ipv4.ip_forward=0");
    assert_eq!(prints(lab, "docker exec box sysctl -n net.ipv4.ip_forward"), "1\n");
}

/// What sets something, however it is written, sets it at the switch or nowhere.
fn nothing_of_this_machines_is_changed(lab: &Lab) {
    lab.daemon("");
    let own = || fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap();
    let before = own();
    for (line, value) in [
        ("sysctl -q -w net.ipv4.ip_forward=0", "0\n"),
        ("sudo sysctl -qew net.ipv4.ip_forward=1", "1\n"),
        ("sysctl --write --quiet net/ipv4/ip_forward=0", "0\n"),
    ] {
        assert_eq!(prints(lab, line), "", "{line}");
        assert_eq!(prints(lab, "sysctl -n net.ipv4.ip_forward"), value, "{line}");
        assert_eq!(own(), before, "{line}");
    }
    for line in ["sysctl --nosuch -w net.ipv4.ip_forward=1", "sysctl -p", "sysctl -w net.ipv4.ip_forward = 1"]
    {
        refuses(lab, line);
    }
    assert_eq!((prints(lab, "sysctl -n net.ipv4.ip_forward").as_str(), own()), ("0\n", before));
    // In a list of many ours stand in the places of this machine's.
    for line in ["sysctl -a 2>/dev/null", "sysctl -a -r forward 2>/dev/null", "sysctl net.ipv4 2>/dev/null"] {
        let listed = text(&lab.types(line).stdout);
        let forwards: Vec<&str> =
            listed.lines().filter(|line| line.starts_with("net.ipv4.ip_forward = ")).collect();
        assert_eq!(forwards, ["net.ipv4.ip_forward = 0"], "{line}");
    }
    for (line, mend) in [
        ("ip link add name tapswitch0 type bridge", "tapswitch network create"),
        ("ip link set docker0 down", "tapswitch port set"),
        ("ip addr add 10.9.0.1/24 dev docker0", "tapswitch network create --subnet"),
        ("iptables -F", "tapswitch rule"),
        ("iptables-restore", "tapswitch rule add"),
        ("brctl addbr br0", "tapswitch network create -o bridge_name=br0 br0"),
        ("conntrack -F", "'conntrack -D' forgets all flows"),
    ] {
        let refused = refuses(lab, line);
        assert!(refused.contains(mend), "{line}: {refused}");
    }
    assert!(!fs::exists("/sys/class/net/tapswitch0").unwrap());
}

fn without_a_terminal(lab: &Lab) {
    lab.daemon("");
    for shell in ["bash", "zsh", "fish", "dash"] {
        let path = format!("/usr/bin/{shell}");
        if !fs::exists(&path).unwrap() {
            crate::harness::skip(&format!("{shell} is not installed"));
            continue;
        }
        let mut command = lab.tapswitch(&["shell"]);
        command.env("SHELL", &path).env("HOME", lab.path());
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut shell = lab.start(command);
        shell.0.stdin.take().unwrap().write_all(b"docker network ls -q | wc -l\nexit 4\n").unwrap();
        let mut printed = String::new();
        shell.0.stdout.take().unwrap().read_to_string(&mut printed).unwrap();
        assert_eq!((printed.trim(), shell.code()), ("3", Some(4)), "{path}");
    }
    let mut command = lab.tapswitch(&["shell"]);
    let missing = command.env("SHELL", "/no/shell").output().unwrap();
    assert_eq!(missing.status.code(), Some(127));
    assert!(
        text(&missing.stderr).starts_with("tapswitch: cannot run /no/shell ($SHELL): No such file"),
        "{missing:?}"
    );
    assert_eq!(places(lab), 0);
}

/// `.zshenv` is read as well, and may say where the others are.
fn zsh_reads_all_files_of_its_users(lab: &Lab) {
    if !fs::exists("/usr/bin/zsh").unwrap() {
        return crate::harness::skip("zsh is not installed");
    }
    lab.daemon("");
    let home = lab.path().join("home");
    fs::create_dir_all(home.join("zsh")).unwrap();
    fs::write(home.join(".zshenv"), "ZDOTDIR=$HOME/zsh; from_zshenv=yes\n").unwrap();
    fs::write(home.join("zsh/.zshrc"), "PROMPT='mine> '; HISTFILE=$ZDOTDIR/history; SAVEHIST=9\n").unwrap();
    let line = format!("{} shell", lab.program().display());
    let mut command = lab.command(&["timeout", "60", "script", "-qec", &line, "/dev/null"]);
    command.env("SHELL", "/usr/bin/zsh").env("HOME", &home);
    let typed = home.join("typed");
    fs::write(&typed, "docker network ls; echo env=$from_zshenv hist=$HISTFILE\nexit\n").unwrap();
    let output = command.stdin(fs::File::open(&typed).unwrap()).output().unwrap();
    let printed = text(&output.stdout);
    let expected = format!("env=yes hist={}/zsh/history", home.display());
    for part in ["(tapswitch) mine> ", "NETWORK ID          NAME", &expected] {
        assert!(printed.contains(part), "{part}: {printed:?}");
    }
}

fn what_hangs_on_the_kernels_interfaces_is_told(lab: &Lab) {
    lab.daemon("");
    lab.ok("network create --subnet 10.1.0.0/24 -o bridge_name=br7 net1");
    lab.idle("one", "net1");
    let veth = lab.row("show ports", "container", "one")["alias"].as_str().unwrap().to_owned();
    for (line, mend) in [
        (format!("ethtool -S {veth}"), "tapswitch show ports"),
        (format!("ifconfig {veth}"), "ip address show"),
        (format!("ip -s link show {veth}"), "tapswitch show ports"),
        ("tcpdump -A -i br7".to_owned(), " -r - FLAGS'"),
    ] {
        let refused = refuses(lab, &line);
        assert!(refused.contains(mend), "{line}: {refused}");
    }
    // By the bridge's own name as well.
    let one = prints(lab, "ip -o -4 addr show br7");
    assert!(
        one.ends_with(
            ": br7    inet 10.1.0.1/24 scope global br7\\       valid_lft forever preferred_lft forever\n"
        ),
        "{one}"
    );
    assert!(
        prints(lab, "iptables-save -t nat")
            .contains("\n-A POSTROUTING -s 10.1.0.0/24 ! -o br7 -j MASQUERADE\n")
    );
    assert!(prints(lab, "sudo -E brctl show br7").contains(&veth));
    assert!(prints(lab, "brctl --version").starts_with("brctl of tapswitch "));
}
