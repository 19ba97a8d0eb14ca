//! Profiles: the built-in one, those found in the field, and those of two minds.

use super::*;

fn flat(profile: &Profile, names: &[&str], machine: &str) -> LinuxSeccomp {
    let capabilities = names.iter().filter_map(|name| capabilities::parse(name)).collect();
    profile.flatten(&capabilities, Architecture::named(machine)).unwrap()
}

fn rules<'a>(seccomp: &'a LinuxSeccomp, name: &str) -> Vec<&'a LinuxSyscall> {
    let calls = seccomp.syscalls().as_ref().unwrap();
    calls.iter().filter(|call| call.names().iter().any(|known| known == name)).collect()
}

#[test]
fn the_built_in_profile_is_read_and_denies_what_it_does_not_know() {
    let profile = Profile::parse("builtin", BUILTIN).unwrap();
    let seccomp = flat(&profile, &[], "x86_64");
    assert_eq!(seccomp.default_action(), LinuxSeccompAction::ScmpActErrno);
    assert_eq!(seccomp.default_errno_ret(), Some(38));
    let arches = seccomp.architectures().as_ref().unwrap();
    assert_eq!(arches[..], [Arch::ScmpArchX86_64, Arch::ScmpArchX86, Arch::ScmpArchX32]);
    assert!(seccomp.syscalls().as_ref().unwrap().len() > 20);
    let read = rules(&seccomp, "read");
    assert_eq!((read.len(), read[0].action()), (1, LinuxSeccompAction::ScmpActAllow));
    assert!(rules(&seccomp, "kexec_load").iter().all(|rule| rule.errno_ret() == Some(1)));
    assert!(flat(&profile, &[], "riscv64").architectures().is_none());
}

#[test]
fn no_new_user_namespace_without_sys_admin() {
    let profile = Profile::builtin();
    let plain = flat(&profile, &["CHOWN"], "x86_64");
    assert!(rules(&plain, "unshare").is_empty());
    let clone3 = rules(&plain, "clone3");
    assert_eq!((clone3.len(), clone3[0].errno_ret()), (1, Some(38)));
    let clone = rules(&plain, "clone");
    assert_eq!(clone.len(), 2);
    let allowed = clone[0].args().as_ref().unwrap();
    assert_eq!((allowed[0].index(), allowed[0].value()), (0, 0x7e02_0000));
    assert_eq!(clone[1].args().as_ref().unwrap().len(), 7);
    let admin = flat(&profile, &["SYS_ADMIN"], "x86_64");
    for call in ["unshare", "clone3", "clone", "setns"] {
        let free = |rule: &&LinuxSyscall| {
            rule.args().is_none() && rule.action() == LinuxSeccompAction::ScmpActAllow
        };
        assert!(rules(&admin, call).iter().any(free), "{call}");
    }
    // There the flags are the second argument.
    let s390x = flat(&profile, &[], "s390x");
    assert!(
        rules(&s390x, "clone").iter().all(|rule| rule.args().as_ref().unwrap()[0].index() == 1)
    );
}

#[test]
fn rules_hold_by_machine() {
    let profile = Profile::builtin();
    assert_eq!(rules(&flat(&profile, &[], "x86_64"), "arch_prctl").len(), 1);
    assert!(rules(&flat(&profile, &[], "aarch64"), "arch_prctl").is_empty());
    assert_eq!(rules(&flat(&profile, &[], "riscv64"), "riscv_flush_icache").len(), 1);
}

#[test]
fn a_profile_of_two_minds_is_refused() {
    for (text, word) in [
        (r#"{"defaultAction":"SCMP_ACT_ALLOW","defaultAction":"SCMP_ACT_ERRNO"}"#, "read"),
        (r#"{"defaultAction":"SCMP_ACT_PERMIT"}"#, "read"),
        (r#"{"syscalls":[]}"#, "no default action"),
        (r#"{"defaultAction":"SCMP_ACT_ERRNO","syscall":[]}"#, "read"),
        (
            r#"{"defaultAction":"SCMP_ACT_ERRNO","architectures":["SCMP_ARCH_X86"],
            "archMap":[{"architecture":"SCMP_ARCH_X86"}]}"#,
            "either",
        ),
        (r#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"action":"SCMP_ACT_ALLOW"}]}"#, "name"),
        (
            r#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"name":"a","names":["b"],
            "action":"SCMP_ACT_ALLOW"}]}"#,
            "name",
        ),
        (
            r#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"name":"a","action":"SCMP_ACT_ALLOW",
            "includes":{"caps":["CAP_NOPE"]}}]}"#,
            "CAP_NOPE",
        ),
        (
            r#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"name":"a","action":"SCMP_ACT_ALLOW",
            "includes":{"uids":[1]}}]}"#,
            "read",
        ),
        (r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrno":"EWHAT"}"#, "EWHAT"),
    ] {
        let error = Profile::parse("/p.json", text.as_bytes()).unwrap_err().to_string();
        assert!(error.contains("/p.json") && error.contains(word), "{text}: {error}");
    }
    assert!(Profile::parse("/p.json", &vec![b' '; LARGEST_PROFILE + 1]).is_err());
}

#[test]
fn a_profile_as_found_in_the_field_is_read() {
    let text = br#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrno":"EPERM",
        "architectures":["SCMP_ARCH_X86_64"],"comment":"x","flags":["SECCOMP_FILTER_FLAG_LOG"],
        "syscalls":[{"names":["read","write"],"action":"SCMP_ACT_ALLOW","args":null,"comment":""},
        {"name":"chmod","action":"SCMP_ACT_ERRNO","errno":"13","args":[],"includes":{"minKernel":"4.8"}}]}"#;
    let seccomp = flat(&Profile::parse("/p.json", text).unwrap(), &[], "x86_64");
    assert_eq!(seccomp.default_errno_ret(), Some(1));
    assert_eq!(rules(&seccomp, "chmod")[0].errno_ret(), Some(13));
    assert!(rules(&seccomp, "read")[0].args().is_none());
}

#[test]
fn a_foreign_profile_names_no_listener_of_the_node() {
    for text in [
        r#"{"defaultAction":"SCMP_ACT_NOTIFY","listenerPath":"/run/x"}"#,
        r#"{"defaultAction":"SCMP_ACT_NOTIFY","listenerMetadata":"x"}"#,
    ] {
        Profile::parse("/p.json", text.as_bytes()).unwrap();
        let error = Profile::parse_foreign("q.io/p:1", text.as_bytes()).unwrap_err().to_string();
        assert!(error.contains("q.io/p:1") && error.contains("listener"), "{error}");
    }
    Profile::parse_foreign("q.io/p:1", br#"{"defaultAction":"SCMP_ACT_ALLOW"}"#).unwrap();
}
