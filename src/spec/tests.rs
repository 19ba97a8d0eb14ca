//! The pipeline as a whole: facts in, spec out, and the refusals that cross parts.

use std::net::IpAddr;
use std::path::Path;

use oci_spec::runtime::Capabilities;
use oci_spec::runtime::LinuxDeviceType;
use oci_spec::runtime::LinuxNamespaceType;

use super::facts::Defaults;
use super::facts::HandlerFacts;
use super::facts::HostFacts;
use super::facts::ImageFacts;
use super::facts::MadeFiles;
use super::facts::ResolvedDevice;
use super::facts::SandboxFacts;
use super::facts::SandboxFiles;
use super::facts::SandboxNamespaces;
use super::*;
use crate::failure::Classify;
use crate::failure::Kind;
use crate::model::container::ContainerConfig;
use crate::model::ids::ContainerId;
use crate::model::ids::ImageId;
use crate::model::ids::SandboxId;
use crate::model::sandbox::SandboxConfig;
use crate::model::security::IdMapping;
use crate::model::security::NamespaceMode;
use crate::model::security::SecurityProfile;
use crate::model::security::SelinuxLabels;
use crate::oci::image_config::RunConfig;
use crate::spec::user::ResolvedUser;

/// Facts that a test changes before they are used: a plain container on a plain host.
pub(super) struct Fixture {
    pub(super) id: ContainerId,
    pub(super) sandbox_id: SandboxId,
    pub(super) image_id: ImageId,
    pub(super) config: ContainerConfig,
    pub(super) sandbox: SandboxConfig,
    pub(super) image: RunConfig,
    pub(super) defaults: Defaults,
    pub(super) host: HostFacts,
    pub(super) handler: HandlerFacts,
    pub(super) user: ResolvedUser,
    pub(super) devices: Vec<ResolvedDevice>,
    pub(super) selinux: SelinuxLabels,
    pub(super) profile: Option<Vec<u8>>,
    pub(super) host_network: bool,
    pub(super) pod_pid: bool,
}

impl Default for Fixture {
    fn default() -> Self {
        let all =
            |names: &[&str]| names.iter().filter_map(|name| capabilities::parse(name)).collect();
        let known: Capabilities = all(&capabilities::DEFAULT);
        let more: Capabilities = all(&["SYS_ADMIN", "NET_ADMIN", "NET_RAW"]);
        let known: Capabilities = known.union(&more).copied().collect();
        let mut config = ContainerConfig::default();
        config.security.namespaces.pid = NamespaceMode::Container;
        let digits = |digit: &str| digit.repeat(64);
        Self {
            id: digits("a").parse().unwrap(),
            sandbox_id: digits("b").parse().unwrap(),
            image_id: digits("c").parse().unwrap(),
            config,
            sandbox: SandboxConfig::default(),
            image: RunConfig { cmd: Some(vec!["sh".into()]), ..RunConfig::default() },
            defaults: Defaults::default(),
            host: HostFacts {
                capabilities: known.clone(),
                bounding: known,
                seccomp: true,
                pids: true,
                ..HostFacts::default()
            },
            handler: HandlerFacts::default(),
            user: ResolvedUser { additional_gids: vec![0], ..ResolvedUser::default() },
            devices: Vec::new(),
            selinux: SelinuxLabels {
                process: "u:r:container_t:s0:c1,c2".into(),
                mount: "u:object_r:container_file_t:s0:c1,c2".into(),
            },
            profile: None,
            host_network: false,
            pod_pid: false,
        }
    }
}

impl Fixture {
    pub(super) fn with<T>(&self, use_facts: impl FnOnce(&ContainerFacts<'_>) -> T) -> T {
        let ips: [IpAddr; 1] = [[10, 0, 0, 7].into()];
        let own = |path| (!self.host_network).then(|| Path::new(path));
        let sandbox = SandboxFacts {
            id: &self.sandbox_id,
            name: "k8s_pod",
            config: &self.sandbox,
            namespaces: SandboxNamespaces {
                network: own("/run/netns/n"),
                ipc: Some(Path::new("/run/ipcns/n")),
                uts: own("/run/utsns/n"),
                pid: self.pod_pid.then(|| Path::new("/proc/7/ns/pid")),
                user: self.users().map(|_| Path::new("/run/userns/n")),
            },
            hostname: "shop",
            files: SandboxFiles {
                resolv_conf: Some(Path::new("/run/sb/resolv.conf")),
                hostname: Some(Path::new("/run/sb/hostname")),
                containerenv: Some(Path::new("/run/sb/.containerenv")),
                shm: Some(Path::new("/run/sb/shm")),
            },
            ips: &ips,
            selinux: Some(&self.selinux),
        };
        let image = ImageFacts {
            run: &self.image,
            id: &self.image_id,
            name: "registry.example/shop:1",
            repo_digests: &[],
        };
        use_facts(&ContainerFacts {
            id: &self.id,
            name: "k8s_web_pod",
            config: &self.config,
            sandbox: &sandbox,
            image: &image,
            handler: &self.handler,
            rootfs: Path::new("/root"),
            user: &self.user,
            defaults: &self.defaults,
            host: &self.host,
            mounts: &[],
            own_volumes: &[],
            devices: &self.devices,
            hooks: &[],
            cdi: &[],
            seccomp_profile: self.profile.as_deref(),
            seccomp_artifact: None,
            files: MadeFiles::default(),
            cgroups_path: "/kubepods/crio-a",
            target_pid: None,
            log_path: Path::new("/var/log/pods/x/0.log"),
            created: "2026-01-02T03:04:05.000000006Z",
        })
    }

    fn users(&self) -> Option<IdMapping> {
        self.sandbox.security.namespaces.user_namespace
    }

    fn spec(&self) -> Spec {
        self.with(container).unwrap()
    }

    fn refused(&self) -> SpecError {
        self.with(container).unwrap_err()
    }
}

fn linux(spec: &Spec) -> &Linux {
    spec.linux().as_ref().unwrap()
}

fn namespaces(spec: &Spec) -> Vec<(LinuxNamespaceType, bool)> {
    let list = linux(spec).namespaces().as_ref().unwrap();
    list.iter().map(|own| (own.typ(), own.path().is_some())).collect()
}

#[test]
fn a_plain_container_has_the_plain_protections() {
    let mut fixture = Fixture::default();
    fixture.config.security.seccomp = SecurityProfile::RuntimeDefault;
    fixture.config.security.no_new_privs = true;
    fixture.config.security.readonly_rootfs = true;
    fixture.config.security.masked_paths = vec!["/proc/kcore".into()];
    fixture.config.security.readonly_paths = vec!["/proc/sys".into()];
    let spec = fixture.spec();
    let process = spec.process().as_ref().unwrap();
    assert_eq!(process.no_new_privileges(), Some(true));
    let bounding = process.capabilities().as_ref().unwrap().bounding().as_ref().unwrap();
    assert_eq!(bounding.len(), 9);
    assert_eq!(spec.root().as_ref().unwrap().readonly(), Some(true));
    assert!(linux(&spec).seccomp().is_some());
    assert_eq!(linux(&spec).readonly_paths().as_ref().unwrap()[..], ["/proc/sys"]);
    assert!(linux(&spec).masked_paths().as_ref().unwrap().len() > 10);
    let rules = linux(&spec).resources().as_ref().unwrap().devices().as_ref().unwrap();
    assert_eq!((rules.len(), rules[0].allow()), (1, false));
    assert_eq!(spec.hostname().as_deref(), Some("shop"));
    assert!(spec.hooks().is_none());
}

#[test]
fn nothing_of_the_library_s_defaults_is_left() {
    let spec = Fixture::default().spec();
    let process = spec.process().as_ref().unwrap();
    assert!(process.rlimits().is_none());
    assert_eq!(process.no_new_privileges(), Some(false));
    assert_eq!(process.env().as_ref().unwrap()[1..], ["TERM=xterm", "HOSTNAME=shop"]);
    assert!(linux(&spec).masked_paths().as_ref().unwrap().is_empty());
    assert!(linux(&spec).readonly_paths().as_ref().unwrap().is_empty());
    let json = serde_json::to_string(&spec).unwrap();
    for word in ["youki", "1.0.2-dev", "AUDIT_WRITE", "RLIMIT"] {
        assert!(!json.contains(word), "{word}");
    }
}

#[test]
fn privileged_needs_a_privileged_sandbox() {
    let mut fixture = Fixture::default();
    fixture.config.security.privileged = true;
    fixture.config.security.seccomp = SecurityProfile::RuntimeDefault;
    let error = fixture.refused().to_string();
    assert!(error.starts_with("no privileged container allowed in sandbox"), "{error}");
    fixture.sandbox.security.privileged = true;
    fixture.host.devices = vec![device("/dev/sda", 8, 0)];
    let spec = fixture.spec();
    assert!(linux(&spec).seccomp().is_none());
    let rules = linux(&spec).resources().as_ref().unwrap().devices().as_ref().unwrap();
    assert_eq!((rules.len(), rules[0].allow()), (1, true));
    assert_eq!(linux(&spec).devices().as_ref().unwrap().len(), 1);
    fixture.handler.privileged_without_host_devices = true;
    let spec = fixture.spec();
    let rules = linux(&spec).resources().as_ref().unwrap().devices().as_ref().unwrap();
    assert_eq!((rules.len(), rules[0].allow()), (1, false));
    assert!(linux(&spec).devices().as_ref().unwrap().is_empty());
}

fn device(path: &str, major: i64, minor: i64) -> ResolvedDevice {
    ResolvedDevice {
        path: path.into(),
        kind: LinuxDeviceType::C,
        major,
        minor,
        mode: Some(0o600),
        uid: 0,
        gid: 5,
        access: "rw".into(),
    }
}

#[test]
fn a_device_is_one_device() {
    let mut fixture = Fixture { devices: vec![device("/dev/x", 10, 200)], ..Fixture::default() };
    fixture.config.security.run_as.user = Some(1000);
    let spec = fixture.spec();
    let rules = linux(&spec).resources().as_ref().unwrap().devices().as_ref().unwrap();
    assert_eq!((rules[1].major(), rules[1].minor()), (Some(10), Some(200)));
    assert_eq!(rules[1].access().as_deref(), Some("rw"));
    let uid = |fixture: &Fixture| linux(&fixture.spec()).devices().as_ref().unwrap()[0].uid();
    assert_eq!(uid(&fixture), Some(0));
    fixture.defaults.device_ownership_from_security_context = true;
    assert_eq!(uid(&fixture), Some(1000));
    let wild = device("/dev/x", -1, 0);
    let every = ResolvedDevice { kind: LinuxDeviceType::A, ..device("/dev/x", 1, 3) };
    let access = |access: &str| ResolvedDevice { access: access.into(), ..device("/dev/x", 1, 3) };
    for bad in [wild, every, access(""), access("rwx"), access("rr"), device("x", 1, 3)] {
        let fixture = Fixture { devices: vec![bad.clone()], ..Fixture::default() };
        assert_eq!(fixture.refused().kind(), Kind::InvalidRequest, "{bad:?}");
    }
}

#[test]
fn a_container_does_not_leave_its_sandbox_s_namespaces() {
    type Change = fn(&mut Fixture);
    let cases: [(Change, &str); 5] = [
        (|f| f.config.security.namespaces.network = NamespaceMode::Node, "network namespace"),
        (|f| f.config.security.namespaces.ipc = NamespaceMode::Node, "ipc namespace"),
        (|f| f.config.security.namespaces.pid = NamespaceMode::Node, "pid namespace"),
        (|f| f.config.security.namespaces.pid = NamespaceMode::Pod, "no pod's process"),
        (|f| f.config.security.namespaces.pid = NamespaceMode::Target, "no target's process"),
    ];
    for (change, word) in cases {
        let mut fixture = Fixture::default();
        change(&mut fixture);
        let error = fixture.refused().to_string();
        assert!(error.contains(word), "{error}");
    }
}

#[test]
fn namespaces_by_mode() {
    use LinuxNamespaceType::Cgroup;
    use LinuxNamespaceType::Ipc;
    use LinuxNamespaceType::Mount;
    use LinuxNamespaceType::Network;
    use LinuxNamespaceType::Pid;
    use LinuxNamespaceType::Uts;
    let mut fixture = Fixture::default();
    let plain = [(Network, true), (Ipc, true), (Uts, true), (Mount, false), (Pid, false)];
    assert_eq!(namespaces(&fixture.spec()), plain);
    fixture.host.cgroup_v2 = true;
    assert_eq!(namespaces(&fixture.spec()).last(), Some(&(Cgroup, false)));
    fixture.host.cgroup_v2 = false;
    fixture.pod_pid = true;
    fixture.config.security.namespaces.pid = NamespaceMode::Pod;
    assert_eq!(namespaces(&fixture.spec())[4], (Pid, true));
    fixture.host_network = true;
    fixture.config.security.namespaces.pid = NamespaceMode::Node;
    fixture.config.security.namespaces.network = NamespaceMode::Node;
    fixture.sandbox.security.namespaces.pid = NamespaceMode::Node;
    let spec = fixture.spec();
    assert_eq!(namespaces(&spec), [(Ipc, true), (Mount, false)]);
    assert_eq!(*spec.hostname(), None, "the node's own name is not touched");
}

#[test]
fn a_container_joins_the_users_of_its_pod_and_no_others() {
    let map = IdMapping { host_id: 65_536, container_id: 0, length: 1000 };
    let mut fixture = Fixture::default();
    fixture.config.security.namespaces.user_namespace = Some(map);
    let error = fixture.refused();
    assert!(error.to_string().contains("another user namespace"), "{error}");
    fixture.sandbox.security.namespaces.user_namespace = Some(map);
    for asked in [Some(map), None] {
        fixture.config.security.namespaces.user_namespace = asked;
        let spec = fixture.spec();
        assert_eq!(namespaces(&spec)[0], (LinuxNamespaceType::User, true));
        let maps = [linux(&spec).uid_mappings(), linux(&spec).gid_mappings()];
        for ids in maps.map(|ids| ids.clone().unwrap()) {
            assert_eq!((ids[0].container_id(), ids[0].host_id(), ids[0].size()), (0, 65_536, 1000));
        }
    }
    fixture.config.security.namespaces.user_namespace = Some(IdMapping { host_id: 131_072, ..map });
    assert_eq!(fixture.refused().kind(), Kind::InvalidRequest);
    fixture.config.security.namespaces.user_namespace = None;
    fixture.user.additional_gids.push(1000);
    assert!(fixture.refused().to_string().contains("id 1000 is not one of the 1000 ids"));
}

#[test]
fn seccomp_is_chosen_as_asked() {
    let mut fixture = Fixture::default();
    let reference = |fixture: &Fixture| {
        let spec = fixture.spec();
        let words =
            spec.annotations().as_ref().unwrap()[annotations::key::SECCOMP_PROFILE_PATH].clone();
        (words, linux(&spec).seccomp().as_ref().map(|filter| filter.default_action().to_string()))
    };
    assert_eq!(reference(&fixture), (String::new(), None));
    fixture.config.security.seccomp = SecurityProfile::Unconfined;
    assert_eq!(reference(&fixture), ("Unconfined".into(), None));
    fixture.config.security.seccomp = SecurityProfile::RuntimeDefault;
    assert_eq!(reference(&fixture), ("RuntimeDefault".into(), Some("SCMP_ACT_ERRNO".into())));
    let own = br#"{"defaultAction":"SCMP_ACT_LOG"}"#;
    fixture.handler.seccomp = Some(seccomp::Profile::parse("/h", own).unwrap());
    assert_eq!(reference(&fixture), ("RuntimeDefault".into(), Some("SCMP_ACT_LOG".into())));
    fixture.config.security.seccomp = SecurityProfile::Localhost("/p.json".into());
    assert_eq!(fixture.refused().kind(), Kind::InvalidRequest);
    fixture.profile = Some(br#"{"defaultAction":"SCMP_ACT_KILL"}"#.to_vec());
    assert_eq!(reference(&fixture), ("/p.json".into(), Some("SCMP_ACT_KILL".into())));
    fixture.host.seccomp = false;
    assert_eq!(fixture.refused().kind(), Kind::NotSupported);
    fixture.config.security.seccomp = SecurityProfile::RuntimeDefault;
    assert_eq!(reference(&fixture), ("Unconfined".into(), None));
}

#[test]
fn a_named_apparmor_profile_is_never_passed_over() {
    let mut fixture = Fixture::default();
    fixture.defaults.apparmor = "crio-default".into();
    let profile =
        |fixture: &Fixture| fixture.spec().process().as_ref().unwrap().apparmor_profile().clone();
    assert_eq!(profile(&fixture), None);
    fixture.config.security.apparmor = SecurityProfile::Localhost("localhost/mine".into());
    assert_eq!(fixture.refused().kind(), Kind::NotSupported);
    fixture.host.apparmor = true;
    assert_eq!(profile(&fixture).as_deref(), Some("mine"));
    fixture.config.security.apparmor = SecurityProfile::Unset;
    assert_eq!(profile(&fixture).as_deref(), Some("crio-default"));
    fixture.config.security.apparmor = SecurityProfile::Unconfined;
    assert_eq!(profile(&fixture), None);
    fixture.config.security.apparmor = SecurityProfile::Localhost("a b".into());
    assert_eq!(fixture.refused().kind(), Kind::InvalidRequest);
}

#[test]
fn selinux_labels_follow_the_namespaces() {
    let mut fixture = Fixture::default();
    let labels = |fixture: &Fixture| {
        let spec = fixture.spec();
        let process = spec.process().as_ref().unwrap().selinux_label().is_some();
        (process, linux(&spec).mount_label().is_some())
    };
    assert_eq!(labels(&fixture), (false, false));
    fixture.host.selinux = true;
    assert_eq!(labels(&fixture), (true, true));
    fixture.host_network = true;
    assert_eq!(labels(&fixture), (false, true));
    fixture.defaults.hostnetwork_disable_selinux = false;
    assert_eq!(labels(&fixture), (true, true));
    fixture.config.security.namespaces.pid = NamespaceMode::Node;
    fixture.sandbox.security.namespaces.pid = NamespaceMode::Node;
    assert_eq!(labels(&fixture), (false, false));
}

#[test]
fn the_environment_is_merged_in_order() {
    let mut fixture = Fixture::default();
    fixture.defaults.env = vec![("A".into(), "default".into()), ("B".into(), "default".into())];
    fixture.image.env =
        Some(vec!["A=image".into(), "PATH=/bin".into(), "junk".into(), "=x".into()]);
    fixture.config.env = vec![("A".into(), "request=1".into()), ("C".into(), "a\nb".into())];
    let spec = fixture.spec();
    let env = spec.process().as_ref().unwrap().env().clone().unwrap();
    let expected =
        ["PATH=/bin", "TERM=xterm", "HOSTNAME=shop", "A=request=1", "B=default", "C=a\nb"];
    assert_eq!(env, expected);
    for (name, value) in [("A=B", "x"), ("A\0", "x"), ("A", "x\0y"), ("HOME", "/\nx")] {
        fixture.config.env = vec![(name.into(), value.into())];
        assert_eq!(fixture.refused().kind(), Kind::InvalidRequest, "{name:?}");
    }
}

#[test]
fn the_same_facts_give_a_spec_that_the_library_reads_back() {
    let mut fixture = Fixture::default();
    fixture.config.security.seccomp = SecurityProfile::RuntimeDefault;
    fixture.config.resources.memory_limit = 64 << 20;
    let spec = fixture.spec();
    let again: Spec = serde_json::from_slice(&serde_json::to_vec(&spec).unwrap()).unwrap();
    assert_eq!(again, spec);
    assert_eq!(fixture.spec(), spec);
}
