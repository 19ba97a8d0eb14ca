//! AppArmor in the kernel: whether it is on, which profiles it has, and loading one.

use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use crate::failure::Classify;
use crate::failure::Kind;
use crate::failure::io_kind;
use crate::sys::files;
use crate::sys::files::Links;
use crate::sys::process::Command;
use crate::sys::process::ProcessError;

/// What the kernel shows of AppArmor. A container in which this daemon runs may lack it, and the
/// runtime then takes AppArmor for missing.
const DIRECTORY: &str = "/sys/kernel/security/apparmor";
/// Says `Y` when AppArmor is on.
const ENABLED: &str = "/sys/module/apparmor/parameters/enabled";
/// Where the program lies that compiles profiles; the environment of a service may not lead there.
const PARSERS: [&str; 2] = ["/usr/sbin/apparmor_parser", "/sbin/apparmor_parser"];
/// The longest list of profiles that is read, in bytes.
const LIST_LIMIT: u64 = 4 * 1024 * 1024;
/// How long a profile may take to compile; a slow machine takes a second.
const PATIENCE: Duration = Duration::from_secs(60);

/// Why a profile cannot be looked up or loaded.
#[derive(Debug, thiserror::Error)]
pub enum ApparmorError {
    /// The kernel's list.
    #[error("cannot read the list of AppArmor profiles, {path}")]
    List {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The program that compiles profiles.
    #[error("cannot load the AppArmor profile {name}")]
    Load {
        /// The profile.
        name: String,
        /// Why.
        source: ProcessError,
    },
    /// The same, and it is not there.
    #[error("cannot load the AppArmor profile {name}: there is no {}; install it", PARSERS.join(" or "))]
    NoParser {
        /// The profile.
        name: String,
    },
}

impl Classify for ApparmorError {
    fn kind(&self) -> Kind {
        match self {
            Self::List { source, .. } => io_kind(source),
            Self::Load { source, .. } => source.kind(),
            Self::NoParser { .. } => Kind::NotSupported,
        }
    }
}

/// Whether profiles can be given to processes here.
#[must_use]
pub fn is_enabled() -> bool {
    let on = std::fs::read(ENABLED).is_ok_and(|text| text.starts_with(b"Y"));
    on && Path::new(DIRECTORY).is_dir()
}

/// Whether there is a program that compiles profiles.
#[must_use]
pub fn has_parser() -> bool {
    parser().is_some()
}

fn parser() -> Option<&'static str> {
    PARSERS.into_iter().find(|path| Path::new(path).is_file())
}

/// Whether the kernel has a profile of this name.
///
/// # Errors
///
/// [`ApparmorError::List`].
pub fn is_loaded(name: &str) -> Result<bool, ApparmorError> {
    let path = Path::new(DIRECTORY).join("profiles");
    let list = files::read(&path, LIST_LIMIT, Links::Refuse)
        .map_err(|source| ApparmorError::List { path, source })?;
    Ok(lists(&list, name))
}

/// A line of the list is the profile's name and, in brackets, its mode.
fn lists(list: &[u8], name: &str) -> bool {
    let mut names =
        list.split(|byte| *byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok());
    names.any(|line| line.rsplit_once(" (").is_some_and(|(known, _)| known == name))
}

/// Loads a profile from its text, in the place of one of the same name.
///
/// # Errors
///
/// [`ApparmorError::NoParser`], [`ApparmorError::Load`] with what the parser says.
pub async fn load(name: &str, text: &str) -> Result<(), ApparmorError> {
    let parser = parser().ok_or_else(|| ApparmorError::NoParser { name: name.to_owned() })?;
    let failed = |source| ApparmorError::Load { name: name.to_owned(), source };
    // The cache is for files; what comes on the standard input has no name there.
    let command = Command::new(parser).args(["--skip-cache", "--replace"]);
    let output = command.stdin(text).timeout(PATIENCE).run().await.map_err(failed)?;
    output.success().map_err(failed)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_known_by_its_whole_name() {
        let list = b"crio-default (enforce)\n/usr/bin/a b (complain)\nx//y (unconfined)\nodd\n";
        for (name, expected) in [
            ("crio-default", true),
            ("/usr/bin/a b", true),
            ("x//y", true),
            ("crio", false),
            ("x", false),
            ("odd", false),
            ("", false),
        ] {
            assert_eq!(lists(list, name), expected, "{name}");
        }
    }
}
