//! A neighbour's states, and what a claim about its MAC address does to them (RFC 4861 §7.2.3, §7.2.5,
//! §7.3.3 and appendix C; for ARP the same machine, with Linux's reading of requests and replies).

use crate::wire::MacAddr;
use crate::wire::ip::Addr;

/// What is known of a neighbour (RFC 4861 §7.3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Nothing: it is being asked for, and frames wait.
    Incomplete,
    /// Its MAC address, confirmed a short time ago.
    Reachable,
    /// Its MAC address, which may be out of date. Nothing is done before it is used.
    Stale,
    /// Used while stale: it will be asked in a moment.
    Delay,
    /// It is being asked whether it is still there; frames go to the MAC address known so far.
    Probe,
    /// It did not answer. Kept to be shown; the next frame to it asks again.
    Failed,
}

impl State {
    /// The name that `ip neighbour` prints.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Incomplete => "INCOMPLETE",
            Self::Reachable => "REACHABLE",
            Self::Stale => "STALE",
            Self::Delay => "DELAY",
            Self::Probe => "PROBE",
            Self::Failed => "FAILED",
        }
    }

    /// Whether frames can be sent to it.
    #[inline]
    pub const fn is_resolved(self) -> bool {
        matches!(self, Self::Reachable | Self::Stale | Self::Delay | Self::Probe)
    }
}

/// What a claim does to another MAC address than the one it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conflict {
    /// Takes its place: an ARP request or solicitation from the address itself, a gratuitous packet,
    /// an advertisement with the override flag.
    Replace,
    /// Takes its place unless that was put there less than a second ago: any other ARP packet
    /// (Linux's `locktime`: of several answers to one request the first counts).
    ReplaceOld,
    /// Only shakes the trust in it: an advertisement without the override flag (RFC 4861 §7.2.5).
    Doubt,
}

/// Something that a neighbour said about where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// Its address.
    pub address: Addr,
    /// Its MAC address; none in an advertisement that leaves it out.
    pub mac: Option<MacAddr>,
    /// Whether it wanted something of us, so that a neighbour not yet known is worth an entry.
    pub creates: bool,
    /// Whether it answers a question, and so proves that our frames arrive.
    pub confirms: bool,
    /// What it does to another MAC address.
    pub conflict: Conflict,
    /// Whether it says that it is a router, if it says anything about that.
    pub router: Option<bool>,
}

/// What a claim teaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lesson {
    /// Nothing: nobody wants to know, or a claim that may not replace what is known.
    Ignored,
    /// A neighbour that was not known. It is stale, or waited for by nobody.
    New,
    /// Its MAC address, which was not known or another.
    Moved(State),
    /// What is known is true, or doubtful now: a new state with the same MAC address.
    Same(State),
}

/// What a claim does to a neighbour in a state (`Reachable` only while its time lasts).
/// `known` is its MAC address, `old` whether that has been there for the locktime.
pub(super) fn hear(state: State, known: MacAddr, old: bool, claim: &Claim) -> Lesson {
    let settled = if claim.confirms { State::Reachable } else { State::Stale };
    match (state, claim.mac) {
        (State::Failed, Some(_)) if claim.creates => Lesson::New,
        (State::Failed, _) | (State::Incomplete, None) => Lesson::Ignored,
        (State::Incomplete, Some(_)) => Lesson::Moved(settled),
        (_, Some(mac)) if mac != known => match claim.conflict {
            Conflict::Replace => Lesson::Moved(settled),
            Conflict::ReplaceOld if old => Lesson::Moved(settled),
            Conflict::Doubt if state == State::Reachable => Lesson::Same(State::Stale),
            Conflict::ReplaceOld | Conflict::Doubt => Lesson::Ignored,
        },
        _ if claim.confirms => Lesson::Same(State::Reachable),
        _ => Lesson::Same(state),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use State::{Delay, Failed, Incomplete, Probe, Reachable, Stale};

    const OLD: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
    const NEW: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);

    const ALL: [State; 6] = [Incomplete, Reachable, Stale, Delay, Probe, Failed];

    fn claim(mac: Option<MacAddr>, creates: bool, confirms: bool, conflict: Conflict) -> Claim {
        Claim { address: Addr::UNSPECIFIED_V6, mac, creates, confirms, conflict, router: None }
    }

    /// What the claim does in each state, in the order of `ALL`.
    fn row(claim: &Claim, old: bool) -> [Lesson; 6] {
        ALL.map(|state| hear(state, OLD, old, claim))
    }

    const NO: Lesson = Lesson::Ignored;
    const fn to(state: State) -> Lesson {
        Lesson::Moved(state)
    }
    const fn same(state: State) -> Lesson {
        Lesson::Same(state)
    }

    /// RFC 4861 appendix C, the rows of received advertisements and of everything else with a MAC address.
    #[test]
    fn the_table_of_appendix_c() {
        let unchanged = [same(Reachable), same(Stale), same(Delay), same(Probe)];
        let [r, s, d, p] = unchanged;
        let rows: [(&str, Claim, [Lesson; 6]); 9] = [
            (
                "NA, solicited, override, other address",
                claim(Some(NEW), false, true, Conflict::Replace),
                [to(Reachable), to(Reachable), to(Reachable), to(Reachable), to(Reachable), NO],
            ),
            (
                "NA, solicited, no override, same address",
                claim(Some(OLD), false, true, Conflict::Doubt),
                [to(Reachable), same(Reachable), same(Reachable), same(Reachable), same(Reachable), NO],
            ),
            (
                "NA, solicited, no override, other address",
                claim(Some(NEW), false, true, Conflict::Doubt),
                [to(Reachable), same(Stale), NO, NO, NO, NO],
            ),
            (
                "NA, solicited, without an address",
                claim(None, false, true, Conflict::Replace),
                [NO, same(Reachable), same(Reachable), same(Reachable), same(Reachable), NO],
            ),
            (
                "NA, unsolicited, override, other address",
                claim(Some(NEW), false, false, Conflict::Replace),
                [to(Stale), to(Stale), to(Stale), to(Stale), to(Stale), NO],
            ),
            (
                "NA, unsolicited, override, same address",
                claim(Some(OLD), false, false, Conflict::Replace),
                [to(Stale), r, s, d, p, NO],
            ),
            (
                "NA, unsolicited, no override, other address",
                claim(Some(NEW), false, false, Conflict::Doubt),
                [to(Stale), same(Stale), NO, NO, NO, NO],
            ),
            (
                "NS or RS, same address",
                claim(Some(OLD), true, false, Conflict::Replace),
                [to(Stale), r, s, d, p, Lesson::New],
            ),
            (
                "NS or RS, other address",
                claim(Some(NEW), true, false, Conflict::Replace),
                [to(Stale), to(Stale), to(Stale), to(Stale), to(Stale), Lesson::New],
            ),
        ];
        for (what, claim, expected) in rows {
            assert_eq!(row(&claim, true), expected, "{what}");
            assert_eq!(row(&claim, false), expected, "{what}: the age does not matter");
        }
    }

    #[test]
    fn of_two_arp_replies_the_first_counts_for_a_second() {
        let reply = claim(Some(NEW), false, true, Conflict::ReplaceOld);
        let taken = to(Reachable);
        assert_eq!(row(&reply, true), [taken, taken, taken, taken, taken, NO]);
        assert_eq!(row(&reply, false), [taken, NO, NO, NO, NO, NO]);
        let same_mac = claim(Some(OLD), false, true, Conflict::ReplaceOld);
        assert_eq!(row(&same_mac, false)[1..5], [same(Reachable); 4]);
    }

    #[test]
    fn frames_can_be_sent_to_who_has_an_address() {
        assert_eq!(ALL.map(State::is_resolved), [false, true, true, true, true, false]);
    }
}
