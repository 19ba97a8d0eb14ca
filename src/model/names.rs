//! The kubelet's names for sandboxes and containers.
//!
//! `k8s_<container>_<pod>_<namespace>_<uid>_<attempt>`: the same request has the same name, so a
//! name that is held tells a repeated request from a new one.

use serde::Deserialize;
use serde::Serialize;

/// What names a sandbox.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxMetadata {
    /// The pod's name.
    pub name: String,
    /// The pod's uid.
    pub uid: String,
    /// The pod's Kubernetes namespace.
    pub namespace: String,
    /// The kubelet's count of tries.
    pub attempt: u32,
}

impl SandboxMetadata {
    /// The sandbox's name.
    #[must_use]
    pub fn full_name(&self) -> String {
        format!("k8s_{}_{}_{}_{}", self.name, self.namespace, self.uid, self.attempt)
    }
}

/// What names a container in its sandbox.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerMetadata {
    /// The container's name in the pod.
    pub name: String,
    /// The kubelet's count of tries.
    pub attempt: u32,
}

impl ContainerMetadata {
    /// The container's name.
    #[must_use]
    pub fn full_name(&self, pod: &SandboxMetadata) -> String {
        let attempt = self.attempt;
        format!("k8s_{}_{}_{}_{}_{attempt}", self.name, pod.name, pod.namespace, pod.uid)
    }
}
