//! An image's user files and its wish: no line break and no second line comes out.

#![no_main]

use crioxide::model::security::RunAs;
use crioxide::spec::user;
use crioxide::spec::user::UserFiles;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, &[u8], &[u8], Option<&str>)| {
    let (wish, passwd, group, home) = input;
    let files = UserFiles { passwd: Some(passwd), group: Some(group) };
    let Ok(found) = user::resolve(&RunAs::default(), wish, home, files) else { return };
    assert!(found.uid <= i32::MAX as u32 && found.gid <= i32::MAX as u32);
    for line in found.passwd_line.iter().chain(&found.group_line) {
        assert!(!line.chars().any(char::is_control), "{line:?}");
        assert!(!line.starts_with(['+', '-']), "{line:?} means something else to the C library");
    }
    if let Some(line) = &found.passwd_line {
        assert_eq!(line.split(':').count(), 7, "{line:?}");
    }
});
