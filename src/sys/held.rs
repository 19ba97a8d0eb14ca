//! What processes hold, as `/proc` tells.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::sys::files;
use crate::sys::files::Links;

/// How many descriptors are looked at in all: who opens more is counted that far.
const MOST: u64 = 65_536;
/// The largest `limits` file that is read, in bytes.
const LIMITS: u64 = 16 * 1024;

/// Descriptors that are open.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Held {
    /// Of any kind.
    pub descriptors: u64,
    /// Of sockets.
    pub sockets: u64,
}

/// What these processes hold; those that end meanwhile hold nothing.
#[must_use]
pub fn by_processes(pids: &[i32]) -> Held {
    let mut held = Held::default();
    for pid in pids {
        let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        for entry in entries {
            if held.descriptors == MOST {
                return held;
            }
            held.descriptors += 1;
            if is_socket(&entry.path()) {
                held.sockets += 1;
            }
        }
    }
    held
}

fn is_socket(link: &Path) -> bool {
    let target = std::fs::read_link(link).unwrap_or_default();
    OsStr::as_bytes(target.as_os_str()).starts_with(b"socket:")
}

/// How many descriptors a process may have (`RLIMIT_NOFILE`, the soft limit); `None` for no limit.
#[must_use]
pub fn descriptors_max(pid: i32) -> Option<u64> {
    // Files of proc say that they are regular and empty, and are read all the same.
    let path = format!("/proc/{pid}/limits");
    let bytes = files::read(Path::new(&path), LIMITS, Links::Refuse).ok()?;
    soft_limit(std::str::from_utf8(&bytes).ok()?, "Max open files")
}

fn soft_limit(limits: &str, name: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_of_a_process_are_counted() {
        let own = i32::try_from(std::process::id()).unwrap();
        let before = by_processes(&[own]);
        let _sockets = std::os::unix::net::UnixStream::pair().unwrap();
        // Other tests of this process open and close theirs meanwhile.
        assert!(by_processes(&[own]).descriptors >= 3 && before.descriptors >= 3);
        assert!(by_processes(&[own]).sockets >= 2);
        assert_eq!(by_processes(&[i32::MAX]), Held::default());
        assert!(descriptors_max(own).unwrap() > 0);
        assert_eq!(descriptors_max(i32::MAX), None);
    }

    #[test]
    fn the_soft_limit_is_the_first_number() {
        let text = "Limit                     Soft Limit           Hard Limit           Units\n\
                    Max open files            1024                 4096                 files\n\
                    Max nice priority         unlimited            0\n";
        assert_eq!(soft_limit(text, "Max open files"), Some(1024));
        assert_eq!(soft_limit(text, "Max nice priority"), None);
        assert_eq!(soft_limit(text, "Max processes"), None);
        assert_eq!(soft_limit("Max open files", "Max open files"), None);
    }
}
