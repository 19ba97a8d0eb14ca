//! Control groups: where a container's is, and making, entering, reading and removing one.
//!
//! Version 1 and the hybrid layout are the same to us: a cgroup is one path in every hierarchy
//! that is mounted, the named one of systemd and the unified one included, because a service
//! manager that stops a service kills what it finds by those two. On version 2 there is only one.
//!
//! A path is checked when it is made and never leaves the hierarchy. The pure part (which path a
//! parent and a name give) is apart from what touches the kernel.

mod figures;

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use nix::libc;

pub use crate::sys::cgroup::figures::DeviceFigure;
pub use crate::sys::cgroup::figures::Group;
pub use crate::sys::cgroup::figures::Pressure;
pub use crate::sys::cgroup::figures::Stall;
pub use crate::sys::cgroup::figures::Table;

use crate::failure::Classify;
use crate::failure::Kind;
use crate::failure::io_kind;

/// How long a cgroup may be busy with dying processes before its removal is given up.
const PATIENCE: Duration = Duration::from_secs(2);

/// A cgroup that cannot be named, made, entered, read or removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CgroupError {
    /// The parent is not of the kind that the cgroup manager takes.
    #[error("the {manager} cgroup manager takes {} as a parent, not {parent:?}", manager.parent())]
    Parent {
        /// The cgroup manager that is configured.
        manager: CgroupManager,
        /// The parent that was asked for.
        parent: String,
    },
    /// No cgroup hierarchy is mounted.
    #[error("no cgroup hierarchy is mounted")]
    NotMounted,
    /// A cgroup cannot be made.
    #[error("cannot make cgroup {}", path.display())]
    Create {
        /// Its directory.
        path: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
    /// A process cannot be moved.
    #[error("cannot move process {pid} to cgroup {}", path.display())]
    Attach {
        /// The process.
        pid: i32,
        /// The cgroup's directory.
        path: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
    /// A cgroup cannot be read.
    #[error("cannot read cgroup {}", path.display())]
    Read {
        /// Its directory.
        path: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
    /// A cgroup cannot be removed.
    #[error("cannot remove cgroup {}", path.display())]
    Remove {
        /// Its directory.
        path: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
}

impl Classify for CgroupError {
    fn kind(&self) -> Kind {
        match self {
            Self::Parent { .. } => Kind::InvalidRequest,
            Self::NotMounted => Kind::NotSupported,
            Self::Create { source, .. }
            | Self::Attach { source, .. }
            | Self::Read { source, .. }
            | Self::Remove { source, .. } => io_kind(source),
        }
    }
}

/// Who makes the cgroups of pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CgroupManager {
    /// systemd, asked over D-Bus: slices and scopes.
    Systemd,
    /// Whoever needs one, as a directory.
    Cgroupfs,
}

impl CgroupManager {
    /// What a parent looks like, for an error.
    fn parent(self) -> &'static str {
        match self {
            Self::Systemd => "a slice (name.slice)",
            Self::Cgroupfs => "a path without a slice at its end",
        }
    }
}

impl fmt::Display for CgroupManager {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Systemd => "systemd",
            Self::Cgroupfs => "cgroupfs",
        })
    }
}

/// A cgroup's path in its hierarchy: absolute, and without `.` or `..`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CgroupPath(String);

impl CgroupPath {
    /// The path, with a `/` in front.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn join(&self, name: &str) -> Self {
        Self(format!("{}/{name}", self.0.trim_end_matches('/')))
    }

    fn relative(&self) -> &str {
        self.0.trim_start_matches('/')
    }

    fn parse(text: &str) -> Option<Self> {
        let parts: Vec<&str> = text.split('/').filter(|part| !part.is_empty()).collect();
        let fits = |part: &&str| {
            !matches!(*part, "." | "..") && part.len() < 256 && !part.chars().any(char::is_control)
        };
        (text.len() < 4096 && parts.iter().all(fits)).then(|| Self(format!("/{}", parts.join("/"))))
    }
}

impl fmt::Display for CgroupPath {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// The cgroup of a parent as the kubelet names it; an empty name means the default parent.
///
/// # Errors
///
/// [`CgroupError::Parent`] for a parent of the other cgroup manager's kind, or none at all.
pub fn parent_path(manager: CgroupManager, parent: &str) -> Result<CgroupPath, CgroupError> {
    let wrong = || CgroupError::Parent { manager, parent: parent.chars().take(4096).collect() };
    match manager {
        CgroupManager::Systemd => expand(slice(parent).ok_or_else(wrong)?).ok_or_else(wrong),
        CgroupManager::Cgroupfs if parent.trim_end_matches('/').ends_with(".slice") => Err(wrong()),
        CgroupManager::Cgroupfs if parent.is_empty() => Ok(CgroupPath("/crio".to_owned())),
        CgroupManager::Cgroupfs => CgroupPath::parse(parent).ok_or_else(wrong),
    }
}

/// The slice that a parent means to systemd: its last part, or the default.
fn slice(parent: &str) -> Option<&str> {
    match parent.rsplit('/').next() {
        None | Some("") if parent.is_empty() => Some("system.slice"),
        Some(name) if name.ends_with(".slice") => Some(name),
        _ => None,
    }
}

/// The path of a slice: `a-b.slice` lies in `a.slice` (`systemd.slice(5)`).
fn expand(slice: &str) -> Option<CgroupPath> {
    let name = slice.strip_suffix(".slice")?;
    let mut path = CgroupPath("/".to_owned());
    if name == "-" {
        return Some(path);
    }
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_.:\\@-".contains(&byte);
    if name.len() > 240 || !name.bytes().all(fits) {
        return None;
    }
    let mut prefix = String::new();
    for part in name.split('-') {
        if part.is_empty() {
            return None;
        }
        prefix.push_str(part);
        path = path.join(&format!("{prefix}.slice"));
        prefix.push('-');
    }
    Some(path)
}

/// What `linux.cgroupsPath` of a runtime spec says for a container.
///
/// # Errors
///
/// [`CgroupError::Parent`].
pub fn cgroups_path(manager: CgroupManager, parent: &str, id: &str) -> Result<String, CgroupError> {
    let path = parent_path(manager, parent)?;
    Ok(match manager {
        CgroupManager::Systemd => {
            format!("{}:crio:{id}", slice(parent).unwrap_or("system.slice"))
        }
        CgroupManager::Cgroupfs => path.join(&container_name(manager, id)).0,
    })
}

/// What the cgroup of a container is called.
#[must_use]
pub fn container_name(manager: CgroupManager, id: &str) -> String {
    match manager {
        CgroupManager::Systemd => format!("crio-{id}.scope"),
        CgroupManager::Cgroupfs => format!("crio-{id}"),
    }
}

/// Where the cgroup of a container is.
///
/// # Errors
///
/// [`CgroupError::Parent`].
pub fn container_path(
    manager: CgroupManager,
    parent: &str,
    id: &str,
) -> Result<CgroupPath, CgroupError> {
    Ok(parent_path(manager, parent)?.join(&container_name(manager, id)))
}

/// The cgroup of a container's monitor, for the cgroupfs manager.
///
/// # Errors
///
/// [`CgroupError::Parent`].
pub fn monitor_path(parent: &str, id: &str) -> Result<CgroupPath, CgroupError> {
    Ok(parent_path(CgroupManager::Cgroupfs, parent)?.join(&format!("crio-conmon-{id}")))
}

/// The slice and the scope `<prefix>-<id>.scope` below a parent, for the systemd manager.
///
/// # Errors
///
/// [`CgroupError::Parent`].
pub fn scope(parent: &str, prefix: &str, id: &str) -> Result<(String, String), CgroupError> {
    parent_path(CgroupManager::Systemd, parent)?;
    let slice = slice(parent).unwrap_or("system.slice");
    Ok((slice.to_owned(), format!("{prefix}-{id}.scope")))
}

/// Which generation of the interface carries the controllers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// One hierarchy for each controller; the hybrid layout too.
    V1,
    /// The unified hierarchy.
    V2,
}

/// The cgroup hierarchies of this host.
#[derive(Debug, Clone)]
pub struct Cgroups {
    version: Version,
    hierarchies: Vec<Hierarchy>,
}

#[derive(Debug, Clone)]
struct Hierarchy {
    root: PathBuf,
    /// The controllers of version 1 that it is mounted with; the unified one has none here.
    controllers: Vec<String>,
    is_unified: bool,
}

impl Cgroups {
    /// The hierarchies that are mounted now.
    ///
    /// # Errors
    ///
    /// [`CgroupError::NotMounted`], [`CgroupError::Read`].
    pub fn mounted() -> Result<Self, CgroupError> {
        let path = PathBuf::from("/proc/self/mountinfo");
        match std::fs::read_to_string(&path) {
            Ok(text) => Self::parse(&text).ok_or(CgroupError::NotMounted),
            Err(source) => Err(CgroupError::Read { path, source }),
        }
    }

    /// Reads `proc_pid_mountinfo(5)`: mount point in the fifth field, type and options behind ` - `.
    pub(crate) fn parse(mountinfo: &str) -> Option<Self> {
        let (mut v1, mut unified) = (Vec::new(), Vec::new());
        for line in mountinfo.lines() {
            let Some((mount, filesystem)) = line.split_once(" - ") else { continue };
            let Some(root) = mount.split(' ').nth(4).map(PathBuf::from) else { continue };
            let options = filesystem.rsplit(' ').next().unwrap_or_default();
            let (controllers, is_unified) = match filesystem.split(' ').next() {
                Some("cgroup") => (options.split(',').map(str::to_owned).collect(), false),
                Some("cgroup2") => (Vec::new(), true),
                _ => continue,
            };
            let kind = if is_unified { &mut unified } else { &mut v1 };
            kind.push(Hierarchy { root, controllers, is_unified });
        }
        unified.truncate(1);
        let version = if v1.is_empty() { Version::V2 } else { Version::V1 };
        v1.extend(unified);
        let mut seen = BTreeSet::new();
        v1.retain(|hierarchy| seen.insert(hierarchy.root.clone()));
        (!v1.is_empty()).then_some(Self { version, hierarchies: v1 })
    }

    /// Which generation carries the controllers.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// The directories of a cgroup, one in each hierarchy.
    pub fn directories(&self, path: &CgroupPath) -> impl Iterator<Item = PathBuf> {
        self.hierarchies.iter().map(|hierarchy| hierarchy.root.join(path.relative()))
    }

    /// Makes a cgroup, and those above it; what is there already is fine.
    ///
    /// # Errors
    ///
    /// [`CgroupError::Create`].
    pub fn create(&self, path: &CgroupPath) -> Result<(), CgroupError> {
        for hierarchy in &self.hierarchies {
            hierarchy.create(path).map_err(|source| CgroupError::Create {
                path: hierarchy.root.join(path.relative()),
                source,
            })?;
        }
        Ok(())
    }

    /// Moves a process, with all its threads, into a cgroup.
    ///
    /// # Errors
    ///
    /// [`CgroupError::Attach`].
    pub fn attach(&self, path: &CgroupPath, pid: i32) -> Result<(), CgroupError> {
        for directory in self.directories(path) {
            write(&directory.join("cgroup.procs"), &pid.to_string())
                .map_err(|source| CgroupError::Attach { pid, path: directory, source })?;
        }
        Ok(())
    }

    /// The processes in a cgroup and those below it; none if it does not exist.
    ///
    /// # Errors
    ///
    /// [`CgroupError::Read`].
    pub fn processes(&self, path: &CgroupPath) -> Result<BTreeSet<i32>, CgroupError> {
        let mut pids = BTreeSet::new();
        for directory in self.directories(path) {
            read_tree(&directory, &mut pids)
                .map_err(|source| CgroupError::Read { path: directory, source })?;
        }
        Ok(pids)
    }

    /// Kills the processes in a cgroup and those below it.
    ///
    /// # Errors
    ///
    /// [`CgroupError::Read`].
    pub fn kill(&self, path: &CgroupPath) -> Result<(), CgroupError> {
        for pid in self.processes(path)? {
            let pid = nix::unistd::Pid::from_raw(pid);
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        }
        Ok(())
    }

    /// Removes a cgroup and those below it; that it is gone already is fine. Waits a little for
    /// processes that are on their way out.
    ///
    /// # Errors
    ///
    /// [`CgroupError::Remove`].
    pub async fn remove(&self, path: &CgroupPath) -> Result<(), CgroupError> {
        let (mut waited, mut pause) = (Duration::ZERO, Duration::from_millis(1));
        loop {
            let mut busy = None;
            for directory in self.directories(path) {
                if let Err(source) = remove_tree(&directory) {
                    busy = busy.or(Some(CgroupError::Remove { path: directory, source }));
                }
            }
            match busy {
                None => return Ok(()),
                Some(CgroupError::Remove { source, .. })
                    if source.raw_os_error() == Some(libc::EBUSY) && waited < PATIENCE => {}
                Some(error) => return Err(error),
            }
            tokio::time::sleep(pause).await;
            waited += pause;
            pause = (pause * 2).min(Duration::from_millis(100));
        }
    }
}

impl Hierarchy {
    fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|own| own == controller)
    }

    fn create(&self, path: &CgroupPath) -> io::Result<()> {
        let mut directory = self.root.clone();
        for part in path.relative().split('/').filter(|part| !part.is_empty()) {
            let above = directory.clone();
            directory.push(part);
            match std::fs::create_dir(&directory) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                // A cgroup takes no process before its CPUs and memory nodes are set.
                _ if self.has("cpuset") => inherit_cpuset(&above, &directory)?,
                _ => {}
            }
        }
        Ok(())
    }
}

/// Gives a cpuset what its parent has, where it has nothing yet (cgroup-v1/cpusets.rst, 1.6).
fn inherit_cpuset(above: &Path, directory: &Path) -> io::Result<()> {
    for name in ["cpuset.cpus", "cpuset.mems"] {
        let file = directory.join(name);
        if std::fs::read_to_string(&file)?.trim().is_empty() {
            write(&file, std::fs::read_to_string(above.join(name))?.trim())?;
        }
    }
    Ok(())
}

/// Writes to a file that the kernel made; it is never created by us.
fn write(file: &Path, text: &str) -> io::Result<()> {
    use std::io::Write;
    std::fs::File::options().write(true).open(file)?.write_all(text.as_bytes())
}

fn read_tree(directory: &Path, pids: &mut BTreeSet<i32>) -> io::Result<()> {
    let gone = |error: &io::Error| {
        error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ENODEV)
    };
    match std::fs::read_to_string(directory.join("cgroup.procs")) {
        Ok(text) => pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok())),
        Err(error) if gone(&error) => return Ok(()),
        Err(error) => return Err(error),
    }
    for below in directories_below(directory)? {
        read_tree(&below, pids)?;
    }
    Ok(())
}

fn remove_tree(directory: &Path) -> io::Result<()> {
    for below in directories_below(directory)? {
        remove_tree(&below)?;
    }
    match std::fs::remove_dir(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn directories_below(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut below = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            below.push(entry.path());
        }
    }
    Ok(below)
}

#[cfg(test)]
mod tests;
