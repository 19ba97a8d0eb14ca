//! What this host can do, and programs of it that the stories use.

use std::ffi::OsStr;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Output;
use std::time::Duration;
use std::time::Instant;

/// Where distributions put CNI plugins.
const CNI_DIRECTORIES: [&str; 4] =
    ["/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni", "/usr/lib/x86_64-linux-gnu/cni"];

/// Names what a story cannot do without: `root`, `cni`, or a program.
///
/// A story that cannot be told fails and says why, unless `CRIO_TESTS_MAY_MISS` (a list with
/// commas) names what is missing; then it says so and is over. Gives whether it can be told.
pub(crate) fn can(needs: &[&str]) -> bool {
    let may_miss = std::env::var("CRIO_TESTS_MAY_MISS").unwrap_or_default();
    let missing: Vec<_> = needs.iter().copied().filter(|need| !has(need)).collect();
    let Some(first) = missing.first() else { return true };
    let excused = missing.iter().all(|need| may_miss.split(',').any(|name| name == *need));
    assert!(
        excused,
        "NOT TESTED: this host has no {first} (CRIO_TESTS_MAY_MISS={first} allows that)"
    );
    eprintln!("NOT TESTED: this host has no {missing:?}");
    false
}

fn has(need: &str) -> bool {
    match need {
        "root" => nix::unistd::Uid::effective().is_root(),
        "cni" => cni_directory().is_some(),
        program => self::program(program).is_some(),
    }
}

/// The directory of the CNI plugins.
pub(crate) fn cni_directory() -> Option<PathBuf> {
    CNI_DIRECTORIES.iter().map(PathBuf::from).find(|path| path.join("bridge").is_file())
}

/// A program's path, from `PATH` and where programs of an administrator are.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let built = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/conformance/bin");
    let more =
        ["/usr/sbin", "/sbin", "/usr/bin", "/usr/libexec/podman", "/usr/libexec/crio", built];
    std::env::split_paths(&path)
        .chain(more.map(PathBuf::from))
        .map(|directory| directory.join(name))
        .find(|path| path.is_file())
}

/// Whether the one cgroup tree of version 2 is mounted.
pub(crate) fn has_cgroup_v2() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").is_file()
}

/// Whether this process, and so a daemon it starts, may make processes safer from being killed for
/// memory than they are (`proc(5)`, `oom_score_adj`).
pub(crate) fn may_lower_oom_score() -> bool {
    caps::has_cap(None, caps::CapSet::Effective, caps::Capability::CAP_SYS_RESOURCE)
        .unwrap_or(false)
}

/// A command of the host, for the stories only.
#[allow(clippy::disallowed_methods, reason = "stories start programs as a user does")]
pub(crate) fn command(name: impl AsRef<OsStr>) -> Command {
    let name = name.as_ref();
    Command::new(name.to_str().and_then(program).unwrap_or_else(|| name.into()))
}

/// Runs a program to its end.
pub(crate) fn output(name: &str, arguments: &[&str]) -> Output {
    let result = command(name).args(arguments).output();
    result.unwrap_or_else(|error| panic!("cannot run {name}: {error}"))
}

/// Runs a program that must end well, and gives its output.
pub(crate) fn run(name: &str, arguments: &[&str]) -> String {
    let output = output(name, arguments);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name} {arguments:?}: {stderr}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Waits until the condition holds, at most so long.
#[track_caller]
pub(crate) fn eventually(what: &str, patience: Duration, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + patience;
    while !holds() {
        assert!(Instant::now() < end, "not within {patience:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// How many bytes of huge pages of 2 MB a container may use; `None` where cgroups do not limit them.
pub(crate) fn cgroup_limit_of_huge_pages(id: &str) -> Option<u64> {
    let found = output("find", &["/sys/fs/cgroup", "-path", &format!("*crio-{id}*/hugetlb.2MB.*")]);
    let text = String::from_utf8_lossy(&found.stdout).into_owned();
    let named = |path: &&str| path.ends_with("limit_in_bytes") || path.ends_with("2MB.max");
    let path = text.lines().find(named)?.to_owned();
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}
