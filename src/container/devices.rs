//! Looks at the devices of the node. Blocks.

use std::io;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use oci_spec::runtime::LinuxDeviceType;

use crate::container::error::ContainerError;
use crate::container::facts::failed;
use crate::model::container::Device;
use crate::spec::facts::ResolvedDevice;

/// Devices of the node that a privileged container does not get: it has its own.
const OWN_DEVICES: &[&str] = &["/dev/pts", "/dev/shm", "/dev/mqueue", "/dev/fd", "/dev/console"];

/// The numbers of the requested devices; a directory stands for every device in it.
pub(super) fn requested(devices: &[Device]) -> Result<Vec<ResolvedDevice>, ContainerError> {
    let mut resolved = Vec::new();
    for device in devices {
        let path = Path::new(&device.host_path);
        let metadata = std::fs::metadata(path).map_err(failed("find the device", path))?;
        if !metadata.is_dir() {
            let found = device_at(&device.container_path, &metadata, &device.permissions);
            let odd = || io::Error::new(io::ErrorKind::InvalidInput, "it is no device");
            resolved.push(found.ok_or_else(|| failed("use the device", path)(odd()))?);
            continue;
        }
        for entry in std::fs::read_dir(path).map_err(failed("list the devices in", path))? {
            let entry = entry.map_err(failed("list the devices in", path))?;
            let inside = Path::new(&device.container_path).join(entry.file_name());
            let Ok(metadata) = std::fs::metadata(entry.path()) else { continue };
            let inside = inside.to_string_lossy();
            resolved.extend(device_at(&inside, &metadata, &device.permissions));
        }
    }
    Ok(resolved)
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
pub(super) fn of_node(directory: &Path) -> Vec<ResolvedDevice> {
    let mut devices = Vec::new();
    let Ok(entries) = std::fs::read_dir(directory) else { return devices };
    for entry in entries.flatten() {
        let path = entry.path();
        let Ok(metadata) = std::fs::symlink_metadata(&path) else { continue };
        if OWN_DEVICES.iter().any(|own| Path::new(own) == path) {
            continue;
        }
        if metadata.is_dir() {
            devices.extend(of_node(&path));
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
        assert!(requested(&[device]).is_err());
        let null = Device {
            host_path: "/dev/null".into(),
            container_path: "/dev/x".into(),
            permissions: "r".into(),
        };
        let found = requested(&[null]).unwrap();
        assert_eq!((found[0].major, found[0].minor), (1, 3));
    }
}
