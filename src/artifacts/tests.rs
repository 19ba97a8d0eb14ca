//! What is stored is what was promised, and what a name means.

use std::path::Path;

use super::*;
use crate::oci::descriptor::Descriptor;

/// Writes a file, as someone else would.
fn write(path: impl AsRef<std::path::Path>, text: impl AsRef<[u8]>) {
    let durability = crate::sys::files::Durability::Process;
    crate::sys::files::replace(path.as_ref(), text.as_ref(), 0o644, durability).unwrap();
}

struct Scene {
    directory: tempfile::TempDir,
    artifacts: Artifacts,
}

fn settings(directory: &Path) -> Settings {
    Settings {
        root: directory.join("root"),
        runroot: directory.join("run"),
        additional: vec![directory.join("more")],
    }
}

impl Scene {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let artifacts = Artifacts::open(&settings(directory.path())).unwrap();
        Self { directory, artifacts }
    }

    fn put(&self, name: &str, files: &[(&str, &str)]) -> Digest {
        put(&self.artifacts, name, files)
    }

    fn one(&self, digest: &Digest) -> Artifact {
        self.artifacts.by_digest(digest).unwrap().unwrap()
    }

    fn blobs(&self) -> usize {
        std::fs::read_dir(self.directory.path().join("root/artifacts/blobs/sha256"))
            .unwrap()
            .count()
    }
}

fn descriptor(bytes: &[u8]) -> Descriptor {
    Descriptor {
        media_type: "text/plain".to_owned(),
        digest: Digest::sha256(bytes),
        size: bytes.len().try_into().unwrap(),
        annotations: None,
        platform: None,
        artifact_type: None,
    }
}

fn put(artifacts: &Artifacts, name: &str, files: &[(&str, &str)]) -> Digest {
    let stage = artifacts.stage().unwrap();
    let layers: Vec<_> = files
        .iter()
        .map(|(title, text)| {
            let descriptor = descriptor(text.as_bytes());
            stage.write(&descriptor, text.as_bytes()).unwrap();
            serde_json::json!({
                "mediaType": "text/plain", "digest": descriptor.digest.to_string(),
                "size": descriptor.size, "annotations": {"org.opencontainers.image.title": title},
            })
        })
        .collect();
    let config = descriptor(b"{}");
    stage.write(&config, b"{}".as_slice()).unwrap();
    let manifest = serde_json::json!({
        "schemaVersion": 2, "artifactType": "application/x-test", "layers": layers,
        "config": {"mediaType": "application/vnd.oci.empty.v1+json",
                   "digest": config.digest.to_string(), "size": 2},
    });
    let manifest = manifest.to_string().into_bytes();
    let digest = Digest::sha256(&manifest);
    let new = NewArtifact {
        name: name.to_owned(),
        digest: digest.clone(),
        manifest,
        evidence: Some(b"kept".to_vec()),
    };
    artifacts.commit(stage, &new).unwrap();
    digest
}

#[test]
fn a_name_moves_and_an_artifact_goes_with_its_last_name() {
    let scene = Scene::new();
    let first = scene.put("a.io/x:1", &[("one", "1"), ("shared", "s")]);
    let second = scene.put("a.io/x:1", &[("two", "2"), ("shared", "s")]);
    assert_eq!(scene.put("a.io/y:1", &[("two", "2"), ("shared", "s")]), second);
    assert!(scene.one(&first).names.is_empty());
    assert_eq!(scene.one(&second).names, ["a.io/x:1", "a.io/y:1"]);
    assert_eq!(scene.one(&second).size, 2);
    assert!(scene.artifacts.remove(&first, None).unwrap());
    assert!(!scene.artifacts.remove(&first, None).unwrap());
    let files = scene.artifacts.files(&scene.one(&second), "").unwrap();
    assert_eq!(std::fs::read_to_string(&files[1].source).unwrap(), "s");
    scene.artifacts.remove(&second, Some(&["a.io/x:1".to_owned()])).unwrap();
    assert_eq!(scene.one(&second).names, ["a.io/y:1"]);
    scene.artifacts.take_name("a.io/y:1").unwrap();
    assert!(scene.one(&second).names.is_empty());
    assert!(scene.artifacts.kept(&second, 10).unwrap().is_some());
    scene.artifacts.remove(&second, None).unwrap();
    assert!(scene.artifacts.all().unwrap().is_empty() && scene.blobs() == 0);
    assert!(scene.artifacts.kept(&second, 10).unwrap().is_none());
}

#[test]
fn an_artifact_in_use_stays() {
    let scene = Scene::new();
    let digest = scene.put("a.io/x:1", &[("one", "1")]);
    scene.artifacts.hold(&digest, "web").unwrap();
    scene.artifacts.hold(&digest, "dead").unwrap();
    scene.artifacts.release_others(&["web".to_owned()]).unwrap();
    let error = scene.artifacts.remove(&digest, None).unwrap_err().to_string();
    assert!(error.contains("in use by container web"), "{error}");
    scene.artifacts.release("web").unwrap();
    assert!(scene.artifacts.remove(&digest, None).unwrap());
}

#[test]
fn other_bytes_than_promised_are_refused() {
    let scene = Scene::new();
    let stage = scene.artifacts.stage().unwrap();
    let wanted = descriptor(b"right");
    for wrong in ["wrong", "righ", "right and more"] {
        let error = stage.write(&wanted, wrong.as_bytes()).unwrap_err();
        assert!(matches!(error, ArtifactError::Blob { .. }), "{wrong}");
    }
    assert!(stage.must_fit(u64::MAX).is_err() && stage.must_fit(1).is_ok());
    assert!(!stage.take(&wanted).unwrap());
    // A blob of that name with other bytes is not believed either.
    scene.put("a.io/x:1", &[("one", "right")]);
    assert!(stage.take(&wanted).unwrap());
    let path = scene.artifacts.inner.layout.blob(&wanted.digest);
    std::fs::remove_file(&path).unwrap();
    write(&path, "wrong");
    let stage = scene.artifacts.stage().unwrap();
    assert!(!stage.take(&wanted).unwrap());
}

#[test]
fn a_title_that_could_lead_elsewhere_keeps_the_artifact_from_being_mounted() {
    let scene = Scene::new();
    for title in ["../x", "/etc/passwd", "a/../b", "a//b", "", ".", "a\nb", "a/"] {
        let digest = scene.put("a.io/x:1", &[("good", "1"), (title, "2")]);
        let error = scene.artifacts.files(&scene.one(&digest), "").unwrap_err();
        assert!(matches!(error, ArtifactError::Title { .. }), "{title:?}: {error}");
    }
    for twice in [["a", "a"], ["a", "a/b"], ["a/b", "a"]] {
        let digest = scene.put("a.io/x:1", &[(twice[0], "1"), (twice[1], "2")]);
        assert!(scene.artifacts.files(&scene.one(&digest), "").is_err(), "{twice:?}");
    }
    let digest = scene.put("a.io/x:1", &[]);
    assert!(scene.artifacts.files(&scene.one(&digest), "").is_err());
}

#[test]
fn a_sub_path_is_a_directory_of_names() {
    let scene = Scene::new();
    let digest = scene.put("a.io/x:1", &[("m/a", "1"), ("m/deep/b", "2"), ("mm", "3")]);
    let names = |sub_path: &str| {
        let files = scene.artifacts.files(&scene.one(&digest), sub_path);
        files.map(|files| files.into_iter().map(|file| file.name).collect::<Vec<_>>())
    };
    assert_eq!(names("").unwrap(), ["m/a", "m/deep/b", "mm"]);
    assert_eq!(names("m").unwrap(), ["a", "deep/b"]);
    assert_eq!(names("m/deep").unwrap(), ["b"]);
    for nothing in ["mm", "m/a", "x"] {
        assert!(names(nothing).is_err(), "{nothing}");
    }
}

#[test]
fn an_additional_store_is_read_first_and_never_written() {
    let directory = tempfile::tempdir().unwrap();
    let other = Settings {
        root: directory.path().join("more"),
        runroot: directory.path().join("run2"),
        additional: Vec::new(),
    };
    let digest = put(&Artifacts::open(&other).unwrap(), "a.io/x:1", &[("one", "1")]);
    let artifacts = Artifacts::open(&settings(directory.path())).unwrap();
    let found = artifacts.by_digest(&digest).unwrap().unwrap();
    assert!(found.read_only && artifacts.files(&found, "").is_ok());
    assert!(matches!(artifacts.remove(&digest, None), Err(ArtifactError::ReadOnly(_))));
}

#[test]
fn what_others_wrote_into_the_index_is_kept_and_a_broken_entry_hides_no_other() {
    let scene = Scene::new();
    let digest = scene.put("a.io/x:1", &[("one", "1")]);
    let path = scene.directory.path().join("root/artifacts/index.json");
    let mut index: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    index["theirs"] = serde_json::json!("kept");
    let missing = Digest::sha256(b"missing").to_string();
    index["manifests"].as_array_mut().unwrap().push(serde_json::json!({"digest": missing}));
    write(&path, index.to_string());
    let second = scene.put("a.io/y:1", &[("two", "2")]);
    assert_eq!(scene.artifacts.all().unwrap().len(), 2);
    scene.artifacts.remove(&second, None).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains("theirs") && text.contains(&missing), "{text}");
    // What the broken one needs cannot be told, so nothing is taken from it.
    assert!(scene.blobs() > 3);
    assert_eq!(scene.one(&digest).names, ["a.io/x:1"]);
}

#[test]
fn a_start_clears_away_what_a_dead_daemon_left() {
    let scene = Scene::new();
    let digest = scene.put("a.io/x:1", &[("one", "1")]);
    let own = scene.directory.path().join("root/crioxide/artifacts");
    std::fs::create_dir_all(own.join("staging/1-0")).unwrap();
    write(own.join("evidence").join("f".repeat(64)), "of nothing");
    let again = Artifacts::open(&settings(scene.directory.path())).unwrap();
    assert!(!own.join("staging").exists());
    assert!(!own.join("evidence").join("f".repeat(64)).exists());
    assert_eq!(again.kept(&digest, 10).unwrap().unwrap(), b"kept");
    let locked = scene.artifacts.inner.layout.lock(Hold::Write).unwrap();
    drop(locked);
}
