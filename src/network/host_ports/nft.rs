//! Host ports as nftables rules: one table for each family, replaced as a whole.
//!
//! The table and its chains have the reference's names, `crio-hostports`, so that who knows one
//! finds the other's: `nft list table ip crio-hostports`. Each change is one transaction that says
//! all there is to say; so it does not matter what was there before, or who flushed it.
//!
//! A port is a rule of its own and not an element of a map, against the reference: nft's JSON has
//! no words for a map to an address and a port (1.0.6 makes a set of it, without an error).
//!
//! Facts: libnftables-json(5), nft(8).

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use serde_json::json;

use crate::sys::process::Command;

use super::claims::Family;
use super::claims::Forward;
use super::error::HostPortError;
use super::programs;

/// What our table is called.
pub(super) const TABLE: &str = "crio-hostports";
/// Netfilter's priorities of translation and of filtering.
const DNAT: i32 = -100;
const SNAT: i32 = 100;
const FILTER: i32 = 0;
/// How long nft may take; on a node with very many rules it reads them all first.
const PATIENCE: Duration = Duration::from_secs(30);

/// Whether nft can make such rules on this node.
pub(super) async fn check(program: &Path) -> Result<(), HostPortError> {
    run(program, &["-j", "-c", "-f", "-"], &transaction(Family::V4, &[Forward::sample()])).await
}

/// Makes these the rules of the family, and no others; none at all if there are none.
pub(super) async fn replace(
    program: &Path,
    family: Family,
    forwards: &[Forward],
) -> Result<(), HostPortError> {
    run(program, &["-j", "-f", "-"], &transaction(family, forwards)).await
}

async fn run(program: &Path, arguments: &[&str], input: &Value) -> Result<(), HostPortError> {
    let command = Command::new(program)
        .args(arguments)
        .env("PATH", programs::path())
        .stdin(serde_json::to_vec(input)?)
        .timeout(PATIENCE);
    command.run().await?.success()?;
    Ok(())
}

fn transaction(family: Family, forwards: &[Forward]) -> Value {
    let table = Table { family, commands: Vec::new() };
    let mut table = table.add("table", json!({"name": TABLE}));
    let gone = json!({"delete": {"table": {"family": name(family), "name": TABLE}}});
    // Adding what is there already is fine, so that deleting it always is, too.
    table.commands.push(gone);
    if !forwards.is_empty() {
        table = rules(table.add("table", json!({"name": TABLE})), forwards);
    }
    json!({"nftables": table.commands})
}

fn rules(table: Table, forwards: &[Forward]) -> Table {
    let family = table.family;
    let hook = |name: &str, kind: &str, hook: &str, priority: i32| json!({"name": name, "type": kind, "hook": hook, "prio": priority, "policy": "accept"});
    let to_us = json!([
        {"match": {"op": "==", "left": {"fib": {"result": "type", "flags": ["daddr"]}}, "right": "local"}},
        {"goto": {"target": "hostports"}},
    ]);
    let mut table = table
        .add("chain", json!({"name": "hostports"}))
        .add("chain", hook("prerouting", "nat", "prerouting", DNAT))
        .add("chain", hook("output", "nat", "output", DNAT))
        .add("chain", hook("masquerading", "nat", "postrouting", SNAT))
        .rule("prerouting", to_us.clone(), None)
        .rule("output", to_us, None);
    if family == Family::V4 {
        table = table.add("chain", hook("localnet", "filter", "input", FILTER)).rule(
            "localnet",
            strangers_on_loopback(),
            None,
        );
    }
    for forward in forwards {
        table = table.rule("hostports", translation(family, forward), Some(&forward.comment));
    }
    let mut pods: Vec<IpAddr> = forwards.iter().map(|forward| forward.to.ip()).collect();
    pods.sort();
    pods.dedup();
    for pod in pods {
        table = table.rule("masquerading", masquerade(family, pod), None);
    }
    table
}

/// The destination becomes the pod's.
fn translation(family: Family, forward: &Forward) -> Value {
    let mut rule = Vec::new();
    if let Some(address) = forward.from.address {
        rule.push(equals(&field(name(family), "daddr"), &json!(address)));
    }
    rule.push(equals(&field(forward.from.protocol, "dport"), &json!(forward.from.port)));
    rule.push(json!({"dnat": {"addr": forward.to.ip(), "port": forward.to.port()}}));
    Value::from(rule)
}

/// What a pod sends to itself by way of the node, and what the node sends from a loopback address,
/// must come from an address that can be answered.
fn masquerade(family: Family, pod: IpAddr) -> Value {
    let from = match family {
        Family::V4 => json!({"set": [pod, {"prefix": {"addr": "127.0.0.0", "len": 8}}]}),
        // The kernel routes nothing from ::1 to another interface, whatever rules say.
        Family::V6 => json!(pod),
    };
    json!([
        {"match": {"op": "in", "left": {"ct": {"key": "status"}}, "right": "dnat"}},
        equals(&field(name(family), "saddr"), &from),
        equals(&field(name(family), "daddr"), &json!(pod)),
        {"masquerade": null},
    ])
}

/// Where 127.0.0.1 may be routed (`route_localnet`), others could send to it: that is what the
/// kubelet's own rule against CVE-2020-8558 refuses, too. Answers are let through.
fn strangers_on_loopback() -> Value {
    let none_of = |key: &str, flags: Value| json!({"match": {"op": "==", "left": {"&": [{"ct": {"key": key}}, flags]}, "right": 0}});
    json!([
        {"match": {"op": "!=", "left": {"meta": {"key": "iifname"}}, "right": "lo"}},
        equals(&field("ip", "daddr"), &json!({"prefix": {"addr": "127.0.0.0", "len": 8}})),
        none_of("state", json!(["established", "related"])),
        none_of("status", json!("dnat")),
        {"drop": null},
    ])
}

fn equals(left: &Value, right: &Value) -> Value {
    json!({"match": {"op": "==", "left": left, "right": right}})
}

fn field(protocol: &str, name: &str) -> Value {
    json!({"payload": {"protocol": protocol, "field": name}})
}

fn name(family: Family) -> &'static str {
    match family {
        Family::V4 => "ip",
        Family::V6 => "ip6",
    }
}

struct Table {
    family: Family,
    commands: Vec<Value>,
}

impl Table {
    /// Adds something to the table, or the table itself.
    fn add(mut self, kind: &str, mut what: Value) -> Self {
        if let Some(what) = what.as_object_mut() {
            what.insert("family".to_owned(), json!(name(self.family)));
            if kind != "table" {
                what.insert("table".to_owned(), json!(TABLE));
            }
        }
        self.commands.push(json!({"add": {kind: what}}));
        self
    }

    fn rule(self, chain: &str, expressions: Value, comment: Option<&str>) -> Self {
        let rule = match comment {
            Some(comment) => json!({"chain": chain, "expr": expressions, "comment": comment}),
            None => json!({"chain": chain, "expr": expressions}),
        };
        self.add("rule", rule)
    }
}
