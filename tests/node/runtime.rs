//! Containers of busybox below the real conmon and runc.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;
use std::time::Instant;

use crioxide::model::change::Change;
use crioxide::model::ids::ContainerId;
use crioxide::runtime::CgroupManager;
use crioxide::runtime::Create;
use crioxide::runtime::Created;
use crioxide::runtime::Exec;
use crioxide::runtime::Executed;
use crioxide::runtime::Handler;
use crioxide::runtime::Runtime;
use crioxide::runtime::RuntimeError;
use crioxide::runtime::Settings;
use crioxide::runtime::Status;
use crioxide::sys::cgroup;
use crioxide::sys::cgroup::Cgroups;
use futures_util::Stream;
use futures_util::StreamExt;
use serde_json::Value;
use serde_json::json;

use crate::support::host;

/// A directory with a root of busybox, and a runtime that keeps everything in it.
pub(crate) struct Node {
    directory: tempfile::TempDir,
    pub(crate) runtime: Runtime,
    parent: String,
}

impl Node {
    pub(crate) fn new() -> Option<Self> {
        Self::with(|_, _| {})
    }

    /// A node whose handler `runc` was changed; `None` where it cannot be had.
    fn with(change: impl FnOnce(&Path, &mut Handler)) -> Option<Self> {
        if !host::can(&["root", "runc", "conmon", "busybox"]) {
            return None;
        }
        let program = |name| host::program(name).unwrap();
        // A socket's path is short, so is the directory's.
        let directory = tempfile::Builder::new().prefix("crt-").tempdir_in("/tmp").unwrap();
        let path = directory.path();
        let mut handler = Handler {
            runtime_path: program("runc"),
            runtime_root: path.join("runc"),
            monitor_path: program("conmon"),
            monitor_cgroup: "pod".to_owned(),
            monitor_env: Vec::new(),
            create_timeout: Duration::from_secs(30),
            no_sync_log: false,
        };
        change(path, &mut handler);
        let runtime = Runtime::new(Settings {
            handlers: BTreeMap::from([("runc".to_owned(), handler)]),
            default_handler: "runc".to_owned(),
            exits_dir: path.join("exits"),
            attach_dir: path.join("attach"),
            cgroup_manager: CgroupManager::Cgroupfs,
            log_size_max: None,
            no_pivot: false,
            journald: false,
        });
        let parent = format!("/{}", path.file_name().unwrap().to_str().unwrap());
        let node = Self { runtime: runtime.unwrap(), parent, directory };
        node.make_root();
        Some(node)
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn make_root(&self) {
        let bin = self.path().join("rootfs/bin");
        std::fs::create_dir_all(&bin).unwrap();
        std::fs::copy(host::program("busybox").unwrap(), bin.join("busybox")).unwrap();
        for name in
            ["sh", "sleep", "true", "cat", "echo", "head", "yes", "setsid", "id", "stty", "wc"]
        {
            std::os::unix::fs::symlink("busybox", bin.join(name)).unwrap();
        }
    }

    fn request(&self, arguments: &[&str]) -> Create {
        self.request_with(arguments, |_, _| {})
    }

    /// A container whose request and runtime spec were changed.
    pub(crate) fn request_with(
        &self,
        arguments: &[&str],
        change: impl FnOnce(&mut Create, &mut Value),
    ) -> Create {
        let id = ContainerId::fresh().unwrap();
        let bundle = self.path().join(id.short());
        let persist_dir = bundle.join("persist");
        std::fs::create_dir_all(&persist_dir).unwrap();
        let cgroups_path =
            cgroup::cgroups_path(CgroupManager::Cgroupfs, &self.parent, id.as_str()).unwrap();
        let mut config = config(&self.path().join("rootfs"), arguments, &cgroups_path);
        let mut request = Create {
            name: "k8s_test".to_owned(),
            handler: "runc".to_owned(),
            log: bundle.join("log"),
            tty: false,
            stdin: false,
            stdin_once: false,
            cgroup_parent: self.parent.clone(),
            id,
            bundle,
            persist_dir,
        };
        change(&mut request, &mut config);
        std::fs::File::create(request.bundle.join("config.json"))
            .and_then(|file| Ok(serde_json::to_writer(file, &config)?))
            .unwrap();
        request
    }

    pub(crate) async fn run(&self, arguments: &[&str]) -> (Create, Created) {
        self.start(self.request(arguments)).await
    }

    pub(crate) async fn start(&self, request: Create) -> (Create, Created) {
        let created = self.runtime.create(request.clone()).await.unwrap();
        self.runtime.start("", &request.id).await.unwrap();
        (request, created)
    }

    async fn exec(
        &self,
        id: &ContainerId,
        arguments: &[&str],
        timeout: Option<Duration>,
    ) -> Result<Executed, RuntimeError> {
        self.runtime.exec_sync(self.command(id, arguments).await, timeout).await
    }

    pub(crate) async fn command(&self, id: &ContainerId, arguments: &[&str]) -> Exec {
        let process = serde_json::from_value(process(arguments)).unwrap();
        let first_process = self.first_process(id).await.unwrap_or_default();
        Exec { handler: "runc".to_owned(), id: id.clone(), first_process, process }
    }

    async fn first_process(&self, id: &ContainerId) -> Option<i32> {
        self.runtime.state("runc", id).await.unwrap().and_then(|state| state.pid)
    }

    /// The command lines of a container's processes.
    pub(crate) fn processes(&self, id: &ContainerId) -> Vec<String> {
        let path = cgroup::container_path(CgroupManager::Cgroupfs, &self.parent, id.as_str());
        let pids = Cgroups::mounted().unwrap().processes(&path.unwrap()).unwrap();
        let line =
            |pid| std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        pids.into_iter().map(|pid| format!("{pid} {}", line(pid).replace('\0', " "))).collect()
    }

    /// Waits until only its first process is left in a container.
    pub(crate) async fn wait_for_calm(&self, id: &ContainerId) {
        let begun = Instant::now();
        while self.processes(id).len() > 1 {
            assert!(begun.elapsed() < Duration::from_secs(10), "{:#?}", self.processes(id));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(crate) async fn end(&self, request: &Create) {
        self.runtime.kill("runc", &request.id, "SIGKILL", true).await.unwrap();
        wait("the exit file", || self.exit_code(request).is_some()).await;
        self.runtime.delete("runc", &request.id).await.unwrap();
        self.runtime.forget(&request.id, &self.parent).await.unwrap();
    }

    pub(crate) fn exit_code(&self, request: &Create) -> Option<i32> {
        self.runtime
            .exit_of(&request.id, &request.persist_dir, &request.bundle)
            .unwrap()
            .map(|exit| exit.code)
    }

    /// That nothing of a container is left but its bundle.
    pub(crate) async fn assert_gone(&self, request: &Create) {
        let id = request.id.as_str();
        wait("the end of its processes", || !mentioned(id)).await;
        assert_eq!(self.runtime.state("runc", &request.id).await.unwrap(), None);
        for directory in ["exits", "attach", "attach/exec", "runc"] {
            let Ok(entries) = std::fs::read_dir(self.path().join(directory)) else { continue };
            let left: Vec<_> = entries
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .filter(|name| name.contains(request.id.short()))
                .collect();
            assert!(left.is_empty(), "{directory}: {left:?}");
        }
        for path in [
            cgroup::monitor_path(&self.parent, id).unwrap(),
            cgroup::container_path(CgroupManager::Cgroupfs, &self.parent, id).unwrap(),
        ] {
            let left: Vec<_> = Cgroups::mounted()
                .unwrap()
                .directories(&path)
                .filter(|directory| directory.exists())
                .collect();
            assert!(left.is_empty(), "{left:?}");
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // What a failed test left: everything is in cgroups below one parent.
        let (path, runtime_root) = (self.parent.clone(), self.path().join("runc"));
        let work = async move {
            let Ok(cgroups) = Cgroups::mounted() else { return };
            let parent = cgroup::parent_path(CgroupManager::Cgroupfs, &path).unwrap();
            let _ = cgroups.kill(&parent);
            let _ = cgroups.remove(&parent).await;
            let _ = std::fs::remove_dir_all(runtime_root);
        };
        let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build();
        let done = std::thread::spawn(move || runtime().unwrap().block_on(work)).join();
        assert!(done.is_ok() || std::thread::panicking());
    }
}

fn process(arguments: &[&str]) -> Value {
    json!({
        "args": arguments,
        "cwd": "/",
        "env": ["PATH=/bin"],
        "user": {"uid": 0, "gid": 0},
        "capabilities": {"bounding": [], "effective": [], "permitted": []},
        "noNewPrivileges": true,
    })
}

fn config(root: &Path, arguments: &[&str], cgroups_path: &str) -> Value {
    let mount = |to: &str, kind: &str| json!({"destination": to, "type": kind, "source": kind});
    let terminals = json!({"destination": "/dev/pts", "type": "devpts", "source": "devpts",
        "options": ["newinstance", "ptmxmode=0666", "mode=0620"]});
    json!({
        "ociVersion": "1.0.2",
        "process": process(arguments),
        "root": {"path": root, "readonly": true},
        "mounts": [mount("/proc", "proc"), mount("/dev", "tmpfs"), terminals, mount("/tmp", "tmpfs")],
        "linux": {
            "cgroupsPath": cgroups_path,
            "namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "network"}],
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
        },
    })
}

/// Whether a living process has this text in its arguments.
fn mentioned(text: &str) -> bool {
    std::fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(text)
    })
}

pub(crate) async fn wait(what: &str, mut until: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !until() {
        assert!(begun.elapsed() < Duration::from_secs(10), "waited too long for {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn next(exits: &mut (impl Stream<Item = ContainerId> + Unpin)) -> ContainerId {
    tokio::time::timeout(Duration::from_secs(10), exits.next()).await.unwrap().unwrap()
}

#[tokio::test]
async fn a_container_lives_and_ends() {
    let Some(node) = Node::new() else { return };
    let runtime = &node.runtime;
    let mut exits = runtime.exits().unwrap();
    let request =
        node.request(&["sh", "-c", "trap 'exit 5' TERM; echo up; while :; do sleep 0.05; done"]);
    let (id, before) = (&request.id, time::OffsetDateTime::now_utc());
    assert_eq!(runtime.state("runc", id).await.unwrap(), None);
    let created = runtime.create(request.clone()).await.unwrap();
    let state = runtime.state("runc", id).await.unwrap().unwrap();
    assert_eq!((state.status, state.pid), (Status::Created, Some(created.pid)));
    assert_eq!(crioxide::sys::process::started(created.pid).unwrap(), created.started);
    // The monitor is in a cgroup of its own, in every hierarchy.
    let monitors =
        std::fs::read_to_string(format!("/proc/{}/cgroup", created.monitor_pid)).unwrap();
    let own = format!("{}/crio-conmon-{id}", node.parent);
    assert!(monitors.lines().all(|line| line.ends_with(&own)), "{monitors}");

    runtime.start("runc", id).await.unwrap();
    let state = runtime.state("runc", id).await.unwrap().unwrap();
    assert_eq!(state.status, Status::Running);
    assert!(matches!(runtime.start("runc", id).await, Err(RuntimeError::Refused { .. })));
    let log = || std::fs::read_to_string(&request.log).unwrap_or_default();
    wait("its first line", || log().ends_with(" stdout F up\n")).await;

    assert_eq!(runtime.kill("runc", id, "SIGTERM", false).await.unwrap(), Change::Made(()));
    assert_eq!(&next(&mut exits).await, id);
    let exit =
        runtime.exit_of(&request.id, &request.persist_dir, &request.bundle).unwrap().unwrap();
    assert_eq!((exit.code, exit.oom), (5, false));
    assert!(
        exit.finished >= before - Duration::from_secs(1)
            && exit.finished <= time::OffsetDateTime::now_utc()
    );
    let state = runtime.state("runc", id).await.unwrap().unwrap();
    assert_eq!((state.status, state.pid), (Status::Stopped, None));
    assert_eq!(runtime.kill("runc", id, "9", false).await.unwrap(), Change::Unchanged(()));
    let late = node.exec(id, &["true"], None).await;
    assert!(matches!(late, Err(RuntimeError::NotRunning { .. })), "{late:?}");

    // A daemon that starts now finds the exit that nobody recorded.
    assert_eq!(&next(&mut runtime.exits().unwrap()).await, id);
    assert_eq!(runtime.delete("runc", id).await.unwrap(), Change::Made(()));
    assert_eq!(runtime.delete("runc", id).await.unwrap(), Change::Unchanged(()));
    runtime.forget(id, &node.parent).await.unwrap();
    runtime.forget(id, &node.parent).await.unwrap();
    node.assert_gone(&request).await;
}

#[tokio::test]
async fn a_command_gives_its_output_and_code() {
    let Some(node) = Node::new() else { return };
    let (request, _) = node.run(&["sleep", "1000"]).await;
    let id = &request.id;
    for (script, code, stdout, stderr) in [
        ("exit 0", 0, "", ""),
        ("echo out; echo err >&2; exit 3", 3, "out\n", "err\n"),
        ("exit 255", 255, "", ""),
        ("kill -9 $$", 137, "", ""),
        ("cat; echo $PATH", 0, "/bin\n", ""),
    ] {
        let done = node.exec(id, &["sh", "-c", script], None).await.unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        assert_eq!(done.exit_code, code, "{script}");
        assert_eq!((text(&done.stdout).as_str(), text(&done.stderr).as_str()), (stdout, stderr));
    }
    let missing = node.exec(id, &["no-such-program"], None).await.unwrap_err();
    assert!(matches!(missing, RuntimeError::Refused { .. }), "{missing}");
    assert!(missing.to_string().contains("no-such-program"), "{missing}");

    let begun = Instant::now();
    let done = node.exec(id, &["sh", "-c", "echo begun; sleep 1000 &"], None).await.unwrap();
    assert_eq!((done.exit_code, done.stdout), (0, b"begun\n".to_vec()));
    assert!(begun.elapsed() < Duration::from_secs(5), "the background process was waited for");
    assert_eq!(node.processes(id).len(), 2, "the background process is the container's");

    let much = "yes | head -c 20000000; echo end >&2";
    let done = node.exec(id, &["sh", "-c", much], None).await.unwrap();
    assert_eq!(done.exit_code, 0);
    assert_eq!(done.stdout.len() + done.stderr.len(), 16 * 1024 * 1024);
    node.end(&request).await;
    node.assert_gone(&request).await;
}

#[tokio::test]
async fn a_command_whose_time_is_over_leaves_no_process() {
    let Some(node) = Node::new() else { return };
    let (request, _) = node.run(&["sleep", "1000"]).await;
    let id = &request.id;
    // A deaf grandchild in a session of its own, one whose parent is gone, and a deaf command.
    let script = "trap '' TERM HUP
        setsid sh -c 'trap \"\" TERM; sleep 1000; sleep 1000' &
        (sleep 1000 & sleep 1000 &)
        echo started; while :; do sleep 1; done";
    let begun = Instant::now();
    let done =
        node.exec(id, &["sh", "-c", script], Some(Duration::from_millis(800))).await.unwrap();
    assert_eq!((done.exit_code, done.stderr.as_slice()), (-1, b"command timed out".as_slice()));
    assert_eq!(done.stdout, b"started\n");
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    node.wait_for_calm(id).await;

    // The asker goes away, before and after the command has begun.
    for patience in [1, 5, 10, 20, 30, 300] {
        let arguments = ["sh", "-c", script];
        let asked = node.exec(id, &arguments, None);
        let given_up = tokio::time::timeout(Duration::from_millis(patience), asked).await;
        assert!(given_up.is_err());
    }
    node.wait_for_calm(id).await;
    node.end(&request).await;
    node.assert_gone(&request).await;
}

#[tokio::test]
async fn limits_are_changed() {
    let Some(node) = Node::new() else { return };
    let (request, _) = node.run(&["sleep", "1000"]).await;
    let resources = json!({"cpu": {"shares": 512}, "pids": {"limit": 77}});
    let resources = serde_json::from_value(resources).unwrap();
    node.runtime.update("runc", &request.id, &resources).await.unwrap();
    let path = cgroup::container_path(CgroupManager::Cgroupfs, &node.parent, request.id.as_str());
    let limit = Cgroups::mounted()
        .unwrap()
        .directories(&path.unwrap())
        .find_map(|directory| std::fs::read_to_string(directory.join("pids.max")).ok());
    assert_eq!(limit.as_deref(), Some("77\n"));
    node.end(&request).await;
}

#[tokio::test]
async fn a_moved_log_is_reopened() {
    let Some(node) = Node::new() else { return };
    let script = "while :; do echo line; sleep 0.05; done";
    let (request, _) = node.run(&["sh", "-c", script]).await;
    wait("the log", || request.log.metadata().is_ok_and(|log| log.len() > 0)).await;
    let moved = request.bundle.join("log.1");
    std::fs::rename(&request.log, &moved).unwrap();
    node.runtime.reopen_log(&request.bundle, &request.log).await.unwrap();
    assert!(request.log.exists());
    wait("a line in the new log", || request.log.metadata().unwrap().len() > 0).await;
    node.end(&request).await;
    let gone = node.runtime.reopen_log(&request.bundle, &request.log).await;
    assert!(matches!(gone, Err(RuntimeError::MonitorGone { .. })), "{gone:?}");
}

#[tokio::test]
async fn a_creation_that_fails_leaves_nothing() {
    let Some(node) = Node::new() else { return };
    let request = node.request(&["no-such-program"]);
    let error = node.runtime.create(request.clone()).await.unwrap_err();
    assert!(matches!(error, RuntimeError::Create { .. }), "{error}");
    assert!(error.to_string().contains("no-such-program"), "{error}");
    node.assert_gone(&request).await;
    assert!(!request.log.exists());

    let unknown = Create { handler: "other".to_owned(), ..node.request(&["true"]) };
    let error = node.runtime.create(unknown).await.unwrap_err();
    assert!(matches!(error, RuntimeError::UnknownHandler { .. }), "{error}");
}

#[tokio::test]
async fn a_creation_that_is_given_up_leaves_nothing() {
    let Some(node) = Node::new() else { return };
    for patience in [0, 1, 2, 4, 7, 10, 13, 16, 20, 25] {
        let request = node.request(&["sleep", "1000"]);
        let asked = node.runtime.create(request.clone());
        if let Ok(created) = tokio::time::timeout(Duration::from_millis(patience), asked).await {
            // It was quicker than our patience.
            created.unwrap();
            node.runtime.delete("runc", &request.id).await.unwrap();
            node.runtime.forget(&request.id, &node.parent).await.unwrap();
        }
        let path = node.path().join("attach").join(request.id.as_str());
        wait("the clearing away", || !mentioned(request.id.as_str()) && !path.exists()).await;
        let left = || {
            Cgroups::mounted()
                .unwrap()
                .directories(&cgroup::monitor_path(&node.parent, request.id.as_str()).unwrap())
                .any(|directory| directory.exists())
        };
        wait("the removal of its cgroup", || !left()).await;
        node.assert_gone(&request).await;
    }
}

#[tokio::test]
async fn a_runtime_that_hangs_is_ended() {
    let slow = |directory: &Path, handler: &mut Handler| {
        let program = directory.join("hangs");
        std::fs::File::create(&program)
            .and_then(|mut file| {
                std::io::Write::write_all(
                    &mut file,
                    b"#!/bin/sh\n[ \"$2\" = create ] || exit 1\nsleep 1000\n",
                )
            })
            .unwrap();
        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
        handler.runtime_path = program;
        handler.create_timeout = Duration::from_millis(500);
    };
    let Some(node) = Node::with(slow) else { return };
    let request = node.request(&["true"]);
    let begun = Instant::now();
    let error = node.runtime.create(request.clone()).await.unwrap_err();
    assert!(matches!(error, RuntimeError::CreateTimeout { .. }), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(3));
    node.assert_gone(&request).await;
}
