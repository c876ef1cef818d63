//! What a daemon keeps across its end: the declared model, as text.
//!
//! Theory of operation. [`Saved`] is the model's own types in JSON, without what follows from them
//! (leases are the addresses of the endpoints) and without what the daemon is told at every start
//! (its flags, the host's resolvers). Reading is two steps: [`Saved::parse`] takes text of our
//! format and version, [`Model::restore`] takes contents that a model can have, and checks as much
//! as the operations would that made them: a file that somebody has edited is refused, with the
//! place, and never half believed.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::journal::Position;
use super::model::{Container, ContainerSpec, Network, Rule, StaticRoute};
use super::{Model, Refused, sysctl};
use crate::dataplane::Settings;

/// The format's version. One that is read by older versions wrongly, or not at all, has a higher number.
pub const VERSION: u32 = 2;
/// The oldest one that is read.
pub const OLDEST: u32 = 1;

/// Everything that is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Saved {
    version: u32,
    /// The boot of the machine that processes and namespaces are of (`/proc/sys/kernel/random/boot_id`).
    pub boot: String,
    /// Which records of changes it knows already.
    #[serde(default)]
    pub journal: Position,
    /// Networks and uplinks.
    pub networks: Vec<Network>,
    /// Containers, and who has the ports of uplinks and of the host.
    pub containers: Vec<Kept>,
    /// The user's rules, in order.
    pub rules: Vec<Rule>,
    /// Static routes.
    pub routes: Vec<StaticRoute>,
    /// What `sysctl` has set, where it is not the default.
    pub settings: BTreeMap<String, String>,
}

/// A container, and what the model does not know of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    /// As the model has it.
    pub container: Container,
    /// Beside the model.
    pub shell: KeptShell,
}

/// What only the shell knows of a container.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KeptShell {
    /// What it is run with when it is started again.
    pub spec: ContainerSpec,
    /// Forget it when it ends.
    pub auto_remove: bool,
    /// How it is found again.
    pub whence: Whence,
}

/// By what a container, or a namespace of somebody else's, is found again.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Whence {
    /// The container's init, or the process by which a namespace was named.
    pub process: Option<Process>,
    /// Where somebody else's namespace is.
    pub origin: Option<Origin>,
}

/// A process, told from another one that got its number later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// When it started, in clock ticks since boot.
    pub started: u64,
}

/// Where a namespace of somebody else's is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Origin {
    /// The namespace's path; none: its process's.
    pub netns: Option<PathBuf>,
    /// The user namespace that owns it, if that was said.
    pub userns: Option<PathBuf>,
    /// The namespace's inode number, by which it is known again.
    pub inode: u64,
    /// Its interface is to carry plain frames.
    pub plain: bool,
    /// Its interface is left to somebody else to configure.
    pub bare: bool,
}

/// Why a state cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadState {
    /// Of a version that we do not know.
    #[error(
        "it is of format {0}, and this tapswitch reads formats {OLDEST} to {VERSION}: use the version that wrote it"
    )]
    Version(u64),
    /// Cut off, or something else altogether.
    #[error("it is no state of a tapswitch: {0}")]
    Text(#[from] serde_json::Error),
    /// No model can be like this.
    #[error("it contradicts itself: {0}")]
    Contents(#[from] Refused),
}

impl Saved {
    /// What is to be kept of a model; `kept` tells what of a container.
    pub fn of(model: &Model, boot: &str, kept: impl Fn(&Container) -> Kept) -> Self {
        let (networks, containers) = model.everything();
        Self {
            version: VERSION,
            boot: boot.to_owned(),
            journal: Position::default(),
            networks: networks.cloned().collect(),
            containers: containers.map(kept).collect(),
            rules: model.rules().to_vec(),
            routes: model.routes().cloned().collect(),
            settings: changed_settings(model),
        }
    }

    /// The text of it.
    ///
    /// # Errors
    /// None that is known: every part of a model has a text.
    pub fn text(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(self)
    }

    /// Reads a text.
    ///
    /// # Errors
    /// See [`BadState`].
    pub fn parse(text: &[u8]) -> Result<Self, BadState> {
        #[derive(Deserialize)]
        struct Version {
            version: u64,
        }
        // First the version alone: of another one, the rest means something else.
        let Version { version } = serde_json::from_slice(text)?;
        if !(u64::from(OLDEST)..=u64::from(VERSION)).contains(&version) {
            return Err(BadState::Version(version));
        }
        Ok(serde_json::from_slice(text)?)
    }
}

/// What `sysctl` has set, where it is not the default.
pub(super) fn changed_settings(model: &Model) -> BTreeMap<String, String> {
    let default: BTreeMap<_, _> = sysctl::all(&Settings::default()).into_iter().collect();
    let set = sysctl::all(&model.settings).into_iter().filter(|(key, value)| default.get(key) != Some(value));
    set.map(|(key, value)| (key.to_owned(), value.to_string())).collect()
}
