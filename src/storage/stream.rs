//! A layer's bytes, decompressed and hashed on the way.
//!
//! One thread takes the compressed bytes as they come, hashes them, decompresses them into one
//! bounded window and hashes what comes out. What is past the window is gone; nothing here grows
//! with the layer.

use std::cell::RefCell;
use std::io;
use std::io::BufReader;
use std::io::Read;
use std::rc::Rc;

use crate::oci::digest::Algorithm;
use crate::oci::digest::Digest;
use crate::oci::digest::Hasher;
use crate::oci::media_type::Compression;
use crate::storage::error::LayerError;

/// Compressed bytes are taken this many at a time.
const COMPRESSED: usize = 128 * 1024;
/// The window on the archive, unless one header needs more.
const WINDOW: usize = 256 * 1024;
/// The largest zstd window, as a power of two: what the `zstd` program takes unasked.
const ZSTD_WINDOW_LOG: u32 = 27;
/// Layers below this size may grow by any factor.
const RATIO_FREE: u64 = 64 * 1024 * 1024;

/// What a layer may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the archive.
    pub max_expanded: u64,
    /// How many times larger than the blob the archive may be, beyond the first 64 MiB.
    pub max_ratio: u64,
    /// Entries of the archive, and files that they make.
    pub max_entries: u64,
    /// Bytes in the paths of its directories, which are kept until its end.
    pub max_paths: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_expanded: 64 << 30, max_ratio: 400, max_entries: 2_000_000, max_paths: 64 << 20 }
    }
}

/// What was seen of the compressed bytes.
struct Seen {
    /// None where the archive is not compressed, and is hashed as the archive.
    hasher: Option<Hasher>,
    bytes: u64,
    /// The error of the reader below, kept apart from those of the decompressor.
    error: Option<io::Error>,
}

/// Passes the compressed bytes on, and hashes and counts them.
struct Tee<'a> {
    blob: &'a mut dyn Read,
    seen: Rc<RefCell<Seen>>,
}

impl Read for Tee<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut seen = self.seen.borrow_mut();
        match self.blob.read(buffer) {
            Ok(length) => {
                if let Some(hasher) = &mut seen.hasher {
                    hasher.update(buffer.get(..length).unwrap_or_default());
                }
                seen.bytes += u64::try_from(length).unwrap_or_default();
                Ok(length)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => {
                let stand_in = io::Error::from(error.kind());
                seen.error = Some(error);
                Err(stand_in)
            }
        }
    }
}

/// The archive, a window at a time.
pub(super) struct Stream<'a> {
    reader: Box<dyn Read + 'a>,
    seen: Rc<RefCell<Seen>>,
    what: &'static str,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    hasher: Hasher,
    bytes: u64,
    limits: Limits,
}

/// What a stream came to.
pub(super) struct Totals {
    /// The digest of the compressed bytes.
    pub(super) blob: Digest,
    /// Their number.
    pub(super) blob_size: u64,
    /// The digest of the archive.
    pub(super) diff: Digest,
    /// Its size.
    pub(super) diff_size: u64,
}

impl<'a> Stream<'a> {
    /// A stream of this blob.
    pub(super) fn new(
        blob: &'a mut dyn Read,
        compression: Compression,
        algorithms: (Algorithm, Algorithm),
        limits: Limits,
    ) -> Result<Self, LayerError> {
        let twice = compression == Compression::Plain && algorithms.0 == algorithms.1;
        let hasher = (!twice).then(|| Hasher::new(algorithms.0));
        let seen = Rc::new(RefCell::new(Seen { hasher, bytes: 0, error: None }));
        let tee = Tee { blob, seen: Rc::clone(&seen) };
        let (reader, what): (Box<dyn Read + 'a>, _) = match compression {
            Compression::Plain => (Box::new(tee), "byte"),
            Compression::Gzip => {
                // All members, as RFC 1952 has it; what follows the last one is an error.
                let tee = BufReader::with_capacity(COMPRESSED, tee);
                (Box::new(flate2::bufread::MultiGzDecoder::new(tee)), "gzip")
            }
            Compression::Zstd => {
                let broken = |source| LayerError::Compression { what: "zstd", source };
                let tee = BufReader::with_capacity(COMPRESSED, tee);
                let mut reader = zstd::stream::read::Decoder::with_buffer(tee).map_err(broken)?;
                reader.window_log_max(ZSTD_WINDOW_LOG).map_err(broken)?;
                (Box::new(reader), "zstd")
            }
        };
        Ok(Self {
            reader,
            seen,
            what,
            buffer: vec![0; WINDOW],
            start: 0,
            end: 0,
            hasher: Hasher::new(algorithms.1),
            bytes: 0,
            limits,
        })
    }

    /// The bytes at hand.
    pub(super) fn window(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    /// Bytes of the archive that were not taken in yet may be at most this many.
    pub(super) fn allowance(&self) -> u64 {
        let at_hand = u64::try_from(self.end - self.start).unwrap_or_default();
        (self.limits.max_expanded - self.bytes).saturating_add(at_hand)
    }

    /// The most that the archive may have, in bytes.
    pub(super) fn limit(&self) -> u64 {
        self.limits.max_expanded
    }

    /// Lets go of the first `length` bytes of the window.
    pub(super) fn advance(&mut self, length: usize) {
        self.start = self.start.saturating_add(length).min(self.end);
    }

    /// Sees to it that the window has at least `length` bytes; `false` if the archive ends first.
    pub(super) fn need(&mut self, length: usize) -> Result<bool, LayerError> {
        while self.end - self.start < length {
            if self.start == self.end {
                (self.start, self.end) = (0, 0);
            } else if self.start + length > self.buffer.len() {
                self.buffer.copy_within(self.start..self.end, 0);
                (self.start, self.end) = (0, self.end - self.start);
                if length > self.buffer.len() {
                    self.buffer.resize(length.next_multiple_of(WINDOW), 0);
                }
            }
            if !self.fill()? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn fill(&mut self) -> Result<bool, LayerError> {
        let room = self.buffer.get_mut(self.end..).unwrap_or_default();
        let length = loop {
            match self.reader.read(room) {
                Ok(length) => break length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(self.broken(source)),
            }
        };
        self.hasher.update(room.get(..length).unwrap_or_default());
        self.end += length;
        self.bytes += u64::try_from(length).unwrap_or_default();
        self.check_size()?;
        Ok(length > 0)
    }

    fn check_size(&mut self) -> Result<(), LayerError> {
        let Limits { max_expanded, max_ratio, .. } = self.limits;
        if self.bytes > max_expanded {
            self.bytes = max_expanded;
            return Err(LayerError::TooLarge { limit: max_expanded });
        }
        let compressed = self.seen.borrow().bytes;
        if self.bytes > RATIO_FREE && self.bytes / max_ratio.max(1) > compressed {
            return Err(LayerError::Bomb { limit: max_ratio });
        }
        Ok(())
    }

    fn broken(&self, source: io::Error) -> LayerError {
        match self.seen.borrow_mut().error.take() {
            Some(error) => LayerError::Read(error),
            None => LayerError::Compression { what: self.what, source },
        }
    }

    /// What the stream came to. All of it has been read.
    pub(super) fn finish(self) -> Totals {
        let diff = self.hasher.finish();
        let mut seen = self.seen.borrow_mut();
        let blob = seen.hasher.take().map_or_else(|| diff.clone(), Hasher::finish);
        Totals { blob, blob_size: seen.bytes, diff, diff_size: self.bytes }
    }
}
