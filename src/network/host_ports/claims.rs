//! Who holds which ports of the node, and where these lead: pure.
//!
//! A port is held from before the pod's network is made until it is undone, so that two pods that
//! want the same one never both get it; the second is told who holds it.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::net::SocketAddr;

use crate::model::ids::SandboxId;
use crate::model::sandbox::PortMapping;
use crate::model::sandbox::Protocol;

use super::error::HostPortError;

/// nft takes comments of 128 bytes with the end.
const MAX_COMMENT: usize = 127;

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    pub(super) const ALL: [Self; 2] = [Self::V4, Self::V6];

    pub(super) fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

/// One port of the node, at one of its addresses or at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct HostPort {
    pub family: Family,
    /// `None` is every address of the family.
    pub address: Option<IpAddr>,
    pub protocol: &'static str,
    pub port: u16,
}

impl HostPort {
    /// A mapping without an address is of both families, as the reference has it.
    fn of(mapping: &PortMapping) -> Vec<Self> {
        let host_ip = mapping.host_ip.map(|ip| ip.to_canonical());
        let families = Family::ALL.into_iter();
        let families = families.filter(|family| host_ip.is_none_or(|ip| Family::of(ip) == *family));
        let protocol = match mapping.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        };
        let address = host_ip.filter(|ip| !ip.is_unspecified());
        families.map(|family| Self { family, address, protocol, port: mapping.host_port }).collect()
    }

    fn overlaps(&self, other: &Self) -> bool {
        (self.family, self.protocol, self.port) == (other.family, other.protocol, other.port)
            && (self.address == other.address || self.address.is_none() || other.address.is_none())
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(address) => {
                write!(out, "{}/{}", SocketAddr::new(address, self.port), self.protocol)
            }
            None => write!(out, "{}/{}", self.port, self.protocol),
        }
    }
}

/// A port of the node that leads into a pod.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Forward {
    pub from: HostPort,
    /// The pod's address and port.
    pub to: SocketAddr,
    /// The pod's name, for who lists the rules; safe to stand in quotes.
    pub comment: String,
}

impl Forward {
    /// One with everything in it, to try a tool with.
    pub(super) fn sample() -> Self {
        let address = Some(IpAddr::from([192, 0, 2, 1]));
        let from = HostPort { family: Family::V4, address, protocol: "tcp", port: 1 };
        Self { from, to: SocketAddr::from(([192, 0, 2, 2], 1)), comment: "sample".to_owned() }
    }
}

#[derive(Debug)]
struct Claim {
    pod: String,
    ports: Vec<(HostPort, u16)>,
    /// The pod's first address of each family; none while its network is being made.
    addresses: Vec<IpAddr>,
}

impl Claim {
    fn forwards(&self) -> impl Iterator<Item = Forward> + '_ {
        self.ports.iter().filter_map(|(from, port)| {
            let address = self.addresses.iter().find(|ip| Family::of(**ip) == from.family)?;
            let to = SocketAddr::new(*address, *port);
            Some(Forward { from: *from, to, comment: comment(&self.pod) })
        })
    }
}

/// All ports that pods hold.
#[derive(Debug, Default)]
pub(super) struct Claims {
    pods: BTreeMap<SandboxId, Claim>,
}

impl Claims {
    /// Holds the ports for a pod.
    pub(super) fn hold(
        &mut self,
        id: &SandboxId,
        pod: String,
        mappings: &[PortMapping],
    ) -> Result<(), HostPortError> {
        let claim = claim(pod, mappings)?;
        if let Some(taken) = self.taken(id, &claim) {
            return Err(taken);
        }
        if !claim.ports.is_empty() {
            self.pods.insert(id.clone(), claim);
        }
        Ok(())
    }

    /// Holds the ports of a pod that has them already, whoever else does.
    pub(super) fn adopt(
        &mut self,
        id: &SandboxId,
        pod: String,
        mappings: &[PortMapping],
        addresses: &[IpAddr],
    ) -> Result<(), HostPortError> {
        let mut claim = claim(pod, mappings)?;
        claim.addresses = first_of_each_family(addresses);
        let taken = self.taken(id, &claim);
        if !claim.ports.is_empty() {
            self.pods.insert(id.clone(), claim);
        }
        taken.map_or(Ok(()), Err)
    }

    fn taken(&self, id: &SandboxId, claim: &Claim) -> Option<HostPortError> {
        let others = self.pods.iter().filter(|(other, _)| *other != id);
        others.into_iter().find_map(|(other, held)| {
            let clashes = |(port, _): &&(HostPort, u16)| {
                held.ports.iter().any(|(held, _)| held.overlaps(port))
            };
            let (port, _) = claim.ports.iter().find(clashes)?;
            let (port, holder) = (port.to_string(), held.pod.clone());
            Some(HostPortError::Taken { port, holder, id: other.clone() })
        })
    }

    /// Says where the ports of a pod lead; gives whether it holds any.
    pub(super) fn lead(&mut self, id: &SandboxId, addresses: &[IpAddr]) -> bool {
        let Some(claim) = self.pods.get_mut(id) else { return false };
        claim.addresses = first_of_each_family(addresses);
        true
    }

    /// Gives a pod's ports back; gives where they led.
    pub(super) fn release(&mut self, id: &SandboxId) -> Vec<Forward> {
        self.pods.remove(id).map(|claim| claim.forwards().collect()).unwrap_or_default()
    }

    /// Where the ports of a pod lead.
    pub(super) fn of(&self, id: &SandboxId) -> Vec<Forward> {
        self.pods.get(id).map(|claim| claim.forwards().collect()).unwrap_or_default()
    }

    /// Where all ports of a family lead. Those of one address come before those of all.
    pub(super) fn forwards(&self, family: Family) -> Vec<Forward> {
        let all = self.pods.values().flat_map(Claim::forwards);
        let mut all: Vec<_> = all.filter(|forward| forward.from.family == family).collect();
        all.sort_by(|a, b| (a.from.address.is_none(), a).cmp(&(b.from.address.is_none(), b)));
        all
    }
}

fn claim(pod: String, mappings: &[PortMapping]) -> Result<Claim, HostPortError> {
    let mut ports = BTreeMap::new();
    for mapping in mappings.iter().filter(|mapping| mapping.host_port != 0) {
        for port in HostPort::of(mapping) {
            if mapping.container_port == 0 {
                return Err(HostPortError::NowhereTo { port: port.to_string() });
            }
            let before = ports.insert(port, mapping.container_port);
            if before.is_some_and(|before| before != mapping.container_port) {
                return Err(HostPortError::Ambiguous { port: port.to_string() });
            }
        }
    }
    Ok(Claim { pod, ports: ports.into_iter().collect(), addresses: Vec::new() })
}

/// As the reference has it: host ports lead to the first address of each family.
fn first_of_each_family(addresses: &[IpAddr]) -> Vec<IpAddr> {
    let mut seen = BTreeSet::new();
    addresses.iter().copied().filter(|ip| seen.insert(Family::of(*ip))).collect()
}

/// A name as it can stand in quotes in every tool's language.
fn comment(pod: &str) -> String {
    let safe = |c: char| {
        if c.is_ascii_alphanumeric() || "-._/".contains(c) { c } else { '_' }
    };
    pod.chars().map(safe).take(MAX_COMMENT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(host_ip: &str, protocol: Protocol, host_port: u16) -> PortMapping {
        PortMapping {
            protocol,
            container_port: 80,
            host_port,
            host_ip: (!host_ip.is_empty()).then(|| host_ip.parse().unwrap()),
        }
    }

    #[test]
    fn two_pods_never_hold_overlapping_ports() {
        use Protocol::Sctp;
        use Protocol::Tcp;
        use Protocol::Udp;
        for (first, second, clash) in [
            (("", Tcp, 80), ("", Tcp, 80), Some("80/tcp")),
            (("", Tcp, 80), ("", Udp, 80), None),
            (("", Sctp, 80), ("", Udp, 80), None),
            (("", Tcp, 80), ("", Tcp, 81), None),
            (("", Udp, 53), ("10.0.0.1", Udp, 53), Some("10.0.0.1:53/udp")),
            (("10.0.0.1", Udp, 53), ("", Udp, 53), Some("53/udp")),
            (("10.0.0.1", Udp, 53), ("10.0.0.2", Udp, 53), None),
            (("10.0.0.1", Udp, 53), ("::ffff:10.0.0.1", Udp, 53), Some("10.0.0.1:53/udp")),
            (("10.0.0.1", Tcp, 80), ("::", Tcp, 80), None),
            (("0.0.0.0", Tcp, 80), ("::", Tcp, 80), None),
            (("0.0.0.0", Tcp, 80), ("", Tcp, 80), Some("80/tcp")),
            (("fd00::1", Tcp, 80), ("", Tcp, 80), Some("80/tcp")),
            (("fd00::1", Tcp, 80), ("::", Tcp, 80), Some("80/tcp")),
        ] {
            let (a, b) = (SandboxId::fresh().unwrap(), SandboxId::fresh().unwrap());
            let mut claims = Claims::default();
            claims.hold(&a, "shop/a".into(), &[mapping(first.0, first.1, first.2)]).unwrap();
            let wanted = [mapping(second.0, second.1, second.2)];
            let outcome = claims.hold(&b, "shop/b".into(), &wanted);
            let Some(clash) = clash else {
                outcome.unwrap();
                continue;
            };
            let error = outcome.unwrap_err().to_string();
            assert_eq!(error, format!("host port {clash} is held by pod shop/a (sandbox {a})"));
            claims.release(&a);
            claims.hold(&b, "shop/b".into(), &wanted).unwrap();
        }
    }

    #[test]
    fn ports_lead_to_the_first_address_of_each_family() {
        let id = SandboxId::fresh().unwrap();
        let mut claims = Claims::default();
        let wanted = [
            mapping("", Protocol::Tcp, 8080),
            mapping("10.0.0.1", Protocol::Tcp, 8080),
            mapping("", Protocol::Tcp, 0),
        ];
        claims.hold(&id, "shop/\"a\"\n".into(), &wanted).unwrap();
        assert!(claims.forwards(Family::V4).is_empty());
        let ips = ["10.85.0.5", "fd00::5", "10.85.0.6", "fd00::6"].map(|ip| ip.parse().unwrap());
        assert!(claims.lead(&id, &ips));
        let text = |family| -> Vec<String> {
            let forwards = claims.forwards(family).into_iter();
            forwards.map(|one| format!("{} {} {}", one.from, one.to, one.comment)).collect()
        };
        let v4 = ["10.0.0.1:8080/tcp 10.85.0.5:80 shop/_a__", "8080/tcp 10.85.0.5:80 shop/_a__"];
        assert_eq!(text(Family::V4), v4);
        assert_eq!(text(Family::V6), ["8080/tcp [fd00::5]:80 shop/_a__"]);
        assert_eq!(claims.release(&id).len(), 3);
        assert!(claims.forwards(Family::V4).is_empty() && !claims.lead(&id, &ips));
    }

    #[test]
    fn what_leads_nowhere_or_to_two_places_is_refused() {
        let id = SandboxId::fresh().unwrap();
        let port = mapping("", Protocol::Tcp, 80);
        let other = PortMapping { container_port: 81, ..port.clone() };
        let nowhere = PortMapping { container_port: 0, ..port.clone() };
        let mut claims = Claims::default();
        let mut hold = |ports: &[PortMapping]| claims.hold(&id, "a".into(), ports);
        hold(&[port.clone(), port.clone()]).unwrap();
        assert!(matches!(hold(&[port, other]), Err(HostPortError::Ambiguous { .. })));
        assert!(matches!(hold(&[nowhere]), Err(HostPortError::NowhereTo { .. })));
    }
}
