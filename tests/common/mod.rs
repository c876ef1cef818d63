//! What the tests of the switch share. Every test takes what it needs, so that what one leaves
//! unused another needs.
#![allow(dead_code)]

pub(crate) mod blows;
pub(crate) mod frames;
pub(crate) mod host;
pub(crate) mod lab;
