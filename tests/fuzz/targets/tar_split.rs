//! Tar-splits, as other programs left them in the store: packed here, or taken as they are. No text
//! makes other files pass for the layer's.

#![no_main]

use std::fs::File;
use std::io::Write;
use std::sync::LazyLock;

use crioxide::oci::digest::Digest;
use crioxide::storage::fuzzing;
use flate2::Compression;
use flate2::write::GzEncoder;
use libfuzzer_sys::fuzz_target;

/// A layer's directory, with links out of it.
static PLACE: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    let place = tempfile::tempdir_in("/dev/shm").expect("a directory");
    let diff = place.path().join("diff");
    std::fs::create_dir_all(diff.join("etc")).expect("a directory");
    let write = |path: &str, bytes: &[u8]| {
        File::create(place.path().join(path)).and_then(|mut file| file.write_all(bytes)).expect("a file");
    };
    write("diff/etc/motd", b"hello\n");
    write("diff/plain", b"x");
    write("outside", b"secret");
    std::os::unix::fs::symlink("../outside", diff.join("link")).expect("a link");
    std::os::unix::fs::symlink("..", diff.join("up")).expect("a link");
    place
});

fuzz_target!(|input: &[u8]| {
    let Some((first, bytes)) = input.split_first() else { return };
    let split = PLACE.path().join("split.gz");
    let mut file = File::create(&split).expect("a file");
    if first % 4 == 0 {
        file.write_all(bytes).expect("bytes");
    } else {
        let mut packed = GzEncoder::new(file, Compression::fast());
        packed.write_all(bytes).expect("bytes");
        packed.finish().expect("bytes");
    }
    let nobodys = Digest::sha256(b"an archive that nobody has");
    assert!(!fuzzing::is_whole(&split, &PLACE.path().join("diff"), &nobodys));
});
