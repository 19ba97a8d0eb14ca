//! The kubelet's names for sandboxes and containers.
//!
//! `k8s_<container>_<pod>_<namespace>_<uid>_<attempt>`: the same request has the same name, so a
//! name that is held tells a repeated request from a new one.

use std::collections::BTreeMap;

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

    /// Adds the labels that say whose pod it is, as far as they are missing. The kubelet gives them,
    /// crictl does not, and tools tell pods apart by them.
    pub fn label(&self, labels: &mut BTreeMap<String, String>) {
        for (key, value) in [
            ("io.kubernetes.pod.name", &self.name),
            ("io.kubernetes.pod.namespace", &self.namespace),
            ("io.kubernetes.pod.uid", &self.uid),
        ] {
            labels.entry(key.to_owned()).or_insert_with(|| value.clone());
        }
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

    /// Adds the labels that say whose container it is, as [`SandboxMetadata::label`] does.
    pub fn label(&self, labels: &mut BTreeMap<String, String>, pod: &SandboxMetadata) {
        pod.label(labels);
        let key = "io.kubernetes.container.name".to_owned();
        labels.entry(key).or_insert_with(|| self.name.clone());
    }
}
