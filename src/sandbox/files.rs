//! The files of a sandbox that its containers see: `resolv.conf`, `hostname`, `/dev/shm`. Blocks.

use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use crate::model::sandbox::DnsConfig;
use crate::sandbox::error::SandboxError;
use crate::sandbox::id_map;
use crate::state::SandboxRecord;
use crate::sys::files;
use crate::sys::files::Durability;
use crate::sys::files::Links;
use crate::sys::mount;
use crate::sys::selinux;

/// The size of a pod's `/dev/shm` that wishes for none, in bytes, as in the whole field.
pub(super) const SHM_SIZE: u64 = 64 * 1024 * 1024;
/// The largest resolv.conf of the node that is copied, in bytes.
const RESOLV_LIMIT: u64 = 1024 * 1024;

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SandboxError {
    let path = path.to_owned();
    move |source| SandboxError::File { action, path, source }
}

/// Makes the directory and the files; the shared memory, of so many bytes, only for a pod that has
/// its own IPC. What containers see has the SELinux label, where one is given.
pub(super) fn make(
    record: &SandboxRecord,
    shm_size: Option<u64>,
    label: Option<&str>,
) -> Result<(), SandboxError> {
    let directory = &record.run_dir;
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true).mode(0o711).create(directory).map_err(failed("create", directory))?;
    let owner = id_map(record).map_or(0, |map| map.host);
    let write = |path: &Path, bytes: &[u8]| {
        files::replace(path, bytes, 0o644, Durability::Process)
            .and_then(|()| std::os::unix::fs::chown(path, Some(owner), Some(owner)))
            .map_err(failed("write", path))
    };
    write(&record.hostname_file(), format!("{}\n", record.hostname).as_bytes())?;
    write(&record.containerenv(), b"")?;
    let node = Path::new("/etc/resolv.conf");
    let resolv = match &record.config.dns {
        Some(dns) if !is_empty(dns) => resolv_conf(dns).into_bytes(),
        _ => match files::read(node, RESOLV_LIMIT, Links::Follow) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            other => other.map_err(failed("read", node))?,
        },
    };
    write(&record.resolv_conf(), &resolv)?;
    if let Some(size) = shm_size {
        let shm = record.shm();
        std::fs::create_dir_all(&shm).map_err(failed("create", &shm))?;
        mount::mount_tmpfs(&shm, size, 0o1777, owner, label).map_err(failed("mount", &shm))?;
    }
    for path in [record.hostname_file(), record.containerenv(), record.resolv_conf()] {
        if let Some(label) = label {
            selinux::set_label(&path, label).map_err(failed("label", &path))?;
        }
    }
    Ok(())
}

/// Takes the files away. They may be gone in part already, or never have been: nothing is below
/// what is no directory.
pub(super) fn remove(run_dir: &Path) -> Result<(), SandboxError> {
    let looked_for = std::fs::symlink_metadata(run_dir);
    if looked_for.is_err_and(|error| error.kind() == io::ErrorKind::NotADirectory) {
        return Ok(());
    }
    let shm = run_dir.join("shm");
    mount::unmount(&shm).map_err(failed("unmount", &shm))?;
    files::remove_tree(run_dir).map_err(failed("remove", run_dir))
}

fn is_empty(dns: &DnsConfig) -> bool {
    dns.servers.is_empty() && dns.searches.is_empty() && dns.options.is_empty()
}

/// The lines of resolv.conf(5).
fn resolv_conf(dns: &DnsConfig) -> String {
    let mut text = String::new();
    if !dns.searches.is_empty() {
        text.push_str(&format!("search {}\n", dns.searches.join(" ")));
    }
    for server in &dns.servers {
        text.push_str(&format!("nameserver {server}\n"));
    }
    if !dns.options.is_empty() {
        text.push_str(&format!("options {}\n", dns.options.join(" ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolv_conf_has_a_line_for_each_server() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect();
        let dns = DnsConfig {
            servers: words("10.0.0.1 10.0.0.2"),
            searches: words("a.b c"),
            options: words("ndots:5"),
        };
        assert_eq!(
            resolv_conf(&dns),
            "search a.b c\nnameserver 10.0.0.1\nnameserver 10.0.0.2\noptions ndots:5\n"
        );
    }
}
