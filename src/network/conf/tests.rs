//! Which texts are configurations, and which files are looked at.

use super::*;

use std::fs::create_dir;
use std::os::unix::fs::symlink;

use crate::sys::files::Durability;
use crate::sys::files::replace;

fn write(path: &Path, text: &str) {
    replace(path, text.as_bytes(), 0o644, Durability::Process).unwrap();
}

fn load_text(file: &str, text: &str) -> Result<NetworkConf, String> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(file);
    write(&path, text);
    load(&path).map_err(|error| crate::failure::chain(&error))
}

#[test]
fn a_list_gives_its_plugins_untouched() {
    let text = r#"{"cniVersion":"0.4.0","name":"k8s-pod-network","plugins":[
        {"type":"bridge","bridge":"br0","addIf":"true","mtu":1e3,"big":12345678901234567890123},
        {"type":"portmap","capabilities":{"portMappings":true,"other":false}}]}"#;
    let conf = load_text("1-k8s.conflist", text).unwrap();
    assert_eq!(conf.name, "k8s-pod-network");
    assert_eq!(conf.version, Version::V0_4_0);
    assert_eq!(conf.bytes, text.as_bytes());
    assert_eq!(conf.plugins[0].fields["big"].get(), "12345678901234567890123");
    assert_eq!(conf.plugins[0].fields["addIf"].get(), "\"true\"");
    assert_eq!(conf.plugins[1].capabilities, ["portMappings"]);
}

#[test]
fn a_single_plugin_becomes_a_list_that_the_cache_can_give_back() {
    let text =
        r#"{"cniVersion":"0.3.1","name":"old","type":"bridge","ipam":{"type":"host-local"}}"#;
    let conf = load_text("10-old.conf", text).unwrap();
    assert_eq!((conf.name.as_str(), conf.version), ("old", Version::V0_3_1));
    let again = parse_cached(conf.bytes).unwrap();
    assert_eq!((again.name.as_str(), again.version), ("old", Version::V0_3_1));
    assert_eq!(again.plugins[0].fields["ipam"].get(), r#"{"type":"host-local"}"#);
    // As older tools keep it.
    assert_eq!(parse_cached(text.as_bytes().to_vec()).unwrap().plugins[0].name, "bridge");
    // Without a name, the file's.
    let conf = load_text("10-old.json", r#"{"type":"bridge"}"#).unwrap();
    assert_eq!((conf.name.as_str(), conf.version), ("10-old.json", Version::V0_1_0));
}

#[test]
fn the_highest_version_that_both_speak_is_taken() {
    let version = |keys: &str| {
        let text = format!(r#"{{"name":"n",{keys}"plugins":[{{"type":"a"}}]}}"#);
        load_text("n.conflist", &text).map(|conf| conf.version.as_str())
    };
    assert_eq!(
        version(r#""cniVersion":"1.0.0","cniVersions":["0.4.0","1.1.0","7.0.0"],"#),
        Ok("1.1.0")
    );
    assert_eq!(version(r#""cniVersions":["0.4.0","0.3.1"],"#), Ok("0.4.0"));
    assert_eq!(version(r#""cniVersion":"","#), Ok("0.1.0"));
    assert_eq!(version(""), Ok("0.1.0"));
    assert!(version(r#""cniVersion":"7.0.0","#).is_err());
    assert!(version(r#""cniVersion":4,"#).is_err());
}

#[test]
fn what_is_no_configuration_is_refused() {
    let list =
        |plugins: &str| format!(r#"{{"cniVersion":"1.0.0","name":"n","plugins":{plugins}}}"#);
    for (file, text) in [
        ("a.conflist", "{".to_owned()),
        ("a.conflist", "[]".to_owned()),
        ("a.conflist", r#"["n","1.0.0"]"#.to_owned()),
        ("a.conflist", list("[]")),
        ("a.conflist", list("[[]]")),
        ("a.conflist", list(r#"[{"type":""}]"#)),
        ("a.conflist", list(r#"[{"type":"../../bin/sh"}]"#)),
        ("a.conflist", list(r#"[{"type":".."}]"#)),
        ("a.conflist", list(r#"[{"type":"a\\b"}]"#)),
        ("a.conflist", list(r#"[{"type":"a\u0000"}]"#)),
        ("a.conflist", list(r#"[{"type":"a","capabilities":{"x":"yes"}}]"#)),
        ("a.conflist", list(&format!("[{}]", vec![r#"{"type":"a"}"#; 65].join(",")))),
        ("a.conflist", r#"{"name":"../n","plugins":[{"type":"a"}]}"#.to_owned()),
        ("a.conflist", r#"{"name":".n","plugins":[{"type":"a"}]}"#.to_owned()),
        ("a.conflist", r#"{"name":"n","disableGC":"maybe","plugins":[{"type":"a"}]}"#.to_owned()),
        ("a.conflist", r#"{"name":"n","type":"a"}"#.to_owned()),
        ("a.conf", list(r#"[{"type":"a"}]"#)),
        ("a.conf", " ".repeat(2 << 20)),
    ] {
        assert!(load_text(file, &text).is_err(), "{file}: {}", quoted(&text));
    }
}

#[test]
fn plugins_from_the_networks_own_directory_are_appended_and_kept() {
    let directory = tempfile::tempdir().unwrap();
    let list = directory.path().join("n.conflist");
    write(&list, r#"{"cniVersion":"1.1.0","name":"n","x":1,"plugins":[{"type":"a"}]}"#);
    create_dir(directory.path().join("n")).unwrap();
    write(&directory.path().join("n/2.conf"), r#"{"type":"c"}"#);
    write(&directory.path().join("n/1.conf"), r#"{"type":"b"}"#);
    write(&directory.path().join("n/0.json"), r#"{"type":"not looked at"}"#);
    let names = |conf: &NetworkConf| {
        conf.plugins.iter().map(|plugin| plugin.name.clone()).collect::<Vec<_>>()
    };
    let conf = load(&list).unwrap();
    assert_eq!(names(&conf), ["a", "b", "c"]);
    assert_eq!(names(&parse_cached(conf.bytes).unwrap()), ["a", "b", "c"]);
    let only = r#"{"name":"n","loadOnlyInlinedPlugins":"TRUE","plugins":[{"type":"a"}]}"#;
    write(&list, only);
    assert_eq!(names(&load(&list).unwrap()), ["a"]);
}

#[test]
fn files_are_found_by_their_ending_in_the_order_of_their_names() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    for name in ["20-b.conf", "10-z.conflist", "99.json", "05-x.conflist.mk_disabled", "a.disabled"]
    {
        write(&root.join(name), "{}");
    }
    create_dir(root.join("00-directory.conf")).unwrap();
    symlink(root.join("99.json"), root.join("30-link.conf")).unwrap();
    let found = conf_files(root, &["conf", "conflist", "json"]);
    let names: Vec<_> =
        found.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(names, ["10-z.conflist", "20-b.conf", "30-link.conf", "99.json"]);
    assert!(conf_files(&root.join("missing"), &["conf"]).is_empty());
}
