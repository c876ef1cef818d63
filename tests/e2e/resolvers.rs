//! Questions that are not ours to answer: a name server outside is asked, and the C library hears it.

use crate::harness::Lab;
use crate::world::{FAR4, FAR6, Outside, WAN4, WAN6, two_networks};

scenarios! {
    a_name_server_outside_is_asked
    what_does_not_fit_comes_by_tcp
}

/// A name server: 192.0.2.1 for every name, and for those that begin with `big` so many addresses that they
/// have to be fetched by TCP. Says what it was asked for addresses, by what and by whom. Word: its address.
const NAME_SERVER: &str = r"
import selectors, socket, struct, sys
family = socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET
poll = selectors.DefaultSelector()
for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
    s = socket.socket(family, kind)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind((sys.argv[1], 53))
    if kind == socket.SOCK_STREAM: s.listen(100)
    poll.register(s, selectors.EVENT_READ)
def answer(by, question, peer):
    end, labels = 12, []
    while question[end]:
        labels.append(question[end + 1:end + 1 + question[end]].decode())
        end += 1 + question[end]
    end += 5
    kind, name = struct.unpack('>H', question[end - 4:end - 2])[0], '.'.join(labels)
    if kind == 1: print(by, name, peer)
    cut = name.startswith('big') and by == 'udp'
    count = 0 if kind != 1 or cut else 200 if name.startswith('big') else 1
    record = lambda n: b'\xc0\x0c' + struct.pack('>HHIHBBBB', 1, 1, 60, 4, 192, 0, 2, n + 1)
    header = question[:2] + struct.pack('>HHHHH', 0x8380 if cut else 0x8180, 1, count, 0, 0)
    return header + question[12:end] + b''.join(map(record, range(count)))
print('ready')
while True:
    for key, _ in poll.select():
        s = key.fileobj
        if s.type == socket.SOCK_DGRAM:
            question, peer = s.recvfrom(65535)
            s.sendto(answer('udp', question, peer[0]), peer)
        else:
            c, peer = s.accept()
            length = struct.unpack('>H', c.recv(2, socket.MSG_WAITALL))[0]
            said = answer('tcp', c.recv(length, socket.MSG_WAITALL), peer[0])
            c.sendall(struct.pack('>H', len(said)) + said)
            c.close()
";

/// The addresses of a name, as the C library of a container finds them.
fn addresses(lab: &Lab, container: &str, name: &str) -> Vec<String> {
    let said = lab.inside(container, &format!("getent -s dns ahostsv4 {name}"));
    let streams = said.lines().filter(|line| line.contains("STREAM"));
    streams.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

fn a_name_server_outside_is_asked(lab: &Lab) {
    two_networks(lab, &format!("--dns {FAR4}"));
    lab.ok(&format!("network set net2 -o dns={FAR6}"));
    let outside = Outside::behind(lab, "");
    for (container, server, ours) in [("alice", FAR4, WAN4), ("carol", FAR6, WAN6)] {
        let mut server = lab.serves(&outside, NAME_SERVER, &[server]);
        assert_eq!(addresses(lab, container, "Some.example"), ["192.0.2.1"]);
        assert_eq!(server.lines.next(), Some(format!("udp Some.example {ours}")));
        // It is kept; and what the network knows itself nobody is asked for.
        assert_eq!(addresses(lab, container, "some.EXAMPLE"), ["192.0.2.1"]);
        assert_eq!(addresses(lab, container, container).len(), 1);
        assert_eq!(addresses(lab, container, "other.example"), ["192.0.2.1"]);
        assert_eq!(server.lines.next(), Some(format!("udp other.example {ours}")));
    }
}

fn what_does_not_fit_comes_by_tcp(lab: &Lab) {
    two_networks(lab, &format!("--dns {FAR4}"));
    lab.ok(&format!("network set net2 -o dns={FAR6}"));
    let outside = Outside::behind(lab, "");
    for (container, server, ours) in [("alice", FAR4, WAN4), ("carol", FAR6, WAN6)] {
        let mut server = lab.serves(&outside, NAME_SERVER, &[server]);
        assert_eq!(addresses(lab, container, "big.example").len(), 200);
        // The library by UDP; then it by TCP, for which we ask by UDP first.
        let said: Vec<_> = server.lines.by_ref().take(3).collect();
        assert_eq!(said, ["udp", "udp", "tcp"].map(|by| format!("{by} big.example {ours}")));
    }
}
