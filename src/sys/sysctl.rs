//! Writes kernel settings into the namespaces of the calling thread.
//!
//! A setting is only written when it belongs to a namespace that was made for the pod: any other
//! would be the host's. A name never leaves `/proc/sys`.

use std::fs::File;
use std::io;
use std::io::Write;

use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::ResolveFlags;

use crate::failure::Classify;
use crate::failure::Kind;

/// A kernel setting that is refused or cannot be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SysctlError {
    /// The name or the value is not one.
    #[error("{name:?} with value {value:?} is no kernel setting")]
    Malformed {
        /// The name.
        name: String,
        /// The value.
        value: String,
    },
    /// It would be the host's setting.
    #[error("sysctl {name} is not of a namespace that the pod has for itself")]
    OfHost {
        /// The name.
        name: String,
    },
    /// The kernel does not take it.
    #[error("cannot set sysctl {name} to {value:?}")]
    Write {
        /// The name.
        name: String,
        /// The value.
        value: String,
        /// What the kernel says.
        source: io::Error,
    },
}

impl Classify for SysctlError {
    fn kind(&self) -> Kind {
        match self {
            Self::Malformed { .. } | Self::OfHost { .. } => Kind::InvalidRequest,
            Self::Write { source, .. } => match source.kind() {
                io::ErrorKind::InvalidInput | io::ErrorKind::NotFound => Kind::InvalidRequest,
                _ => Kind::Internal,
            },
        }
    }
}

/// Which namespaces a pod has for itself.
#[derive(Debug, Clone, Copy)]
pub struct Namespaces {
    /// A network namespace: `net.*`.
    pub net: bool,
    /// An IPC namespace: `kernel.shm*`, `kernel.msg*`, `kernel.sem`, `fs.mqueue.*`.
    pub ipc: bool,
    /// A UTS namespace: `kernel.hostname`, `kernel.domainname`.
    pub uts: bool,
}

/// Checks that a setting is one of these namespaces', and that name and value are well formed.
///
/// # Errors
///
/// [`SysctlError::Malformed`] and [`SysctlError::OfHost`].
pub fn check(name: &str, value: &str, own: Namespaces) -> Result<(), SysctlError> {
    let malformed = || SysctlError::Malformed {
        name: name.chars().take(256).collect(),
        value: value.chars().take(256).collect(),
    };
    let path = path(name).ok_or_else(malformed)?;
    if value.len() > 4096
        || value.chars().any(|character| character.is_control() && character != '\t')
    {
        return Err(malformed());
    }
    let allowed = match path.split_once('/') {
        Some(("net", _)) => own.net,
        Some(("fs", rest)) => own.ipc && rest.starts_with("mqueue/"),
        Some(("kernel", "hostname" | "domainname")) => own.uts,
        // kernel(5) lists them under ipc_namespaces(7).
        Some(("kernel", rest)) => {
            own.ipc && (rest == "sem" || rest.starts_with("shm") || rest.starts_with("msg"))
        }
        _ => false,
    };
    if allowed { Ok(()) } else { Err(SysctlError::OfHost { name: name.to_owned() }) }
}

/// Writes a setting that was checked. The calling thread's namespaces are those it is written to.
///
/// # Errors
///
/// [`SysctlError::Write`].
pub fn write(name: &str, value: &str) -> Result<(), SysctlError> {
    try_write(name, value).map_err(|source| SysctlError::Write {
        name: name.to_owned(),
        value: value.to_owned(),
        source,
    })
}

fn try_write(name: &str, value: &str) -> io::Result<()> {
    let path = path(name).ok_or(io::ErrorKind::InvalidInput)?;
    let root = File::open("/proc/sys")?;
    let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let file = rustix::fs::openat2(root, path, flags, Mode::empty(), resolve)?;
    // One write: the kernel takes each write as a whole setting.
    File::from(file).write_all(value.as_bytes())
}

/// The path of a setting beneath `/proc/sys`, in either notation of `sysctl(8)`: whichever of `.`
/// and `/` comes first separates, and the other stands for itself within a part.
fn path(name: &str) -> Option<String> {
    let first = name.chars().find(|character| matches!(character, '.' | '/'))?;
    let path: String = name
        .chars()
        .map(|character| match (first, character) {
            ('.', '.') => '/',
            ('.', '/') => '.',
            (_, other) => other,
        })
        .collect();
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.:@".contains(&byte);
    let part =
        |part: &str| !part.is_empty() && part != "." && part != ".." && part.bytes().all(fits);
    (path.len() <= 256 && path.split('/').all(part)).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_notations_name_the_same_file() {
        for (name, expected) in [
            ("net.ipv4.ip_forward", Some("net/ipv4/ip_forward")),
            ("net/ipv4/ip_forward", Some("net/ipv4/ip_forward")),
            ("net.ipv4.conf.eth0/1.rp_filter", Some("net/ipv4/conf/eth0.1/rp_filter")),
            ("net/ipv4/conf/eth0.1/rp_filter", Some("net/ipv4/conf/eth0.1/rp_filter")),
            ("net", None),
            ("net..ipv4", None),
            ("net/../kernel/core_pattern", None),
            ("net.//.kernel", None),
            ("/net/ipv4", None),
            ("net.ipv4 x", None),
        ] {
            assert_eq!(path(name).as_deref(), expected, "{name}");
        }
    }

    #[test]
    fn a_setting_of_the_host_is_refused() {
        let all = Namespaces { net: true, ipc: true, uts: true };
        for name in ["kernel.core_pattern", "vm.swappiness", "fs.file-max", "kernel.modprobe"] {
            assert!(matches!(check(name, "1", all), Err(SysctlError::OfHost { .. })), "{name}");
        }
        let none = Namespaces { net: false, ipc: false, uts: false };
        for name in ["net.core.somaxconn", "kernel.sem", "fs.mqueue.msg_max", "kernel.hostname"] {
            check(name, "1", all).unwrap();
            assert!(check(name, "1", none).is_err(), "{name}");
        }
        assert!(check("net.core.somaxconn", "1\n2", all).is_err());
    }
}
