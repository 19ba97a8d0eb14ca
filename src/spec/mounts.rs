//! What is mounted in a container, in the order in which it must be.
//!
//! The kernel's own filesystems first, then the sandbox's files, then what was asked for, by depth:
//! `/data` before `/data/cache`. A default at or below a requested mount is left out, for the
//! requested one would hide it. Host paths come with all links resolved; paths inside stay texts
//! that the runtime resolves beneath the rootfs.

use std::path::Path;
use std::path::PathBuf;

use oci_spec::runtime::LinuxIdMapping;
use oci_spec::runtime::Mount;
use oci_spec::runtime::MountBuilder;

use crate::model::container as model;
use crate::model::container::Propagation;
use crate::model::security::IdMapping;
use crate::spec::error::SpecError;
use crate::spec::facts::ContainerFacts;
use crate::spec::facts::MadeVolume;
use crate::spec::facts::ResolvedMount;
use crate::spec::facts::Sharing;
use crate::spec::namespaces;
use crate::spec::paths;
use crate::spec::process;
use crate::spec::wishes;

const CGROUP: &str = "/sys/fs/cgroup";

/// The mounts, and how the root itself must propagate for them.
pub(super) struct Mounts {
    pub(super) list: Vec<Mount>,
    pub(super) root_propagation: Option<&'static str>,
    /// A path to hide besides those asked for.
    pub(super) masked: Option<String>,
}

/// How the users and the groups of a mount are mapped.
type Maps = (Vec<LinuxIdMapping>, Vec<LinuxIdMapping>);

/// One mount before it is written.
struct Entry {
    target: String,
    kind: &'static str,
    source: PathBuf,
    options: Vec<&'static str>,
    /// How owners are mapped: users and groups.
    maps: Option<Maps>,
}

/// Gives a container's mounts.
pub(super) fn container(facts: &ContainerFacts<'_>) -> Result<Mounts, SpecError> {
    let mut wanted: Vec<Entry> = Vec::new();
    let mut root_propagation = None;
    refuse_unbuilt(facts)?;
    for volume in facts.own_volumes {
        wanted.push(declared(volume)?);
    }
    for mount in facts.mounts {
        let (entry, propagation) = requested(mount, facts)?;
        if propagation == "rshared" || (propagation == "rslave" && root_propagation.is_none()) {
            root_propagation = Some(propagation);
        }
        wanted.retain(|known| known.target != entry.target);
        wanted.push(entry);
    }
    wanted.sort_by_key(|entry| entry.target.matches('/').count());
    let mut entries = kernel(facts);
    let arguments = process::arguments(facts.config, facts.image.run)?;
    let systemd = process::runs_systemd(&arguments);
    let mut masked = None;
    if systemd {
        let cgroup_is_given = wanted.iter().any(|entry| paths::covers(&entry.target, CGROUP));
        masked = for_systemd(&mut entries, facts.host.cgroup_v2, cgroup_is_given);
    }
    if facts.defaults.read_only {
        entries.extend(writable_places(systemd));
    }
    entries.extend(files(facts));
    // A default mount under a requested one would be hidden, or be made in the requested one.
    let hidden = |entry: &Entry| wanted.iter().any(|own| paths::covers(&own.target, &entry.target));
    entries.retain(|entry| !hidden(entry));
    entries.extend(wanted);
    let list = entries.iter().map(write).collect::<Result<Vec<_>, _>>()?;
    Ok(Mounts { list, root_propagation, masked })
}

fn refuse_unbuilt(facts: &ContainerFacts<'_>) -> Result<(), SpecError> {
    for mount in &facts.config.mounts {
        if !facts.mounts.iter().any(|found| found.mount == mount) {
            let path = &mount.container_path;
            return Err(SpecError::field("mount", path, "has no source on this node"));
        }
    }
    Ok(())
}

fn write(entry: &Entry) -> Result<Mount, SpecError> {
    let mut mount = MountBuilder::default()
        .destination(entry.target.as_str())
        .typ(entry.kind)
        .source(entry.source.as_path())
        .options(entry.options.iter().map(ToString::to_string).collect::<Vec<_>>())
        .build()
        .map_err(|source| SpecError::Build { part: "a mount", source })?;
    if let Some((users, groups)) = &entry.maps {
        mount.set_uid_mappings(Some(users.clone())).set_gid_mappings(Some(groups.clone()));
    }
    Ok(mount)
}

fn entry(target: &str, kind: &'static str, source: &str, options: &[&'static str]) -> Entry {
    let (target, source) = (target.to_owned(), source.into());
    Entry { target, kind, source, options: options.to_vec(), maps: None }
}

fn bind(target: &str, source: &Path, options: &[&'static str]) -> Entry {
    let mut entry = entry(target, "bind", "", options);
    entry.options.push("bind");
    entry.source = source.to_path_buf();
    entry
}

/// The kernel's filesystems.
fn kernel(facts: &ContainerFacts<'_>) -> Vec<Entry> {
    let privileged = facts.config.security.privileged;
    let access = if privileged { "rw" } else { "ro" };
    let pts = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"];
    let shm = ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"];
    let mut sys = vec!["nosuid", "noexec", "nodev", access];
    let pod = &facts.sandbox.config.annotations;
    let own_cgroup = facts.host.cgroup_v2
        && wishes::CGROUP_WRITABLE.is_true(pod, &facts.handler.allowed_annotations);
    let cgroup_access = if own_cgroup { "rw" } else { access };
    let mut cgroup = vec!["nosuid", "noexec", "nodev", "relatime", cgroup_access];
    if privileged {
        sys.push("rslave");
        cgroup.push("rslave");
    }
    // Only who owns a network may mount a sysfs that shows it.
    let foreign_network =
        facts.sandbox.namespaces.user.is_some() && facts.sandbox.namespaces.network.is_none();
    let of_kernel = if foreign_network {
        sys.push("rbind");
        entry("/sys", "bind", "/sys", &sys)
    } else {
        entry("/sys", "sysfs", "sysfs", &sys)
    };
    vec![
        entry("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        entry("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        entry("/dev/pts", "devpts", "devpts", &pts),
        match facts.sandbox.files.shm {
            Some(path) => bind("/dev/shm", path, &["rw"]),
            None => entry("/dev/shm", "tmpfs", "shm", &shm),
        },
        entry("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        of_kernel,
        entry(CGROUP, "cgroup", "cgroup", &cgroup),
    ]
}

/// Files of the sandbox and those made for this container.
fn files(facts: &ContainerFacts<'_>) -> Vec<Entry> {
    let readonly = facts.config.security.readonly_rootfs || facts.defaults.read_only;
    let access = if readonly { "ro" } else { "rw" };
    let of_sandbox = &facts.sandbox.files;
    let hosts = facts.sandbox.namespaces.network.is_none().then(|| Path::new("/etc/hosts"));
    let own = &facts.files;
    let guarded = [access, "nodev", "nosuid", "noexec"];
    let writable = ["rw", "nodev", "nosuid", "noexec"];
    let all: [(&str, Option<&Path>, &[&'static str]); 7] = [
        ("/etc/resolv.conf", of_sandbox.resolv_conf, &guarded),
        ("/etc/hostname", of_sandbox.hostname, &[access]),
        ("/run/.containerenv", of_sandbox.containerenv, &[access]),
        ("/etc/hosts", hosts, &[access]),
        ("/etc/passwd", own.passwd, &writable),
        ("/etc/group", own.group, &writable),
        ("/etc/localtime", own.localtime, &guarded),
    ];
    let file = |(target, source, options): (&str, Option<&Path>, &[&'static str])| {
        source.map(|source| bind(target, source, options))
    };
    all.into_iter().filter_map(file).collect()
}

/// Places that programs expect to write to, where every root is read-only.
fn writable_places(systemd: bool) -> Vec<Entry> {
    let place = |(target, mode)| {
        entry(target, "tmpfs", "tmpfs", &["rw", "noexec", "nosuid", "nodev", "tmpcopyup", mode])
    };
    [("/run", "mode=0755"), ("/tmp", "mode=1777"), ("/var/tmp", "mode=1777")]
        .into_iter()
        .filter(|(target, _)| !systemd || *target == "/var/tmp")
        .map(place)
        .collect()
}

/// What systemd expects: its own places to write, and its cgroup. Gives a path to mask.
fn for_systemd(entries: &mut Vec<Entry>, v2: bool, cgroup_is_given: bool) -> Option<String> {
    let options = ["rw", "rprivate", "noexec", "nosuid", "nodev", "tmpcopyup"];
    let places = ["/run", "/run/lock", "/tmp", "/var/log/journal"];
    let places = places.map(|target| entry(target, "tmpfs", "tmpfs", &options));
    entries.extend(places);
    if v2 {
        if let Some(cgroup) = entries.iter_mut().find(|entry| entry.target == CGROUP) {
            cgroup.options = vec!["private", "rw"];
        }
        return None;
    }
    if !cgroup_is_given {
        let systemd = "/sys/fs/cgroup/systemd";
        entries.push(bind(systemd, Path::new(systemd), &["nodev", "noexec", "nosuid"]));
    }
    // Written to by root in the container, it would run a program on the node.
    Some("/sys/fs/cgroup/systemd/release_agent".to_owned())
}

/// A volume that the image declares. The image is foreign, so it hides nothing of what makes a
/// container a container.
fn declared(volume: &MadeVolume) -> Result<Entry, SpecError> {
    let target = paths::clean("volume of the image", &volume.target)?;
    if target == "/" || ["/proc", "/sys", "/dev"].iter().any(|own| paths::covers(own, &target)) {
        return Err(SpecError::field("volume of the image", &target, "is no place for a volume"));
    }
    let options = vec!["private", "bind", "rw"];
    Ok(Entry { target, kind: "bind", source: volume.source.clone(), options, maps: None })
}

fn requested(
    resolved: &ResolvedMount<'_>,
    facts: &ContainerFacts<'_>,
) -> Result<(Entry, &'static str), SpecError> {
    let mount = resolved.mount;
    let target = resolved.target.as_deref().unwrap_or(&mount.container_path);
    let target = paths::clean("mount container_path", target)?;
    if target == "/" || paths::clean("mount container_path", &mount.container_path)? == "/" {
        // It would run something else than the image that was judged.
        return Err(SpecError::field("mount container_path", "/", "would hide the image"));
    }
    if !resolved.source.is_absolute() {
        let source = resolved.source.to_string_lossy();
        return Err(SpecError::field("mount host_path", &source, "is no absolute path"));
    }
    let maps = maps(mount, facts, &target)?;
    if mount.image.is_some() {
        if paths::covers("/proc", &target) {
            return Err(SpecError::field("mount container_path", &target, "is the kernel's"));
        }
        // Read-only whatever is asked for: all containers share it.
        let options = vec!["bind", "rprivate", "ro"];
        let source = resolved.source.clone();
        return Ok((Entry { target, kind: "bind", source, options, maps }, "rprivate"));
    }
    let propagation = propagation(resolved, &target)?;
    let access = match (mount.recursive_read_only, mount.readonly) {
        (true, _) => recursive(resolved, facts, &target)?,
        (false, true) => "ro",
        (false, false) => "rw",
    };
    let source = resolved.source.clone();
    let options = vec!["rbind", propagation, access];
    Ok((Entry { target, kind: "bind", source, options, maps }, propagation))
}

/// How the owners of a requested mount are mapped. The kubelet asks for it on every volume of a pod
/// with a user namespace; left out, the files would belong to nobody inside.
fn maps(
    mount: &model::Mount,
    facts: &ContainerFacts<'_>,
    target: &str,
) -> Result<Option<Maps>, SpecError> {
    let (users, groups) = (&mount.uid_mappings, &mount.gid_mappings);
    if users.is_empty() && groups.is_empty() {
        return Ok(None);
    }
    let legal = |map: &IdMapping| {
        map.length > 0
            && map.host_id.checked_add(map.length).is_some()
            && map.container_id.checked_add(map.length).is_some()
    };
    if users.is_empty() || groups.is_empty() || !users.iter().chain(groups).all(legal) {
        let fault = "needs legal maps for both users and groups";
        return Err(SpecError::field("mount uid_mappings and gid_mappings", target, fault));
    }
    if !facts.handler.id_mapped_mounts {
        return Err(SpecError::IdMappedMount { path: target.to_owned() });
    }
    Ok(Some((namespaces::mappings(users)?, namespaces::mappings(groups)?)))
}

fn propagation(resolved: &ResolvedMount<'_>, target: &str) -> Result<&'static str, SpecError> {
    let unfit = |wanted| SpecError::Propagation {
        path: target.to_owned(),
        source_path: resolved.source.display().to_string(),
        wanted,
    };
    match (resolved.mount.propagation, resolved.sharing) {
        // Else the container would keep the store's mounts alive after the node let go of them.
        (Propagation::Private, _) if resolved.holds_store => Ok("rslave"),
        (Propagation::Private, _) => Ok("rprivate"),
        (Propagation::HostToContainer, Sharing::Shared | Sharing::Slave) => Ok("rslave"),
        (Propagation::HostToContainer, Sharing::Private) => Err(unfit("a shared or slave mount")),
        (Propagation::Bidirectional, Sharing::Shared) => Ok("rshared"),
        (Propagation::Bidirectional, Sharing::Private | Sharing::Slave) => {
            Err(unfit("a shared mount"))
        }
    }
}

fn recursive(
    resolved: &ResolvedMount<'_>,
    facts: &ContainerFacts<'_>,
    target: &str,
) -> Result<&'static str, SpecError> {
    let unfit = |fault| SpecError::RecursiveReadOnly { path: target.to_owned(), fault };
    if !resolved.mount.readonly {
        return Err(unfit("the mount is asked for as writable"));
    }
    if resolved.mount.propagation != Propagation::Private {
        return Err(unfit("the mount is asked for with propagation"));
    }
    if !facts.handler.recursive_read_only {
        return Err(unfit("the runtime cannot make it"));
    }
    Ok("rro")
}

#[cfg(test)]
mod tests;
