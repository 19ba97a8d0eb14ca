//! `crio check`: every kind of damage is found and named, nothing is changed unless asked for, and what
//! is repaired is a store that other tools read.

use std::path::Path;
use std::path::PathBuf;
use std::process::Output;

use crioxide::storage::Fault;
use crioxide::storage::Finding;
use crioxide::storage::Part;
use crioxide::storage::Report;
use crioxide::storage::Settings;
use crioxide::storage::Store;
use serde_json::Value;
use serde_json::json;

use crate::scene;
use crate::support::daemon::Daemon;
use crate::support::host;
use crate::support::net;

/// A store with one image of two layers, and no daemon.
fn stored(story: impl FnOnce(Daemon) + Send) {
    if !host::can(&["root", "cni", "runc", "conmon", "podman", "skopeo"]) {
        return;
    }
    net::in_own_network(|| async {
        let daemon = Daemon::new();
        scene::bring(&daemon, scene::IMAGE, &scene::busybox(json!({"Env": ["PATH=/bin"]})));
        story(daemon);
    });
}

fn index(daemon: &Daemon, name: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(daemon.path("storage").join(name)).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// The id of the image's uppermost layer, and of the image.
fn ids(daemon: &Daemon) -> (String, String) {
    let images = index(daemon, "overlay-images/images.json");
    let text = |key: &str| images[0][key].as_str().unwrap().to_owned();
    (text("layer"), text("id"))
}

/// A file of the image's uppermost layer.
fn layer(daemon: &Daemon, name: &str) -> PathBuf {
    daemon.path("storage/overlay").join(ids(daemon).0).join(name)
}

/// The id of the image's lowest layer.
fn base(daemon: &Daemon) -> String {
    let layers = index(daemon, "overlay-layers/layers.json");
    let found = layers.iter().find(|layer| layer["parent"].as_str().is_none_or(str::is_empty));
    found.unwrap()["id"].as_str().unwrap().to_owned()
}

fn overwrite(path: &Path, bytes: &[u8]) {
    let mut file = std::fs::File::create(path).unwrap();
    std::io::Write::write_all(&mut file, bytes).unwrap();
}

fn check(daemon: &Daemon, flags: &[&str]) -> (Option<i32>, Value) {
    let output = daemon.crio(&[&["check", "-o", "json"], flags].concat());
    let answer = serde_json::from_slice(&output.stdout).unwrap_or_default();
    (output.status.code(), answer)
}

/// The faults as lines.
fn faults(answer: &Value) -> Vec<String> {
    let faults = answer["faults"].as_array().unwrap_or_else(|| panic!("{answer}"));
    let text = |found: &Value, key: &str| found[key].as_str().unwrap().to_owned();
    let line = |found| format!("{} {}", text(found, "part"), text(found, "fault"));
    faults.iter().map(line).collect()
}

/// Every file of the store with its size and time.
fn state(daemon: &Daemon) -> String {
    let root = daemon.path("storage").display().to_string();
    host::run("find", &[&root, "-printf", "%p %s %T@ %C@\n"])
}

/// This damage is found with these words; a repair takes the image away and leaves a store that is
/// whole, and that podman reads.
#[track_caller]
fn found_and_repaired(damage: impl FnOnce(&Daemon) + Send, words: &'static str) {
    let place = std::panic::Location::caller();
    stored(move |daemon| {
        damage(&daemon);
        let before = state(&daemon);
        let (code, answer) = check(&daemon, &[]);
        assert_eq!(code, Some(1), "{place}: {answer}");
        let lines = faults(&answer);
        assert!(lines.iter().any(|line| line.contains(words)), "{place}: {lines:#?}");
        assert_eq!(state(&daemon), before, "{place}: a look changed something");
        let (code, answer) = check(&daemon, &["--repair", "--age", "0"]);
        assert_eq!(code, Some(0), "{place}: {answer}");
        let (code, answer) = check(&daemon, &["--age", "0"]);
        assert_eq!((code, faults(&answer)), (Some(0), vec![]), "{place}");
        assert_eq!(daemon.podman(&["images", "-q"]).trim(), "", "{place}");
        let mut stored = daemon.stored();
        stored.retain(|name| !name.contains(".json.damaged-"));
        assert_eq!(stored, [""; 0], "{place}");
        // And the image can be had again.
        scene::bring(&daemon, scene::IMAGE, &scene::busybox(json!({})));
        assert_eq!(check(&daemon, &[]).0, Some(0), "{place}");
    });
}

#[test]
fn a_whole_store_has_no_damage_also_with_images_and_containers_of_podman() {
    stored(|daemon| {
        daemon.podman(&["tag", scene::IMAGE, "example.test/other:1"]);
        daemon.podman(&["create", "--network", "none", scene::IMAGE, "true"]);
        let (code, answer) = check(&daemon, &["--age", "0"]);
        assert_eq!((code, faults(&answer)), (Some(0), vec![]));
        let counted = [&answer["layers"], &answer["images"], &answer["containers"]];
        assert_eq!(counted, [&json!(3), &json!(1), &json!(1)]);
        let output = daemon.crio(&["check"]);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.ends_with(": 3 layers, 1 images, 1 containers\nno damage\n"), "{text}");
        daemon.podman(&["rm", "-af"]);
    });
}

#[test]
fn a_layer_whose_directory_is_gone_is_found() {
    let damage = |daemon: &Daemon| std::fs::remove_dir_all(layer(daemon, "")).unwrap();
    found_and_repaired(damage, "layer its directory is missing");
}

#[test]
fn a_layer_that_cannot_be_mounted_is_found() {
    let damage = |daemon: &Daemon| {
        let lower = std::fs::read_to_string(layer(daemon, "lower")).unwrap();
        let link = daemon.path("storage/overlay").join(lower.split(':').next().unwrap());
        std::fs::remove_file(link).unwrap();
    };
    found_and_repaired(damage, "layer it cannot be mounted");
}

#[test]
fn a_layer_whose_parent_is_not_listed_is_found() {
    let damage = |daemon: &Daemon| {
        let mut layers = index(daemon, "overlay-layers/layers.json");
        let base = base(daemon);
        layers.retain(|layer| layer["id"] != base);
        daemon.write("storage/overlay-layers/layers.json", &json!(layers).to_string());
    };
    found_and_repaired(damage, "is missing");
}

#[test]
fn a_file_with_other_bytes_is_found() {
    let damage = |daemon: &Daemon| {
        let path = daemon.path("storage/overlay").join(base(daemon)).join("diff/bin/busybox");
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        overwrite(&path, &bytes);
    };
    found_and_repaired(damage, "layer the file \"bin/busybox\" is not what it was");
}

#[test]
fn a_file_that_was_cut_is_found() {
    let damage = |daemon: &Daemon| {
        let path = daemon.path("storage/overlay").join(base(daemon)).join("diff/bin/busybox");
        std::fs::File::options().write(true).open(path).unwrap().set_len(100).unwrap();
    };
    found_and_repaired(damage, "layer the file \"bin/busybox\" is not what it was");
}

#[test]
fn a_file_that_is_gone_is_found() {
    let damage = |daemon: &Daemon| {
        let path = daemon.path("storage/overlay").join(base(daemon)).join("diff/bin/busybox");
        std::fs::remove_file(path).unwrap();
    };
    found_and_repaired(damage, "layer the file \"bin/busybox\" is missing");
}

#[test]
fn a_planted_file_is_found_unless_the_look_is_a_quick_one() {
    let damage = |daemon: &Daemon| {
        overwrite(&layer(daemon, "diff/bin/planted"), b"#!/bin/sh\n");
        assert_eq!(check(daemon, &["--quick"]).0, Some(0));
    };
    found_and_repaired(damage, "layer the file \"bin/planted\" does not belong to it");
}

#[test]
fn a_tar_split_that_was_cut_is_found() {
    let damage = |daemon: &Daemon| {
        let name = format!("storage/overlay-layers/{}.tar-split.gz", base(daemon));
        let file = std::fs::File::options().write(true).open(daemon.path(&name)).unwrap();
        file.set_len(file.metadata().unwrap().len() / 2).unwrap();
    };
    found_and_repaired(damage, "layer its tar-split cannot be used");
}

#[test]
fn a_data_item_of_another_size_is_found() {
    let damage = |daemon: &Daemon| {
        let (_, id) = ids(daemon);
        daemon.write(&format!("storage/overlay-images/{id}/manifest"), "{}");
    };
    found_and_repaired(damage, "image its data item \"manifest\" has 2 bytes, not");
}

#[test]
fn a_config_with_other_bytes_is_found() {
    let damage = |daemon: &Daemon| {
        let directory = daemon.path("storage/overlay-images").join(ids(daemon).1);
        let images = index(daemon, "overlay-images/images.json");
        let sizes = images[0]["big-data-sizes"].as_object().unwrap();
        let size = sizes.iter().find(|(key, _)| key.starts_with("sha256:")).unwrap().1;
        let size = size.as_u64().unwrap();
        let config = std::fs::read_dir(&directory).unwrap().flatten().find(|entry| {
            let bytes = std::fs::read_to_string(entry.path()).unwrap();
            bytes.contains("rootfs") && u64::try_from(bytes.len()).unwrap() == size
        });
        let path = config.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap().replace("layers", "lairys");
        overwrite(&path, text.as_bytes());
    };
    found_and_repaired(damage, "image its data item \"sha256:");
}

#[test]
fn a_data_item_that_is_gone_is_found() {
    let damage = |daemon: &Daemon| {
        let (_, id) = ids(daemon);
        let path = daemon.path("storage/overlay-images").join(id).join("manifest");
        std::fs::remove_file(path).unwrap();
    };
    found_and_repaired(damage, "image its data item \"manifest\" is missing");
}

#[test]
fn a_directory_that_no_index_lists_is_found() {
    let damage = |daemon: &Daemon| {
        let orphan = daemon.path("storage/overlay").join("0".repeat(64));
        std::fs::create_dir_all(orphan.join("diff")).unwrap();
        let id = ids(daemon).1;
        // Only the orphan is damage; the image is taken away so that the store ends up empty.
        let (code, answer) = check(daemon, &["--repair"]);
        assert_eq!((code, faults(&answer).len()), (Some(0), 1), "{answer}");
        assert!(!orphan.exists());
        assert_eq!(ids(daemon).1, id);
        std::fs::create_dir_all(orphan.join("diff")).unwrap();
        daemon.podman(&["rmi", "-f", scene::IMAGE]);
    };
    found_and_repaired(damage, "layer no index lists it");
}

fn cut(daemon: &Daemon, name: &str, to: impl Fn(u64) -> u64) {
    let path = daemon.path("storage").join(name);
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.set_len(to(file.metadata().unwrap().len())).unwrap();
}

/// The index that was put aside in this directory of the store.
fn aside(daemon: &Daemon, directory: &str) -> PathBuf {
    let entries = std::fs::read_dir(daemon.path("storage").join(directory)).unwrap();
    let mut found = entries.flatten().map(|entry| entry.path());
    found.find(|path| path.display().to_string().contains(".json.damaged-")).unwrap()
}

#[test]
fn an_index_that_was_cut_is_put_aside_and_what_it_may_have_named_stays_as_long_as_it_is_there() {
    for (directory, name, to) in [
        ("overlay-images", "overlay-images/images.json", 2),
        ("overlay-layers", "overlay-layers/layers.json", 2),
        // An index of nothing is written as a list of none.
        ("overlay-layers", "overlay-layers/layers.json", u64::MAX),
    ] {
        stored(move |daemon| {
            let layer = layer(&daemon, "diff");
            cut(&daemon, name, |length| length / to);
            let (_, answer) = check(&daemon, &[]);
            assert!(faults(&answer)[0].starts_with("index it "), "{answer}");
            // Also when a later look finds a whole index.
            for _ in 0..2 {
                let (code, answer) = check(&daemon, &["--repair", "--age", "0"]);
                assert_eq!(code, Some(1), "{answer}");
                let left = answer["repair"]["left"].to_string();
                let aside = aside(&daemon, directory).display().to_string();
                assert!(left.contains(&aside) && left.contains("may name it"), "{left}");
                assert!(layer.is_dir(), "{name}: what podman may have kept is gone");
            }
            // Whoever removes it has done with it.
            std::fs::remove_file(aside(&daemon, directory)).unwrap();
            assert_eq!(check(&daemon, &["--repair", "--age", "0"]).0, Some(0));
            assert_eq!(daemon.stored(), [""; 0]);
            scene::bring(&daemon, scene::IMAGE, &scene::busybox(json!({})));
            assert_eq!(check(&daemon, &[]).0, Some(0));
        });
    }
}

#[test]
fn an_image_that_was_only_being_written_when_it_was_looked_at_stays() {
    stored(|daemon| {
        let runroot = daemon.path("storage-run");
        let settings = Settings { root: daemon.path("storage"), runroot, mount_options: vec![] };
        let store = Store::open(settings).unwrap();
        let (_, id) = ids(&daemon);
        let fault = Fault::ItemMissing("manifest".to_owned());
        let findings = vec![Finding { part: Part::Image, id: id.clone(), fault }];
        let report = Report { findings, counted: [2, 1, 0] };
        let repaired = store.repair(&report, false);
        assert!(repaired.removed.is_empty() && repaired.left.is_empty(), "{repaired:?}");
        assert_eq!(ids(&daemon).1, id);
        std::fs::remove_file(daemon.path(&format!("storage/overlay-images/{id}/manifest")))
            .unwrap();
        assert_eq!(store.repair(&report, false).removed.len(), 1);
    });
}

#[test]
fn a_store_behind_a_link_is_not_removed_while_something_in_it_is_mounted() {
    stored(|daemon| {
        let (link, place) = (daemon.path("storage"), daemon.path("elsewhere"));
        std::fs::rename(&link, &place).unwrap();
        std::os::unix::fs::symlink(&place, &link).unwrap();
        let id = daemon.podman(&["create", "--network", "none", scene::IMAGE, "true"]);
        let mounted = daemon.podman(&["mount", id.trim()]);
        let (_, image) = ids(&daemon);
        std::fs::remove_file(daemon.path(&format!("storage/overlay-images/{image}/manifest")))
            .unwrap();
        let output = daemon.crio(&["check", "--repair", "--wipe"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(Path::new(mounted.trim()).join("bin/busybox").exists(), "{said}");
        let (code, answer) = check(&daemon, &["--repair", "--wipe", "--force"]);
        assert_eq!((code, &answer["wiped"]), (Some(0), &json!(true)), "{answer}");
        assert_eq!(std::fs::read_dir(&place).unwrap().count(), 0);
        std::fs::remove_file(&link).unwrap();
        std::fs::rename(&place, &link).unwrap();
    });
}

#[test]
fn layers_that_nothing_uses_are_damage_when_they_are_old() {
    stored(|daemon| {
        daemon.write("storage/overlay-images/images.json", "[]");
        assert_eq!(check(&daemon, &[]).0, Some(0));
        let (code, answer) = check(&daemon, &["--age", "0"]);
        assert_eq!((code, faults(&answer)), (Some(1), vec!["layer nothing uses it".to_owned(); 2]));
        assert_eq!(check(&daemon, &["--repair", "--age", "0"]).0, Some(0));
        assert_eq!(daemon.stored(), [""; 0]);
    });
}

#[test]
fn a_container_of_podman_on_a_damaged_image_stays_unless_forced() {
    stored(|daemon| {
        let id = daemon.podman(&["create", "--network", "none", scene::IMAGE, "true"]);
        let (_, image) = ids(&daemon);
        std::fs::remove_file(daemon.path(&format!("storage/overlay-images/{image}/manifest")))
            .unwrap();
        let (code, answer) = check(&daemon, &["--repair"]);
        assert_eq!(code, Some(1));
        let left = answer["repair"]["left"].to_string();
        assert!(left.contains(id.trim()) && left.contains(&image), "{left}");
        assert!(left.contains("--force") && left.contains("in use by container"), "{left}");
        assert_eq!(check(&daemon, &["--repair", "--force"]).0, Some(0));
        assert_eq!(index(&daemon, "overlay-images/images.json"), [] as [Value; 0]);
        assert_eq!(check(&daemon, &["--age", "0"]).0, Some(0));
    });
}

#[test]
fn the_whole_store_goes_only_where_damage_is_left_and_nothing_is_mounted() {
    stored(|daemon| {
        assert_eq!(check(&daemon, &["--repair", "--wipe"]).1["wiped"], false);
        let id = daemon.podman(&["create", "--network", "none", scene::IMAGE, "true"]);
        let mounted = daemon.podman(&["mount", id.trim()]);
        let (_, image) = ids(&daemon);
        std::fs::remove_file(daemon.path(&format!("storage/overlay-images/{image}/manifest")))
            .unwrap();
        let output = daemon.crio(&["check", "--repair", "--wipe"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2));
        assert!(said.contains(mounted.trim()) && said.contains("in use"), "{said}");
        assert!(Path::new(mounted.trim()).join("bin").exists());
        daemon.podman(&["umount", id.trim()]);
        let (code, answer) = check(&daemon, &["--repair", "--wipe"]);
        assert_eq!((code, &answer["wiped"]), (Some(0), &json!(true)), "{answer}");
        assert_eq!(std::fs::read_dir(daemon.path("storage")).unwrap().count(), 0);
    });
}

#[test]
fn a_store_is_not_repaired_under_a_daemon_and_can_be_looked_at() {
    scene::story(&[], |daemon, _client| async move {
        let output: Output = daemon.crio(&["check", "--repair"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("another daemon answers"), "{said}");
        assert_eq!(check(&daemon, &[]).0, Some(0));
        daemon
    });
}
