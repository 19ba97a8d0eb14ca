//! Layers: archives, and what they are packed in.

use std::os::unix::fs::FileTypeExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::Faults;
use super::Scene;
use super::story;
use crate::images;
use crate::images::Entry;
use crate::images::Image;
use crate::images::Layer;
use crate::images::Tar;
use crate::publish;
use crate::test_registry::Setup;

/// A layer, and what must become of it.
struct Case {
    name: &'static str,
    layer: Layer,
    end: End,
}

enum End {
    /// The pull fails with these words.
    Refused(&'static str),
    /// It is an image like any other; the layer's directory is as it should be.
    Harmless(fn(&Path)),
}

fn refused(name: &'static str, words: &'static str, tar: Tar) -> Case {
    blob(name, words, Layer::plain(tar.finish()))
}

fn blob(name: &'static str, words: &'static str, layer: Layer) -> Case {
    Case { name, layer, end: End::Refused(words) }
}

fn harmless(name: &'static str, tar: Tar, holds: fn(&Path)) -> Case {
    Case { name, layer: Layer::gzip(tar.finish()), end: End::Harmless(holds) }
}

/// An entry without content.
fn entry(kind: u8, path: &str) -> Entry<'_> {
    Entry { path: path.as_bytes(), kind, mode: 0o755, ..Entry::default() }
}

fn file<'a>(path: &'a str, pax: Vec<(&'a str, &'a [u8])>) -> Entry<'a> {
    Entry { path: path.as_bytes(), pax, ..Entry::default() }
}

const INSIDE: &str = "does not stay inside";
const ABOVE: &str = "something that is no directory";

fn paths(canary: &str) -> Vec<Case> {
    let up = format!("../../../../../../../../../../../..{canary}/written");
    let (down, bytes) = (format!("a/{up}"), up.clone().into_bytes());
    let long = format!("{}/x", "n".repeat(256));
    let deep = format!("{}x", "d/".repeat(2040));
    vec![
        refused("climbs-with-a-file", INSIDE, Tar::new().file(&up, 0o644, b"x")),
        refused("climbs-with-a-directory", INSIDE, Tar::new().dir(&up, 0o777)),
        refused("climbs-with-a-link", INSIDE, Tar::new().link(&up, "x")),
        refused("climbs-after-going-down", INSIDE, Tar::new().file(&down, 0o644, b"x")),
        refused(
            "climbs-in-a-pax-path",
            INSIDE,
            Tar::new().entry(&file("x", vec![("path", &bytes)])),
        ),
        refused(
            "ends-a-pax-path-with-a-zero",
            INSIDE,
            Tar::new().entry(&file("x", vec![("path", b"a\0/../../x")])),
        ),
        refused("has-a-name-no-filesystem-takes", INSIDE, Tar::new().file(&long, 0o644, b"")),
        refused(
            "shows-escapes-on-the-terminal",
            INSIDE,
            Tar::new().file("\x1b[2J\n/../x", 0o644, b""),
        ),
        harmless(
            "names-the-whole-path-of-the-node",
            Tar::new().file("/etc/shadow", 0o600, b"x"),
            |diff| {
                assert!(diff.join("etc/shadow").is_file());
            },
        ),
        harmless("puts-a-path-into-a-global-extension", global(&up), |diff| {
            assert!(diff.join("plain").is_file());
        }),
        harmless(
            "replaces-the-root-by-a-link",
            Tar::new().entry(&Entry { link: b"/", ..entry(b'2', "./") }).file("a", 0o644, b""),
            |diff| {
                assert!(diff.is_dir() && diff.join("a").is_file());
            },
        ),
        harmless("is-two-thousand-directories-deep", Tar::new().file(&deep, 0o644, b"x"), |diff| {
            assert!(diff.join("d/d/d/d/d").is_dir());
        }),
        refused(
            "is-there-twice",
            "is there twice",
            Tar::new().file("a", 0o644, b"1").file("./a", 0o644, b"2"),
        ),
        refused(
            "lies-below-a-file",
            ABOVE,
            Tar::new().file("a", 0o644, b"").file("a/b", 0o644, b""),
        ),
    ]
}

/// A path in an extension that is for all entries.
fn global(path: &str) -> Tar {
    let record = images::pax_record("path", path.as_bytes());
    let global = Entry { content: &record, ..entry(b'g', "pax_global_header") };
    Tar::new().entry(&global).file("plain", 0o644, b"x")
}

fn links(canary: &str) -> Vec<Case> {
    let secret = format!("{canary}/secret");
    let via_proc = format!("/proc/self/root{canary}");
    vec![
        refused(
            "writes-through-a-link",
            ABOVE,
            Tar::new().link("l", canary).file("l/written", 0o644, b"x"),
        ),
        refused(
            "writes-through-two-links",
            ABOVE,
            Tar::new().link("a", "b").link("b", canary).file("a/written", 0o644, b"x"),
        ),
        refused(
            "writes-through-a-magic-link",
            ABOVE,
            Tar::new().link("l", &via_proc).file("l/written", 0o644, b"x"),
        ),
        refused(
            "makes-a-directory-through-a-link",
            ABOVE,
            Tar::new().link("l", canary).dir("l/made/", 0o777),
        ),
        refused(
            "goes-round-in-links",
            "enter the directory",
            Tar::new().link("a", "b").link("b", "a").file("a/x", 0o644, b""),
        ),
        harmless(
            "writes-into-the-file-a-link-names",
            Tar::new()
                .dir("d/", 0o755)
                .link("d/f", &secret)
                .link("alias", "d")
                .file("alias/f", 0o644, b"mine"),
            |diff| {
                assert_eq!(std::fs::read(diff.join("d/f")).unwrap(), b"mine");
            },
        ),
        harmless(
            "sets-the-mode-of-what-a-link-names",
            Tar::new()
                .dir("d/", 0o755)
                .link("d/x", canary)
                .link("alias", "d")
                .dir("alias/x/", 0o777),
            |diff| {
                assert!(diff.join("d/x").symlink_metadata().unwrap().is_dir());
            },
        ),
    ]
}

fn links_below_links(canary: &str) -> Vec<Case> {
    let secret = format!("{canary}/secret");
    vec![
        harmless(
            "hides-a-file-of-the-node",
            Tar::new().link("l", canary).file("l/.wh.secret", 0, b""),
            |_| (),
        ),
        refused(
            "hides-all-files-of-the-node",
            ABOVE,
            Tar::new().link("l", canary).file("l/.wh..wh..opq", 0, b""),
        ),
        refused("links-hard-to-the-node", "cannot link", Tar::new().hard_link("x", &secret)),
        refused(
            "links-hard-and-climbs",
            INSIDE,
            Tar::new().hard_link("x", "../../../../../../../../etc/passwd"),
        ),
        refused(
            "links-hard-through-a-link",
            "cannot link",
            Tar::new().link("l", canary).hard_link("x", "l/secret"),
        ),
        refused("links-hard-to-nothing", "cannot link", Tar::new().hard_link("x", "nothing")),
        refused(
            "links-hard-to-a-directory",
            "cannot link",
            Tar::new().dir("d/", 0o755).hard_link("x", "d"),
        ),
        refused(
            "links-hard-to-a-whiteout",
            INSIDE,
            Tar::new().file(".wh.gone", 0, b"").hard_link("x", "gone"),
        ),
        refused("has-a-link-to-nowhere", INSIDE, Tar::new().link("x", "")),
        refused(
            "ends-a-link-with-a-zero",
            INSIDE,
            Tar::new().entry(&Entry { pax: vec![("linkpath", b"a\0b")], ..entry(b'2', "x") }),
        ),
    ]
}

fn kinds() -> Vec<Case> {
    let disk = Entry { device: (8, 0), ..entry(b'4', "sda") };
    let owner = Entry { uid: u64::from(u32::MAX), ..file("x", vec![]) };
    let far = Entry { gid: 1 << 32, ..file("x", vec![]) };
    vec![
        harmless("brings-a-disk-of-the-node", Tar::new().entry(&disk), |diff| {
            // No more than a name: the devices cgroup of a container lets nobody open it.
            assert!(diff.join("sda").symlink_metadata().unwrap().file_type().is_block_device());
        }),
        harmless("brings-a-setuid-program", Tar::new().file("su", 0o4755, b"x"), |diff| {
            assert_eq!(diff.join("su").metadata().unwrap().mode() & 0o7777, 0o4755);
        }),
        refused("belongs-to-nobody-at-all", "owner outside", Tar::new().entry(&owner)),
        refused("belongs-to-a-group-that-wraps-to-root", "owner outside", Tar::new().entry(&far)),
        refused("is-of-an-unknown-kind", "of a kind", Tar::new().entry(&entry(b'Z', "x"))),
        refused("continues-another-volume", "of a kind", Tar::new().entry(&entry(b'M', "x"))),
    ]
}

fn whiteouts() -> Vec<Case> {
    let zero = Entry { device: (0, 0), ..entry(b'3', "gone") };
    let none = "hides no single name";
    vec![
        refused("makes-an-overlay-whiteout", "device 0:0", Tar::new().entry(&zero)),
        refused("hides-the-directory-above", none, Tar::new().file("a/.wh...", 0, b"")),
        refused("hides-the-directory-itself", none, Tar::new().file("a/.wh..", 0, b"")),
        refused("hides-no-name", none, Tar::new().file(".wh.", 0, b"")),
        refused("hides-with-a-directory", none, Tar::new().dir(".wh..wh..opq/", 0o755)),
        harmless(
            "hides-in-the-lowest-layer",
            Tar::new().file(".wh.etc", 0, b"").file("a/.wh..wh..opq", 0, b""),
            |diff| {
                assert!(diff.join("etc").symlink_metadata().unwrap().file_type().is_char_device());
            },
        ),
    ]
}

fn attributes() -> Vec<Case> {
    let steered = Entry {
        pax: vec![
            ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
            ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
            ("SCHILY.xattr.user.overlay.metacopy", b""),
            ("SCHILY.xattr.security.selinux", b"system_u:object_r:etc_t:s0"),
            ("SCHILY.xattr.user.fine", b"yes"),
        ],
        ..entry(b'5', "d")
    };
    // capabilities(7): version 2, effective, CAP_NET_BIND_SERVICE.
    let rights = [[1, 0, 0, 2], [0, 4, 0, 0], [0; 4], [0; 4], [0; 4]].concat();
    let able = file("ping", vec![("SCHILY.xattr.security.capability", &rights)]);
    let big = vec![b'x'; 512 << 10];
    let attribute = file("x", vec![("SCHILY.xattr.user.big", &big)]);
    vec![
        harmless("steers-overlayfs-by-attributes", Tar::new().entry(&steered), |diff| {
            assert_eq!(attribute_of(diff, "d", "user.fine").as_deref(), Some(b"yes".as_slice()));
            for name in
                ["trusted.overlay.redirect", "trusted.overlay.opaque", "user.overlay.metacopy"]
            {
                assert_eq!(attribute_of(diff, "d", name), None, "{name}");
            }
        }),
        harmless("brings-a-program-with-capabilities", Tar::new().entry(&able), |diff| {
            assert!(attribute_of(diff, "ping", "security.capability").is_some());
        }),
        refused("has-a-huge-attribute", "set an attribute", Tar::new().entry(&attribute)),
    ]
}

fn attribute_of(diff: &Path, name: &str, attribute: &str) -> Option<Vec<u8>> {
    let file = std::fs::File::open(diff.join(name)).unwrap();
    crioxide::sys::xattr::value(&file, attribute, 100).unwrap()
}

fn sparse() -> Vec<Case> {
    let older = file("x", vec![("GNU.sparse.map", b"0,1"), ("GNU.sparse.size", b"1000000000000")]);
    let newer = file(
        "x",
        vec![
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.realsize", b"8000000000000"),
        ],
    );
    let map = [b"1\n0\n1\n".as_slice(), &[0; 506]].concat();
    let mapped = Entry { content: &map, ..newer.clone() };
    let ones = vec![b'1'; 6 << 20];
    let endless = Entry { content: &ones, ..newer.clone() };
    vec![
        refused("is-sparse-in-the-older-way", "sparse", Tar::new().entry(&older)),
        refused("is-sparse-in-the-newer-way", "sparse", Tar::new().entry(&mapped)),
        // A map whose first line never ends: this one kept an unpacking busy for ever.
        refused("has-a-sparse-map-without-end", "sparse", Tar::new().entry(&newer)),
        refused("has-a-sparse-map-of-many-megabytes", "sparse", Tar::new().entry(&endless)),
        refused("is-sparse-as-old-gnu-has-it", "", Tar::new().entry(&entry(b'S', "x"))),
    ]
}

fn sizes() -> Vec<Case> {
    let hidden = Tar::new().file("../../hidden", 0o644, b"x").unfinished();
    let size = hidden.len().to_string();
    let pax = vec![("size", size.as_bytes())];
    let shifted = Entry { content: &hidden, pax, ..file("data", vec![]) };
    let claims = Entry { link: b"x", pax: vec![("size", b"1024")], ..entry(b'2', "link") };
    let endless = file("large", vec![("size", b"9000000000000000000")]);
    let mut negative = Tar::new().file("x", 0o644, b"").unfinished();
    negative[124..136].copy_from_slice(&[0xff; 12]);
    sum(&mut negative);
    let twice = Tar::new().file("a", 0o644, b"").raw(&[0; 1024]).file("hidden", 0o644, b"x");
    vec![
        harmless("hides-an-entry-by-another-size", Tar::new().entry(&shifted), |diff| {
            assert_eq!(diff.join("data").metadata().unwrap().len(), 1024);
        }),
        harmless(
            "hides-an-entry-behind-a-link",
            Tar::new().entry(&claims).file("seen", 0o644, b"x"),
            |diff| assert!(diff.join("seen").is_file()),
        ),
        harmless("hides-an-archive-behind-the-end", twice, |diff| {
            assert!(diff.join("a").is_file() && !diff.join("hidden").exists());
        }),
        refused("is-larger-than-all-disks", "unpacks to more than", Tar::new().entry(&endless)),
        refused("has-a-negative-size", "", Tar::new().raw(&negative)),
    ]
}

fn headers() -> Vec<Case> {
    let comment = vec![b'x'; 2 << 20];
    let name = vec![b'n'; 2 << 20];
    let long = |content| Entry { content, ..entry(b'L', "././@LongLink") };
    let many = (0..200).fold(Tar::new(), |tar, _| tar.entry(&long(&name[..6000])));
    let mut damaged = Tar::new().file("x", 0o644, b"").finish();
    damaged[0] ^= 1;
    let lies = Entry { content: b"99999999 path=x\n", ..entry(b'x', "PaxHeaders/x") };
    let owner = Tar::new().entry(&file("x", vec![("uid", b"root")]));
    let bad = "no valid tar";
    let huge = Tar::new().entry(&file("x", vec![("comment", &comment)]));
    let named = Tar::new().entry(&long(&name)).file("x", 0o644, b"");
    let within = |length: usize| {
        let mut archive = Tar::new().file("a", 0o644, &[1; 5000]).unfinished();
        archive.truncate(length);
        Layer::plain(archive)
    };
    vec![
        refused("has-a-huge-comment", bad, huge),
        refused("has-a-name-of-two-megabytes", bad, named),
        refused("has-names-upon-names", bad, many.file("x", 0o644, b"")),
        refused("lies-about-an-extensions-length", bad, Tar::new().entry(&lies).file("x", 0, b"")),
        refused("has-a-name-where-a-number-is-due", bad, owner),
        blob("has-a-damaged-header", bad, Layer::plain(damaged)),
        blob("ends-within-a-file", "ends inside", within(2000)),
        blob("ends-within-a-header", "ends inside", within(300)),
    ]
}

/// Gives the first header its right sum.
fn sum(archive: &mut [u8]) {
    archive[148..156].fill(b' ');
    let sum: u32 = archive[..512].iter().map(|byte| u32::from(*byte)).sum();
    archive[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

fn packings() -> Vec<Case> {
    let gzip = Layer::gzip(Tar::new().file("a", 0o644, &[1; 5000]).finish());
    let zstd = Layer::zstd(gzip.archive.clone());
    let zeros = Tar::new().file("zeros", 0o644, &vec![0; 100 << 20]).finish();
    let with = |layer: &Layer, blob: Vec<u8>| Layer { blob, ..layer.clone() };
    let cut = |layer: &Layer| with(layer, layer.blob[..layer.blob.len() - 3].to_vec());
    let longer = |layer: &Layer| with(layer, [&layer.blob, b"garbage".as_slice()].concat());
    // A frame of one byte, with a window of 256 MiB and one of two terabytes (RFC 8878, 3.1.1).
    let window = |exponent: u8| {
        with(
            &zstd,
            [&[0x28, 0xb5, 0x2f, 0xfd, 0, exponent << 3, 9, 0, 0], b"x".as_slice()].concat(),
        )
    };
    let other = with(&gzip, zstd.blob.clone());
    vec![
        blob("is-a-gzip-bomb", "times its size", Layer::gzip(zeros.clone())),
        blob("is-a-zstd-bomb", "times its size", Layer::zstd(zeros)),
        blob("wants-a-large-zstd-window", "no valid zstd", window(18)),
        blob("wants-a-huge-zstd-window", "no valid zstd", window(31)),
        blob("cuts-a-gzip-stream", "no valid gzip", cut(&gzip)),
        blob("cuts-a-zstd-stream", "no valid zstd", cut(&zstd)),
        blob("puts-garbage-behind-gzip", "no valid gzip", longer(&gzip)),
        blob("puts-garbage-behind-zstd", "no valid zstd", longer(&zstd)),
        blob("is-packed-otherwise-than-told", "no valid gzip", other),
        blob(
            "appends-a-gzip-member",
            "diff-id",
            with(&gzip, [&gzip.blob, images::gzip(b"more").as_slice()].concat()),
        ),
    ]
}

#[test]
fn no_layer_writes_outside_or_costs_more_than_it_may() {
    story(|| async {
        let mut scene = Scene::new(Setup::default()).await;
        let canary = scene.canary();
        let mut cases = paths(&canary);
        cases.extend(links(&canary));
        cases.extend(links_below_links(&canary));
        for more in [kinds, whiteouts, attributes, sparse, sizes, headers, packings] {
            cases.extend(more());
        }
        assert!(cases.len() > 65, "{}", cases.len());
        let mut faults = Faults::default();
        for Case { name, layer, end } in cases {
            let repository = format!("layers/{name}");
            let diff =
                scene.daemon.path("storage/overlay").join(layer.diff_id().hex()).join("diff");
            let image = Image::new(vec![layer], &["/bin/true"]);
            publish::image(&scene.registry, &format!("{repository}:1"), &image);
            let reference = scene.name(&format!("{repository}:1"));
            let pulled = scene.client.pull(&reference).await;
            faults.check(name, || match (end, &pulled) {
                (End::Refused(words), Err(status)) => {
                    scene.assert_told(&repository, status.message(), &[words]);
                }
                (End::Harmless(holds), Ok(_)) => holds(&diff),
                (End::Refused(_), Ok(_)) => panic!("it was pulled"),
                (End::Harmless(_), Err(status)) => panic!("{status}"),
            });
            scene.client.remove_image(&reference).await.unwrap();
            faults.check(name, || {
                scene.daemon.holds_nothing();
                scene.assert_untouched(name);
            });
        }
        faults.none();
        scene.finish().await;
    });
}

#[test]
fn a_layer_does_not_use_up_the_nodes_files_or_memory() {
    use crioxide::oci::media_type::Compression;
    use crioxide::storage::LayerError;
    use crioxide::storage::Limits;
    use crioxide::storage::Settings;
    use crioxide::storage::StorageError;
    use crioxide::storage::Store;

    let directory = tempfile::tempdir_in("/var/tmp").unwrap();
    let (root, runroot) = (directory.path().join("root"), directory.path().join("run"));
    let store = Store::open(Settings { root, runroot, mount_options: Vec::new() }).unwrap();
    // Three entries that imply a thousand directories each; directories with long names.
    let deep = (0..3).fold(Tar::new(), |tar, number| {
        tar.file(&format!("{number}/{}x", "d/".repeat(1000)), 0o644, b"")
    });
    let above = format!("{}/", "n".repeat(200)).repeat(18);
    let wide =
        (0..100).fold(Tar::new(), |tar, number| tar.dir(&format!("{above}{number}/"), 0o755));
    for (tar, told) in [(deep, "files"), (wide, "bytes")] {
        let limits = Limits { max_entries: 1500, max_paths: 100_000, ..Limits::default() };
        let unpacked =
            store.stage().unwrap().unpack(&mut &*tar.finish(), Compression::Plain, &limits);
        match unpacked {
            Err(StorageError::Layer(LayerError::TooMany { what, .. })) => {
                assert!(what.contains(told), "{what}");
            }
            other => panic!("{told}: {other:?}"),
        }
    }
}
