use super::*;

#[test]
fn a_parent_becomes_a_path() {
    use CgroupManager::Cgroupfs;
    use CgroupManager::Systemd;
    for (manager, parent, expected) in [
        (
            Systemd,
            "kubepods-burstable-pod1.slice",
            Some("/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice"),
        ),
        (
            Systemd,
            "/kubepods.slice/kubepods-pod_2.slice",
            Some("/kubepods.slice/kubepods-pod_2.slice"),
        ),
        (Systemd, "-.slice", Some("/")),
        (Systemd, "", Some("/system.slice")),
        (Systemd, "/kubepods/pod1", None),
        (Systemd, "a--b.slice", None),
        (Systemd, ".slice", None),
        (Systemd, "/", None),
        (Cgroupfs, "", Some("/crio")),
        (Cgroupfs, "/kubepods/burstable/pod1", Some("/kubepods/burstable/pod1")),
        (Cgroupfs, "kubepods//pod1/", Some("/kubepods/pod1")),
        (Cgroupfs, "/kubepods/../../etc", None),
        (Cgroupfs, "kubepods.slice", None),
    ] {
        let path = parent_path(manager, parent);
        assert_eq!(path.as_ref().ok().map(CgroupPath::as_str), expected, "{manager} {parent:?}");
        if let Err(error) = path {
            let text = error.to_string();
            assert!(text.contains(&manager.to_string()) && text.contains(parent), "{text}");
        }
    }
}

#[test]
fn a_container_is_named_as_the_runtime_wants_it() {
    use CgroupManager::Cgroupfs;
    use CgroupManager::Systemd;
    assert_eq!(cgroups_path(Systemd, "/a.slice/a-b.slice", "7").unwrap(), "a-b.slice:crio:7");
    assert_eq!(cgroups_path(Systemd, "", "7").unwrap(), "system.slice:crio:7");
    assert_eq!(cgroups_path(Cgroupfs, "/pods/1", "7").unwrap(), "/pods/1/crio-7");
    assert_eq!(cgroups_path(Cgroupfs, "", "7").unwrap(), "/crio/crio-7");
    assert_eq!(
        container_path(Systemd, "a-b.slice", "7").unwrap().as_str(),
        "/a.slice/a-b.slice/crio-7.scope"
    );
    assert_eq!(monitor_path("", "7").unwrap().as_str(), "/crio/crio-conmon-7");
    assert_eq!(
        scope("a.slice", "crio-conmon", "7").unwrap(),
        ("a.slice".to_owned(), "crio-conmon-7.scope".to_owned())
    );
}

#[test]
fn mounts_tell_the_version() {
    let v2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";
    let found = Cgroups::parse(v2).unwrap();
    assert_eq!((found.version(), found.hierarchies.len()), (Version::V2, 1));
    let hybrid = "\
        31 30 0:27 / /sys/fs/cgroup/cpuset rw shared:9 - cgroup cgroup rw,cpuset\n\
        32 30 0:28 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n\
        33 30 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
        34 30 0:30 / /proc rw - proc proc rw\n";
    let found = Cgroups::parse(hybrid).unwrap();
    assert_eq!((found.version(), found.hierarchies.len()), (Version::V1, 3));
    assert_eq!(found.hierarchies.iter().filter(|hierarchy| hierarchy.has("cpuset")).count(), 1);
    assert!(Cgroups::parse("34 30 0:30 / /proc rw - proc proc rw\n").is_none());
}

#[tokio::test]
async fn a_cgroup_is_made_entered_read_and_removed_with_its_children() {
    let writable = nix::unistd::geteuid().is_root();
    let Some(cgroups) = Cgroups::mounted().ok().filter(|_| writable) else {
        eprintln!("SKIPPED: making cgroups needs root and a cgroup filesystem");
        return;
    };
    let path = CgroupPath::parse(&format!("/crio-test-{}", std::process::id())).unwrap();
    let below = path.join("below");
    cgroups.create(&below).unwrap();
    cgroups.create(&below).unwrap();
    let sleep = crate::sys::process::Command::new("/bin/sleep").arg("0.3");
    let null = std::process::Stdio::null;
    let mut child = sleep.spawn(null(), null(), null()).unwrap();
    let pid = child.pid().unwrap();
    cgroups.attach(&below, pid).unwrap();
    assert_eq!(cgroups.processes(&path).unwrap(), BTreeSet::from([pid]));
    // The removal begins while the process still lives, and waits for its end.
    let (removed, exit) = tokio::join!(cgroups.remove(&path), child.wait());
    removed.unwrap();
    assert!(exit.unwrap().is_success());
    assert!(cgroups.directories(&path).all(|directory| !directory.exists()));
    cgroups.remove(&path).await.unwrap();
    assert!(cgroups.processes(&path).unwrap().is_empty());
}
