//! Doors for the fuzz targets: parsers of this room that nobody else calls.

/// Reads what a client sends over SPDY, frame by frame, with the headers in it.
pub fn spdy(bytes: &[u8]) {
    crate::streaming::spdy::fuzzing::frames(bytes);
}
