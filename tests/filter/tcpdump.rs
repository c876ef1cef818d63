//! Asking the installed tcpdump, if there is one.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use tapswitch::capture::filter::Program;

use crate::frames::Frame;

/// Whether tcpdump is there; says loudly what is left out when it is not.
pub(crate) fn is_installed(what_is_skipped: &str) -> bool {
    let found = Command::new("tcpdump").arg("--version").output().is_ok();
    if !found {
        eprintln!("SKIP: {what_is_skipped}: tcpdump is not installed (apt install tcpdump)");
    }
    found
}

/// Whether tcpdump stands on the libpcap whose instructions we reproduce; later ones may order them
/// otherwise without another meaning.
pub(crate) fn has_our_libpcap(what_is_skipped: &str) -> bool {
    let output = Command::new("tcpdump").arg("--version").output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    let ours = String::from_utf8_lossy(&text).contains("libpcap version 1.10.");
    if !ours {
        eprintln!("SKIP: {what_is_skipped}: tcpdump does not use libpcap 1.10");
    }
    ours
}

/// libpcap's program, or `None` when it refuses the expression.
pub(crate) fn compile(expression: &str) -> Option<Program> {
    let output = Command::new("tcpdump").args(["-y", "EN10MB", "-ddd", "--", expression]).output().unwrap();
    let listing = String::from_utf8(output.stdout).unwrap();
    output.status.success().then(|| Program::from_ddd(&listing).unwrap())
}

/// libpcap's own verdict on each frame, or `None` when it refuses the expression.
pub(crate) fn verdicts(expression: &str, frames: &[Frame]) -> Option<Vec<bool>> {
    let output = filter(&pcap(frames), expression);
    if !output.status.success() {
        return None;
    }
    let mut verdicts = vec![false; frames.len()];
    let mut rest = output.stdout.get(24..).unwrap();
    while let Some((header, tail)) = rest.split_first_chunk::<16>() {
        let field = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().unwrap()) as usize;
        // The seconds of a frame's time are its index.
        verdicts[field(0)] = true;
        rest = &tail[field(8)..];
    }
    Some(verdicts)
}

fn filter(pcap: &[u8], expression: &str) -> Output {
    let mut child = Command::new("tcpdump")
        .args(["-r", "-", "-w", "-", "--", expression])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The file is smaller than a pipe holds. tcpdump may refuse the expression without reading it.
    let _ = child.stdin.take().unwrap().write_all(pcap);
    child.wait_with_output().unwrap()
}

/// A pcap file whose frames are stamped with their index as seconds.
fn pcap(frames: &[Frame]) -> Vec<u8> {
    let mut file = Vec::new();
    for word in [0xa1b2_c3d4u32, 0x0004_0002, 0, 0, 262_144, 1] {
        file.extend(word.to_le_bytes());
    }
    for (index, frame) in frames.iter().enumerate() {
        for word in [index, 0, frame.bytes.len(), frame.wire_len] {
            file.extend((word as u32).to_le_bytes());
        }
        file.extend(&frame.bytes);
    }
    file
}
