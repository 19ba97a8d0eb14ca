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
        let store = Store::open(settings(directory.path())).unwrap();
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

impl Drop for Shared {
    fn drop(&mut self) {
        // Like podman, the store makes this directory a mount of its own, and leaves it.
        crioxide::sys::mount::unmount(&self.path("root/overlay")).unwrap();
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
        .file("tmp/.wh.nothing", 0, b"")
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
            let apart = |line: &&str| {
                let implied = line.starts_with("long") || line.starts_with("tmp d");
                (implied || line.contains(" c 0 ")) && !line.contains(" f ")
            };
            text.lines().filter(|line| !apart(line)).map(str::to_owned).collect()
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
        archives: image.layers.iter().map(|layer| DiffId(layer.diff_id())).collect(),
        metadata: r#"{"pod-name":"b"}"#.to_owned(),
        mount_label: None,
        id_map: None,
    };
    store.create_container(new.clone()).unwrap();
    assert!(store.create_container(new).is_err());
    assert!(store.container_dir(&container).is_dir());
    assert!(store.container_run_dir(&container).is_dir());

    let merged = store.mount(&container, None).unwrap();
    assert_eq!(store.mount(&container, None).unwrap(), merged);
    assert!(std::fs::read_dir(merged.join("data")).unwrap().count() == 1);
    assert!(!merged.join("etc/group").exists());
    std::fs::File::create(merged.join("written")).unwrap().set_len(0).unwrap();
    assert_eq!(store.own_layer(&container).unwrap().measure().inodes, 1);
    assert!(store.remove_image(&id).is_err(), "the container needs it");

    store.unmount(&container).unwrap();
    assert!(merged.join("bin").exists(), "the first user still counts on it");
    store.unmount(&container).unwrap();
    assert!(!merged.join("bin").exists());

    let reopened = Store::open(settings(shared.directory.path())).unwrap();
    assert_eq!(reopened.containers().unwrap().len(), 1);
    assert!(reopened.mount(&container, None).unwrap().join("written").exists());
    reopened.remove_container(&container).unwrap();
    assert!(store.containers().unwrap().is_empty());
    assert!(!store.container_dir(&container).exists());
    store.remove_image(&id).unwrap();
    assert!(left_in(&shared.path("root/overlay")).is_empty());
    assert!(left_in(&shared.path("root/overlay/l")).is_empty());
    assert!(left_in(&shared.path("root/overlay/tempdirs")).is_empty());
}

#[test]
fn staged_layers_go_from_thread_to_thread() {
    fn assert_send<T: Send>() {}
    assert_send::<crioxide::storage::StagedLayer>();
    assert_send::<crioxide::storage::Unpacked>();
    assert_send::<crioxide::storage::LayerPins>();
}

fn settings(directory: &Path) -> Settings {
    Settings {
        root: directory.join("root"),
        runroot: directory.join("run"),
        mount_options: vec!["nodev".to_owned()],
    }
}

/// An image of `count` layers that begin like those of all others of the same `family`.
fn family_image(family: usize, member: usize, count: usize) -> Image {
    let layer = |number: usize| {
        let own = if number + 1 == count { member } else { 0 };
        let content = vec![u8::try_from(number).unwrap(); 100_000];
        let name = format!("f{family}-{own}-{number}");
        Layer::gzip(Tar::new().dir("d/", 0o755).file(&name, 0o644, &content).finish())
    };
    Image::new((0..count).map(layer).collect(), &["true"])
}

#[test]
fn many_pulls_and_another_program_share_one_store() {
    let shared = Shared::new();
    let store = &shared.store;
    let from = shared.path("in");
    family_image(0, 99, 5).write_dir(&from);
    let (from, to) = (format!("dir:{}", from.display()), shared.named("localhost/theirs:1"));
    std::thread::scope(|scope| {
        scope.spawn(|| shared.run("skopeo", &["copy", "--insecure-policy", &from, &to]));
        for member in 0..4 {
            let shared = &shared;
            scope.spawn(move || {
                // Two handles of one process, as two daemons would be.
                let other = Store::open(settings(shared.directory.path())).unwrap();
                let store = if member % 2 == 0 { &shared.store } else { &other };
                let name = format!("localhost/m:{member}");
                commit(store, &family_image(0, member / 2, 5), &name);
            });
        }
    });
    let images = store.images().unwrap();
    let mut names: Vec<_> = images.iter().flat_map(|image| image.names.clone()).collect();
    names.sort();
    let expected =
        ["localhost/m:0", "localhost/m:1", "localhost/m:2", "localhost/m:3", "localhost/theirs:1"];
    assert_eq!(names, expected);
    assert_eq!(images.len(), 3);
    // Four layers in common, one of each.
    assert_eq!(left_in(&shared.path("root/overlay")).len(), 7);
    for name in expected {
        let out = shared.path(&name.replace(['/', ':'], "-"));
        let to = format!("dir:{}", out.display());
        shared.run("skopeo", &["copy", "--insecure-policy", &shared.named(name), &to]);
    }
    for image in images {
        store.remove_image(&image.id).unwrap();
    }
    assert!(left_in(&shared.path("root/overlay")).is_empty());
}

#[test]
fn a_pin_keeps_a_layer_that_its_image_loses() {
    let shared = Shared::new();
    let store = &shared.store;
    let image = family_image(0, 0, 3);
    let id = commit(store, &image, "localhost/x:1");
    let diff_ids: Vec<_> = image.layers.iter().map(|layer| DiffId(layer.diff_id())).collect();
    let chain = Store::layer_chain(&diff_ids);
    let pins = store.pin_layers(&chain[..2]);
    store.remove_image(&id).unwrap();
    assert!(store.layer(&chain[2]).unwrap().is_none());
    assert!(store.layer(&chain[1]).unwrap().is_some());
    assert_eq!(store.collect_layers().unwrap(), 0);
    // What the pull was about: another image on these layers.
    let chain = chain[..2].iter().cloned().map(LayerCommit::Existing).collect();
    assert_eq!(store.commit_layers(chain).unwrap().len(), 2);
    drop(pins);
    assert_eq!(store.collect_layers().unwrap(), 2);
    assert!(left_in(&shared.path("root/overlay")).is_empty());
}

#[test]
fn layers_are_put_beside_those_of_a_program_that_came_first() {
    let shared = Shared::new();
    // As podman does as long as it runs something.
    crioxide::sys::mount::make_private(&shared.path("root/overlay")).unwrap();
    let id = commit(&shared.store, &family_image(0, 0, 2), "localhost/x:1");
    assert!(shared.podman(&["images", "--no-trunc", "-q"]).contains(id.as_str()));
    shared.store.remove_image(&id).unwrap();
    assert_eq!(shared.podman(&["images", "-q"]).trim(), "");
}

/// The store that [`a_kill_at_any_moment_leaves_whole_images`] has others write to.
const VICTIM: &str = "CRIO_TEST_VICTIM";

#[test]
fn victim() {
    let Some(directory) = std::env::var_os(VICTIM) else { return };
    let store = Store::open(settings(Path::new(&directory))).unwrap();
    for member in 0.. {
        let id =
            commit(&store, &family_image(member % 3, member, 4), &format!("localhost/v:{member}"));
        if member % 3 == 1 {
            store.remove_image(&id).unwrap();
        }
    }
}

#[test]
#[allow(clippy::disallowed_methods, reason = "the process that is killed is this program")]
fn a_kill_at_any_moment_leaves_whole_images() {
    let shared = Shared::new();
    let mut seen = 0;
    // Later rounds let it live longer, so that on a slow machine too some find an image.
    let mut round = 0;
    while round < 12 || (seen == 0 && round < 60) {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "storage::victim"])
            .env(VICTIM, shared.directory.path())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        // Not a wait for something to happen: the moment must be one that nobody chose.
        std::thread::sleep(std::time::Duration::from_millis(150 + round * 37));
        round += 1;
        child.kill().unwrap();
        child.wait().unwrap();

        let store = Store::open(settings(shared.directory.path())).unwrap();
        store.collect_layers().unwrap();
        let images = store.images().unwrap();
        seen += images.len();
        for image in &images {
            assert_whole(&store, image);
            store.remove_image(&image.id).unwrap();
        }
        assert!(left_in(&shared.path("root/overlay")).is_empty(), "round {round}");
        assert!(left_in(&shared.path("root/overlay/l")).is_empty(), "round {round}");
        assert!(left_in(&shared.path("root/overlay/tempdirs")).is_empty(), "round {round}");
        let files = |name: &str| std::fs::read_dir(shared.path(name)).unwrap().count();
        assert!(files("root/overlay-layers") <= 2, "round {round}");
        assert!(files("root/overlay-images") <= 2, "round {round}");
    }
    assert!(seen > 0, "no round found an image");
}

/// All that an image names is there, and is what it should be.
fn assert_whole(store: &Store, image: &crioxide::storage::Image) {
    for item in &image.big_data {
        let bytes = store.big_data(&image.id, &item.key, 1 << 20).unwrap().unwrap();
        assert!(item.digest.as_ref().unwrap().matches(&bytes));
    }
    let mut next = image.top_layer.clone();
    let mut count = 0;
    while let Some(id) = next {
        let layer = store.layer(&id).unwrap().unwrap();
        let directory = store.root().join("overlay").join(id.as_str());
        let link = std::fs::read_to_string(directory.join("link")).unwrap();
        assert!(store.root().join("overlay/l").join(link).join("d").is_dir());
        assert!(directory.join("work").is_dir() && directory.join("merged").is_dir());
        assert_eq!(directory.join("lower").exists(), layer.parent.is_some());
        let split = store.root().join(format!("overlay-layers/{id}.tar-split.gz"));
        assert!(std::fs::metadata(split).unwrap().len() > 0);
        count += 1;
        next = layer.parent;
    }
    assert_eq!(count, 4);
}

/// The names in a directory that are not always there.
fn left_in(path: &Path) -> Vec<String> {
    let names = std::fs::read_dir(path).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names
        .filter(|name| !matches!(name.as_str(), "l" | "tempdirs") && !name.starts_with('.'))
        .collect()
}
