//! System calls that no safe crate offers: the only `unsafe` code of the project,
//! one file per facility, each function safe to call.

pub mod namespace;
pub mod packet;
pub mod passing;
pub mod process;
pub mod socket;
pub mod terminal;
pub mod tun;
