//! Doors for the fuzz targets: parsers of this room that nobody else calls.

use sigstore_verify::types::DsseEnvelope;

use crate::oci::digest::Digest;
use crate::signature::statement;

/// Reads a statement, as the envelope `bytes` holds it.
pub fn statement(bytes: &[u8]) {
    if let Ok(envelope) = serde_json::from_slice::<DsseEnvelope>(bytes)
        && let Ok(statement) = statement::parse(&envelope)
    {
        let meant = Digest::sha256(b"fuzz");
        let _ = statement.says(statement::SIGN, |digest| (*digest == meant).then_some(()));
    }
}
