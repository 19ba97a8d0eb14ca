use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;
use std::time::SystemTime;

use super::*;

/// Writes a file, as someone else would.
fn write(path: impl AsRef<std::path::Path>, text: impl AsRef<[u8]>) {
    let durability = crate::sys::files::Durability::Process;
    crate::sys::files::replace(path.as_ref(), text.as_ref(), 0o644, durability).unwrap();
}

fn record(image: &str) -> Record {
    Record {
        time: SystemTime::UNIX_EPOCH + Duration::new(1_700_000_000, 5),
        event: "pull",
        mode: Mode::Enforce,
        verdict: Outcome::Refused,
        cause: "no_signature",
        pod: Some(Pod { namespace: "shop".into(), name: "api-0".into(), uid: "u1".into() }),
        container: None,
        image: image.to_owned(),
        reference: None,
        digest: None,
        image_id: None,
        policy: None,
        policy_digest: None,
        scope: None,
        signers: Vec::new(),
        signed: vec!["manifest sha256:1".to_owned()],
        log_indexes: vec![7],
        reason: "A signature was required".into(),
        duration: Duration::from_micros(1500),
    }
}

fn to_file(path: &Path, size_max: u64, count: u32) -> Audit {
    let file = Some(path.to_owned());
    Audit::new(Settings { file, size_max, count, ..Settings::default() })
}

fn lines(path: &Path) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_record_is_one_line_and_only_its_owner_reads_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("crio/audit.log");
    let audit = to_file(&path, 1 << 20, 2);
    audit.add(&record("q.io/a:1")).unwrap();
    audit.add(&record("q.io/b:1")).unwrap();
    let lines = lines(&path);
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["time"], "2023-11-14T22:13:20.000000005Z");
    assert_eq!((&lines[0]["event"], &lines[0]["mode"]), (&"pull".into(), &"enforce".into()));
    assert_eq!((&lines[0]["namespace"], &lines[0]["pod"]), (&"shop".into(), &"api-0".into()));
    assert_eq!(lines[1]["image"], "q.io/b:1");
    assert_eq!(lines[0]["duration_ms"], 1.5);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
}

#[test]
fn a_name_cannot_forge_a_record_move_a_cursor_or_fill_the_disk() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.log");
    let audit = to_file(&path, 1 << 20, 2);
    let image = format!(
        "x\"}}\n{{\"verdict\":\"allowed\"}}\u{1b}[2J\u{9b}\u{202e}\u{7f}é🚢{}",
        "y".repeat(9000)
    );
    audit.add(&record(&image)).unwrap();
    let text = std::fs::read(&path).unwrap();
    assert!(text.len() < 6000 && text.is_ascii());
    assert!(text.strip_suffix(b"\n").unwrap().iter().all(|byte| !byte.is_ascii_control()));
    let lines = lines(&path);
    assert_eq!(lines.len(), 1);
    assert!(lines[0]["image"].as_str().unwrap().starts_with(&image[..60]), "{}", lines[0]);
}

#[test]
fn a_full_file_is_put_aside_and_the_oldest_goes() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.log");
    let one = u64::try_from(record("0").line().len()).unwrap();
    let audit = to_file(&path, 2 * one, 2);
    for number in 0..8 {
        audit.add(&record(&number.to_string())).unwrap();
    }
    let images = |name: &str| {
        let all = lines(&directory.path().join(name));
        all.iter().map(|line| line["image"].as_str().unwrap().to_owned()).collect::<String>()
    };
    assert_eq!(["audit.log.2", "audit.log.1", "audit.log"].map(images), ["23", "45", "67"]);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 3);
}

#[test]
fn as_many_are_kept_as_are_wanted_and_counting_them_takes_no_time() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.log");
    let audit = to_file(&path, 1, u32::MAX);
    for number in 0..5 {
        audit.add(&record(&number.to_string())).unwrap();
    }
    let image = |name: &str| lines(&directory.path().join(name))[0]["image"].clone();
    assert_eq!((image("audit.log"), image("audit.log.4")), ("4".into(), "0".into()));
    // One that was taken away makes room, and those behind it stay where they are.
    std::fs::remove_file(directory.path().join("audit.log.2")).unwrap();
    audit.add(&record("5")).unwrap();
    assert_eq!(["audit.log.1", "audit.log.2", "audit.log.3"].map(image), ["4", "3", "1"]);
}

#[test]
fn a_file_that_others_put_aside_is_made_anew() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.log");
    let audit = to_file(&path, 1 << 20, 2);
    audit.add(&record("before")).unwrap();
    std::fs::rename(&path, directory.path().join("audit.log-20231114")).unwrap();
    audit.add(&record("after")).unwrap();
    assert_eq!(lines(&path)[0]["image"], "after");
}

#[test]
fn a_line_that_was_cut_off_does_not_swallow_the_next() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.log");
    write(&path, "{\"half");
    to_file(&path, 1 << 20, 2).add(&record("whole")).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    let last = text.lines().last().unwrap();
    assert!(serde_json::from_str::<serde_json::Value>(last).is_ok(), "{text}");
}

#[test]
fn a_link_or_a_pipe_in_the_file_s_place_is_an_error_and_nothing_is_written_behind_it() {
    let directory = tempfile::tempdir().unwrap();
    let (link, victim) = (directory.path().join("audit.log"), directory.path().join("shadow"));
    write(&victim, "root:x");
    std::os::unix::fs::symlink(&victim, &link).unwrap();
    let error = to_file(&link, 1 << 20, 2).add(&record("x")).unwrap_err();
    assert!(error.to_string().contains("audit.log"), "{error}");
    assert_eq!(std::fs::read_to_string(&victim).unwrap(), "root:x");
    let fifo = directory.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(to_file(&fifo, 1 << 20, 2).add(&record("x")).is_err());
}

#[test]
fn the_journal_gets_every_field_whatever_is_in_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let socket = UnixDatagram::bind(&path).unwrap();
    let audit = Audit::new(Settings { journal: Some(path), ..Settings::default() });
    audit.add(&record("a\nMESSAGE=forged")).unwrap();
    let mut buffer = [0; 65536];
    let length = socket.recv(&mut buffer).unwrap();
    let mut rest = &buffer[..length];
    let mut fields = Vec::new();
    while !rest.is_empty() {
        let end = rest.iter().position(|byte| *byte == b'\n').unwrap();
        let name = String::from_utf8(rest[..end].to_vec()).unwrap();
        let size = u64::from_le_bytes(rest[end + 1..end + 9].try_into().unwrap());
        let (value, after) = rest[end + 9..].split_at(usize::try_from(size).unwrap());
        fields.push((name, String::from_utf8(value.to_vec()).unwrap()));
        rest = after.strip_prefix(b"\n").unwrap();
    }
    let value = |name: &str| {
        let mut found = fields.iter().filter(|(field, _)| field == name);
        let value = found.next().unwrap_or_else(|| panic!("no {name}")).1.clone();
        assert!(found.next().is_none(), "two fields {name}");
        value
    };
    assert!(value("MESSAGE").starts_with("pull of a\nMESSAGE=forged refused: "));
    assert_eq!(value("CRIO_IMAGE"), "a\nMESSAGE=forged");
    assert_eq!((value("PRIORITY"), value("CRIO_VERDICT")), ("4".into(), "refused".into()));
    assert_eq!(value("CRIO_LOG_INDEXES"), "[7]");
}

#[test]
fn a_record_that_is_required_must_go_somewhere() {
    let directory = tempfile::tempdir().unwrap();
    let journal = Some(directory.path().join("no-journal"));
    let settings = Settings { journal, ..Settings::default() };
    Audit::new(settings.clone()).add(&record("x")).unwrap();
    let required = Audit::new(Settings { required: true, ..settings });
    assert!(matches!(required.add(&record("x")), Err(AuditError::Nowhere)));
    // A journal may come yet; without one nothing ever runs, and that is told at once.
    required.look().unwrap();
    let nowhere = Audit::new(Settings { required: true, ..Settings::default() });
    assert!(matches!(nowhere.look(), Err(AuditError::Nowhere)));
    Audit::none().look().unwrap();
}

#[test]
fn a_link_in_the_place_of_the_file_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.log");
    std::os::unix::fs::symlink(directory.path().join("elsewhere"), &path).unwrap();
    let error = to_file(&path, 1 << 20, 2).add(&record("x")).unwrap_err();
    let text = crate::failure::chain(&error);
    assert!(text.ends_with("audit.log: a symbolic link, which is not followed"), "{text}");
}
