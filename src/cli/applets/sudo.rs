//! `sudo`: what the switch does takes no more rights than the shell has, and sudo's own search path would
//! lead past us; so `sudo brctl show` is `brctl show`. Everything else is sudo's.

use super::{Meaning, names};

pub(super) fn read(_: &str, words: &[String]) -> Result<Meaning, String> {
    match words.split_first() {
        Some((first, _)) if names().any(|name| name == first) => Ok(Meaning::Line(words.to_vec())),
        // Root needs no sudo, and many machines that have only root have none.
        Some((first, _)) if !first.starts_with('-') && is_root_without_sudo() => {
            Ok(Meaning::Line(words.to_vec()))
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
        assert_eq!(means("sudo -u nobody docker ps"), "theirs");
        assert_eq!(means("sudo"), "theirs");
    }
}
