//! Clients that are told what happens to flows (`conntrack -E`).
//!
//! Theory of operation. While somebody watches, the switch keeps events in a bounded queue, and its loop
//! says once that there are some. The control loop fetches them and hands each watcher its lines, by a
//! bounded queue to a thread of the watcher's own, which writes them into the client's pipe. Whoever
//! reads too slowly loses lines and is told how many; nobody waits for him.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use super::{Daemon, Handled, failed, next, now};
use crate::control::requests::FlowFilter;
use crate::control::show::{ConntrackRow, FlowEventRow, FlowNews, Names};
use crate::control::{Kind, Refused};
use crate::dataplane::NetworkId;
use crate::dataplane::conntrack::Event;

/// Lines that may wait for a watcher's thread.
const QUEUE: usize = 16_384;
/// Events fetched between two bursts.
const FETCHED: usize = 512;

/// Somebody who watches.
#[derive(Debug)]
pub(super) struct Watch {
    filter: FlowFilter,
    lines: Sender<String>,
    lost: u64,
}

impl Watch {
    /// Queues a line, after one that says how many were lost before; or counts it as lost.
    fn tell(&mut self, news: &FlowNews) {
        let lost = (self.lost > 0).then_some(FlowNews::Lost(self.lost));
        for news in lost.iter().chain([news]) {
            let Ok(mut line) = serde_json::to_string(news) else { continue };
            line.push('\n');
            match (self.lines.try_send(line), news) {
                (Ok(()), FlowNews::Lost(_)) => self.lost = 0,
                (Ok(()), FlowNews::Event(_)) => {}
                (Err(TrySendError::Full(_)), _) => {
                    self.lost += 1;
                    return;
                }
                // The reader has gone, and its connection is about to.
                (Err(TrySendError::Disconnected(_)), _) => return,
            }
        }
    }
}

impl Daemon {
    pub(super) fn flows_watch(
        &mut self,
        connection: usize,
        filter: FlowFilter,
        descriptors: Vec<OwnedFd>,
    ) -> Handled {
        let output = next(&mut descriptors.into_iter(), "where to write")?;
        if self.flow_watches.contains_key(&connection) {
            return Err(Refused::new(Kind::BadRequest, "this connection watches flows already"));
        }
        let (lines, queue) = bounded(QUEUE);
        let thread = std::thread::Builder::new().name("conntrack -E".into());
        thread
            .spawn(move || write_lines(&queue, output.into()))
            .map_err(|error| failed(&format!("cannot start the watcher's thread: {error}")))?;
        self.in_loop(|inner| inner.switch.watch_flows(true))?;
        self.flow_watches.insert(connection, Watch { filter, lines, lost: 0 });
        now(())
    }

    /// The client of a watch, if it was one, has gone.
    pub(super) fn flows_unwatched(&mut self, connection: usize) {
        if self.flow_watches.remove(&connection).is_some() && self.flow_watches.is_empty() {
            // Without a loop there is nothing to watch.
            let _ = self.in_loop(|inner| inner.switch.watch_flows(false));
        }
    }

    /// Something happened to flows.
    pub(super) fn tell_flow_events(&mut self) {
        let Ok((events, lost)) = self.in_loop(|inner| inner.flow_events(FETCHED)) else { return };
        let names = Names::of(&self.model);
        for watch in self.flow_watches.values_mut() {
            watch.lost += lost;
            let told = events.iter().filter(|(event, _)| watch.filter.picks(&event.flow));
            let told: Vec<FlowNews> = told.map(|(event, from)| news(event, *from, &names)).collect();
            told.iter().for_each(|news| watch.tell(news));
        }
    }
}

fn news(event: &Event, from: Option<NetworkId>, names: &Names) -> FlowNews {
    FlowNews::Event(Box::new(FlowEventRow::new(event.kind, ConntrackRow::new(&event.flow, from, names))))
}

/// Writes what comes until nobody sends or nobody reads any more.
fn write_lines(lines: &Receiver<String>, mut output: File) {
    for line in lines {
        if output.write_all(line.as_bytes()).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_reader_is_told_how_much_it_lost() {
        let (lines, queue) = bounded(2);
        let mut watch = Watch { filter: FlowFilter::default(), lines, lost: 0 };
        for number in 10..15 {
            watch.tell(&FlowNews::Lost(number));
        }
        // Two found room; the third and the two behind it did not.
        assert_eq!(queue.try_iter().count(), 2);
        assert_eq!(watch.lost, 3);
        watch.tell(&FlowNews::Lost(99));
        assert_eq!(queue.try_iter().collect::<Vec<_>>(), ["{\"lost\":3}\n", "{\"lost\":99}\n"]);
        drop(queue);
        watch.tell(&FlowNews::Lost(1));
    }
}
