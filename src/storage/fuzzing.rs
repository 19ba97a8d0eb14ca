//! Doors for the fuzz targets: parsers of this room that nobody else calls.

use std::path::Path;

use crate::oci::digest::Digest;
use crate::storage::verify;

/// Puts a layer together again from this tar-split and these files, and says whether what came of
/// it is the archive of this digest, with no file missing and none too many.
pub fn is_whole(split: &Path, diff: &Path, digest: &Digest) -> bool {
    verify::layer(split, diff, (digest, None), true).is_empty()
}
