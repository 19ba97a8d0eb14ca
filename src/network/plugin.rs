//! Runs plugins: finds the program, tells it what the specification says and nothing else, and
//! reads its answer within bounds.
//!
//! A plugin runs as root on the node's own network. Its environment holds the `CNI_` variables and
//! `PATH` (plugins call iptables by name); what it starts dies with it when its time is over.

use std::collections::HashMap;
use std::env;
use std::ffi::OsString;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use crate::model::ids::SandboxId;
use crate::sys::process::Command;
use crate::sys::process::Output;
use crate::sys::process::ProcessError;
use crate::sys::process::Stranger;
use crate::sys::process::readable;

use super::attachment::Attachment;
use super::conf::Version;
use super::conf::is_plugin_name;
use super::error::NetworkError;
use super::error::PluginError;
use super::error::quoted;
use super::result;

/// An answer beyond this is none.
const MAX_ANSWER: usize = 1024 * 1024;
/// How long a plugin may take to say which versions it speaks.
const VERSION_TIME: Duration = Duration::from_secs(10);
/// How often, and how long apart, a program that is just being written is tried again.
const BUSY_TRIES: u32 = 25;
const BUSY_PAUSE: Duration = Duration::from_millis(100);

/// What a plugin is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    /// Attach.
    Add,
    /// Detach.
    Delete,
    /// Say whether an `ADD` could be served.
    Status,
    /// Collect what belongs to no living attachment.
    Collect,
    /// Say which versions are spoken.
    Version,
}

impl Verb {
    fn as_str(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Delete => "DEL",
            Self::Status => "STATUS",
            Self::Collect => "GC",
            Self::Version => "VERSION",
        }
    }
}

/// What tells one program file from another at the same path.
type Stamp = (u64, u64, u64, i64, i64);

/// The plugins of this node.
#[derive(Debug)]
pub(super) struct Plugins {
    directories: Vec<PathBuf>,
    cni_path: OsString,
    path: OsString,
    /// Which versions each program speaks, as long as the file is the same.
    versions: Mutex<HashMap<PathBuf, (Stamp, Vec<Version>)>>,
}

impl Plugins {
    /// The plugins in these directories, the first of which wins.
    pub(super) fn new(directories: Vec<PathBuf>) -> Result<Self, NetworkError> {
        let cni_path = env::join_paths(&directories)
            .map_err(|_| NetworkError::PluginDirectories { directories: directories.clone() })?;
        let path = env::var_os("PATH").filter(|path| !path.is_empty()).unwrap_or_else(|| {
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into()
        });
        Ok(Self { directories, cni_path, path, versions: Mutex::default() })
    }

    /// Asks a plugin, gives it the request on its standard input, and gives what it answers.
    pub(super) async fn ask(
        &self,
        verb: Verb,
        name: &str,
        request: &[u8],
        attachment: Option<&Attachment>,
        time: Duration,
    ) -> Result<Vec<u8>, PluginError> {
        let (program, _) = self.find(name)?;
        let output = self.run(verb, &program, request, attachment, time).await?;
        if !output.stderr.is_empty() {
            let words = readable(&output.stderr);
            tracing::debug!(plugin = name, verb = verb.as_str(), words, "CNI plugin wrote");
        }
        if output.status.is_success() {
            return Ok(output.stdout);
        }
        if let Some(said) = result::parse_error(&output.stdout) {
            return Err(PluginError::Reported { code: said.code, message: said.message });
        }
        let words = if output.stdout.is_empty() { &output.stderr } else { &output.stdout };
        let words = quoted(&String::from_utf8_lossy(words));
        Err(PluginError::Died { path: program, status: output.status.to_string(), output: words })
    }

    /// The versions that a plugin speaks.
    pub(super) async fn versions(&self, name: &str) -> Result<Vec<Version>, PluginError> {
        let (program, stamp) = self.find(name)?;
        if let Some(versions) = self.known_versions(&program, stamp) {
            return Ok(versions);
        }
        let request = format!(r#"{{"cniVersion":"{}"}}"#, Version::V1_1_0.as_str());
        let answer = self.ask(Verb::Version, name, request.as_bytes(), None, VERSION_TIME).await;
        let versions = match answer {
            // A plugin from before the verb was there.
            Err(PluginError::Reported { message, .. })
                if message.starts_with("unknown CNI_COMMAND: VERSION") =>
            {
                vec![Version::V0_1_0]
            }
            Err(error) => return Err(error),
            Ok(bytes) => result::parse_versions(&bytes)
                .map_err(|source| PluginError::Answer { path: program.clone(), source })?,
        };
        let mut known = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(program, (stamp, versions.clone()));
        Ok(versions)
    }

    fn known_versions(&self, program: &Path, stamp: Stamp) -> Option<Vec<Version>> {
        let known = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(program).filter(|(old, _)| *old == stamp).map(|(_, versions)| versions.clone())
    }

    fn find(&self, name: &str) -> Result<(PathBuf, Stamp), PluginError> {
        if !is_plugin_name(name) {
            return Err(PluginError::Name { name: quoted(name) });
        }
        let paths = self.directories.iter().map(|directory| directory.join(name));
        paths.into_iter().find_map(|path| stamp(&path).map(|stamp| (path, stamp))).ok_or_else(
            || PluginError::Missing {
                name: name.to_owned(),
                directories: self.directories.clone(),
            },
        )
    }

    async fn run(
        &self,
        verb: Verb,
        program: &Path,
        request: &[u8],
        attachment: Option<&Attachment>,
        time: Duration,
    ) -> Result<Output, ProcessError> {
        let mut tries = 1;
        loop {
            let mut command = Command::new(program)
                .stdin(request)
                .timeout(time)
                .output_limit(MAX_ANSWER)
                .env("PATH", &self.path);
            for (key, value) in self.environment(verb, attachment) {
                command = command.env(key, value);
            }
            match command.run().await {
                // A provider that copies its program into place has it open for writing.
                Err(ProcessError::Start { source, .. })
                    if source.kind() == io::ErrorKind::ExecutableFileBusy && tries < BUSY_TRIES =>
                {
                    tries += 1;
                    tokio::time::sleep(BUSY_PAUSE).await;
                }
                outcome => return outcome,
            }
        }
    }

    fn environment(
        &self,
        verb: Verb,
        attachment: Option<&Attachment>,
    ) -> Vec<(&'static str, OsString)> {
        let mut all =
            vec![("CNI_COMMAND", verb.as_str().into()), ("CNI_PATH", self.cni_path.clone())];
        match attachment {
            Some(attachment) => {
                all.push(("CNI_CONTAINERID", attachment.id.as_str().into()));
                all.push(("CNI_IFNAME", attachment.interface.clone().into()));
                all.push(("CNI_ARGS", attachment.args_text().into()));
                if let Some(netns) = &attachment.netns {
                    all.push(("CNI_NETNS", netns.clone().into()));
                }
            }
            // Old plugins want these to be there, whatever is in them.
            None if verb == Verb::Version => {
                all.push(("CNI_NETNS", "dummy".into()));
                all.push(("CNI_IFNAME", "dummy".into()));
            }
            None => {}
        }
        all
    }
}

/// Ends the plugins that an earlier daemon left running for a sandbox when it was killed: they would
/// work on beside those that are asked now, or hang for ever.
pub(super) async fn end_orphans(id: &SandboxId) {
    let variable = format!("CNI_CONTAINERID={id}");
    let found = tokio::task::spawn_blocking(move || Stranger::with_variable(&variable)).await;
    for plugin in found.unwrap_or_default() {
        tracing::warn!(sandbox = %id, pid = plugin.pid(), "a CNI plugin of an earlier daemon is ended");
        plugin.kill().await;
    }
}

/// The stamp of a regular file; links are followed, as distributions link plugins into place.
fn stamp(path: &Path) -> Option<Stamp> {
    let file = std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file)?;
    Some((file.dev(), file.ino(), file.size(), file.mtime(), file.mtime_nsec()))
}
