//! Layers as an attacker writes them: nothing they hold lands outside, and nothing they claim is
//! believed.

use std::os::unix::fs::FileTypeExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;

use crioxide::failure::Classify;
use crioxide::failure::Kind;
use crioxide::oci::media_type::Compression;
use crioxide::storage::EntryFault;
use crioxide::storage::LayerCommit;
use crioxide::storage::LayerError;
use crioxide::storage::Limits;
use crioxide::storage::Settings;
use crioxide::storage::StorageError;
use crioxide::storage::Store;

use crate::images;
use crate::images::Entry;
use crate::images::Tar;

struct Place {
    directory: tempfile::TempDir,
    store: Store,
}

fn place() -> Place {
    let directory = tempfile::tempdir_in("/var/tmp").unwrap();
    let store = Store::open(Settings {
        root: directory.path().join("root"),
        runroot: directory.path().join("run"),
        mount_options: Vec::new(),
    })
    .unwrap();
    Place { directory, store }
}

impl Place {
    fn unpack(&self, blob: &[u8], compression: Compression) -> Result<PathBuf, LayerError> {
        let limits = Limits {
            max_expanded: 200 << 20,
            max_ratio: 50,
            max_entries: 1000,
            ..Limits::default()
        };
        match self.store.stage().unwrap().unpack(&mut &*blob, compression, &limits) {
            Ok(layer) => {
                let ids = self.store.commit_layers(vec![LayerCommit::New(Box::new(layer))]);
                let id = ids.unwrap().remove(0);
                Ok(self.directory.path().join("root/overlay").join(id.as_str()).join("diff"))
            }
            Err(StorageError::Layer(error)) => Err(error),
            Err(error) => panic!("{error}"),
        }
    }

    /// What is in the store after a refusal: nothing of the layer.
    fn assert_empty(&self) {
        let staging = self.directory.path().join("root/overlay/tempdirs");
        assert_eq!(std::fs::read_dir(staging).unwrap().count(), 0);
        assert_eq!(std::fs::read_dir(self.directory.path()).unwrap().count(), 2);
    }
}

/// Asserts that a layer is refused, for this fault.
fn refused(tar: Tar, expected: EntryFault) {
    let place = place();
    match place.unpack(&tar.finish(), Compression::Plain) {
        Err(LayerError::Entry { fault, .. }) if fault == expected => {}
        other => panic!("{expected:?} was expected: {other:?}"),
    }
    place.assert_empty();
}

/// Asserts that a layer is taken; where its files are.
fn taken(tar: Tar) -> (Place, PathBuf) {
    let place = place();
    let diff = place.unpack(&tar.finish(), Compression::Plain).unwrap();
    (place, diff)
}

fn inside(diff: &Path, path: &str) -> bool {
    diff.join(path).symlink_metadata().is_ok()
}

#[test]
fn a_path_that_climbs_is_refused() {
    for path in ["../out", "a/../../out", "/../out", "a/..", "..", "a/../b"] {
        refused(Tar::new().file(path, 0o644, b"x"), EntryFault::Path);
        refused(Tar::new().dir(path, 0o755), EntryFault::Path);
        refused(Tar::new().link(path, "x"), EntryFault::Path);
    }
    let climbing = Entry { path: b"x", pax: vec![("path", b"../../out")], ..Entry::default() };
    refused(Tar::new().entry(&climbing), EntryFault::Path);
}

#[test]
fn an_absolute_path_is_inside() {
    let (_place, diff) = taken(Tar::new().file("/etc/shadow", 0o600, b"x"));
    assert!(inside(&diff, "etc/shadow"));
}

#[test]
fn a_write_through_a_link_ends_inside() {
    for target in ["/target", "../../../../../../../target", "/../target", "./target"] {
        let tar = Tar::new()
            .dir("target/", 0o755)
            .link("link", target)
            .file("link/file", 0o644, b"x")
            .dir("link/directory/", 0o755)
            .file("link/directory/deep", 0o644, b"x");
        let (_place, diff) = taken(tar);
        assert!(inside(&diff, "target/file") && inside(&diff, "target/directory/deep"), "{target}");
    }
}

#[test]
fn a_link_to_a_host_directory_is_not_written_through() {
    let host = tempfile::tempdir_in("/var/tmp").unwrap();
    let target = host.path().to_str().unwrap().to_owned();
    refused(Tar::new().link("link", &target).file("link/file", 0o644, b"x"), EntryFault::Parent);
    refused(
        Tar::new().link("a", "b").link("b", &target).file("a/file", 0o644, b"x"),
        EntryFault::Parent,
    );
    let proc = Tar::new().link("link", "/proc/self/root/var/tmp").file("link/file", 0o644, b"x");
    refused(proc, EntryFault::Parent);
    assert_eq!(std::fs::read_dir(host.path()).unwrap().count(), 0);
}

#[test]
fn a_file_over_a_link_replaces_the_link() {
    let host = tempfile::NamedTempFile::new_in("/var/tmp").unwrap();
    let target = host.path().to_str().unwrap().to_owned();
    // The same path twice is refused, so the second one comes through another name.
    let tar = Tar::new().dir("d/", 0o755).link("d/file", &target).link("alias", "d").file(
        "alias/file",
        0o644,
        b"overwritten",
    );
    let (_place, diff) = taken(tar);
    assert_eq!(std::fs::read(diff.join("d/file")).unwrap(), b"overwritten");
    assert_eq!(std::fs::metadata(host.path()).unwrap().len(), 0);
}

#[test]
fn modes_and_owners_are_not_set_through_a_link() {
    let host = tempfile::tempdir_in("/var/tmp").unwrap();
    let mode = || std::fs::metadata(host.path()).unwrap().mode();
    let before = mode();
    let target = host.path().to_str().unwrap().to_owned();
    let tar =
        Tar::new().dir("d/", 0o755).link("d/x", &target).link("alias", "d").dir("alias/x/", 0o777);
    let (_place, diff) = taken(tar);
    assert!(diff.join("d/x").symlink_metadata().unwrap().is_dir());
    assert_eq!(mode(), before);
}

#[test]
fn a_hard_link_stays_inside() {
    refused(Tar::new().hard_link("x", "../../../etc/passwd"), EntryFault::LinkTarget);
    refused(Tar::new().hard_link("x", ""), EntryFault::LinkTarget);
    refused(Tar::new().hard_link("x", "."), EntryFault::LinkTarget);
    let place = place();
    for target in ["/etc/passwd", "etc/passwd"] {
        let tar = Tar::new().link("etc", "/etc").hard_link("x", target);
        let error = place.unpack(&tar.finish(), Compression::Plain).unwrap_err();
        assert!(matches!(error, LayerError::Write { .. }), "{error:?}");
    }
    // A hard link to a symbolic link is one more name of the link, not of its target.
    let (_place, diff) = taken(Tar::new().link("l", "/etc/passwd").hard_link("x", "l"));
    assert!(diff.join("x").symlink_metadata().unwrap().is_symlink());
}

#[test]
fn whiteouts_are_the_stores_own() {
    let device = Entry { path: b"gone", kind: b'3', device: (0, 0), ..Entry::default() };
    refused(Tar::new().entry(&device), EntryFault::OverlayWhiteout);
    for name in [".wh.", ".wh..", ".wh...", "a/.wh..."] {
        refused(Tar::new().file(name, 0, b""), EntryFault::Whiteout);
    }
    refused(Tar::new().dir(".wh.x/", 0o755), EntryFault::Whiteout);
    let steered = Entry {
        path: b"d",
        kind: b'5',
        mode: 0o755,
        pax: vec![
            ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
            ("SCHILY.xattr.trusted.overlay.metacopy", b""),
            ("SCHILY.xattr.user.overlay.opaque", b"y"),
            ("SCHILY.xattr.security.selinux", b"system_u:object_r:etc_t:s0"),
            ("SCHILY.xattr.user.fine", b"yes"),
        ],
        ..Entry::default()
    };
    let (_place, diff) = taken(Tar::new().entry(&steered));
    let directory = crioxide::sys::beneath::Directory::open(&diff.join("d")).unwrap();
    let value = |name| crioxide::sys::xattr::value(&directory, name, 100).unwrap();
    assert_eq!(value("user.fine").as_deref(), Some(b"yes".as_slice()));
    assert_eq!(value("trusted.overlay.redirect"), None);
    assert_eq!(value("trusted.overlay.metacopy"), None);
    assert_eq!(value("user.overlay.opaque"), None);
}

#[test]
fn a_whiteout_hides_what_is_below_and_not_its_own_layer() {
    let tar = Tar::new()
        .file("a/.wh.gone", 0, b"")
        .file(".wh.before", 0, b"")
        .dir("before/", 0o755)
        .file("before/new", 0o644, b"x")
        .dir("after/", 0o755)
        .file(".wh.after", 0, b"")
        .file(".wh.file", 0, b"")
        .file("file", 0o644, b"x")
        .file(".wh..wh.plnk", 0, b"")
        .dir("cut/", 0o755)
        .file("cut/.wh..wh..opq", 0, b"");
    let (_place, diff) = taken(tar);
    let gone = diff.join("a/gone").symlink_metadata().unwrap();
    assert!(gone.file_type().is_char_device() && gone.rdev() == 0);
    assert!(inside(&diff, "before/new") && diff.join("file").is_file());
    assert!(!inside(&diff, ".wh..wh.plnk"));
    for name in ["before", "after", "cut"] {
        let directory = crioxide::sys::beneath::Directory::open(&diff.join(name)).unwrap();
        let opaque = crioxide::sys::xattr::value(&directory, "trusted.overlay.opaque", 10).unwrap();
        assert_eq!(opaque.as_deref(), Some(b"y".as_slice()), "{name}");
    }
}

#[test]
fn what_is_there_twice_is_refused() {
    refused(Tar::new().file("a", 0o644, b"1").file("a", 0o644, b"2"), EntryFault::Twice);
    refused(Tar::new().file("a", 0o644, b"1").file("./a", 0o644, b"2"), EntryFault::Twice);
    refused(Tar::new().dir("a/", 0o755).file("a", 0o644, b"2"), EntryFault::Twice);
}

#[test]
fn what_is_no_layer_entry_is_refused() {
    let entry = |kind| Tar::new().entry(&Entry { path: b"x", kind, ..Entry::default() });
    for kind in [b'7', b'D', b'M', b'V', b'Z'] {
        refused(entry(kind), EntryFault::Kind);
    }
    let owner = |uid, gid| Tar::new().entry(&Entry { path: b"x", uid, gid, ..Entry::default() });
    refused(owner(u64::from(u32::MAX), 0), EntryFault::Owner);
    refused(owner(0, 1 << 32), EntryFault::Owner);
    let sparse = Entry {
        path: b"x",
        pax: vec![("GNU.sparse.map", b"0,1"), ("GNU.sparse.size", b"1000000000000")],
        ..Entry::default()
    };
    refused(Tar::new().entry(&sparse), EntryFault::Sparse);
    refused(Tar::new().file("a", 0o644, b"").file("a/b", 0o644, b""), EntryFault::Parent);
    let long = format!("{}/x", "n".repeat(256));
    refused(Tar::new().file(&long, 0o644, b""), EntryFault::Path);
}

#[test]
fn a_layer_that_grows_without_end_is_stopped() {
    let place = place();
    let zeros = Tar::new().file("zeros", 0o644, &vec![0; 150 << 20]).finish();
    let error = place.unpack(&images::gzip(&zeros), Compression::Gzip).unwrap_err();
    assert!(matches!(error, LayerError::Bomb { .. }), "{error:?}");
    assert_eq!(error.kind(), Kind::Corrupt);
    let large =
        Entry { path: b"large", pax: vec![("size", b"9000000000000000000")], ..Entry::default() };
    let error = place.unpack(&Tar::new().entry(&large).unfinished(), Compression::Plain);
    assert!(matches!(error, Err(LayerError::TooLarge { .. })), "{error:?}");
    let mut many = Tar::new();
    for number in 0..1001 {
        many = many.file(&number.to_string(), 0o644, b"");
    }
    let error = place.unpack(&many.finish(), Compression::Plain).unwrap_err();
    assert!(matches!(error, LayerError::TooMany { what: "entries", .. }), "{error:?}");
    let long = vec![b'x'; 2 << 20];
    let extension = Entry { path: b"x", pax: vec![("comment", &long)], ..Entry::default() };
    let error = place.unpack(&Tar::new().entry(&extension).finish(), Compression::Plain);
    assert!(matches!(error, Err(LayerError::Tar(_))), "{error:?}");
    place.assert_empty();
}

#[test]
fn a_stream_that_is_cut_or_goes_on_is_refused() {
    let place = place();
    let archive = Tar::new().file("a", 0o644, &[1; 5000]).finish();
    for (blob, compression) in
        [(images::gzip(&archive), Compression::Gzip), (images::zstd(&archive), Compression::Zstd)]
    {
        let cut = place.unpack(&blob[..blob.len() - 1], compression);
        assert!(matches!(cut, Err(LayerError::Compression { .. })), "{cut:?}");
        let longer = place.unpack(&[&blob, b"garbage".as_slice()].concat(), compression);
        assert!(matches!(longer, Err(LayerError::Compression { .. })), "{longer:?}");
        place.unpack(&blob, compression).unwrap();
    }
    let cut = place.unpack(&archive[..1000], Compression::Plain);
    assert!(matches!(cut, Err(LayerError::Short(_))), "{cut:?}");
    let mut damaged = archive.clone();
    damaged[0] ^= 1;
    let damaged = place.unpack(&damaged, Compression::Plain);
    assert!(matches!(damaged, Err(LayerError::Tar(_))), "{damaged:?}");
    // Several members are one stream.
    let (one, two) = archive.split_at(2000);
    let members = [images::gzip(one), images::gzip(two)].concat();
    place.unpack(&members, Compression::Gzip).unwrap();
}

#[test]
fn an_error_of_the_network_is_not_the_layers() {
    struct Cut(Vec<u8>);
    impl std::io::Read for Cut {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            if self.0.is_empty() {
                return Err(std::io::Error::other("connection reset"));
            }
            let length = buffer.len().min(self.0.len());
            buffer[..length].copy_from_slice(&self.0[..length]);
            self.0.drain(..length);
            Ok(length)
        }
    }
    let place = place();
    let mut blob = images::gzip(&Tar::new().file("a", 0o644, &[1; 5000]).finish());
    blob.truncate(blob.len() / 2);
    let staged = place.store.stage().unwrap();
    let error = staged.unpack(&mut Cut(blob), Compression::Gzip, &Limits::default()).unwrap_err();
    assert_eq!(error.kind(), Kind::RegistryUnavailable, "{error:?}");
    place.assert_empty();
}

#[test]
fn content_behind_an_entry_that_has_none_is_not_skipped() {
    // A link that claims to have content: Go reads the next block as a header, and so do we. Who
    // skips it sees another layer.
    let mut tar = Tar::new().entry(&Entry {
        path: b"link",
        kind: b'2',
        link: b"x",
        content: b"",
        pax: vec![("size", b"1024")],
        ..Entry::default()
    });
    tar = tar.file("seen", 0o644, b"x");
    let (_place, diff) = taken(tar);
    assert!(inside(&diff, "seen"));
}
