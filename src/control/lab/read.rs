//! TOML values into specs, with a mistake for each value that cannot be one.

use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Draft, DraftContainer, DraftNetwork};
use crate::control::ipam::{Subnet, SubnetSpec};
use crate::control::mistake::{Mistake, Span};
use crate::control::model::{ContainerSpec, DEFAULT_NETWORK, EndpointSpec, LinkSpec, NetworkSpec};
use crate::control::naming::{check_hostname, nearest};
use crate::control::options::{NetworkOptions, comma_list, name_server};
use crate::control::ports::PublishSpec;
use crate::control::sources::source;

const TOP: [&str; 5] = ["network", "container", "uplink", "route", "rule"];
const NETWORK: [&str; 10] = [
    "driver",
    "subnet",
    "gateway",
    "ip_range",
    "aux_address",
    "ipv6",
    "internal",
    "options",
    "labels",
    "dns",
];
const CONTAINER: [&str; 13] = [
    "networks",
    "command",
    "env",
    "forward",
    "sysctls",
    "hostname",
    "aliases",
    "extra_hosts",
    "publish",
    "publish_from",
    "expose",
    "links",
    "dns",
];
const ENDPOINT: [&str; 6] = ["name", "ip", "mac", "alias", "aliases", "ifname"];

/// Keys that other versions have: who uses them shall not hunt for a slip of the pen.
const OTHER_VERSIONS: [&str; 2] = ["impair", "check"];

pub(super) type Value<'i> = Spanned<DeValue<'i>>;

/// Reads a lab file; the draft holds what could be read.
pub(super) fn read(name: &str, text: &str) -> (Draft, Vec<Mistake>) {
    let (root, errors) = DeTable::parse_recoverable(text);
    let mut reader = Reader { lab: name, mistakes: Vec::new() };
    let mut draft = Draft::default();
    if !errors.is_empty() {
        let mistake = |error: toml::de::Error| Mistake::new(error.span().unwrap_or(0..0), error.message());
        return (draft, errors.into_iter().map(mistake).collect());
    }
    for (key, place, value) in entries(root.get_ref()) {
        match key {
            "network" => draft.networks = reader.named(value, "network", Reader::network),
            "container" => draft.containers = reader.named(value, "container", Reader::container),
            "uplink" => draft.uplinks = reader.named(value, "uplink", Reader::uplink),
            "route" => reader.routes(value, &mut draft),
            "rule" => reader.rules(value, &mut draft),
            _ => reader.unknown(key, place, "a lab", &TOP),
        }
    }
    (draft, reader.mistakes)
}

pub(super) struct Reader<'a> {
    pub(super) lab: &'a str,
    pub(super) mistakes: Vec<Mistake>,
}

impl Reader<'_> {
    /// The tables below `[network]` or `[container]`, each read by `read`.
    fn named<T>(
        &mut self,
        value: &Value<'_>,
        what: &str,
        read: impl Fn(&mut Self, &str, Span, &DeTable<'_>) -> T,
    ) -> Vec<T> {
        let mut all = Vec::new();
        for (name, place, value) in self.table(value, &format!("'{what}'")) {
            if let DeValue::Table(table) = value.get_ref() {
                all.push(read(self, name, place, table));
            } else {
                self.wrong_type(value, &format!("{what} '{name}'"), "a table");
            }
        }
        all
    }

    fn network(&mut self, name: &str, place: Span, table: &DeTable<'_>) -> DraftNetwork {
        let before = self.mistakes.len();
        let mut spec = NetworkSpec { lab: Some(self.lab.to_owned()), ..NetworkSpec::named(name) };
        let mut subnets_place = place.clone();
        let mut parts = SubnetParts::default();
        for (key, place, value) in entries(table) {
            let what = format!("'{key}' of network '{name}'");
            match key {
                "driver" => self.driver(value, &what),
                "subnet" => {
                    subnets_place = value.span();
                    parts.subnets = self.parsed_list(value, &what, "a subnet such as 172.19.0.0/16");
                }
                "ip_range" => parts.ranges = self.parsed_list(value, &what, "a prefix such as 172.19.5.0/24"),
                "gateway" => parts.gateways = self.parsed_list(value, &what, "an address such as 172.19.0.1"),
                "aux_address" => parts.aux = self.addresses(value, &what),
                "ipv6" => spec.ipv6 = self.boolean(value, &what),
                "internal" => spec.internal = self.boolean(value, &what),
                "options" => spec.options.extend(self.options(value, &what)),
                "dns" => {
                    let servers = comma_list(&self.name_servers(value, &what));
                    spec.options.push(("dns".to_owned(), servers));
                }
                "labels" => {
                    spec.labels =
                        self.pairs(value, &what).into_iter().map(|(key, _, text)| (key, text)).collect()
                }
                _ => self.unknown(key, place, "a network", &NETWORK),
            }
        }
        spec.subnets = self.subnets(&parts, &subnets_place);
        DraftNetwork { name_place: place, subnets_place, spec, sound: self.mistakes.len() == before }
    }

    fn container(&mut self, name: &str, place: Span, table: &DeTable<'_>) -> DraftContainer {
        let mut spec = ContainerSpec {
            name: Some(name.to_owned()),
            lab: Some(self.lab.to_owned()),
            ..ContainerSpec::default()
        };
        let mut endpoints = vec![(place.clone(), EndpointSpec::on(DEFAULT_NETWORK))];
        let mut aliases = Vec::new();
        let (mut publish, mut links) = (Vec::<(Span, PublishSpec)>::new(), Vec::<(Span, LinkSpec)>::new());
        for (key, place, value) in entries(table) {
            let what = format!("'{key}' of container '{name}'");
            match key {
                "networks" => endpoints = self.endpoints(value, &what),
                "command" => spec.command = self.command(value, &what),
                "env" => {
                    spec.env =
                        self.pairs(value, &what).into_iter().map(|(key, _, text)| (key, text)).collect()
                }
                "forward" => spec.forward = Some(self.boolean(value, &what)),
                "sysctls" => {
                    spec.sysctls =
                        self.pairs(value, &what).into_iter().map(|(key, _, text)| (key, text)).collect()
                }
                "publish" => {
                    publish = self.parsed_list(value, &what, "what is to be published, such as 8000:80");
                }
                "publish_from" => spec.publish_from = self.sources(value, &what),
                "expose" => spec.expose = self.values(value, &what, "a port such as 80 or 53/udp"),
                "links" => links = self.parsed_list(value, &what, "a container, such as db or db:database"),
                "dns" => spec.dns = self.name_servers(value, &what),
                "hostname" => spec.hostname = self.hostnames(value, &what).pop(),
                "aliases" => aliases = self.hostnames(value, &what),
                "extra_hosts" => {
                    spec.extra_hosts =
                        self.addresses(value, &what).into_iter().map(|(_, name, ip)| (name, ip)).collect()
                }
                _ => self.unknown(key, place, "a container", &CONTAINER),
            }
        }
        for (_, endpoint) in endpoints.iter_mut().filter(|(_, endpoint)| endpoint.network != DEFAULT_NETWORK)
        {
            endpoint.aliases.extend(aliases.iter().cloned());
        }
        let (endpoint_places, networks) = endpoints.into_iter().unzip();
        spec.networks = networks;
        let (publish_places, link_places);
        (publish_places, spec.publish) = publish.into_iter().unzip();
        (link_places, spec.links) = links.into_iter().unzip();
        DraftContainer { name_place: place, endpoint_places, publish_places, link_places, spec }
    }

    fn driver(&mut self, value: &Value<'_>, what: &str) {
        match self.text(value, what) {
            Some("bridge") | None => {}
            Some(other) => {
                let message = format!("{what} cannot be '{other}' in this version: it takes \"bridge\"");
                self.mistakes.push(Mistake::new(value.span(), message));
            }
        }
    }

    /// Pairs the parts of subnets, and checks each subnet where it stands.
    fn subnets(&mut self, parts: &SubnetParts, place: &Span) -> Vec<SubnetSpec> {
        let values = |list: &[(Span, IpNet)]| list.iter().map(|(_, value)| *value).collect::<Vec<_>>();
        let gateways: Vec<IpAddr> = parts.gateways.iter().map(|(_, value)| *value).collect();
        let aux: Vec<(String, IpAddr)> = parts.aux.iter().map(|(_, name, ip)| (name.clone(), *ip)).collect();
        let specs =
            match SubnetSpec::assemble(&values(&parts.subnets), &values(&parts.ranges), &gateways, &aux) {
                Ok(specs) => specs,
                Err(refused) => {
                    let first_part = parts.ranges.first().map(|(place, _)| place);
                    let first_part = first_part.or(parts.gateways.first().map(|(place, _)| place));
                    let first_part = first_part.or(parts.aux.first().map(|(place, _, _)| place));
                    let place = first_part.unwrap_or(place).clone();
                    self.mistakes.push(Mistake::new(place, refused.message));
                    return Vec::new();
                }
            };
        for ((place, _), spec) in parts.subnets.iter().zip(&specs) {
            if let Err(refused) = Subnet::new(spec) {
                self.mistakes.push(Mistake::new(place.clone(), refused.message));
            }
        }
        specs
    }

    fn options(&mut self, value: &Value<'_>, what: &str) -> Vec<(String, String)> {
        let pairs = self.pairs(value, what);
        for (key, place, text) in &pairs {
            if let Err(refused) = NetworkOptions::default().set(key, text) {
                self.mistakes.push(Mistake::new(place.clone(), refused.message));
            }
        }
        pairs.into_iter().map(|(key, _, text)| (key, text)).collect()
    }

    /// `["net1", { name = "net2", ip = "172.20.0.9" }]`.
    fn endpoints(&mut self, value: &Value<'_>, what: &str) -> Vec<(Span, EndpointSpec)> {
        let DeValue::Array(items) = value.get_ref() else {
            self.wrong_type(value, what, "a list of networks");
            return Vec::new();
        };
        let mut endpoints = Vec::new();
        for item in items {
            match item.get_ref() {
                DeValue::String(name) => endpoints.push((item.span(), EndpointSpec::on(name))),
                DeValue::Table(table) => endpoints.extend(self.endpoint(table, item.span(), what)),
                DeValue::Integer(_)
                | DeValue::Float(_)
                | DeValue::Boolean(_)
                | DeValue::Datetime(_)
                | DeValue::Array(_) => {
                    self.wrong_type(
                        item,
                        &format!("an entry of {what}"),
                        "a network's name or { name = .. }",
                    );
                }
            }
        }
        endpoints
    }

    fn endpoint(&mut self, table: &DeTable<'_>, place: Span, what: &str) -> Option<(Span, EndpointSpec)> {
        let before = self.mistakes.len();
        let mut spec = EndpointSpec::default();
        for (key, place, value) in entries(table) {
            let what = format!("'{key}' in {what}");
            match key {
                "name" => spec.network = self.text(value, &what).unwrap_or_default().to_owned(),
                "ip" => {
                    let addresses = self.parsed_list(value, &what, "an address such as 172.19.0.9");
                    spec.addresses = addresses.into_iter().map(|(_, ip)| ip).collect();
                }
                "mac" => {
                    spec.mac = self
                        .parsed_list(value, &what, "a MAC address such as 02:42:ac:13:00:09")
                        .pop()
                        .map(|(_, mac)| mac)
                }
                "alias" | "aliases" => spec.aliases = self.hostnames(value, &what),
                "ifname" => spec.ifname = self.text(value, &what).map(str::to_owned),
                _ => self.unknown(key, place, "a network of a container", &ENDPOINT),
            }
        }
        if spec.network.is_empty() && self.mistakes.len() == before {
            let message = format!("an entry of {what} has no name: write {{ name = \"net1\", .. }}");
            self.mistakes.push(Mistake::new(place.clone(), message));
        }
        (self.mistakes.len() == before).then_some((place, spec))
    }

    fn name_servers(&mut self, value: &Value<'_>, what: &str) -> Vec<IpAddr> {
        let wanted = "the address of a name server, such as 10.0.0.53";
        let mut servers = Vec::new();
        for (place, text) in self.texts(value, what, wanted) {
            match name_server(&text) {
                Some(server) => servers.push(server),
                None => {
                    let message = format!("{what} cannot be '{text}': it takes {wanted}");
                    self.mistakes.push(Mistake::new(place, message));
                }
            }
        }
        servers
    }

    /// Who may call. An empty list would say that nobody may, and mean that everybody may.
    fn sources(&mut self, value: &Value<'_>, what: &str) -> Vec<IpNet> {
        let texts = self.texts(value, what, "a prefix such as 192.0.2.0/24");
        if value.get_ref().as_array().is_some_and(|items| items.is_empty()) {
            let message = format!("{what} names nobody: name who may call, or leave it out");
            self.mistakes.push(Mistake::new(value.span(), message));
        }
        let mut sources = Vec::new();
        for (place, text) in texts {
            match source(&text) {
                Ok(net) => sources.push(net),
                Err(refused) => {
                    self.mistakes.push(Mistake::new(place, format!("{what}: {}", refused.message)));
                }
            }
        }
        sources
    }

    /// A list is the words of the command; a text goes to the shell, as in a Dockerfile.
    fn command(&mut self, value: &Value<'_>, what: &str) -> Vec<String> {
        if let Some(line) = value.get_ref().as_str() {
            return ["/bin/sh", "-c", line].map(str::to_owned).to_vec();
        }
        let words = self.texts(value, what, "a text or a list of texts");
        words.into_iter().map(|(_, word)| word).collect()
    }

    fn hostnames(&mut self, value: &Value<'_>, what: &str) -> Vec<String> {
        let mut names = Vec::new();
        for (place, name) in self.texts(value, what, "a name or a list of names") {
            match check_hostname(&name) {
                Ok(()) => names.push(name),
                Err(refused) => self.mistakes.push(Mistake::new(place, refused.message)),
            }
        }
        names
    }

    /// A table of addresses by name.
    fn addresses(&mut self, value: &Value<'_>, what: &str) -> Vec<(Span, String, IpAddr)> {
        let mut addresses = Vec::new();
        for (name, place, text) in self.pairs(value, what) {
            if let Some(address) = self.parsed(place.clone(), &text, what, "an address such as 172.19.0.9") {
                addresses.push((place, name, address));
            }
        }
        addresses
    }

    /// One text, or a list of texts, as values.
    pub(super) fn values<T: FromStr>(&mut self, value: &Value<'_>, what: &str, wanted: &str) -> Vec<T> {
        self.parsed_list(value, what, wanted).into_iter().map(|(_, parsed)| parsed).collect()
    }

    pub(super) fn word(&mut self, value: &Value<'_>, what: &str) -> Option<String> {
        self.text(value, what).map(str::to_owned)
    }

    /// A number that the type can hold.
    pub(super) fn number<T: FromStr>(&mut self, value: &Value<'_>, what: &str) -> Option<T> {
        let number = match value.get_ref() {
            DeValue::Integer(number) => number.to_string().parse().ok(),
            _ => None,
        };
        if number.is_none() {
            self.wrong_type(value, what, "a whole number in its range");
        }
        number
    }

    fn parsed_list<T: FromStr>(&mut self, value: &Value<'_>, what: &str, wanted: &str) -> Vec<(Span, T)> {
        let mut list = Vec::new();
        for (place, text) in self.texts(value, what, wanted) {
            list.extend(self.parsed(place.clone(), &text, what, wanted).map(|parsed| (place, parsed)));
        }
        list
    }

    fn parsed<T: FromStr>(&mut self, place: Span, text: &str, what: &str, wanted: &str) -> Option<T> {
        let parsed = text.parse().ok();
        if parsed.is_none() {
            let message = format!("{what} cannot be '{text}': it takes {wanted}");
            self.mistakes.push(Mistake::new(place, message));
        }
        parsed
    }

    /// One text, or a list of texts.
    fn texts(&mut self, value: &Value<'_>, what: &str, wanted: &str) -> Vec<(Span, String)> {
        let single = std::slice::from_ref(value);
        let items = value.get_ref().as_array().map_or(single, |items| &items[..]);
        let mut texts = Vec::new();
        for item in items {
            match item.get_ref().as_str() {
                Some(text) => texts.push((item.span(), text.to_owned())),
                None => self.wrong_type(item, what, wanted),
            }
        }
        texts
    }

    fn text<'v>(&mut self, value: &'v Value<'_>, what: &str) -> Option<&'v str> {
        let text = value.get_ref().as_str();
        if text.is_none() {
            self.wrong_type(value, what, "a text");
        }
        text
    }

    pub(super) fn boolean(&mut self, value: &Value<'_>, what: &str) -> bool {
        let boolean = value.get_ref().as_bool();
        if boolean.is_none() {
            self.wrong_type(value, what, "true or false");
        }
        boolean.unwrap_or_default()
    }

    /// A table of texts, numbers and booleans, as texts.
    fn pairs(&mut self, value: &Value<'_>, what: &str) -> Vec<(String, Span, String)> {
        let mut pairs = Vec::new();
        for (key, _, value) in self.table(value, what) {
            match value.get_ref() {
                DeValue::String(text) => {
                    pairs.push((key.to_owned(), value.span(), text.clone().into_owned()))
                }
                DeValue::Integer(number) => pairs.push((key.to_owned(), value.span(), number.to_string())),
                DeValue::Boolean(boolean) => pairs.push((key.to_owned(), value.span(), boolean.to_string())),
                DeValue::Float(_) | DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => {
                    self.wrong_type(
                        value,
                        &format!("'{key}' in {what}"),
                        "a text, a whole number, true or false",
                    );
                }
            }
        }
        pairs
    }

    fn table<'v, 'i>(&mut self, value: &'v Value<'i>, what: &str) -> Vec<(&'v str, Span, &'v Value<'i>)> {
        if let DeValue::Table(table) = value.get_ref() {
            return entries(table);
        }
        self.wrong_type(value, what, "a table");
        Vec::new()
    }

    pub(super) fn wrong_type(&mut self, value: &Value<'_>, what: &str, wanted: &str) {
        let found = value.get_ref().type_str();
        let mistake = Mistake::new(value.span(), format!("{what} must be {wanted}"));
        self.mistakes.push(mistake.with_label(format!("this is of type {found}")));
    }

    pub(super) fn unknown(&mut self, key: &str, place: Span, of: &str, known: &[&str]) {
        let mistake = Mistake::new(place, format!("key '{key}' of {of} is not known in this version"));
        let label = match nearest(key, known.iter().copied()) {
            _ if OTHER_VERSIONS.contains(&key) => "take it out".to_owned(),
            Some(nearest) => format!("did you mean '{nearest}'?"),
            None => format!("known are {}", known.join(", ")),
        };
        self.mistakes.push(mistake.with_label(label));
    }
}

/// The parts of a network's subnets, each with its place.
#[derive(Default)]
struct SubnetParts {
    subnets: Vec<(Span, IpNet)>,
    ranges: Vec<(Span, IpNet)>,
    gateways: Vec<(Span, IpAddr)>,
    aux: Vec<(Span, String, IpAddr)>,
}

/// Keys, their places and values, in the file's order.
pub(super) fn entries<'v, 'i>(table: &'v DeTable<'i>) -> Vec<(&'v str, Span, &'v Value<'i>)> {
    let entry = |(key, value): (&'v Spanned<std::borrow::Cow<'i, str>>, &'v Value<'i>)| {
        (key.get_ref().as_ref(), key.span(), value)
    };
    let mut entries: Vec<_> = table.iter().map(entry).collect();
    entries.sort_by_key(|(_, place, _)| place.start);
    entries
}
