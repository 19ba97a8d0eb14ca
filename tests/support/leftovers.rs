//! What pods of a story's daemon can leave on a host: found by the daemon's directory and by the
//! story's token, named one in a line, and taken away in the end.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

use nix::mount::MntFlags;
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::host;
use super::net;

/// Where libcni keeps results; the daemon has no setting for it.
const CNI_RESULTS: &str = "/var/lib/cni/results";

/// Everything of pods that is there. The daemon itself is not a leftover.
pub(crate) fn found(directory: &Path, token: &str, daemon: Option<i32>) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let others = processes(directory, token).into_iter().filter(|(pid, _)| Some(*pid) != daemon);
    found.extend(others.map(|(pid, text)| format!("process {pid} {text}")));
    // These are mounts of their own for as long as the node is up, whatever pods come and go.
    let stay = ["storage/overlay", "ns/netns", "ns/ipcns", "ns/utsns", "ns/pidns", "ns/userns"];
    let stay = stay.map(|name| directory.join(name));
    let pods = mounts(directory).into_iter().filter(|path| !stay.contains(path));
    found.extend(pods.map(|path| format!("mount {}", path.display())));
    let ports = net::interfaces().into_iter().filter(|name| name.starts_with("veth"));
    found.extend(ports.map(|name| format!("interface {name}")));
    found.extend(addresses(directory).into_iter().map(|name| format!("address {name}")));
    found.extend(results(token).into_iter().map(|path| format!("result {}", path.display())));
    found.extend(rules().into_iter().map(|rule| format!("rule {rule}")));
    // A pod's parent is the kubelet's; what is below it with an id is ours.
    let pods = cgroups(token).into_iter().filter(|path| has_id(path));
    found.extend(pods.map(|path| format!("cgroup {}", path.display())));
    let places = [
        "ns/netns",
        "ns/ipcns",
        "ns/utsns",
        "ns/pidns",
        "ns/userns",
        "runc",
        "exits",
        "attach",
        "attach/exec",
    ];
    for name in places {
        let kept = directory.join("attach/exec");
        let left = entries(&directory.join(name)).filter(|path| *path != kept);
        found.extend(left.map(|path| format!("file {}", path.display())));
    }
    found
}

/// Whether a cgroup is named after a container or sandbox.
fn has_id(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.split(['-', '.']).any(|part| part.len() == 64)
}

/// Takes away what is there, after a story that failed too.
pub(crate) fn remove(directory: &Path, token: &str) {
    let end = Instant::now() + Duration::from_secs(10);
    while Instant::now() < end {
        let left = processes(directory, token);
        if left.is_empty() {
            break;
        }
        for (pid, _) in left {
            let _ = nix::sys::signal::kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    // The last that was mounted goes first.
    for path in mounts(directory).iter().rev() {
        let _ = nix::mount::umount2(path, MntFlags::MNT_DETACH);
    }
    for path in results(token) {
        let _ = fs::remove_file(path);
    }
    for path in cgroups(token) {
        let _ = fs::remove_dir(path);
    }
}

/// What a process of [`found`] is doing now, for whoever wonders why it is there: its state, where
/// it waits in the kernel, its parent and its name. Nothing for what is no process.
pub(crate) fn condition(line: &str) -> String {
    let Some(pid) = line.strip_prefix("process ").and_then(|rest| rest.split(' ').next()) else {
        return String::new();
    };
    let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
    let status = read("status");
    let wanted = ["Name:", "State:", "PPid:", "Threads:"];
    let fields = status.lines().filter(|line| wanted.iter().any(|name| line.starts_with(name)));
    let fields: Vec<_> = fields.map(|line| line.replace('\t', " ")).collect();
    format!(" [{}; waits in {:?}]", fields.join(", "), read("wchan"))
}

/// The processes that name the directory, or are in the story's cgroups; zombies are gone already.
fn processes(directory: &Path, token: &str) -> Vec<(i32, String)> {
    let within = format!("{}/", directory.display());
    let numbers = entries(Path::new("/proc"))
        .filter_map(|path| path.file_name()?.to_str()?.parse::<i32>().ok());
    numbers
        .filter_map(|pid| {
            let read = |name: &str| {
                fs::read(format!("/proc/{pid}/{name}"))
                    .map(|bytes| String::from_utf8_lossy(&bytes).replace('\0', " "))
                    .unwrap_or_default()
            };
            let text = read("cmdline");
            let ours = text.contains(&within) || read("cgroup").contains(token);
            let state = read("stat");
            let zombie = state.rsplit(')').next().is_some_and(|rest| rest.starts_with(" Z"));
            let test = i32::try_from(std::process::id()).is_ok_and(|test| test == pid);
            (ours && !zombie && !test).then(|| (pid, text.chars().take(200).collect()))
        })
        .collect()
}

/// The mounts below the directory, in the order they were made.
fn mounts(directory: &Path) -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/thread-self/mountinfo").unwrap_or_default();
    table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|text| PathBuf::from(text.replace("\\040", " ")))
        .filter(|path| path.starts_with(directory) && path != directory)
        .collect()
}

/// The addresses that host-local holds.
fn addresses(directory: &Path) -> Vec<String> {
    entries(&directory.join("ipam"))
        .flat_map(|network| entries(&network).collect::<Vec<_>>())
        .filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()))
        .filter(|name| name.parse::<std::net::IpAddr>().is_ok())
        .collect()
}

fn results(token: &str) -> Vec<PathBuf> {
    let begins = format!("{token}-");
    let is_ours = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&begins))
    };
    entries(Path::new(CNI_RESULTS)).filter(is_ours).collect()
}

/// The rules for host ports and pods' addresses, in the network of the story.
fn rules() -> BTreeSet<String> {
    let of_pods = |line: &&str| line.contains("dport") || line.contains("10.85.0.");
    let mut all = BTreeSet::new();
    for (program, arguments) in [("iptables-save", &[][..]), ("nft", &["list", "ruleset"])] {
        if host::program(program).is_some() {
            let output = host::output(program, arguments);
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            all.extend(text.lines().filter(of_pods).map(|line| line.trim().to_owned()));
        }
    }
    all
}

/// The story's cgroups in every hierarchy, the innermost first.
fn cgroups(token: &str) -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/thread-self/mountinfo").unwrap_or_default();
    let is_cgroup =
        |line: &&str| line.split(" - ").nth(1).is_some_and(|kind| kind.starts_with("cgroup"));
    let roots: BTreeSet<&str> =
        table.lines().filter(is_cgroup).filter_map(|line| line.split(' ').nth(4)).collect();
    let mut all = Vec::new();
    for root in roots {
        gather(&Path::new(root).join(token), &mut all);
    }
    all
}

fn gather(directory: &Path, all: &mut Vec<PathBuf>) {
    if !directory.is_dir() {
        return;
    }
    for path in entries(directory).filter(|path| path.is_dir()) {
        gather(&path, all);
    }
    all.push(directory.to_owned());
}

fn entries(directory: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path())
}
