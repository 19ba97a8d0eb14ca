//! Has a container's monitor open its log anew, after the kubelet moved the file away.

use crate::container::Containers;
use crate::container::error::ContainerError;
use crate::model::container::ContainerState;

impl Containers {
    /// Opens the log of a running container anew; the new file is there when this returns.
    ///
    /// # Errors
    ///
    /// [`ContainerError::WrongState`] when it does not run: nothing would be written any more.
    pub async fn reopen_log(&self, id: &str) -> Result<(), ContainerError> {
        let record = self.find(id)?;
        if record.state != ContainerState::Running {
            return Err(ContainerError::WrongState {
                id: record.id.clone(),
                verb: "reopen the log of",
                state: record.state,
                needed: "running",
            });
        }
        Ok(self.parts().runtime.reopen_log(&record.bundle, &record.log).await?)
    }
}
