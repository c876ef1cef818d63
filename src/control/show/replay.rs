//! What became of a replayed capture.

use serde::Serialize;

use super::table::Table;
use crate::control::replay::Replay;

/// A line of `replay`: an outcome with its count, or a port with its counters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum ReplayRow {
    /// How often frames ended so.
    Outcome {
        /// `forwarded`, `flooded`, a drop's reason, `skipped` or `unplaced`.
        outcome: &'static str,
        /// Records of the capture.
        records: u64,
        /// One sentence.
        sentence: &'static str,
    },
    /// What a port has seen.
    Port {
        /// Its name.
        port: String,
        /// Frames that entered there.
        rx_frames: u64,
        /// Their bytes, Ethernet header included.
        rx_bytes: u64,
        /// Frames that left there.
        tx_frames: u64,
        /// Their bytes, Ethernet header included.
        tx_bytes: u64,
        /// Frames that the switch dropped, for all reasons.
        drops: u64,
    },
}

/// The outcomes that occurred, then every port.
pub fn replay_rows(replay: &Replay) -> Vec<ReplayRow> {
    let summary = replay.summary();
    let mut outcomes = vec![
        ("forwarded", summary.forwarded, "To the port behind which the destination was learned."),
        ("flooded", summary.flooded, "To every other port of the network."),
    ];
    outcomes
        .extend(summary.dropped.reasons().map(|(reason, count)| (reason.name(), count, reason.sentence())));
    outcomes.extend([
        ("skipped", summary.skipped, "Not fed: seen on its way out, or dropped, when it was captured."),
        (
            "unplaced",
            summary.unplaced,
            "Not fed: neither source address nor interface is a port's of the lab.",
        ),
    ]);
    let occurred = outcomes.into_iter().filter(|(_, records, _)| *records > 0);
    let mut rows: Vec<ReplayRow> = occurred
        .map(|(outcome, records, sentence)| ReplayRow::Outcome { outcome, records, sentence })
        .collect();
    rows.extend(replay.ports().map(|(port, counters)| ReplayRow::Port {
        port: port.to_owned(),
        rx_frames: counters.rx.frames,
        rx_bytes: counters.rx.bytes,
        tx_frames: counters.tx.frames,
        tx_bytes: counters.tx.bytes,
        drops: counters.dropped(),
    }));
    rows
}

/// The rows as two tables: outcomes, ports.
pub fn replay_table(rows: &[ReplayRow]) -> String {
    let mut outcomes = Table::new(0, &["OUTCOME", "RECORDS", "MEANING"]);
    let mut ports = Table::new(0, &["PORT", "RX FRAMES", "RX BYTES", "TX FRAMES", "TX BYTES", "DROPS"]);
    for row in rows {
        match row {
            ReplayRow::Outcome { outcome, records, sentence } => {
                outcomes.row(vec![(*outcome).to_owned(), records.to_string(), (*sentence).to_owned()]);
            }
            ReplayRow::Port { port, rx_frames, rx_bytes, tx_frames, tx_bytes, drops } => {
                let counters = [rx_frames, rx_bytes, tx_frames, tx_bytes, drops];
                let counters = counters.map(|counter| counter.to_string());
                ports.row([port.clone()].into_iter().chain(counters).collect());
            }
        }
    }
    format!("{}\n{}", outcomes.render(), ports.render())
}
