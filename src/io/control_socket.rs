//! The control socket: framed JSON over a Unix stream, with descriptors.
//!
//! Theory of operation. A message is a 32-bit big-endian head and that many bytes of
//! JSON. The head's top bit says that more chunks of the same message follow; chunks
//! are at most 64 KiB, so a long reply never needs one long buffer at the reader's
//! kernel. Descriptors travel with the first byte of the message they belong to
//! (SCM_RIGHTS). The server never blocks on a client: what a client does not read waits
//! in its own buffer, and a client that sends rubbish, too much, or half a message and
//! dies costs its own connection and nothing else.

use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::unistd::geteuid;

use super::sys::passing;

/// Bytes of a message's head.
const HEAD: usize = 4;
/// Set in a head when more chunks follow.
const MORE: u32 = 1 << 31;
/// Bytes of JSON per chunk.
const CHUNK: usize = 64 << 10;
/// The longest request; replies may be longer.
pub const MAX_REQUEST: usize = 1 << 20;
/// The longest reply that a client takes.
const MAX_REPLY: usize = 1 << 30;
/// Descriptors that one message may carry.
pub const MAX_DESCRIPTORS: usize = 64;
/// What may wait for a client that does not read before its connection is closed.
const MAX_BACKLOG: usize = 64 << 20;

/// A whole message.
#[derive(Debug)]
pub struct Message {
    /// The JSON text, not yet parsed.
    pub text: Vec<u8>,
    /// The descriptors that came with it.
    pub descriptors: Vec<OwnedFd>,
}

/// Why a connection cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum ProtocolError {
    /// The peer announced more than the other side takes.
    #[error("a message longer than {0} bytes; is this a tapswitch client?")]
    TooLong(usize),
    /// Too many descriptors.
    #[error("a message with more than {MAX_DESCRIPTORS} descriptors")]
    TooManyDescriptors,
    /// The peer went away in the middle of a message.
    #[error("the other side closed the connection in the middle of a message")]
    Cut,
    /// The peer does not read.
    #[error("the other side does not read its replies")]
    Stalled,
    /// The socket failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Cuts a text into chunks with heads.
fn encode(text: &[u8]) -> Vec<u8> {
    let chunks = text.chunks(CHUNK).count().max(1);
    let mut bytes = Vec::with_capacity(text.len() + chunks * HEAD);
    for at in 0..chunks {
        let chunk = &text[at * CHUNK..text.len().min((at + 1) * CHUNK)];
        let more = if at + 1 < chunks { MORE } else { 0 };
        // A chunk's length is at most CHUNK.
        bytes.extend((chunk.len() as u32 | more).to_be_bytes());
        bytes.extend(chunk);
    }
    bytes
}

/// Puts messages together from what arrives.
#[derive(Debug, Default)]
struct Assembler {
    arrived: Vec<u8>,
    text: Vec<u8>,
    descriptors: Vec<OwnedFd>,
}

impl Assembler {
    fn push(&mut self, bytes: &[u8], descriptors: Vec<OwnedFd>) -> Result<(), ProtocolError> {
        self.arrived.extend_from_slice(bytes);
        self.descriptors.extend(descriptors);
        if self.descriptors.len() > MAX_DESCRIPTORS {
            return Err(ProtocolError::TooManyDescriptors);
        }
        Ok(())
    }

    /// The next whole message, if it is there.
    fn pop(&mut self, limit: usize) -> Result<Option<Message>, ProtocolError> {
        while let Some(head) = self.arrived.first_chunk::<HEAD>() {
            let head = u32::from_be_bytes(*head);
            let len = (head & !MORE) as usize;
            if len > limit || self.text.len() + len > limit {
                return Err(ProtocolError::TooLong(limit));
            }
            if self.arrived.len() < HEAD + len {
                break;
            }
            self.text.extend(self.arrived.drain(..HEAD + len).skip(HEAD));
            if head & MORE == 0 {
                let text = std::mem::take(&mut self.text);
                return Ok(Some(Message { text, descriptors: std::mem::take(&mut self.descriptors) }));
            }
        }
        Ok(None)
    }

    /// How many bytes are missing for certain.
    fn missing(&self) -> usize {
        let head = self.arrived.first_chunk::<HEAD>().map(|head| u32::from_be_bytes(*head) & !MORE);
        (HEAD + head.map_or(0, |len| len as usize)).saturating_sub(self.arrived.len())
    }

    fn is_empty(&self) -> bool {
        self.arrived.is_empty() && self.text.is_empty() && self.descriptors.is_empty()
    }
}

/// The server's end of a connection; never blocks.
#[derive(Debug)]
pub struct Connection {
    stream: UnixStream,
    incoming: Assembler,
    outgoing: Vec<u8>,
}

impl Connection {
    /// Takes an accepted connection.
    ///
    /// # Errors
    /// When it cannot be made non-blocking.
    pub fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self { stream, incoming: Assembler::default(), outgoing: Vec::new() })
    }

    /// Reads what is there. Returns the whole messages, and whether the peer has closed its end.
    ///
    /// # Errors
    /// When the connection cannot go on; close it.
    pub fn receive(&mut self) -> Result<(Vec<Message>, bool), ProtocolError> {
        let mut messages = Vec::new();
        let mut buffer = [0u8; 16 << 10];
        loop {
            match passing::receive(self.stream.as_fd(), &mut buffer) {
                Ok((0, _)) if self.incoming.is_empty() => return Ok((messages, true)),
                Ok((0, _)) => return Err(ProtocolError::Cut),
                Ok((len, descriptors)) => self.incoming.push(&buffer[..len], descriptors)?,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok((messages, false)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
            while let Some(message) = self.incoming.pop(MAX_REQUEST)? {
                messages.push(message);
            }
        }
    }

    /// Queues a message, and writes as much as the peer takes.
    ///
    /// # Errors
    /// When the connection cannot go on; close it.
    pub fn send(&mut self, text: &[u8]) -> Result<(), ProtocolError> {
        self.outgoing.extend(encode(text));
        self.flush()?;
        if self.outgoing.len() > MAX_BACKLOG { Err(ProtocolError::Stalled) } else { Ok(()) }
    }

    /// Sends a message with descriptors, if the peer has taken all that came before: they cannot be queued.
    ///
    /// # Errors
    /// [`Stalled`](ProtocolError::Stalled) when it has not, and when the connection cannot go on.
    pub fn send_with(&mut self, text: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<(), ProtocolError> {
        if !self.outgoing.is_empty() {
            return Err(ProtocolError::Stalled);
        }
        let bytes = encode(text);
        let sent = passing::send(self.stream.as_fd(), &bytes, descriptors)?;
        self.outgoing.extend(bytes.get(sent..).unwrap_or_default());
        self.flush()
    }

    /// Writes on, when the peer takes more.
    ///
    /// # Errors
    /// When the connection cannot go on; close it.
    pub fn flush(&mut self) -> Result<(), ProtocolError> {
        while !self.outgoing.is_empty() {
            match self.stream.write(&self.outgoing) {
                Ok(0) => return Err(ProtocolError::Cut),
                Ok(len) => drop(self.outgoing.drain(..len)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// The client's end of a connection; blocks.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    incoming: Assembler,
}

impl Client {
    /// Connects to a daemon of the caller's or of root's. Anybody could listen in `/tmp` before our daemon
    /// does, and would be handed the insides of our containers; what root connects to is root's to say.
    ///
    /// # Errors
    /// As `connect(2)`: `NotFound` and `ConnectionRefused` mean that no daemon runs. `PermissionDenied`
    /// when it is somebody else's.
    pub fn connect(path: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(path)?;
        let (own, peer) = (geteuid().as_raw(), getsockopt(&stream, PeerCredentials)?.uid());
        if !is_trusted(own, peer) {
            return Err(io::Error::new(ErrorKind::PermissionDenied, format!("user {peer} listens there")));
        }
        Ok(Self { stream, incoming: Assembler::default() })
    }

    /// Sends a message.
    ///
    /// # Errors
    /// What the socket refuses; the daemon has gone, most likely.
    pub fn send(&mut self, text: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let bytes = encode(text);
        let sent = passing::send(self.stream.as_fd(), &bytes, descriptors)?;
        self.stream.write_all(&bytes[sent..])
    }

    /// Waits for a message; `None` when the daemon closed the connection.
    ///
    /// # Errors
    /// When the connection cannot go on.
    pub fn receive(&mut self) -> Result<Option<Message>, ProtocolError> {
        let mut buffer = vec![0u8; CHUNK + HEAD];
        loop {
            if let Some(message) = self.incoming.pop(MAX_REPLY)? {
                return Ok(Some(message));
            }
            // No further than this message: descriptors of the next one would seem to be its own.
            let missing = self.incoming.missing().clamp(1, buffer.len());
            match passing::receive(self.stream.as_fd(), &mut buffer[..missing]) {
                Ok((0, _)) if self.incoming.is_empty() => return Ok(None),
                Ok((0, _)) => return Err(ProtocolError::Cut),
                Ok((len, descriptors)) => self.incoming.push(&buffer[..len], descriptors)?,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Whether user `own` may hand descriptors to a daemon of user `daemon`.
const fn is_trusted(own: u32, daemon: u32) -> bool {
    own == 0 || daemon == 0 || own == daemon
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn pair() -> (Client, Connection) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (Client { stream: ours, incoming: Assembler::default() }, Connection::new(theirs).unwrap())
    }

    #[test]
    fn descriptors_stay_with_their_message() {
        let (mut client, mut server) = pair();
        let (other, _) = UnixStream::pair().unwrap();
        for _ in 0..2 {
            server.send(b"an answer").unwrap();
            server.send_with(b"a notice", &[other.as_fd()]).unwrap();
        }
        for _ in 0..2 {
            for (text, count) in [(&b"an answer"[..], 0), (b"a notice", 1)] {
                let message = client.receive().unwrap().unwrap();
                assert_eq!((message.text.as_slice(), message.descriptors.len()), (text, count));
            }
        }
    }

    #[test]
    fn a_long_message_arrives_whole_with_its_descriptors() {
        let (mut client, mut server) = pair();
        let text = vec![b'x'; CHUNK * 2 + 17];
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let sender = std::thread::spawn({
            let text = text.clone();
            move || {
                client.send(&text, &[ours.as_fd()]).unwrap();
                client
            }
        });
        let message = loop {
            if let Some(message) = server.receive().unwrap().0.pop() {
                break message;
            }
        };
        let mut client = sender.join().unwrap();
        assert_eq!((message.text.len(), message.descriptors.len()), (text.len(), 1));
        UnixStream::from(message.descriptors.into_iter().next().unwrap()).write_all(b"hi").unwrap();
        let mut hello = [0; 2];
        theirs.read_exact(&mut hello).unwrap();
        assert_eq!(&hello, b"hi");
        server.send(b"").unwrap();
        assert_eq!(client.receive().unwrap().unwrap().text, b"");
        drop(server);
        assert!(client.receive().unwrap().is_none());
    }

    #[test]
    fn rubbish_too_much_and_half_a_message_are_errors_not_panics() {
        let (client, mut server) = pair();
        (&client.stream).write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        assert!(matches!(server.receive(), Err(ProtocolError::TooLong(MAX_REQUEST))));

        let (client, mut server) = pair();
        for _ in 0..17 {
            (&client.stream).write_all(&(CHUNK as u32 | MORE).to_be_bytes()).unwrap();
            let mut left = vec![0; CHUNK];
            while !left.is_empty() {
                let sent = (&client.stream).write(&left).unwrap();
                left.drain(..sent);
                if let Err(error) = server.receive() {
                    assert!(matches!(error, ProtocolError::TooLong(_)));
                    return;
                }
            }
        }
        panic!("a request of {} bytes was taken", 17 * CHUNK);
    }

    #[test]
    fn a_stranger_that_listens_is_no_daemon_of_ours() {
        assert!(is_trusted(1000, 1000) && is_trusted(1000, 0) && is_trusted(0, 1000));
        assert!(!is_trusted(1000, 1001));
    }

    #[test]
    fn a_client_that_dies_in_mid_request_is_noticed() {
        let (client, mut server) = pair();
        (&client.stream).write_all(&[0, 0, 0, 9, b'{']).unwrap();
        drop(client);
        assert!(matches!(server.receive(), Err(ProtocolError::Cut)));
    }
}
