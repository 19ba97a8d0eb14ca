//! What a sandbox is asked to be.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Deserialize;
use serde::Serialize;

use crate::model::names::SandboxMetadata;
use crate::model::resources::Resources;
use crate::model::security::SecurityContext;

/// A checked request for a sandbox.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SandboxConfig {
    /// Its name's parts.
    pub metadata: SandboxMetadata,
    /// The host name; empty lets the runtime choose.
    pub hostname: String,
    /// Where its containers' logs go.
    pub log_directory: String,
    /// Name resolution; `None` copies the node's.
    pub dns: Option<DnsConfig>,
    /// Ports of the node that lead into the pod.
    pub port_mappings: Vec<PortMapping>,
    /// The kubelet's labels.
    pub labels: BTreeMap<String, String>,
    /// The user's annotations; never trusted.
    pub annotations: BTreeMap<String, String>,
    /// The cgroup to live in: a slice or a path; may be empty.
    pub cgroup_parent: String,
    /// Kernel parameters of its namespaces.
    pub sysctls: BTreeMap<String, String>,
    /// What the pod costs beside its containers.
    pub overhead: Option<Resources>,
    /// The sum of its containers' limits.
    pub resources: Option<Resources>,
    /// Security of the sandbox, and defaults for its namespaces.
    pub security: SecurityContext,
    /// The runtime handler's name; empty is the default one.
    pub handler: String,
}

/// What goes into `/etc/resolv.conf`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DnsConfig {
    /// Name servers.
    pub servers: Vec<String>,
    /// Search domains.
    pub searches: Vec<String>,
    /// Options, as `ndots:5`.
    pub options: Vec<String>,
}

/// A transport protocol.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// One port of the node that leads into the pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortMapping {
    /// The protocol.
    pub protocol: Protocol,
    /// The pod's port.
    pub container_port: u16,
    /// The node's port; 0 maps nothing.
    pub host_port: u16,
    /// The node's address; `None` is every one.
    pub host_ip: Option<IpAddr>,
}

/// Whether a sandbox can take containers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SandboxState {
    /// It can.
    #[default]
    Ready,
    /// It was stopped, or its network is gone.
    NotReady,
}
