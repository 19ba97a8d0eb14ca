//! Lets 127.0.0.1 on the node lead into pods: the kernel routes packets from there to another
//! interface only if that interface has `route_localnet`.
//!
//! What was set here is written down, and set back when no host port needs it any more, also by a
//! later daemon. What somebody else has set is left alone.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::path::PathBuf;

use crate::sys::files;
use crate::sys::files::Durability;
use crate::sys::files::Links;
use crate::sys::netlink;
use crate::sys::sysctl;

use super::error::HostPortError;

/// Names have at most 15 bytes, and no node has more interfaces with pods than this.
const MAX_NOTE: u64 = 64 * 1024;

/// The interfaces that this program has set `route_localnet` of.
#[derive(Debug)]
pub(super) struct Localnet {
    note: PathBuf,
}

impl Localnet {
    pub(super) fn new(note: PathBuf) -> Self {
        Self { note }
    }

    /// Sets it where it is needed to reach these pods, and back everywhere else.
    pub(super) fn set(&self, pods: &[IpAddr]) -> Result<(), HostPortError> {
        let before = self.read()?;
        if pods.is_empty() && before.is_empty() {
            return Ok(());
        }
        let mut needed = BTreeSet::new();
        for pod in pods {
            // A pod that is on its way out may not be reachable any more.
            if let Ok(name) = netlink::interface_towards(*pod) {
                needed.insert(name);
            }
        }
        let mut ours: BTreeSet<String> =
            before.iter().filter(|name| exists(name)).cloned().collect();
        for name in ours.difference(&needed) {
            turn(name, "0")?;
        }
        ours.retain(|name| needed.contains(name));
        let new: Vec<String> = needed.into_iter().filter(|name| !is_on(name)).collect();
        ours.extend(new.iter().cloned());
        if ours != before {
            self.write(&ours)?;
        }
        new.iter().try_for_each(|name| turn(name, "1"))
    }

    fn read(&self) -> Result<BTreeSet<String>, HostPortError> {
        let text = match files::read(&self.note, MAX_NOTE, Links::Refuse) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(source) => return Err(HostPortError::Note { path: self.note.clone(), source }),
        };
        Ok(text.lines().map(str::to_owned).collect())
    }

    fn write(&self, names: &BTreeSet<String>) -> Result<(), HostPortError> {
        let text: String = names.iter().map(|name| format!("{name}\n")).collect();
        let written = if names.is_empty() {
            files::remove(&self.note)
        } else {
            let directory = self.note.parent().unwrap_or(Path::new("/"));
            std::fs::create_dir_all(directory).and_then(|()| {
                files::replace(&self.note, text.as_bytes(), 0o600, Durability::Process)
            })
        };
        written.map_err(|source| HostPortError::Note { path: self.note.clone(), source })
    }
}

/// The setting's name, with `/`: an interface's name may have dots.
fn setting(interface: &str) -> String {
    format!("net/ipv4/conf/{interface}/route_localnet")
}

fn path(interface: &str) -> PathBuf {
    Path::new("/proc/sys").join(setting(interface))
}

fn exists(interface: &str) -> bool {
    path(interface).exists()
}

/// The kernel takes the setting of all interfaces for each of them, too.
fn is_on(interface: &str) -> bool {
    let on = |name| std::fs::read(path(name)).is_ok_and(|text| text.starts_with(b"1"));
    on(interface) || on("all")
}

fn turn(interface: &str, value: &str) -> Result<(), HostPortError> {
    match sysctl::write(&setting(interface), value) {
        Err(sysctl::SysctlError::Write { source, .. }) => {
            Err(HostPortError::Localnet { interface: interface.to_owned(), source })
        }
        _ => Ok(()),
    }
}
