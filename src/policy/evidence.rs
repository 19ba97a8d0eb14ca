//! All the signatures and attestations that were found for an image.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde::Serialize;

use crate::oci::digest::Digest;
use crate::oci::stored_signature::SigstoreLayer;
use crate::oci::stored_signature::StoredSignature;
use crate::signature::SignatureError;
use crate::signature::attachment::Attachment;
use crate::signature::bundle::Bundle;
use crate::signature::openpgp;
use crate::signature::sigstore::MEDIA_TYPE;
use crate::signature::sigstore::SimpleSigning;
use crate::signature::sigstore::base64_bytes;
use crate::signature::simple_signing::Kind;
use crate::signature::simple_signing::Payload;
use crate::signature::statement;

/// All the signatures and attestations that were found for an image, none of them proven.
///
/// It is kept with the image, so that a container's creation can be judged without the network.
/// The default says: looked, and found nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// Cosign's signatures: payload and annotations.
    #[serde(default)]
    pub signatures: Vec<SimpleSigning>,
    /// Sigstore bundles, as they came, that say of themselves to be signatures, or say nothing.
    #[serde(default, with = "bundles")]
    pub bundles: Vec<Vec<u8>>,
    /// Messages that OpenPGP signs, as they came.
    #[serde(default, with = "bundles")]
    pub openpgp: Vec<Vec<u8>>,
    /// What says of itself to be another statement.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attestations: Vec<Attestation>,
    /// The bytes of indexes that list the image, where some of these are of an index.
    #[serde(default, with = "bundles", skip_serializing_if = "Vec::is_empty")]
    pub indexes: Vec<Vec<u8>>,
}

/// A signed statement on an image, not proven.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Attestation {
    /// A sigstore bundle, as it came.
    Bundle(#[serde(with = "base64_bytes")] Vec<u8>),
    /// As cosign v2 attaches it.
    Attached(Attachment),
}

/// What must be looked for before an image can be judged.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Needs {
    /// OpenPGP signatures.
    pub openpgp: bool,
    /// Sigstore signatures.
    pub signatures: bool,
    /// Attestations of these predicate types.
    pub attestations: BTreeSet<String>,
}

impl Needs {
    /// Whether a bundle may be needed whose annotation claims this predicate type. Where nothing
    /// is claimed, one has to look; a false claim hides a bundle as well as its removal would.
    #[must_use]
    pub fn may_need(&self, claimed: Option<&str>) -> bool {
        match claimed {
            None => true,
            Some(statement::SIGN) => self.signatures,
            Some(other) => self.attestations.contains(other),
        }
    }

    /// Adds what another one needs.
    pub fn add(&mut self, other: Self) {
        self.openpgp |= other.openpgp;
        self.signatures |= other.signatures;
        self.attestations.extend(other.attestations);
    }

    /// Whether anything is needed that sigstore's tools attach to an image.
    #[must_use]
    pub fn attached(&self) -> bool {
        self.signatures || !self.attestations.is_empty()
    }

    /// Whether nothing is needed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.openpgp && !self.attached()
    }
}

impl Attestation {
    /// The attestation as a bundle, whatever it came as.
    ///
    /// # Errors
    ///
    /// [`SignatureError`] when it is none.
    pub fn bundle(&self) -> Result<Bundle, SignatureError> {
        match self {
            Self::Bundle(bytes) => Bundle::parse(bytes),
            Self::Attached(attachment) => attachment.bundle(),
        }
    }

    /// The predicate type that it claims, unproven.
    #[must_use]
    pub fn claimed_type(&self) -> Option<String> {
        self.bundle().ok()?.claimed_predicate()
    }

    /// Its size in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        match self {
            Self::Bundle(bytes) => bytes.len(),
            Self::Attached(attachment) => attachment.envelope.len(),
        }
    }
}

impl Evidence {
    /// The most signatures, the most bundles and the most attestations that are looked at: each
    /// costs time, and anyone who may push to a repository may put more there.
    pub const LIMIT: usize = 100;
    /// How many bytes of attestations are held and kept: lists of components are large.
    pub const ATTESTATION_BYTES: usize = 16 * 1024 * 1024;
    /// The most indexes that are looked at: an image comes under several names, each with one.
    pub const INDEXES: usize = 8;
    /// How many bytes of indexes are kept: real ones have some thousand.
    const INDEX_BYTES: usize = 8 * 1024 * 1024;

    /// Whether nothing was found; an index alone proves nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.signatures.is_empty()
            && self.bundles.is_empty()
            && self.openpgp.is_empty()
            && self.attestations.is_empty()
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

    /// The signatures that containers/image knows, as it keeps them. It knows none of an index.
    #[must_use]
    pub fn stored(&self) -> Vec<StoredSignature> {
        let indexes: Vec<Digest> = self.indexes.iter().map(|bytes| Digest::sha256(bytes)).collect();
        let of_index = |digest: &Digest| indexes.contains(digest);
        let sigstore = self.signatures.iter().filter(|signature| {
            let claimed = Payload::parse(&signature.payload, Kind::Cosign);
            !claimed.is_ok_and(|payload| of_index(&payload.digest))
        });
        let openpgp = self.openpgp.iter().filter(|message| {
            !openpgp::claimed(message).is_ok_and(|claimed| of_index(&claimed.payload.digest))
        });
        let sigstore = sigstore.map(|signature| {
            StoredSignature::Sigstore(SigstoreLayer {
                media_type: MEDIA_TYPE.to_owned(),
                payload: signature.payload.clone(),
                annotations: signature.annotations.clone(),
            })
        });
        openpgp.cloned().map(StoredSignature::OpenPgp).chain(sigstore).collect()
    }

    /// Adds a bundle, as the signature or the attestation that it says to be.
    pub fn sort_in(&mut self, bundle: Vec<u8>) {
        let claimed = Bundle::parse(&bundle).ok().and_then(|bundle| bundle.claimed_predicate());
        if claimed.is_none_or(|kind| kind == statement::SIGN) {
            self.bundles.push(bundle);
        } else {
            self.attestations.push(Attestation::Bundle(bundle));
        }
    }

    /// Adds what `other` has and this has not, up to [`Evidence::LIMIT`] of each kind,
    /// [`Evidence::ATTESTATION_BYTES`], and [`Evidence::INDEXES`].
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
        let mut bytes: usize = self.attestations.iter().map(Attestation::size).sum();
        for attestation in &other.attestations {
            let fits = self.attestations.len() < Self::LIMIT
                && bytes + attestation.size() <= Self::ATTESTATION_BYTES;
            if fits && !self.attestations.contains(attestation) {
                bytes += attestation.size();
                self.attestations.push(attestation.clone());
            }
        }
        let mut bytes: usize = self.indexes.iter().map(Vec::len).sum();
        for index in &other.indexes {
            let fits =
                self.indexes.len() < Self::INDEXES && bytes + index.len() <= Self::INDEX_BYTES;
            if fits && !self.indexes.contains(index) {
                bytes += index.len();
                self.indexes.push(index.clone());
            }
        }
    }

    /// Whether together with `other` there are more than [`Evidence::LIMIT`] of a kind.
    #[must_use]
    pub fn are_too_many_with(&self, other: &Self) -> bool {
        let counts = |found: &Self| {
            let Self { signatures, bundles, openpgp, attestations, indexes: _ } = found;
            [signatures.len(), bundles.len(), openpgp.len(), attestations.len()]
        };
        counts(self).into_iter().zip(counts(other)).any(|(one, two)| one + two > Self::LIMIT)
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
