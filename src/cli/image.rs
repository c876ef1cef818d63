//! Images in Docker's command lines: the word before a command that `docker run` cannot do without.
//!
//! There are none here: a container sees this machine's files and runs this machine's programs. Who types
//! what he learnt elsewhere gets what he means where that is known: `run ubuntu cat /etc/resolv.conf` runs
//! `cat`, and `run -it ubuntu` a shell. Only a closed list of well-known images and what cannot be a
//! program's name (`redis:5`) are taken for images, so that a mistyped program is never passed over.

use std::path::Path;

use super::programs;

const BASH: &[&str] = &["bash"];
const SH: &[&str] = &["sh"];
/// `/run` is the container's own, and empty: nobody's files are served by surprise.
const WEB: &[&str] = &["python3", "-m", "http.server", "--directory", "/run", "80"];

/// Well-known images, and what stands in for their default command.
const KNOWN: &[(&str, &[&str])] = &[
    ("alpine", SH),
    ("busybox", SH),
    ("centos", BASH),
    ("debian", BASH),
    ("fedora", BASH),
    ("httpd", WEB),
    ("netshoot", BASH),
    ("nginx", WEB),
    ("ubuntu", BASH),
];

/// What the words behind `run`'s flags come to.
#[derive(Debug, PartialEq, Eq)]
pub struct Meaning {
    /// The image's name, if one stood before it.
    pub image: Option<String>,
    /// The command to run.
    pub command: Vec<String>,
    /// What whoever typed an image should know.
    pub note: Option<String>,
}

/// Reads the words behind `run`'s flags.
///
/// # Errors
/// The line to type instead, for an image whose command is not known.
pub fn read(words: Vec<String>) -> Result<Meaning, String> {
    read_where(words, |word| programs::find(word).is_some() || Path::new(word).exists())
}

fn read_where(words: Vec<String>, is_program: impl Fn(&str) -> bool) -> Result<Meaning, String> {
    let Some((first, rest)) = words.split_first() else {
        return Ok(Meaning { image: None, command: words, note: None });
    };
    let stand_in = KNOWN.iter().find(|(name, _)| *name == base(first)).map(|(_, command)| *command);
    if is_program(first) || !(stand_in.is_some() || is_reference(first)) {
        return Ok(Meaning { image: None, command: words, note: None });
    }
    let command: Vec<String> = match stand_in {
        _ if !rest.is_empty() => rest.to_vec(),
        Some(command) => command.iter().map(|word| (*word).to_owned()).collect(),
        None => {
            return Err(format!(
                "'{first}' is an image, and containers of ours run this machine's programs: say which one, \
                 'tapswitch run [FLAGS] {first} COMMAND'"
            ));
        }
    };
    let note = format!(
        "no image '{first}' here, containers see this machine's files: running '{}'",
        command.join(" ")
    );
    Ok(Meaning { image: Some(first.clone()), command, note: Some(note) })
}

/// The name alone, without registry, user, tag and digest.
fn base(reference: &str) -> &str {
    let name = reference.split('@').next().unwrap_or(reference);
    let last = name.rsplit('/').next().unwrap_or(name);
    last.split(':').next().unwrap_or(last)
}

/// Whether a word can only be an image's name: with a tag, a user or a registry, all in small letters.
fn is_reference(word: &str) -> bool {
    let is_letter =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-/:@".contains(&byte);
    let starts = word.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    starts && word.bytes().all(is_letter) && word.contains(['/', ':', '@'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meaning(line: &str) -> Result<(String, bool), String> {
        let words = line.split(' ').map(str::to_owned).collect();
        let programs = ["cat", "bash", "fedora", "bin/tool:x"];
        let read = read_where(words, |word| programs.contains(&word))?;
        Ok((read.command.join(" "), read.note.is_some()))
    }

    #[test]
    fn what_follows_an_image_is_run() {
        let web = "python3 -m http.server --directory /run 80";
        for (line, command, noted) in [
            ("ubuntu cat /etc/resolv.conf", "cat /etc/resolv.conf", true),
            ("ubuntu:16.04 cat", "cat", true),
            ("docker.io/library/centos /bin/bash", "/bin/bash", true),
            ("ubuntu", "bash", true),
            ("busybox", "sh", true),
            ("httpd", web, true),
            ("nginx:alpine", web, true),
            ("training/webapp python app.py", "python app.py", true),
            ("alpine@sha256:00ff cat", "cat", true),
            // Programs are run, and so is what may be a slip of the pen.
            ("cat /etc/resolv.conf", "cat /etc/resolv.conf", false),
            ("fedora cat", "fedora cat", false),
            ("bin/tool:x cat", "bin/tool:x cat", false),
            ("pign -c1 alice", "pign -c1 alice", false),
            ("redis", "redis", false),
            ("/bin/no:ne", "/bin/no:ne", false),
            ("./a.out:b", "./a.out:b", false),
        ] {
            assert_eq!(meaning(line), Ok((command.to_owned(), noted)), "{line}");
        }
        assert_eq!(read_where(vec![], |_| true), Ok(Meaning { image: None, command: vec![], note: None }));
    }

    #[test]
    fn an_image_whose_command_is_not_known_is_refused_with_the_line_to_type() {
        assert_eq!(
            meaning("redis:5").unwrap_err(),
            "'redis:5' is an image, and containers of ours run this machine's programs: say which one, \
             'tapswitch run [FLAGS] redis:5 COMMAND'"
        );
    }
}
