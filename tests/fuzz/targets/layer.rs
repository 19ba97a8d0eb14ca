//! Layers: unpacked for true, in a directory that is thrown away. What is kept to give the archive
//! back must have all of its bytes.

#![no_main]

use std::io::Read;
use std::path::PathBuf;
use std::sync::LazyLock;

use crioxide::oci::media_type::Compression;
use crioxide::storage::Limits;
use crioxide::storage::Settings;
use crioxide::storage::Store;
use libfuzzer_sys::fuzz_target;

static PLACE: LazyLock<(tempfile::TempDir, Store)> = LazyLock::new(|| {
    let directory = tempfile::tempdir_in("/dev/shm").expect("a directory");
    let settings = Settings {
        root: directory.path().join("root"),
        runroot: directory.path().join("run"),
        mount_options: Vec::new(),
    };
    let store = Store::open(settings).expect("a store");
    (directory, store)
});

/// A changed header has the right sum again, or nothing beyond it would ever be tried.
fn mended(input: &[u8]) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for block in bytes.chunks_exact_mut(512).filter(|block| block[257..262] == *b"ustar") {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
    bytes
}

/// The bytes that the tar-split of the one layer in the store accounts for.
fn accounted(directory: &std::path::Path) -> u64 {
    let beside = directory.join("root/overlay-layers");
    let entries = std::fs::read_dir(beside).expect("the layers").flatten();
    let mut found = entries.map(|entry| entry.path()).filter(|path| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(".crio-"))
    });
    let path: PathBuf = found.next().expect("a tar-split");
    let file = std::fs::File::open(path).expect("a tar-split");
    let mut text = String::new();
    flate2::read::GzDecoder::new(file).read_to_string(&mut text).expect("a tar-split");
    let lines = text.lines().map(|line| serde_json::from_str(line).expect("JSON"));
    lines
        .map(|line: serde_json::Value| match line["type"].as_u64() {
            Some(2) => {
                let length = line["payload"].as_str().expect("bytes").trim_end_matches('=').len();
                u64::try_from(length * 3 / 4).expect("a length")
            }
            _ => line["size"].as_u64().unwrap_or_default(),
        })
        .sum()
}

fuzz_target!(|input: &[u8]| {
    let Some((first, rest)) = input.split_first() else { return };
    let (compression, bytes) = match first % 4 {
        0 => (Compression::Gzip, rest.to_vec()),
        1 => (Compression::Zstd, rest.to_vec()),
        _ => (Compression::Plain, mended(rest)),
    };
    let (directory, store) = &*PLACE;
    let limits = Limits {
        max_expanded: 1 << 20,
        max_ratio: 100,
        max_entries: 100,
        ..Limits::default()
    };
    let staged = store.stage().expect("a place");
    if let Ok(unpacked) = staged.unpack(&mut &*bytes, compression, &limits) {
        assert_eq!(unpacked.blob_size, u64::try_from(bytes.len()).expect("a length"));
        assert_eq!(accounted(directory.path()), unpacked.diff_size);
    }
});
