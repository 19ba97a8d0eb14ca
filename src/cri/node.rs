//! What the node says of itself: Version, Status, RuntimeConfig.

use std::collections::HashMap;
use std::path::PathBuf;

use serde::Serialize;

use crate::cri::api;
use crate::sandbox::Sandboxes;

/// What came of the last time that the configuration was read again.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Reload {
    /// When.
    pub at: String,
    /// Why it was not taken, if it was not.
    pub refused: Option<String>,
    /// The keys that were changed and wait for a restart.
    pub needs_restart: Vec<String>,
}

/// The facts about this daemon, which change when it is reloaded.
#[derive(Debug, Clone)]
pub struct Node {
    /// Which cgroup driver the kubelet must use too.
    pub systemd_cgroups: bool,
    /// The runtime handlers' names.
    pub handlers: Vec<String>,
    /// The default handler's name.
    pub default_handler: String,
    /// The handlers whose runtime can make mounts read-only recursively.
    pub recursive_read_only: Vec<String>,
    /// The handlers that can give a pod a user namespace of its own.
    pub user_namespaces: Vec<String>,
    /// The configured pause image; kubeadm compares it with its own.
    pub pause_image: String,
    /// The policy of pods whose namespace has none of its own.
    pub policy: PathBuf,
    /// The policies that are tried in a dry run.
    pub dry_run: Vec<PathBuf>,
    /// The runtime's configuration, as CRI-O shows it.
    pub configuration: serde_json::Value,
    /// What an administrator should know: options without effect, missing powers, a policy that
    /// accepts anything.
    pub warnings: Vec<String>,
    /// What came of the last reload; `None` before the first.
    pub reload: Option<Reload>,
}

impl Node {
    /// The answer to Version.
    #[must_use]
    pub fn version(&self) -> api::VersionResponse {
        api::VersionResponse {
            version: "0.1.0".to_owned(),
            runtime_name: "cri-o".to_owned(),
            runtime_version: env!("CARGO_PKG_VERSION").to_owned(),
            runtime_api_version: "v1".to_owned(),
        }
    }

    /// The answer to RuntimeConfig.
    #[must_use]
    pub fn runtime_config(&self) -> api::RuntimeConfigResponse {
        let driver = if self.systemd_cgroups {
            api::CgroupDriver::Systemd
        } else {
            api::CgroupDriver::Cgroupfs
        };
        api::RuntimeConfigResponse {
            linux: Some(api::LinuxRuntimeConfiguration { cgroup_driver: driver.into() }),
        }
    }

    /// The answer to Status.
    #[must_use]
    pub async fn status(&self, sandboxes: &Sandboxes, verbose: bool) -> api::StatusResponse {
        let network = sandboxes.network_ready().await;
        let condition = |kind: &str, failure: Option<(&str, String)>| api::RuntimeCondition {
            r#type: kind.to_owned(),
            status: failure.is_none(),
            reason: failure.as_ref().map(|(reason, _)| (*reason).to_owned()).unwrap_or_default(),
            message: failure.map(|(_, message)| message).unwrap_or_default(),
        };
        let network = network.err().map(|why| ("NetworkPluginNotReady", why.to_string()));
        let conditions = vec![condition("RuntimeReady", None), condition("NetworkReady", network)];
        api::StatusResponse {
            status: Some(api::RuntimeStatus { conditions }),
            info: if verbose { self.info() } else { HashMap::new() },
            runtime_handlers: self.runtime_handlers(),
            features: Some(api::RuntimeFeatures {
                supplemental_groups_policy: true,
                user_namespaces_host_network: !self.user_namespaces.is_empty(),
            }),
        }
    }

    /// The default handler stands twice: under its name and under none.
    fn runtime_handlers(&self) -> Vec<api::RuntimeHandler> {
        let handler = |shown: &str, name: &String| api::RuntimeHandler {
            name: shown.to_owned(),
            features: Some(api::RuntimeHandlerFeatures {
                recursive_read_only_mounts: self.recursive_read_only.contains(name),
                user_namespaces: self.user_namespaces.contains(name),
            }),
        };
        let mut handlers = vec![handler("", &self.default_handler)];
        handlers.extend(self.handlers.iter().map(|name| handler(name, name)));
        handlers
    }

    fn info(&self) -> HashMap<String, String> {
        let config = serde_json::json!({
            "sandboxImage": self.pause_image,
            "crio": self.configuration,
            "policy": { "file": self.policy, "dryRun": self.dry_run },
            "warnings": self.warnings,
            "reload": self.reload,
        });
        HashMap::from([("config".to_owned(), config.to_string())])
    }
}
