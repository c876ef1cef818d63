//! SOCKS version 5 (RFC 1928), the server's side of its greeting: who wants to be connected to whom.
//!
//! The machine is fed exactly the bytes that it [wants](Socks::wants), so that none of the connection's own are
//! taken. It knows CONNECT without authentication; everything else is refused as the RFC says.

use crate::wire::ip::Addr;

/// `NO AUTHENTICATION REQUIRED`, `NO ACCEPTABLE METHODS` (§3).
const NO_AUTHENTICATION: u8 = 0;
const NO_METHOD: u8 = 0xff;
const VERSION: u8 = 5;
const CONNECT: u8 = 1;
/// The longest message: a request with a name of 255 bytes.
const MAX: usize = 4 + 1 + 255 + 2;

/// Why a request is refused, or that it is not (§6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// The connection is there.
    Succeeded = 0,
    /// It may not be.
    NotAllowed = 2,
    /// There is no such host.
    HostUnreachable = 4,
    /// The host does not want it.
    Refused = 5,
    /// It is not CONNECT.
    BadCommand = 7,
    /// The address is of no known type.
    BadAddress = 8,
}

impl Reply {
    /// As it is sent. Which address the connection comes from is not told.
    pub const fn bytes(self) -> [u8; 10] {
        [VERSION, self as u8, 0, 1, 0, 0, 0, 0, 0, 0]
    }
}

/// Who is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// An address.
    Address(Addr),
    /// A name, in lower case and without a dot at its end.
    Name(String),
}

/// What the bytes came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// More is wanted.
    More,
    /// This is to be sent, and more is wanted.
    Answer([u8; 2]),
    /// A connection is asked for.
    Connect(Target, u16),
    /// This is to be sent, and then it is over.
    Refuse(Reply),
    /// It is over: this is to be sent if it is not empty.
    End(&'static [u8]),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Methods,
    Request,
}

/// One greeting.
#[derive(Debug, Clone)]
pub struct Socks {
    phase: Phase,
    bytes: Vec<u8>,
    /// How long the message is, as far as is known.
    len: usize,
}

impl Default for Socks {
    fn default() -> Self {
        Self { phase: Phase::Methods, bytes: Vec::new(), len: 2 }
    }
}

impl Socks {
    /// How many bytes it can be fed now; never 0.
    pub fn wants(&self) -> usize {
        self.len.saturating_sub(self.bytes.len()).max(1)
    }

    /// Takes bytes in, no more than [`wants`](Self::wants).
    pub fn feed(&mut self, bytes: &[u8]) -> Step {
        self.bytes.extend_from_slice(bytes);
        if self.bytes.first().is_some_and(|version| *version != VERSION) || self.bytes.len() > MAX {
            return Step::End(&[]);
        }
        if self.bytes.len() < self.len {
            return Step::More;
        }
        match self.phase {
            Phase::Methods => self.methods(),
            Phase::Request => self.request(),
        }
    }

    /// VER, NMETHODS, METHODS.
    fn methods(&mut self) -> Step {
        let [_, count, methods @ ..] = self.bytes.as_slice() else { return Step::More };
        self.len = 2 + usize::from(*count);
        if self.bytes.len() < self.len {
            return Step::More;
        }
        if !methods.contains(&NO_AUTHENTICATION) {
            return Step::End(&[VERSION, NO_METHOD]);
        }
        // Up to where the type of the address stands, and the first byte behind it.
        *self = Self { phase: Phase::Request, bytes: Vec::new(), len: 5 };
        Step::Answer([VERSION, NO_AUTHENTICATION])
    }

    /// VER, CMD, RSV, ATYP, DST.ADDR, DST.PORT.
    fn request(&mut self) -> Step {
        let [_, command, _, kind, first, ..] = *self.bytes.as_slice() else { return Step::More };
        if command != CONNECT {
            return Step::Refuse(Reply::BadCommand);
        }
        let (start, end) = match kind {
            1 => (4, 8),
            3 => (5, 5 + usize::from(first)),
            4 => (4, 20),
            _ => return Step::Refuse(Reply::BadAddress),
        };
        self.len = end + 2;
        let (Some(address), Some(port)) = (self.bytes.get(start..end), self.bytes.get(end..end + 2)) else {
            return Step::More;
        };
        let target = match (<[u8; 4]>::try_from(address), <[u8; 16]>::try_from(address)) {
            (Ok(bytes), _) if kind == 1 => Target::Address(Addr::v4(bytes)),
            (_, Ok(bytes)) if kind == 4 => Target::Address(Addr::v6(bytes)),
            _ => Target::Name(name(address)),
        };
        match port {
            [high, low] => Step::Connect(target, u16::from_be_bytes([*high, *low])),
            _ => Step::More,
        }
    }
}

fn name(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes).to_ascii_lowercase();
    text.strip_suffix('.').unwrap_or(&text).to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Feeds all bytes as they are wanted; what the last of them came to, and how many were taken.
    fn feed(bytes: &[u8], piece: usize) -> (Step, usize) {
        let (mut socks, mut taken, mut step) = (Socks::default(), 0, Step::More);
        while taken < bytes.len() && matches!(step, Step::More | Step::Answer(_)) {
            let len = socks.wants().min(piece).min(bytes.len() - taken);
            step = socks.feed(&bytes[taken..taken + len]);
            taken += len;
        }
        (step, taken)
    }

    #[test]
    fn requests_and_refusals() {
        let name = |text: &str| Step::Connect(Target::Name(text.to_owned()), 80);
        let v4 = Step::Connect(Target::Address(Addr::v4([10, 1, 0, 2])), 8000);
        let v6 = Step::Connect(Target::Address(Addr::from_bits(1)), 80);
        let six = [&[5, 1, 0, 5, 1, 0, 4][..], &1u128.to_be_bytes(), &[0, 80]].concat();
        let table: [(&[u8], Step); 12] = [
            (b"\x05\x01\x00", Step::Answer([5, 0])),
            (b"\x05\x02\x02\x00", Step::Answer([5, 0])),
            (b"\x05\x01\x02", Step::End(&[5, 0xff])),
            (b"\x05\x00", Step::End(&[5, 0xff])),
            (b"\x04\x01", Step::End(&[])),
            (b"GET / HTTP/1.1", Step::End(&[])),
            (b"\x05\x01\x00\x05\x01\x00\x03\x04WEB.\x00\x50", name("web")),
            (b"\x05\x01\x00\x05\x01\x00\x03\x00\x00\x50", name("")),
            (b"\x05\x01\x00\x05\x01\x00\x01\x0a\x01\x00\x02\x1f\x40", v4),
            (&six, v6),
            (b"\x05\x01\x00\x05\x02\x00\x01\x0a", Step::Refuse(Reply::BadCommand)),
            (b"\x05\x01\x00\x05\x01\x00\x09\x0a", Step::Refuse(Reply::BadAddress)),
        ];
        for (bytes, expected) in table {
            for piece in [1, 2, 1000] {
                assert_eq!(feed(bytes, piece).0, expected, "{bytes:?} by {piece}");
            }
        }
    }

    #[test]
    fn what_follows_is_not_taken() {
        let request = b"\x05\x01\x00\x05\x01\x00\x03\x03web\x00\x50GET / HTTP/1.1";
        assert_eq!(feed(request, 1000).1, request.len() - "GET / HTTP/1.1".len());
    }

    proptest! {
        #[test]
        fn it_ends(bytes in proptest::collection::vec(any::<u8>(), 0..600), piece in 1usize..50) {
            let (_, taken) = feed(&[&[5, 1, 0][..], &bytes].concat(), piece);
            prop_assert!(taken <= MAX + 3);
        }
    }
}
