//! File descriptors: how many there may be, and which are kept back for hard times.
//!
//! Theory of operation. The kernel always gives the lowest number that is free, so the number of a new
//! descriptor tells how many are in use at least up to there, without counting. The last ones below the
//! limit are kept back: what would stay for long (a port, an uplink, a capture) is refused when its
//! descriptors are among them, so that there are always some for the files that are written in passing and
//! for the clients who come to look, to be told, and to end something.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::libc;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// At most so many are kept back.
const RESERVE_MAX: u64 = 64;
/// One in so many, where there are few.
const RESERVE_SHARE: u64 = 8;
/// The very last, which are needed to tell a client why it is sent away.
const LAST: u64 = 2;

/// How much is left, as the number of a new descriptor tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Room {
    /// Enough.
    Plenty,
    /// Only what is kept back: nothing that stays may be begun.
    Reserve,
    /// Next to nothing.
    Last,
}

/// Raises the soft limit to the hard one: every port takes a descriptor or two.
pub fn raise_limit() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        // What is there already must do otherwise.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

/// How many there may be at once.
pub fn limit() -> u64 {
    getrlimit(Resource::RLIMIT_NOFILE).map_or(u64::MAX, |(soft, _)| soft)
}

/// What a new descriptor's number tells.
pub fn room(newest: BorrowedFd<'_>) -> Room {
    room_of(u64::try_from(newest.as_raw_fd()).unwrap_or(0), limit())
}

/// Keeps a new descriptor that is to stay, unless it is among those that are kept back.
///
/// # Errors
/// EMFILE, as if there were none left.
pub fn with_room<T: AsFd>(new: T) -> io::Result<T> {
    match room(new.as_fd()) {
        Room::Plenty => Ok(new),
        Room::Reserve | Room::Last => Err(io::Error::from_raw_os_error(libc::EMFILE)),
    }
}

fn room_of(number: u64, limit: u64) -> Room {
    let reserve = (limit / RESERVE_SHARE).clamp(LAST, RESERVE_MAX);
    match limit.saturating_sub(number) {
        left if left <= LAST => Room::Last,
        left if left <= reserve => Room::Reserve,
        _ => Room::Plenty,
    }
}

/// What to tell whoever asked for more than there is, and the mend.
pub fn shortage() -> String {
    format!(
        "the daemon has run out of file descriptors (limit {}): end containers, plugs, captures or clients, \
         or start the daemon with a higher hard limit (ulimit -Hn, LimitNOFILE= of systemd)",
        limit()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_numbers_below_the_limit_are_kept_back() {
        let table = [
            (0, 1024, Room::Plenty),
            (959, 1024, Room::Plenty),
            (960, 1024, Room::Reserve),
            (1021, 1024, Room::Reserve),
            (1022, 1024, Room::Last),
            (1023, 1024, Room::Last),
            (55, 64, Room::Plenty),
            (56, 64, Room::Reserve),
            (62, 64, Room::Last),
            // The limit was lowered after it was opened.
            (100, 64, Room::Last),
            (0, 0, Room::Last),
            (1_000_000, u64::MAX, Room::Plenty),
        ];
        for (number, limit, expected) in table {
            assert_eq!(room_of(number, limit), expected, "{number} of {limit}");
        }
    }
}
