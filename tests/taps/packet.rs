//! A packet socket on a real interface: one end of a veth pair in a namespace of its own, the *parent*.
//!
//! A station behind a TAP speaks through the packet device to one at the pair's other end. Only root
//! may span a pair between two namespaces.

use std::io::PipeWriter;
use std::thread::JoinHandle;

use tapswitch::dataplane::Frame;
use tapswitch::io::device::{Device, DeviceError, Received};
use tapswitch::io::netlink::monitor::{Event, Monitor};
use tapswitch::io::netlink::{LinkConfig, Netlink};
use tapswitch::io::tap::OffloadTap;
use tapswitch::io::uplink::PacketDevice;
use tapswitch::wire::{MacAddr, Offload};

use super::inside::{DATAGRAM, Inside, PATIENCE};
use super::skip::skip;
use super::{
    Seen, WIRE_MAX, WithOffload, addresses, attach, await_event, await_frame, carry, config, eventually, mac,
};

/// Two namespaces and the pair between them: `wan0` in the parent, `eth0` (station 2) outside.
struct Link {
    parent: Inside,
    outside: Inside,
    index: u32,
}

impl Link {
    fn new() -> Result<Self, String> {
        if !nix::unistd::geteuid().is_root() {
            return Err("a veth pair between two namespaces takes root".to_owned());
        }
        let (parent, outside) = (Inside::new()?, Inside::new()?);
        let pid = outside.pid();
        parent.run(&format!("ip link add wan0 address {} type veth peer name eth0 netns {pid}", mac(9)));
        outside.netlink.configure("eth0", &config(2)).unwrap();
        let index = parent.netlink.configure("wan0", &config(9)).unwrap();
        Ok(Self { parent, outside, index })
    }

    fn outside_index(&self) -> u32 {
        self.outside.netlink.link("eth0").unwrap().index
    }

    /// Us as a station on the parent.
    fn adopt(&self, station: MacAddr, offload: bool) -> PacketDevice {
        let socket = self.parent.packet_socket();
        PacketDevice::adopt(socket, "wan0", self.index, station, offload).unwrap()
    }
}

/// Both, or the test ends.
macro_rules! link_or_skip {
    () => {
        match Link::new() {
            Ok(link) => link,
            Err(why) => return skip(&why),
        }
    };
}

/// Station 1 behind a TAP, its cable ending in the packet device.
struct Path {
    link: Link,
    station: Inside,
    thread: JoinHandle<[Seen; 2]>,
    alive: PipeWriter,
}

impl Path {
    fn new(link: Link, offload: bool) -> Self {
        let station = Inside::new().unwrap();
        let devices =
            [attach(&station, WithOffload), Box::new(link.adopt(mac(1), offload)) as Box<dyn Device>];
        station.netlink.configure("eth0", &config(1)).unwrap();
        let (end, alive) = std::io::pipe().unwrap();
        let thread = std::thread::spawn(move || carry(devices, end));
        Self { link, station, thread, alive }
    }

    /// Streams and bursts of datagrams both ways, over IPv4 and IPv6.
    fn transfer(&self) {
        let (a, b) = (&self.station, &self.link.outside);
        for (to_a, to_b) in addresses(1).into_iter().zip(addresses(2)) {
            a.stream_to(b, to_b, 1_000_000);
            b.stream_to(a, to_a, 1_000_000);
            a.datagrams_to(b, to_b, 20);
            b.datagrams_to(a, to_a, 20);
        }
    }

    /// What came from the station and what from outside.
    fn end(self) -> [Seen; 2] {
        drop(self.alive);
        self.thread.join().unwrap()
    }
}

#[test]
fn super_frames_travel_whole_both_ways() {
    let path = Path::new(link_or_skip!(), true);
    path.transfer();
    for seen in path.end() {
        assert_eq!(seen.refused, 0, "{seen:?}");
        assert!(seen.longest > 20 * DATAGRAM, "no super-frame: {seen:?}");
    }
}

#[test]
fn without_headers_frames_are_as_on_a_wire() {
    let link = link_or_skip!();
    // Nobody cuts what arrives without its offload state, so that must not happen.
    link.outside.run("ethtool -K eth0 tso off gso off tx-udp-segmentation off");
    link.parent.run("ethtool -K wan0 gro off");
    let path = Path::new(link, false);
    path.transfer();
    let [sent, received] = path.end();
    assert!(sent.longest > 20 * DATAGRAM && sent.refused == 0, "cut in software: {sent:?}");
    assert!(received.longest <= WIRE_MAX && received.refused == 0, "{received:?}");
}

#[test]
fn the_tag_of_a_vlan_is_put_back() {
    let link = link_or_skip!();
    let mut sender =
        PacketDevice::adopt(link.outside.packet_socket(), "eth0", link.outside_index(), mac(2), true)
            .unwrap();
    let mut bare = broadcast(60);
    bare.bytes_mut()[6..12].copy_from_slice(&mac(2).0);
    let mut large = super_frame(1400);
    large.bytes_mut()[..12].copy_from_slice(&[mac(1).0, mac(2).0].concat());
    for offload in [true, false] {
        let mut device = link.adopt(mac(1), offload);
        for untagged in [&bare, &large] {
            let mut bytes = untagged.bytes().to_vec();
            bytes.splice(12..12, [0x81, 0x00, 0xe0, 0x05]);
            let mut frame = Frame::from_bytes(&bytes);
            if untagged.offload.gso_type != 0 {
                frame.offload = Offload { csum_start: 38, hdr_len: 58, ..untagged.offload };
            }
            let expected = frame.offload;
            sender.send(&mut frame).unwrap();
            // Past what IPv6 says unasked.
            let mut received = await_frame(&mut device, PATIENCE).unwrap();
            while received.bytes()[12..14] == [0x86, 0xdd] {
                received = await_frame(&mut device, PATIENCE).unwrap();
            }
            assert_eq!(received.bytes(), bytes);
            if offload {
                let hdr_len = received.offload.hdr_len;
                assert_eq!(received.offload, Offload { hdr_len, ..expected });
            }
        }
    }
}

#[test]
fn what_is_not_for_us_stays_in_the_kernel() {
    let link = link_or_skip!();
    let mut device = link.adopt(mac(1), true);
    // The parent's own conversation: everything but what it sends to all.
    link.outside.run("ping -c 3 -i 0.01 -w 9 10.99.0.9");
    link.parent.run("ping -c 3 -i 0.01 -w 9 10.99.0.2");
    link.outside.run(
        "ip neigh replace 10.99.0.1 lladdr 02:00:00:00:00:01 dev eth0; ping -c 1 -w 1 10.99.0.1 || true",
    );
    let (mut frame, mut seen) = (Frame::new(), Vec::new());
    while device.recv(&mut frame).unwrap() == Received::Frame {
        let bytes = frame.bytes();
        seen.push((MacAddr(bytes[..6].try_into().unwrap()), MacAddr(bytes[6..12].try_into().unwrap())));
    }
    let ours = (mac(1), mac(2));
    assert!(seen.contains(&ours), "{seen:?}");
    let groups = seen.iter().filter(|(to, _)| to.is_group());
    assert_eq!(groups.count() + seen.iter().filter(|it| **it == ours).count(), seen.len(), "{seen:?}");
    assert!(seen.iter().all(|(_, from)| *from == mac(2)), "nothing that leaves: {seen:?}");
    assert_eq!(device.kernel_drops(), Some(0));
}

/// A broadcast of the given length, from station 1.
fn broadcast(len: usize) -> Frame {
    let mut bytes = [&[0xff; 6][..], &mac(1).0, &[0x88, 0xb5]].concat();
    bytes.resize(len, 0);
    Frame::from_bytes(&bytes)
}

/// TCP over IPv4 with so many bytes for each segment, of which there are ten.
fn super_frame(gso_size: u16) -> Frame {
    let builder = etherparse::PacketBuilder::ethernet2(mac(1).0, mac(2).0);
    let builder = builder.ipv4([10, 99, 0, 1], [10, 99, 0, 2], 64).tcp(1000, 2000, 1, 65_000);
    let mut bytes = Vec::new();
    builder.write(&mut bytes, &vec![7; usize::from(gso_size) * 10]).unwrap();
    let mut frame = Frame::from_bytes(&bytes);
    let checksum = Offload { flags: 1, csum_start: 34, csum_offset: 16, ..Offload::NONE };
    frame.offload = Offload { gso_type: 1, hdr_len: 54, gso_size, ..checksum };
    frame
}

#[test]
fn what_the_parent_cannot_take_is_refused() {
    let link = link_or_skip!();
    link.parent.run("ip link set wan0 mtu 1400");
    for offload in [true, false] {
        let mut device = link.adopt(mac(1), offload);
        assert_eq!(device.has_headers(), offload);
        assert_eq!(device.send(&mut broadcast(1414)), Ok(()));
        assert_eq!(device.send(&mut broadcast(1415)), Err(DeviceError::Refused));
        assert_eq!(device.send(&mut super_frame(1360)), Ok(()));
        assert_eq!(device.send(&mut super_frame(1361)), Err(DeviceError::Refused));
        let mut lie = super_frame(1360);
        lie.offload.csum_start = 60_000;
        assert_eq!(device.send(&mut lie), Err(DeviceError::Refused));
        link.parent.run("ip link set wan0 mtu 1500");
        assert_eq!(device.send(&mut super_frame(1460)), Ok(()), "the MTU has grown");
        assert_eq!(device.send(&mut super_frame(1461)), Err(DeviceError::Refused));
        link.parent.run("ip link set wan0 mtu 1400");
    }
}

#[test]
fn a_parent_goes_down_and_comes_back_and_is_deleted() {
    let link = link_or_skip!();
    let mut device = link.adopt(mac(1), true);
    link.parent.run("ip link set wan0 down");
    assert_eq!(await_event(&device, PATIENCE), Some(true), "an error");
    eventually("it says why", || device.recv(&mut Frame::new()) == Err(DeviceError::LinkDown));
    assert!(!device.is_gone());
    assert_eq!(device.recv(&mut Frame::new()), Ok(Received::Empty));
    assert_eq!(device.send(&mut broadcast(60)), Err(DeviceError::LinkDown));

    link.parent.run("ip link set wan0 up");
    eventually("it carries frames again", || device.send(&mut broadcast(60)) == Ok(()));
    link.outside.run(
        "ip neigh replace 10.99.0.1 lladdr 02:00:00:00:00:01 dev eth0; ping -c 1 -w 1 10.99.0.1 || true",
    );
    assert!(await_frame(&mut device, PATIENCE).is_some());

    link.parent.run("ip link del wan0");
    eventually("it is lost", || device.send(&mut broadcast(60)) == Err(DeviceError::Lost));
    assert!(device.is_gone());
}

#[test]
fn what_cannot_be_an_uplink_says_why() {
    let link = link_or_skip!();
    let refused = PacketDevice::adopt(link.parent.packet_socket(), "wan7", 77, mac(1), true).unwrap_err();
    let text = refused.to_string();
    assert!(text.contains("the interface wan7 as an uplink") && text.contains("No such device"), "{text}");
    let wrong = PacketDevice::adopt(link.parent.tun(), "wan0", link.index, mac(1), true);
    assert!(wrong.is_err(), "no socket");
}

#[test]
fn an_uplinks_descriptors_act_on_its_namespace() {
    let inside = inside_or_skip!();
    for packet in [true, false] {
        let opened = inside.uplink(packet);
        let namespace = inside.run("stat -L -c %i /proc/self/ns/net");
        assert_eq!(opened.identity.inode.to_string(), namespace.trim());
        let (netlink, mut monitor) = (Netlink::new(opened.netlink).unwrap(), Monitor::new(opened.monitor));
        let name = if packet { "lo" } else { "tapswitch0" };
        let device: Box<dyn Device> = if packet {
            let index = netlink.link(name).unwrap().index;
            Box::new(PacketDevice::adopt(opened.device, name, index, mac(1), true).unwrap())
        } else {
            Box::new(OffloadTap::attach(opened.device, name).unwrap())
        };
        let config = LinkConfig { up: true, ..LinkConfig::default() };
        let index = netlink.configure(name, &config).unwrap();
        eventually("it is told", || match monitor.next_event().unwrap() {
            Some(Event::Link(link)) => link.index == index && link.up,
            _ => false,
        });
        assert!(!device.is_gone() || !packet);
    }
}
