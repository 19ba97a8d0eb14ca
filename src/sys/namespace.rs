//! Makes a pod's namespaces and pins them to files, so that they live without a process.
//!
//! A namespace belongs to a thread. So each request gets a thread of its own, which makes the
//! namespaces, sets them up from inside, binds them to files and ends: no thread that has left the
//! host's namespaces is ever used for anything else.
//!
//! The files lie where other tools look for them: `<directory>/netns/<name>` is what `ip netns`
//! lists. What cannot be set up is undone before the error is given.

#![allow(unsafe_code, reason = "an interface's flags are set by an ioctl that no crate wraps")]

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::libc;
use nix::mount::MntFlags;
use nix::mount::MsFlags;
use nix::sched::CloneFlags;

use crate::failure::Classify;
use crate::failure::Kind;
use crate::sys::sysctl;
use crate::sys::sysctl::SysctlError;
use crate::sys::user_ns;
use crate::sys::user_ns::Holder;
use crate::sys::user_ns::IdMap;

/// A namespace that could not be made, pinned, entered or released.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NamespaceError {
    /// The name would not be a file name.
    #[error("{name:?} cannot name a namespace: letters, digits, '-', '_' and '.' are wanted")]
    Name {
        /// The name.
        name: String,
    },
    /// A host name was given for a pod that shares the host's.
    #[error("hostname {hostname:?} is for a pod with a uts namespace of its own")]
    HostnameOfHost {
        /// The host name.
        hostname: String,
    },
    /// A kernel setting is refused or cannot be written.
    #[error(transparent)]
    Sysctl(#[from] SysctlError),
    /// The kernel makes no namespaces.
    #[error("cannot make namespaces ({kinds})")]
    Make {
        /// Which were asked for.
        kinds: String,
        /// What the kernel says.
        source: io::Error,
    },
    /// The loopback interface of the new network namespace stays down.
    #[error("cannot bring up the loopback interface of a new network namespace")]
    Loopback {
        /// What the kernel says.
        source: io::Error,
    },
    /// The host name cannot be set.
    #[error("cannot set hostname {hostname:?}")]
    Hostname {
        /// The host name.
        hostname: String,
        /// What the kernel says.
        source: io::Error,
    },
    /// The directory for the files cannot be prepared.
    #[error("cannot prepare {} for pinned namespaces", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
    /// A namespace cannot be bound to its file.
    #[error("cannot pin a namespace to {}", path.display())]
    Pin {
        /// The file.
        path: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
    /// A pinned namespace cannot be released.
    #[error("cannot release the namespace pinned to {}", path.display())]
    Unpin {
        /// The file.
        path: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
    /// A pinned namespace cannot be entered.
    #[error("cannot enter the network namespace {}", path.display())]
    Enter {
        /// The file.
        path: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
    /// There is no thread to do it on, or it died.
    #[error("cannot run a thread for a namespace")]
    Thread {
        /// What the kernel says.
        source: io::Error,
    },
}

impl Classify for NamespaceError {
    fn kind(&self) -> Kind {
        match self {
            Self::Name { .. } | Self::HostnameOfHost { .. } => Kind::InvalidRequest,
            Self::Sysctl(error) => error.kind(),
            Self::Hostname { source, .. } if source.raw_os_error() == Some(libc::EINVAL) => {
                Kind::InvalidRequest
            }
            _ => Kind::Internal,
        }
    }
}

/// What namespaces to make, how to set them up, and where to pin them.
#[derive(Debug, Clone)]
pub struct Pin {
    /// Files go to `userns`, `netns`, `ipcns` and `utsns` in it.
    pub directory: PathBuf,
    /// The name of the files.
    pub name: String,
    /// Make a user namespace with this map, which the other namespaces belong to.
    pub user: Option<IdMap>,
    /// Make a network namespace, its loopback interface up.
    pub net: bool,
    /// Make an IPC namespace.
    pub ipc: bool,
    /// Make a UTS namespace.
    pub uts: bool,
    /// The host name in the UTS namespace.
    pub hostname: Option<String>,
    /// Kernel settings, name and value; only those of the namespaces made are allowed.
    pub sysctls: Vec<(String, String)>,
}

/// The files that namespaces are pinned to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pinned {
    /// The user namespace.
    pub user: Option<PathBuf>,
    /// The network namespace.
    pub net: Option<PathBuf>,
    /// The IPC namespace.
    pub ipc: Option<PathBuf>,
    /// The UTS namespace.
    pub uts: Option<PathBuf>,
}

impl Pinned {
    /// The files.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        [&self.net, &self.ipc, &self.uts, &self.user].into_iter().filter_map(|path| path.as_deref())
    }

    /// Releases all of them; those released already are fine.
    ///
    /// # Errors
    ///
    /// [`NamespaceError::Unpin`] for the first that stays; the others are tried all the same.
    pub fn unpin(&self) -> Result<(), NamespaceError> {
        let results: Vec<_> = self.paths().map(unpin).collect();
        results.into_iter().collect()
    }
}

/// Makes namespaces, sets them up and pins them. Blocks for some milliseconds.
///
/// # Errors
///
/// [`NamespaceError`]; nothing is left then.
pub fn pin(request: Pin) -> Result<Pinned, NamespaceError> {
    check(&request)?;
    let mut flags = CloneFlags::empty();
    let mut wanted = Vec::new();
    for (_, flag, kind) in kinds(&request).into_iter().filter(|(is_wanted, ..)| *is_wanted) {
        flags |= flag;
        wanted.push(kind);
        prepare(&request.directory.join(format!("{kind}ns")))?;
    }
    if wanted.is_empty() {
        return Ok(Pinned::default());
    }
    on_fresh_thread(move || {
        let holder = enter_new(&request, flags)
            .map_err(|source| NamespaceError::Make { kinds: wanted.join(", "), source })?;
        set_up(&request)?;
        let mut pinned = Pinned::default();
        let bound = bind_all(&request, holder.as_ref(), &mut pinned);
        if bound.is_err() {
            let _ = pinned.unpin();
        }
        bound.map(|()| pinned)
    })?
}

/// What is wanted, as the kernel calls it.
fn kinds(request: &Pin) -> [(bool, CloneFlags, &'static str); 4] {
    [
        (request.user.is_some(), CloneFlags::CLONE_NEWUSER, "user"),
        (request.net, CloneFlags::CLONE_NEWNET, "net"),
        (request.ipc, CloneFlags::CLONE_NEWIPC, "ipc"),
        (request.uts, CloneFlags::CLONE_NEWUTS, "uts"),
    ]
}

/// Brings this thread into new namespaces; gives who holds the user namespace, which no thread
/// can be in.
fn enter_new(request: &Pin, flags: CloneFlags) -> io::Result<Option<Holder>> {
    let Some(map) = request.user else {
        nix::sched::unshare(flags)?;
        return Ok(None);
    };
    let holder = Holder::start(flags, map)?;
    for (is_wanted, flag, kind) in kinds(request) {
        if is_wanted && flag != CloneFlags::CLONE_NEWUSER {
            nix::sched::setns(File::open(holder.path_of(kind))?, flag)?;
        }
    }
    Ok(Some(holder))
}

fn check(request: &Pin) -> Result<(), NamespaceError> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let name = &request.name;
    if name.is_empty() || name.len() > 255 || name.starts_with('.') || !name.bytes().all(fits) {
        return Err(NamespaceError::Name { name: name.chars().take(255).collect() });
    }
    if let (false, Some(hostname)) = (request.uts, &request.hostname) {
        return Err(NamespaceError::HostnameOfHost { hostname: hostname.clone() });
    }
    let own = sysctl::Namespaces { net: request.net, ipc: request.ipc, uts: request.uts };
    for (name, value) in &request.sysctls {
        sysctl::check(name, value, own)?;
    }
    Ok(())
}

fn set_up(request: &Pin) -> Result<(), NamespaceError> {
    if request.net {
        loopback_up().map_err(|source| NamespaceError::Loopback { source })?;
    }
    if let Some(hostname) = &request.hostname {
        nix::unistd::sethostname(hostname).map_err(|error| NamespaceError::Hostname {
            hostname: hostname.clone(),
            source: error.into(),
        })?;
    }
    for (name, value) in &request.sysctls {
        set(name, value, request.user)?;
    }
    Ok(())
}

/// Writes a setting, as root of the node or, where only that may, as root of the user namespace.
fn set(name: &str, value: &str, user: Option<IdMap>) -> Result<(), SysctlError> {
    let written = sysctl::write(name, value);
    match (&written, user) {
        (Err(SysctlError::Write { source, .. }), Some(map))
            if source.kind() == io::ErrorKind::PermissionDenied =>
        {
            let wrap = |source| SysctlError::Write {
                name: name.to_owned(),
                value: value.to_owned(),
                source,
            };
            user_ns::as_user(map.host, || Ok(sysctl::write(name, value))).map_err(wrap)?
        }
        _ => written,
    }
}

fn bind_all(
    request: &Pin,
    holder: Option<&Holder>,
    pinned: &mut Pinned,
) -> Result<(), NamespaceError> {
    let slots = [&mut pinned.user, &mut pinned.net, &mut pinned.ipc, &mut pinned.uts];
    for ((is_wanted, _, kind), slot) in kinds(request).into_iter().zip(slots) {
        if !is_wanted {
            continue;
        }
        let namespace = match holder {
            Some(holder) => holder.path_of(kind),
            None => format!("/proc/thread-self/ns/{kind}"),
        };
        let path = request.directory.join(format!("{kind}ns")).join(&request.name);
        let wrap = |source| NamespaceError::Pin { path: path.clone(), source };
        bind(&namespace, &path).map_err(wrap)?;
        *slot = Some(path);
    }
    Ok(())
}

/// Binds a namespace to a new file.
fn bind(namespace: &str, path: &Path) -> io::Result<()> {
    File::options()
        .write(true)
        .create_new(true)
        .mode(0o444)
        .custom_flags(libc::O_CLOEXEC | libc::O_NOFOLLOW)
        .open(path)?;
    let mounted =
        nix::mount::mount(Some(namespace), path, None::<&str>, MsFlags::MS_BIND, None::<&str>);
    if mounted.is_err() {
        let _ = std::fs::remove_file(path);
    }
    Ok(mounted?)
}

/// Makes a directory whose mounts other mount namespaces see come and go, as `ip netns` does: a
/// mount that someone else holds a private copy of would keep the namespace alive.
fn prepare(directory: &Path) -> Result<(), NamespaceError> {
    let result = std::fs::create_dir_all(directory).and_then(|()| share(directory));
    result.map_err(|source| NamespaceError::Directory { path: directory.to_owned(), source })
}

fn share(directory: &Path) -> io::Result<()> {
    let make_shared = || {
        let flags = MsFlags::MS_SHARED | MsFlags::MS_REC;
        nix::mount::mount(None::<&str>, directory, None::<&str>, flags, None::<&str>)
    };
    // EINVAL says that it is no mount point.
    if make_shared() != Err(Errno::EINVAL) {
        return Ok(make_shared()?);
    }
    // Two pods at once must not both bind it; `ip netns` takes the same lock.
    let lock = File::open(directory)?;
    rustix::fs::flock(lock.as_fd(), rustix::fs::FlockOperation::LockExclusive)?;
    if make_shared() != Err(Errno::EINVAL) {
        return Ok(());
    }
    let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
    nix::mount::mount(Some(directory), directory, None::<&str>, flags, None::<&str>)?;
    Ok(make_shared()?)
}

/// Sets the loopback interface of this thread's network namespace up (`netdevice(7)`).
fn loopback_up() -> io::Result<()> {
    let socket = rustix::net::socket_with(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::DGRAM,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    )?;
    // SAFETY: an all-zero `ifreq` is a valid one.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (slot, byte) in request.ifr_name.iter_mut().zip(b"lo") {
        *slot = libc::c_char::from_ne_bytes([*byte]);
    }
    let up = libc::c_short::try_from(libc::IFF_UP | libc::IFF_RUNNING).unwrap_or_default();
    request.ifr_ifru.ifru_flags = up;
    // SAFETY: the socket is open, and the kernel reads one `ifreq`, which outlives the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Releases a pinned namespace; that it is gone already is fine.
///
/// # Errors
///
/// [`NamespaceError::Unpin`].
pub fn unpin(path: &Path) -> Result<(), NamespaceError> {
    release(path).map_err(|source| NamespaceError::Unpin { path: path.to_owned(), source })
}

fn release(path: &Path) -> io::Result<()> {
    let flags = MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW;
    // More than one mount may lie on it; EINVAL says that there is none.
    loop {
        match nix::mount::umount2(path, flags) {
            Ok(()) => {}
            Err(Errno::EINVAL | Errno::ENOENT) => break,
            // Nothing is below what is no directory.
            Err(Errno::ENOTDIR) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
    crate::sys::files::remove(path)
}

/// Whether a namespace is pinned to this file.
#[must_use]
pub fn is_pinned(path: &Path) -> bool {
    rustix::fs::statfs(path).is_ok_and(|found| found.f_type == libc::NSFS_MAGIC)
}

/// Runs something in a pinned network namespace, on a thread that ends with it.
///
/// # Errors
///
/// [`NamespaceError::Enter`] and [`NamespaceError::Thread`].
pub fn run_in<T: Send + 'static>(
    network: &Path,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, NamespaceError> {
    let enter = |source| NamespaceError::Enter { path: network.to_owned(), source };
    let file = File::options()
        .read(true)
        .custom_flags(libc::O_CLOEXEC | libc::O_NOFOLLOW)
        .open(network)
        .map_err(enter)?;
    let entered = on_fresh_thread(move || -> nix::Result<T> {
        nix::sched::setns(file, CloneFlags::CLONE_NEWNET)?;
        Ok(work())
    })?;
    entered.map_err(|error| enter(error.into()))
}

/// Runs something in each of these pinned network namespaces, one after another, on one thread that
/// ends with it; `None` is the node's own. One that cannot be entered has no answer.
///
/// # Errors
///
/// [`NamespaceError::Thread`].
pub fn run_in_each<T: Send + 'static>(
    networks: Vec<Option<PathBuf>>,
    work: impl Fn() -> T + Send + 'static,
) -> Result<Vec<Option<T>>, NamespaceError> {
    on_fresh_thread(move || {
        let flags = libc::O_CLOEXEC | libc::O_NOFOLLOW;
        let run = |network: Option<PathBuf>| {
            // A process's namespaces are those of its first thread, which never leaves the node's.
            let file = match &network {
                Some(pinned) => File::options().read(true).custom_flags(flags).open(pinned),
                None => File::open("/proc/self/ns/net"),
            };
            nix::sched::setns(file.ok()?, CloneFlags::CLONE_NEWNET).ok()?;
            Some(work())
        };
        networks.into_iter().map(run).collect()
    })
}

fn on_fresh_thread<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, NamespaceError> {
    let thread = std::thread::Builder::new().name("namespace".to_owned()).spawn(work);
    let thread = thread.map_err(|source| NamespaceError::Thread { source })?;
    thread.join().map_err(|_| NamespaceError::Thread { source: io::Error::other("it panicked") })
}

#[cfg(test)]
mod tests;
