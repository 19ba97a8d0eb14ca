//! Paths inside a container: how they are read, and which are hidden or cannot be written.
//!
//! Nothing here is looked up: a path is a text until the runtime resolves it beneath the rootfs.

use crate::model::security::SecurityContext;
use crate::spec::error::SpecError;

/// Paths of the kernel that tell about the host or its hardware, hidden wherever paths are hidden.
const MASKED: [&str; 13] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/fs/selinux",
];

/// Gives an absolute path without `.`, `..` or double slashes; `..` stops at the root.
///
/// # Errors
///
/// [`SpecError::Field`] for one that is relative or has a control character.
pub(super) fn clean(field: &'static str, path: &str) -> Result<String, SpecError> {
    if !path.starts_with('/') {
        return Err(SpecError::field(field, path, "is no absolute path"));
    }
    if path.chars().any(char::is_control) {
        return Err(SpecError::field(field, path, "has a control character"));
    }
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            name => parts.push(name),
        }
    }
    Ok(format!("/{}", parts.join("/")))
}

/// Whether `path` is `above` or lies below it; both clean.
pub(super) fn covers(above: &str, path: &str) -> bool {
    above == "/"
        || path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Gives the masked paths: none if none are asked for (`procMount: Unmasked`), else those and ours.
///
/// # Errors
///
/// [`SpecError::Field`] for an illegal path.
pub fn masked(security: &SecurityContext, of_host: &[String]) -> Result<Vec<String>, SpecError> {
    if security.privileged || security.masked_paths.is_empty() {
        return Ok(Vec::new());
    }
    let mut paths = cleaned("masked_paths", &security.masked_paths)?;
    paths.extend(MASKED.map(String::from));
    paths.extend(cleaned("masked_paths", of_host)?);
    paths.sort();
    paths.dedup();
    Ok(paths)
}

/// Gives the read-only paths: those asked for.
///
/// # Errors
///
/// [`SpecError::Field`] for an illegal path.
pub fn readonly(security: &SecurityContext) -> Result<Vec<String>, SpecError> {
    if security.privileged {
        return Ok(Vec::new());
    }
    cleaned("readonly_paths", &security.readonly_paths)
}

fn cleaned(field: &'static str, paths: &[String]) -> Result<Vec<String>, SpecError> {
    paths.iter().map(|path| clean(field, path)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_made_plain() {
        for (path, expected) in
            [("/", "/"), ("//a///b/", "/a/b"), ("/a/./b/../c", "/a/c"), ("/../../etc", "/etc")]
        {
            assert_eq!(clean("x", path).unwrap(), expected);
        }
        for path in ["", "a", "./a", "/a\nb", "/a\0"] {
            assert!(clean("x", path).is_err(), "{path:?}");
        }
        assert!(covers("/dev", "/dev/shm") && covers("/", "/x") && covers("/a", "/a"));
        assert!(!covers("/dev", "/device") && !covers("/dev/shm", "/dev"));
    }

    #[test]
    fn a_short_list_does_not_unmask_what_is_always_masked() {
        let security =
            SecurityContext { masked_paths: vec!["/proc/mine".into()], ..Default::default() };
        let thermal = "/sys/devices/system/cpu/cpu0/thermal_throttle".to_owned();
        let paths = masked(&security, std::slice::from_ref(&thermal)).unwrap();
        for path in ["/proc/mine", "/proc/kcore", "/sys/devices/virtual/powercap", &thermal] {
            assert!(paths.iter().any(|found| found == path), "{path}");
        }
    }

    #[test]
    fn an_empty_list_unmasks_and_privileged_masks_nothing() {
        assert!(masked(&SecurityContext::default(), &[]).unwrap().is_empty());
        let security = SecurityContext {
            privileged: true,
            masked_paths: vec!["/proc/kcore".into()],
            readonly_paths: vec!["/proc/sys".into()],
            ..Default::default()
        };
        assert!(masked(&security, &[]).unwrap().is_empty());
        assert!(readonly(&security).unwrap().is_empty());
    }
}
