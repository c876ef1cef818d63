//! Requests about captures.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use super::{Daemon, Handled, failed, network_number, next, now};
use crate::capture::filter::Program;
use crate::control::{Kind, Refused};
use crate::dataplane::PortId;
use crate::io::capture::Selection;

/// How long readers of captures have to take what is left when the daemon ends.
const PATIENCE: Duration = Duration::from_secs(2);

/// A capture that runs, and whose it is.
#[derive(Debug)]
pub(super) struct Session {
    connection: usize,
    wanted: Wanted,
}

/// What a client wants to see, in its own words.
#[derive(Debug)]
pub(super) struct Wanted {
    /// `any`, `net:NAME`, containers and ports; none means `any`.
    pub(super) interfaces: Vec<String>,
    /// Drops too.
    pub(super) drops: bool,
}

impl Wanted {
    /// The selection before anything is looked up.
    fn selection(&self) -> Selection {
        Selection { any: self.interfaces.is_empty(), drops: self.drops, ..Selection::default() }
    }
}

impl Daemon {
    pub(super) fn capture_start(
        &mut self,
        connection: usize,
        wanted: Wanted,
        filter: Program,
        snaplen: u32,
        descriptors: Vec<OwnedFd>,
    ) -> Handled {
        let output = next(&mut descriptors.into_iter(), "where to write")?;
        if self.captures.values().any(|session| session.connection == connection) {
            return Err(Refused::new(Kind::BadRequest, "this connection has a capture already"));
        }
        let mut selection = wanted.selection();
        for word in &wanted.interfaces {
            self.select(word, &mut selection)?;
        }
        let id = self.next_capture;
        self.next_capture += 1;
        let started =
            self.in_loop(move |inner| inner.captures.start(id, selection, filter, snaplen, output))?;
        started.map_err(|error| failed(&format!("cannot start the capture's thread: {error}")))?;
        self.captures.insert(id, Session { connection, wanted });
        now(())
    }

    pub(super) fn capture_stop(&mut self, connection: usize) -> Handled {
        let Some(id) = self.capture_of(connection) else {
            return Err(Refused::new(Kind::BadRequest, "this connection has no capture"));
        };
        self.captures.remove(&id);
        now(self.in_loop(move |inner| inner.captures.stop(id))?)
    }

    /// The client of a capture has gone.
    pub(super) fn capture_abandoned(&mut self, connection: usize) {
        if self.capture_of(connection).is_some() {
            let _ = self.capture_stop(connection);
        }
    }

    /// Ports came or went: captures of containers may mean other ports now.
    pub(super) fn reselect_captures(&self) {
        for (id, session) in &self.captures {
            let (id, mut selection) = (*id, session.wanted.selection());
            for word in &session.wanted.interfaces {
                // What has gone has nothing to show, until it comes back.
                let _ = self.select(word, &mut selection);
            }
            let _ = self.in_loop(move |inner| inner.captures.select(id, selection));
        }
    }

    /// The daemon ends: what was captured comes out, with its counts, where somebody reads it.
    pub(super) fn end_captures(&mut self) {
        let end = Instant::now() + PATIENCE;
        for thread in self.in_loop(|inner| inner.captures.end()).unwrap_or_default() {
            while !thread.is_finished() && Instant::now() < end {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }

    pub(super) fn capture_of(&self, connection: usize) -> Option<u64> {
        self.captures.iter().find(|(_, session)| session.connection == connection).map(|(id, _)| *id)
    }

    /// Adds what a word means to a selection.
    fn select(&self, word: &str, selection: &mut Selection) -> Result<(), Refused> {
        if word == "any" {
            selection.any = true;
        } else if let Some(name) = word.strip_prefix("net:") {
            selection.networks.push(network_number(self.model.find_any_network(name)?));
        } else if let Ok(container) = self.model.find_container(word) {
            if let Some(network) = container.unswitched {
                let (name, network) = (&container.name, network.name());
                let text =
                    format!("container '{name}' is on network '{network}', where no frame passes the switch");
                return Err(Refused::new(Kind::NetworkConflict, text));
            }
            selection.ports.extend(container.endpoints.iter().map(|endpoint| PortId(endpoint.port)));
        } else if let Ok((_, endpoint)) = self.model.find_port(word) {
            selection.ports.push(PortId(endpoint.port));
        } else if let Some(network) = self.network_by_bridge(word) {
            selection.networks.push(network);
        } else {
            return Err(Refused::new(
                Kind::UnknownPort,
                format!(
                    "there is nothing called '{word}' to capture on: give a container, CONTAINER:IFNAME, \
                     net:NETWORK or any ('tapswitch show ports' lists them)"
                ),
            ));
        }
        Ok(())
    }

    /// A network by its own name, or by what its bridge is called (`docker0`).
    fn network_by_bridge(&self, word: &str) -> Option<crate::dataplane::NetworkId> {
        let networks = self.model.all_networks();
        let found = networks.iter().find(|network| network.name == word || network.bridge_name() == word)?;
        Some(network_number(found))
    }
}
