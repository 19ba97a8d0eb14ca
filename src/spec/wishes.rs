//! What a pod wishes for by annotation: the few that change how it is run, under CRI-O's names.
//!
//! A wish counts only if the pod's runtime handler allows its key (`allowed_annotations`). It has a
//! name of today and an older one; each must be allowed by itself, and today's goes first.

use std::collections::BTreeMap;

use crate::model::container::Device;
use crate::model::quantity;
use crate::spec::annotations;
use crate::spec::error::SpecError;

/// An annotation that changes how a pod is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wish {
    /// Its name.
    pub name: &'static str,
    /// Its name before CRI-O 1.34.
    pub older: &'static str,
}

/// Devices of the node, as `/dev/fuse:/dev/fuse:rwm,/dev/net/tun`.
pub const DEVICES: Wish = Wish { name: "devices.crio.io", older: "io.kubernetes.cri-o.Devices" };
/// The size of `/dev/shm`, as `1Gi`.
pub const SHM_SIZE: Wish = Wish { name: "shm-size.crio.io", older: "io.kubernetes.cri-o.ShmSize" };
/// The umask of each container's first process, as `077`.
pub const UMASK: Wish = Wish { name: "umask.crio.io", older: "io.kubernetes.cri-o.umask" };
/// `true` makes the container's cgroup writable to it, on cgroup v2.
pub const CGROUP_WRITABLE: Wish = Wish {
    name: "cgroup2-mount-hierarchy-rw.crio.io",
    older: "io.kubernetes.cri-o.cgroup2-mount-hierarchy-rw",
};
/// `true` leaves a volume alone whose label is right already.
pub const SKIP_RELABEL: Wish = Wish {
    name: "try-skip-volume-selinux-label.crio.io",
    older: "io.kubernetes.cri-o.TrySkipVolumeSELinuxLabel",
};

/// The reference of an artifact with the seccomp profile of one container (`/NAME`) or of all that
/// have no other (`/POD`).
pub const SECCOMP_PROFILE: Wish =
    Wish { name: "seccomp-profile.crio.io", older: "seccomp-profile.kubernetes.cri-o.io" };

/// What CRI-O knows and this program does not build: allowing it has no effect, and an
/// administrator who allows it should know.
pub const NOT_BUILT: [&str; 20] = [
    "cpu-c-states.crio.io",
    "cpu-freq-governor.crio.io",
    "cpu-load-balancing.crio.io",
    "cpu-quota.crio.io",
    "cpu-shared.crio.io",
    "disable-fips.crio.io",
    "irq-load-balancing.crio.io",
    "link-logs.crio.io",
    "platform-runtime-path.crio.io",
    "seccomp-notifier-action.crio.io",
    "skip-gomaxprocs.crio.io",
    "unified-cgroup.crio.io",
    "userns-mode.crio.io",
    "io.kubernetes.cri-o.DisableFIPS",
    "io.kubernetes.cri-o.LinkLogs",
    "io.kubernetes.cri-o.PlatformRuntimePath",
    "io.kubernetes.cri-o.UnifiedCgroup",
    "io.kubernetes.cri-o.seccompNotifierAction",
    "io.kubernetes.cri-o.userns-mode",
    "io.kubernetes.cri.rdt-class",
];

/// Whether a key is one of those that CRI-O gates, built here or not.
#[must_use]
pub(super) fn is_known(key: &str) -> bool {
    let of = |name: &str| annotations::is_or_is_of(key, name);
    let built = [DEVICES, SHM_SIZE, UMASK, CGROUP_WRITABLE, SKIP_RELABEL, SECCOMP_PROFILE];
    built.iter().any(|wish| of(wish.name) || of(wish.older))
        || NOT_BUILT.iter().any(|name| of(name))
}

impl Wish {
    /// What a pod's annotations say of it, if its handler allows it; empty is nothing.
    #[must_use]
    pub fn of<'a>(
        self,
        annotations: &'a BTreeMap<String, String>,
        allowed: &[String],
    ) -> Option<&'a str> {
        let passed = annotations::passed_on(annotations, allowed);
        let said = passed.get(self.name).or_else(|| passed.get(self.older)).copied();
        said.filter(|text| !text.is_empty())
    }

    /// Whether it says `true`.
    #[must_use]
    pub fn is_true(self, annotations: &BTreeMap<String, String>, allowed: &[String]) -> bool {
        self.of(annotations, allowed) == Some("true")
    }
}

/// The artifact that a container's seccomp profile is in, if one is wished for: by the pod for this
/// container, or for all; then by the image, which is judged with its annotations.
#[must_use]
pub fn seccomp_artifact<'a>(
    pod: &'a BTreeMap<String, String>,
    image: &'a BTreeMap<String, String>,
    container: &str,
    allowed: &[String],
) -> Option<&'a str> {
    let (pod, image) =
        (annotations::passed_on(pod, allowed), annotations::passed_on(image, allowed));
    let own = format!("/{container}");
    let places =
        [(&pod, own.as_str()), (&pod, "/POD"), (&image, ""), (&image, &own), (&image, "/POD")];
    let names = [SECCOMP_PROFILE.name, SECCOMP_PROFILE.older];
    let mut said = places.into_iter().flat_map(|(map, suffix)| {
        names
            .into_iter()
            .filter_map(move |name| map.get(format!("{name}{suffix}").as_str()).copied())
    });
    said.next().filter(|text| !text.is_empty())
}

/// Reads a umask: up to four octal digits.
///
/// # Errors
///
/// [`SpecError::Field`] for anything else.
pub fn umask(text: &str) -> Result<u32, SpecError> {
    let octal = text.len() <= 4 && text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    let read = u32::from_str_radix(text, 8).ok().filter(|_| octal);
    read.ok_or_else(|| SpecError::field("umask.crio.io", text, "is no umask as 022"))
}

/// Reads the size of `/dev/shm`, in bytes.
///
/// # Errors
///
/// [`SpecError::Field`] for what is no positive whole number of bytes.
pub fn shm_size(text: &str) -> Result<u64, SpecError> {
    let read = quantity::whole(text).ok().flatten();
    read.ok_or_else(|| SpecError::field("shm-size.crio.io", text, "is no size as 64Mi"))
}

/// Reads devices as `/dev/a:/dev/b:rw,/dev/c`: each of them one of those that the administrator
/// allows, and nothing but a device below `/dev` inside.
///
/// # Errors
///
/// [`SpecError::Field`] for a device that is not allowed, or a text that means none.
pub fn devices(text: &str, allowed: &[String]) -> Result<Vec<Device>, SpecError> {
    text.split(',').filter(|part| !part.is_empty()).map(|part| device(part, allowed)).collect()
}

fn device(text: &str, allowed: &[String]) -> Result<Device, SpecError> {
    let fault = |fault| SpecError::field("devices.crio.io", text, fault);
    let parts: Vec<&str> = text.split(':').collect();
    let is_access =
        |part: &str| !part.is_empty() && part.bytes().all(|byte| b"rwm".contains(&byte));
    let (host, inside, access) = match parts.as_slice() {
        [host] => (*host, *host, "rwm"),
        [host, access] if is_access(access) => (*host, *host, *access),
        [host, inside] => (*host, *inside, "rwm"),
        [host, inside, access] => (*host, *inside, *access),
        _ => return Err(fault("is no device as /dev/fuse:/dev/fuse:rwm")),
    };
    if !allowed.iter().any(|known| known == host) {
        return Err(fault("is not in allowed_devices"));
    }
    let inside = if inside.is_empty() { host } else { inside };
    if !inside.starts_with("/dev/") || inside.split('/').any(|name| name == "..") {
        return Err(fault("is to show outside of /dev"));
    }
    // Whether the access is legal is asked where all devices of a container are.
    Ok(Device {
        container_path: inside.to_owned(),
        host_path: host.to_owned(),
        permissions: access.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_wish_that_the_handler_does_not_allow_is_no_wish() {
        let said = map(&[("umask.crio.io", "077"), ("io.kubernetes.cri-o.umask", "022")]);
        let of = |allowed: &[&str]| UMASK.of(&said, &names(allowed));
        assert_eq!(of(&[]), None);
        assert_eq!(of(&["devices.crio.io", "umask.crio.iox"]), None);
        assert_eq!(of(&["io.kubernetes.cri-o.umask"]), Some("022"));
        assert_eq!(of(&["io.kubernetes.cri-o.umask", "umask.crio.io"]), Some("077"));
        assert_eq!(UMASK.of(&map(&[("umask.crio.io", "")]), &names(&["umask.crio.io"])), None);
        assert!(!CGROUP_WRITABLE.is_true(&said, &names(&["umask.crio.io"])));
    }

    #[test]
    fn the_nearest_wish_for_a_seccomp_profile_counts() {
        let (new, old) = (SECCOMP_PROFILE.name, SECCOMP_PROFILE.older);
        let both = names(&[new, old]);
        let web = |pod: &[(&str, &str)], image: &[(&str, &str)]| {
            let (pod, image) = (map(pod), map(image));
            seccomp_artifact(&pod, &image, "web", &both).map(str::to_owned)
        };
        let key = |name: &str, suffix: &str| format!("{name}{suffix}");
        let (web_new, web_old) = (key(new, "/web"), key(old, "/web"));
        let (pod_new, other) = (key(new, "/POD"), key(new, "/other"));
        let image = [(new, "5"), (web_old.as_str(), "6"), (pod_new.as_str(), "7")];
        let pod = [(web_new.as_str(), "1"), (web_old.as_str(), "2"), (pod_new.as_str(), "3")];
        for (begin, expected) in [(0, "1"), (1, "2"), (2, "3"), (3, "5")] {
            let rest = &pod[begin..];
            assert_eq!(web(rest, &image).as_deref(), Some(expected));
        }
        assert_eq!(web(&[], &image[1..]).as_deref(), Some("6"));
        assert_eq!(web(&[], &image[2..]).as_deref(), Some("7"));
        // Without a container's name it is nobody's, and an empty one hides those behind it.
        assert_eq!(web(&[(new, "x"), (&other, "x")], &[]), None);
        assert_eq!(web(&[(&web_new, "")], &image), None);
        let (pod, none) = (map(&pod), map(&[]));
        assert_eq!(seccomp_artifact(&pod, &none, "web", &[]), None);
        assert_eq!(seccomp_artifact(&pod, &none, "web", &names(&[old])), Some("2"));
    }

    #[test]
    fn a_device_is_one_of_those_allowed_and_shows_below_dev() {
        let allowed = names(&["/dev/fuse", "/dev/net/tun"]);
        let read = |text: &str| devices(text, &allowed);
        let all = read("/dev/fuse,,/dev/net/tun:/dev/x:r,/dev/fuse:rw").unwrap();
        let told: Vec<_> = all
            .iter()
            .map(|device| format!("{} {}", device.container_path, device.permissions))
            .collect();
        assert_eq!(told, ["/dev/fuse rwm", "/dev/x r", "/dev/fuse rw"]);
        for text in [
            "/dev/sda",
            "/dev/fuse/../sda",
            "/dev//fuse",
            "/dev/fuse:/etc/passwd",
            "/dev/fuse:/dev/../etc/passwd",
            "/dev/fuse:dev/x",
            "/dev/fuse:/dev/a:rw:x",
            ":/dev/fuse",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn umasks_and_sizes_are_numbers() {
        assert_eq!(umask("077").unwrap(), 0o77);
        for text in ["", "8", "00022", "-1", "0x1", "+7"] {
            assert!(umask(text).is_err(), "{text:?}");
        }
        assert_eq!(shm_size("128Mi").unwrap(), 128 << 20);
        for text in ["", "0", "-1Gi", "64MB", "all"] {
            assert!(shm_size(text).is_err(), "{text:?}");
        }
    }
}
