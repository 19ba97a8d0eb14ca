//! Doors for the fuzz targets: parsers of this room that nobody else calls.

use crate::network::conf;
use crate::network::conf::Version;
use crate::network::result;

/// Reads what a plugin answered, whatever it was asked, and what lies in the cache.
pub fn answer(bytes: &[u8]) {
    let _ = result::parse(bytes, Version::V0_4_0);
    let _ = result::parse_error(bytes);
    let _ = result::parse_versions(bytes);
    let _ = conf::parse_cached(bytes.to_vec());
}
