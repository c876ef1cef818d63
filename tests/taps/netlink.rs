//! Routes, addresses and what the kernel tells of them, over netlink from outside.

use std::net::IpAddr;
use std::os::fd::AsFd;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tapswitch::io::netlink::monitor::{Event, Monitor};
use tapswitch::io::netlink::{LinkConfig, Route};

use super::inside::PATIENCE;
use super::{WithOffload, attach, config, mac, os_error};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn routes_come_and_go() {
    let inside = inside_or_skip!();
    let _tap = attach(&inside, WithOffload);
    let index = inside.netlink.configure("eth0", &config(1)).unwrap();
    let routes = || inside.run("ip route show; ip -6 route show default; ip -6 route show fd12::/64");
    inside.netlink.add_default_route(index, ip("10.99.0.254")).unwrap();
    inside.netlink.add_default_route(index, ip("fd99::fe")).unwrap();
    let far = Route { to: "192.0.2.0/24".parse().unwrap(), via: Some(ip("10.99.0.7")), index };
    let far6 = Route { to: "fd12::/64".parse().unwrap(), via: Some(ip("fd99::7")), index };
    let near = Route { to: "198.51.100.0/25".parse().unwrap(), via: None, index };
    for route in [far, far6, near] {
        inside.netlink.add_route(route).unwrap();
    }
    let all = routes();
    for line in [
        "default via 10.99.0.254 dev eth0 \n",
        "default via fd99::fe dev eth0 ",
        "192.0.2.0/24 via 10.99.0.7 dev eth0 \n",
        "198.51.100.0/25 dev eth0 scope link \n",
        "fd12::/64 via fd99::7 dev eth0 ",
    ] {
        assert!(all.contains(line), "{line:?} in {all}");
    }

    let taken = inside.netlink.add_default_route(index, ip("10.99.0.9")).unwrap_err();
    assert_eq!(os_error(&taken), nix::libc::EEXIST);
    inside.netlink.replace_route(Route::default_via(ip("10.99.0.9"), index)).unwrap();
    inside.netlink.replace_route(Route::default_via(ip("fd99::9"), index)).unwrap();
    let replaced = routes();
    assert!(replaced.contains("via 10.99.0.9 ") && replaced.contains("via fd99::9 "), "{replaced}");
    assert!(!replaced.contains("10.99.0.254") && !replaced.contains("fd99::fe"), "{replaced}");

    for route in [far, far6, near] {
        inside.netlink.delete_route(route).unwrap();
        assert_eq!(os_error(&inside.netlink.delete_route(route).unwrap_err()), nix::libc::ESRCH);
    }
    let left = routes();
    assert!(!left.contains("192.0.2") && !left.contains("198.51") && !left.contains("fd12"), "{left}");
    let unreachable = inside.netlink.add_route(Route { via: Some(ip("203.0.113.1")), ..far }).unwrap_err();
    assert_eq!(os_error(&unreachable), nix::libc::ENETUNREACH);
    assert!(unreachable.to_string().contains("add a route"), "{unreachable}");
}

#[test]
fn an_interfaces_addresses_are_listed() {
    let inside = inside_or_skip!();
    let _tap = attach(&inside, WithOffload);
    let many: Vec<_> = (1..=200).map(|host| format!("10.1.0.{host}/16").parse().unwrap()).collect();
    let addresses = [config(1).addresses, many].concat();
    let index = inside.netlink.configure("eth0", &LinkConfig { addresses: addresses.clone(), ..config(1) });
    let mut listed = inside.netlink.addresses(index.unwrap()).unwrap();
    listed.sort_unstable();
    let mut expected = addresses;
    expected.sort_unstable();
    assert_eq!(listed, expected);
    let lo = inside.netlink.link("lo").unwrap().index;
    assert_eq!(inside.netlink.addresses(lo).unwrap(), []);
}

/// The next event that satisfies, past others.
fn await_event(monitor: &mut Monitor, mut wanted: impl FnMut(&Event) -> bool) -> Event {
    loop {
        while let Some(event) = monitor.next_event().unwrap() {
            if wanted(&event) {
                return event;
            }
        }
        let mut fds = [PollFd::new(monitor.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(PATIENCE).unwrap();
        assert_eq!(poll(&mut fds, timeout), Ok(1), "it was never told");
    }
}

#[test]
fn changes_of_an_interface_are_told() {
    let inside = inside_or_skip!();
    let mut monitor = Monitor::new(inside.monitor());
    assert_eq!(monitor.next_event().unwrap(), None);
    let tap = attach(&inside, WithOffload);
    let index = inside.netlink.link("eth0").unwrap().index;
    let mut link = |so: fn(&tapswitch::io::netlink::LinkInfo) -> bool| {
        await_event(
            &mut monitor,
            |event| matches!(event, Event::Link(link) if link.index == index && so(link)),
        )
    };
    link(|link| link.name == "eth0" && !link.up);
    inside.run("ip link set eth0 address 02:00:00:00:00:09 mtu 1400 up");
    link(|link| link.up && link.carrier && link.mtu == 1400 && link.mac == Some(mac(9)));
    inside.run("ip link set eth0 down");
    link(|link| !link.up);
    inside.run("ip link set eth0 name lan up");
    link(|link| link.up && link.name == "lan");

    let [v4, v6] = ["10.99.0.5/24", "fd99::5/64"].map(|text| text.parse().unwrap());
    inside.run("ip addr add 10.99.0.5/24 dev lan; ip addr add fd99::5/64 dev lan nodad");
    await_event(&mut monitor, |event| *event == Event::AddressAdded(index, v4));
    await_event(&mut monitor, |event| *event == Event::AddressAdded(index, v6));
    inside.run("ip addr del 10.99.0.5/24 dev lan; ip addr del fd99::5/64 dev lan");
    await_event(&mut monitor, |event| *event == Event::AddressRemoved(index, v4));
    await_event(&mut monitor, |event| *event == Event::AddressRemoved(index, v6));
    drop(tap);
    await_event(&mut monitor, |event| *event == Event::LinkDeleted(index));
}

#[test]
fn a_lost_event_is_told() {
    let inside = inside_or_skip!();
    let mut monitor = Monitor::new(inside.monitor());
    let _tap = attach(&inside, WithOffload);
    // More than the queue of a socket holds (net.core.rmem_default).
    inside.run(
        "for i in $(seq 600); do echo addr add 10.2.$((i / 250)).$((i % 250))/32 dev eth0; \
        echo addr del 10.2.$((i / 250)).$((i % 250))/32 dev eth0; done | ip -batch -",
    );
    await_event(&mut monitor, |event| *event == Event::Overrun);
    // And it goes on.
    while monitor.next_event().unwrap().is_some() {}
    inside.run("ip link set eth0 up");
    await_event(&mut monitor, |event| matches!(event, Event::Link(link) if link.up));
}
