//! At start: brings the records and what really runs together.
//!
//! A sandbox whose making was cut off by the end of the last daemon is cleared away; one whose
//! namespaces are gone (a reboot) is not ready; a container that ended meanwhile has its exit file.
//! What belongs to other tools is not touched.

use futures_util::StreamExt;
use futures_util::stream;

use crate::daemon::assemble::Parts;
use crate::daemon::error::DaemonError;
use crate::failure::chain;
use crate::model::ids::ContainerId;
use crate::model::ids::SandboxId;
use crate::state::StateError;
use crate::sys::files;

/// How many containers are asked about at once.
const AT_ONCE: usize = 8;

/// Loads the records and makes them true.
pub(super) async fn reconcile(parts: &Parts) -> Result<(), DaemonError> {
    parts.store.collect_layers()?;
    let cut = load_sandboxes(parts)?;
    load_containers(parts).await?;
    for id in cut {
        if let Err(error) = parts.sandboxes.remove_unreadable(&id).await {
            tracing::error!(sandbox = %id, error = chain(&error), "cannot remove it");
        }
    }
    for sandbox in parts.records.sandboxes.all() {
        if let Err(error) = parts.sandboxes.reconcile(&sandbox.id) {
            tracing::error!(sandbox = %sandbox.id, error = chain(&error), "cannot reconcile");
        }
        parts.sandboxes.adopt_network(&sandbox.id);
    }
    stream::iter(parts.records.containers.all())
        .for_each_concurrent(AT_ONCE, |container| async move {
            if let Err(error) = parts.containers.reconcile(&container.id).await {
                tracing::error!(container = %container.id, error = chain(&error), "cannot reconcile");
            }
        })
        .await;
    clear_unanswered(parts).await;
    clear_half_made(parts).await;
    parts.store.collect_image_mounts()?;
    let living = parts.store.containers()?;
    let living: Vec<String> = living.iter().map(|container| container.id.to_string()).collect();
    Ok(parts.artifacts.release_others(&living)?)
}

/// Nobody knows a container whose creator was not told of it before the last daemon ended.
async fn clear_unanswered(parts: &Parts) {
    for id in parts.containers.unanswered() {
        tracing::warn!(container = %id, "nobody was told of it; it is removed");
        if let Err(error) = parts.containers.remove_unanswered(&id).await {
            tracing::error!(container = %id, error = chain(&error), "cannot remove it");
        }
    }
}

/// Gives those whose record the power cut while it was written.
fn load_sandboxes(parts: &Parts) -> Result<Vec<SandboxId>, DaemonError> {
    let mut cut = Vec::new();
    let path = &parts.sandbox_records;
    let wrap = |source| DaemonError::File { path: path.clone(), source };
    std::fs::create_dir_all(path).map_err(wrap)?;
    for entry in std::fs::read_dir(path).map_err(wrap)? {
        let name = entry.map_err(wrap)?.file_name();
        let Some(id) = name.to_str().and_then(|name| name.parse::<SandboxId>().ok()) else {
            continue;
        };
        // The record is written before anything else is made, and removed after all else is gone.
        let directory = path.join(id.as_str());
        if !directory.join("record.json").exists() {
            files::remove_tree(&directory).map_err(wrap)?;
            continue;
        }
        match parts.records.sandboxes.load(&id) {
            Ok(_) => {}
            Err(error @ StateError::Cut { .. }) => {
                tracing::warn!(sandbox = %id, error = chain(&error), "it is removed");
                cut.push(id);
            }
            Err(error) => {
                tracing::error!(sandbox = %id, error = chain(&error), "its record is left alone");
            }
        }
    }
    Ok(cut)
}

/// Only what the store has under CRI-O's metadata is ours; podman's containers are podman's.
async fn load_containers(parts: &Parts) -> Result<(), DaemonError> {
    for stored in parts.store.containers()? {
        let Ok(id) = stored.id.as_str().parse::<ContainerId>() else { continue };
        if !is_ours(&stored.metadata) {
            continue;
        }
        let Err(error) = parts.records.containers.load(&id) else { continue };
        let cut = matches!(error, StateError::Cut { .. });
        let half = cut || !parts.store.container_dir(&id).join("record.json").exists();
        if half && has_own_mark(&stored.metadata) {
            let why = if cut { "its record was cut" } else { "it was never finished" };
            tracing::warn!(container = %id, why, "it is removed");
            let sandbox = sandbox_of(&stored.metadata);
            let sandbox = sandbox.and_then(|id| parts.records.sandboxes.by_id(&id));
            let removed = parts.containers.remove_half_made(&id, sandbox.as_deref()).await;
            if let Err(error) = removed {
                tracing::error!(container = %id, error = chain(&error), "cannot remove it");
            }
        } else {
            tracing::error!(container = %id, error = chain(&error), "its record is left alone");
        }
    }
    Ok(())
}

fn is_ours(metadata: &str) -> bool {
    let parsed: serde_json::Value = serde_json::from_str(metadata).unwrap_or_default();
    parsed.get("pod-id").is_some_and(serde_json::Value::is_string)
}

/// The sandbox that a container was made for.
fn sandbox_of(metadata: &str) -> Option<SandboxId> {
    let parsed: serde_json::Value = serde_json::from_str(metadata).ok()?;
    parsed.get("pod-id")?.as_str()?.parse().ok()
}

/// Our own containers say so; one of CRI-O's without a record of ours is not ours to remove.
fn has_own_mark(metadata: &str) -> bool {
    let parsed: serde_json::Value = serde_json::from_str(metadata).unwrap_or_default();
    parsed.get("made-by").is_some_and(|maker| maker == "crioxide")
}

/// A sandbox that was never ready and has no container is what is left of a cut request.
async fn clear_half_made(parts: &Parts) {
    for sandbox in parts.records.sandboxes.all() {
        let never_ready = sandbox.ready_since.is_none();
        if !never_ready || !parts.records.containers_of(&sandbox.id).is_empty() {
            continue;
        }
        tracing::warn!(sandbox = %sandbox.id, "was never finished; it is removed");
        parts.sandboxes.remove_half_made(&sandbox.id).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_of_other_tools_are_told_apart() {
        assert!(is_ours(r#"{"pod-id":"a","made-by":"crioxide"}"#));
        assert!(is_ours(r#"{"pod-id":"a"}"#) && !has_own_mark(r#"{"pod-id":"a"}"#));
        assert!(!is_ours(r#"{"image-name":"x"}"#));
        let id = "a".repeat(64);
        let of = sandbox_of(&format!(r#"{{"pod-id":"{id}"}}"#));
        assert_eq!(of.map(String::from), Some(id));
        assert_eq!(sandbox_of(r#"{"pod-id":"../x"}"#), None);
        assert!(!is_ours("podman's own text"));
    }
}
