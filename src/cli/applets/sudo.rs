//! `sudo`: what the switch does takes no more rights than the shell has, and sudo's own search path would
//! lead past us; so `sudo brctl show` is `brctl show`. Everything else is sudo's.

use super::{Meaning, names};

pub(super) fn read(_: &str, words: &[String]) -> Result<Meaning, String> {
    // What changes nothing for a command of ours.
    let flags =
        words.iter().take_while(|word| ["-E", "-n", "-H", "-k", "--"].contains(&word.as_str())).count();
    let command = words.get(flags..).unwrap_or_default();
    match command.split_first() {
        Some((first, _)) if names().any(|name| name == first) => Ok(Meaning::Line(command.to_vec())),
        // Root needs no sudo, and many machines that have only root have none.
        Some((first, _)) if !first.starts_with('-') && is_root_without_sudo() => {
            Ok(Meaning::Line(command.to_vec()))
        }
        _ => Ok(Meaning::Theirs),
    }
}

fn is_root_without_sudo() -> bool {
    nix::unistd::geteuid().is_root() && crate::cli::programs::find("sudo").is_none()
}

#[cfg(test)]
mod tests {
    use crate::cli::applets::tests::means;

    #[test]
    fn our_commands_need_no_sudo() {
        assert_eq!(means("sudo docker ps -a"), "ours: ps -a");
        assert_eq!(means("sudo brctl show"), "view: show");
        assert_eq!(means("sudo -E docker ps"), "ours: ps");
        assert_eq!(means("sudo -n -- brctl show"), "view: show");
        assert_eq!(means("sudo -u nobody docker ps"), "theirs");
        assert_eq!(means("sudo"), "theirs");
    }
}
