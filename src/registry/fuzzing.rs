//! Doors for the fuzz targets: parsers of this room that nobody else calls.

use std::path::Path;

use crate::oci::reference::Reference;
use crate::registry::challenge;
use crate::registry::conf;
use crate::registry::credentials;
use crate::registry::names;
use crate::registry::names::ShortNameMode;

/// Reads a `WWW-Authenticate` header.
pub fn challenge(header: &str) {
    for challenge in challenge::parse(header) {
        let _ = challenge.parameter("realm");
    }
}

/// Looks for credentials in an auth file.
pub fn auth_file(bytes: &[u8]) {
    if let Ok(reference) = "registry.example/shop/api:1".parse::<Reference>()
        && let Ok(Some(login)) = credentials::find(Path::new("/auth.json"), bytes, &reference)
    {
        let _ = login.basic();
    }
}

/// Reads registries.conf, and asks it for a short name and a full one.
pub fn registries_conf(bytes: &[u8]) {
    let Ok(conf) = conf::parse(Path::new("/registries.conf"), bytes) else { return };
    for text in ["api", "registry.example/shop/api:1"] {
        for reference in names::candidates(&conf, ShortNameMode::Disabled, text).unwrap_or_default()
        {
            let _ = names::places(&conf, &reference);
        }
    }
}
