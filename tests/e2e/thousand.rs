//! Many ports on one network; `tools/thousand-ports` does the same with a thousand, and takes the time.

use crate::harness::{Lab, until};

scenarios! {
    many_ports
}

const PORTS: usize = 100;

fn many_ports(lab: &Lab) {
    lab.daemon("");
    lab.ok("network create --subnet 10.1.0.0/16 net");
    lab.idle("first", "net");
    let foreign = lab.foreign();
    for number in 2..PORTS {
        lab.ok(&format!(
            "plug p{number} --network net --pid {} --ifname p{number} --no-config",
            foreign.pid()
        ));
    }
    lab.idle("last", "net");
    assert_eq!(lab.json("show ports").len(), PORTS);
    assert!(lab.pings("first", "last") && lab.pings("last", "first"));
    drop(foreign);
    until("the end of all but two", || lab.json("show ports").len() == 2);
    assert!(lab.pings("first", "last"));
}
