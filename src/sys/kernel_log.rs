//! The kernel's own log, for what the kernel says nowhere else.
//!
//! Only the kernel's records count. A program may write to the log too, and even claim to be the
//! kernel, but the kernel marks such a record as a program's.

use std::fs::File;
use std::io;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;

use nix::libc;

/// The longest record that a read gives (`PRINTK_MESSAGE_MAX`, formerly `CONSOLE_EXT_LOG_MAX`).
const RECORD_LIMIT: usize = 8192;
/// How many records are read; a log that fills as fast as it is read must not hold us.
const RECORDS: usize = 200_000;

/// Whether the log still says that a process of the cgroup of this name was killed because memory
/// was out, be it the cgroup's, that of one above it, or the machine's. Takes milliseconds.
///
/// The sentence is that of kernels since 5.0. It is left out when there are more than ten kills in
/// five seconds, and goes when the log is full, so a `false` proves nothing.
///
/// # Errors
///
/// What the kernel says: without `CAP_SYSLOG` the log may be closed to us
/// (`kernel.dmesg_restrict`).
pub fn tells_of_kill_for_memory(cgroup: &str) -> io::Result<bool> {
    let mut log = File::options()
        .read(true)
        .custom_flags(libc::O_CLOEXEC | libc::O_NOFOLLOW | libc::O_NOCTTY | libc::O_NONBLOCK)
        .open("/dev/kmsg")?;
    let mut record = vec![0_u8; RECORD_LIMIT];
    for _ in 0..RECORDS {
        match log.read(&mut record) {
            Ok(0) => break,
            Ok(length) => {
                if is_kill_in(record.get(..length).unwrap_or_default(), cgroup) {
                    return Ok(true);
                }
            }
            // The record was overwritten meanwhile; the next read goes on behind it.
            Err(error) if error.raw_os_error() == Some(libc::EPIPE) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}

/// Reads a record, `<priority>,<number>,<time>,<flags>;<text>` (Documentation/ABI/testing/dev-kmsg),
/// whose text may be
/// `oom-kill:constraint=…,cpuset=…,oom_memcg=…,task_memcg=<cgroup>,task=<name>,pid=…`.
fn is_kill_in(record: &[u8], cgroup: &str) -> bool {
    let Ok(record) = std::str::from_utf8(record) else { return false };
    let Some((head, text)) = record.split_once(';') else { return false };
    let priority = head.split(',').next().and_then(|number| number.parse::<u32>().ok());
    // Above the level's three bits is the facility; the kernel's is zero.
    if priority.is_none_or(|priority| priority >> 3 != 0) || !text.starts_with("oom-kill:") {
        return false;
    }
    let path = text.split_once(",task_memcg=").and_then(|(_, rest)| rest.split_once(",task="));
    path.is_some_and(|(path, _)| path.split('/').any(|part| part == cgroup))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=crio-b.scope,\
        mems_allowed=0,oom_memcg=/p.slice,task_memcg=/p.slice/crio-a.scope/sub,task=tail,pid=7,uid=0\n";

    #[test]
    fn only_the_kernel_tells_and_only_of_the_one_whose_process_it_was() {
        let told = |head: &str, cgroup| is_kill_in(format!("{head};{TEXT}").as_bytes(), cgroup);
        assert!(told("6,812,5012345,-", "crio-a.scope"));
        for other in ["crio-b.scope", "crio-a", "crio-a.scope/sub", "tail"] {
            assert!(!told("6,812,5012345,-", other), "{other}");
        }
        assert!(!told("14,812,5012345,-", "crio-a.scope"), "a program's");
        assert!(!told("x", "crio-a.scope"));
        for bad in [&b"6,1,1,-;oom-kill:task_memcg=\xff"[..], b"", b"6,1,1,-;", b";oom-kill:"] {
            assert!(!is_kill_in(bad, "crio-a.scope"));
        }
    }

    #[test]
    fn a_cgroup_that_nobody_has_is_not_told_of() {
        // Without the right to read the log there is nothing to see either.
        assert!(!tells_of_kill_for_memory("crio-nobody.scope").unwrap_or(false));
    }
}
