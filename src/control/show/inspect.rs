//! `inspect` and `network inspect`: JSON with Docker's keys.

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::{Map, Value, json};

use super::publishes::inspect_ports;
use super::rows::state_name;
use super::time::rfc3339;
use crate::control::Model;
use crate::control::ipam::Subnet;
use crate::control::model::{Container, Endpoint, Link, Network, State};
use crate::control::options::{BRIDGE_NAME, HOST_BINDING, MASQUERADE};

/// One element of `network inspect`'s array.
pub fn inspect_network(model: &Model, network: &Network) -> Value {
    let endpoints = model.endpoints(network.id);
    let containers = endpoints.into_iter().map(|(container, endpoint)| {
        let of = json!({
            "Name": container.name,
            "EndpointID": endpoint.id,
            "MacAddress": endpoint.mac,
            "IPv4Address": net(endpoint, IpAddr::is_ipv4).map_or_else(String::new, |net| net.to_string()),
            "IPv6Address": net(endpoint, IpAddr::is_ipv6).map_or_else(String::new, |net| net.to_string()),
        });
        (container.id.to_string(), of)
    });
    json!({
        "Name": network.name,
        "Id": network.id,
        "Created": rfc3339(network.created_ns),
        "Scope": "local",
        "Driver": network.driver.name(),
        "EnableIPv6": network.has_ipv6(),
        "IPAM": {
            "Driver": "default",
            "Options": if network.is_default() { Value::Null } else { json!({}) },
            "Config": network.subnets.iter().map(subnet).collect::<Vec<_>>(),
        },
        "Internal": network.internal,
        "Attachable": false,
        "Ingress": false,
        "Containers": containers.collect::<Map<_, _>>(),
        "Options": options(network),
        "Labels": network.labels,
    })
}

fn subnet(subnet: &Subnet) -> Value {
    let mut config = Map::new();
    config.insert("Subnet".to_owned(), json!(subnet.prefix()));
    if let Some(range) = subnet.range() {
        config.insert("IPRange".to_owned(), json!(range));
    }
    config.insert("Gateway".to_owned(), json!(subnet.gateway()));
    if !subnet.aux().is_empty() {
        config.insert("AuxiliaryAddresses".to_owned(), json!(subnet.aux()));
    }
    Value::Object(config)
}

/// What was chosen; for network `bridge` also what Docker shows of its defaults.
fn options(network: &Network) -> Value {
    let mut options: Vec<(&str, String)> = network.options.changed();
    if network.is_default() {
        options.push(("com.docker.network.bridge.default_bridge", "true".to_owned()));
        let shown = [
            "com.docker.network.bridge.enable_icc",
            MASQUERADE,
            HOST_BINDING,
            BRIDGE_NAME,
            "com.docker.network.driver.mtu",
        ];
        options.extend(shown.iter().filter_map(|key| Some((*key, network.options.get(key)?))));
    }
    options.sort();
    options.dedup();
    Value::Object(options.into_iter().map(|(key, value)| (key.to_owned(), Value::String(value))).collect())
}

/// One element of `inspect`'s array.
pub fn inspect_container(model: &Model, container: &Container) -> Value {
    let exposed = inspect_ports(model, container).into_iter().map(|(port, _)| (port, json!({})));
    let link = |link: &Link| format!("/{}:/{}/{}", link.other, container.name, link.alias);
    let links = container.links.iter().map(link);
    let settings = network_settings(model, container);
    let code = match container.state {
        State::Exited { code } => code,
        State::Created | State::Running | State::Lost => 0,
    };
    let env: Vec<String> = container.env.iter().map(|(key, value)| format!("{key}={value}")).collect();
    json!({
        "Id": container.id,
        "Created": rfc3339(container.created_ns),
        "Name": format!("/{}", container.name),
        "State": {
            "Status": state_name(container.state),
            "Running": container.state == State::Running,
            "Pid": container.pid.unwrap_or(0),
            "ExitCode": code,
        },
        "Config": {
            "Hostname": container.hostname,
            "ExposedPorts": exposed.collect::<Map<_, _>>(),
            "Env": env,
            "Cmd": container.command,
        },
        "HostConfig": {
            "Links": links.collect::<Vec<_>>(),
            "Dns": container.dns,
        },
        "NetworkSettings": settings,
    })
}

/// Docker's keys; the addresses stand beside the networks when one is `bridge`, as in its first days.
fn network_settings(model: &Model, container: &Container) -> Map<String, Value> {
    let networks = container.endpoints.iter().filter_map(|endpoint| {
        let network = model.network(endpoint.network)?;
        Some((network, endpoint, inspect_endpoint(network, endpoint)))
    });
    let networks: Vec<_> = networks.collect();
    let default = networks.iter().find(|(network, ..)| network.is_default()).map(|(.., shown)| shown);
    let mut settings = Map::new();
    settings.insert("Ports".to_owned(), Value::Object(inspect_ports(model, container)));
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
    settings.insert("Networks".to_owned(), Value::Object(by_name.collect()));
    settings
}

/// Docker's keys, then the interface inside and the port's alias: whose is which, said directly.
fn inspect_endpoint(network: &Network, endpoint: &Endpoint) -> Value {
    let four = net(endpoint, IpAddr::is_ipv4);
    let six = net(endpoint, IpAddr::is_ipv6);
    let address = |net: Option<IpNet>| net.map_or_else(String::new, |net| net.addr().to_string());
    let length = |net: Option<IpNet>| net.map_or(0, |net| net.prefix_len());
    let gateway = |ipv4: bool| {
        let gateway = network.subnets.iter().map(Subnet::gateway).find(|gateway| gateway.is_ipv4() == ipv4);
        gateway.map_or_else(String::new, |gateway| gateway.to_string())
    };
    json!({
        "IPAMConfig": null,
        "Aliases": endpoint.aliases,
        "NetworkID": network.id,
        "EndpointID": endpoint.id,
        "Gateway": gateway(true),
        "IPAddress": address(four),
        "IPPrefixLen": length(four),
        "IPv6Gateway": gateway(false),
        "GlobalIPv6Address": address(six),
        "GlobalIPv6PrefixLen": length(six),
        "MacAddress": endpoint.mac,
        "Interface": endpoint.ifname,
        "Port": endpoint.alias,
    })
}

fn net(endpoint: &Endpoint, wanted: fn(&IpAddr) -> bool) -> Option<IpNet> {
    endpoint.addresses.iter().copied().find(|net| wanted(&net.addr()))
}

#[cfg(test)]
mod tests {
    use super::super::{json as text, render, tests::model};
    use super::*;

    #[test]
    fn the_default_network_as_docker_prints_it() {
        let model = model();
        let bridge = model.find_network("bridge").unwrap();
        let expected = r#"[
    {
        "Name": "bridge",
        "Id": "0000000000000000000000000000000000000000000000000000000000000000",
        "Created": "2017-12-29T17:02:27.2509216Z",
        "Scope": "local",
        "Driver": "bridge",
        "EnableIPv6": false,
        "IPAM": {
            "Driver": "default",
            "Options": null,
            "Config": [
                {
                    "Subnet": "172.17.0.0/16",
                    "Gateway": "172.17.0.1"
                }
            ]
        },
        "Internal": false,
        "Attachable": false,
        "Ingress": false,
        "Containers": {},
        "Options": {
            "com.docker.network.bridge.default_bridge": "true",
            "com.docker.network.bridge.enable_icc": "true",
            "com.docker.network.bridge.enable_ip_masquerade": "true",
            "com.docker.network.bridge.host_binding_ipv4": "0.0.0.0",
            "com.docker.network.bridge.name": "docker0",
            "com.docker.network.driver.mtu": "1500"
        },
        "Labels": {}
    }
]
"#;
        assert_eq!(text(&[inspect_network(&model, bridge)]), expected);
    }

    #[test]
    fn endpoints_of_a_network() {
        let model = model();
        let value = inspect_network(&model, model.find_network("net2").unwrap());
        let containers = value["Containers"].as_object().unwrap();
        assert_eq!(containers.keys().collect::<Vec<_>>(), [&"0c".repeat(32)]);
        let router = &containers[&"0c".repeat(32)];
        let keys: Vec<&str> = router.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys, ["Name", "EndpointID", "MacAddress", "IPv4Address", "IPv6Address"]);
        assert_eq!(
            (&router["MacAddress"], &router["IPv4Address"]),
            (&json!("02:42:ac:14:00:02"), &json!("172.20.0.2/16"))
        );
        assert_eq!(router["IPv6Address"], "");
        assert_eq!(value["Options"], json!({"com.docker.network.bridge.enable_icc": "false"}));
        assert_eq!(value["IPAM"]["Config"][0]["IPRange"], "172.20.0.0/24");
        assert_eq!(value["IPAM"]["Config"][0]["AuxiliaryAddresses"], json!({"printer": "172.20.0.9"}));
    }

    #[test]
    fn ports_links_and_addresses_on_the_default_network() {
        let mut model = model();
        model.connect("router", &crate::control::model::EndpointSpec::on("bridge")).unwrap();
        model.publish("router", &"8000:80".parse().unwrap()).unwrap();
        model.link("router", &"alice:db".parse().unwrap()).unwrap();
        let value = inspect_container(&model, model.find_container("router").unwrap());
        assert_eq!(value["HostConfig"]["Links"], json!(["/alice:/router/db"]));
        assert_eq!(value["Config"]["ExposedPorts"], json!({"80/tcp": {}}));
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
        assert_eq!(value["State"], json!({"Status": "running", "Running": true, "Pid": 42, "ExitCode": 0}));
        assert_eq!(value["Config"]["Cmd"], json!(["python3", "-m", "http.server"]));
        assert_eq!(value["Name"], "/router");
        let gone = inspect_container(&model, model.find_container("gone").unwrap());
        assert_eq!(gone["State"], json!({"Status": "exited", "Running": false, "Pid": 0, "ExitCode": 3}));
        assert_eq!(gone["NetworkSettings"]["Networks"], json!({}));
    }
}
