//! Small images, made in memory: archives, blobs, configs and manifests.
//!
//! [`Tar`] writes what the `tar` crate would not: paths that climb, types that no archive has. An
//! [`Image`] is what a registry or a `dir:` directory would serve.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part")]

use std::io::Write;
use std::path::Path;

use crioxide::oci::digest::Digest;
use serde_json::Value;
use serde_json::json;

/// An archive being written.
#[derive(Default)]
pub struct Tar {
    bytes: Vec<u8>,
}

/// One entry of an archive, as its header has it.
#[derive(Clone)]
pub struct Entry<'a> {
    pub path: &'a [u8],
    pub kind: u8,
    pub mode: u32,
    pub uid: u64,
    pub gid: u64,
    pub mtime: u64,
    pub link: &'a [u8],
    pub content: &'a [u8],
    pub device: (u32, u32),
    /// Keys and values of a PAX extension before the entry.
    pub pax: Vec<(&'a str, &'a [u8])>,
}

impl Default for Entry<'_> {
    fn default() -> Self {
        Self {
            path: b"",
            kind: b'0',
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: 1_700_000_000,
            link: b"",
            content: b"",
            device: (0, 0),
            pax: Vec::new(),
        }
    }
}

impl Tar {
    pub fn new() -> Self {
        Self::default()
    }

    /// A regular file.
    pub fn file(self, path: &str, mode: u32, content: &[u8]) -> Self {
        self.entry(&Entry { path: path.as_bytes(), mode, content, ..Entry::default() })
    }

    /// A directory.
    pub fn dir(self, path: &str, mode: u32) -> Self {
        self.entry(&Entry { path: path.as_bytes(), mode, kind: b'5', ..Entry::default() })
    }

    /// A symbolic link.
    pub fn link(self, path: &str, target: &str) -> Self {
        let (path, link) = (path.as_bytes(), target.as_bytes());
        self.entry(&Entry { path, link, mode: 0o777, kind: b'2', ..Entry::default() })
    }

    /// A hard link.
    pub fn hard_link(self, path: &str, target: &str) -> Self {
        let (path, link) = (path.as_bytes(), target.as_bytes());
        self.entry(&Entry { path, link, kind: b'1', ..Entry::default() })
    }

    /// Any entry, true or not.
    pub fn entry(mut self, entry: &Entry<'_>) -> Self {
        let mut pax = Vec::new();
        for (key, value) in &entry.pax {
            pax.extend(pax_record(key, value));
        }
        if entry.path.len() > 100 {
            pax.extend(pax_record("path", entry.path));
        }
        if entry.link.len() > 100 {
            pax.extend(pax_record("linkpath", entry.link));
        }
        if !pax.is_empty() {
            let extension = Entry { path: b"PaxHeaders/x", kind: b'x', ..Entry::default() };
            self.header(&extension, pax.len());
            self.padded(&pax);
        }
        self.header(entry, entry.content.len());
        self.padded(entry.content);
        self
    }

    /// Bytes as they are.
    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// The archive, with its end marker.
    pub fn finish(mut self) -> Vec<u8> {
        self.bytes.extend_from_slice(&[0; 1024]);
        self.bytes
    }

    /// The archive, without its end marker.
    pub fn unfinished(self) -> Vec<u8> {
        self.bytes
    }

    fn header(&mut self, entry: &Entry<'_>, size: usize) {
        let mut header = [0_u8; 512];
        let put = |header: &mut [u8; 512], at: usize, bytes: &[u8]| {
            header[at..at + bytes.len()].copy_from_slice(bytes);
        };
        put(&mut header, 0, &entry.path[..entry.path.len().min(100)]);
        put(&mut header, 100, format!("{:07o}\0", entry.mode).as_bytes());
        put(&mut header, 108, &number(entry.uid, 8));
        put(&mut header, 116, &number(entry.gid, 8));
        put(&mut header, 124, &number(size as u64, 12));
        put(&mut header, 136, &number(entry.mtime, 12));
        put(&mut header, 148, b"        ");
        header[156] = entry.kind;
        put(&mut header, 157, &entry.link[..entry.link.len().min(100)]);
        put(&mut header, 257, b"ustar\x0000");
        put(&mut header, 329, format!("{:07o}\0", entry.device.0).as_bytes());
        put(&mut header, 337, format!("{:07o}\0", entry.device.1).as_bytes());
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        put(&mut header, 148, format!("{sum:06o}\0 ").as_bytes());
        self.bytes.extend_from_slice(&header);
    }

    fn padded(&mut self, content: &[u8]) {
        self.bytes.extend_from_slice(content);
        let padding = content.len().next_multiple_of(512) - content.len();
        self.bytes.extend(std::iter::repeat_n(0, padding));
    }
}

/// A number in octal, or in base 256 if it is too large for that.
fn number(value: u64, width: usize) -> Vec<u8> {
    let octal = format!("{value:0width$o}\0", width = width - 1);
    if octal.len() <= width {
        return octal.into_bytes();
    }
    let mut bytes = vec![0_u8; width];
    bytes[width - 8..].copy_from_slice(&value.to_be_bytes());
    bytes[0] |= 0x80;
    bytes
}

/// A record of a PAX extension.
pub fn pax_record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    let mut record = format!("{length} {key}=").into_bytes();
    record.extend_from_slice(value);
    record.push(b'\n');
    record
}

/// Compresses with gzip.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

/// Compresses with zstd.
pub fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 3).unwrap()
}

/// A layer.
#[derive(Clone)]
pub struct Layer {
    pub media_type: &'static str,
    pub blob: Vec<u8>,
    pub archive: Vec<u8>,
}

impl Layer {
    /// A layer of this archive, compressed with gzip.
    pub fn gzip(archive: Vec<u8>) -> Self {
        let media_type = "application/vnd.oci.image.layer.v1.tar+gzip";
        Self { media_type, blob: gzip(&archive), archive }
    }

    /// A layer of this archive, compressed with zstd.
    pub fn zstd(archive: Vec<u8>) -> Self {
        let media_type = "application/vnd.oci.image.layer.v1.tar+zstd";
        Self { media_type, blob: zstd(&archive), archive }
    }

    /// A layer of this archive as it is.
    pub fn plain(archive: Vec<u8>) -> Self {
        let media_type = "application/vnd.oci.image.layer.v1.tar";
        Self { media_type, blob: archive.clone(), archive }
    }

    pub fn digest(&self) -> Digest {
        Digest::sha256(&self.blob)
    }

    pub fn diff_id(&self) -> Digest {
        Digest::sha256(&self.archive)
    }
}

/// An image: what a registry serves.
#[derive(Clone)]
pub struct Image {
    pub config: Vec<u8>,
    pub manifest: Vec<u8>,
    pub layers: Vec<Layer>,
}

impl Image {
    /// An image of these layers that runs `cmd`.
    pub fn new(layers: Vec<Layer>, cmd: &[&str]) -> Self {
        Self::with_config(layers, &json!({ "Cmd": cmd, "Env": ["PATH=/bin"] }))
    }

    /// An image of these layers, with this `config` in its config.
    pub fn with_config(layers: Vec<Layer>, config: &Value) -> Self {
        let diff_ids: Vec<_> = layers.iter().map(Layer::diff_id).collect();
        let architecture = match std::env::consts::ARCH {
            "aarch64" => "arm64",
            _ => "amd64",
        };
        let config = json!({
            "architecture": architecture,
            "os": "linux",
            "created": "2026-01-02T03:04:05Z",
            "config": config,
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
            "history": layers.iter().map(|_| json!({ "created_by": "test" })).collect::<Vec<_>>(),
        });
        let config = config.to_string().into_bytes();
        let describe = |media_type: &str, bytes: &[u8]| {
            let digest = Digest::sha256(bytes);
            json!({ "mediaType": media_type, "digest": digest, "size": bytes.len() })
        };
        let layers_of = layers.iter().map(|layer| describe(layer.media_type, &layer.blob));
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": describe("application/vnd.oci.image.config.v1+json", &config),
            "layers": layers_of.collect::<Vec<_>>(),
        });
        Self { config, manifest: manifest.to_string().into_bytes(), layers }
    }

    /// The digest of the manifest.
    pub fn digest(&self) -> Digest {
        Digest::sha256(&self.manifest)
    }

    /// The digest of the config.
    pub fn config_digest(&self) -> Digest {
        Digest::sha256(&self.config)
    }

    /// All blobs, the config among them.
    pub fn blobs(&self) -> Vec<(Digest, &[u8])> {
        let mut blobs = vec![(self.config_digest(), self.config.as_slice())];
        blobs.extend(self.layers.iter().map(|layer| (layer.digest(), layer.blob.as_slice())));
        blobs
    }

    /// Writes the image as skopeo's `dir:` has it.
    pub fn write_dir(&self, path: &Path) {
        let write = |name: &str, bytes: &[u8]| {
            std::fs::File::create(path.join(name)).unwrap().write_all(bytes).unwrap();
        };
        std::fs::create_dir_all(path).unwrap();
        write("version", b"Directory Transport Version: 1.1\n");
        write("manifest.json", &self.manifest);
        for (digest, bytes) in self.blobs() {
            write(digest.hex(), bytes);
        }
    }
}

/// The archive of a layer with a shell in it, from the host's static busybox.
pub fn busybox() -> Vec<u8> {
    let busybox = std::fs::read("/bin/busybox").expect("busybox-static is installed");
    let mut tar = Tar::new()
        .dir("bin/", 0o755)
        .dir("etc/", 0o755)
        .dir("tmp/", 0o1777)
        .dir("proc/", 0o555)
        .dir("sys/", 0o555)
        .dir("dev/", 0o755)
        .file("bin/busybox", 0o755, &busybox)
        .file("etc/passwd", 0o644, b"root:x:0:0:root:/:/bin/sh\nuser:x:1000:1000::/:/bin/sh\n")
        .file("etc/group", 0o644, b"root:x:0:\nuser:x:1000:\n");
    for name in ["sh", "cat", "echo", "ls", "sleep", "true", "false", "id", "stat", "httpd", "nc"] {
        tar = tar.link(&format!("bin/{name}"), "busybox");
    }
    tar.finish()
}
