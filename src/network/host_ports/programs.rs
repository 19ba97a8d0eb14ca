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

/// Where tools are looked for.
#[derive(Debug)]
pub(super) struct Programs {
    directories: Vec<PathBuf>,
}

impl Programs {
    /// In these directories, or where the environment says.
    pub(super) fn new(directories: Option<Vec<PathBuf>>) -> Self {
        // A search path without the administrators' directories is common, and no reason to miss
        // what is there.
        let usual = || {
            let more = PATH.split(':').map(PathBuf::from);
            env::split_paths(&path()).chain(more).collect()
        };
        Self { directories: directories.unwrap_or_else(usual) }
    }

    /// The program of this name.
    pub(super) fn find(&self, name: &str) -> Option<PathBuf> {
        let absolute = self.directories.iter().filter(|directory| directory.is_absolute());
        absolute.map(|directory| directory.join(name)).find(|path| path.is_file())
    }
}
