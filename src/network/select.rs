//! Which network pods are attached to now.
//!
//! The directory is read again at every question. A watch would save less than the start of one
//! plugin costs, and would have to cope with directories that come later, with mounts over them
//! and with lost events; reading again cannot be wrong.

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::PoisonError;

use crate::failure::chain;

use super::conf;
use super::conf::NetworkConf;
use super::conf::Version;
use super::error::ConfError;
use super::error::NotReady;
use super::error::PluginError;
use super::plugin::Plugins;

const ENDINGS: [&str; 3] = ["conf", "conflist", "json"];

/// The configurations of this node.
#[derive(Debug)]
pub(super) struct Select {
    directory: PathBuf,
    wanted: Option<String>,
    /// The faults that were logged, so that each is logged once.
    told: Mutex<Vec<String>>,
}

impl Select {
    pub(super) fn new(directory: PathBuf, wanted: Option<String>) -> Self {
        Self { directory, wanted, told: Mutex::default() }
    }

    /// The first usable network, or the one that was named.
    pub(super) async fn one(&self, plugins: &Plugins) -> Result<NetworkConf, NotReady> {
        let (mut usable, faults) = self.usable(plugins, self.wanted.is_none()).await;
        let directory = self.directory.clone();
        let Some(wanted) = &self.wanted else {
            return usable.pop().ok_or(NotReady::NoConfiguration { directory, faults });
        };
        usable.into_iter().find(|conf| conf.name == *wanted).ok_or_else(|| NotReady::NoDefault {
            directory,
            wanted: wanted.clone(),
            faults,
        })
    }

    /// All usable networks; the first of each name.
    pub(super) async fn all(&self, plugins: &Plugins) -> Vec<NetworkConf> {
        self.usable(plugins, false).await.0
    }

    async fn usable(&self, plugins: &Plugins, first: bool) -> (Vec<NetworkConf>, Vec<String>) {
        let mut usable: Vec<NetworkConf> = Vec::new();
        let mut faults = Vec::new();
        for path in conf::conf_files(&self.directory, &ENDINGS) {
            let checked = match conf::load(&path) {
                Ok(conf) => agree(plugins, conf).await,
                Err(error) => Err(error),
            };
            match checked {
                Ok(conf) if usable.iter().any(|other| other.name == conf.name) => {
                    faults.push(format!("{}: another file has its name already", path.display()));
                }
                Ok(conf) => usable.push(conf),
                Err(error) => faults.push(format!("{}: {}", path.display(), chain(&error))),
            }
            if first && !usable.is_empty() {
                break;
            }
        }
        self.tell(&faults);
        (usable, faults)
    }

    fn tell(&self, faults: &[String]) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        for fault in faults.iter().filter(|fault| !told.contains(fault)) {
            tracing::warn!(fault, "CNI configuration file is skipped");
        }
        *told = faults.to_vec();
    }
}

/// The configuration with the highest version that all its plugins speak.
pub(super) async fn agree(
    plugins: &Plugins,
    mut conf: NetworkConf,
) -> Result<NetworkConf, ConfError> {
    let mut left = conf.versions.clone();
    for plugin in &conf.plugins {
        let spoken = plugins.versions(&plugin.name).await?;
        left.retain(|version| spoken.contains(version));
        if left.is_empty() {
            let (name, version) = (plugin.name.clone(), conf.version.as_str());
            return Err(PluginError::Version { name, version }.into());
        }
    }
    conf.version = left.into_iter().max().unwrap_or(Version::V0_1_0);
    Ok(conf)
}
