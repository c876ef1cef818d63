//! How long an idle loop looks on before it sleeps.
//!
//! Theory of operation. A CPU that has gone to sleep needs tens of microseconds to come back (in a virtual machine,
//! where an interrupt has to wake it), which is most of a round trip's time. So whoever slept for a moment only
//! expects the next frame as soon: it asks again and again, gives the CPU away in between, and sleeps when nothing
//! has come for the *window*. This is what hypervisors do with idle guests (`halt_poll_ns`), and bounded likewise:
//!
//! - Frames that are further apart than the window cost nothing: after a sleep that was longer, the next one comes
//!   at once. Frames that are nearer keep the CPU at work anyway.
//! - When the CPU that was given away does not come back at once, somebody computes, and whoever sleeps is woken
//!   sooner than who yields. Then there is no looking on for a while.

use std::time::Duration;

use crate::dataplane::Instant;

/// The window, unless the user says otherwise.
pub const WINDOW: Duration = Duration::from_micros(80);
/// Whoever takes the CPU for longer computes.
const LONG: Duration = Duration::from_micros(300);
/// How long to sleep at once after that.
const REST: Duration = Duration::from_millis(10);

/// What the loop expects.
#[derive(Debug)]
pub struct Patience {
    window: Duration,
    /// It slept for a moment only.
    expects: bool,
    /// Since when it looks on.
    since: Option<Instant>,
    /// Until then it sleeps at once.
    rests_until: Instant,
}

impl Patience {
    /// Looks on for `window` at most; zero for never.
    pub const fn new(window: Duration) -> Self {
        Self { window, expects: false, since: None, rests_until: Instant(0) }
    }

    /// There is nothing to do: whether to look again instead of sleeping.
    #[inline]
    pub fn looks_on(&mut self, now: Instant) -> bool {
        if !self.expects || now < self.rests_until {
            return false;
        }
        let since = *self.since.get_or_insert(now);
        self.expects = now.since(since) < self.window;
        self.expects
    }

    /// There is something to do.
    #[inline]
    pub const fn found(&mut self) {
        self.since = None;
    }

    /// The loop slept so long, until there was something to do.
    #[inline]
    pub fn slept(&mut self, from: Instant, to: Instant) {
        self.expects = to.since(from) < self.window;
        self.since = None;
    }

    /// The CPU was given away while looking on.
    #[inline]
    pub fn gave_way(&mut self, from: Instant, to: Instant) {
        if to.since(from) >= LONG {
            self.rests_until = to + REST;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(us: u64) -> Instant {
        Instant(us * 1000)
    }

    #[test]
    fn whoever_slept_for_a_moment_looks_on_for_the_window() {
        let mut patience = Patience::new(Duration::from_micros(50));
        assert!(!patience.looks_on(at(0)), "nothing is expected at first");
        patience.slept(at(0), at(49));
        assert!(patience.looks_on(at(60)) && patience.looks_on(at(109)));
        patience.found();
        assert!(patience.looks_on(at(120)), "the window begins anew");
        assert!(patience.looks_on(at(169)));
        assert!(!patience.looks_on(at(170)) && !patience.looks_on(at(171)), "nothing came");
        patience.slept(at(172), at(222));
        assert!(!patience.looks_on(at(230)), "and came late");
        patience.slept(at(231), at(233));
        assert!(patience.looks_on(at(234)));
    }

    #[test]
    fn beside_somebody_who_computes_there_is_no_looking_on() {
        let mut patience = Patience::new(Duration::from_micros(50));
        patience.slept(at(0), at(10));
        assert!(patience.looks_on(at(11)));
        patience.gave_way(at(11), at(20));
        assert!(patience.looks_on(at(21)));
        patience.gave_way(at(21), at(3_000));
        assert!(!patience.looks_on(at(3_001)));
        patience.slept(at(3_001), at(3_010));
        assert!(!patience.looks_on(at(12_999)));
        assert!(patience.looks_on(at(13_000)));
    }

    #[test]
    fn without_a_window_it_always_sleeps() {
        let mut patience = Patience::new(Duration::ZERO);
        patience.slept(at(0), at(0));
        assert!(!patience.looks_on(at(0)));
    }
}
