//! Docker's commands that we have under another name, or not at all: the line to type instead.

use std::ffi::{OsStr, OsString};

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
    (&["compose", "docker-compose"], "a lab is a TOML file: 'tapswitch up LAB.toml'"),
    (&["swarm", "service", "stack", "node", "secret", "config", "context", "plugin", "trust"], NO_SWARM),
];

const NO_IPAM: &str = "addresses are handed out in one way, the lowest first, which has no options";
const NO_FILES: &str = "it sees this machine's files, there is nothing to mount";
const NO_USERS: &str = "who runs it is root inside: 'su NAME -c LINE' as the command changes that";
const NOT_CONFINED: &str = "our containers isolate networks, they confine nobody";

/// Flags that a command of Docker's has and ours has not; of no command: those before it.
const FLAGS: &[(&str, &[&str], &str)] = &[
    ("run", &["-v", "--volume", "--mount", "--tmpfs", "--volumes-from"], NO_FILES),
    ("run", &["-u", "--user"], NO_USERS),
    ("exec", &["-u", "--user"], NO_USERS),
    ("run", &["--entrypoint"], "there is no image whose command it could replace: give the command itself"),
    (
        "run",
        &["-m", "--memory", "--cpus", "-c", "--cpu-shares", "--pids-limit"],
        "nothing is rationed but ports",
    ),
    ("run", &["--restart"], "a container that has ended stays so: 'tapswitch start NAME' starts it again"),
    ("run", &["--cap-drop", "--security-opt", "--read-only"], NOT_CONFINED),
    ("run", &["--env-file"], "give each variable as -e KEY=VALUE"),
    ("run", &["--pid", "--ipc", "--uts", "--userns", "--cgroupns"], "these namespaces are always its own"),
    ("start", &["-a", "--attach", "-i", "--interactive"], "'tapswitch logs -f NAME' prints what it writes"),
    ("network create", &["--ipam-opt"], NO_IPAM),
    ("network create", &["--config-only", "--config-from"], "give each network its options itself"),
    ("network create", &["--ingress"], NO_SWARM),
    ("network connect", &["--driver-opt", "--gw-priority"], "an endpoint on a bridge has no options"),
    ("network connect", &["--link-local-ip"], "'tapswitch exec NAME ip addr add ..' adds an address to it"),
    ("run", &["--link-local-ip"], "'tapswitch exec NAME ip addr add ..' adds an address to it"),
    ("ps", &["-s", "--size"], "a container of ours has no files of its own to measure"),
    ("logs", &["-n", "--tail"], "'tapswitch logs NAME' prints all of it, for tail to cut"),
    ("", &["-d"], "the daemon is a command, with the same flags: 'tapswitch daemon -d'"),
    ("", &["-H", "--host"], "'tapswitch --socket PATH ps' asks another daemon"),
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

/// The line to type instead of what clap did not understand, where Docker would have.
pub fn line(error: &clap::Error, words: &[OsString]) -> Option<String> {
    let said = |kind| match error.get(kind) {
        Some(ContextValue::String(word)) => Some(word.as_str()),
        _ => None,
    };
    let found = match error.kind() {
        ErrorKind::InvalidSubcommand => {
            let word = said(ContextKind::InvalidSubcommand)?;
            COMMANDS.iter().find(|(names, _)| names.contains(&word)).map(|(_, mend)| (word, *mend))
        }
        ErrorKind::UnknownArgument => {
            let word = said(ContextKind::InvalidArg)?;
            let has = |part: &str| words.iter().any(|word| word == part);
            let of = |command: &str| command.split_whitespace().all(has);
            let found = FLAGS.iter().find(|(command, flags, _)| of(command) && flags.contains(&word));
            found.map(|(.., mend)| (word, *mend))
        }
        _ => None,
    };
    found.map(|(word, mend)| format!("no '{word}': {mend}"))
}

fn is_flag(word: &OsStr) -> bool {
    word.as_encoded_bytes().starts_with(b"-")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn nothing_that_we_have_is_refused() {
        let ours = crate::cli::Cli::command();
        for name in COMMANDS.iter().flat_map(|(names, _)| *names) {
            assert!(ours.find_subcommand(name).is_none(), "{name}");
        }
        for (name, flags, _) in FLAGS {
            let within = |command, part| clap::Command::find_subcommand(command, part).unwrap();
            let command = name.split_whitespace().fold(&ours, within);
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
