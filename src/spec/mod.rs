//! Turns facts into an OCI runtime spec. A pure room: it reads no file and asks no kernel.
//!
//! [`container`] is the pipeline, one line per part. What the host can do, where host paths lead
//! and what an image's user files say are facts given by the caller, so any host can be tried in a
//! test. A part that cannot be made as asked is an error; nothing is silently weaker than asked,
//! but for what the host itself may not give (`HostFacts::bounding`, limits, OOM score).
//!
//! Not here: NRI.

pub mod annotations;
pub mod apparmor;
pub mod capabilities;
pub mod cdi;
mod devices;
pub mod error;
pub mod facts;
pub mod hooks;
mod mounts;
mod namespaces;
pub mod paths;
pub mod process;
pub mod resources;
mod sandbox;
pub mod seccomp;
pub mod selinux;
pub mod sysctls;
pub mod user;
pub mod wishes;

pub use sandbox::sandbox;

use oci_spec::runtime::Linux;
use oci_spec::runtime::Root;
use oci_spec::runtime::Spec;

use crate::spec::error::SpecError;
use crate::spec::facts::ContainerFacts;

/// The version of the runtime specification that is written: what every runc since 1.0 reads.
const VERSION: &str = "1.0.2";

/// Makes the spec of a container.
///
/// # Errors
///
/// [`SpecError`], which names the part and the value at fault.
pub fn container(facts: &ContainerFacts<'_>) -> Result<Spec, SpecError> {
    let security = &facts.config.security;
    if security.privileged && !facts.sandbox.config.security.privileged {
        return Err(SpecError::PrivilegedInSandbox { sandbox: facts.sandbox.id.to_string() });
    }
    let selinux = selinux::container(facts)?;
    let mut process = process::container(facts)?;
    process.set_selinux_label(selinux.process);
    let bounding = process.capabilities().as_ref().and_then(|sets| sets.bounding().clone());
    let seccomp = seccomp::container(facts, &bounding.unwrap_or_default())?;
    let mounts = mounts::container(facts)?;
    let devices = devices::container(facts)?;
    let mut masked = paths::masked(security, &facts.host.masked_paths)?;
    masked.extend(mounts.masked);
    let mut resources = resources::container(facts)?;
    resources.set_devices(Some(devices.rules));
    // The library's defaults are those of a shell in a sandbox: every part is set here.
    let mut linux = Linux::default();
    linux
        .set_resources(Some(resources))
        .set_cgroups_path(Some(facts.cgroups_path.into()))
        .set_namespaces(Some(namespaces::container(facts)?))
        .set_uid_mappings(namespaces::id_map(facts)?)
        .set_gid_mappings(namespaces::id_map(facts)?)
        .set_devices(Some(devices.nodes))
        .set_seccomp(seccomp.filter)
        .set_rootfs_propagation(mounts.root_propagation.map(str::to_owned))
        .set_masked_paths(Some(masked))
        .set_readonly_paths(Some(paths::readonly(security)?))
        .set_mount_label(selinux.mount)
        .set_sysctl(None);
    let mut root = Root::default();
    root.set_path(facts.rootfs.to_path_buf());
    root.set_readonly(Some(security.readonly_rootfs || facts.defaults.read_only));
    let mut spec = Spec::default();
    spec.set_version(VERSION.to_owned())
        .set_root(Some(root))
        .set_process(Some(process))
        .set_mounts(Some(mounts.list))
        .set_hostname(hostname(facts))
        .set_annotations(Some(annotations::container(facts, &seccomp.reference)?))
        .set_linux(Some(linux));
    hooks::apply(&mut spec, facts)?;
    cdi::apply(&mut spec, facts.cdi)?;
    Ok(spec)
}

/// The runtime sets a host name only in a namespace of the container's or the pod's own.
fn hostname(facts: &ContainerFacts<'_>) -> Option<String> {
    let sandbox = facts.sandbox;
    let own = sandbox.namespaces.uts.is_some() && !sandbox.hostname.is_empty();
    own.then(|| sandbox.hostname.to_owned())
}

#[cfg(test)]
mod tests;
