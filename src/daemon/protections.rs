//! At start: what of the kernel's protections is on here, and what containers get of them.

use std::path::Path;

use crate::config::Config;
use crate::daemon::error::DaemonError;
use crate::spec::apparmor;
use crate::spec::apparmor::Shared;
use crate::spec::facts::HostFacts;
use crate::spec::selinux::Contexts;
use crate::sys::apparmor as kernel;

/// What profiles of a distribution share.
const SHARED_PROFILES: [&str; 2] =
    ["/etc/apparmor.d/tunables/global", "/etc/apparmor.d/abstractions/base"];

/// What containers get of AppArmor.
#[derive(Debug, Default)]
pub(super) struct Apparmor {
    /// The profile behind `RuntimeDefault`; empty is none.
    pub(super) default: String,
    /// The text of our own profile, where it can be loaded.
    pub(super) own_profile: Option<String>,
    /// What an administrator should know.
    pub(super) warning: Option<String>,
}

/// Loads our own profile, or looks whether the configured one is there.
///
/// # Errors
///
/// [`DaemonError::Apparmor`] when the profile cannot be loaded, [`DaemonError::ProfileNotLoaded`].
pub(super) async fn apparmor(config: &Config, host: &HostFacts) -> Result<Apparmor, DaemonError> {
    let name = config.runtime.apparmor_profile.as_str();
    if !host.apparmor {
        tracing::info!("AppArmor: off in this kernel");
        return Ok(Apparmor::default());
    }
    let own = kernel::has_parser().then(text);
    if name == "unconfined" {
        let warning = "AppArmor is on, but apparmor_profile is \"unconfined\": containers run \
                       without a profile unless they name one";
        return Ok(Apparmor {
            own_profile: own,
            warning: Some(warning.to_owned()),
            ..Apparmor::default()
        });
    }
    let default = if name.is_empty() { apparmor::DEFAULT } else { name };
    if let (apparmor::DEFAULT, Some(text)) = (default, &own) {
        kernel::load(default, text).await?;
    } else if !kernel::is_loaded(default)? {
        if default != apparmor::DEFAULT {
            return Err(DaemonError::ProfileNotLoaded(default.to_owned()));
        }
        // As the reference does, so that a node without the parser has pods at all.
        let warning = "AppArmor is on, but apparmor_parser is not installed: containers run \
                       without a profile unless they name one that is loaded";
        return Ok(Apparmor { warning: Some(warning.to_owned()), ..Apparmor::default() });
    }
    tracing::info!(profile = default, "AppArmor: on");
    Ok(Apparmor { default: default.to_owned(), own_profile: own, warning: None })
}

/// What the policy calls containers, where SELinux is to keep pods from each other; and what an
/// administrator should know.
pub(super) fn selinux(config: &Config, host: &mut HostFacts) -> (Option<Contexts>, Option<String>) {
    let warning = |text: &str| Some(text.to_owned());
    if !host.selinux {
        tracing::info!("SELinux: off in this kernel");
        return (None, None);
    }
    if !config.runtime.selinux {
        host.selinux = false;
        let text = "SELinux is on, but selinux is \"false\": nothing of pods is labelled";
        return (None, warning(text));
    }
    let contexts = crate::sys::selinux::contexts();
    let found = contexts.as_deref().map(Contexts::parse).ok().flatten();
    if found.is_none() {
        host.selinux = false;
        let why = contexts.err().map(|error| format!(" ({error})")).unwrap_or_default();
        let text = "SELinux is on, but its policy has no labels for containers: nothing of pods is \
                    labelled; install the policy for containers";
        return (None, Some(format!("{text}{why}")));
    }
    tracing::info!("SELinux: on");
    (found, None)
}

/// The text of our own profile, as this distribution's parser takes it.
fn text() -> String {
    let there = SHARED_PROFILES.iter().all(|path| Path::new(path).exists());
    let shared = if there { Shared::There } else { Shared::Missing };
    apparmor::profile(apparmor::DEFAULT, shared)
}
