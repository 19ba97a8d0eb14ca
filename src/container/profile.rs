//! Sees to it that the AppArmor profile of a new container is in the kernel.

use crate::container::Parts;
use crate::container::error::ContainerError;
use crate::model::security::SecurityContext;
use crate::spec::apparmor;
use crate::sys::apparmor as kernel;

impl Parts {
    /// Looks whether the profile that a container is to run under is loaded. Our own is loaded
    /// again where somebody took it away, as `aa-remove-unknown` does; any other is an error.
    pub(super) async fn ready_profile(
        &self,
        security: &SecurityContext,
    ) -> Result<(), ContainerError> {
        let settings = &self.settings;
        let default = &settings.defaults.apparmor;
        let Some(name) = apparmor::wanted(security, default, settings.host.apparmor)? else {
            return Ok(());
        };
        if kernel::is_loaded(&name)? {
            return Ok(());
        }
        match &settings.own_profile {
            Some(text) if name == apparmor::DEFAULT => {
                tracing::warn!(profile = name, "the profile was gone; it is loaded again");
                Ok(kernel::load(&name, text).await?)
            }
            Some(_) | None => Err(ContainerError::ProfileNotLoaded(name)),
        }
    }
}
