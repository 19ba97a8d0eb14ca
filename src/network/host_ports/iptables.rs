//! Host ports as iptables rules, where nftables does not work: chains of our own in the table `nat`,
//! each replaced as a whole by one `iptables-restore`.
//!
//! The chains have the reference's names: `KUBE-HOSTPORTS` and `CRIO-HOSTPORTS-MASQ`. Rules of other
//! chains are not touched, but for the jumps to ours.
//!
//! Facts: iptables(8), iptables-restore(8): with `--noflush`, a chain that is declared is emptied.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::sys::process::Command;
use crate::sys::process::Output;

use super::claims::Family;
use super::claims::Forward;
use super::error::HostPortError;
use super::programs;
use super::programs::Programs;

const PORTS: &str = "KUBE-HOSTPORTS";
const MASQUERADE: &str = "CRIO-HOSTPORTS-MASQ";
const LOCALNET: &str = "CRIO-HOSTPORTS-LOCALNET";
/// How long a tool may take, and how many seconds of it another may hold the lock.
const PATIENCE: Duration = Duration::from_secs(30);
const LOCK_SECONDS: &str = "20";

/// A chain of ours, and who leads there on which condition.
struct Chain {
    table: &'static str,
    name: &'static str,
    from: &'static [&'static str],
    condition: &'static [&'static str],
}

const TO_THE_NODE: &[&str] = &["-m", "addrtype", "--dst-type", "LOCAL"];

/// Where 127.0.0.1 may be routed, others could send to it: that is what the kubelet's own rule
/// against CVE-2020-8558 refuses, too.
const STRANGERS_ON_LOOPBACK: &str = "! -i lo -d 127.0.0.0/8 -m conntrack \
     ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP";

fn chains(family: Family) -> Vec<Chain> {
    let nat = |name, from, condition| Chain { table: "nat", name, from, condition };
    let mut all = vec![
        nat(PORTS, &["PREROUTING", "OUTPUT"], TO_THE_NODE),
        nat(MASQUERADE, &["POSTROUTING"], &[]),
    ];
    if family == Family::V4 {
        let (table, condition) = ("filter", &[][..]);
        all.push(Chain { table, name: LOCALNET, from: &["INPUT"], condition });
    }
    all
}

/// Whether the family's iptables works on this node.
pub(super) async fn check(programs: &Programs, family: Family) -> Result<(), HostPortError> {
    run(programs, (family, ""), &["-t", "nat", "-S", "PREROUTING"], "").await?.success()?;
    Ok(())
}

/// Makes these the rules of the family, and no others; no chain at all if there are none.
pub(super) async fn replace(
    programs: &Programs,
    family: Family,
    forwards: &[Forward],
) -> Result<(), HostPortError> {
    for table in ["nat", "filter"] {
        let of_table: Vec<Chain> =
            chains(family).into_iter().filter(|chain| chain.table == table).collect();
        let mut text = format!("*{table}\n");
        let mut touched = false;
        for chain in &of_table {
            let there =
                match run(programs, (family, ""), &["-t", table, "-S", chain.name], "").await {
                    // Without the program, as that of IPv6, there is nothing of ours.
                    Err(_) if forwards.is_empty() => continue,
                    other => other?,
                };
            if there.status.is_success() || !forwards.is_empty() {
                touched = true;
                text.push_str(&format!(":{} - [0:0]\n", chain.name));
            }
        }
        if !touched {
            continue;
        }
        for chain in &of_table {
            for from in chain.from {
                let rule = jump(chain, from);
                let mut arguments = vec!["-t", table, "-C"];
                arguments.extend(rule.iter().copied());
                let there = run(programs, (family, ""), &arguments, "").await?.status.is_success();
                match (there, forwards.is_empty()) {
                    (false, false) => text.push_str(&format!("-I {}\n", rule.join(" "))),
                    (true, true) => text.push_str(&format!("-D {}\n", rule.join(" "))),
                    _ => {}
                }
            }
        }
        for line in rules(family, table, forwards) {
            text.push_str(&format!("-A {line}\n"));
        }
        if forwards.is_empty() {
            for chain in &of_table {
                text.push_str(&format!("-X {}\n", chain.name));
            }
        }
        text.push_str("COMMIT\n");
        run(programs, (family, "-restore"), &["--noflush"], &text).await?.success()?;
    }
    Ok(())
}

fn jump<'a>(chain: &Chain, from: &'a str) -> Vec<&'a str> {
    let mut rule = vec![from];
    rule.extend(chain.condition);
    rule.extend(["-j", chain.name]);
    rule
}

/// The rules of our chains in a table.
fn rules(family: Family, table: &str, forwards: &[Forward]) -> Vec<String> {
    if forwards.is_empty() {
        return Vec::new();
    }
    if table == "filter" {
        let strangers = format!("{LOCALNET} {STRANGERS_ON_LOOPBACK}");
        return if family == Family::V4 { vec![strangers] } else { Vec::new() };
    }
    let mut lines: Vec<String> = forwards.iter().map(translation).collect();
    let mut pods: Vec<IpAddr> = forwards.iter().map(|forward| forward.to.ip()).collect();
    pods.sort();
    pods.dedup();
    for pod in pods {
        let mut sources = vec![pod.to_string()];
        if family == Family::V4 {
            sources.push("127.0.0.0/8".to_owned());
        }
        lines.extend(sources.iter().map(|source| {
            format!("{MASQUERADE} -s {source} -d {pod} -m conntrack --ctstate DNAT -j MASQUERADE")
        }));
    }
    lines
}

/// The destination becomes the pod's.
fn translation(forward: &Forward) -> String {
    let Forward { from, to, comment } = forward;
    let address = from.address.map(|address| format!("-d {address} ")).unwrap_or_default();
    let (protocol, port) = (from.protocol, from.port);
    format!(
        "{PORTS} {address}-p {protocol} -m {protocol} --dport {port} \
         -m comment --comment \"{comment}\" -j DNAT --to-destination {to}"
    )
}

async fn run(
    programs: &Programs,
    (family, tool): (Family, &str),
    arguments: &[&str],
    input: &str,
) -> Result<Output, HostPortError> {
    let name = match family {
        Family::V4 => format!("iptables{tool}"),
        Family::V6 => format!("ip6tables{tool}"),
    };
    // A name alone cannot be started, and that is then the error.
    let program = programs.find(&name).unwrap_or_else(|| PathBuf::from(&name));
    let command = Command::new(program)
        .args(["-w", LOCK_SECONDS])
        .args(arguments)
        .env("PATH", programs::path())
        .stdin(input)
        .timeout(PATIENCE);
    Ok(command.run().await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_for_the_table_of_translation() {
        assert_eq!(
            rules(Family::V4, "nat", &[Forward::sample()]),
            [
                "KUBE-HOSTPORTS -d 192.0.2.1 -p tcp -m tcp --dport 1 -m comment \
                 --comment \"sample\" -j DNAT --to-destination 192.0.2.2:1",
                "CRIO-HOSTPORTS-MASQ -s 192.0.2.2 -d 192.0.2.2 -m conntrack --ctstate DNAT \
                 -j MASQUERADE",
                "CRIO-HOSTPORTS-MASQ -s 127.0.0.0/8 -d 192.0.2.2 -m conntrack --ctstate DNAT \
                 -j MASQUERADE",
            ]
        );
        assert!(rules(Family::V6, "filter", &[Forward::sample()]).is_empty());
        assert!(rules(Family::V4, "nat", &[]).is_empty());
    }
}
