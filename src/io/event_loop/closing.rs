//! Closing many devices at once.
//!
//! With the descriptor of a TAP goes its interface, and the kernel waits for that until no CPU can know of it any more:
//! `synchronize_net` and `rcu_barrier` in `unregister_netdevice_many` and `netdev_run_todo` (Linux
//! `net/core/dev.c`), 25 ms for one TAP on a busy machine, and as long for many as for one when they are waited for
//! together. So many are closed by several threads: 16 of them need 3 ms for each, and more of them no less.

use std::thread::{Builder, scope};

/// What takes no threads to close.
const FEW: usize = 16;
/// Threads that close.
const THREADS: usize = 16;

/// Drops all; returns when they are gone.
pub(super) fn close<T: Send>(devices: Vec<T>) {
    if devices.len() < FEW {
        return;
    }
    let mut parts: Vec<Vec<T>> = std::iter::repeat_with(Vec::new).take(THREADS).collect();
    for (at, device) in devices.into_iter().enumerate() {
        parts[at % THREADS].push(device);
    }
    scope(|scope| {
        for part in parts {
            // Where there may be no more threads, it is closed here.
            let _ = Builder::new().name("closing".into()).spawn_scoped(scope, move || drop(part));
        }
    });
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn all_are_closed_when_it_returns() {
        for count in [0, 1, FEW, 1000] {
            let left = Arc::new(());
            close((0..count).map(|_| Arc::clone(&left)).collect());
            assert_eq!(Arc::strong_count(&left), 1, "{count}");
        }
    }
}
