//! Docker's commands that we have under another name, or not at all: the line to type instead.

use std::ffi::{OsStr, OsString};

use clap::CommandFactory;
use clap::error::{ContextKind, ContextValue, ErrorKind};

const NO_IMAGES: &str = "there are no images here, containers run this machine's programs: \
     'tapswitch run -it bash' runs one";
const NO_VOLUMES: &str = "a container of ours sees this machine's files, there is nothing to mount";
const NO_SWARM: &str = "a switch is of one machine: 'tapswitch network create NAME' makes a network on it";

/// Commands that Docker has and we have not.
const COMMANDS: &[(&[&str], &str)] = &[
    (
        &["images", "image", "pull", "push", "build", "builder", "buildx", "commit", "tag", "search"],
        NO_IMAGES,
    ),
    (&["rmi", "save", "load", "import", "export", "history", "login", "logout", "manifest"], NO_IMAGES),
    (
        &["attach"],
        "'tapswitch exec -it NAME bash' gives a shell in it, 'tapswitch logs -f NAME' what its command prints",
    ),
    (&["create"], "'tapswitch run -d --name NAME' makes and starts a container in one"),
    (&["rename"], "a container keeps its name: 'tapswitch rm -f OLD', then 'tapswitch run --name NEW'"),
    (&["update"], "'tapswitch network set NAME -o KEY=VALUE' changes a network while it runs"),
    (&["pause", "unpause"], "'tapswitch port set NAME down' stops its frames, 'up' lets them pass again"),
    (&["top"], "'tapswitch exec NAME ps aux' lists its processes"),
    (&["stats"], "'tapswitch show ports' has the counters of every port"),
    (&["diff", "cp"], "a container of ours sees this machine's files: copy them here"),
    (&["info", "system"], "'tapswitch status' tells of the daemon, 'tapswitch preflight' of this machine"),
    (&["version"], "'tapswitch --version' tells ours, 'tapswitch status' the daemon's"),
    (&["events"], "'tapswitch conntrack -E' tells of flows as they come, 'tapswitch capture' of frames"),
    (&["prune"], "'tapswitch rm NAME' forgets one that has ended, 'tapswitch network prune' unused networks"),
    (&["volume"], NO_VOLUMES),
    (&["container"], "its commands are the top ones: 'tapswitch ps -a' lists containers"),
    (&["compose", "docker-compose"], "a lab is a TOML file: 'tapswitch up LAB.toml'"),
    (&["swarm", "service", "stack", "node", "secret", "config", "context", "plugin", "trust"], NO_SWARM),
];

const NO_FILES: &str = "it sees this machine's files, there is nothing to mount";
const NO_USERS: &str = "who runs it is root inside: 'su NAME -c LINE' as the command changes that";
const NOT_CONFINED: &str = "our containers isolate networks, they confine nobody";
const NOT_RATIONED: &str =
    "nothing is rationed here: 'nice', 'ulimit' or 'systemd-run' before the line do that";
const NO_DRIVER: &str =
    "a container of ours has this machine's devices and files, and one log: 'tapswitch logs NAME'";
const NO_IPAM: &str =
    "the switch hands addresses out itself: --subnet, --ip-range and --aux-address say which";
const NO_TEMPLATE: &str = "networks are made by flags here, or by a lab: 'tapswitch up LAB.toml'";

/// Flags that a command of Docker's has and ours has not; of no command: those before it.
const FLAGS: &[(&str, &[&str], &str)] = &[
    ("run", &["-v", "--volume", "--mount", "--tmpfs", "--volumes-from", "--volume-driver"], NO_FILES),
    ("run", &["-u", "--user", "--group-add"], NO_USERS),
    ("exec", &["-u", "--user"], NO_USERS),
    ("exec", &["-d", "--detach"], "'tapswitch exec NAME CMD &' runs it in the background"),
    ("run", &["--entrypoint"], "there is no image whose command it could replace: give the command itself"),
    ("run", &["--pull", "--platform", "--disable-content-trust", "--runtime"], NO_IMAGES),
    (
        "run",
        &["-m", "--memory", "--memory-swap", "--cpus", "--cpuset-cpus", "-c", "--cpu-shares"],
        NOT_RATIONED,
    ),
    (
        "run",
        &["--pids-limit", "--ulimit", "--shm-size", "--blkio-weight", "--oom-kill-disable"],
        NOT_RATIONED,
    ),
    ("run", &["--device", "--gpus", "--log-driver", "--storage-opt", "--cidfile"], NO_DRIVER),
    ("run", &["--restart"], "a container that has ended stays so: 'tapswitch start NAME' starts it again"),
    ("run", &["--stop-signal", "--stop-timeout"], "'tapswitch stop -t 30 NAME' says how long it may take"),
    ("run", &["--health-cmd", "--health-interval", "--no-healthcheck"], "'tapswitch exec NAME CMD' asks it"),
    ("run", &["-a", "--attach"], "without -d all is attached, with it 'tapswitch logs -f NAME' prints"),
    (
        "run",
        &["--dns-option", "--dns-opt", "--dns-search"],
        "'tapswitch daemon --dns-opt .. --dns-search ..' sets them for all",
    ),
    ("run", &["--cap-drop", "--security-opt", "--read-only", "--cgroup-parent"], NOT_CONFINED),
    (
        "run",
        &["--env-file", "--label-file"],
        "give each variable as -e KEY=VALUE, each label as -l KEY=VALUE",
    ),
    ("run", &["--pid", "--ipc", "--uts", "--userns", "--cgroupns"], "these namespaces are always its own"),
    ("create", &["--ingress"], "every container may join a network of this switch"),
    ("create", &["--config-only", "--config-from"], NO_TEMPLATE),
    ("create", &["--ipam-opt"], NO_IPAM),
    (
        "connect",
        &["--link-local-ip", "--driver-opt", "--gw-priority"],
        "an endpoint has no options, and 'tapswitch exec NAME ip addr add ..' gives it an address",
    ),
    ("start", &["-a", "--attach", "-i", "--interactive"], "'tapswitch logs -f NAME' prints what it writes"),
    ("logs", &["-n", "--tail"], "'tapswitch logs NAME' prints all of it: pipe that to 'tail -n 5'"),
    (
        "logs",
        &["--since", "--until", "-t", "--timestamps"],
        "'tapswitch logs NAME' prints all of it, which has no times",
    ),
    ("ps", &["-s", "--size"], "containers have no files of their own"),
    ("inspect", &["-s", "--size"], "containers have no files of their own"),
    ("rm", &["-l", "--link"], "'tapswitch unlink NAME ALIAS' takes a link away"),
    ("", &["-d", "-D", "--debug"], "the daemon is a command: 'tapswitch daemon -d'"),
    ("", &["-v"], "'tapswitch --version' tells it"),
    ("", &["-H", "--host", "-c", "--context"], "'tapswitch --socket PATH ps' asks another daemon"),
    (
        "",
        &["-l", "--log-level", "--config", "--tls", "--tlsverify"],
        "'tapswitch --help' lists the flags of all commands",
    ),
];

const NO_LAN: &str = "'tapswitch uplink add lan --interface eth0 --ip 10.0.0.50/24' makes the switch one station of a real \
     link, and driver 'bridge' networks behind it";
const ONE_EACH: &str = "there is one network of it already, and no other can be made";

/// Drivers of networks that Docker has and we have not.
const DRIVERS: &[(&[&str], &str)] = &[
    (&["macvlan", "ipvlan"], NO_LAN),
    (&["overlay"], "a switch is of one machine: driver 'bridge' makes a network on it"),
    (&["host", "null", "none"], ONE_EACH),
];

/// The words as we have them: `container ls` is `ps`, and every other `container X` is `X`.
pub fn without_group(words: Vec<OsString>) -> Vec<OsString> {
    let mut words = words;
    if words.get(1).is_some_and(|word| word == "container") && words.get(2).is_some_and(|next| !is_flag(next))
    {
        words.remove(1);
        if let Some(word) = words.get_mut(1).filter(|word| *word == "ls" || *word == "list") {
            *word = "ps".into();
        }
    }
    words
}

/// The line for what clap did not understand: what to type instead, where Docker would have understood.
pub fn line(error: &clap::Error, words: &[OsString]) -> Option<String> {
    let said = |kind| match error.get(kind) {
        Some(ContextValue::String(word)) => Some(word.as_str()),
        Some(ContextValue::Strings(words)) => words.first().map(String::as_str),
        _ => None,
    };
    let (path, is_before) = asked(words);
    match error.kind() {
        ErrorKind::InvalidSubcommand => {
            let word = said(ContextKind::InvalidSubcommand)?;
            let found = COMMANDS.iter().find(|(names, _)| names.contains(&word)).map(|(_, mend)| *mend);
            Some(match (found, said(ContextKind::SuggestedSubcommand)) {
                (Some(mend), _) => format!("no '{word}': {mend}"),
                (None, Some(like)) => format!("no '{word}': did you mean '{path} {like}'?"),
                (None, None) => format!("no '{word}': '{path} --help' lists what there is"),
            })
        }
        ErrorKind::UnknownArgument => {
            let word = said(ContextKind::InvalidArg)?;
            let command = path.rsplit(' ').next().filter(|_| !is_before(word)).unwrap_or_default();
            let fits = |of: &str| if of.is_empty() { is_before(word) } else { of == command };
            let found = FLAGS.iter().find(|(of, flags, _)| fits(of) && flags.contains(&word));
            Some(match (found, said(ContextKind::SuggestedArg)) {
                (Some((.., mend)), _) => format!("no '{word}': {mend}"),
                (None, Some(like)) => format!("'{path}' has no '{word}': did you mean '{like}'?"),
                (None, None) => format!("'{path}' takes no '{word}': '{path} --help' lists what it takes"),
            })
        }
        ErrorKind::InvalidValue if said(ContextKind::InvalidArg)?.starts_with("--driver ") => {
            let word = said(ContextKind::InvalidValue)?;
            let (_, mend) = DRIVERS.iter().find(|(names, _)| names.contains(&word))?;
            Some(format!("no '--driver {word}': {mend}"))
        }
        _ => None,
    }
}

/// The command that a line is for, as `tapswitch network create`, and whether a flag stands before all of it.
fn asked(words: &[OsString]) -> (String, impl Fn(&str) -> bool) {
    let (mut path, mut command) = ("tapswitch".to_owned(), super::Cli::command());
    let mut first = words.len();
    for (at, word) in words.iter().enumerate().skip(1) {
        let found = word.to_str().and_then(|word| command.find_subcommand(word)).cloned();
        let Some(found) = found else { continue };
        (path, first) = (format!("{path} {}", found.get_name()), first.min(at));
        command = found;
    }
    let before = words[..first].to_vec();
    (path, move |flag: &str| before.iter().any(|word| word.as_encoded_bytes().starts_with(flag.as_bytes())))
}

fn is_flag(word: &OsStr) -> bool {
    word.as_encoded_bytes().starts_with(b"-")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said of a line that clap does not understand.
    fn said(line: &str) -> String {
        let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        let error = <crate::cli::Cli as clap::Parser>::try_parse_from(&words).unwrap_err();
        super::line(&error, &words).unwrap_or_else(|| panic!("{line}: {error}"))
    }

    #[test]
    fn one_line_says_what_to_type() {
        for (line, expected) in [
            ("tapswitch -d", "no '-d': the daemon is a command: 'tapswitch daemon -d'"),
            (
                "tapswitch exec -d one sleep 1",
                "no '-d': 'tapswitch exec NAME CMD &' runs it in the background",
            ),
            ("tapswitch -v", "no '-v': 'tapswitch --version' tells it"),
            (
                "tapswitch run -v /a:/b ubuntu",
                "no '-v': it sees this machine's files, there is nothing to mount",
            ),
            (
                "tapswitch ps --foo",
                "'tapswitch ps' takes no '--foo': 'tapswitch ps --help' lists what it takes",
            ),
            ("tapswitch ps --al", "'tapswitch ps' has no '--al': did you mean '--all'?"),
            (
                "tapswitch network create a b",
                "'tapswitch network create' takes no 'b': 'tapswitch network create --help' lists what it takes",
            ),
            (
                "tapswitch network create --ingress a",
                "no '--ingress': every container may join a network of this switch",
            ),
            ("tapswitch network crate a", "no 'crate': did you mean 'tapswitch network create'?"),
            ("tapswitch zzz", "no 'zzz': 'tapswitch --help' lists what there is"),
            (
                "tapswitch container",
                "no 'container': its commands are the top ones: 'tapswitch ps -a' lists containers",
            ),
        ] {
            assert_eq!(said(line), expected);
        }
        for (driver, mend) in
            [("macvlan", "tapswitch uplink add"), ("overlay", "'bridge'"), ("host", "one network")]
        {
            let line = said(&format!("tapswitch network create -d {driver} x"));
            assert!(line.starts_with(&format!("no '--driver {driver}': ")) && line.contains(mend), "{line}");
        }
    }

    #[test]
    fn nothing_that_we_have_is_refused() {
        let ours = crate::cli::Cli::command();
        for name in COMMANDS.iter().flat_map(|(names, _)| *names) {
            assert!(ours.find_subcommand(name).is_none(), "{name}");
        }
        for (name, flags, _) in FLAGS {
            let network = ours.find_subcommand("network").unwrap();
            let command =
                ours.find_subcommand(name).or_else(|| network.find_subcommand(name)).unwrap_or(&ours);
            assert!(name.is_empty() || command.get_name() == *name, "{name}");
            for flag in *flags {
                let letter = flag.strip_prefix('-').and_then(|rest| rest.chars().next());
                let has = command.get_arguments().any(|argument| match flag.strip_prefix("--") {
                    Some(long) => argument.get_long() == Some(long),
                    None => argument.get_short() == letter,
                });
                assert!(!has, "{name} {flag}");
            }
        }
    }

    #[test]
    fn what_is_to_be_typed_instead_can_be_typed() {
        let mends = COMMANDS.iter().map(|(_, mend)| *mend).chain(FLAGS.iter().map(|(.., mend)| *mend));
        let lines = mends.flat_map(|mend| mend.split('\'').filter(|part| part.starts_with("tapswitch ")));
        let lines: Vec<&str> = lines.collect();
        assert!(lines.len() > 12, "{lines:?}");
        for line in lines {
            let read = <crate::cli::Cli as clap::Parser>::try_parse_from(line.split(' '));
            let kind = read.err().map(|error| error.kind());
            assert!(matches!(kind, None | Some(ErrorKind::DisplayVersion)), "{line}: {kind:?}");
        }
    }

    #[test]
    fn the_group_of_containers_is_the_top() {
        for (line, ours) in [
            ("tapswitch container ls -a", "tapswitch ps -a"),
            ("tapswitch container run -d x", "tapswitch run -d x"),
            ("tapswitch container --help", "tapswitch container --help"),
            ("tapswitch ps", "tapswitch ps"),
        ] {
            let words = line.split(' ').map(OsString::from).collect();
            assert_eq!(without_group(words).join(OsStr::new(" ")), ours);
        }
    }
}
