//! What is needed to give a layer's bytes back.
//!
//! A tar archive cannot be made again from the files it was unpacked to. So all of it that is no
//! file content is kept beside the layer, with the order of things: lines of JSON, compressed,
//! either a piece of the archive as it was, or "here the content of this file follows". This is
//! the format of `github.com/vbatts/tar-split`; `podman save` and `skopeo copy` read it.

use std::collections::HashSet;
use std::fs::File;
use std::hash::BuildHasher;
use std::hash::RandomState;
use std::io;
use std::io::BufWriter;
use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;

/// A piece is written when it is at least this long.
const PIECE: usize = 256 * 1024;

/// Writes the tar-split file of a layer while the layer passes by.
pub(super) struct TarSplit {
    out: GzEncoder<BufWriter<File>>,
    position: u64,
    piece: Vec<u8>,
    line: String,
    hasher: RandomState,
    seen: HashSet<u64>,
}

impl TarSplit {
    /// Writes to this file.
    pub(super) fn new(file: File) -> Self {
        let file = BufWriter::with_capacity(32 * 1024, file);
        Self {
            out: GzEncoder::new(file, Compression::fast()),
            position: 0,
            piece: Vec::new(),
            line: String::new(),
            hasher: RandomState::new(),
            seen: HashSet::new(),
        }
    }

    /// Takes in bytes of the archive that are no file content.
    pub(super) fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= PIECE { self.flush() } else { Ok(()) }
    }

    /// Whether this path, without `.` and doubled slashes, is new in this layer. Readers of the
    /// format refuse a path that is there twice.
    pub(super) fn is_new(&mut self, path: &[&[u8]]) -> bool {
        self.seen.insert(self.hasher.hash_one(path))
    }

    /// Takes in that an entry of this name ended, with `size` bytes of content after what was
    /// taken in so far.
    pub(super) fn entry(&mut self, name: &[u8], size: u64, sum: [u8; 8]) -> io::Result<()> {
        self.flush()?;
        self.line.clear();
        self.line.push_str(r#"{"type":1,"#);
        match std::str::from_utf8(name) {
            Ok(name) => {
                self.line.push_str(r#""name":"#);
                self.line.push_str(&serde_json::to_string(name)?);
            }
            Err(_) => {
                self.line.push_str(r#""name_raw":""#);
                STANDARD.encode_string(name, &mut self.line);
                self.line.push('"');
            }
        }
        if size > 0 {
            self.line.push_str(&format!(r#","size":{size},"payload":""#));
            STANDARD.encode_string(sum, &mut self.line);
            self.line.push('"');
        } else {
            self.line.push_str(r#","payload":null"#);
        }
        self.end_line()
    }

    /// Writes what is left.
    pub(super) fn finish(mut self) -> io::Result<()> {
        self.flush()?;
        self.out.finish()?.flush()
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        self.line.clear();
        self.line.push_str(r#"{"type":2,"payload":""#);
        STANDARD.encode_string(&self.piece, &mut self.line);
        self.line.push('"');
        self.piece.clear();
        self.end_line()
    }

    fn end_line(&mut self) -> io::Result<()> {
        self.line.push_str(&format!(",\"position\":{}}}\n", self.position));
        self.position += 1;
        self.out.write_all(self.line.as_bytes())
    }
}
