//! What a pod looks like from inside, for who inspects it (`crictl inspectp`).

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::container::pod_facts::PodFacts;
use crate::sandbox::Sandboxes;
use crate::sandbox::error::SandboxError;
use crate::spec;
use crate::state::SandboxRecord;

impl Sandboxes {
    /// The pod in the words of a runtime spec, as JSON text.
    ///
    /// # Errors
    ///
    /// [`SandboxError::Spec`], [`SandboxError::Runtime`].
    pub fn spec_text(&self, record: &SandboxRecord) -> Result<String, SandboxError> {
        let pod = PodFacts::new(record);
        let parent = &record.config.cgroup_parent;
        let cgroup = self.parts().runtime.cgroups_path_of_pod(parent, &record.id)?;
        let created = OffsetDateTime::from_unix_timestamp_nanos(record.created.into());
        let created = created.ok().and_then(|moment| moment.format(&Rfc3339).ok());
        let spec = spec::sandbox(&pod.facts(), &cgroup, &created.unwrap_or_default())?;
        Ok(serde_json::to_string(&spec).unwrap_or_default())
    }
}
