//! tapswitch: a userspace virtual switch for containers. This page is the map.
//!
//! **Read [`dataplane`] first**: its `mod.rs` is the path of a frame, from the port it came in
//! by to the ports it leaves by. Everything else serves it:
//!
//! - [`wire`]: the bytes of headers; checksums and segmentation in software.
//! - [`dataplane`]: the switch. Pure: frames, time and seeds in, frames and verdicts out.
//! - [`capture`]: filters in tcpdump's language, lines as tcpdump prints them, pcap and pcapng. Pure.
//! - [`control`]: what a user declares, checked and compiled into changes of the data plane; views. Pure.
//! - [`io`]: the kernel: the switch loop, TAPs, netlink, namespaces, the control socket.
//! - [`container`]: containers of our own, run by the client that asked for them.
//! - [`daemon`]: the switch loop and the control plane, put together.
//! - [`cli`]: the commands.
//!
//! Imports point downwards only, and the pure parts stay pure: `tests/house_rules` proves both.
//! `docs/ARCHITECTURE.md` tells the design and why.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod capture;
pub mod cli;
pub mod container;
pub mod control;
pub mod daemon;
pub mod dataplane;
pub mod flows;
pub mod io;
pub mod wire;
