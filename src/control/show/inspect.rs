//! `network inspect`: JSON with Docker's keys.

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::{Map, Value, json};

use super::time::rfc3339;
use crate::control::Model;
use crate::control::ipam::Subnet;
use crate::control::model::{Endpoint, Network, Unswitched};
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
        "Attachable": network.attachable,
        "Ingress": false,
        "ConfigFrom": {"Network": ""},
        "ConfigOnly": false,
        "Containers": containers.collect::<Map<_, _>>(),
        "Options": options(network),
        "Labels": network.labels,
    })
}

/// The same for `host` and `none`, whose endpoints have neither address nor MAC address.
pub fn inspect_unswitched(model: &Model, network: Unswitched) -> Value {
    let (id, created_ns) = model.unswitched(network);
    let containers = model.on_unswitched(network).into_iter().map(|container| {
        let of = json!({
            "Name": container.name,
            "EndpointID": container.id.derive(id),
            "MacAddress": "",
            "IPv4Address": "",
            "IPv6Address": "",
        });
        (container.id.to_string(), of)
    });
    json!({
        "Name": network.name(),
        "Id": id,
        "Created": rfc3339(created_ns),
        "Scope": "local",
        "Driver": network.driver(),
        "EnableIPv6": false,
        "IPAM": {"Driver": "default", "Options": null, "Config": []},
        "Internal": false,
        "Attachable": false,
        "Ingress": false,
        "ConfigFrom": {"Network": ""},
        "ConfigOnly": false,
        "Containers": containers.collect::<Map<_, _>>(),
        "Options": {},
        "Labels": {},
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

/// The address of an IP version, with its prefix length.
pub(super) fn net(endpoint: &Endpoint, wanted: fn(&IpAddr) -> bool) -> Option<IpNet> {
    endpoint.addresses.iter().copied().find(|net| wanted(&net.addr()))
}

#[cfg(test)]
mod tests {
    use super::super::{json as text, tests::model};
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
        "ConfigFrom": {
            "Network": ""
        },
        "ConfigOnly": false,
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
    fn host_and_none_as_docker_prints_them() {
        let mut model = model();
        let spec = crate::control::model::ContainerSpec {
            name: Some("quiet".to_owned()),
            networks: vec![crate::control::model::EndpointSpec::on("none")],
            ..Default::default()
        };
        model.create_container(&spec, crate::control::Id::new([14; 32]), 0).unwrap();
        let value = inspect_unswitched(&model, Unswitched::Host);
        assert_eq!((&value["Driver"], &value["Containers"]), (&json!("host"), &json!({})));
        let bridge = inspect_network(&model, model.find_network("bridge").unwrap());
        let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(keys(&value), keys(&bridge));
        let value = inspect_unswitched(&model, Unswitched::None);
        assert_eq!((&value["Driver"], &value["IPAM"]["Config"]), (&json!("null"), &json!([])));
        assert_eq!(value["Containers"]["0e".repeat(32)]["Name"], "quiet");
    }
}
