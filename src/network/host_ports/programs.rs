//! Where the node's tools for rules lie.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;

/// Where they are searched if the environment does not say.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The search path that this program was given.
pub(super) fn path() -> OsString {
    env::var_os("PATH").filter(|path| !path.is_empty()).unwrap_or_else(|| PATH.into())
}

/// The program of this name.
pub(super) fn find(name: &str) -> Option<PathBuf> {
    // A search path without the administrators' directories is common, and no reason to miss them.
    let more = PATH.split(':').map(PathBuf::from);
    let directories: Vec<PathBuf> = env::split_paths(&path()).chain(more).collect();
    directories
        .into_iter()
        .filter(|directory| directory.is_absolute())
        .map(|directory| directory.join(name))
        .find(|path| path.is_file())
}
