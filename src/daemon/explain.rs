//! `explain`: what would become of a frame, and why. Nothing changes by it.

use super::{Daemon, Handled, now};
use crate::control::plausible::{Errand, Plausible, plausible};
use crate::control::requests::Question;
use crate::control::show::{self, Explanation, Names, duration};
use crate::control::{Kind, Refused};
use crate::dataplane::frame::MAX_LEN;
use crate::dataplane::neighbour::Resolution;
use crate::dataplane::{Frame, PortId};
use crate::io::event_loop::EventLoop;
use crate::io::host;
use crate::io::last_drop::{LastDrop, Side};
use crate::wire::{MacAddr, ethernet};

impl Daemon {
    pub(super) fn explain(&self, question: Question) -> Handled {
        let explanation = match question {
            Question::Talk { source, destination, errand } => {
                self.explain_talk(&source, &destination, errand)?
            }
            Question::Frame { port, hex } => self.explain_frame(&port, &hex)?,
            Question::LastDrop { port } => self.explain_last_drop(port.as_deref())?,
        };
        now(explanation)
    }

    fn explain_talk(&self, source: &str, destination: &str, errand: Errand) -> Result<Explanation, Refused> {
        let asked = plausible(&self.model, source, destination, errand)?;
        let names = Names::of(&self.model);
        self.in_loop(move |inner| {
            let frame = Frame::from_bytes(&asked.frame(router_mac(inner, &asked)));
            let mut explained = show::explain(&inner.switch, inner.now(), asked.port, &frame, &names);
            if asked.asks {
                let words = "nobody is known to have this address, so that it is asked for; without an answer \
                             nothing more is sent";
                explained.rows.push(show::remark("but", words.to_owned()));
                explained.delivered = false;
            }
            explained
        })
    }

    fn explain_frame(&self, port: &str, hex: &str) -> Result<Explanation, Refused> {
        let (_, endpoint) = self.model.find_port(port)?;
        let (port, bytes) = (PortId(endpoint.port), bytes_of(hex)?);
        let names = Names::of(&self.model);
        self.in_loop(move |inner| {
            show::explain(&inner.switch, inner.now(), port, &Frame::from_bytes(&bytes), &names)
        })
    }

    fn explain_last_drop(&self, word: Option<&str>) -> Result<Explanation, Refused> {
        let endpoint = word.map(|word| self.model.find_port(word)).transpose()?;
        let port = endpoint.map(|(_, endpoint)| PortId(endpoint.port));
        let names = Names::of(&self.model);
        let explained = self.in_loop(move |inner| {
            let (last, at) = inner.last_drop(port)?;
            Some(last_drop(inner, &last, at, &names))
        })?;
        explained.ok_or_else(|| {
            let at = word.map_or_else(|| "anywhere".to_owned(), |word| format!("at '{word}'"));
            let text = format!(
                "no frame was dropped {at} since there are ports: 'tapswitch show drops' counts them"
            );
            Refused::new(Kind::BadState, text)
        })
    }
}

/// The MAC address of the router that a frame from outside comes from, if it has spoken.
fn router_mac(inner: &EventLoop, asked: &Plausible) -> Option<MacAddr> {
    let (network, address) = asked.router?;
    match inner.switch.neighbours().resolve(inner.now(), network, address, asked.port) {
        Resolution::Known(_, mac) => Some(mac),
        Resolution::Wait | Resolution::Fail(_) => None,
    }
}

/// What was dropped, and what would become of it now.
fn last_drop(inner: &EventLoop, last: &LastDrop, at_ns: u64, names: &Names) -> Explanation {
    let (reason, frame) = (last.reason, last.frame());
    let ago = duration(host::now_ns().saturating_sub(at_ns));
    let place = names.port(last.port);
    let mut head = vec![show::remark(
        "dropped",
        format!("at {place}, {ago} ago ({}): {}", reason.name(), reason.sentence()),
    )];
    let header = ethernet::Header::parse(frame.bytes());
    let had_waited = header.is_ok_and(|header| header.destination == MacAddr::ZERO);
    let why = match last.side {
        Side::Egress => Some("on its way out: the switch had let it pass".to_owned()),
        Side::Ingress if had_waited => {
            Some("it had been let pass, and waited for the MAC address of its next hop".to_owned())
        }
        Side::Ingress => None,
    };
    if let Some(why) = why {
        let hex = frame.bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        head.push(show::StageRow { hex: Some(hex), ..show::remark("frame", why) });
        return Explanation { rows: head, delivered: false };
    }
    let mut explanation = show::explain(&inner.switch, inner.now(), last.port, &frame, names);
    head.push(show::remark("now", "the same frame would fare as follows".to_owned()));
    explanation.rows.splice(0..0, head);
    explanation
}

fn bytes_of(hex: &str) -> Result<Vec<u8>, Refused> {
    let bad = |what: &str| {
        Refused::new(Kind::BadRequest, format!("--hex: {what}: give a frame's bytes, two digits each"))
    };
    let digits: Option<Vec<u8>> = hex
        .chars()
        .filter(|c| !c.is_whitespace() && *c != ':')
        .map(|c| Some(c.to_digit(16)? as u8))
        .collect();
    let digits = digits.ok_or_else(|| bad("there is something else than hexadecimal digits"))?;
    if !digits.len().is_multiple_of(2) {
        return Err(bad("the last byte has one digit only"));
    }
    if digits.len() > 2 * MAX_LEN {
        return Err(bad("this is longer than any frame"));
    }
    Ok(digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_in_any_dress() {
        assert_eq!(bytes_of("0a:0B 0c\n0D").unwrap(), [10, 11, 12, 13]);
        assert!(bytes_of("").unwrap().is_empty());
        for wrong in ["0g", "012", &"0".repeat(2 * MAX_LEN + 2)] {
            assert_eq!(bytes_of(wrong).unwrap_err().kind, Kind::BadRequest);
        }
    }
}
