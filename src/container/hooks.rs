//! The node's hooks, read from their directories anew for each container, so that nothing watches
//! them. Blocks.
//!
//! A file that cannot be used keeps containers from being made: a hook may be there to protect the
//! node, and what it would have done cannot be told from a file that is not understood.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::path::PathBuf;

use crate::container::error::ContainerError;
use crate::spec::hooks::NodeHook;
use crate::sys::files;
use crate::sys::files::Links;

/// The largest file of a hook that is read, in bytes.
const FILE_LIMIT: u64 = 1024 * 1024;
/// The most hooks that are read.
const MOST: usize = 1024;

/// All hooks in the order of their files' names; of two with one name, that of the later directory.
///
/// # Errors
///
/// [`ContainerError::Hook`] for a file that cannot be used.
pub fn read(directories: &[PathBuf]) -> Result<Vec<NodeHook>, ContainerError> {
    let mut found: BTreeMap<(String, String), PathBuf> = BTreeMap::new();
    for directory in directories {
        let entries = match std::fs::read_dir(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            other => other.map_err(|error| fault(directory, error.to_string()))?,
        };
        for entry in entries {
            let path = entry.map_err(|error| fault(directory, error.to_string()))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.ends_with(".json") {
                found.insert((name.to_lowercase(), name), path);
            }
        }
    }
    if found.len() > MOST {
        let most = found.into_values().next_back().unwrap_or_default();
        return Err(fault(&most, format!("there are more than {MOST} hooks")));
    }
    found.into_values().map(|path| one(&path)).collect()
}

fn one(path: &Path) -> Result<NodeHook, ContainerError> {
    let bytes = files::read(path, FILE_LIMIT, Links::Follow);
    let bytes = bytes.map_err(|error| fault(path, error.to_string()))?;
    let text = String::from_utf8(bytes).map_err(|error| fault(path, error.to_string()))?;
    let hook = NodeHook::parse(&text).map_err(|text| fault(path, text))?;
    if !Path::new(hook.path()).exists() {
        return Err(fault(path, format!("there is no program {:?}", hook.path())));
    }
    Ok(hook)
}

fn fault(path: &Path, fault: String) -> ContainerError {
    ContainerError::Hook { path: path.to_owned(), fault }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes a file, as someone else would.
    fn write(path: impl AsRef<std::path::Path>, text: impl AsRef<[u8]>) {
        let durability = files::Durability::Process;
        files::replace(path.as_ref(), text.as_ref(), 0o644, durability).unwrap();
    }

    #[test]
    fn a_later_directory_wins_and_a_broken_file_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let (first, second) = (directory.path().join("a"), directory.path().join("b"));
        let text = |program: &str| {
            format!(
                r#"{{"version":"1.0.0","hook":{{"path":{program:?}}},"when":{{"always":true}},
                   "stages":["poststop"]}}"#
            )
        };
        std::fs::create_dir(&first).unwrap();
        std::fs::create_dir(&second).unwrap();
        write(first.join("one.json"), text("/bin/sh"));
        write(first.join("two.json"), text("/bin/sh"));
        write(first.join("README"), "no hook");
        write(second.join("one.json"), text("/bin/ls"));
        let all = [first, second.clone(), directory.path().join("nothing")];
        let hooks = read(&all).unwrap();
        let paths: Vec<_> = hooks.iter().map(NodeHook::path).collect();
        assert_eq!(paths, ["/bin/ls", "/bin/sh"]);
        for broken in ["{", &text("/no/such/program")] {
            write(second.join("two.json"), broken);
            let error = read(&all).unwrap_err().to_string();
            assert!(error.contains("b/two.json"), "{error}");
        }
    }
}
