//! The last steps of a forked child before it becomes the command.

use std::env;
use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use super::error::SpawnError;
use super::prerequisites::apt_line;
use super::terminal::Pty;
use crate::io::netns::describe;
use crate::io::sys::{process, terminal};

/// The command was found but could not be run (Docker's and POSIX's code).
pub(super) const NOT_EXECUTABLE: i32 = 126;
/// The command was not found.
pub(super) const NOT_FOUND: i32 = 127;
/// The fault is ours.
pub(super) const OURS: i32 = 125;

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What descriptors 0, 1 and 2 of a command become; `None`: as they are.
#[derive(Debug, Default)]
pub(super) struct Stdio {
    pub(super) input: Option<OwnedFd>,
    pub(super) output: Option<OwnedFd>,
    pub(super) errors: Option<OwnedFd>,
    /// All three are a terminal that shall control the command's session.
    pub(super) terminal: bool,
}

impl Stdio {
    /// The far end of a terminal.
    pub(super) fn terminal(pty: &Pty) -> io::Result<Self> {
        let slave = || pty.slave.try_clone().map(Some);
        Ok(Self { input: slave()?, output: slave()?, errors: slave()?, terminal: true })
    }

    /// The caller's own, or a log; input only when asked for, or an open one where nothing comes.
    pub(super) fn inherit(interactive: bool, open: bool, log: Option<&File>) -> io::Result<Self> {
        let input = match (interactive, open) {
            (true, _) => None,
            (false, true) => Some(silence()?),
            (false, false) => Some(File::open("/dev/null")?.into()),
        };
        let copy = || log.map(|file| file.try_clone().map(OwnedFd::from)).transpose();
        Ok(Self { input, output: copy()?, errors: copy()?, terminal: false })
    }

    /// Every descriptor in it.
    pub(super) fn descriptors(&self) -> impl Iterator<Item = &OwnedFd> {
        [&self.input, &self.output, &self.errors].into_iter().flatten()
    }

    /// Puts them in their places.
    fn install(&self) -> io::Result<()> {
        for (place, fd) in [(0, &self.input), (1, &self.output), (2, &self.errors)] {
            if let Some(fd) = fd {
                process::replace_standard(fd.as_fd(), place)?;
            }
        }
        match &self.input {
            Some(slave) if self.terminal => terminal::make_controlling(slave.as_fd()),
            _ => Ok(()),
        }
    }
}

/// A pipe to read from that does not end: its reader is its only writer.
fn silence() -> io::Result<OwnedFd> {
    let (reader, _writer) = io::pipe()?;
    let path = format!("/proc/self/fd/{}", reader.as_raw_fd());
    Ok(File::options().read(true).write(true).open(path)?.into())
}

/// The environment of a command: Docker's variables, then the user's.
///
/// `HOME` is the caller's: the container shows the caller's files.
pub(super) fn environment(
    hostname: &str,
    terminal: bool,
    wanted: &[(String, String)],
) -> Vec<(String, String)> {
    let caller = |name: &str, default: &str| env::var(name).unwrap_or_else(|_| default.to_owned());
    let mut variables = vec![
        ("PATH".to_owned(), DEFAULT_PATH.to_owned()),
        ("HOSTNAME".to_owned(), hostname.to_owned()),
        ("HOME".to_owned(), caller("HOME", "/root")),
    ];
    if terminal {
        variables.push(("TERM".to_owned(), caller("TERM", "xterm")));
    }
    for (name, value) in wanted {
        variables.retain(|(other, _)| other != name);
        variables.push((name.clone(), value.clone()));
    }
    variables
}

/// What a forked child becomes.
pub(super) struct Command<'a> {
    pub(super) arguments: &'a [String],
    pub(super) environment: Vec<(String, String)>,
    /// `None`: the caller's directory where it is visible inside, else `/`.
    pub(super) workdir: Option<&'a Path>,
    /// The caller's directory.
    pub(super) caller_directory: Option<PathBuf>,
    pub(super) stdio: &'a Stdio,
}

impl Command<'_> {
    /// Becomes the command. Returns an exit status only when that fails, having said why on stderr.
    pub(super) fn become_it(&self) -> i32 {
        if let Err(error) = self.prepare() {
            eprintln!("tapswitch: {}", SpawnError::setup("prepare the command", error));
            return OURS;
        }
        if let Err(error) = self.change_directory() {
            let directory = self.workdir.unwrap_or(Path::new("/")).display();
            eprintln!("tapswitch: cannot enter the working directory {directory}: {}", describe(&error));
            return NOT_EXECUTABLE;
        }
        self.execute()
    }

    /// A session of its own, so that the caller's terminal signals come only through us.
    fn prepare(&self) -> io::Result<()> {
        nix::unistd::setsid()?;
        self.stdio.install()?;
        process::close_on_exec_from_3()?;
        process::reset_signals()
    }

    fn change_directory(&self) -> io::Result<()> {
        if let Some(workdir) = self.workdir {
            return env::set_current_dir(workdir);
        }
        match &self.caller_directory {
            Some(directory) if env::set_current_dir(directory).is_ok() => Ok(()),
            _ => env::set_current_dir("/"),
        }
    }

    /// `execvpe(3)` with the *new* environment's PATH: the first that runs; a file that may not be
    /// run is remembered while the search goes on.
    fn execute(&self) -> i32 {
        let Some(program) = self.arguments.first() else { return OURS };
        let (Some(arguments), Some(environment)) = (c_strings(self.arguments), self.c_environment()) else {
            eprintln!("tapswitch: {program}: an argument or variable contains a NUL byte");
            return NOT_EXECUTABLE;
        };
        let mut refused = None;
        for candidate in self.candidates(program) {
            let error = process::exec(&candidate, &arguments, &environment);
            match error.raw_os_error() {
                Some(libc::ENOENT | libc::ENOTDIR) => {}
                _ => refused = refused.or(Some(error)),
            }
        }
        report(program, refused)
    }

    fn candidates(&self, program: &str) -> Vec<CString> {
        let path = self.environment.iter().find(|(name, _)| name == "PATH").map_or("", |(_, path)| path);
        let candidates: Vec<String> = if program.contains('/') || program.is_empty() {
            vec![program.to_owned()]
        } else {
            let directory = |entry| if str::is_empty(entry) { "." } else { entry };
            path.split(':').map(|entry| format!("{}/{program}", directory(entry))).collect()
        };
        c_strings(&candidates).unwrap_or_default()
    }

    fn c_environment(&self) -> Option<Vec<CString>> {
        let pairs: Vec<_> = self.environment.iter().map(|(name, value)| format!("{name}={value}")).collect();
        c_strings(&pairs)
    }
}

fn report(program: &str, refused: Option<io::Error>) -> i32 {
    if let Some(error) = refused {
        eprintln!("tapswitch: {program}: {}", describe(&error));
        return NOT_EXECUTABLE;
    }
    match apt_line(program) {
        Some(line) => eprintln!("tapswitch: {program}: not found; install it on this machine: {line}"),
        None => eprintln!("tapswitch: {program}: not found"),
    }
    NOT_FOUND
}

fn c_strings(strings: &[String]) -> Option<Vec<CString>> {
    strings.iter().map(|string| CString::new(string.as_str()).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn the_users_variables_win() {
        let variables = environment("web", true, &[pair("PATH", "/opt"), pair("A", "1"), pair("A", "2")]);
        assert!(variables.contains(&pair("PATH", "/opt")));
        assert!(variables.contains(&pair("HOSTNAME", "web")));
        assert!(variables.contains(&pair("A", "2")) && !variables.contains(&pair("A", "1")));
        assert!(variables.iter().any(|(name, _)| name == "TERM"));
        assert!(!environment("web", false, &[]).iter().any(|(name, _)| name == "TERM"));
    }

    #[test]
    fn programs_are_sought_along_the_new_path() {
        let stdio = Stdio::default();
        let command = Command {
            arguments: &[],
            environment: vec![pair("PATH", "/a::/b")],
            workdir: None,
            caller_directory: None,
            stdio: &stdio,
        };
        let found = command.candidates("x");
        assert_eq!(found, [c"/a/x".to_owned(), c"./x".to_owned(), c"/b/x".to_owned()]);
        assert_eq!(command.candidates("./x"), [c"./x".to_owned()]);
    }
}
