//! The control plane: what a user declares, and how it is shown.
//!
//! Everything here is pure. Ids and times are arguments, tables are ordered, and a refused
//! operation changes nothing, so the same requests give the same model on any machine.

pub mod compile;
pub mod config;
pub mod docker_rules;
pub mod error;
pub mod id;
pub mod ipam;
pub mod journal;
pub mod lab;
pub mod mistake;
pub mod model;
pub mod names;
pub mod naming;
pub mod occupied;
pub mod options;
pub mod plausible;
pub mod ports;
pub mod replay;
pub mod requests;
pub mod resolv_conf;
pub mod runs;
pub mod shared;
pub mod show;
pub mod sources;
pub mod state;
pub mod sysctl;

pub use error::{Kind, Refused};
pub use id::Id;
pub use model::Model;
