use super::*;

fn request(directory: &Path) -> Pin {
    Pin {
        directory: directory.to_owned(),
        name: "pod-1".to_owned(),
        user: None,
        net: true,
        ipc: true,
        uts: true,
        hostname: Some("inside".to_owned()),
        sysctls: vec![
            ("net.ipv4.ip_local_port_range".to_owned(), "2000 3000".to_owned()),
            ("kernel.shmmax".to_owned(), "65537".to_owned()),
        ],
    }
}

/// A directory whose mounts go with it.
struct Directory(tempfile::TempDir);

impl Directory {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        for kind in ["netns", "ipcns", "utsns"] {
            let _ = nix::mount::umount2(&self.path().join(kind), MntFlags::MNT_DETACH);
        }
    }
}

fn skip() -> bool {
    let skip = !nix::unistd::geteuid().is_root();
    if skip {
        eprintln!("SKIPPED: making namespaces needs root");
    }
    skip
}

#[test]
fn namespaces_are_pinned_set_up_entered_and_released() {
    if skip() {
        return;
    }
    let directory = Directory::new();
    let host_shmmax = std::fs::read_to_string("/proc/sys/kernel/shmmax").unwrap();
    let pinned = pin(request(directory.path())).unwrap();
    assert!(pinned.paths().all(is_pinned));
    assert_eq!(pinned.paths().count(), 3);
    let net = pinned.net.clone().unwrap();
    let (range, flags) = run_in(&net, || {
        (
            std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range"),
            std::fs::read_to_string("/proc/thread-self/net/if_inet6"),
        )
    })
    .unwrap();
    assert_eq!(range.unwrap().split_whitespace().collect::<Vec<_>>(), ["2000", "3000"]);
    if let Ok(addresses) = flags {
        assert!(addresses.contains("lo"), "the loopback interface is down: {addresses:?}");
    }
    assert!(run_in(&net, || std::net::TcpListener::bind("127.0.0.1:0").is_ok()).unwrap());
    // The host keeps what it had.
    assert_eq!(std::fs::read_to_string("/proc/sys/kernel/shmmax").unwrap(), host_shmmax);
    assert_ne!(nix::unistd::gethostname().unwrap(), "inside");

    // A second pod of the name is an error that leaves the first alone.
    assert!(matches!(pin(request(directory.path())), Err(NamespaceError::Pin { .. })));
    assert!(pinned.paths().all(is_pinned));

    pinned.unpin().unwrap();
    pinned.unpin().unwrap();
    assert!(!net.exists());
}

#[test]
fn what_is_asked_for_wrongly_leaves_nothing() {
    let directory = Directory::new();
    let cases: [fn(&mut Pin); 6] = [
        |pin| pin.name = "../etc".to_owned(),
        |pin| pin.name = String::new(),
        |pin| pin.uts = false,
        |pin| pin.sysctls = vec![("net.ipv4/../../kernel.core_pattern".into(), "x".into())],
        |pin| pin.sysctls = vec![("kernel.core_pattern".into(), "|/bin/sh".into())],
        |pin| pin.net = false,
    ];
    for spoil in cases {
        let mut request = request(directory.path());
        spoil(&mut request);
        let error = pin(request).unwrap_err();
        assert_eq!(error.kind(), Kind::InvalidRequest, "{error}");
    }
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn a_setting_that_the_kernel_refuses_leaves_nothing() {
    if skip() {
        return;
    }
    let directory = Directory::new();
    let mut request = request(directory.path());
    request.sysctls = vec![("net.ipv4.no_such_thing".into(), "1".into())];
    let error = pin(request).unwrap_err();
    assert!(error.to_string().contains("net.ipv4.no_such_thing"), "{error}");
    assert_eq!(std::fs::read_dir(directory.path().join("netns")).unwrap().count(), 0);
}
