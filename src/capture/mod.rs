//! The pure part of captures: which frames, how they are printed, how they are stored.

pub mod file;
pub mod filter;
pub mod print;
pub mod record;
