//! Doors for the fuzz targets: parsers of this room that nobody else calls.

use crate::runtime::attach::DetachKeys;
use crate::runtime::exit_file;
use crate::runtime::features;

/// Reads the exit code that a monitor wrote.
pub fn exit_file(bytes: &[u8]) {
    let _ = exit_file::code(bytes);
}

/// Reads what the runtime says it can do.
pub fn features(bytes: &[u8]) {
    let _ = features::parse(bytes);
}

/// Looks for the detach keys, in whatever pieces they come.
///
/// # Panics
///
/// If the pieces change what is found.
pub fn detach_keys(bytes: &[u8]) {
    let (whole, leaves) = DetachKeys::default().take(bytes);
    let (mut keys, mut all, mut left) = (DetachKeys::default(), Vec::new(), false);
    for piece in bytes.chunks(3) {
        let (more, leaves) = keys.take(piece);
        all.extend(more);
        left = leaves;
        if left {
            break;
        }
    }
    assert_eq!((whole, leaves), (all, left));
}
