//! The annotations in a container's `config.json`: our own, under CRI-O's keys, and the few that
//! users may pass on.
//!
//! Runtimes and hooks act on annotations: one may set a property of a systemd unit on the node
//! (CVE-2024-3154). So a user's annotation is passed on only if the runtime handler allows its key;
//! the rest is kept as data inside one of ours. Ours are written last. An image's labels are never
//! looked at (CVE-2026-53488).

use std::collections::BTreeMap;
use std::collections::HashMap;

use serde::Serialize;

use crate::model::container::Mount;
use crate::model::container::Propagation;
use crate::spec::error::SpecError;
use crate::spec::facts::ContainerFacts;
use crate::spec::facts::ResolvedMount;
use crate::spec::facts::SandboxFacts;

/// CRI-O's keys. Tools, and another CRI-O after us, read them.
pub mod key {
    macro_rules! keys {
        ($($name:ident = $text:literal;)*) => {
            $(#[doc = concat!("`io.kubernetes.cri-o.", $text, "`")]
            pub const $name: &str = concat!("io.kubernetes.cri-o.", $text);)*
        };
    }
    keys! {
        ANNOTATIONS = "Annotations";
        CGROUP_PARENT = "CgroupParent";
        CONTAINER_ID = "ContainerID";
        CONTAINER_TYPE = "ContainerType";
        CREATED = "Created";
        HOST_NAME = "HostName";
        HOST_NETWORK = "HostNetwork";
        IMAGE = "Image";
        IMAGE_NAME = "ImageName";
        IMAGE_REF = "ImageRef";
        IMAGE_REPO_DIGESTS = "ImageRepoDigests";
        IP = "IP";
        KUBE_NAME = "KubeName";
        LABELS = "Labels";
        LOG_PATH = "LogPath";
        METADATA = "Metadata";
        MOUNT_POINT = "MountPoint";
        NAME = "Name";
        NAMESPACE = "Namespace";
        RESOLV_PATH = "ResolvPath";
        RUNTIME_HANDLER = "RuntimeHandler";
        SANDBOX_ID = "SandboxID";
        SANDBOX_NAME = "SandboxName";
        SECCOMP_PROFILE_PATH = "SeccompProfilePath";
        STDIN = "Stdin";
        STDIN_ONCE = "StdinOnce";
        TTY = "TTY";
        VOLUMES = "Volumes";
    }
    /// Tells CRI-O's containers from podman's.
    pub const MANAGER: &str = "io.container.manager";
    /// The signal that stops the container, as the image format's conversion has it.
    pub const STOP_SIGNAL: &str = "org.opencontainers.image.stopSignal";
}

/// The kubelet's own annotation with the seconds a pod has to stop.
const GRACE_PERIOD: &str = "io.kubernetes.pod.terminationGracePeriod";

/// Gives those of a user's annotations that may be passed on.
///
/// An allowed entry is a whole key, which also allows `key/<container>`, or a prefix that ends in
/// `.` or `/`. Anything else is kept back, `key.suffix` too (CVE-2023-6476), and so are all keys
/// of ours, whatever is allowed.
#[must_use]
pub fn passed_on<'a>(
    annotations: &'a BTreeMap<String, String>,
    allowed: &[String],
) -> BTreeMap<&'a str, &'a str> {
    let pass = |key: &str| {
        key != key::MANAGER
            && allowed.iter().any(|entry| !entry.is_empty() && is_or_is_of(key, entry))
    };
    let texts = annotations.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    texts.filter(|(key, _)| pass(key)).collect()
}

/// Whether a key is this entry, that of one container, or begins with it where it is a beginning.
pub(super) fn is_or_is_of(key: &str, entry: &str) -> bool {
    match key.strip_prefix(entry) {
        Some("") => true,
        Some(rest) => entry.ends_with(['.', '/']) || rest.starts_with('/'),
        None => false,
    }
}

/// The kubelet's labels and annotations that runtimes and tools look for: the pod's name and such.
/// They say who, never how.
fn of_kubelet(map: &BTreeMap<String, String>) -> impl Iterator<Item = (&str, &str)> {
    let plain = |key: &str| {
        key.starts_with("io.kubernetes.pod.") || key.starts_with("io.kubernetes.container.")
    };
    let texts = map.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    texts.filter(move |(key, _)| plain(key))
}

#[derive(Serialize)]
struct Metadata<'a> {
    name: &'a str,
    attempt: u32,
}

#[derive(Serialize)]
struct PodMetadata<'a> {
    name: &'a str,
    uid: &'a str,
    namespace: &'a str,
    attempt: u32,
}

/// A mount as CRI-O keeps it for its status.
#[derive(Serialize)]
struct Volume<'a> {
    container_path: &'a str,
    host_path: String,
    readonly: bool,
    recursive_read_only: bool,
    propagation: i32,
    selinux_relabel: bool,
}

fn volume<'a>(resolved: &ResolvedMount<'a>) -> Volume<'a> {
    let mount: &'a Mount = resolved.mount;
    Volume {
        container_path: &mount.container_path,
        host_path: resolved.source.display().to_string(),
        readonly: mount.readonly,
        recursive_read_only: mount.recursive_read_only,
        // The numbers of the CRI.
        propagation: match mount.propagation {
            Propagation::Private => 0,
            Propagation::HostToContainer => 1,
            Propagation::Bidirectional => 2,
        },
        selinux_relabel: mount.selinux_relabel,
    }
}

fn json(key: &'static str, value: &impl Serialize) -> Result<String, SpecError> {
    serde_json::to_string(value).map_err(|source| SpecError::Annotation { key, source })
}

/// Gives a container's annotations. `seccomp` is the profile it got, in words.
pub(super) fn container(
    facts: &ContainerFacts<'_>,
    seccomp: &str,
) -> Result<HashMap<String, String>, SpecError> {
    let (config, sandbox) = (facts.config, facts.sandbox);
    let allowed = &facts.handler.allowed_annotations;
    let mut all: HashMap<String, String> = HashMap::new();
    let mut put = |key: &str, value: &str| drop(all.insert(key.to_owned(), value.to_owned()));
    let from_users = [&sandbox.config.annotations, &config.annotations];
    for (key, value) in from_users.into_iter().flat_map(|map| passed_on(map, allowed)) {
        put(key, value);
    }
    let from_kubelet = of_kubelet(&config.annotations).chain(of_kubelet(&config.labels));
    from_kubelet.for_each(|(key, value)| put(key, value));
    for (key, value) in for_systemd(facts)? {
        put(key, &value);
    }
    if let Some(signal) = stop_signal(facts)? {
        put(key::STOP_SIGNAL, &signal);
    }
    let metadata = Metadata { name: &config.metadata.name, attempt: config.metadata.attempt };
    let volumes: Vec<Volume<'_>> = facts.mounts.iter().map(volume).collect();
    put(key::METADATA, &json(key::METADATA, &metadata)?);
    put(key::LABELS, &json(key::LABELS, &config.labels)?);
    put(key::ANNOTATIONS, &json(key::ANNOTATIONS, &config.annotations)?);
    put(key::VOLUMES, &json(key::VOLUMES, &volumes)?);
    for (index, ip) in sandbox.ips.iter().enumerate() {
        put(&format!("{}.{index}", key::IP), &ip.to_string());
    }
    if !facts.image.repo_digests.is_empty() {
        put(key::IMAGE_REPO_DIGESTS, &facts.image.repo_digests.join(","));
    }
    let resolv_conf = sandbox.files.resolv_conf.map(|path| path.to_string_lossy());
    let flag = |set: bool| if set { "true" } else { "false" };
    // The pod's own process has the pod's id.
    let own = *facts.id == sandbox.id.of_infra();
    let kind = if own { "sandbox" } else { "container" };
    for (key, value) in [
        (key::IMAGE, config.image.image.as_str()),
        (key::IMAGE_NAME, facts.image.name),
        (key::IMAGE_REF, facts.image.id.as_str()),
        (key::NAME, facts.name),
        (key::CONTAINER_ID, facts.id.as_str()),
        (key::SANDBOX_ID, sandbox.id.as_str()),
        (key::SANDBOX_NAME, sandbox.name),
        (key::CONTAINER_TYPE, kind),
        (key::LOG_PATH, &facts.log_path.to_string_lossy()),
        (key::TTY, flag(config.tty)),
        (key::STDIN, flag(config.stdin)),
        (key::STDIN_ONCE, flag(config.stdin_once)),
        (key::RESOLV_PATH, resolv_conf.as_deref().unwrap_or_default()),
        (key::MOUNT_POINT, &facts.rootfs.to_string_lossy()),
        (key::SECCOMP_PROFILE_PATH, seccomp),
        (key::CREATED, facts.created),
        (key::MANAGER, "cri-o"),
    ] {
        put(key, value);
    }
    Ok(all)
}

/// Gives a pod's annotations, for who inspects it.
pub(super) fn sandbox(
    facts: &SandboxFacts<'_>,
    created: &str,
) -> Result<HashMap<String, String>, SpecError> {
    let config = facts.config;
    let from = &config.metadata;
    let (name, uid, namespace) = (&*from.name, &*from.uid, &*from.namespace);
    let metadata = PodMetadata { name, uid, namespace, attempt: from.attempt };
    let resolv_conf = facts.files.resolv_conf.map(|path| path.to_string_lossy());
    let host_network = if facts.namespaces.network.is_none() { "true" } else { "false" };
    let all = [
        (key::METADATA, &*json(key::METADATA, &metadata)?),
        (key::LABELS, &json(key::LABELS, &config.labels)?),
        (key::ANNOTATIONS, &json(key::ANNOTATIONS, &config.annotations)?),
        (key::NAME, facts.name),
        (key::CONTAINER_ID, facts.id.as_str()),
        (key::SANDBOX_ID, facts.id.as_str()),
        (key::SANDBOX_NAME, facts.name),
        (key::CONTAINER_TYPE, "sandbox"),
        (key::KUBE_NAME, name),
        (key::NAMESPACE, namespace),
        (key::HOST_NAME, facts.hostname),
        (key::HOST_NETWORK, host_network),
        (key::CGROUP_PARENT, &config.cgroup_parent),
        (key::RUNTIME_HANDLER, &config.handler),
        (key::RESOLV_PATH, resolv_conf.as_deref().unwrap_or_default()),
        (key::CREATED, created),
        (key::MANAGER, "cri-o"),
    ];
    let mut all: HashMap<String, String> =
        all.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    for (index, ip) in facts.ips.iter().enumerate() {
        all.insert(format!("{}.{index}", key::IP), ip.to_string());
    }
    Ok(all)
}

/// Properties of the container's systemd scope. Written by us alone, and only with a number from
/// outside in them.
fn for_systemd(facts: &ContainerFacts<'_>) -> Result<Vec<(&'static str, String)>, SpecError> {
    if !facts.handler.systemd_cgroups {
        return Ok(Vec::new());
    }
    let mut properties = vec![
        ("org.systemd.property.DefaultDependencies", "true".to_owned()),
        ("org.systemd.property.After", "['crio.service']".to_owned()),
    ];
    if let Some(text) = facts.config.annotations.get(GRACE_PERIOD) {
        let fault = || SpecError::field(GRACE_PERIOD, text, "is no number of seconds");
        let seconds: u64 = text.parse().map_err(|_| fault())?;
        let microseconds = seconds.checked_mul(1_000_000).ok_or_else(fault)?;
        let value = format!("uint64 {microseconds}");
        properties.push(("org.systemd.property.TimeoutStopUSec", value));
    }
    Ok(properties)
}

/// Gives the signal that stops the container: the request's, or the image's. What an image says and is
/// none, it does not say.
///
/// # Errors
///
/// [`SpecError::Field`] for what is asked for and cannot be the name or number of a signal.
pub fn stop_signal(facts: &ContainerFacts<'_>) -> Result<Option<String>, SpecError> {
    let letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-');
    let legal = |text: &str| text.len() <= 16 && text.chars().all(letter);
    let of_image = facts.image.run.stop_signal.as_deref().filter(|text| legal(text));
    let asked = facts.config.stop_signal.as_str();
    if !legal(asked) {
        return Err(SpecError::field("stop_signal", asked, "is no signal"));
    }
    let signal = if asked.is_empty() { of_image } else { Some(asked) };
    Ok(signal.filter(|text| !text.is_empty()).map(str::to_owned))
}

#[cfg(test)]
mod tests;
