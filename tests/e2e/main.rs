//! Every command on real namespaces, through the real binary: as root, as an ordinary user without
//! any capability, and as root in a network namespace that forwards nothing.
//!
//! `cargo test --test e2e user::` runs one of the three. What cannot be tested on a machine says
//! `SKIP:` on standard error, with a number.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

/// Tests of a module's scenarios, one for each kind of user.
macro_rules! scenarios {
    ($($name:ident)*) => {
        mod root { $(#[test] fn $name() { $crate::harness::run($crate::harness::Who::Root, super::$name); })* }
        mod user { $(#[test] fn $name() { $crate::harness::run($crate::harness::Who::User, super::$name); })* }
        mod no_forward {
            $(#[test] fn $name() { $crate::harness::run($crate::harness::Who::NoForward, super::$name); })*
        }
    };
}

mod articles;
mod capture;
mod completion;
mod confine;
mod containers;
mod daemon;
mod dnsmasq;
mod habits;
mod harness;
mod host;
mod host_port;
mod idle;
mod inside;
mod killed;
mod labs;
mod many_networks;
mod names;
mod networks;
mod plug;
mod policy;
mod publish;
mod published_host;
mod resolvers;
mod restart;
mod routing;
mod rows_docker;
mod rows_dockerd;
mod rows_sessions;
mod rows_tools;
mod shell;
mod tables;
mod thousand;
mod traffic;
mod transcript;
mod transfers;
mod twin;
mod uplink;
mod user_load;
mod user_tcp;
mod user_udp;
mod ways_out;
mod world;
mod wrong_values;
