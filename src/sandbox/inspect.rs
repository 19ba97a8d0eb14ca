//! What a pod looks like from inside, for who inspects it (`crictl inspectp`).

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::sandbox::Sandboxes;
use crate::sandbox::error::SandboxError;
use crate::spec;
use crate::spec::facts::SandboxFacts;
use crate::spec::facts::SandboxFiles;
use crate::spec::facts::SandboxNamespaces;
use crate::state::SandboxRecord;

impl Sandboxes {
    /// The pod in the words of a runtime spec, as JSON text.
    ///
    /// # Errors
    ///
    /// [`SandboxError::Spec`], [`SandboxError::Runtime`].
    pub fn spec_text(&self, record: &SandboxRecord) -> Result<String, SandboxError> {
        let namespaces = &record.namespaces;
        let (resolv, hostname, env, shm) =
            (record.resolv_conf(), record.hostname_file(), record.containerenv(), record.shm());
        let facts = SandboxFacts {
            id: &record.id,
            name: &record.config.metadata.full_name(),
            config: &record.config,
            namespaces: SandboxNamespaces {
                network: namespaces.net.as_deref(),
                ipc: namespaces.ipc.as_deref(),
                uts: namespaces.uts.as_deref(),
                pid: namespaces.pid.as_deref(),
                user: namespaces.user.as_deref(),
            },
            hostname: &record.hostname,
            files: SandboxFiles {
                resolv_conf: Some(&resolv),
                hostname: Some(&hostname),
                containerenv: Some(&env),
                shm: Some(&shm),
            },
            ips: &record.ips,
            selinux: record.selinux.as_ref(),
        };
        let parent = &record.config.cgroup_parent;
        let cgroup = self.parts.runtime.cgroups_path_of_pod(parent, &record.id)?;
        let created = OffsetDateTime::from_unix_timestamp_nanos(record.created.into());
        let created = created.ok().and_then(|moment| moment.format(&Rfc3339).ok());
        let spec = spec::sandbox(&facts, &cgroup, &created.unwrap_or_default())?;
        Ok(serde_json::to_string(&spec).unwrap_or_default())
    }
}
