//! The pure part of the user uplink: what turns packets into calls of ordinary sockets and back.
//!
//! A machine here is told of packets (`on_segment`), of what its socket has done (`connected`, `took`), and of
//! time (`on_timeout`); it says what may be sent and when it wants to be woken (`deadline`). The sockets
//! themselves are in `io::uplink::user`. Nothing here performs I/O or reads a clock.

pub mod mappings;
pub mod segment;
pub mod socks;
pub mod tcp;
pub mod timers;

pub use segment::Ends;
pub use timers::Timers;
