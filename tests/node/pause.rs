//! The built-in pause program: what it is, what it holds together, and what is left after it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::io;
use std::io::Write;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use std::time::Instant;

use crioxide::sys::pause;
use crioxide::sys::pause::PauseError;
use crioxide::sys::pause::Running;
use crioxide::sys::pause::Start;

const CRIO: &str = env!("CARGO_BIN_EXE_crio");

/// A pause process of its own, with its pin; both are gone when this is dropped.
struct Pod {
    directory: tempfile::TempDir,
    running: Running,
}

impl Pod {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let running = start(&pin_in(directory.path()), &mut |_| Ok(())).unwrap();
        Self { directory, running }
    }

    fn proc(&self, file: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{file}", self.running.pid))
    }

    fn status(&self, key: &str) -> String {
        status(self.running.pid, key).unwrap()
    }

    /// A command that runs inside the process namespace.
    fn inside(&self, script: &str) -> Command {
        let pin = pin_in(self.directory.path());
        let mut command = command("nsenter");
        command.arg(format!("--pid={}", pin.display())).args(["sh", "-c", script]);
        command
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        pause::stop(&self.running).unwrap();
        unpin(&pin_in(self.directory.path()));
    }
}

fn command(program: &str) -> Command {
    #[allow(clippy::disallowed_methods, reason = "the test looks at the program from outside")]
    Command::new(program)
}

fn pin_in(directory: &Path) -> PathBuf {
    directory.join("pidns/test")
}

fn unpin(path: &Path) {
    let _ = nix::mount::umount(path);
    let _ = fs::remove_file(path);
}

fn request<'a>(pin: &'a Path, before: &'a mut dyn FnMut(i32) -> io::Result<()>) -> Start<'a> {
    Start {
        program: Path::new(CRIO),
        name: "test-pod",
        user: None,
        net: None,
        ipc: None,
        uts: None,
        label: None,
        oom_score_adj: Some(500),
        pin_pid_at: pin,
        before_run: before,
    }
}

fn start(pin: &Path, before: &mut dyn FnMut(i32) -> io::Result<()>) -> Result<Running, PauseError> {
    pause::start(request(pin, before))
}

fn status(pid: i32, key: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    Some(line.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// The numbers of all processes whose parent this one is.
fn children(parent: i32) -> Vec<i32> {
    let parent = parent.to_string();
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok())
        .filter(|pid| status(*pid, "PPid").is_some_and(|ppid| ppid == parent))
        .collect()
}

fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn it_is_first_in_its_namespace_and_has_nothing() {
    let pod = Pod::start();
    assert_eq!(fs::read_to_string(pod.proc("comm")).unwrap(), "pause\n");
    assert_eq!(fs::read(pod.proc("cmdline")).unwrap(), b"crio-pause\0test-pod\0");
    assert_eq!(pod.status("NSpid"), format!("{} 1", pod.running.pid));
    assert_eq!(pod.status("NSsid"), format!("{} 1", pod.running.pid));
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(pod.status(set), "0000000000000000", "{set}");
    }
    assert_eq!(pod.status("NoNewPrivs"), "1");
    assert_eq!(pod.status("Seccomp"), "2");
    assert_eq!(pod.status("Threads"), "1");
    assert_eq!(pod.status("Uid"), "65535 65535 65535 65535");
    assert_eq!(pod.status("Gid"), "65535 65535 65535 65535");
    assert_eq!(pod.status("Groups"), "");
    assert_eq!(fs::read_to_string(pod.proc("oom_score_adj")).unwrap(), "500\n");
    assert_eq!(pod.proc("environ").metadata().unwrap().uid(), 0, "it can be looked into");
}

#[test]
fn its_root_is_empty_and_read_only_and_it_holds_no_other_mount() {
    let pod = Pod::start();
    assert_eq!(fs::read_dir(pod.proc("root")).unwrap().count(), 0);
    let error = fs::create_dir(pod.proc("root/x")).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ReadOnlyFilesystem);
    let mounts = fs::read_to_string(pod.proc("mountinfo")).unwrap();
    assert_eq!(mounts.lines().count(), 1, "{mounts}");
    let ours = fs::read_link("/proc/self/ns/mnt").unwrap();
    assert_ne!(fs::read_link(pod.proc("ns/mnt")).unwrap(), ours);
    for entry in fs::read_dir(pod.proc("fd")).unwrap() {
        let target = fs::metadata(entry.unwrap().path()).unwrap();
        assert!(target.file_type().is_char_device(), "/dev/null and nothing else");
    }
    assert_eq!(fs::read_dir(pod.proc("fd")).unwrap().count(), 3);
}

#[test]
fn the_namespace_is_pinned_and_can_be_joined() {
    let pod = Pod::start();
    let pin = fs::metadata(pin_in(pod.directory.path())).unwrap();
    assert_eq!(pin.ino(), fs::metadata(pod.proc("ns/pid")).unwrap().ino());
    let output = pod.inside("echo $$").output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "2\n");
}

#[test]
fn it_reaps_an_orphan() {
    let pod = Pod::start();
    let mut shell = pod.inside("sleep 0.3 &").spawn().unwrap();
    shell.wait().unwrap();
    assert_eq!(children(pod.running.pid).len(), 1, "the orphan is its child now");
    eventually("the orphan is reaped", || children(pod.running.pid).is_empty());
    assert!(pause::is_alive(&pod.running));
}

#[test]
fn a_process_inside_cannot_end_it_and_one_outside_can() {
    let pod = Pod::start();
    let script = "for s in TERM INT HUP SEGV ABRT USR1 KILL STOP; do kill -$s 1; done";
    assert!(pod.inside(script).status().unwrap().success());
    std::thread::sleep(Duration::from_millis(50));
    assert!(pause::is_alive(&pod.running));
    assert!(pod.status("State").starts_with('S'), "{}", pod.status("State"));
    let send = |signal| {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pod.running.pid), signal).unwrap();
    };
    send(nix::sys::signal::Signal::SIGSTOP);
    eventually("it is stopped", || pod.status("State").starts_with('T'));
    send(nix::sys::signal::Signal::SIGCONT);
    eventually("it goes on", || pod.status("State").starts_with('S'));
    send(nix::sys::signal::Signal::SIGTERM);
    eventually("it ends", || !pause::is_alive(&pod.running));
}

#[test]
fn stopping_ends_everything_in_the_namespace_and_can_be_repeated() {
    let pod = Pod::start();
    let mut shell =
        pod.inside("trap '' TERM; (trap '' TERM; exec sleep 1000) & wait").spawn().unwrap();
    let namespace = fs::read_link(pod.proc("ns/pid")).unwrap();
    let inside = || {
        let all = fs::read_dir("/proc").unwrap();
        all.filter(|entry| {
            let path = entry.as_ref().unwrap().path();
            fs::read_link(path.join("ns/pid")).is_ok_and(|link| link == namespace)
                && fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm == "sleep\n")
        })
        .count()
    };
    eventually("a process runs inside", || inside() == 1);
    // The shell is nobody's child but ours, and the namespace waits for it to be reaped.
    let reaper = std::thread::spawn(move || shell.wait().unwrap());
    pause::stop(&pod.running).unwrap();
    assert_eq!(inside(), 0);
    assert!(!reaper.join().unwrap().success());
    assert!(!pod.proc("stat").exists(), "it is reaped");
    assert!(!pause::is_alive(&pod.running));
    pause::stop(&pod.running).unwrap();
}

#[test]
fn of_a_pinned_namespace_alone_its_first_process_is_ended_and_no_other_pod_s() {
    let (pod, other) = (Pod::start(), Pod::start());
    pause::stop_pinned(&pin_in(pod.directory.path())).unwrap();
    assert!(!pause::is_alive(&pod.running));
    assert!(pause::is_alive(&other.running));
    // Nobody is left in it; and nothing is pinned elsewhere.
    pause::stop_pinned(&pin_in(pod.directory.path())).unwrap();
    pause::stop_pinned(Path::new("/nowhere")).unwrap();
    assert!(pause::is_alive(&other.running));
}

#[test]
fn another_start_time_is_a_stranger() {
    let pod = Pod::start();
    let stranger = Running { started: pod.running.started + 1, ..pod.running };
    pause::stop(&stranger).unwrap();
    assert!(!pause::is_alive(&stranger));
    assert!(pause::is_alive(&pod.running));
}

#[test]
fn a_failing_preparation_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let mut seen = 0;
    let result = start(&pin_in(directory.path()), &mut |pid| {
        seen = pid;
        assert_eq!(status(pid, "NSpid").unwrap(), format!("{pid} 1"));
        assert_eq!(status(pid, "Seccomp").unwrap(), "0", "it is held");
        Err(io::Error::other("no cgroup"))
    });
    assert!(matches!(result, Err(PauseError::BeforeRun { pid, .. }) if pid == seen));
    assert!(!Path::new(&format!("/proc/{seen}")).exists());
    assert!(!directory.path().join("pidns").exists());
}

#[test]
fn a_pin_that_is_taken_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let pin = pin_in(directory.path());
    fs::create_dir(pin.parent().unwrap()).unwrap();
    fs::File::create(&pin).unwrap();
    let mut seen = 0;
    let result = start(&pin, &mut |pid| {
        seen = pid;
        Ok(())
    });
    assert!(matches!(result, Err(PauseError::Pin { .. })), "{result:?}");
    assert!(!Path::new(&format!("/proc/{seen}")).exists());
    assert!(pin.exists(), "the file of another is left alone");
}

#[test]
fn a_process_that_dies_before_it_is_ready_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let pin = pin_in(directory.path());
    let mut seen = 0;
    let result = start(&pin, &mut |pid| {
        seen = pid;
        let pid = nix::unistd::Pid::from_raw(pid);
        Ok(nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL)?)
    });
    assert!(matches!(result, Err(PauseError::Died { .. } | PauseError::Pin { .. })), "{result:?}");
    assert!(!Path::new(&format!("/proc/{seen}")).exists());
    assert!(!pin.exists());
}

#[test]
fn a_namespace_of_the_wrong_kind_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let pin = pin_in(directory.path());
    let mut before = |_| panic!("there is nothing to prepare");
    let uts = Some(Path::new("/proc/self/ns/net"));
    let error = pause::start(Start { uts, ..request(&pin, &mut before) }).unwrap_err();
    let text = crioxide::failure::chain(&error);
    assert!(text.starts_with("pause process test-pod cannot join the UTS namespace: "), "{text}");
    assert!(!pin.exists());
}

#[test]
fn another_program_is_not_waited_for_long() {
    let directory = tempfile::tempdir().unwrap();
    let pin = pin_in(directory.path());
    let mut before = |_| Ok(());
    let program = Path::new("/bin/true");
    let result = pause::start(Start { program, ..request(&pin, &mut before) });
    assert!(matches!(result, Err(PauseError::Died { .. })), "{result:?}");
    let mut before = |_| Ok(());
    let program = Path::new("/no/such/program");
    let result = pause::start(Start { program, ..request(&pin, &mut before) });
    assert!(matches!(result, Err(PauseError::Spawn { .. })), "{result:?}");
}

#[test]
fn it_joins_the_namespaces_of_the_pod() {
    // The namespaces are those of a process that sleeps in them.
    let mut holder = command("unshare")
        .args(["--user", "--net", "--ipc", "--uts", "sleep", "1000"])
        .spawn()
        .unwrap();
    let of_holder = |kind: &str| PathBuf::from(format!("/proc/{}/ns/{kind}", holder.id()));
    eventually("the holder sleeps", || {
        fs::read_to_string(format!("/proc/{}/comm", holder.id())).is_ok_and(|c| c == "sleep\n")
    });
    for map in ["uid_map", "gid_map"] {
        let map = format!("/proc/{}/{map}", holder.id());
        let mut file = fs::File::options().write(true).open(map).unwrap();
        file.write_all(b"0 100000 65536").unwrap();
    }
    let directory = tempfile::tempdir().unwrap();
    let pin = pin_in(directory.path());
    let [user, net, ipc, uts] = ["user", "net", "ipc", "uts"].map(of_holder);
    let running = pause::start(Start {
        user: Some(&user),
        net: Some(&net),
        ipc: Some(&ipc),
        uts: Some(&uts),
        ..request(&pin, &mut |_| Ok(()))
    });
    let pairs = running.as_ref().map(|running| {
        ["user", "net", "ipc", "uts"].map(|kind| {
            let its = fs::read_link(format!("/proc/{}/ns/{kind}", running.pid)).unwrap();
            (its, fs::read_link(of_holder(kind)).unwrap())
        })
    });
    if let Ok(running) = &running {
        assert_eq!(status(running.pid, "Uid").unwrap(), "165535 165535 165535 165535");
        pause::stop(running).unwrap();
    }
    unpin(&pin);
    holder.kill().unwrap();
    holder.wait().unwrap();
    for (its, of_holder) in pairs.unwrap() {
        assert_eq!(its, of_holder);
    }
}

#[test]
#[ignore = "no test of its own: it_outlives_its_starter runs it in another process"]
fn starter_that_ends_at_once() {
    let directory = PathBuf::from(std::env::var_os("PAUSE_TEST_DIRECTORY").unwrap());
    let running = start(&pin_in(&directory), &mut |_| Ok(())).unwrap();
    let mut file = fs::File::create(directory.join("running")).unwrap();
    write!(file, "{} {}", running.pid, running.started).unwrap();
}

#[test]
#[ignore = "no test of its own: a_starter_that_dies_leaves_no_process runs it in another process"]
fn starter_that_dies_half_way() {
    let directory = PathBuf::from(std::env::var_os("PAUSE_TEST_DIRECTORY").unwrap());
    let _ = start(&pin_in(&directory), &mut |pid| {
        let mut file = fs::File::create(directory.join("running")).unwrap();
        write!(file, "{pid}").unwrap();
        std::process::abort()
    });
}

#[test]
fn a_starter_that_dies_leaves_no_process() {
    let directory = tempfile::tempdir().unwrap();
    let output = command("/proc/self/exe")
        .args(["--ignored", "--exact", "pause::starter_that_dies_half_way"])
        .env("PAUSE_TEST_DIRECTORY", directory.path())
        .output()
        .unwrap();
    assert!(!output.status.success());
    let text = fs::read_to_string(directory.path().join("running")).unwrap();
    // PID 1 of a test machine may be slow to reap it.
    eventually("it ends by itself", || {
        status(text.parse().unwrap(), "State").is_none_or(|state| state.starts_with('Z'))
    });
}

#[test]
fn many_at_once_do_not_meet() {
    let starters: Vec<_> = (0..8).map(|_| std::thread::spawn(Pod::start)).collect();
    let pods: Vec<_> = starters.into_iter().map(|starter| starter.join().unwrap()).collect();
    let mut namespaces: Vec<_> =
        pods.iter().map(|pod| fs::read_link(pod.proc("ns/pid")).unwrap()).collect();
    namespaces.sort();
    namespaces.dedup();
    assert_eq!(namespaces.len(), 8);
    assert!(pods.iter().all(|pod| fs::read_dir(pod.proc("fd")).unwrap().count() == 3));
}

#[test]
fn it_outlives_its_starter() {
    let directory = tempfile::tempdir().unwrap();
    let status_of_starter = command("/proc/self/exe")
        .args(["--ignored", "--exact", "pause::starter_that_ends_at_once"])
        .env("PAUSE_TEST_DIRECTORY", directory.path())
        .output()
        .unwrap();
    assert!(status_of_starter.status.success(), "{status_of_starter:?}");
    let text = fs::read_to_string(directory.path().join("running")).unwrap();
    let (pid, started) = text.split_once(' ').unwrap();
    let running = Running { pid: pid.parse().unwrap(), started: started.parse().unwrap() };
    let pod = Pod { directory, running };
    assert!(pause::is_alive(&pod.running));
    assert_ne!(pod.status("PPid"), std::process::id().to_string());
    assert_eq!(String::from_utf8_lossy(&pod.inside("echo $$").output().unwrap().stdout), "2\n");
    pause::stop(&pod.running).unwrap();
    assert!(!pause::is_alive(&pod.running), "whoever is to reap it");
}

#[test]
fn the_hidden_mode_cannot_be_entered_by_hand() {
    use std::os::unix::process::CommandExt;
    let output = command(CRIO).arg0("crio-pause").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(text, "crio-pause: only crio itself can start this\n");
}

#[test]
#[ignore = "prints how long a start takes and how much memory a process keeps"]
fn cost() {
    let mut times = Vec::new();
    for _ in 0..50 {
        let begin = Instant::now();
        let pod = Pod::start();
        times.push(begin.elapsed());
        if times.len() == 50 {
            println!("RSS {}", pod.status("VmRSS"));
            println!("{}", fs::read_to_string(pod.proc("smaps_rollup")).unwrap());
        }
    }
    times.sort();
    println!("start: median {:?}, worst {:?}", times[25], times[49]);
}
