//! Protocols made of lines of text: HTTP (RFC 9112), RTSP (RFC 7826), SMTP (RFC 5321), FTP (RFC 959),
//! WHOIS (RFC 3912), and the first line of SSH (RFC 4253 §4.2).

use super::bytes::{Bytes, Printed, Truncated};
use super::line::{Line, put};

/// Longer first words are no commands.
const MAX_WORD: usize = 127;

const HTTP: &[&str] = &[
    "GET",
    "PUT",
    "COPY",
    "HEAD",
    "LOCK",
    "MOVE",
    "POLL",
    "POST",
    "BCOPY",
    "BMOVE",
    "MKCOL",
    "TRACE",
    "LABEL",
    "MERGE",
    "DELETE",
    "SEARCH",
    "UNLOCK",
    "REPORT",
    "UPDATE",
    "NOTIFY",
    "BDELETE",
    "CONNECT",
    "OPTIONS",
    "CHECKIN",
    "PROPFIND",
    "CHECKOUT",
    "CCM_POST",
    "SUBSCRIBE",
    "PROPPATCH",
    "BPROPFIND",
    "BPROPPATCH",
    "UNCHECKOUT",
    "MKACTIVITY",
    "MKWORKSPACE",
    "UNSUBSCRIBE",
    "RPC_CONNECT",
    "VERSION-CONTROL",
    "BASELINE-CONTROL",
];
const RTSP: &[&str] = &[
    "DESCRIBE",
    "ANNOUNCE",
    "GET_PARAMETER",
    "OPTIONS",
    "PAUSE",
    "PLAY",
    "RECORD",
    "REDIRECT",
    "SETUP",
    "SET_PARAMETER",
    "TEARDOWN",
];

/// `length` bytes of a TCP connection that has `port` at one end.
pub(super) fn segment(line: &mut Line<'_>, port: u16, bytes: Bytes<'_>, length: usize) -> Printed {
    match port {
        22 => ssh(line, bytes.of("ssh"), length),
        21 => lines(line, bytes.of("ftp"), length, "FTP", &[]),
        25 => lines(line, bytes.of("smtp"), length, "SMTP", &[]),
        43 => lines(line, bytes.of("whois"), length, "WHOIS", &[]),
        80 | 8080 => lines(line, bytes.of("http"), length, "HTTP", HTTP),
        554 | 8554 => lines(line, bytes.of("rtsp"), length, "RTSP", RTSP),
        _ => Ok(()),
    }
}

/// The first line, with `-v` all of them. Where there are `commands`, only what begins with one of them
/// or is a response.
fn lines(line: &mut Line<'_>, bytes: Bytes<'_>, length: usize, name: &str, commands: &[&str]) -> Printed {
    put!(line, ": {name}");
    if !commands.is_empty() && !begins(bytes.upto(length).all(), bytes.holds(length), commands) {
        return Ok(());
    }
    if !line.options.verbose {
        next_line(line, bytes, length, ": ")?;
        return Ok(());
    }
    put!(line, ", length: {length}");
    let mut at = 0;
    while at < length
        && let Some(len) = next_line(line, bytes.from(at), length - at, "\n\t")?
    {
        at += len;
    }
    Ok(())
}

/// Whether a request or a response begins `text`: a command, or three digits in the second word.
fn begins(text: &[u8], complete: bool, commands: &[&str]) -> bool {
    let Some((first, rest)) = word(text, complete) else { return false };
    if commands.iter().any(|command| command.as_bytes().eq_ignore_ascii_case(first)) {
        return true;
    }
    matches!(word(rest, complete), Some((code, _)) if code.len() == 3 && code.iter().all(u8::is_ascii_digit))
}

/// The first word, and what stands behind the spaces behind it. Where more was sent than captured, a word
/// at the end may not be all of it.
fn word(text: &[u8], complete: bool) -> Option<(&[u8], &[u8])> {
    let end = text.iter().position(|byte| b" \t\r\n".contains(byte)).unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    if (rest.is_empty() && !complete)
        || word.is_empty()
        || word.len() > MAX_WORD
        || !word.iter().all(u8::is_ascii_graphic)
    {
        return None;
    }
    let spaces = rest.iter().take_while(|byte| **byte == b' ').count();
    Some((word, rest.get(spaces..).unwrap_or_default()))
}

/// Prints the next line after `prefix` and returns its length with its ending; `None` when it is not text
/// or does not end.
fn next_line(
    line: &mut Line<'_>,
    bytes: Bytes<'_>,
    length: usize,
    prefix: &str,
) -> Result<Option<usize>, Truncated> {
    let Some((len, ending)) = line_len(bytes, length, true)? else { return Ok(None) };
    put!(line, "{prefix}{}", String::from_utf8_lossy(bytes.slice(0, len)?));
    if ending == 0 {
        line.cut(bytes.truncated());
        return Ok(None);
    }
    Ok(Some(len + ending))
}

/// The lengths of a line and of its ending, which is zero when `length` ends before; `None` when it is not
/// text.
fn line_len(bytes: Bytes<'_>, length: usize, tabs: bool) -> Result<Option<(usize, usize)>, Truncated> {
    for at in 0..length {
        match bytes.u8(at)? {
            b'\n' => return Ok(Some((at, 1))),
            b'\r' if at + 1 < length && bytes.u8(at + 1)? == b'\n' => return Ok(Some((at, 2))),
            b'\t' if tabs => {}
            b' '..=b'~' => {}
            _ => return Ok(None),
        }
    }
    Ok(Some((length, 0)))
}

/// The version, if this is where the sides tell theirs.
fn ssh(line: &mut Line<'_>, bytes: Bytes<'_>, length: usize) -> Printed {
    for (at, letter) in b"SSH-".iter().enumerate() {
        if bytes.u8(at)? != *letter {
            return Ok(());
        }
    }
    if let Some((len, 1..)) = line_len(bytes, length, false)? {
        put!(line, ": SSH: {}", String::from_utf8_lossy(bytes.slice(0, len)?));
    }
    Ok(())
}
