//! The cache of attachments: what undoing an `ADD` takes, also after a restart.
//!
//! One file for each attachment, named and written as libcni writes it, so that the reference and
//! other tools understand what is here, and we understand what they left. The file is there
//! *before* the first plugin runs, then without a result: a daemon that dies in the middle of an
//! `ADD` leaves no address that nobody knows of.

use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Map;
use serde_json::Value;

use crate::model::ids::SandboxId;
use crate::sys::files;

use super::attachment::Attachment;
use super::conf;
use super::error::NetworkError;

const KIND: &str = "cniCacheV1";
/// Configuration and result are at most 1 MiB each; the rest is short.
const MAX_FILE: u64 = 8 * 1024 * 1024;

/// The directory of the cache.
#[derive(Debug)]
pub(super) struct Cache {
    directory: PathBuf,
}

/// A file of the cache.
#[derive(Debug)]
pub(super) struct Entry {
    /// Where it lies.
    pub path: PathBuf,
    /// What it says; `None` if that cannot be read.
    pub attachment: Option<Attachment>,
}

#[derive(Serialize, Deserialize)]
struct Document {
    kind: String,
    #[serde(rename = "containerId")]
    id: String,
    config: String,
    #[serde(rename = "ifName")]
    interface: String,
    #[serde(rename = "networkName")]
    network: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    netns: Option<PathBuf>,
    #[serde(rename = "cniArgs", default, skip_serializing_if = "Vec::is_empty")]
    args: Vec<(String, String)>,
    #[serde(rename = "capabilityArgs", default, skip_serializing_if = "Map::is_empty")]
    capabilities: Map<String, Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    result: Option<Value>,
}

impl Cache {
    pub(super) fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// Writes down the attachment, whole or not at all.
    pub(super) fn put(&self, attachment: &Attachment) -> Result<(), NetworkError> {
        let path = self.path(attachment);
        let failed = |source| NetworkError::Cache { path: path.clone(), source };
        let document = Document {
            kind: KIND.to_owned(),
            id: attachment.id.to_string(),
            config: STANDARD.encode(&attachment.conf.bytes),
            interface: attachment.interface.clone(),
            network: attachment.conf.name.clone(),
            netns: attachment.netns.clone(),
            args: attachment.args.clone(),
            capabilities: attachment.capabilities.clone(),
            result: attachment.result.clone(),
        };
        let bytes = serde_json::to_vec(&document).map_err(|error| failed(error.into()))?;
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.directory)
            .map_err(failed)?;
        // Not made to survive a power cut: the pod does not survive it either.
        files::replace(&path, &bytes, 0o600, files::Durability::Process).map_err(failed)
    }

    /// Forgets a file of the cache.
    pub(super) fn forget(&self, path: &Path) -> Result<(), NetworkError> {
        files::remove(path).map_err(|source| NetworkError::Cache { path: path.to_owned(), source })
    }

    /// Where an attachment lies.
    pub(super) fn path(&self, attachment: &Attachment) -> PathBuf {
        let Attachment { conf, id, interface, .. } = attachment;
        self.directory.join(format!("{}-{id}-{interface}", conf.name))
    }

    /// The files of one sandbox.
    pub(super) fn of(&self, id: &SandboxId) -> Result<Vec<Entry>, NetworkError> {
        let part = format!("-{id}-");
        let mut entries = self.entries(|name| name.contains(&part))?;
        entries.retain(|entry| entry.attachment.as_ref().is_none_or(|found| found.id == *id));
        Ok(entries)
    }

    /// All attachments that a kubelet's runtime made.
    ///
    /// Others share this directory; what they keep here is not ours to undo.
    pub(super) fn of_pods(&self) -> Result<Vec<Attachment>, NetworkError> {
        let is_pods = |attachment: &Attachment| {
            attachment.args.iter().any(|(key, value)| {
                key == "K8S_POD_INFRA_CONTAINER_ID" && *value == *attachment.id.as_str()
            })
        };
        let entries = self.entries(|_| true)?.into_iter();
        Ok(entries.filter_map(|entry| entry.attachment).filter(is_pods).collect())
    }

    fn entries(&self, wanted: impl Fn(&str) -> bool) -> Result<Vec<Entry>, NetworkError> {
        let failed = |source| NetworkError::Cache { path: self.directory.clone(), source };
        let listing = match std::fs::read_dir(&self.directory) {
            Ok(listing) => listing,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(error)),
        };
        let mut entries = Vec::new();
        for entry in listing {
            let name = entry.map_err(failed)?.file_name();
            // A leading dot is a file that is being written.
            let Some(name) = name.to_str().filter(|name| !name.starts_with('.')) else { continue };
            if wanted(name) {
                let path = self.directory.join(name);
                let attachment = read(&path);
                entries.push(Entry { path, attachment });
            }
        }
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(entries)
    }
}

/// What a file says, if it is one of libcni's kind and all of it can be used.
fn read(path: &Path) -> Option<Attachment> {
    let bytes = files::read(path, MAX_FILE, files::Links::Refuse).ok()?;
    let document: Document = serde_json::from_slice(&bytes).ok()?;
    let conf = conf::parse_cached(STANDARD.decode(&document.config).ok()?).ok()?;
    let usable = document.kind == KIND
        && conf.name == document.network
        && is_interface_name(&document.interface)
        && document.args.iter().all(|(key, value)| is_argument(key) && is_argument(value));
    usable.then_some(())?;
    Some(Attachment {
        id: document.id.parse().ok()?,
        interface: document.interface,
        netns: document.netns,
        args: document.args,
        capabilities: document.capabilities,
        conf,
        result: document.result.filter(Value::is_object),
    })
}

/// The kernel's rule: `dev_valid_name` in net/core/dev.c.
fn is_interface_name(name: &str) -> bool {
    let bad = |c: char| c == '/' || c == ':' || c.is_whitespace() || c == '\0';
    !name.is_empty() && name.len() < 16 && name != "." && name != ".." && !name.contains(bad)
}

fn is_argument(text: &str) -> bool {
    !text.chars().any(|c| c == ';' || c == '=' || c.is_control())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn attachment(id: &SandboxId) -> Attachment {
        let text = r#"{"cniVersion":"1.0.0","name":"n-1","plugins":[{"type":"a"}]}"#;
        Attachment {
            id: id.clone(),
            interface: "eth0".to_owned(),
            netns: Some("/run/netns/x".into()),
            args: vec![("K8S_POD_INFRA_CONTAINER_ID".to_owned(), id.to_string())],
            capabilities: Map::from_iter([("cgroupPath".to_owned(), json!("/a"))]),
            conf: conf::parse_cached(text.into()).unwrap(),
            result: Some(json!({"cniVersion": "1.0.0", "ips": []})),
        }
    }

    #[test]
    fn what_is_put_is_libcnis_file_and_comes_back() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::new(directory.path().join("cni/results"));
        let id = SandboxId::fresh().unwrap();
        assert!(cache.of(&id).unwrap().is_empty());
        let put = attachment(&id);
        cache.put(&put).unwrap();
        let path = directory.path().join(format!("cni/results/n-1-{id}-eth0"));
        let file: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(
            file,
            json!({
                "kind": "cniCacheV1", "containerId": id.as_str(), "ifName": "eth0",
                "networkName": "n-1", "netns": "/run/netns/x",
                "config": STANDARD.encode(&put.conf.bytes),
                "cniArgs": [["K8S_POD_INFRA_CONTAINER_ID", id.as_str()]],
                "capabilityArgs": {"cgroupPath": "/a"},
                "result": {"cniVersion": "1.0.0", "ips": []},
            })
        );
        let found = cache.of(&id).unwrap().remove(0);
        let back = found.attachment.unwrap();
        assert_eq!(format!("{back:?}"), format!("{put:?}"));
        assert!(cache.of(&SandboxId::fresh().unwrap()).unwrap().is_empty());
        assert_eq!(cache.of_pods().unwrap().len(), 1);
        cache.forget(&found.path).unwrap();
        cache.forget(&found.path).unwrap();
        assert!(cache.of(&id).unwrap().is_empty());
    }

    #[test]
    fn files_of_others_are_left_and_broken_ones_of_the_sandbox_are_named() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::new(directory.path().to_owned());
        let id = SandboxId::fresh().unwrap();
        cache.put(&Attachment { args: vec![], ..attachment(&id) }).unwrap();
        assert!(cache.of_pods().unwrap().is_empty());
        let name = format!("n-1-{id}-eth0");
        let good: Value =
            serde_json::from_slice(&std::fs::read(directory.path().join(&name)).unwrap()).unwrap();
        for (key, value) in [
            ("kind", json!("other")),
            ("containerId", json!("../../etc")),
            ("ifName", json!("../eth0")),
            ("networkName", json!("another")),
            ("config", json!("no base64!")),
            ("config", json!(STANDARD.encode(r#"{"name":"n-1","plugins":[{"type":"../sh"}]}"#))),
            ("cniArgs", json!([["A", "1;B=2"]])),
        ] {
            let mut bad = good.clone();
            bad[key] = value;
            let path = directory.path().join(&name);
            files::replace(&path, bad.to_string().as_bytes(), 0o600, files::Durability::Process)
                .unwrap();
            let entries = cache.of(&id).unwrap();
            assert_eq!(entries.len(), 1);
            assert!(entries[0].attachment.is_none(), "{key}");
        }
    }
}
