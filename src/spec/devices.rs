//! Which devices a container sees, and what its cgroup lets it do with them.
//!
//! All is denied first. The runtime itself adds the harmless ones (`null`, `zero`, `tty`, ...).

use oci_spec::runtime::LinuxDevice;
use oci_spec::runtime::LinuxDeviceCgroup;
use oci_spec::runtime::LinuxDeviceType;

use crate::spec::error::SpecError;
use crate::spec::facts::ContainerFacts;
use crate::spec::facts::ResolvedDevice;
use crate::spec::paths;

/// The nodes to make and the rules of the cgroup.
pub(super) struct Devices {
    pub(super) nodes: Vec<LinuxDevice>,
    pub(super) rules: Vec<LinuxDeviceCgroup>,
}

/// Gives a container's devices.
pub(super) fn container(facts: &ContainerFacts<'_>) -> Result<Devices, SpecError> {
    let all = facts.config.security.privileged && !facts.handler.privileged_without_host_devices;
    let mut devices = Devices { nodes: Vec::new(), rules: vec![everything(all)] };
    for device in facts.host.devices.iter().filter(|_| all) {
        add(&mut devices, node(device, facts)?);
    }
    for device in facts.devices {
        add(&mut devices, node(device, facts)?);
        let access = access(device)?;
        if !all {
            devices.rules.push(rule(device, access));
        }
    }
    Ok(devices)
}

/// Adds a node; a later one at the same place wins.
fn add(devices: &mut Devices, node: LinuxDevice) {
    devices.nodes.retain(|known| known.path() != node.path());
    devices.nodes.push(node);
}

fn everything(allow: bool) -> LinuxDeviceCgroup {
    let mut rule = LinuxDeviceCgroup::default();
    rule.set_allow(allow).set_access(Some("rwm".to_owned()));
    rule
}

fn rule(device: &ResolvedDevice, access: String) -> LinuxDeviceCgroup {
    let mut rule = LinuxDeviceCgroup::default();
    rule.set_allow(true)
        .set_typ(Some(device.kind))
        .set_major(Some(device.major))
        .set_minor(Some(device.minor))
        .set_access(Some(access));
    rule
}

/// Checks the permissions: some of `rwm`, each once.
fn access(device: &ResolvedDevice) -> Result<String, SpecError> {
    let access = device.access.as_str();
    let once = |letter| access.matches(letter).count() <= 1;
    let legal = !access.is_empty()
        && access.chars().all(|letter| "rwm".contains(letter))
        && ['r', 'w', 'm'].into_iter().all(once);
    if !legal {
        return Err(SpecError::field("device permissions", access, "is not some of rwm"));
    }
    Ok(access.to_owned())
}

fn node(device: &ResolvedDevice, facts: &ContainerFacts<'_>) -> Result<LinuxDevice, SpecError> {
    let path = paths::clean("device container_path", &device.path)?;
    // `a` is every device at once, and numbers below zero are wildcards to a cgroup.
    let one = matches!(device.kind, LinuxDeviceType::B | LinuxDeviceType::C | LinuxDeviceType::P);
    if path == "/" || !one || device.major < 0 || device.minor < 0 {
        return Err(SpecError::field("device", &device.path, "is not one device"));
    }
    let (uid, gid) = owner(device, facts);
    let mut node = LinuxDevice::default();
    node.set_path(path.into())
        .set_typ(device.kind)
        .set_major(device.major)
        .set_minor(device.minor)
        .set_file_mode(device.mode)
        .set_uid(Some(uid))
        .set_gid(Some(gid));
    Ok(node)
}

fn owner(device: &ResolvedDevice, facts: &ContainerFacts<'_>) -> (u32, u32) {
    if !facts.defaults.device_ownership_from_security_context {
        return (device.uid, device.gid);
    }
    let run_as = &facts.config.security.run_as;
    let chosen = |asked: Option<u32>, own| asked.filter(|id| *id > 0).unwrap_or(own);
    (chosen(run_as.user, device.uid), chosen(run_as.group, device.gid))
}
