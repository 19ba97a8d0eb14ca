use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::time::Instant;

use super::*;

fn shell(script: &str) -> Command {
    Command::new("/bin/sh").arg("-c").arg(script)
}

/// Whether a process of this number exists and is no zombie.
fn lives(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

/// Waits until a process is gone from the table, or is at least dead when it is not our child.
async fn gone(pid: i32) -> bool {
    for _ in 0..500 {
        if !lives(pid) {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    false
}

#[tokio::test]
async fn output_status_input_and_environment_are_those_given() {
    let output = shell("cat; echo $ONE:$HOME >&2; pwd; exit 3")
        .env("ONE", "1")
        .stdin("in\n")
        .run()
        .await
        .unwrap();
    assert_eq!(output.status, Exit::Code(3));
    assert_eq!(output.stdout, b"in\n/\n");
    assert_eq!(output.stderr, b"1:\n");
    let error = output.success().unwrap_err().to_string();
    assert!(error.ends_with("ended with exit status 3: 1:"), "{error}");
    let killed = shell("kill -9 $$").run().await.unwrap().status;
    assert_eq!((killed, killed.shell_code()), (Exit::Signal(9), 137));
}

#[tokio::test]
async fn large_input_and_output_do_not_block_each_other() {
    let bytes = vec![b'x'; 700_000];
    let output = Command::new("/bin/cat").stdin(bytes.clone()).run().await.unwrap();
    assert_eq!(output.stdout, bytes);
    let deaf = Command::new("/bin/true").stdin(bytes).run().await.unwrap();
    assert!(deaf.status.is_success());
}

#[tokio::test]
async fn a_timeout_kills_the_whole_group() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pid");
    let script = format!(
        "trap '' TERM; (trap '' TERM; while :; do sleep 1; done) & echo $! >{}; echo why >&2; wait",
        file.display()
    );
    let begun = Instant::now();
    let error = shell(&script).env("PATH", "/bin").timeout(Duration::from_millis(300)).run().await;
    let error = error.unwrap_err();
    assert!(matches!(error, ProcessError::TimedOut { .. }), "{error}");
    assert!(error.to_string().ends_with("was killed: why"), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(3));
    let grandchild = std::fs::read_to_string(&file).unwrap().trim().parse().unwrap();
    assert!(gone(grandchild).await);
}

#[tokio::test]
async fn a_dropped_future_kills_and_reaps() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pid");
    let run = shell(&format!("echo $$ >{}; exec sleep 100", file.display())).env("PATH", "/bin");
    let task = tokio::spawn(run.run());
    let pid: i32 = loop {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        if let Ok(pid) = text.trim().parse() {
            break pid;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    task.abort();
    let table = PathBuf::from(format!("/proc/{pid}"));
    for _ in 0..500 {
        if !table.exists() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{pid} is still in the process table");
}

#[tokio::test]
async fn too_much_output_is_refused_and_the_child_killed() {
    let begun = Instant::now();
    let error = shell("while :; do echo y; done").output_limit(1000).run().await.unwrap_err();
    assert!(matches!(error, ProcessError::TooMuchOutput { limit: 1000, .. }), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(3));
}

#[tokio::test]
async fn a_process_left_behind_is_not_waited_for() {
    let begun = Instant::now();
    let output = shell("echo done; sleep 5 &").env("PATH", "/bin").run().await.unwrap();
    assert_eq!(output.stdout, b"done\n");
    assert!(begun.elapsed() < Duration::from_secs(3));
}

#[tokio::test]
async fn only_inherited_descriptors_are_open_in_the_child() {
    let (kept, other) = (std::fs::File::open("/dev/zero").unwrap(), io::stdin());
    // A descriptor that some library opened without close-on-exec.
    let leaked = nix::unistd::dup(other.as_fd()).unwrap();
    let number = kept.as_raw_fd();
    let output = shell("cd /proc/self/fd && echo *").inherit(kept.into()).run().await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let open: Vec<i32> = text.split_whitespace().map(|word| word.parse().unwrap()).collect();
    assert!(open.contains(&number), "{open:?}");
    assert!(!open.contains(&leaked.as_raw_fd()), "{open:?}");
}

fn kept(script: &str) -> Kept {
    let command = shell(script).env("PATH", "/bin");
    command.spawn_kept(Stdio::null(), Stdio::piped(), Stdio::piped()).unwrap()
}

#[tokio::test]
async fn a_keeper_tells_the_end_of_an_orphan() {
    // The shell leaves, as a runtime does, and its child ends after it.
    let mut kept = kept("(sleep 0.2; exit 7) & echo $!");
    let mut pid = String::new();
    let stdout = kept.take_stdout().unwrap();
    std::io::Read::read_to_string(&mut std::fs::File::from(stdout), &mut pid).unwrap();
    let orphan: i32 = pid.trim().parse().unwrap();
    let program = kept.report().await.unwrap().unwrap();
    assert_eq!(program.exit, Exit::Code(-1));
    let mut ends = Vec::new();
    while let Some(report) = kept.report().await.unwrap() {
        ends.push(report);
    }
    assert!(ends.contains(&Report { pid: program.pid, exit: Exit::Code(0) }), "{ends:?}");
    assert!(ends.contains(&Report { pid: orphan, exit: Exit::Code(7) }), "{ends:?}");
}

#[tokio::test]
async fn a_dropped_keeper_leaves_nothing_below_it() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pids");
    // One in a session of its own, one that forked on, both deaf; their parents are gone.
    let script = format!(
        "setsid sh -c 'trap \"\" TERM HUP; sleep 100 & echo $$ $! >>{0}; wait' &
         sh -c 'trap \"\" TERM; echo $$ >>{0}; exec sleep 100' & exit 0",
        file.display()
    );
    let kept = kept(&script);
    let pids: Vec<i32> = loop {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        let pids: Vec<i32> = text.split_whitespace().map(|pid| pid.parse().unwrap()).collect();
        if pids.len() == 3 && text.ends_with('\n') {
            break pids;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert!(pids.iter().all(|pid| lives(*pid)));
    drop(kept);
    for pid in pids {
        assert!(gone(pid).await, "{pid} lives");
    }
}

#[tokio::test]
async fn a_missing_program_is_named() {
    let kept = Command::new("/no/such").spawn_kept(Stdio::null(), Stdio::null(), Stdio::null());
    assert!(matches!(kept, Err(ProcessError::Start { .. })));
    let error = Command::new("/no/such").arg("a b").run().await.unwrap_err();
    assert_eq!(error.to_string(), "cannot start /no/such a b");
}

#[test]
fn shown_output_is_short_and_printable() {
    assert_eq!(readable(b"\x1b[31mred\r\nline\n"), "[31mred line");
    let long = "é".repeat(600);
    assert_eq!(readable(long.as_bytes()).chars().count(), 500);
}
