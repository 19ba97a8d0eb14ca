//! Command, environment, directory and limits.

use super::*;

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(ToString::to_string).collect()
}

fn image(entrypoint: &[&str], cmd: &[&str]) -> RunConfig {
    let some = |part: &[&str]| (!part.is_empty()).then(|| words(part));
    RunConfig { entrypoint: some(entrypoint), cmd: some(cmd), ..RunConfig::default() }
}

#[test]
fn the_command_follows_the_kubelet_s_table() {
    let check = |command: &[&str], args: &[&str], image: &RunConfig, expected: &[&str]| {
        let config = ContainerConfig {
            command: words(command),
            args: words(args),
            ..ContainerConfig::default()
        };
        let found = arguments(&config, image);
        if expected.is_empty() {
            assert_eq!(found.unwrap_err().to_string(), "no command specified");
        } else {
            assert_eq!(found.unwrap(), expected);
        }
    };
    let both = image(&["/entry", "-e"], &["cmd"]);
    check(&[], &[], &both, &["/entry", "-e", "cmd"]);
    check(&[], &["arg"], &both, &["/entry", "-e", "arg"]);
    check(&["run"], &[], &both, &["run"]);
    check(&["run"], &["arg"], &both, &["run", "arg"]);
    check(&[], &[], &image(&[], &["cmd"]), &["cmd"]);
    check(&[], &["arg"], &image(&[], &[]), &["arg"]);
    check(&[], &[], &image(&[], &[]), &[]);
    check(&[], &[], &image(&[""], &[]), &[]);
}

#[test]
fn nul_in_an_argument_is_refused() {
    let config = ContainerConfig { command: words(&["a\0b"]), ..ContainerConfig::default() };
    assert!(arguments(&config, &RunConfig::default()).is_err());
}

#[test]
fn systemd_is_known_by_its_path() {
    assert!(runs_systemd(&words(&["/usr/sbin/init"])));
    assert!(runs_systemd(&words(&["/usr/lib/systemd/systemd", "--user"])));
    assert!(!runs_systemd(&words(&["/bin/sh", "/sbin/init"])));
}

#[test]
fn the_working_directory_is_absolute_and_stays_inside() {
    let check = |asked: &str, of_image: &str| {
        let config = ContainerConfig { working_dir: asked.into(), ..ContainerConfig::default() };
        let image = RunConfig { working_dir: of_image.into(), ..RunConfig::default() };
        directory(&config, &image)
    };
    assert_eq!(check("", "").unwrap(), "/");
    assert_eq!(check("", "app").unwrap(), "/app");
    assert_eq!(check("/x/../..", "/app").unwrap(), "/");
    assert!(check("", "/a\nb").is_err());
}

#[test]
fn a_working_directory_through_an_open_file_is_refused_cve_2024_21626() {
    for path in [
        "/proc/self/fd/7",
        "/proc/self/../1/fd/8/..",
        "//proc/thread-self/fd/7/",
        "/proc/1/root",
        "/dev/fd/9",
    ] {
        let image = RunConfig { working_dir: path.into(), ..RunConfig::default() };
        let found = directory(&ContainerConfig::default(), &image);
        assert!(found.is_err(), "{path}: {found:?}");
    }
    let image = RunConfig { working_dir: "/proc/selfish".into(), ..RunConfig::default() };
    assert!(directory(&ContainerConfig::default(), &image).is_ok());
}

#[test]
fn a_newline_in_home_adds_no_user_cve_2026_15809() {
    for bad in ["/\nroot2:x:0:0::/:/bin/sh", "/\r", "/\u{85}x", "/\u{0}"] {
        let of_request = ContainerConfig {
            env: vec![("HOME".into(), bad.into())],
            ..ContainerConfig::default()
        };
        assert!(home(&of_request, &RunConfig::default(), &[]).is_err(), "{bad:?}");
        let of_image = RunConfig { env: Some(vec![format!("HOME={bad}")]), ..RunConfig::default() };
        assert!(home(&ContainerConfig::default(), &of_image, &[]).is_err(), "{bad:?}");
    }
    let of_image =
        RunConfig { env: Some(words(&["HOME=/a", "X", "HOME=/b"])), ..RunConfig::default() };
    let defaults = [("HOME".to_owned(), "/d".to_owned())];
    let found = home(&ContainerConfig::default(), &of_image, &defaults).unwrap();
    assert_eq!(found.as_deref(), Some("/b"));
    assert_eq!(
        home(&ContainerConfig::default(), &RunConfig::default(), &defaults).unwrap().unwrap(),
        "/d"
    );
}

#[test]
fn limits_are_read_and_never_above_what_may_be_set() {
    let limit = parse_ulimit("nofile=1024:4096").unwrap();
    assert_eq!((limit.soft, limit.hard), (1024, 4096));
    assert_eq!(parse_ulimit("CORE=-1").unwrap().hard, u64::MAX);
    for bad in ["nofile", "files=1", "nofile=x", "nofile=2:1"] {
        assert!(parse_ulimit(bad).is_err(), "{bad}");
    }
    let host = HostFacts {
        hard_limits: vec![parse_ulimit("nofile=1000").unwrap()],
        ..HostFacts::default()
    };
    let clamped = limits(&[limit, parse_ulimit("core=5").unwrap()], &host);
    assert_eq!((clamped[0].soft, clamped[0].hard), (1000, 1000));
    assert_eq!(clamped[1].hard, 5);
}

#[test]
fn the_oom_score_is_raised_to_what_may_be_set_and_never_lowered() {
    let host = HostFacts { oom_score_floor: Some(0), ..HostFacts::default() };
    for (wanted, expected) in [(-997, 0), (0, 0), (1000, 1000), (i64::MAX, 1000)] {
        assert_eq!(oom_score(wanted, &host), expected);
    }
    assert_eq!(oom_score(-997, &HostFacts::default()), -997);
}

#[test]
fn a_further_process_keeps_the_rights_of_the_container() {
    let mut base = Spec::default();
    let mut process = Process::default();
    process.set_no_new_privileges(Some(true)).set_terminal(Some(true));
    base.set_process(Some(process.clone()));
    let found = exec(&base, words(&["ls", "-l"]), false).unwrap();
    process.set_args(Some(words(&["ls", "-l"]))).set_terminal(Some(false));
    assert_eq!(found, process);
    base.set_process(None);
    assert!(exec(&base, words(&["ls"]), false).is_err());
    assert!(exec(&Spec::default(), Vec::new(), false).is_err());
    assert!(exec(&Spec::default(), words(&["a\0"]), false).is_err());
}
