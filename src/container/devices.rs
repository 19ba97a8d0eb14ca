//! Devices of the node for a container: those asked for, those every container gets, and those of
//! CDI specifications, which are read anew each time. Blocks.

use std::io;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;

use oci_spec::runtime::LinuxDeviceType;

use crate::container::Settings;
use crate::container::error::ContainerError;
use crate::model::container::ContainerConfig;
use crate::model::container::Device;
use crate::spec::cdi;
use crate::spec::cdi::DeviceNode;
use crate::spec::cdi::Edits;
use crate::spec::cdi::Loaded;
use crate::spec::facts::ResolvedDevice;
use crate::spec::wishes;
use crate::state::SandboxRecord;
use crate::sys::files;
use crate::sys::files::Links;

/// The largest CDI specification that is read, in bytes.
const SPEC_LIMIT: u64 = 4 * 1024 * 1024;
/// Devices of the node that a privileged container does not get: it has its own.
const OWN_DEVICES: &[&str] = &["/dev/pts", "/dev/shm", "/dev/mqueue", "/dev/fd", "/dev/console"];
/// How many directories deep devices are looked for.
const DEEPEST: usize = 8;
/// The most CDI specifications that are read.
const MOST_SPECS: usize = 1024;

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ContainerError {
    let path = path.to_owned();
    move |source| ContainerError::File { action, path, source }
}

fn missing(path: &Path) -> impl FnOnce(io::Error) -> ContainerError {
    let path = path.to_owned();
    move |source| ContainerError::Device { path, source }
}

/// The devices of a container with their numbers, and what CDI changes besides.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// All devices.
    pub(super) devices: Vec<ResolvedDevice>,
    /// The edits of the CDI devices.
    pub(super) edits: Vec<Edits>,
}

/// Finds all devices of a container: those of every container, of its request, and of its pod's
/// wish, where its handler allows that.
pub(super) fn find(
    config: &ContainerConfig,
    sandbox: &SandboxRecord,
    settings: &Settings,
) -> Result<Found, ContainerError> {
    let mut found = Found { devices: resolve(&settings.additional_devices)?, edits: Vec::new() };
    let allowed = settings.allowed_annotations(&sandbox.handler);
    if let Some(wish) = wishes::DEVICES.of(&sandbox.config.annotations, allowed) {
        found.devices.extend(resolve(&wishes::devices(wish, &settings.allowed_devices)?)?);
    }
    found.devices.extend(resolve(&config.devices)?);
    let mut names = cdi::annotated(&config.annotations);
    names.extend(config.cdi_devices.iter().cloned());
    if names.is_empty() {
        return Ok(found);
    }
    let (loaded, faults) = load(&settings.cdi_spec_dirs);
    found.edits = cdi::edits(&loaded, &names).inspect_err(|_| {
        for fault in faults {
            tracing::warn!(fault, "a CDI specification is left out");
        }
    })?;
    for node in found.edits.iter().flat_map(|edits| &edits.device_nodes) {
        found.devices.push(of_node(node)?);
    }
    Ok(found)
}

/// The specifications in these directories, and what is wrong with those that cannot be used.
fn load(directories: &[PathBuf]) -> (Vec<Loaded>, Vec<String>) {
    let (mut loaded, mut faults) = (Vec::new(), Vec::new());
    for (priority, directory) in directories.iter().enumerate() {
        let Ok(entries) = std::fs::read_dir(directory) else { continue };
        let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        for path in paths.into_iter().take(MOST_SPECS) {
            let yaml = match path.extension().and_then(|extension| extension.to_str()) {
                Some("json") => false,
                Some("yaml" | "yml") => true,
                _ => continue,
            };
            let text = files::read(&path, SPEC_LIMIT, Links::Follow)
                .map_err(|error| error.to_string())
                .and_then(|bytes| String::from_utf8(bytes).map_err(|error| error.to_string()));
            match text.and_then(|text| cdi::parse(&text, yaml)) {
                Ok(spec) => loaded.push(Loaded { priority, spec }),
                Err(fault) => faults.push(format!("{}: {fault}", path.display())),
            }
        }
    }
    (loaded, faults)
}

/// A device of a specification; what it does not say is as on the node.
fn of_node(node: &DeviceNode) -> Result<ResolvedDevice, ContainerError> {
    let host = if node.host_path.is_empty() { &node.path } else { &node.host_path };
    let access = if node.permissions.is_empty() { "rwm" } else { &node.permissions };
    let kind = match node.kind.as_str() {
        "b" => Some(LinuxDeviceType::B),
        "c" | "u" => Some(LinuxDeviceType::C),
        "p" => Some(LinuxDeviceType::P),
        _ => None,
    };
    let mut device = match (kind, node.major, node.minor) {
        (Some(kind), Some(major), Some(minor)) => ResolvedDevice {
            path: node.path.clone(),
            kind,
            major,
            minor,
            mode: None,
            uid: 0,
            gid: 0,
            access: access.to_owned(),
        },
        _ => {
            let host = Path::new(host);
            let metadata = std::fs::metadata(host).map_err(missing(host))?;
            device_at(&node.path, &metadata, access).ok_or_else(|| missing(host)(no_device()))?
        }
    };
    device.mode = node.file_mode.or(device.mode);
    device.uid = node.uid.unwrap_or(device.uid);
    device.gid = node.gid.unwrap_or(device.gid);
    Ok(device)
}

fn no_device() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "what is there is no device")
}

/// The numbers of the requested devices; a directory stands for every device in it.
fn resolve(requested: &[Device]) -> Result<Vec<ResolvedDevice>, ContainerError> {
    let mut resolved = Vec::new();
    for device in requested {
        let path = Path::new(&device.host_path);
        let metadata = std::fs::metadata(path).map_err(missing(path))?;
        if !metadata.is_dir() {
            let found = device_at(&device.container_path, &metadata, &device.permissions);
            resolved.push(found.ok_or_else(|| missing(path)(no_device()))?);
            continue;
        }
        let inside = Path::new(&device.container_path);
        below(path, inside, &device.permissions, DEEPEST, &mut resolved)?;
    }
    Ok(resolved)
}

/// The devices in a directory and in those in it, as /dev/bus/usb has them. A link to a device is
/// one, a link to a directory is left out.
fn below(
    path: &Path,
    inside: &Path,
    access: &str,
    depth: usize,
    resolved: &mut Vec<ResolvedDevice>,
) -> Result<(), ContainerError> {
    for entry in std::fs::read_dir(path).map_err(failed("list the devices in", path))? {
        let entry = entry.map_err(failed("list the devices in", path))?;
        let inside = inside.join(entry.file_name());
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            if let Some(depth) = depth.checked_sub(1) {
                below(&entry.path(), &inside, access, depth, resolved)?;
            }
            continue;
        }
        let Ok(metadata) = std::fs::metadata(entry.path()) else { continue };
        resolved.extend(device_at(&inside.to_string_lossy(), &metadata, access));
    }
    Ok(())
}

/// A device as its metadata tells; `None` for what is no device.
fn device_at(path: &str, metadata: &std::fs::Metadata, access: &str) -> Option<ResolvedDevice> {
    let kind = metadata.file_type();
    let kind = if kind.is_char_device() {
        LinuxDeviceType::C
    } else if kind.is_block_device() {
        LinuxDeviceType::B
    } else {
        return None;
    };
    let number = metadata.rdev();
    Some(ResolvedDevice {
        path: path.to_owned(),
        kind,
        major: i64::try_from(nix::sys::stat::major(number)).ok()?,
        minor: i64::try_from(nix::sys::stat::minor(number)).ok()?,
        mode: Some(metadata.permissions().mode() & 0o7777),
        uid: metadata.uid(),
        gid: metadata.gid(),
        access: access.to_owned(),
    })
}

/// All device nodes below `/dev`, without those that a container has of its own.
pub(super) fn on_node(directory: &Path) -> Vec<ResolvedDevice> {
    let mut devices = Vec::new();
    let Ok(entries) = std::fs::read_dir(directory) else { return devices };
    for entry in entries.flatten() {
        let path = entry.path();
        let Ok(metadata) = std::fs::symlink_metadata(&path) else { continue };
        if OWN_DEVICES.iter().any(|own| Path::new(own) == path) {
            continue;
        }
        if metadata.is_dir() {
            devices.extend(on_node(&path));
        } else if let Some(text) = path.to_str() {
            devices.extend(device_at(text, &metadata, "rwm"));
        }
    }
    devices
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_no_device() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let device = Device {
            host_path: file.path().to_string_lossy().into_owned(),
            container_path: "/dev/x".into(),
            permissions: "r".into(),
        };
        assert!(resolve(&[device]).is_err());
        let null = Device {
            host_path: "/dev/null".into(),
            container_path: "/dev/x".into(),
            permissions: "r".into(),
        };
        let found = resolve(&[null]).unwrap();
        assert_eq!((found[0].major, found[0].minor), (1, 3));
    }

    #[test]
    fn a_directory_stands_for_the_devices_in_it_and_below() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(directory.path().join("001/deep")).unwrap();
        for (link, to) in [
            ("zero", "/dev/zero"),
            ("001/deep/null", "/dev/null"),
            ("round", "."),
            ("no", "/etc/passwd"),
        ] {
            std::os::unix::fs::symlink(to, directory.path().join(link)).unwrap();
        }
        let device = Device {
            host_path: directory.path().to_string_lossy().into_owned(),
            container_path: "/dev/bus".into(),
            permissions: "rw".into(),
        };
        let mut found = resolve(&[device]).unwrap();
        found.sort_by(|one, other| one.path.cmp(&other.path));
        let paths: Vec<&str> = found.iter().map(|device| device.path.as_str()).collect();
        assert_eq!(paths, ["/dev/bus/001/deep/null", "/dev/bus/zero"]);
        assert_eq!((found[0].major, found[0].minor, found[0].access.as_str()), (1, 3, "rw"));
    }
}
