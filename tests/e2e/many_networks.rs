//! Many networks; `tools/many-networks` does the same with 256 of 16, and takes the time.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::harness::{Lab, Process, until};
use crate::world::Place;

scenarios! {
    many_networks
}

/// Docker's own pools hold 31.
const NETWORKS: usize = 32;
const EACH: usize = 4;

fn many_networks(lab: &Lab) {
    lab.daemon("--default-address-pool base=10.0.0.0/8,size=24");
    let networks: Vec<String> = (0..NETWORKS).map(|number| format!("net{number}")).collect();
    networks.iter().for_each(|network| drop(lab.ok(&format!("network create {network}"))));
    // In turns, so that no network's ports are numbered in a row.
    let mut boxes: BTreeMap<&str, Vec<Process>> = BTreeMap::new();
    for member in 0..EACH {
        for network in &networks {
            let foreign = lab.foreign();
            lab.ok(&format!("plug {network}-{member} --network {network} --pid {}", foreign.pid()));
            boxes.entry(network).or_default().push(foreign);
        }
    }
    assert_eq!(lab.json("network ls").len(), NETWORKS + 3, "and bridge, host, none");
    assert_eq!((lab.json("ps").len(), lab.json("show ports").len()), (NETWORKS * EACH, NETWORKS * EACH));
    let subnets: BTreeSet<String> = networks.iter().map(|network| members_are_right(lab, network)).collect();
    assert_eq!(subnets.len(), NETWORKS, "{subnets:?}");

    let pings = |from: &Process, to: &str| {
        let ping = format!("ping -c1 -W1 {}", lab.address(to));
        lab.does(Place::At(from.pid()), &ping).status.success()
    };
    for network in ["net0", "net31"] {
        assert!(pings(&boxes[network][0], &format!("{network}-3")), "{network}");
    }
    assert!(!pings(&boxes["net0"][0], "net31-0") && !pings(&boxes["net31"][3], "net30-3"));

    boxes.remove("net7");
    until("the end of one network's processes", || lab.json("ps").len() == (NETWORKS - 1) * EACH);
    lab.ok("network rm net7");
    assert_eq!(lab.json("network ls").len(), NETWORKS + 2);
    assert!(pings(&boxes["net8"][3], "net8-0"));

    lab.ok("down --all");
    for network in ["net0", "net16", "net31"] {
        for member in &boxes[network] {
            let links = lab.does(Place::At(member.pid()), "ip -o link");
            let links = String::from_utf8_lossy(&links.stdout);
            assert!(links.contains("lo:") && !links.contains("eth0"), "gone when it is said: {links}");
        }
    }
}

/// A network's members are its own, at its lowest addresses in the order they came: its subnet.
#[track_caller]
fn members_are_right(lab: &Lab, network: &str) -> String {
    let shown: Vec<Value> = serde_json::from_str(&lab.ok(&format!("network inspect {network}"))).unwrap();
    let subnet = shown[0]["IPAM"]["Config"][0]["Subnet"].as_str().unwrap();
    let prefix = subnet.strip_suffix("0/24").unwrap();
    let text = |member: &Value, key: &str| member[key].as_str().unwrap().to_owned();
    let members = shown[0]["Containers"].as_object().unwrap().values();
    let members: BTreeSet<_> = members.map(|it| (text(it, "Name"), text(it, "IPv4Address"))).collect();
    let expected = (0..EACH).map(|it| (format!("{network}-{it}"), format!("{prefix}{}/24", it + 2)));
    assert_eq!(members, expected.collect());
    subnet.to_owned()
}
