//! All the signatures that were found for an image.

use serde::Deserialize;
use serde::Serialize;

use crate::oci::stored_signature::SigstoreLayer;
use crate::oci::stored_signature::StoredSignature;
use crate::signature::sigstore::MEDIA_TYPE;
use crate::signature::sigstore::SimpleSigning;
use crate::signature::sigstore::base64_bytes;

/// All the signatures that were found for an image, none of them proven.
///
/// It is kept with the image, so that a container's creation can be judged without the network.
/// The default says: looked, and found nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// Cosign's signatures: payload and annotations.
    #[serde(default)]
    pub signatures: Vec<SimpleSigning>,
    /// Sigstore bundles, as they came.
    #[serde(default, with = "bundles")]
    pub bundles: Vec<Vec<u8>>,
    /// Messages that OpenPGP signs, as they came.
    #[serde(default, with = "bundles")]
    pub openpgp: Vec<Vec<u8>>,
}

impl Evidence {
    /// The most signatures, and the most bundles, that are looked at: each costs time, and anyone
    /// who may push to a repository may put more there.
    pub const LIMIT: usize = 100;

    /// Whether nothing was found.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.signatures.is_empty() && self.bundles.is_empty() && self.openpgp.is_empty()
    }

    /// Adds signatures as containers/image keeps them, up to [`Evidence::LIMIT`] of each kind.
    pub fn add_stored(&mut self, stored: Vec<StoredSignature>) {
        let mut other = Self::default();
        for signature in stored {
            match signature {
                StoredSignature::OpenPgp(message) => other.openpgp.push(message),
                StoredSignature::Sigstore(layer) if layer.media_type == MEDIA_TYPE => {
                    let SigstoreLayer { payload, annotations, media_type: _ } = layer;
                    other.signatures.push(SimpleSigning { payload, annotations });
                }
                // Of a kind that no requirement speaks of.
                StoredSignature::Sigstore(_) => {}
            }
        }
        self.merge(&other);
    }

    /// The signatures that containers/image knows, as it keeps them.
    #[must_use]
    pub fn stored(&self) -> Vec<StoredSignature> {
        let sigstore = self.signatures.iter().map(|signature| {
            StoredSignature::Sigstore(SigstoreLayer {
                media_type: MEDIA_TYPE.to_owned(),
                payload: signature.payload.clone(),
                annotations: signature.annotations.clone(),
            })
        });
        self.openpgp.iter().cloned().map(StoredSignature::OpenPgp).chain(sigstore).collect()
    }

    /// Adds what `other` has and this has not, up to [`Evidence::LIMIT`] of each kind.
    pub fn merge(&mut self, other: &Self) {
        for signature in &other.signatures {
            if self.signatures.len() < Self::LIMIT && !self.signatures.contains(signature) {
                self.signatures.push(signature.clone());
            }
        }
        for bundle in &other.bundles {
            if self.bundles.len() < Self::LIMIT && !self.bundles.contains(bundle) {
                self.bundles.push(bundle.clone());
            }
        }
        for message in &other.openpgp {
            if self.openpgp.len() < Self::LIMIT && !self.openpgp.contains(message) {
                self.openpgp.push(message.clone());
            }
        }
    }
}

mod bundles {
    use serde::Deserialize;
    use serde::Deserializer;
    use serde::Serialize;
    use serde::Serializer;

    use crate::policy::evidence::base64_bytes;

    #[derive(Serialize, Deserialize)]
    #[serde(transparent)]
    struct Bytes(#[serde(with = "base64_bytes")] Vec<u8>);

    pub(super) fn serialize<S: Serializer>(
        bundles: &[Vec<u8>],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(bundles.iter().map(|bundle| Bytes(bundle.clone())))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<Vec<u8>>, D::Error> {
        let bundles = Vec::<Bytes>::deserialize(deserializer)?;
        Ok(bundles.into_iter().map(|Bytes(bytes)| bytes).collect())
    }
}
