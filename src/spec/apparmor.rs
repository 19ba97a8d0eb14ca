//! AppArmor: which profile a container runs under, and the text of the default one.
//!
//! The default profile lets a container do what its capabilities, its cgroup and its seccomp filter
//! leave it, but for what no container has any business with: to change the node's kernel through
//! `/proc` and `/sys`, to mount, to look into or signal processes outside. It holds also for a
//! container that is root and has been given more capabilities.
//!
//! Not here: whether a profile is in the kernel, and loading it (`crate::sys::apparmor`).

use crate::model::security::SecurityContext;
use crate::model::security::SecurityProfile;
use crate::spec::error::SpecError;

/// The name of the default profile, as CRI-O has it.
pub const DEFAULT: &str = "crio-default";

/// The names under which the runtimes run where the distribution has a profile for them: they send
/// the signals that stop a container.
const RUNTIMES: &str = "{,/usr/bin/,/usr/sbin/}{runc,crun*}";

/// Whether the files are there that profiles of the distribution share (`/etc/apparmor.d`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shared {
    /// `tunables/global` and `abstractions/base` are.
    There,
    /// They are not.
    Missing,
}

/// Gives the profile of a container, given the default one; `None` is none.
///
/// Whether it is loaded is for the caller to look up.
///
/// # Errors
///
/// [`SpecError::HostLacks`] for a named profile on a node without AppArmor: running without a
/// protection that was named is worse than not running. [`SpecError::Field`] for what is no name.
pub fn wanted(
    security: &SecurityContext,
    default: &str,
    host_has_it: bool,
) -> Result<Option<String>, SpecError> {
    if security.privileged {
        return Ok(None);
    }
    let (name, named) = match &security.apparmor {
        SecurityProfile::Localhost(name) => (name.strip_prefix("localhost/").unwrap_or(name), true),
        SecurityProfile::RuntimeDefault | SecurityProfile::Unset => (default, false),
        SecurityProfile::Unconfined => return Ok(None),
    };
    if !host_has_it {
        return if named { Err(SpecError::HostLacks { what: "AppArmor" }) } else { Ok(None) };
    }
    if name.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(SpecError::field("apparmor", name, "is no name of a profile"));
    }
    match name {
        "" if named => Err(SpecError::field("apparmor", "", "names no profile")),
        "" | "unconfined" => Ok(None),
        name => Ok(Some(name.to_owned())),
    }
}

/// The text of the default profile, for `apparmor_parser`.
#[must_use]
pub fn profile(name: &str, shared: Shared) -> String {
    let (before, inside) = match shared {
        Shared::There => ("include <tunables/global>\n", "  include <abstractions/base>\n"),
        Shared::Missing => ("", ""),
    };
    let mut text =
        format!("{before}profile {name} flags=(attach_disconnected, mediate_deleted) {{\n{inside}");
    let mut rule = |rule: &str| {
        text.push_str("  ");
        text.push_str(rule);
        text.push_str(",\n");
    };
    for all in ["capability", "file", "network", "umount"] {
        rule(all);
    }
    rule(&format!("ptrace (read, readby, trace, tracedby) peer={name}"));
    rule(&format!("signal (send, receive) peer={name}"));
    for peer in ["unconfined", RUNTIMES] {
        rule(&format!("signal (receive) peer={peer}"));
    }
    rule("deny mount");
    // The kernel's own files. Those of processes, below a number, have guards of their own; of
    // the rest only the limits of shared memory may be set.
    rule("deny /proc/* w");
    rule("deny /proc/[^0-9s]** w");
    for path in all_but("/proc/s", "ys/kernel/shm") {
        rule(&format!("deny {path} w"));
    }
    for path in ["/proc/kcore", "/proc/sysrq-trigger"] {
        rule(&format!("deny {path} rwklx"));
    }
    for path in all_but("/sys/", "fs/cgroup") {
        rule(&format!("deny {path} wklx"));
    }
    for path in ["/sys/firmware/**", "/sys/kernel/security/**"] {
        rule(&format!("deny {path} rwklx"));
    }
    text.push_str("}\n");
    text
}

/// Patterns for every path that begins with `top` and does not go on with `kept`: one for each
/// place where a path can leave `kept`. A denial cannot be taken back by another rule, so an
/// exception can only be left out.
fn all_but(top: &str, kept: &str) -> Vec<String> {
    kept.char_indices()
        .map(|(at, next)| {
            let (so_far, _) = kept.split_at(at);
            format!("{top}{so_far}[^{next}]**")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(apparmor: SecurityProfile, privileged: bool) -> SecurityContext {
        SecurityContext { apparmor, privileged, ..SecurityContext::default() }
    }

    #[test]
    fn the_profile_of_each_request() {
        let local = |name: &str| SecurityProfile::Localhost(name.to_owned());
        for (profile, default, expected) in [
            (SecurityProfile::Unset, DEFAULT, Some(DEFAULT)),
            (SecurityProfile::RuntimeDefault, DEFAULT, Some(DEFAULT)),
            (SecurityProfile::RuntimeDefault, "own", Some("own")),
            (SecurityProfile::RuntimeDefault, "", None),
            (SecurityProfile::RuntimeDefault, "unconfined", None),
            (SecurityProfile::Unconfined, DEFAULT, None),
            (local("localhost/mine"), DEFAULT, Some("mine")),
            (local("mine"), DEFAULT, Some("mine")),
        ] {
            let found = wanted(&asked(profile.clone(), false), default, true).unwrap();
            assert_eq!(found.as_deref(), expected, "{profile:?} with {default:?}");
            let privileged = wanted(&asked(profile.clone(), true), default, true).unwrap();
            assert_eq!(privileged, None, "{profile:?}");
            let without = wanted(&asked(profile.clone(), false), default, false).ok();
            let named = matches!(profile, SecurityProfile::Localhost(_));
            assert_eq!(without.is_none(), named, "{profile:?} without AppArmor");
        }
        for name in ["", "localhost/", "a b", "a\nb"] {
            assert!(wanted(&asked(local(name), false), DEFAULT, true).is_err(), "{name:?}");
        }
    }

    /// What the patterns of AppArmor that are used here match.
    fn matches(pattern: &str, path: &str) -> bool {
        match pattern.split_once('[') {
            Some((head, rest)) => {
                let (class, tail) = rest.split_once(']').unwrap();
                let Some(left) = path.strip_prefix(head) else { return false };
                let Some(next) = left.chars().next() else { return false };
                let class = class.strip_prefix('^').unwrap();
                let within = class.contains(next) || class.contains("0-9") && next.is_ascii_digit();
                assert_eq!(tail, "**", "{pattern}");
                !within
            }
            None => match (pattern.strip_suffix("**"), pattern.strip_suffix('*')) {
                (Some(head), _) => path.starts_with(head),
                (None, Some(head)) => {
                    path.strip_prefix(head).is_some_and(|rest| !rest.contains('/'))
                }
                (None, None) => pattern == path,
            },
        }
    }

    #[test]
    fn the_default_profile_keeps_the_kernel_s_files_from_being_written() {
        let text = profile(DEFAULT, Shared::Missing);
        let denied = |path: &str| {
            text.lines()
                .filter_map(|line| line.trim().strip_prefix("deny ")?.split_once(' '))
                .any(|(pattern, access)| access.contains('w') && matches(pattern, path))
        };
        for path in [
            "/proc/sysrq-trigger",
            "/proc/kcore",
            "/proc/irq/5/smp_affinity",
            "/proc/scsi/scsi",
            "/proc/sys/vm/drop_caches",
            "/proc/sys/kernel/core_pattern",
            "/proc/sys/kernel/hostname",
            "/proc/sys/net/ipv4/ip_forward",
            "/sys/kernel/mm/ksm/run",
            "/sys/firmware/efi/vars",
            "/sys/fs/selinux/load",
            "/sys/fs/cgx",
            "/sys/kernel/security/apparmor/.remove",
        ] {
            assert!(denied(path), "{path}");
        }
        for path in [
            "/proc/1/oom_score_adj",
            "/proc/4711/attr/exec",
            "/proc/sys/kernel/shmmax",
            "/sys/fs/cgroup/a/cgroup.procs",
            "/system/x",
            "/process",
            "/tmp/x",
        ] {
            assert!(!denied(path), "{path}");
        }
    }

    #[test]
    fn the_default_profile_stays_as_it_is() {
        let text = profile("p", Shared::There);
        assert!(text.starts_with("include <tunables/global>\nprofile p flags=("), "{text}");
        assert!(text.contains("  include <abstractions/base>\n  capability,\n"), "{text}");
        assert!(text.contains("  signal (send, receive) peer=p,\n"), "{text}");
        assert!(text.contains("  deny mount,\n") && text.ends_with("}\n"), "{text}");
        assert!(!profile("p", Shared::Missing).contains("include"));
    }
}
