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
use crate::control::model::{
    Container, DEFAULT_NETWORK, Endpoint, EndpointSpec, Link, Listed, Network, State, Unswitched,
};

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
    let of_network =
        |it: &&Link| container.joins.iter().any(|join| holds(model, container, it, &join.network));
    let links: Vec<String> = container.links.iter().filter(|it| !of_network(it)).map(link).collect();
    let hosts: Vec<String> = container.extra_hosts.iter().map(|(name, ip)| format!("{name}:{ip}")).collect();
    json!({
        "NetworkMode": container.mode,
        "PortBindings": port_bindings(container),
        "Dns": container.dns,
        "DnsOptions": [],
        "DnsSearch": [],
        "ExtraHosts": if hosts.is_empty() { Value::Null } else { json!(hosts) },
        "Links": if links.is_empty() { Value::Null } else { json!(links) },
    })
}

/// Whether a link is one of a network of the user's: Docker shows it there, and those of network `bridge` among what
/// the host is told. Where the two share no network any more, it was one of any.
fn holds(model: &Model, container: &Container, link: &Link, network: &str) -> bool {
    let other = model.container_named(&link.other);
    let shared = |name: &str| other.is_some_and(|other| other.join(name).is_some());
    let is_apart = !container.joins.iter().any(|join| shared(&join.network));
    network != DEFAULT_NETWORK && (is_apart || shared(network))
}

/// The links of a container on one network.
fn links(model: &Model, container: &Container, network: &str) -> Value {
    let here = container.links.iter().filter(|link| holds(model, container, link, network));
    let here: Vec<String> = here.map(|link| format!("{}:{}", link.other, link.alias)).collect();
    if here.is_empty() { Value::Null } else { json!(here) }
}

/// Docker's keys; the addresses stand beside the networks when one is `bridge`, as in its first days.
fn network_settings(model: &Model, container: &Container) -> Map<String, Value> {
    let networks = container.endpoints.iter().filter_map(|endpoint| {
        let network = model.network(endpoint.network)?;
        Some((network, inspect_endpoint(model, container, network, endpoint)))
    });
    let networks: Vec<_> = networks.collect();
    let default = networks.iter().find(|(network, _)| network.is_default()).map(|(_, shown)| shown);
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
    let by_name = networks.into_iter().map(|(network, shown)| (network.name.clone(), shown));
    let unswitched = container.unswitched.filter(|_| container.is_alive());
    let unswitched =
        unswitched.map(|network| (network.name().to_owned(), on_unswitched(model, container, network)));
    let ended = container.joins.iter().filter(|_| !container.is_alive());
    let ended = ended.map(|join| (join.network.clone(), on_nothing(model, container, join)));
    settings.insert("Networks".to_owned(), Value::Object(by_name.chain(unswitched).chain(ended).collect()));
    settings
}

/// Docker's keys, then the interface inside and the port's alias: whose is which, said directly.
fn inspect_endpoint(model: &Model, container: &Container, network: &Network, endpoint: &Endpoint) -> Value {
    let four = net(endpoint, IpAddr::is_ipv4);
    let six = net(endpoint, IpAddr::is_ipv6);
    let address = |net: Option<IpNet>| net.map_or_else(String::new, |net| net.addr().to_string());
    let length = |net: Option<IpNet>| net.map_or(0, |net| net.prefix_len());
    let gateway = |ipv4: bool| {
        let gateway = network.subnets.iter().map(Subnet::gateway).find(|gateway| gateway.is_ipv4() == ipv4);
        gateway.map_or_else(String::new, |gateway| gateway.to_string())
    };
    let join = container.join(&network.name);
    let mut shown = json!({
        "IPAMConfig": ipam_config(join),
        "Links": links(model, container, &network.name),
        "Aliases": aliases(container, &network.name, &endpoint.aliases),
        "NetworkID": network.id,
        "EndpointID": endpoint.id,
        "Gateway": gateway(true),
        "IPAddress": address(four),
        "IPPrefixLen": length(four),
        "IPv6Gateway": gateway(false),
        "GlobalIPv6Address": address(six),
        "GlobalIPv6PrefixLen": length(six),
        "MacAddress": endpoint.mac,
        "DriverOpts": driver_opts(join),
    });
    // Ours: whose is which, said directly.
    shown["Interface"] = json!(endpoint.ifname);
    shown["Port"] = json!(endpoint.alias);
    shown
}

/// What was asked for of addresses; `network connect` asks for as little as nothing.
fn ipam_config(join: Option<&EndpointSpec>) -> Value {
    let addresses = join.into_iter().flat_map(|join| &join.addresses);
    let key = |ip: &IpAddr| if ip.is_ipv4() { "IPv4Address" } else { "IPv6Address" };
    let config: Map<String, Value> = addresses.map(|ip| (key(ip).to_owned(), json!(ip))).collect();
    if config.is_empty() { driver_opts(join) } else { Value::Object(config) }
}

/// None are known.
fn driver_opts(join: Option<&EndpointSpec>) -> Value {
    join.filter(|join| join.connected).map_or(Value::Null, |_| json!({}))
}

/// Where names resolve, the short id is one.
fn aliases(container: &Container, network: &str, given: &[String]) -> Value {
    if network == DEFAULT_NETWORK {
        return container.join(network).filter(|join| join.connected).map_or(Value::Null, |_| json!([]));
    }
    json!(given.iter().cloned().chain([container.id.short()]).collect::<Vec<_>>())
}

/// What Docker says of a network that a container is on when it runs, which it does not.
fn on_nothing(model: &Model, container: &Container, join: &EndpointSpec) -> Value {
    let id = match model.find_listed(&join.network) {
        Ok(Listed::Switched(network)) => network.id.to_string(),
        Ok(Listed::Unswitched(network)) => model.unswitched(network).0.to_string(),
        Err(_) => String::new(),
    };
    let is_switched = Unswitched::named(&join.network).is_none();
    let mut shown = bare(&id, "");
    shown["IPAMConfig"] = ipam_config(Some(join));
    shown["DriverOpts"] = driver_opts(Some(join));
    shown["Links"] = links(model, container, &join.network);
    if is_switched {
        shown["Aliases"] = aliases(container, &join.network, &join.aliases);
    }
    shown
}

/// What Docker says of an endpoint on `host` or `none`, where there is none.
fn on_unswitched(model: &Model, container: &Container, network: Unswitched) -> Value {
    let (id, _) = model.unswitched(network);
    bare(&id.to_string(), &container.id.derive(id).to_string())
}

/// An endpoint with neither address nor MAC address.
fn bare(network: &str, endpoint: &str) -> Value {
    json!({
        "IPAMConfig": null,
        "Links": null,
        "Aliases": null,
        "NetworkID": network,
        "EndpointID": endpoint,
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
        assert_eq!(value["HostConfig"]["Links"], Value::Null, "it holds on net1");
        assert_eq!(value["NetworkSettings"]["Networks"]["net1"]["Links"], json!(["alice:db"]));
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
        let networks = gone["NetworkSettings"]["Networks"].as_object().unwrap();
        assert!(networks.values().all(|it| it["IPAddress"] == "" && it["NetworkID"] != ""), "{networks:?}");
        assert_eq!(networks.len(), 1);
    }
}
