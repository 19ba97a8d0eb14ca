//! Namespaces that live on without a process: made on a thread of their own, pinned by a bind mount.
//!
//! A namespace belongs to a thread until it is pinned at a path. The thread that unshares must end
//! afterwards: given back to a pool, it would run other work in the pod's namespace.
//!
//! Not here: process namespaces (`pause`), because they need a first process.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::path::PathBuf;

use nix::sched::CloneFlags;
use rustix::mount::MountPropagationFlags;
use rustix::mount::UnmountFlags;

use crate::failure::Classify;
use crate::failure::Kind;

/// Namespaces that cannot be made, pinned or let go.
#[derive(Debug, thiserror::Error)]
pub enum NamespaceError {
    /// A step of making them.
    #[error("cannot {action} for the namespaces of {name}")]
    Make {
        /// What was attempted.
        action: &'static str,
        /// Whose they were to be.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// A kernel parameter that the kernel refuses.
    #[error("cannot set the sysctl {key} to {value:?}")]
    Sysctl {
        /// Which.
        key: String,
        /// To what.
        value: String,
        /// Why.
        source: io::Error,
    },
    /// The pin cannot be made or taken away.
    #[error("cannot {action} {path}")]
    Pin {
        /// What was attempted.
        action: &'static str,
        /// The file of the pin.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Classify for NamespaceError {
    fn kind(&self) -> Kind {
        match self {
            Self::Sysctl { .. } => Kind::InvalidRequest,
            Self::Make { .. } | Self::Pin { .. } => Kind::Internal,
        }
    }
}

/// Which namespaces to make, and what to set in them.
#[derive(Debug, Clone)]
pub struct Pin {
    /// Holds `netns`, `ipcns` and `utsns` directories for the pins.
    pub directory: PathBuf,
    /// The file's name in each of them.
    pub name: String,
    /// A network namespace, with its `lo` up.
    pub net: bool,
    /// An IPC namespace.
    pub ipc: bool,
    /// A namespace for the host name.
    pub uts: bool,
    /// The host name; only with `uts`.
    pub hostname: Option<String>,
    /// Kernel parameters, checked already to be of these namespaces.
    pub sysctls: Vec<(String, String)>,
}

/// Where namespaces are pinned.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pinned {
    /// The network namespace.
    pub net: Option<PathBuf>,
    /// The IPC namespace.
    pub ipc: Option<PathBuf>,
    /// The namespace for the host name.
    pub uts: Option<PathBuf>,
}

/// Makes namespaces and pins them. Blocks for a few milliseconds.
///
/// # Errors
///
/// [`NamespaceError`]; nothing is left then.
pub fn pin(request: Pin) -> Result<Pinned, NamespaceError> {
    let name = request.name.clone();
    let made = std::thread::Builder::new()
        .name("namespaces".to_owned())
        .spawn(move || make(&request))
        .map_err(|source| NamespaceError::Make {
            action: "start a thread",
            name: name.clone(),
            source,
        })?;
    made.join().unwrap_or_else(|_| {
        let source = io::Error::other("the thread panicked");
        Err(NamespaceError::Make { action: "finish", name, source })
    })
}

/// On the thread that is given up afterwards.
fn make(request: &Pin) -> Result<Pinned, NamespaceError> {
    let failed = |action| {
        let name = request.name.clone();
        move |source: io::Error| NamespaceError::Make { action, name, source }
    };
    let kinds = [
        (request.net, CloneFlags::CLONE_NEWNET),
        (request.ipc, CloneFlags::CLONE_NEWIPC),
        (request.uts, CloneFlags::CLONE_NEWUTS),
    ];
    let flags = kinds.iter().filter(|(wanted, _)| *wanted).map(|(_, flag)| *flag).collect();
    nix::sched::unshare(flags).map_err(io::Error::from).map_err(failed("unshare"))?;
    if request.net {
        crate::sys::netns::loopback_up().map_err(failed("bring lo up"))?;
    }
    if let (true, Some(hostname)) = (request.uts, &request.hostname) {
        nix::unistd::sethostname(hostname)
            .map_err(io::Error::from)
            .map_err(failed("set the host name"))?;
    }
    for (key, value) in &request.sysctls {
        set_sysctl(key, value)?;
    }
    pin_all(request)
}

/// Writes a kernel parameter as this thread's namespaces have it.
fn set_sysctl(key: &str, value: &str) -> Result<(), NamespaceError> {
    let failed =
        |source| NamespaceError::Sysctl { key: key.to_owned(), value: value.to_owned(), source };
    if key.contains("..") || key.starts_with(['/', '.']) || value.contains('\0') {
        return Err(failed(io::Error::from(io::ErrorKind::InvalidInput)));
    }
    // sysctl(8): a slash in the key keeps the dots after it, as in interface names.
    let relative = if key.contains('/') { key.to_owned() } else { key.replace('.', "/") };
    let path = Path::new("/proc/sys").join(relative);
    let mut file = File::options().write(true).open(path).map_err(failed)?;
    io::Write::write_all(&mut file, value.as_bytes()).map_err(failed)
}

fn pin_all(request: &Pin) -> Result<Pinned, NamespaceError> {
    let mut pinned = Pinned::default();
    let wanted = [
        (request.net, "net", &mut pinned.net),
        (request.ipc, "ipc", &mut pinned.ipc),
        (request.uts, "uts", &mut pinned.uts),
    ];
    let mut done: Vec<PathBuf> = Vec::new();
    for (wanted, kind, place) in wanted {
        if !wanted {
            continue;
        }
        let path = request.directory.join(format!("{kind}ns")).join(&request.name);
        if let Err(error) = pin_one(kind, &path) {
            for path in &done {
                let _ = unpin(path);
            }
            return Err(error);
        }
        done.push(path.clone());
        *place = Some(path);
    }
    Ok(pinned)
}

fn pin_one(kind: &str, path: &Path) -> Result<(), NamespaceError> {
    let failed = |action| {
        let path = path.to_owned();
        move |source: io::Error| NamespaceError::Pin { action, path, source }
    };
    prepare_directory(path.parent().unwrap_or(Path::new("/")))?;
    File::options().write(true).create_new(true).open(path).map_err(failed("create"))?;
    // The thread's own link: /proc/self is that of the process, which stays where it is.
    let source = format!("/proc/thread-self/ns/{kind}");
    rustix::mount::mount_bind(source, path).map_err(io::Error::from).map_err(|error| {
        let _ = std::fs::remove_file(path);
        failed("pin a namespace at")(error)
    })
}

/// Makes the directory of the pins a shared mount of its own, as `ip netns` does: otherwise a pin
/// that is taken away here stays in every mount namespace that was copied while it was there.
///
/// # Errors
///
/// [`NamespaceError::Pin`].
pub fn prepare_directory(directory: &Path) -> Result<(), NamespaceError> {
    let failed = |action| {
        let path = directory.to_owned();
        move |source: io::Error| NamespaceError::Pin { action, path, source }
    };
    std::fs::create_dir_all(directory).map_err(failed("create"))?;
    if is_mount_point(directory).map_err(failed("look at"))? {
        return Ok(());
    }
    rustix::mount::mount_bind_recursive(directory, directory)
        .map_err(io::Error::from)
        .map_err(failed("mount"))?;
    rustix::mount::mount_change(
        directory,
        MountPropagationFlags::SHARED | MountPropagationFlags::REC,
    )
    .map_err(io::Error::from)
    .map_err(failed("share the mount"))
}

fn is_mount_point(path: &Path) -> io::Result<bool> {
    use rustix::fs::AtFlags;
    use rustix::fs::StatxAttributes;
    use rustix::fs::StatxFlags;
    let stat = rustix::fs::statx(
        rustix::fs::CWD,
        path,
        AtFlags::NO_AUTOMOUNT | AtFlags::SYMLINK_NOFOLLOW,
        StatxFlags::BASIC_STATS,
    )?;
    Ok(stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// Takes a pin away; the namespace goes with its last process. Gone already is fine.
///
/// # Errors
///
/// [`NamespaceError::Pin`].
pub fn unpin(path: &Path) -> Result<(), NamespaceError> {
    let failed = |source| NamespaceError::Pin { action: "unpin", path: path.to_owned(), source };
    loop {
        match rustix::mount::unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            // Pinned twice, by whatever accident: once more.
            Ok(()) => {}
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => break,
            Err(error) => return Err(failed(error.into())),
        }
    }
    crate::sys::files::remove(path).map_err(failed)
}

/// Whether a namespace is pinned at this path.
#[must_use]
pub fn is_pinned(path: &Path) -> bool {
    // NSFS_MAGIC, statfs(2): what a pin shows instead of the file beneath it.
    const NSFS_MAGIC: u64 = 0x6e73_6673;
    let found = rustix::fs::statfs(path);
    found.is_ok_and(|stat| u64::try_from(stat.f_type).is_ok_and(|kind| kind == NSFS_MAGIC))
}

/// Runs `work` on a thread of its own in a pinned namespace, and gives what it gives. Blocks.
///
/// # Errors
///
/// What opening or entering the namespace fails with.
pub fn run_in<T: Send + 'static>(
    namespace: &Path,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let namespace = File::open(namespace)?;
    let thread = std::thread::Builder::new().name("in a namespace".to_owned());
    let done = thread.spawn(move || -> io::Result<T> {
        nix::sched::setns(namespace.as_fd(), CloneFlags::empty())?;
        Ok(work())
    })?;
    done.join().unwrap_or_else(|_| Err(io::Error::other("the thread panicked")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pin_in(directory: &Path) -> Pinned {
        pin(Pin {
            directory: directory.to_owned(),
            name: "test".to_owned(),
            net: true,
            ipc: true,
            uts: true,
            hostname: Some("pinned-host".to_owned()),
            sysctls: vec![("net.ipv4.ip_unprivileged_port_start".to_owned(), "7".to_owned())],
        })
        .unwrap()
    }

    fn clean(directory: &Path, pinned: &Pinned) {
        for path in [&pinned.net, &pinned.ipc, &pinned.uts].into_iter().flatten() {
            unpin(path).unwrap();
            unpin(path).unwrap();
            assert!(!path.exists());
        }
        for kind in ["netns", "ipcns", "utsns"] {
            rustix::mount::unmount(directory.join(kind), UnmountFlags::DETACH).unwrap();
        }
    }

    #[test]
    fn a_pinned_namespace_has_what_was_set_and_the_node_has_not() {
        let directory = tempfile::tempdir().unwrap();
        let pinned = pin_in(directory.path());
        assert!(is_pinned(pinned.net.as_ref().unwrap()));
        let inside = run_in(pinned.uts.as_ref().unwrap(), nix::unistd::gethostname).unwrap();
        assert_eq!(inside.unwrap().to_str(), Some("pinned-host"));
        assert_ne!(nix::unistd::gethostname().unwrap().to_str(), Some("pinned-host"));
        let port = "/proc/sys/net/ipv4/ip_unprivileged_port_start";
        let read = move || std::fs::read_to_string(port).unwrap();
        assert_eq!(run_in(pinned.net.as_ref().unwrap(), read).unwrap().trim(), "7");
        clean(directory.path(), &pinned);
    }

    #[test]
    fn a_refused_sysctl_leaves_no_pin() {
        let directory = tempfile::tempdir().unwrap();
        for key in ["net.no_such_thing", "../../etc/passwd", "/etc/passwd"] {
            let error = pin(Pin {
                directory: directory.path().to_owned(),
                name: "test".to_owned(),
                net: true,
                ipc: false,
                uts: false,
                hostname: None,
                sysctls: vec![(key.to_owned(), "1".to_owned())],
            })
            .unwrap_err();
            assert!(matches!(error, NamespaceError::Sysctl { .. }), "{error}");
            assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
        }
    }
}
