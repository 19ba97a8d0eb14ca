//! The store is podman's and skopeo's store: what we write they read, and the other way round.

use std::path::Path;
use std::path::PathBuf;
use std::process::Output;

use crioxide::model::ids::ImageId;
use crioxide::oci::digest::DiffId;
use crioxide::oci::media_type;
use crioxide::storage::LayerCommit;
use crioxide::storage::Limits;
use crioxide::storage::NewContainer;
use crioxide::storage::NewImage;
use crioxide::storage::Settings;
use crioxide::storage::Store;

use crate::images;
use crate::images::Image;
use crate::images::Layer;
use crate::images::Tar;

/// A store of its own, and the tools that share it.
struct Shared {
    directory: tempfile::TempDir,
    store: Store,
}

impl Shared {
    fn new() -> Self {
        // Not below /tmp if that is an overlay or tmpfs: overlayfs wants a filesystem with
        // trusted attributes.
        let directory = tempfile::tempdir_in("/var/tmp").unwrap();
        let store = Store::open(Settings {
            root: directory.path().join("root"),
            runroot: directory.path().join("run"),
            mount_options: vec!["nodev".to_owned()],
        })
        .unwrap();
        Self { directory, store }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    #[allow(clippy::disallowed_methods, reason = "tests start the tools they compare with")]
    fn run(&self, program: &str, arguments: &[&str]) -> Output {
        let output = std::process::Command::new(program).args(arguments).output().unwrap();
        assert!(
            output.status.success(),
            "{program} {arguments:?}: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        output
    }

    fn podman(&self, arguments: &[&str]) -> String {
        let (root, run) = (self.path("root"), self.path("run"));
        let mut all = vec!["--root", root.to_str().unwrap(), "--runroot", run.to_str().unwrap()];
        all.extend(["--storage-driver", "overlay", "--events-backend", "none"]);
        all.extend(["--cgroup-manager", "cgroupfs", "--runtime", "runc"]);
        all.extend(arguments);
        String::from_utf8(self.run("podman", &all).stdout).unwrap()
    }

    /// The name of an image in this store, for skopeo.
    fn named(&self, name: &str) -> String {
        let (root, run) = (self.path("root"), self.path("run"));
        format!("containers-storage:[overlay@{}+{}]{name}", root.display(), run.display())
    }
}

/// Stores an image as a pull does.
fn commit(store: &Store, image: &Image, name: &str) -> ImageId {
    let mut chain = Vec::new();
    for layer in &image.layers {
        let compression = media_type::layer_compression(layer.media_type).unwrap();
        let staged = store.stage().unwrap();
        let unpacked =
            staged.unpack(&mut layer.blob.as_slice(), compression, &Limits::default()).unwrap();
        assert_eq!(unpacked.blob_digest, layer.digest());
        assert_eq!(unpacked.diff_id.0, layer.diff_id());
        chain.push(LayerCommit::New(Box::new(unpacked)));
    }
    let ids = store.commit_layers(chain).unwrap();
    let diff_ids: Vec<_> = image.layers.iter().map(|layer| DiffId(layer.diff_id())).collect();
    assert_eq!(ids, Store::layer_chain(&diff_ids));
    let id: ImageId = image.config_digest().hex().parse().unwrap();
    let manifest = image.manifest.clone();
    let new = NewImage {
        id: id.clone(),
        names: vec![name.to_owned()],
        layer: ids.last().cloned(),
        digest: image.digest(),
        created: Some("2026-01-02T03:04:05Z".to_owned()),
        big_data: vec![
            (image.config_digest().to_string(), image.config.clone()),
            (format!("manifest-{}", image.digest()), manifest.clone()),
            ("manifest".to_owned(), manifest),
        ],
        metadata: "{}".to_owned(),
    };
    store.commit_image(new).unwrap();
    id
}

/// An image with everything a layer may have, in three compressions.
fn rich_image() -> Image {
    let pax = |path: &'static [u8]| images::Entry {
        path,
        content: b"capable",
        mode: 0o4755,
        uid: 70_000,
        gid: 3,
        pax: vec![
            ("mtime", b"1600000000.123456789"),
            ("SCHILY.xattr.user.note", b"kept"),
            ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
        ],
        ..images::Entry::default()
    };
    let long = format!("long/{}/{}", "d".repeat(90), "f".repeat(120));
    let upper = Tar::new()
        .dir("./", 0o755)
        .dir("data/", 0o750)
        .file("data/one", 0o640, &vec![7; 700_000])
        .entry(&images::Entry {
            path: b"data/two",
            link: b"data/one",
            kind: b'1',
            mode: 0o640,
            ..Default::default()
        })
        .link("absolute", "/etc/passwd")
        .link("up", "../../../../../../etc")
        .file(&long, 0o600, b"deep")
        .entry(&pax(b"setuid"))
        .entry(&images::Entry { path: b"not-\xFF-utf8", content: b"x", ..Default::default() })
        .entry(&images::Entry { path: b"pipe", kind: b'6', ..Default::default() })
        .entry(&images::Entry { path: b"null", kind: b'3', device: (1, 3), ..Default::default() })
        .finish();
    let top = Tar::new()
        .dir("etc/", 0o755)
        .file("etc/.wh.group", 0, b"")
        .dir("data/", 0o750)
        .file("data/.wh..wh..opq", 0, b"")
        .file("data/three", 0o644, b"three")
        .finish();
    Image::new(
        vec![Layer::gzip(images::busybox()), Layer::zstd(upper), Layer::plain(top)],
        &["sh", "-c", "echo ran; ls data; cat etc/group; true"],
    )
}

#[test]
fn podman_and_skopeo_read_what_we_write() {
    let shared = Shared::new();
    let image = rich_image();
    let id = commit(&shared.store, &image, "localhost/rich:1");

    let listed = shared.podman(&["images", "--no-trunc", "--format", "{{.ID}} {{.Repository}}"]);
    assert_eq!(listed.trim(), format!("sha256:{id} localhost/rich"));
    let inspected = shared.run("skopeo", &["inspect", "--raw", &shared.named("localhost/rich:1")]);
    assert_eq!(inspected.stdout, image.manifest);

    // Low limits, because podman asks for high ones, which is not allowed everywhere.
    let ran = shared.podman(&[
        "run", "--rm", "--network", "none", "--pull", "never",
        "--ulimit", "nofile=512:512", "--ulimit", "nproc=512:512",
        "localhost/rich:1", "sh", "-c",
        "ls data; test -e etc/group || echo gone; stat -c '%a %u %g %s %Y' setuid; stat -c %a tmp data /",
    ]);
    assert_eq!(
        ran.split_whitespace().collect::<Vec<_>>(),
        ["three", "gone", "4755", "70000", "3", "7", "1600000000", "1777", "750", "555"],
        "{ran}"
    );
}

#[test]
fn the_exact_bytes_of_layers_come_back() {
    let shared = Shared::new();
    let image = rich_image();
    commit(&shared.store, &image, "localhost/rich:1");
    let out = shared.path("out");
    let to = format!("dir:{}", out.display());
    let from = shared.named("localhost/rich:1");
    shared.run("skopeo", &["copy", "--insecure-policy", "--dest-decompress", &from, &to]);
    for layer in &image.layers {
        let path = out.join(layer.diff_id().hex());
        let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        assert!(bytes == layer.archive);
    }
}

#[test]
fn what_skopeo_writes_is_seen_at_once_with_the_same_ids() {
    let shared = Shared::new();
    assert!(shared.store.images().unwrap().is_empty());
    let image = rich_image();
    let from = shared.path("in");
    image.write_dir(&from);
    let from = format!("dir:{}", from.display());
    let to = shared.named("localhost/theirs:2");
    shared.run("skopeo", &["copy", "--insecure-policy", &from, &to]);

    let seen = shared.store.image_by_name("localhost/theirs:2").unwrap().unwrap();
    assert_eq!(seen.id.as_str(), image.config_digest().hex());
    assert_eq!(seen.digest.as_ref(), Some(&image.digest()));
    let diff_ids: Vec<_> = image.layers.iter().map(|layer| DiffId(layer.diff_id())).collect();
    assert_eq!(seen.top_layer.as_ref(), Store::layer_chain(&diff_ids).last());
    let key = image.config_digest().to_string();
    let config = shared.store.big_data(&seen.id, &key, 1 << 20).unwrap();
    assert_eq!(config.as_ref(), Some(&image.config));
    let archives: usize = image.layers.iter().map(|layer| layer.archive.len()).sum();
    assert!(seen.size >= archives as u64);

    // The same again from us changes nothing of theirs.
    let size = seen.size;
    let id = commit(&shared.store, &image, "localhost/ours:3");
    let both = shared.store.image(&id).unwrap().unwrap();
    assert_eq!(both.names, ["localhost/ours:3", "localhost/theirs:2"]);
    assert_eq!(both.size, size);

    // And what they remove is gone for us.
    shared.podman(&["rmi", "localhost/ours:3", "localhost/theirs:2"]);
    assert!(shared.store.images().unwrap().is_empty());
    assert!(left_in(&shared.path("root/overlay")).is_empty());
}

#[test]
fn a_layer_unpacks_to_the_same_files_as_theirs() {
    let (ours, theirs) = (Shared::new(), Shared::new());
    let image = rich_image();
    commit(&ours.store, &image, "localhost/x:1");
    let from = theirs.path("in");
    image.write_dir(&from);
    let to = theirs.named("localhost/x:1");
    theirs.run("skopeo", &["copy", "--insecure-policy", &format!("dir:{}", from.display()), &to]);
    let diff_ids: Vec<_> = image.layers.iter().map(|layer| DiffId(layer.diff_id())).collect();
    for id in Store::layer_chain(&diff_ids) {
        let list = |shared: &Shared| {
            let path = shared.path("root/overlay").join(id.as_str()).join("diff");
            let script = "find . -mindepth 1 -printf '%P %y %m %U %G %s %l %T@\\n' | sort; \
                          find . -type f -exec sha256sum {} + | sort";
            let path = path.to_str().unwrap();
            let output = shared.run("sh", &["-c", &format!("cd {path} && {script}")]);
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        let (ours, theirs) = (list(&ours), list(&theirs));
        let skip = |text: &str| -> Vec<String> {
            // Directories that no entry names have the time they were made, and a mode each
            // program chooses; whiteouts too have the time they were made.
            let implied = |line: &&str| {
                !line.starts_with("long") && !line.starts_with("etc/group c")
                    || line.contains(" f ")
            };
            text.lines().filter(implied).map(str::to_owned).collect()
        };
        assert_eq!(skip(&ours), skip(&theirs));
    }
}

#[test]
fn a_container_is_mounted_counted_and_removed() {
    let shared = Shared::new();
    let store = &shared.store;
    let image = rich_image();
    let id = commit(store, &image, "localhost/rich:1");
    let container: crioxide::model::ids::ContainerId =
        crioxide::model::ids::ContainerId::fresh().unwrap();
    let new = NewContainer {
        id: container.clone(),
        names: vec!["k8s_a_b".to_owned()],
        image: id.clone(),
        metadata: r#"{"pod-name":"b"}"#.to_owned(),
        mount_label: None,
    };
    store.create_container(new.clone()).unwrap();
    assert!(store.create_container(new).is_err());
    assert!(store.container_dir(&container).is_dir());
    assert!(store.container_run_dir(&container).is_dir());

    let merged = store.mount(&container).unwrap();
    assert_eq!(store.mount(&container).unwrap(), merged);
    assert!(std::fs::read_dir(merged.join("data")).unwrap().count() == 1);
    assert!(!merged.join("etc/group").exists());
    std::fs::File::create(merged.join("written")).unwrap().set_len(0).unwrap();
    assert_eq!(store.layer_usage(&container).unwrap().inodes, 1);
    assert!(store.remove_image(&id).is_err(), "the container needs it");

    store.unmount(&container).unwrap();
    assert!(merged.join("bin").exists(), "the first user still counts on it");
    store.unmount(&container).unwrap();
    assert!(!merged.join("bin").exists());

    let reopened = Store::open(Settings {
        root: shared.path("root"),
        runroot: shared.path("run"),
        mount_options: Vec::new(),
    })
    .unwrap();
    assert_eq!(reopened.containers().unwrap().len(), 1);
    assert!(reopened.mount(&container).unwrap().join("written").exists());
    reopened.remove_container(&container).unwrap();
    assert!(store.containers().unwrap().is_empty());
    assert!(!store.container_dir(&container).exists());
    store.remove_image(&id).unwrap();
    assert!(left_in(&shared.path("root/overlay")).is_empty());
    assert!(left_in(&shared.path("root/overlay/l")).is_empty());
    assert!(left_in(&shared.path("root/overlay/staging")).is_empty());
}

/// The names in a directory that are not always there.
fn left_in(path: &Path) -> Vec<String> {
    let names = std::fs::read_dir(path).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names
        .filter(|name| !matches!(name.as_str(), "l" | "staging") && !name.starts_with('.'))
        .collect()
}
