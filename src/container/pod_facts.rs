//! A pod's record as the facts that its runtime specs are made of.

use std::path::PathBuf;

use crate::spec::facts::SandboxFacts;
use crate::spec::facts::SandboxFiles;
use crate::spec::facts::SandboxNamespaces;
use crate::state::SandboxRecord;

/// A record, and what follows from it and is kept nowhere.
#[derive(Debug)]
pub struct PodFacts<'a> {
    record: &'a SandboxRecord,
    name: String,
    resolv_conf: PathBuf,
    hostname: PathBuf,
    containerenv: PathBuf,
    shm: PathBuf,
}

impl<'a> PodFacts<'a> {
    /// What is known of a pod.
    #[must_use]
    pub fn new(record: &'a SandboxRecord) -> Self {
        // A pod in the node's IPC namespace shares the node's memory too.
        let own_ipc = record.namespaces.ipc.is_some();
        Self {
            record,
            name: record.config.metadata.full_name(),
            resolv_conf: record.resolv_conf(),
            hostname: record.hostname_file(),
            containerenv: record.containerenv(),
            shm: if own_ipc { record.shm() } else { PathBuf::from("/dev/shm") },
        }
    }

    /// As a spec is made of it.
    #[must_use]
    pub fn facts(&self) -> SandboxFacts<'_> {
        let namespaces = &self.record.namespaces;
        SandboxFacts {
            id: &self.record.id,
            name: &self.name,
            config: &self.record.config,
            namespaces: SandboxNamespaces {
                network: namespaces.net.as_deref(),
                ipc: namespaces.ipc.as_deref(),
                uts: namespaces.uts.as_deref(),
                pid: namespaces.pid.as_deref(),
                user: namespaces.user.as_deref(),
            },
            hostname: &self.record.hostname,
            files: SandboxFiles {
                resolv_conf: Some(&self.resolv_conf),
                hostname: Some(&self.hostname),
                containerenv: Some(&self.containerenv),
                shm: Some(&self.shm),
            },
            ips: &self.record.ips,
            selinux: self.record.selinux.as_ref(),
        }
    }
}
