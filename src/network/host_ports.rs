//! Ports of the node that lead into pods: made here and not by a plugin, as the reference does.
//!
//! All rules follow from who holds which port, and are replaced as a whole, for each address family
//! in one transaction. So asking again is always right: after a failure, after somebody flushed the
//! node's rules, and at the start of a daemon, which knows the pods from its records.
//!
//! A host port answers at every address of the node, from outside, from other pods, from its own
//! pod, and at 127.0.0.1. Not at ::1: the kernel has no `route_localnet` for IPv6.
//!
//! Not here: letting packets through a firewall that forwards nothing by default. As with the
//! reference, a plugin of the network does that (`firewall`), or the administrator.

mod claims;
mod error;
mod iptables;
mod localnet;
mod nft;
mod programs;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::sync::Mutex;

use tokio::sync::OnceCell;

use crate::failure::chain;
use crate::model::ids::SandboxId;
use crate::sys::netlink;
use crate::sys::netlink::Flow;

pub use error::HostPortError;

use super::PodNetwork;
use super::attach::locked;
use claims::Claims;
use claims::Family;
use claims::Forward;
use localnet::Localnet;
use programs::Programs;

/// The ports of the node that lead into pods.
#[derive(Debug)]
pub(super) struct HostPorts {
    /// Whether they are this program's to make.
    enabled: bool,
    claims: Mutex<Claims>,
    /// The families whose rules may not be what the claims say. Whoever makes rules holds it.
    stale: tokio::sync::Mutex<BTreeSet<Family>>,
    localnet: Localnet,
    programs: Programs,
    tool: OnceCell<Tool>,
}

/// What makes the rules.
#[derive(Debug)]
enum Tool {
    Nft(PathBuf),
    Iptables,
}

impl HostPorts {
    /// None yet. The file notes what was changed beside the rules; the directories are those of the
    /// tools, where the environment does not say.
    pub(super) fn new(enabled: bool, note: PathBuf, tools: Option<Vec<PathBuf>>) -> Self {
        Self {
            enabled,
            claims: Mutex::default(),
            // Nobody knows what an earlier daemon left.
            stale: tokio::sync::Mutex::new(BTreeSet::from(Family::ALL)),
            localnet: Localnet::new(note),
            programs: Programs::new(tools),
            tool: OnceCell::new(),
        }
    }

    /// Holds the ports that a pod wants, or says who does.
    pub(super) fn hold(&self, pod: &PodNetwork) -> Result<(), HostPortError> {
        if !self.enabled {
            return Ok(());
        }
        locked(&self.claims).hold(&pod.id, name(pod), &pod.port_mappings)
    }

    /// Holds the ports of a pod that an earlier daemon made; the rules come with
    /// [`HostPorts::settle`].
    pub(super) fn adopt(&self, pod: &PodNetwork, addresses: &[IpAddr]) {
        if !self.enabled {
            return;
        }
        let adopted = locked(&self.claims).adopt(&pod.id, name(pod), &pod.port_mappings, addresses);
        if let Err(error) = adopted {
            tracing::warn!(sandbox = %pod.id, error = chain(&error), "host ports of a pod clash");
        }
    }

    /// Leads a pod's ports to its addresses.
    pub(super) async fn open(
        &self,
        id: &SandboxId,
        addresses: &[IpAddr],
    ) -> Result<(), HostPortError> {
        if !locked(&self.claims).lead(id, addresses) {
            return Ok(());
        }
        let forwards = locked(&self.claims).of(id);
        self.apply(&forwards).await?;
        // A flow that began before the rules were there goes on without them (only UDP: others
        // begin anew).
        forget_flows(forwards, |forward, flow| {
            !flow.translated && forward.from.address.is_none_or(|at| at == flow.destination)
        })
        .await;
        Ok(())
    }

    /// Gives a pod's ports back. What fails is logged, and done with the next change: nobody can
    /// do anything about it, and it keeps no other pod from having the port.
    pub(super) async fn close(&self, id: &SandboxId) {
        let forwards = locked(&self.claims).release(id);
        if forwards.is_empty() {
            return;
        }
        if let Err(error) = self.apply(&forwards).await {
            tracing::warn!(sandbox = %id, error = chain(&error), "rules for its host ports stay");
        }
        forget_flows(forwards, |forward, flow| flow.answerer == forward.to.ip()).await;
    }

    /// Takes nothing for granted any more: the next settling makes all rules there should be.
    pub(super) async fn doubt(&self) {
        if Family::ALL.iter().any(|family| !locked(&self.claims).forwards(*family).is_empty()) {
            self.stale.lock().await.extend(Family::ALL);
        }
    }

    /// Makes the rules what they should be, as far as that is not known to be so.
    pub(super) async fn settle(&self) -> Result<(), HostPortError> {
        if self.enabled { self.apply(&[]).await } else { Ok(()) }
    }

    /// Makes the rules of all families that these, or earlier changes, have touched.
    async fn apply(&self, changed: &[Forward]) -> Result<(), HostPortError> {
        let mut stale = self.stale.lock().await;
        stale.extend(changed.iter().map(|forward| forward.from.family));
        for family in stale.clone() {
            let forwards = locked(&self.claims).forwards(family);
            if family == Family::V4 {
                let pods: BTreeSet<IpAddr> = forwards.iter().map(|one| one.to.ip()).collect();
                self.localnet.set(&pods.into_iter().collect::<Vec<_>>())?;
            }
            match self.tool().await {
                Ok(Tool::Nft(program)) => nft::replace(program, family, &forwards).await?,
                Ok(Tool::Iptables) => {
                    iptables::replace(&self.programs, family, &forwards).await?;
                }
                // Without a tool there are no rules that could be left.
                Err(_) if forwards.is_empty() => {}
                Err(error) => return Err(error),
            }
            stale.remove(&family);
        }
        Ok(())
    }

    async fn tool(&self) -> Result<&Tool, HostPortError> {
        self.tool.get_or_try_init(|| choose(&self.programs)).await
    }
}

/// nftables where it works, iptables elsewhere. An earlier daemon may have had the other one, whose
/// rules would lead to its pods for ever.
async fn choose(programs: &Programs) -> Result<Tool, HostPortError> {
    let program = programs.find("nft");
    let nft = match &program {
        Some(program) => match nft::check(program).await {
            Ok(()) => {
                for family in Family::ALL {
                    // Without a working iptables there is nothing of it.
                    if let Err(error) = iptables::replace(programs, family, &[]).await {
                        let error = chain(&error);
                        tracing::debug!(error, "iptables was not asked for earlier rules");
                    }
                }
                return Ok(Tool::Nft(program.clone()));
            }
            Err(error) => chain(&error),
        },
        None => "not installed".to_owned(),
    };
    for any in [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()] {
        if let Err(error) = netlink::remove_nft_table(any, nft::TABLE) {
            tracing::warn!(%error, "rules of an earlier daemon's nft may be left");
        }
    }
    let iptables = match iptables::check(programs, Family::V4).await {
        Ok(()) => {
            tracing::info!(nft, "host ports are made with iptables");
            return Ok(Tool::Iptables);
        }
        Err(error) => chain(&error),
    };
    Err(HostPortError::NoTool { nft, iptables })
}

fn name(pod: &PodNetwork) -> String {
    format!("{}/{}", pod.namespace, pod.name)
}

/// Forgets tracked UDP flows to the ports. The rules hold without that; what fails is logged.
async fn forget_flows(forwards: Vec<Forward>, stale: fn(&Forward, &Flow) -> bool) {
    let udp: Vec<Forward> = forwards.into_iter().filter(|one| one.from.protocol == "udp").collect();
    for family in Family::ALL {
        let of_family = udp.iter().filter(|one| one.from.family == family);
        let of_family: Vec<Forward> = of_family.cloned().collect();
        let Some(like) = of_family.first().map(|one| one.to.ip()) else { continue };
        let is_stale = move |flow: &Flow| {
            of_family.iter().any(|one| one.from.port == flow.port && stale(one, flow))
        };
        let forgotten = tokio::task::spawn_blocking(move || netlink::forget_flows(like, is_stale));
        match forgotten.await {
            Ok(Ok(0)) | Err(_) => {}
            Ok(Ok(count)) => tracing::debug!(count, "tracked UDP flows to host ports forgotten"),
            Ok(Err(error)) => tracing::warn!(%error, "cannot forget tracked UDP flows"),
        }
    }
}
