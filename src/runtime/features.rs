//! What a runtime can do, as it says itself (`runc features`, runtime spec "Features").

use std::time::Duration;

use serde::Deserialize;

use crate::runtime::Runtime;
use crate::runtime::error::RuntimeError;
use crate::runtime::runc::path_variable;
use crate::sys::process::Command;

/// How long a runtime may think about what it can do.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a runtime can do that not every one can.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Features {
    /// Mounts that are read-only with all that is mounted below them.
    pub recursive_read_only_mounts: bool,
    /// User namespaces, with mounts whose owners are mapped.
    pub user_namespaces: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    #[serde(default)]
    mount_options: Vec<String>,
    #[serde(default)]
    linux: Linux,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Linux {
    #[serde(default)]
    namespaces: Vec<String>,
    #[serde(default)]
    mount_extensions: MountExtensions,
}

#[derive(Default, Deserialize)]
struct MountExtensions {
    #[serde(default)]
    idmap: Enabled,
}

#[derive(Default, Deserialize)]
struct Enabled {
    #[serde(default)]
    enabled: bool,
}

impl Runtime {
    /// What the runtime of a handler can do. One that does not know the question, as runc before
    /// 1.1, can do none of it. The caller keeps the answer: it only changes with the program.
    ///
    /// # Errors
    ///
    /// [`RuntimeError::UnknownHandler`].
    pub async fn features(&self, handler: &str) -> Result<Features, RuntimeError> {
        let handler = self.handler(handler)?;
        let command = Command::new(&handler.runtime_path).arg("features");
        let output = command.env("PATH", path_variable()).timeout(PATIENCE).run().await;
        let bytes = match output {
            Ok(output) if output.status.is_success() => output.stdout,
            _ => return Ok(Features::default()),
        };
        Ok(parse(&bytes))
    }
}

pub(super) fn parse(bytes: &[u8]) -> Features {
    let Ok(document) = serde_json::from_slice::<Document>(bytes) else {
        return Features::default();
    };
    let has = |list: &[String], word: &str| list.iter().any(|entry| entry == word);
    Features {
        recursive_read_only_mounts: has(&document.mount_options, "rro"),
        user_namespaces: has(&document.linux.namespaces, "user")
            && document.linux.mount_extensions.idmap.enabled,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_are_read_and_anything_else_is_none() {
        let able = br#"{"ociVersionMin":"1.0.0","mountOptions":["ro","rro"],
            "linux":{"namespaces":["user"],"mountExtensions":{"idmap":{"enabled":true}}}}"#;
        let features = Features { recursive_read_only_mounts: true, user_namespaces: true };
        assert_eq!(parse(able), features);
        let older = br#"{"mountOptions":["ro"],"linux":{"namespaces":["user"]}}"#;
        assert_eq!(parse(older), Features::default());
        assert_eq!(parse(b"runc: no such command"), Features::default());
    }
}
