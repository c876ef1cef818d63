//! The table against a naive one: a list of entries, searched from end to end. It knows the same rules
//! (what a claim does is `state::hear`, which has a table of its own) and none of the lists and slots.

use proptest::prelude::*;

use super::state::hear;
use super::*;

const LIMITS: Limits =
    Limits { table: 12, resolved: 4, searches: 3, frames: 2, port_bytes: 1500, bytes: 2500 };

#[derive(Debug, Clone)]
struct Naive {
    network: NetworkId,
    address: Addr,
    state: State,
    mac: MacAddr,
    owner: PortId,
    /// Its turn among its owner's: the lowest goes first.
    turn: u64,
    since: u64,
    updated: u64,
    fresh_until: u64,
    /// Its turn among timers that are due at once.
    deadline: Option<(u64, u64)>,
    probes: u8,
    queue: Vec<Held>,
}

#[derive(Debug, Default)]
struct Model {
    entries: Vec<Naive>,
    turns: u64,
    events: Vec<Event>,
}

const SECOND: u64 = 1_000_000_000;

impl Model {
    fn at(&self, network: NetworkId, address: Addr) -> Option<usize> {
        self.entries.iter().position(|entry| entry.network == network && entry.address == address)
    }

    fn turn(&mut self) -> u64 {
        self.turns += 1;
        self.turns
    }

    fn cost(&self, port: Option<PortId>) -> usize {
        let held = self.entries.iter().flat_map(|entry| &entry.queue);
        held.filter(|frame| port.is_none_or(|port| frame.port == port)).map(Held::cost).sum()
    }

    fn state(&self, at: usize, now: u64) -> State {
        let entry = &self.entries[at];
        if entry.state == State::Reachable && now >= entry.fresh_until { State::Stale } else { entry.state }
    }

    fn owned(&self, port: PortId, resolved: bool) -> Vec<usize> {
        let owns =
            |at: &usize| self.entries[*at].owner == port && self.entries[*at].state.is_resolved() == resolved;
        let mut owned: Vec<usize> = (0..self.entries.len()).filter(owns).collect();
        owned.sort_by_key(|at| self.entries[*at].turn);
        owned
    }

    fn resolve(
        &self,
        now: u64,
        network: NetworkId,
        address: Addr,
        from: PortId,
    ) -> Result<MacAddr, Option<DropReason>> {
        let found = self.at(network, address).map(|at| &self.entries[at]);
        if let Some(entry) = found.filter(|entry| entry.state.is_resolved()) {
            return Ok(entry.mac);
        }
        if self.cost(Some(from)) >= LIMITS.port_bytes || self.cost(None) >= LIMITS.bytes {
            return Err(Some(DropReason::NeighbourQueue));
        }
        let searches = self.owned(from, false);
        let oldest = searches.first().map(|at| &self.entries[*at]);
        let yields = oldest.is_none_or(|e| e.state == State::Failed || now >= e.since + SECOND);
        let joins = found.is_some_and(|entry| entry.state == State::Incomplete);
        if joins || searches.len() < LIMITS.searches as usize || yields {
            return Err(None);
        }
        Err(Some(DropReason::NeighbourLimit))
    }

    fn drop_entry(&mut self, at: usize, reason: DropReason) {
        let entry = self.entries.remove(at);
        let frames = entry.queue.into_iter().map(|frame| Held { answer: Vec::new(), ..frame });
        self.events.extend(frames.map(|frame| Event::Drop(reason, frame)));
    }

    fn make_room(&mut self, port: PortId, resolved: bool) {
        let limit = if resolved { LIMITS.resolved } else { LIMITS.searches } as usize;
        let own = self.owned(port, resolved);
        let goes = if own.len() >= limit {
            own.first().copied()
        } else if self.entries.len() >= LIMITS.table as usize {
            let mut ports: Vec<PortId> = self.entries.iter().map(|entry| entry.owner).collect();
            ports.push(port);
            ports.sort_unstable();
            ports.dedup();
            let total = |port: PortId| self.entries.iter().filter(|entry| entry.owner == port).count();
            let most = ports.iter().copied().max_by_key(|port| total(*port));
            let yields = if total(port) * ports.len() >= LIMITS.table as usize { Some(port) } else { most };
            let of = |resolved| yields.and_then(|port| self.owned(port, resolved).first().copied());
            of(false).or_else(|| of(true))
        } else {
            None
        };
        if let Some(at) = goes {
            self.drop_entry(at, DropReason::NeighbourLimit);
        }
    }

    fn hold(&mut self, now: u64, network: NetworkId, address: Addr, frame: Held) {
        if let Some(at) = self.at(network, address).filter(|at| self.entries[*at].state == State::Failed) {
            self.entries.remove(at);
        }
        let at = self.at(network, address).unwrap_or_else(|| {
            self.make_room(frame.port, false);
            let turn = self.turn();
            self.entries.push(Naive {
                network,
                address,
                state: State::Incomplete,
                mac: MacAddr::ZERO,
                owner: frame.port,
                turn,
                since: now,
                updated: now,
                fresh_until: 0,
                deadline: Some((now + SECOND, turn)),
                probes: 1,
                queue: Vec::new(),
            });
            self.events.push(Event::Solicit(Solicitation { network, target: address, to: None }));
            self.entries.len() - 1
        });
        self.entries[at].queue.push(frame);
        if self.entries[at].queue.len() > LIMITS.frames as usize {
            let oldest = self.entries[at].queue.remove(0);
            self.events.push(Event::Drop(DropReason::NeighbourQueue, Held { answer: Vec::new(), ..oldest }));
        }
    }

    /// `fresh` is what the table says for how long the neighbour is reachable: its random factor.
    fn learn(&mut self, now: u64, network: NetworkId, port: PortId, claim: &Claim, fresh: u64) -> Lesson {
        let found = self.at(network, claim.address);
        let lesson = match found {
            None if claim.creates && claim.mac.is_some() => Lesson::New,
            None => Lesson::Ignored,
            Some(at) => {
                let old = now - self.entries[at].updated > SECOND;
                hear(self.state(at, now), self.entries[at].mac, old, claim)
            }
        };
        let (state, is_new_mac) = match lesson {
            Lesson::Ignored => return lesson,
            Lesson::New => (State::Stale, true),
            Lesson::Moved(state) => (state, true),
            Lesson::Same(state) => (state, false),
        };
        let before = match (lesson, found) {
            (Lesson::New, found) => {
                found.into_iter().for_each(|at| drop(self.entries.remove(at)));
                State::Incomplete
            }
            (_, Some(at)) => self.state(at, now),
            (_, None) => unreachable!("only new ones are not found"),
        };
        let moves = !before.is_resolved() || found.is_some_and(|at| self.entries[at].owner != port);
        if lesson == Lesson::New || (moves && self.owned(port, true).len() >= LIMITS.resolved as usize) {
            self.make_room(port, true);
        }
        if lesson == Lesson::New {
            let (mac, queue) = (MacAddr::ZERO, Vec::new());
            let address = claim.address;
            self.entries.push(Naive {
                network,
                address,
                mac,
                queue,
                state: before,
                owner: port,
                turn: 0,
                since: now,
                updated: now,
                fresh_until: 0,
                deadline: None,
                probes: 0,
            });
        }
        let Some(at) = self.at(network, claim.address) else { unreachable!("it makes room for itself") };
        let changes = is_new_mac || state != before;
        if changes || state == State::Reachable {
            self.set(now, at, state);
            self.entries[at].fresh_until = fresh;
        }
        if changes || state == State::Reachable || self.entries[at].owner != port {
            self.entries[at].turn = self.turn();
            self.entries[at].owner = port;
        }
        let entry = &mut self.entries[at];
        if changes {
            entry.updated = now;
        }
        if is_new_mac {
            entry.mac = claim.mac.unwrap_or_default();
        }
        let (mac, queue) = (entry.mac, std::mem::take(&mut entry.queue));
        if !queue.is_empty() && self.state(at, now) == State::Stale {
            self.set(now, at, State::Delay);
            self.entries[at].turn = self.turn();
        }
        for mut frame in queue {
            frame.bytes[..6].copy_from_slice(&mac.0);
            self.events.push(Event::Send(network, frame));
        }
        lesson
    }

    fn set(&mut self, now: u64, at: usize, state: State) {
        let turn = self.turn();
        self.entries[at].state = state;
        let after = match state {
            State::Incomplete | State::Probe => Some(SECOND),
            State::Delay => Some(5 * SECOND),
            State::Failed => Some(60 * SECOND),
            State::Reachable | State::Stale => None,
        };
        self.entries[at].deadline = after.map(|after| (now + after, turn));
    }

    fn used(&mut self, now: u64, network: NetworkId, address: Addr) {
        let at = self.at(network, address).filter(|at| self.state(*at, now) == State::Stale);
        if let Some(at) = at {
            self.set(now, at, State::Delay);
            self.entries[at].turn = self.turn();
        }
    }

    /// All timers that are due by then.
    fn run(&mut self, until: u64) {
        loop {
            let due = |at: &usize| self.entries[*at].deadline.filter(|(due, _)| *due <= until);
            let next = (0..self.entries.len()).filter(|at| due(at).is_some()).min_by_key(|at| due(at));
            let Some(at) = next else { return };
            self.expire(at);
        }
    }

    fn expire(&mut self, at: usize) {
        let Some((now, _)) = self.entries[at].deadline else { return };
        let Naive { network, address, mac, state, probes, .. } = self.entries[at].clone();
        let (next, to) = match state {
            State::Failed => return self.drop_entry(at, DropReason::NeighbourFailed),
            State::Delay => (State::Probe, Some(mac)),
            State::Incomplete if probes < 3 => (state, None),
            State::Probe if probes < 3 => (state, Some(mac)),
            _ => {
                let queue = std::mem::take(&mut self.entries[at].queue);
                self.events.extend(queue.into_iter().map(|f| Event::Drop(DropReason::NeighbourFailed, f)));
                self.set(now, at, State::Failed);
                if state == State::Probe {
                    self.entries[at].turn = self.turn();
                }
                return;
            }
        };
        self.entries[at].probes = if state == State::Delay { 1 } else { probes + 1 };
        self.set(now, at, next);
        if next == State::Probe {
            self.entries[at].turn = self.turn();
        }
        self.events.push(Event::Solicit(Solicitation { network, target: address, to }));
    }

    fn forget_network(&mut self, network: NetworkId) {
        while let Some(at) = self.entries.iter().position(|entry| entry.network == network) {
            self.drop_entry(at, DropReason::EgressDown);
        }
    }

    fn forget_port(&mut self, port: PortId) {
        for at in self.owned(port, false) {
            let heir = self.entries[at].queue.iter().find(|frame| frame.port != port).map(|frame| frame.port);
            if let Some(heir) = heir {
                self.entries[at].owner = heir;
                self.entries[at].turn = self.turn();
            }
        }
        while let Some(at) = self.entries.iter().position(|entry| entry.owner == port) {
            self.drop_entry(at, DropReason::EgressDown);
        }
    }
}

#[derive(Debug, Clone)]
enum Act {
    Send { network: u32, address: u8, port: u32, len: usize },
    Claim { network: u32, port: u32, claim: Claim },
    Wait { milliseconds: u64 },
    ForgetPort(u32),
    ForgetNetwork(u32),
}

fn address(n: u8) -> Addr {
    Addr::v4([10, 0, 0, n])
}

fn act() -> impl Strategy<Value = Act> {
    let send = (0..2u32, 0..8u8, 0..4u32, 6..400usize).prop_map(|(network, address, port, len)| Act::Send {
        network,
        address,
        port,
        len,
    });
    let conflicts = [Conflict::Replace, Conflict::ReplaceOld, Conflict::Doubt];
    let claim = (0..2u32, 0..4u32, 0..8u8, proptest::option::weighted(0.9, 1..4u8), any::<[bool; 2]>());
    let claim = (claim, 0..3usize, any::<Option<bool>>());
    let claim = claim.prop_map(move |((network, port, n, mac, [creates, confirms]), conflict, router)| {
        let mac = mac.map(|n| MacAddr([2, 0, 0, 0, 0, n]));
        let conflict = conflicts[conflict];
        Act::Claim {
            network,
            port,
            claim: Claim { address: address(n), mac, creates, confirms, conflict, router },
        }
    });
    let wait = prop_oneof![0..300u64, 900..1100u64, 4000..6000u64, 20_000..70_000u64];
    prop_oneof![
        10 => send,
        8 => claim,
        6 => wait.prop_map(|milliseconds| Act::Wait { milliseconds }),
        1 => (0..4u32).prop_map(Act::ForgetPort),
        1 => (0..2u32).prop_map(Act::ForgetNetwork),
    ]
}

/// What can be seen of an entry.
type Row = (NetworkId, Addr, State, Option<MacAddr>, PortId);

fn sorted(events: impl IntoIterator<Item = Event>) -> Vec<String> {
    let mut texts: Vec<String> = events.into_iter().map(|event| format!("{event:?}")).collect();
    texts.sort_unstable();
    texts
}

/// Both tables, and what is done to them.
struct Both {
    table: Neighbours,
    model: Model,
    now: u64,
    tag: u8,
}

impl Both {
    fn act(&mut self, act: &Act) {
        let now = Instant(self.now);
        match act.clone() {
            Act::Send { network, address: n, port, len } => {
                let (network, address, port) = (NetworkId(network), address(n), PortId(port));
                self.tag = self.tag.wrapping_add(1);
                let frame =
                    Held { bytes: vec![self.tag; len], offload: Offload::NONE, port, answer: vec![1; 9] };
                let expected = self.model.resolve(self.now, network, address, port);
                match self.table.resolve(now, network, address, port) {
                    Resolution::Known(id, mac) => {
                        assert_eq!(expected, Ok(mac));
                        assert_eq!(self.table.get(id), Some((network, mac)));
                        self.table.used(now, id);
                        self.model.used(self.now, network, address);
                    }
                    Resolution::Wait => {
                        assert_eq!(expected, Err(None));
                        self.table.hold(now, network, address, frame.clone());
                        self.model.hold(self.now, network, address, frame);
                    }
                    Resolution::Fail(reason) => assert_eq!(expected, Err(Some(reason))),
                }
            }
            Act::Claim { network, port, claim } => {
                let (network, port) = (NetworkId(network), PortId(port));
                let lesson = self.table.learn(now, network, port, &claim);
                let found = self.table.entries.find(network, claim.address);
                let fresh = found.map_or(0, |slot| self.table.entries.get(slot).fresh_until.0);
                assert_eq!(self.model.learn(self.now, network, port, &claim, fresh), lesson);
                if lesson == Lesson::Same(State::Reachable) || lesson == Lesson::Moved(State::Reachable) {
                    assert!((15 * SECOND..45 * SECOND).contains(&(fresh - self.now)));
                }
            }
            Act::Wait { milliseconds } => {
                self.now += milliseconds * 1_000_000;
                while let Some(due) = self.table.next_timeout().filter(|due| due.0 <= self.now) {
                    self.table.handle_timeout(due);
                }
                self.model.run(self.now);
            }
            Act::ForgetPort(port) => {
                self.table.forget_port(PortId(port));
                self.model.forget_port(PortId(port));
            }
            Act::ForgetNetwork(network) => {
                self.table.forget_network(NetworkId(network));
                self.model.forget_network(NetworkId(network));
            }
        }
    }

    fn compare(&mut self) {
        let events = std::iter::from_fn(|| self.table.poll_event());
        assert_eq!(sorted(events), sorted(self.model.events.drain(..)));
        let rows = self.table.page(Instant(self.now), 0, usize::MAX).0.into_iter();
        let mut rows: Vec<Row> =
            rows.map(|row| (row.network, row.address, row.state, row.mac, row.port)).collect();
        rows.sort_by_key(|row| (row.0, row.1));
        let mut expected: Vec<Row> = (0..self.model.entries.len())
            .map(|at| {
                let Naive { network, address, mac, owner, state, .. } = self.model.entries[at];
                let mac = state.is_resolved().then_some(mac);
                (network, address, self.model.state(at, self.now), mac, owner)
            })
            .collect();
        expected.sort_by_key(|row| (row.0, row.1));
        assert_eq!(rows, expected);
        assert!(self.table.len() <= LIMITS.table as usize);
        assert_eq!(self.table.held, self.model.cost(None));
        let due = self.model.entries.iter().filter_map(|entry| entry.deadline).min();
        assert_eq!(self.table.next_timeout(), due.map(|(due, _)| Instant(due)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn the_table_does_as_the_naive_one(acts in proptest::collection::vec(act(), 1..120)) {
        let (table, model) = (Neighbours::new(LIMITS, 3), Model::default());
        let mut both = Both { table, model, now: SECOND, tag: 0 };
        for act in &acts {
            both.act(act);
            both.compare();
        }
    }
}
