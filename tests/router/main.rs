//! The router from outside: bytes in, bytes out. Each scenario states what becomes of a frame entirely: the
//! verdict, what leaves by which port, byte by byte as etherparse writes it, and every counter that changes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod askers;
#[path = "../common/mod.rs"]
mod common;
mod connections;
mod errors;
mod packets;
#[path = "../../src/dataplane/dns/samples.rs"]
mod samples;
mod world;

mod flows;
mod gateway;
mod masquerade;
mod names;
mod neighbours;
mod paths;
mod policies;
mod published;
mod random;
mod refusals;
mod related;
mod routing;
mod sizes;
