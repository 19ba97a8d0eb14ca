//! What can go wrong with a pod's network, from the configuration file to the plugin's own words.
//!
//! Text that a plugin wrote is cut and escaped before it becomes part of an error: it ends in log
//! lines and in what the kubelet shows.

use std::io;
use std::path::PathBuf;

use crate::failure::Classify;
use crate::failure::Kind;
use crate::failure::io_kind;
use crate::model::ids::SandboxId;
use crate::sys::process::ProcessError;

use super::host_ports::HostPortError;

/// Why no pod can be attached now.
///
/// The text begins as the reference's does, so that who looks for it finds it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotReady {
    /// The directory holds no usable configuration.
    #[error(
        "no CNI configuration file in {}. Has your network provider started?{}",
        directory.display(),
        faults.iter().map(|fault| format!(" ({fault})")).collect::<String>()
    )]
    NoConfiguration {
        /// Where was looked.
        directory: PathBuf,
        /// What was found and cannot be used, and why.
        faults: Vec<String>,
    },
    /// The configured default network is not among the usable ones.
    #[error(
        "no CNI configuration file in {} names the network {wanted:?}. \
         Has your network provider started?{}",
        directory.display(),
        faults.iter().map(|fault| format!(" ({fault})")).collect::<String>()
    )]
    NoDefault {
        /// Where was looked.
        directory: PathBuf,
        /// The name that was configured.
        wanted: String,
        /// What was found and cannot be used, and why.
        faults: Vec<String>,
    },
    /// A plugin of the network answered `STATUS` with an error.
    #[error("CNI plugin {plugin} of network {network:?} is not ready: {reason}")]
    Status {
        /// The network's name.
        network: String,
        /// The plugin's name.
        plugin: String,
        /// Its words.
        reason: String,
    },
}

/// What went wrong in one run of one plugin.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    /// The name could lead out of the plugin directories.
    #[error("{name:?} is no plugin name")]
    Name {
        /// The name as configured, cut.
        name: String,
    },
    /// No plugin directory holds it.
    #[error("plugin {name:?} is not in {directories:?}")]
    Missing {
        /// The plugin's name.
        name: String,
        /// Where was looked.
        directories: Vec<PathBuf>,
    },
    /// It could not be run to its end within its bounds of time and output.
    #[error(transparent)]
    Run(#[from] ProcessError),
    /// It said what is wrong, as the specification wants it.
    #[error("plugin says: {message} (code {code})")]
    Reported {
        /// The specification's or the plugin's own code.
        code: u32,
        /// Its message and details, cut and escaped.
        message: String,
    },
    /// It ended with an error and without a readable word about it.
    #[error("{} ended with {status}: {output}", path.display())]
    Died {
        /// The program.
        path: PathBuf,
        /// How it ended.
        status: String,
        /// What it wrote, cut and escaped.
        output: String,
    },
    /// Its answer is not what the specification wants.
    #[error("{} gave an answer that cannot be used", path.display())]
    Answer {
        /// The program.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: ResultError,
    },
    /// It does not speak the version that the configuration wants.
    #[error("plugin {name:?} does not support CNI version {version}")]
    Version {
        /// The plugin's name.
        name: String,
        /// The version of the configuration.
        version: &'static str,
    },
}

/// What is wrong with a plugin's answer.
#[derive(Debug, thiserror::Error)]
pub enum ResultError {
    /// No JSON, or not of the result's shape.
    #[error("not a CNI result")]
    Shape(#[source] serde_json::Error),
    /// A version that does not exist.
    #[error("unknown CNI version {0:?}")]
    Version(String),
    /// An address that is none.
    #[error("{0:?} is no address with a prefix length")]
    Address(String),
    /// More addresses than any pod has.
    #[error("{0} addresses")]
    TooMany(usize),
}

/// One plugin's failure within a chain.
#[derive(Debug, thiserror::Error)]
#[error("plugin {plugin:?}")]
pub struct PluginFailure {
    /// The plugin's name.
    pub plugin: String,
    /// What went wrong.
    #[source]
    pub source: PluginError,
}

/// What is wrong with one network configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// No JSON, or not of the configuration's shape.
    #[error("not a CNI configuration")]
    Shape(#[source] serde_json::Error),
    /// A name that could not stand in a file name.
    #[error("{0:?} is no network name")]
    Name(String),
    /// A version that this program does not speak.
    #[error("unknown CNI version {0:?}")]
    Version(String),
    /// No plugin in it.
    #[error("no plugins in it")]
    Empty,
    /// More plugins than any network has.
    #[error("{0} plugins in it")]
    TooMany(usize),
    /// A plugin in it cannot be used.
    #[error(transparent)]
    Plugin(#[from] PluginError),
}

/// What went wrong with a pod's network.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// A plugin directory cannot stand in `CNI_PATH`.
    #[error("a colon stands in one of the plugin directories {directories:?}")]
    PluginDirectories {
        /// The directories as configured.
        directories: Vec<PathBuf>,
    },
    /// There is no usable network now.
    #[error(transparent)]
    NotReady(#[from] NotReady),
    /// A text of the request cannot be handed to plugins.
    #[error("{field} {value:?} cannot be an argument of a CNI plugin")]
    Argument {
        /// Which one.
        field: &'static str,
        /// Its value, cut.
        value: String,
    },
    /// A bandwidth annotation is no quantity.
    #[error("annotation {annotation}: {value:?} is no quantity")]
    Bandwidth {
        /// The annotation's key.
        annotation: &'static str,
        /// Its value, cut.
        value: String,
    },
    /// Its host ports cannot be had.
    #[error(transparent)]
    HostPorts(#[from] HostPortError),
    /// The sandbox is attached already.
    #[error("sandbox {id} is attached to network {network:?} already")]
    Attached {
        /// The sandbox.
        id: SandboxId,
        /// The network's name.
        network: String,
    },
    /// A plugin failed to attach the pod; what was done is undone.
    #[error("cannot attach sandbox {id} to network {network:?}")]
    Add {
        /// The sandbox.
        id: SandboxId,
        /// The network's name.
        network: String,
        /// What went wrong.
        #[source]
        source: Box<PluginFailure>,
    },
    /// Attaching failed, and then undoing what was done failed too.
    ///
    /// The attachment stays known, so that a later [`super::Network::remove`] or
    /// [`super::Network::collect`] finishes it.
    #[error("undoing it failed ({undo}) after: {}", crate::failure::chain(add.as_ref()))]
    NotUndone {
        /// What went wrong first.
        add: Box<NetworkError>,
        /// What went wrong then.
        undo: String,
    },
    /// Plugins failed to detach the pod; all of them were asked.
    #[error("cannot detach sandbox {id} from network {network:?}: {}", list(failures))]
    Remove {
        /// The sandbox.
        id: SandboxId,
        /// The network's name.
        network: String,
        /// Which ones, and why.
        failures: Vec<PluginFailure>,
    },
    /// Plugins failed to collect what no living sandbox holds.
    #[error("cannot collect what is left over in network {network:?}: {}", list(failures))]
    Collect {
        /// The network's name.
        network: String,
        /// Which ones, and why.
        failures: Vec<PluginFailure>,
    },
    /// The cache of results cannot be read or written.
    #[error("CNI cache {}", path.display())]
    Cache {
        /// The file or directory.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

fn list(failures: &[PluginFailure]) -> String {
    failures.iter().map(|failure| crate::failure::chain(failure)).collect::<Vec<_>>().join("; ")
}

impl Classify for NotReady {
    fn kind(&self) -> Kind {
        Kind::WrongState
    }
}

impl Classify for PluginError {
    fn kind(&self) -> Kind {
        match self {
            Self::Run(error) => error.kind(),
            Self::Name { .. }
            | Self::Missing { .. }
            | Self::Reported { .. }
            | Self::Died { .. }
            | Self::Answer { .. }
            | Self::Version { .. } => Kind::Internal,
        }
    }
}

impl Classify for NetworkError {
    fn kind(&self) -> Kind {
        match self {
            Self::NotReady(error) => error.kind(),
            Self::Argument { .. } | Self::Bandwidth { .. } => Kind::InvalidRequest,
            Self::HostPorts(error) => error.kind(),
            Self::Attached { .. } => Kind::WrongState,
            Self::Add { source, .. } => source.source.kind(),
            Self::NotUndone { add, .. } => add.kind(),
            Self::PluginDirectories { .. } | Self::Remove { .. } | Self::Collect { .. } => {
                Kind::Internal
            }
            Self::Cache { source, .. } => io_kind(source),
        }
    }
}

/// Cuts and escapes what someone else wrote, so that it can stand in one line.
pub(super) fn quoted(text: &str) -> String {
    const LIMIT: usize = 512;
    let text = text.trim();
    let mut short: String =
        text.chars().take(LIMIT).flat_map(|c| if c == '"' { vec![c] } else { escape(c) }).collect();
    if text.chars().nth(LIMIT).is_some() {
        short.push('…');
    }
    short
}

fn escape(c: char) -> Vec<char> {
    if c == '\'' { vec![c] } else { c.escape_debug().collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_stays_in_its_line_and_is_cut() {
        assert_eq!(quoted("a \"b\" 'c'\nd\u{1b}[0m \n"), "a \"b\" 'c'\\nd\\u{1b}[0m");
        assert_eq!(quoted(&"x".repeat(10_000)).chars().count(), 513);
    }

    #[test]
    fn the_words_for_no_network_are_those_that_are_known() {
        let error =
            NotReady::NoConfiguration { directory: "/etc/cni/net.d/".into(), faults: vec![] };
        assert_eq!(
            error.to_string(),
            "no CNI configuration file in /etc/cni/net.d/. Has your network provider started?"
        );
    }
}
