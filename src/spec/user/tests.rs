//! Users and groups, and images that lie about them.

use super::*;

const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\nweb:x:101:102:Web:/srv/web:/bin/false\n";
const GROUP: &[u8] = b"root:x:0:\nweb:x:102:\nlogs:x:200:other,web\nextra:x:201:web\n";
const FILES: UserFiles<'_> = UserFiles { passwd: Some(PASSWD), group: Some(GROUP) };

fn check(request: &RunAs, image: &str, expected: Result<(u32, u32, &[u32]), &str>) {
    match (resolve(request, image, None, FILES), expected) {
        (Ok(found), Ok((uid, gid, groups))) => {
            assert_eq!((found.uid, found.gid), (uid, gid), "{image}");
            assert_eq!(found.additional_gids, groups, "{image}");
        }
        (Err(error), Err(word)) => assert!(error.to_string().contains(word), "{error}"),
        (found, _) => panic!("{image}: {found:?}, expected {expected:?}"),
    }
}

fn id(user: u32) -> RunAs {
    RunAs { user: Some(user), ..RunAs::default() }
}

#[test]
fn the_image_s_user_is_found_by_name_or_number() {
    let nobody_asks = RunAs::default();
    check(&nobody_asks, "", Ok((0, 0, &[0])));
    check(&nobody_asks, "web", Ok((101, 102, &[102, 200, 201])));
    check(&nobody_asks, "101", Ok((101, 102, &[102, 200, 201])));
    check(&nobody_asks, "web:logs", Ok((101, 200, &[200])));
    check(&nobody_asks, "web:7", Ok((101, 7, &[7])));
    check(&nobody_asks, "5000", Ok((5000, 0, &[0])));
    check(&nobody_asks, "5000:6000", Ok((5000, 6000, &[6000])));
    check(&nobody_asks, "ghost", Err("no user \"ghost\""));
    check(&nobody_asks, "web:ghosts", Err("no group \"ghosts\""));
}

#[test]
fn the_request_wins_over_the_image() {
    check(&id(0), "web", Ok((0, 0, &[0])));
    check(&id(3), "web:logs", Ok((3, 0, &[0])));
    let named = RunAs { username: "web".into(), ..id(0) };
    check(&named, "", Ok((101, 102, &[102, 200, 201])));
    let grouped = RunAs { group: Some(9), supplemental_groups: vec![9, 10, 10], ..id(101) };
    check(&grouped, "", Ok((101, 9, &[9, 200, 201, 10])));
    let alone = RunAs { group: Some(9), ..RunAs::default() };
    check(&alone, "web", Err("without a user"));
}

#[test]
fn strict_takes_no_group_from_the_image() {
    let strict = RunAs {
        groups_policy: SupplementalGroupsPolicy::Strict,
        supplemental_groups: vec![300],
        ..id(101)
    };
    check(&strict, "", Ok((101, 102, &[102, 300])));
}

#[test]
fn an_id_above_the_range_does_not_become_root_cve_2024_40635() {
    for user in ["4294967295", "4294967296", "2147483648", "-1", "99999999999999999999", "+5x:-2"] {
        assert!(resolve(&RunAs::default(), user, None, FILES).is_err(), "{user}");
    }
    check(&RunAs::default(), "2147483647", Ok((2_147_483_647, 0, &[0])));
    check(&RunAs::default(), "0:4294967296", Err("highest id"));
    check(&id(u32::MAX), "", Err("highest id"));
    check(&RunAs { group: Some(u32::MAX), ..id(1) }, "", Err("highest id"));
    check(&RunAs { supplemental_groups: vec![u32::MAX], ..id(1) }, "", Err("highest id"));
}

#[test]
fn a_number_as_a_name_in_the_image_does_not_give_root() {
    let passwd = b"1000:x:0:0::/:/bin/sh\n4294967295:x:0:0::/:\n";
    let files = UserFiles { passwd: Some(passwd), group: Some(b"1000:x:0:\n") };
    let found = resolve(&id(1000), "", None, files).unwrap();
    assert_eq!((found.uid, found.gid), (1000, 0));
    let found = resolve(&RunAs::default(), "1000:1000", None, files).unwrap();
    assert_eq!((found.uid, found.gid), (1000, 1000));
    assert!(resolve(&RunAs::default(), "4294967295", None, files).is_err());
}

#[test]
fn hostile_files_are_bounded_and_lines_that_do_not_parse_are_not_there() {
    let huge = vec![b'a'; LARGEST_FILE + 1];
    let files = UserFiles { passwd: Some(&huge), group: None };
    assert!(matches!(
        resolve(&id(0), "", None, files).unwrap_err(),
        SpecError::TooLarge { most: LARGEST_FILE, .. }
    ));
    let odd = b"a\nb:x\nc:x:-1:0::/:\nd:x:9999999999:0::\n\xff\xfe:x:7:7::/:\nweb:x:5:6:::\n\n:x:0:0::/:\n";
    let files = UserFiles { passwd: Some(odd), group: Some(odd) };
    let found = resolve(&RunAs::default(), "web", None, files).unwrap();
    assert_eq!((found.uid, found.gid, found.home.as_str()), (5, 6, "/"));
    assert!(resolve(&RunAs::default(), "c", None, files).is_err());
    assert_eq!(resolve(&id(7), "", None, files).unwrap().username, "");
}

#[test]
fn a_user_without_a_line_gets_one_that_adds_no_other() {
    let line = |image: &str, home: Option<&str>| {
        resolve(&RunAs::default(), image, home, FILES).unwrap().passwd_line
    };
    assert_eq!(line("web", None), None);
    assert_eq!(line("77", None).unwrap(), "77:x:77:0:77 user:/:/sbin/nologin");
    // A line that begins with a sign is an instruction to nss_compat.
    assert_eq!(line("+77", None).unwrap(), "77:x:77:0:77 user:/:/sbin/nologin");
    assert_eq!(line("77:88", Some("/h")).unwrap(), "77:x:77:88:77 user:/h:/sbin/nologin");
    for home in ["/h:/bin/sh", "/h\nroot2:x:0:0::/:/bin/sh"] {
        assert_eq!(line("77", Some(home)).unwrap(), "77:x:77:0:77 user:/:/sbin/nologin");
    }
    let none = resolve(&id(77), "", None, UserFiles::default()).unwrap();
    assert_eq!((none.passwd_line, none.group_line), (None, None));
    let request = RunAs { group: Some(88), ..id(77) };
    let found = resolve(&request, "", None, FILES).unwrap();
    assert_eq!(found.group_line.unwrap(), "88:x:88:");
    assert_eq!(found.passwd_line.unwrap(), "77:x:77:0:77 user:/:/sbin/nologin");
}
