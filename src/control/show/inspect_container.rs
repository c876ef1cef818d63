//! `inspect` of containers: JSON with Docker's keys, as far as there is something to say.

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::{Map, Value, json};

use super::inspect::net;
use super::publishes::{inspect_ports, port_bindings};
use super::rows::state_name;
use super::time::rfc3339;
use crate::control::Model;
use crate::control::ipam::Subnet;
use crate::control::model::{Container, Endpoint, Link, Network, State, Unswitched};

/// What Docker says of a time that has not come.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// One element of `inspect`'s array.
pub fn inspect_container(model: &Model, container: &Container) -> Value {
    json!({
        "Id": container.id,
        "Created": rfc3339(container.created_ns),
        "Path": container.command.first().map_or("", String::as_str),
        "Args": container.command.get(1..).unwrap_or_default(),
        "State": state(container),
        "Name": format!("/{}", container.name),
        "Platform": "linux",
        "HostConfig": host_config(model, container),
        "Config": config(model, container),
        "NetworkSettings": network_settings(model, container),
    })
}

fn state(container: &Container) -> Value {
    let (code, ended) = match container.state {
        State::Exited { code } => (code, true),
        State::Lost => (0, true),
        State::Created | State::Running => (0, false),
    };
    let changed = rfc3339(container.changed_ns);
    let running = container.state == State::Running;
    json!({
        "Status": state_name(container.state),
        "Running": running,
        "Paused": false,
        "Restarting": false,
        "OOMKilled": false,
        "Dead": false,
        "Pid": container.pid.unwrap_or(0),
        "ExitCode": code,
        "Error": "",
        "StartedAt": if running { changed.as_str() } else { NEVER },
        "FinishedAt": if ended { changed.as_str() } else { NEVER },
    })
}

fn config(model: &Model, container: &Container) -> Value {
    let exposed = inspect_ports(model, container).into_iter().map(|(port, _)| (port, json!({})));
    let exposed: Map<String, Value> = exposed.collect();
    let env: Vec<String> = container.env.iter().map(|(key, value)| format!("{key}={value}")).collect();
    json!({
        "Hostname": container.hostname,
        "Domainname": "",
        "ExposedPorts": if exposed.is_empty() { Value::Null } else { Value::Object(exposed) },
        "Env": env,
        "Cmd": container.command,
        "Image": container.image,
        "Entrypoint": null,
        "Labels": container.labels,
    })
}

fn host_config(model: &Model, container: &Container) -> Value {
    let link = |link: &Link| format!("/{}:/{}/{}", link.other, container.name, link.alias);
    let links: Vec<String> = container.links.iter().map(link).collect();
    let hosts: Vec<String> = container.extra_hosts.iter().map(|(name, ip)| format!("{name}:{ip}")).collect();
    json!({
        "NetworkMode": network_mode(model, container),
        "PortBindings": port_bindings(container),
        "Dns": container.dns,
        "DnsOptions": [],
        "DnsSearch": [],
        "ExtraHosts": if hosts.is_empty() { Value::Null } else { json!(hosts) },
        "Links": if links.is_empty() { Value::Null } else { json!(links) },
    })
}

/// The network that it began on; `default` is `bridge`.
fn network_mode(model: &Model, container: &Container) -> String {
    if let Some(network) = container.unswitched {
        return network.name().to_owned();
    }
    let first = container.endpoints.first().and_then(|endpoint| model.network(endpoint.network));
    match first {
        Some(network) if !network.is_default() => network.name.clone(),
        Some(_) | None => "default".to_owned(),
    }
}

/// Docker's keys; the addresses stand beside the networks when one is `bridge`, as in its first days.
fn network_settings(model: &Model, container: &Container) -> Map<String, Value> {
    let networks = container.endpoints.iter().filter_map(|endpoint| {
        let network = model.network(endpoint.network)?;
        Some((network, endpoint, inspect_endpoint(container, network, endpoint)))
    });
    let networks: Vec<_> = networks.collect();
    let default = networks.iter().find(|(network, ..)| network.is_default()).map(|(.., shown)| shown);
    let mut settings = Map::new();
    let namespace = container.pid.map_or_else(String::new, |pid| format!("/proc/{pid}/ns/net"));
    let first = [
        ("Bridge", json!("")),
        ("SandboxID", json!(container.id.derive(container.id))),
        ("HairpinMode", json!(false)),
        ("LinkLocalIPv6Address", json!("")),
        ("LinkLocalIPv6PrefixLen", json!(0)),
        ("Ports", Value::Object(inspect_ports(model, container))),
        ("SandboxKey", json!(namespace)),
        ("SecondaryIPAddresses", Value::Null),
        ("SecondaryIPv6Addresses", Value::Null),
    ];
    settings.extend(first.map(|(key, value)| (key.to_owned(), value)));
    let keys = [
        "EndpointID",
        "Gateway",
        "GlobalIPv6Address",
        "GlobalIPv6PrefixLen",
        "IPAddress",
        "IPPrefixLen",
        "IPv6Gateway",
        "MacAddress",
    ];
    for key in keys {
        let empty = if key.ends_with("PrefixLen") { json!(0) } else { json!("") };
        let value = default.and_then(|shown| shown.get(key)).cloned().unwrap_or(empty);
        settings.insert(key.to_owned(), value);
    }
    let by_name = networks.into_iter().map(|(network, _, shown)| (network.name.clone(), shown));
    let unswitched = container.unswitched.filter(|_| container.is_alive());
    let unswitched =
        unswitched.map(|network| (network.name().to_owned(), on_unswitched(model, container, network)));
    settings.insert("Networks".to_owned(), Value::Object(by_name.chain(unswitched).collect()));
    settings
}

/// Docker's keys, then the interface inside and the port's alias: whose is which, said directly.
fn inspect_endpoint(container: &Container, network: &Network, endpoint: &Endpoint) -> Value {
    let four = net(endpoint, IpAddr::is_ipv4);
    let six = net(endpoint, IpAddr::is_ipv6);
    let address = |net: Option<IpNet>| net.map_or_else(String::new, |net| net.addr().to_string());
    let length = |net: Option<IpNet>| net.map_or(0, |net| net.prefix_len());
    let gateway = |ipv4: bool| {
        let gateway = network.subnets.iter().map(Subnet::gateway).find(|gateway| gateway.is_ipv4() == ipv4);
        gateway.map_or_else(String::new, |gateway| gateway.to_string())
    };
    // Where names resolve, the short id is one.
    let aliases: Vec<String> = endpoint.aliases.iter().cloned().chain([container.id.short()]).collect();
    json!({
        "IPAMConfig": null,
        "Links": null,
        "Aliases": if network.is_default() { Value::Null } else { json!(aliases) },
        "NetworkID": network.id,
        "EndpointID": endpoint.id,
        "Gateway": gateway(true),
        "IPAddress": address(four),
        "IPPrefixLen": length(four),
        "IPv6Gateway": gateway(false),
        "GlobalIPv6Address": address(six),
        "GlobalIPv6PrefixLen": length(six),
        "MacAddress": endpoint.mac,
        "DriverOpts": null,
        "Interface": endpoint.ifname,
        "Port": endpoint.alias,
    })
}

/// What Docker says of an endpoint on `host` or `none`, where there is none.
fn on_unswitched(model: &Model, container: &Container, network: Unswitched) -> Value {
    let (id, _) = model.unswitched(network);
    json!({
        "IPAMConfig": null,
        "Links": null,
        "Aliases": null,
        "NetworkID": id,
        "EndpointID": container.id.derive(id),
        "Gateway": "",
        "IPAddress": "",
        "IPPrefixLen": 0,
        "IPv6Gateway": "",
        "GlobalIPv6Address": "",
        "GlobalIPv6PrefixLen": 0,
        "MacAddress": "",
        "DriverOpts": null,
    })
}

#[cfg(test)]
mod tests {
    use super::super::{render, tests::model};
    use super::*;

    #[test]
    fn ports_links_and_addresses_on_the_default_network() {
        let mut model = model();
        model.connect("router", &crate::control::model::EndpointSpec::on("bridge")).unwrap();
        model.publish("router", &"8000:80".parse().unwrap()).unwrap();
        model.link("router", &"alice:db".parse().unwrap()).unwrap();
        let value = inspect_container(&model, model.find_container("router").unwrap());
        assert_eq!(value["HostConfig"]["Links"], json!(["/alice:/router/db"]));
        assert_eq!(value["Config"]["ExposedPorts"], json!({"80/tcp": {}}));
        assert_eq!(
            value["HostConfig"]["PortBindings"],
            json!({"80/tcp": [{"HostIp": "", "HostPort": "8000"}]})
        );
        let settings = &value["NetworkSettings"];
        assert_eq!(settings["Ports"]["80/tcp"][0], json!({"HostIp": "0.0.0.0", "HostPort": "8000"}));
        assert_eq!(
            (&settings["Gateway"], &settings["IPAddress"]),
            (&json!("172.17.0.1"), &json!("172.17.0.2"))
        );
        assert_eq!((&settings["IPPrefixLen"], &settings["GlobalIPv6Address"]), (&json!(16), &json!("")));
        let alice = inspect_container(&model, model.find_container("alice").unwrap());
        assert_eq!(
            (&alice["NetworkSettings"]["IPAddress"], &alice["NetworkSettings"]["IPPrefixLen"]),
            (&json!(""), &json!(0))
        );
    }

    #[test]
    fn a_container_and_its_address_alone() {
        let model = model();
        let value = inspect_container(&model, model.find_container("router").unwrap());
        assert_eq!(render("{{.NetworkSettings.Networks.net1.IPAddress}}", &value).unwrap(), "172.19.0.3");
        assert_eq!(value["NetworkSettings"]["Networks"]["net1"]["GlobalIPv6Address"], "fd00:19::3");
        assert_eq!(value["NetworkSettings"]["Networks"]["net2"]["Interface"], "eth1");
        let state =
            |value: &Value| ["Status", "Running", "Pid", "ExitCode"].map(|key| value["State"][key].clone());
        assert_eq!(state(&value), [json!("running"), json!(true), json!(42), json!(0)]);
        assert_eq!(value["State"]["StartedAt"], "1970-01-01T00:01:20Z");
        assert_eq!(value["HostConfig"]["NetworkMode"], "net1");
        assert_eq!(value["NetworkSettings"]["SandboxKey"], "/proc/42/ns/net");
        assert_eq!(value["Config"]["Cmd"], json!(["python3", "-m", "http.server"]));
        assert_eq!(value["Name"], "/router");
        let gone = inspect_container(&model, model.find_container("gone").unwrap());
        assert_eq!(state(&gone), [json!("exited"), json!(false), json!(0), json!(3)]);
        assert_eq!(gone["NetworkSettings"]["Networks"], json!({}));
    }
}
