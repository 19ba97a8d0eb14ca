//! Fetches an image's layers and unpacks them, all side by side.
//!
//! Each layer is one pipeline over a bounded channel: network → digest → decompress → diff-id →
//! files. The diffs of overlayfs have no order, so layers unpack beside one another; only their
//! records are written in order, by the commit. Memory does not grow with the image.

use std::io;
use std::io::Read;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::OwnedMutexGuard;
use tokio::sync::mpsc;

use crate::image::Parts;
use crate::image::blocking;
use crate::image::error::ImageError;
use crate::image::layer_turns::Turn;
use crate::image::resolve::Resolved;
use crate::model::ids::LayerId;
use crate::oci::descriptor::Descriptor;
use crate::oci::digest::DiffId;
use crate::oci::media_type;
use crate::oci::media_type::Compression;
use crate::oci::reference::Reference;
use crate::registry::RegistryError;
use crate::storage::LayerCommit;
use crate::storage::LayerPins;
use crate::storage::Limits;
use crate::storage::Store;
use crate::storage::Unpacked;

/// How many pieces of a blob may wait between the network and the disk.
pub(super) const WAITING_PIECES: usize = 4;

/// The layers of an image, ready to be committed.
#[derive(Debug)]
pub(super) struct Layers {
    /// Lowest first.
    pub(super) chain: Vec<LayerCommit>,
    /// Keep until the image is committed: nobody else brings or removes these layers meanwhile.
    pub(super) guards: Guards,
}

/// What keeps layers ours until the image names them.
#[derive(Debug)]
pub(super) struct Guards {
    _turns: Vec<OwnedMutexGuard<()>>,
    _pins: LayerPins,
}

/// One layer to bring.
#[derive(Debug, Clone)]
struct Wanted {
    reference: Reference,
    id: LayerId,
    descriptor: Descriptor,
    compression: Compression,
    diff_id: DiffId,
}

impl Parts {
    /// Brings all layers that the store lacks.
    pub(super) async fn fetch_layers(
        self: &Arc<Self>,
        reference: &Reference,
        resolved: &Resolved,
        diff_ids: &[DiffId],
    ) -> Result<Layers, ImageError> {
        let ids = Store::layer_chain(diff_ids);
        let pins = self.store.pin_layers(&ids);
        let mut tasks = tokio::task::JoinSet::new();
        let mut waiting = Vec::new();
        let mut turns = Vec::new();
        let mut chain: Vec<Option<LayerCommit>> = ids.iter().map(|_| None).collect();
        let layers = resolved.manifest.layers.iter().zip(diff_ids).zip(&ids);
        let taken = self.turns.take(&ids);
        for (index, (((descriptor, diff_id), id), turn)) in layers.zip(taken).enumerate() {
            let compression = media_type::layer_compression(&descriptor.media_type);
            let wanted = Wanted {
                reference: reference.clone(),
                id: id.clone(),
                descriptor: descriptor.clone(),
                compression: compression.unwrap_or(Compression::Plain),
                diff_id: diff_id.clone(),
            };
            match turn {
                Turn::Ours(guard) => {
                    turns.push(guard);
                    let parts = Arc::clone(self);
                    let source = resolved.source.clone();
                    tasks.spawn(async move { (index, parts.bring(&source, &wanted).await) });
                }
                Turn::Theirs(turn) => waiting.push((index, wanted, turn)),
            }
        }
        // Tasks still under way end when the set is dropped by an error here.
        while let Some(done) = tasks.join_next().await {
            let (index, layer) = done.map_err(|_| ImageError::Vanished)?;
            if let Some(place) = chain.get_mut(index) {
                *place = Some(layer?);
            }
        }
        for (index, wanted, turn) in waiting {
            turns.push(turn.await);
            let layer = self.bring(&resolved.source, &wanted).await?;
            if let Some(place) = chain.get_mut(index) {
                *place = Some(layer);
            }
        }
        let chain = chain.into_iter().collect::<Option<Vec<_>>>().ok_or(ImageError::Vanished)?;
        Ok(Layers { chain, guards: Guards { _turns: turns, _pins: pins } })
    }

    /// Brings one layer, unless the store has it.
    async fn bring(
        &self,
        source: &crate::registry::Source,
        wanted: &Wanted,
    ) -> Result<LayerCommit, ImageError> {
        let (store, id) = (self.store.clone(), wanted.id.clone());
        if blocking(move || Ok(store.layer(&id)?)).await?.is_some() {
            return Ok(LayerCommit::Existing(wanted.id.clone()));
        }
        let _lane = self.lanes.enter(source.host()).await.ok_or(ImageError::Vanished)?;
        let fetch = |error| ImageError::Registry {
            step: "fetch a layer",
            reference: wanted.reference.to_string(),
            source: error,
        };
        let mut blob =
            self.verifier.registry.blob(source, &wanted.descriptor).await.map_err(fetch)?;
        let (sender, receiver) = mpsc::channel(WAITING_PIECES);
        let unpacking = {
            let (store, wanted) = (self.store.clone(), wanted.clone());
            tokio::task::spawn_blocking(move || unpack(&store, &wanted, Pieces::new(receiver)))
        };
        let (sent, unpacked) = tokio::join!(feed(&mut blob, sender), unpacking);
        // A cut that no resume could mend shows on both ends; the network's word is the cause.
        sent.map_err(fetch)?;
        let unpacked = unpacked.map_err(|_| ImageError::Vanished)??;
        check(wanted, &unpacked)?;
        Ok(LayerCommit::New(Box::new(unpacked)))
    }
}

/// Passes pieces on until the blob ends, or nobody takes them any more.
pub(super) async fn feed(
    blob: &mut crate::registry::BlobStream,
    sender: mpsc::Sender<Bytes>,
) -> Result<(), RegistryError> {
    while let Some(piece) = blob.next().await {
        if sender.send(piece?).await.is_err() {
            break;
        }
    }
    Ok(())
}

fn unpack(store: &Store, wanted: &Wanted, mut blob: Pieces) -> Result<Unpacked, ImageError> {
    let wrap = |source| ImageError::Unpack {
        reference: wanted.reference.to_string(),
        digest: wanted.descriptor.digest.clone(),
        source,
    };
    let (blob_digest, diff_id) = (&wanted.descriptor.digest, &wanted.diff_id.0);
    let staged = store.stage().map_err(wrap)?;
    let staged = staged.hashing(blob_digest.algorithm(), diff_id.algorithm());
    let limits = Limits::default();
    staged.unpack(&mut blob, wanted.compression, &limits).map_err(wrap)
}

/// The bytes must be those that the manifest and the config promised.
fn check(wanted: &Wanted, unpacked: &Unpacked) -> Result<(), ImageError> {
    let expected = &wanted.descriptor;
    let fault = if unpacked.blob_digest != expected.digest {
        format!("the registry sent bytes of digest {}", unpacked.blob_digest)
    } else if unpacked.blob_size != expected.size {
        format!("it has {} bytes, the manifest says {}", unpacked.blob_size, expected.size)
    } else if unpacked.diff_id != wanted.diff_id {
        format!("its diff-id is {}, the config says {}", unpacked.diff_id, wanted.diff_id)
    } else {
        return Ok(());
    };
    Err(ImageError::Layer {
        reference: wanted.reference.to_string(),
        digest: expected.digest.clone(),
        fault,
    })
}

/// The pieces of a blob as a reader for a blocking thread.
pub(super) struct Pieces {
    receiver: mpsc::Receiver<Bytes>,
    current: Bytes,
}

impl Pieces {
    pub(super) fn new(receiver: mpsc::Receiver<Bytes>) -> Self {
        Self { receiver, current: Bytes::new() }
    }
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.receiver.blocking_recv() {
                Some(piece) => self.current = piece,
                None => return Ok(0),
            }
        }
        let count = self.current.len().min(buffer.len());
        let piece = self.current.split_to(count);
        if let Some(target) = buffer.get_mut(..count) {
            target.copy_from_slice(&piece);
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_read_as_one_stream() {
        let (sender, receiver) = mpsc::channel(4);
        for piece in ["ab", "", "cde"] {
            sender.try_send(Bytes::from(piece)).unwrap();
        }
        drop(sender);
        let mut text = String::new();
        Pieces::new(receiver).read_to_string(&mut text).unwrap();
        assert_eq!(text, "abcde");
    }

    #[test]
    fn a_layer_is_hashed_as_its_digests_say() {
        use crate::oci::digest::Algorithm;
        use crate::oci::digest::Hasher;
        let directory = tempfile::tempdir_in("/var/tmp").unwrap();
        let at = |name: &str| directory.path().join(name);
        let settings = crate::storage::Settings {
            root: at("root"),
            runroot: at("run"),
            mount_options: Vec::new(),
        };
        let store = Store::open(settings).unwrap();
        let archive = Bytes::from(vec![0; 1024]);
        let digest = |algorithm| {
            let mut hasher = Hasher::new(algorithm);
            hasher.update(&archive);
            hasher.finish()
        };
        for (blob, diff) in [
            (Algorithm::Sha512, Algorithm::Sha256),
            (Algorithm::Sha256, Algorithm::Sha512),
            (Algorithm::Sha512, Algorithm::Sha512),
        ] {
            let text = format!(r#"{{"digest":"{}","size":1024}}"#, digest(blob));
            let wanted = Wanted {
                reference: "q.io/a:1".parse().unwrap(),
                id: "a".repeat(64).parse().unwrap(),
                descriptor: serde_json::from_str(&text).unwrap(),
                compression: Compression::Plain,
                diff_id: DiffId(digest(diff)),
            };
            let (sender, receiver) = mpsc::channel(1);
            sender.try_send(archive.clone()).unwrap();
            drop(sender);
            let unpacked = unpack(&store, &wanted, Pieces::new(receiver)).unwrap();
            check(&wanted, &unpacked).unwrap();
        }
    }
}
