//! Specs as the real runc takes them, looked at from inside the container.
//!
//! Each story makes a root of busybox, a spec by `spec::container`, and runs it under a runc root of
//! its own. The network, IPC and host name namespaces are those of a sleeping process of the test.

#![allow(clippy::disallowed_methods, reason = "the test runs the real programs itself")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;

use crioxide::model::container::ContainerConfig;
use crioxide::model::container::Mount;
use crioxide::model::container::Propagation;
use crioxide::model::ids::ContainerId;
use crioxide::model::ids::ImageId;
use crioxide::model::ids::SandboxId;
use crioxide::model::sandbox::SandboxConfig;
use crioxide::model::security::NamespaceMode;
use crioxide::model::security::SecurityProfile;
use crioxide::oci::image_config::RunConfig;
use crioxide::spec;
use crioxide::spec::capabilities;
use crioxide::spec::facts::ContainerFacts;
use crioxide::spec::facts::Defaults;
use crioxide::spec::facts::HandlerFacts;
use crioxide::spec::facts::HostFacts;
use crioxide::spec::facts::ImageFacts;
use crioxide::spec::facts::MadeFiles;
use crioxide::spec::facts::ResolvedDevice;
use crioxide::spec::facts::ResolvedMount;
use crioxide::spec::facts::SandboxFacts;
use crioxide::spec::facts::SandboxFiles;
use crioxide::spec::facts::SandboxNamespaces;
use crioxide::spec::facts::Sharing;
use crioxide::spec::user::UserFiles;
use oci_spec::runtime::Capabilities;
use oci_spec::runtime::LinuxDeviceType;
use oci_spec::runtime::Spec;

const PASSWD: &str = "root:x:0:0::/root:/bin/sh\nweb:x:101:102::/srv:/bin/sh\n";
const GROUP: &str = "root:x:0:\nweb:x:102:\nlogs:x:200:web\n";

/// A process that holds the sandbox's namespaces.
struct Pod(Child);

impl Pod {
    fn start() -> Self {
        let mut command = Command::new("unshare");
        command.args(["--net", "--ipc", "--uts", "sleep", "120"]);
        let pod = Self(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap());
        // Once it is another program, it has namespaces of its own.
        let name = PathBuf::from(format!("/proc/{}/comm", pod.0.id()));
        for _ in 0..500 {
            if fs::read_to_string(&name).is_ok_and(|name| name.trim() == "sleep") {
                return pod;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        panic!("no process to hold the namespaces");
    }

    fn namespace(&self, kind: &str) -> PathBuf {
        format!("/proc/{}/ns/{kind}", self.0.id()).into()
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// A container to be: facts to change, a root to look at.
struct Story {
    directory: tempfile::TempDir,
    pod: Pod,
    id: ContainerId,
    config: ContainerConfig,
    sandbox: SandboxConfig,
    image: RunConfig,
    defaults: Defaults,
    host: HostFacts,
    devices: Vec<ResolvedDevice>,
    /// Run in a mount namespace whose mounts are shared, as on a node with systemd.
    shared: bool,
}

impl Story {
    fn new(script: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("rootfs");
        for name in ["bin", "etc", "tmp", "srv", "sbin"] {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        fs::copy("/usr/bin/busybox", root.join("bin/busybox")).unwrap();
        for name in
            ["sh", "cat", "id", "env", "grep", "hostname", "touch", "ls", "unshare", "sleep"]
        {
            symlink("busybox", root.join("bin").join(name)).unwrap();
        }
        write(&root.join("etc/passwd"), PASSWD);
        write(&root.join("etc/group"), GROUP);
        for name in ["resolv.conf", "hostname", "containerenv"] {
            write(&directory.path().join(name), name);
        }
        fs::create_dir(directory.path().join("shm")).unwrap();
        let mut config = ContainerConfig {
            command: ["sh", "-c", script].map(String::from).to_vec(),
            ..ContainerConfig::default()
        };
        config.security.namespaces.pid = NamespaceMode::Container;
        Self {
            directory,
            pod: Pod::start(),
            id: ContainerId::fresh().unwrap(),
            config,
            sandbox: SandboxConfig::default(),
            image: RunConfig::default(),
            defaults: Defaults::default(),
            host: host(),
            devices: Vec::new(),
            shared: false,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// As Kubernetes asks for by default.
    fn hardened(mut self) -> Self {
        let security = &mut self.config.security;
        security.seccomp = SecurityProfile::RuntimeDefault;
        security.masked_paths = vec!["/proc/kcore".into()];
        security.readonly_paths = vec!["/proc/sys".into(), "/proc/sysrq-trigger".into()];
        self
    }

    fn spec(&self) -> Spec {
        let files = SandboxFiles {
            resolv_conf: Some(&self.path("resolv.conf")),
            hostname: Some(&self.path("hostname")),
            containerenv: Some(&self.path("containerenv")),
            shm: Some(&self.path("shm")),
        };
        let sandbox = SandboxFacts {
            id: &SandboxId::fresh().unwrap(),
            name: "k8s_pod",
            config: &self.sandbox,
            namespaces: SandboxNamespaces {
                network: Some(&self.pod.namespace("net")),
                ipc: Some(&self.pod.namespace("ipc")),
                uts: Some(&self.pod.namespace("uts")),
                pid: None,
                user: None,
            },
            hostname: "shop",
            files,
            ips: &[],
            selinux: None,
        };
        let image = ImageFacts {
            run: &self.image,
            id: &"c".repeat(64).parse::<ImageId>().unwrap(),
            name: "",
            repo_digests: &[],
        };
        let home = spec::process::home(&self.config, &self.image, &[]).unwrap();
        let user_files =
            UserFiles { passwd: Some(PASSWD.as_bytes()), group: Some(GROUP.as_bytes()) };
        let run_as = &self.config.security.run_as;
        let user = spec::user::resolve(run_as, &self.image.user, home.as_deref(), user_files);
        let mounts: Vec<_> = self.config.mounts.iter().map(|mount| self.resolved(mount)).collect();
        let cgroup = format!("/crio-test-{}", self.id.short());
        spec::container(&ContainerFacts {
            id: &self.id,
            name: "k8s_web_pod",
            config: &self.config,
            sandbox: &sandbox,
            image: &image,
            handler: &HandlerFacts::default(),
            rootfs: &self.path("rootfs"),
            user: &user.unwrap(),
            defaults: &self.defaults,
            host: &self.host,
            mounts: &mounts,
            own_volumes: &[],
            devices: &self.devices,
            hooks: &[],
            cdi: &[],
            seccomp_profile: None,
            seccomp_artifact: None,
            files: MadeFiles::default(),
            cgroups_path: &cgroup,
            target_pid: None,
            log_path: Path::new("/var/log/x.log"),
            created: "2026-01-02T03:04:05Z",
        })
        .unwrap()
    }

    fn runc(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(if self.shared { "unshare" } else { "runc" });
        if self.shared {
            // The root is a mount of its own, as in the store: runc makes the mount it lies on
            // private, and that must not be the one that the volumes lie on.
            let script = "mount --bind \"$0\" \"$0\" && exec runc \"$@\"";
            command.args(["--mount", "--propagation", "shared", "sh", "-c", script]);
            command.arg(self.path("rootfs"));
        }
        command.arg("--root").arg(self.path("runc")).args(arguments);
        // A detached container keeps its output open; files do not make the test wait for it.
        let (out, err) = (self.path("out"), self.path("err"));
        let status = command
            .stdin(Stdio::null())
            .stdout(fs::File::create(&out).unwrap())
            .stderr(fs::File::create(&err).unwrap())
            .status()
            .unwrap();
        Output { status, stdout: fs::read(out).unwrap(), stderr: fs::read(err).unwrap() }
    }

    fn start(&self, arguments: &[&str]) -> Output {
        let config = serde_json::to_string(&self.spec()).unwrap();
        write(&self.path("config.json"), &config);
        let bundle = self.directory.path().to_str().unwrap();
        let mut all = vec!["run", "--bundle", bundle];
        all.extend(arguments);
        all.push(self.id.as_str());
        self.runc(&all)
    }

    fn resolved<'a>(&self, mount: &'a Mount) -> ResolvedMount<'a> {
        let source = fs::canonicalize(&mount.host_path).unwrap();
        let sharing = if self.shared { Sharing::Shared } else { Sharing::Private };
        ResolvedMount { mount, target: None, source, sharing, holds_store: false }
    }

    /// Runs the container to its end and gives what it said.
    fn run(&self) -> String {
        let output = self.start(&[]);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {said}{error}", output.status);
        format!("{said}{error}")
    }
}

impl Drop for Story {
    fn drop(&mut self) {
        drop(self.runc(&["delete", "--force", self.id.as_str()]));
    }
}

fn write(path: &Path, text: &str) {
    fs::File::create(path)
        .and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes()))
        .unwrap();
}

/// This host as it is.
fn host() -> HostFacts {
    let set = |set: caps::CapsHashSet| -> Capabilities {
        set.iter().filter_map(|own| capabilities::parse(&own.to_string())).collect()
    };
    let score = fs::read_to_string("/proc/self/oom_score_adj").unwrap().trim().parse().unwrap();
    HostFacts {
        cgroup_v2: Path::new("/sys/fs/cgroup/cgroup.controllers").exists(),
        pids: true,
        capabilities: set(caps::runtime::procfs_all_supported(None).unwrap()),
        bounding: set(caps::read(None, caps::CapSet::Bounding).unwrap()),
        oom_score_floor: Some(score),
        seccomp: true,
        ..HostFacts::default()
    }
}

fn bits(names: &[&str]) -> u64 {
    let number =
        |name: &&str| -> u8 { format!("CAP_{name}").parse::<caps::Capability>().unwrap().index() };
    names.iter().map(|name| 1 << number(name)).sum()
}

/// Reads `Name:\tvalue` lines.
fn fields(text: &str) -> BTreeMap<&str, &str> {
    let field = |line| str::split_once(line, ':').map(|(name, value)| (name, value.trim()));
    text.lines().filter_map(field).collect()
}

fn sets(said: &str) -> BTreeMap<&str, u64> {
    let set =
        |(name, value): (&'static str, &str)| Some((name, u64::from_str_radix(value, 16).ok()?));
    let names = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"];
    let fields = fields(said);
    names.into_iter().filter_map(|name| set((name, fields.get(name)?))).collect()
}

#[test]
fn a_plain_container_is_confined() {
    let story = Story::new(
        "cat /proc/self/status; echo kcore:$(cat /proc/kcore 2>/dev/null | wc -c);
         echo acpi:$(ls /proc/acpi 2>/dev/null | wc -l);
         echo sys:$( (echo x > /proc/sys/kernel/hostname) 2>&1 );
         echo userns:$(unshare -U true 2>&1); echo host:$(hostname);
         echo mqueue:$(grep -c mqueue /proc/mounts); echo pid:$$",
    )
    .hardened();
    symlink("busybox", story.path("rootfs/bin/wc")).unwrap();
    let said = story.run();
    let sets = sets(&said);
    for name in ["CapBnd", "CapPrm", "CapEff"] {
        assert_eq!(sets[name], bits(&capabilities::DEFAULT), "{name}");
    }
    assert_eq!((sets["CapInh"], sets["CapAmb"]), (0, 0), "CVE-2022-27652");
    let fields = fields(&said);
    assert_eq!((fields["Seccomp"], fields["NoNewPrivs"]), ("2", "0"));
    assert_eq!((fields["kcore"], fields["acpi"], fields["pid"]), ("0", "0", "1"));
    assert!(fields["sys"].contains("Read-only"), "{said}");
    assert!(fields["userns"].contains("not implemented"), "{said}");
    assert_eq!((fields["host"], fields["mqueue"]), ("shop", "1"));
}

#[test]
fn a_user_of_the_image_has_no_capability_left() {
    let mut story = Story::new(
        "cat /proc/self/status; echo id:$(id -u) $(id -g) $(id -G); echo pwd:$(pwd);
         echo env:$A $HOSTNAME $HOME; echo write:$( (echo x > /x) 2>&1 )",
    )
    .hardened();
    story.image.user = "web".into();
    story.image.working_dir = "srv".into();
    story.image.env = Some(vec!["A=image".into()]);
    story.config.env = vec![("A".into(), "request".into())];
    story.config.security.no_new_privs = true;
    story.config.security.readonly_rootfs = true;
    story.config.security.run_as.supplemental_groups = vec![300];
    let said = story.run();
    let fields = fields(&said);
    assert_eq!(fields["id"], "101 102 102 200 300");
    assert_eq!((sets(&said)["CapEff"], fields["NoNewPrivs"]), (0, "1"));
    assert_eq!((fields["pwd"], fields["env"]), ("/srv", "request shop /srv"));
    assert!(fields["write"].contains("Read-only"), "{said}");
}

#[test]
fn drops_and_adds_reach_the_kernel() {
    let mut story = Story::new("cat /proc/self/status").hardened();
    story.config.security.capabilities.drop = vec!["ALL".into()];
    story.config.security.capabilities.add = vec!["net_raw".into(), "CAP_SYS_RESOURCE".into()];
    let given = if capabilities::privileged(&story.host)
        .contains(&oci_spec::runtime::Capability::SysResource)
    {
        bits(&["NET_RAW", "SYS_RESOURCE"])
    } else {
        bits(&["NET_RAW"])
    };
    let said = story.run();
    assert_eq!(sets(&said)["CapBnd"], given);
}

#[test]
fn a_privileged_container_has_what_the_daemon_has() {
    let mut story = Story::new(
        "cat /proc/self/status; echo sys:$(grep ' /sys ' /proc/mounts); echo ro:$(grep -c '^proc /proc/sys' /proc/mounts)",
    )
    .hardened();
    story.config.security.privileged = true;
    story.sandbox.security.privileged = true;
    let said = story.run();
    let own = fs::read_to_string("/proc/self/status").unwrap();
    assert_eq!(sets(&said)["CapBnd"], sets(&own)["CapBnd"]);
    let fields = fields(&said);
    assert_eq!((fields["Seccomp"], fields["ro"]), ("0", "0"));
    assert!(fields["sys"].contains("sysfs rw"), "{said}");
}

#[test]
fn mounts_come_in_their_order_and_devices_with_their_rights() {
    let mut story = Story::new(
        "cat /data/one /data/sub/two; echo ro:$( (echo x > /data/sub/two) 2>&1 );
         echo rw > /data/new; echo dev:$(cat /dev/mine | wc -c);
         echo written:$( (echo x > /dev/mine) 2>&1 ); echo shm > /dev/shm/x; cat /run/.containerenv",
    );
    symlink("busybox", story.path("rootfs/bin/wc")).unwrap();
    for (directory, file) in [("vol", "one"), ("sub", "two")] {
        fs::create_dir(story.path(directory)).unwrap();
        write(&story.path(directory).join(file), &format!("{file}\n"));
    }
    let mount = |target: &str, source: &str, readonly| Mount {
        container_path: target.into(),
        host_path: story.path(source).display().to_string(),
        readonly,
        ..Mount::default()
    };
    story.config.mounts = vec![mount("/data/sub", "sub", true), mount("/data", "vol", false)];
    story.devices = vec![ResolvedDevice {
        path: "/dev/mine".into(),
        kind: LinuxDeviceType::C,
        major: 1,
        minor: 3,
        mode: Some(0o666),
        uid: 0,
        gid: 0,
        access: "rw".into(),
    }];
    let said = story.run();
    assert!(said.starts_with("one\ntwo\n") && said.contains("containerenv"), "{said}");
    let fields = fields(&said);
    assert!(fields["ro"].contains("Read-only"), "{said}");
    assert_eq!((fields["dev"], fields["written"]), ("0", ""));
    assert_eq!(fs::read_to_string(story.path("vol/new")).unwrap(), "rw\n");
    assert_eq!(fs::read_to_string(story.path("shm/x")).unwrap(), "shm\n");
}

#[test]
fn mounts_propagate_as_asked() {
    let mut story = Story::new("grep -E ' /(private|slave|both) ' /proc/self/mountinfo");
    story.shared = true;
    fs::create_dir(story.path("vol")).unwrap();
    let mount = |target: &str, propagation| Mount {
        container_path: target.into(),
        host_path: story.path("vol").display().to_string(),
        propagation,
        ..Mount::default()
    };
    story.config.mounts = vec![
        mount("/private", Propagation::Private),
        mount("/slave", Propagation::HostToContainer),
        mount("/both", Propagation::Bidirectional),
    ];
    let said = story.run();
    let line = |target: &str| said.lines().find(|line| line.contains(target)).unwrap();
    let private = line(" /private ");
    assert!(!private.contains("shared:") && !private.contains("master:"), "{private}");
    assert!(
        line(" /slave ").contains("master:") && !line(" /slave ").contains("shared:"),
        "{said}"
    );
    assert!(line(" /both ").contains("shared:"), "{said}");
}

#[test]
fn limits_reach_the_cgroup() {
    let mut story = Story::new(
        "cd /sys/fs/cgroup; for f in memory.max memory/memory.limit_in_bytes pids.max pids/pids.max; do
         test -e $f && echo $f:$(cat $f); done; echo ro:$( (echo 1 > pids/pids.max) 2>&1 );
         echo oom:$(cat /proc/self/oom_score_adj)",
    );
    symlink("busybox", story.path("rootfs/bin/test")).unwrap();
    story.config.resources.memory_limit = 64 << 20;
    story.config.resources.oom_score_adj = 900;
    story.defaults.pids_limit = 50;
    let said = story.run();
    assert!(said.contains(":67108864") && said.contains("pids.max:50"), "{said}");
    let fields = fields(&said);
    assert!(fields["ro"].contains("Read-only") || story.host.cgroup_v2, "{said}");
    assert_eq!(fields["oom"], "900");
}

#[test]
fn a_negative_oom_score_does_not_stop_a_limited_daemon() {
    let mut story = Story::new("cat /proc/self/oom_score_adj");
    story.config.resources.oom_score_adj = -997;
    story.defaults.ulimits = vec![spec::process::parse_ulimit("nofile=1024").unwrap()];
    let floor = story.host.oom_score_floor.unwrap();
    assert_eq!(story.run().trim(), floor.max(-997).to_string());
}

#[test]
fn a_read_only_node_and_systemd_get_their_places() {
    let mut story = Story::new("touch /run/x /tmp/x /var/tmp/x && cat /run/.containerenv");
    story.defaults.read_only = true;
    assert_eq!(story.run(), "containerenv");
    let mut story = Story::new("");
    write(
        &story.path("rootfs/sbin/init"),
        "#!/bin/sh\ntouch /run/lock/x /var/log/journal/x && echo is:$container\n\
         echo agent:$(cat /sys/fs/cgroup/systemd/release_agent 2>&1)\n",
    );
    let init = story.path("rootfs/sbin/init");
    fs::set_permissions(init, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    story.config.command = vec!["/sbin/init".into()];
    let said = story.run();
    assert_eq!((fields(&said)["is"], fields(&said)["agent"]), ("crio", ""));
}

#[test]
fn a_further_process_has_the_same_rights() {
    let mut story = Story::new("sleep 60").hardened();
    story.image.user = "web".into();
    story.config.security.no_new_privs = true;
    let started = story.start(&["--detach"]);
    assert!(started.status.success(), "{}", String::from_utf8_lossy(&started.stderr));
    let command = ["sh", "-c", "cat /proc/self/status; echo id:$(id -G)"].map(String::from);
    let process = spec::process::exec(&story.spec(), command.to_vec(), false).unwrap();
    write(&story.path("process.json"), &serde_json::to_string(&process).unwrap());
    let file = story.path("process.json");
    let output = story.runc(&["exec", "--process", file.to_str().unwrap(), story.id.as_str()]);
    let said = String::from_utf8(output.stdout).unwrap();
    let fields = fields(&said);
    assert_eq!((fields["id"], fields["NoNewPrivs"], fields["Seccomp"]), ("102 200", "1", "2"));
    assert_eq!(sets(&said)["CapBnd"], bits(&capabilities::DEFAULT));
    assert_eq!(sets(&said)["CapEff"], 0);
}
