//! Why a container could not be made: one line each, with what failed, where, and the mend.

use std::io;

use serde::{Deserialize, Serialize};

use super::prerequisites;
use crate::io::netns::{NetnsError, describe};

/// Why a container could not be started, or a command not be run in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum SpawnError {
    /// User namespaces are switched off, used up or filtered.
    #[error("cannot create the container's namespaces: {cause}; {mend}")]
    Namespaces {
        /// The kernel's answer.
        cause: String,
        /// What to do about it.
        mend: String,
    },
    /// The user ids could not be mapped.
    #[error("cannot map user ids into the container: {cause}; see `tapswitch preflight`")]
    Ids {
        /// What was answered.
        cause: String,
    },
    /// The network descriptors could not be opened.
    #[error("{0}")]
    Network(NetnsError),
    /// A kernel setting that the user asked for could not be made.
    #[error("cannot set {key} inside the container: {cause}")]
    Sysctl {
        /// In the form `net.ipv4.ip_forward`.
        key: String,
        /// Why.
        cause: String,
    },
    /// The container has ended.
    #[error("the container is not running")]
    Gone,
    /// A step of the set-up failed.
    #[error("cannot {step}: {cause}")]
    Setup {
        /// What was tried.
        step: String,
        /// Why it failed.
        cause: String,
    },
}

impl SpawnError {
    /// A failed step of the set-up.
    pub(super) fn setup(step: &str, cause: impl Into<io::Error>) -> Self {
        Self::Setup { step: step.to_owned(), cause: describe(&cause.into()) }
    }

    /// Namespaces refused, with what stands in the way.
    pub(super) fn namespaces(error: &io::Error) -> Self {
        Self::Namespaces { cause: describe(error), mend: prerequisites::mend_user_namespaces() }
    }
}
