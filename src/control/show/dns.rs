//! `show dns`: what gateways know of names, what became of questions, and whom else they ask.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::names::Names;
use super::table::Table;
use crate::dataplane::NetworkId;
use crate::dataplane::dns::forward::UpstreamCounters;
use crate::dataplane::dns::view::{CacheView, DnsView, NetworkView};
use crate::dataplane::dns::{Config, Outcome};
use crate::wire::ip::{Addr, Version};

/// A line of one of the tables of `show dns`; its `kind` tells of which.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum DnsRow {
    /// A name that a gateway knows itself.
    Name(DnsNameRow),
    /// Questions that came from a network.
    Network(DnsNetworkRow),
    /// A name server that gateways ask.
    Upstream(DnsUpstreamRow),
    /// What name servers have answered and is kept.
    Cache(DnsCacheRow),
}

/// A name that a gateway knows itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsNameRow {
    /// The gateway's network.
    pub network: String,
    /// The name.
    pub name: String,
    /// `A`, `AAAA`, or `PTR`: the address is called so.
    pub r#type: String,
    /// The address.
    pub address: IpAddr,
    /// Whose that is.
    pub container: String,
    /// The port that it is known to; empty: to all of the network.
    pub known_to: String,
}

/// Questions that came from a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsNetworkRow {
    /// The network.
    pub network: String,
    /// Names that its gateway knows itself.
    pub names: usize,
    /// How many questions had each outcome, by its name.
    #[serde(flatten)]
    pub outcomes: BTreeMap<String, u64>,
}

/// A name server that gateways ask.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsUpstreamRow {
    /// Its address and port.
    pub server: SocketAddr,
    /// Networks (`net:NAME`), and ports that have name servers of their own, joined by commas.
    pub asked_by: String,
    /// Questions that it was asked.
    pub queries: u64,
    /// Answers that it gave.
    pub answers: u64,
    /// Questions that it did not answer in time.
    pub timeouts: u64,
    /// Questions that it could not answer, or that could not be sent to it.
    pub failures: u64,
    /// Answers from its address that were to no question of ours.
    pub mismatched: u64,
}

/// What name servers have answered and is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsCacheRow {
    /// Answers.
    pub entries: usize,
    /// What they take, in bytes.
    pub bytes: usize,
    /// Questions answered from it.
    pub hits: u64,
    /// Questions that it could not answer.
    pub misses: u64,
    /// Answers that it took.
    pub inserted: u64,
    /// Answers that had to go for a limit.
    pub evicted: u64,
    /// Questions that wait for a name server.
    pub waiting: usize,
}

/// Rows of `show dns`: of what the gateways were told, and what they say.
pub fn dns_rows(told: &BTreeMap<NetworkId, Arc<Config>>, view: &DnsView, names: &Names) -> Vec<DnsRow> {
    let known = told.iter().flat_map(|(network, config)| name_rows(*network, config, names));
    let networks = view.networks.iter().map(|network| network_row(network, names));
    let asked_by = asked_by(told, names);
    let upstreams = view.upstreams.iter().map(|(server, counters)| {
        let asked_by = asked_by.get(server).map(|who| who.join(",")).unwrap_or_default();
        upstream_row(*server, asked_by, counters)
    });
    let rows = known.map(DnsRow::Name).chain(networks.map(DnsRow::Network));
    let rows = rows.chain(upstreams.map(DnsRow::Upstream));
    rows.chain([DnsRow::Cache(cache_row(&view.cache, view.waiting))]).collect()
}

fn name_rows(network: NetworkId, config: &Config, names: &Names) -> Vec<DnsNameRow> {
    let mut rows = Vec::new();
    for name in &config.names {
        let row = |kind: &str| DnsNameRow {
            network: names.network(network),
            name: name.name.clone(),
            r#type: kind.to_owned(),
            address: name.address.into(),
            container: names.host(name.address).unwrap_or_default().to_owned(),
            known_to: name.known_to.map(|port| names.port(port)).unwrap_or_default(),
        };
        rows.push(row(address_type(name.address)));
        rows.extend(name.reverse.then(|| row("PTR")));
    }
    rows
}

const fn address_type(address: Addr) -> &'static str {
    match address.version() {
        Version::V4 => "A",
        Version::V6 => "AAAA",
    }
}

fn network_row(view: &NetworkView, names: &Names) -> DnsNetworkRow {
    let outcome = |outcome: &Outcome| (outcome.name().to_owned(), view.outcomes[*outcome]);
    DnsNetworkRow {
        network: names.network(view.network),
        names: view.names,
        outcomes: Outcome::ALL.iter().map(outcome).collect(),
    }
}

/// Who asks each name server.
fn asked_by(told: &BTreeMap<NetworkId, Arc<Config>>, names: &Names) -> BTreeMap<SocketAddr, Vec<String>> {
    let mut asked: BTreeMap<SocketAddr, Vec<String>> = BTreeMap::new();
    for (network, config) in told {
        for server in &config.upstreams {
            asked.entry(*server).or_default().push(format!("net:{}", names.network(*network)));
        }
        for (port, servers) in &config.upstreams_of {
            servers.iter().for_each(|server| asked.entry(*server).or_default().push(names.port(*port)));
        }
    }
    asked
}

const fn upstream_row(server: SocketAddr, asked_by: String, counters: &UpstreamCounters) -> DnsUpstreamRow {
    let UpstreamCounters { queries, answers, timeouts, failures, mismatched } = *counters;
    DnsUpstreamRow { server, asked_by, queries, answers, timeouts, failures, mismatched }
}

const fn cache_row(cache: &CacheView, waiting: usize) -> DnsCacheRow {
    DnsCacheRow {
        entries: cache.entries,
        bytes: cache.bytes,
        hits: cache.counters.hits,
        misses: cache.counters.misses,
        inserted: cache.counters.inserted,
        evicted: cache.counters.evicted,
        waiting,
    }
}

/// `show dns`: the tables one after the other.
pub fn dns_tables(rows: &[DnsRow]) -> String {
    let mut known = Table::new(0, &["NETWORK", "NAME", "TYPE", "ADDRESS", "CONTAINER", "KNOWN TO"]);
    let outcomes = Outcome::ALL.iter().map(|outcome| outcome.name().to_uppercase().replace('_', " "));
    let header: Vec<String> =
        ["QUESTIONS FROM".to_owned(), "NAMES".to_owned()].into_iter().chain(outcomes).collect();
    let mut networks = Table::new(0, &header.iter().map(String::as_str).collect::<Vec<_>>());
    let mut upstreams =
        Table::new(0, &["UPSTREAM", "ASKED BY", "QUERIES", "ANSWERS", "TIMEOUTS", "FAILURES", "MISMATCHED"]);
    let mut last = String::new();
    for row in rows {
        match row {
            DnsRow::Name(row) => known.row(vec![
                row.network.clone(),
                row.name.clone(),
                row.r#type.clone(),
                row.address.to_string(),
                row.container.clone(),
                if row.known_to.is_empty() { "all".to_owned() } else { row.known_to.clone() },
            ]),
            DnsRow::Network(row) => {
                let count =
                    |outcome: &Outcome| row.outcomes.get(outcome.name()).copied().unwrap_or(0).to_string();
                let first = [row.network.clone(), row.names.to_string()];
                networks.row(first.into_iter().chain(Outcome::ALL.iter().map(count)).collect());
            }
            DnsRow::Upstream(row) => {
                let counts = [row.queries, row.answers, row.timeouts, row.failures, row.mismatched];
                let first = [row.server.to_string(), row.asked_by.clone()];
                upstreams.row(first.into_iter().chain(counts.map(|count| count.to_string())).collect());
            }
            DnsRow::Cache(row) => {
                last = format!(
                    "cache: {} answers in {} bytes; {} hits, {} misses, {} inserted, {} evicted; {} wait for an answer\n",
                    row.entries, row.bytes, row.hits, row.misses, row.inserted, row.evicted, row.waiting
                );
            }
        }
    }
    [known.render(), networks.render(), upstreams.render(), last].join("\n")
}

#[cfg(test)]
mod tests {
    use super::super::tests::model;
    use super::*;
    use crate::control::compile;
    use crate::dataplane::{Instant, Switch};

    #[test]
    fn tables_and_rows() {
        let mut model = model();
        model.resolvers.host.servers = vec!["10.0.0.53:53".parse().unwrap()];
        model.set_options("net2", &[("dns".to_owned(), "fd00::53".to_owned())]).unwrap();
        let mut switch = Switch::new(0);
        for change in compile::changes(&model) {
            switch.apply(Instant(0), change).unwrap();
        }
        let plan = compile::plan(&model);
        let rows = dns_rows(plan.dns(), &switch.dns_view(), &Names::of(&model));
        let text = dns_tables(&rows);
        let lines: Vec<&str> = text.lines().collect();
        let expected = [
            "NETWORK   NAME           TYPE   ADDRESS      CONTAINER   KNOWN TO",
            "net1      alice          A      172.19.0.2   alice       all",
            "net1      0b0b0b0b0b0b   A      172.19.0.2   alice       all",
            "net1      alice.net1     A      172.19.0.2   alice       all",
            "net1      alice.net1     PTR    172.19.0.2   alice       all",
            "net1      alice          AAAA   fd00:19::2   alice       all",
        ];
        assert_eq!(lines[..expected.len()], expected, "{text}");
        for line in [
            "net1      router.net2    PTR    172.20.0.2   router      router:eth0",
            "UPSTREAM        ASKED BY   QUERIES   ANSWERS   TIMEOUTS   FAILURES   MISMATCHED",
            "10.0.0.53:53    net:net1   0         0         0          0          0",
            "[fd00::53]:53   net:net2   0         0         0          0          0",
            "cache: 0 answers in 0 bytes; 0 hits, 0 misses, 0 inserted, 0 evicted; 0 wait for an answer",
        ] {
            assert!(lines.contains(&line), "{line}\n{text}");
        }
        assert!(
            lines.iter().any(|line| line.starts_with("QUESTIONS FROM   NAMES   LOCAL   CACHED")),
            "{text}"
        );
        for row in &rows {
            let json = serde_json::to_value(row).unwrap();
            assert!(json.as_object().unwrap().values().all(|value| !value.is_object()), "{json} is not flat");
            assert_eq!(serde_json::from_value::<DnsRow>(json).unwrap(), *row);
        }
    }
}
