//! Completions, in the shells themselves.

use crate::harness::{Lab, skip, succeeded, text};

scenarios! {
    bash_completes
    zsh_takes_the_script
    fish_completes
}

/// A shell that runs a line and reads no file of a user's.
fn run(lab: &Lab, shell: &[&str], line: &str) -> Option<String> {
    if !lab.command(&["sh", "-c", &format!("command -v {}", shell[0])]).output().unwrap().status.success() {
        skip(&format!("{} is not installed", shell[0]));
        return None;
    }
    let mut command = lab.command(&[shell, &["-c", line]].concat());
    let home = lab.path().display().to_string();
    command
        .env("TS", lab.program())
        .env("HOME", &home)
        .env("XDG_CONFIG_HOME", &home)
        .env("XDG_DATA_HOME", &home);
    Some(succeeded(line, &command.output().unwrap()))
}

/// A container `alice` on network `net1`.
fn alice(lab: &Lab) {
    lab.daemon("");
    lab.ok("network create net1");
    lab.idle("alice", "net1");
}

fn bash_completes(lab: &Lab) {
    alice(lab);
    let bash = ["bash", "--norc"];
    if run(lab, &bash, "$TS completion bash | bash -n && $TS completion bash docker | bash -n").is_none() {
        return;
    }
    for (words, expected) in [
        ("tapswitch netw", "network"),
        ("tapswitch stop ", "alice"),
        ("tapswitch exec a", "alice"),
        ("tapswitch inspect n", "net1 none"),
        ("tapswitch network rm n", "net1 none"),
        ("tapswitch run --network n", "net1 none"),
        ("tapswitch network connect ne", "net1"),
        ("tapswitch network connect net1 ", "alice"),
        ("tapswitch network create a", ""),
        ("tapswitch completion b", "bash"),
        ("docker ps --no", "--no-trunc"),
    ] {
        let (name, last) = (words.split(' ').next().unwrap(), words.rsplit(' ').next().unwrap());
        let typed: Vec<String> = words.split(' ').map(|word| format!("'{word}'")).collect();
        let line = format!(
            "source <($TS completion bash {name}); complete -p {name} >/dev/null || exit 1; COMP_WORDS=({}); \
             COMP_CWORD={}; COMP_TYPE=9; _clap_complete_{name} {name} '{last}' ''; echo ${{COMPREPLY[*]}}",
            typed.join(" "),
            typed.len() - 1
        );
        let found = run(lab, &bash, &line).unwrap();
        // Flags may always follow.
        let is_wanted = |word: &&str| last.starts_with('-') || !word.starts_with('-');
        let found: Vec<&str> = found.split_whitespace().filter(is_wanted).collect();
        assert_eq!(found.join(" "), expected, "{words}");
    }
    // Without a daemon there are no names, and no complaints.
    lab.ok("down --all");
    let line = "source <($TS completion bash); COMP_WORDS=(tapswitch stop ''); COMP_CWORD=2; \
        _clap_complete_tapswitch tapswitch '' '' 2>&1; echo ${COMPREPLY[0]}";
    assert_eq!(run(lab, &bash, line).unwrap(), "--time\n");
}

fn zsh_takes_the_script(lab: &Lab) {
    let line = "autoload -U compinit && compinit -D -u && source <($TS completion zsh) && \
        source <($TS completion zsh docker) && echo $_comps[tapswitch] $_comps[docker]";
    if let Some(said) = run(lab, &["zsh", "-f"], line) {
        assert_eq!(said, "_clap_dynamic_completer_tapswitch _clap_dynamic_completer_docker\n");
        alice(lab);
        let ask = "TAPSWITCH_COMPLETE=zsh _CLAP_IFS=\"\n\" _CLAP_COMPLETE_INDEX=2 $TS -- tapswitch stop ''";
        assert!(run(lab, &["zsh", "-f"], ask).unwrap().lines().any(|word| word == "alice"));
    }
}

fn fish_completes(lab: &Lab) {
    alice(lab);
    let names =
        "$TS completion fish | source; complete -C 'tapswitch network rm '; complete -C 'tapswitch exec a'";
    if let Some(said) = run(lab, &["fish", "-N"], names) {
        let words: Vec<&str> = said.lines().filter_map(|line| line.split('\t').next()).collect();
        assert!(words.contains(&"net1") && words.contains(&"alice") && words.contains(&"bridge"), "{said}");
    }
}

#[test]
fn the_variable_alone_does_nothing() {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_tapswitch"));
    let output = command.args(["--version"]).env("COMPLETE", "bash").output().unwrap();
    assert!(text(&output.stdout).starts_with("tapswitch "), "whose COMPLETE is it?");
}
