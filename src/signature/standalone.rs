//! A sigstore bundle by itself: about any artifact, by whoever is asked for, under a trusted root.
//!
//! It needs a transparency log if the root has one, and else a time stamp; by a key, a log. No policy and no
//! image is involved: nothing that runs is judged here. Root and log entries are held to what is asked of
//! them for images, so that no entry stands unproven beside a proven one.

use std::fmt;
use std::io::Read;

use serde::Serialize;
use sigstore_verify::Policy;
use sigstore_verify::PublicKeyVerificationPolicy;
use sigstore_verify::VerificationPolicy;
use sigstore_verify::VerificationResult;
use sigstore_verify::types::Bundle;
use sigstore_verify::types::Sha256Hash;

use crate::oci::digest::Algorithm;
use crate::oci::digest::Digest;
use crate::oci::strict_json;
use crate::signature::error::LogFault;
use crate::signature::key::PublicKey;
use crate::signature::transparency;
use crate::signature::trust::Trust;
use crate::signature::trust::TrustError;

/// What the bundle must be about.
pub enum Artifact {
    /// These bytes, read to their end.
    Bytes(Box<dyn Read>),
    /// What has this digest.
    Digest(Digest),
}

impl fmt::Debug for Artifact {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(_) => out.write_str("Bytes"),
            Self::Digest(digest) => out.debug_tuple("Digest").field(digest).finish(),
        }
    }
}

/// Who must have signed.
#[derive(Debug)]
pub enum Signer {
    /// The owner of this key.
    Key(PublicKey),
    /// Someone whom the issuer knows as this.
    Identity {
        /// An e-mail address or URI, to the letter.
        identity: String,
        /// The OIDC issuer's address.
        issuer: String,
    },
}

/// What a true bundle says.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Proven {
    /// Who signed, as the certificate has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// Who vouches for that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// When, by every clock that vouches for it.
    pub times: Vec<String>,
    /// Where it is in transparency logs.
    pub log_indexes: Vec<i64>,
}

/// Why a bundle is not true, or cannot be judged.
#[derive(Debug, thiserror::Error)]
pub enum StandaloneError {
    /// The bundle is none.
    #[error("the bundle is malformed: not a sigstore bundle v0.1 to v0.3")]
    Bundle(#[source] serde_json::Error),
    /// The trusted root is none, or cannot be used.
    #[error("the trusted root cannot be used")]
    Root(#[source] TrustError),
    /// The artifact cannot be read.
    #[error("the artifact cannot be read")]
    Artifact(#[source] std::io::Error),
    /// Bundles have it by SHA-256.
    #[error("a bundle is about a sha256 digest; this one is {0}")]
    Algorithm(&'static str),
    /// It does not hold.
    #[error("the bundle does not hold")]
    Refused(#[source] sigstore_verify::Error),
    /// No log of the root is proven to have it.
    #[error("the bundle is not proven to be in a transparency log")]
    Log(#[source] LogFault),
}

impl StandaloneError {
    /// Whether it is an answer: the bundle was judged, and does not hold.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::Log(_))
    }
}

/// Proves that `signer` signed the artifact, by a bundle and the trusted root it is to hold under.
///
/// # Errors
///
/// [`StandaloneError::Refused`] and [`StandaloneError::Log`] where the bundle does not hold; the others
/// where that cannot be said.
pub fn verify(
    bundle: &[u8],
    root: &[u8],
    artifact: Artifact,
    signer: &Signer,
) -> Result<Proven, StandaloneError> {
    let trust = match signer {
        Signer::Key(_) => Trust::logs_from_json(root),
        Signer::Identity { .. } => Trust::from_json(root),
    };
    let trust = trust.map_err(StandaloneError::Root)?;
    let bundle: Bundle = strict_json::parse(bundle).map_err(StandaloneError::Bundle)?;
    let bundle = transparency::bounded(&bundle, &trust).map_err(StandaloneError::Log)?;
    let verifier = &trust.verifier;
    let policy: Box<dyn Policy> = match signer {
        Signer::Key(key) => Box::new(PublicKeyVerificationPolicy::new(key.spki().clone())),
        Signer::Identity { identity, issuer } => {
            Box::new(trust.demands(VerificationPolicy::new(identity, issuer)))
        }
    };
    let result = match artifact {
        Artifact::Bytes(bytes) => verifier.verify_reader(bytes, &bundle, policy.as_ref()),
        Artifact::Digest(digest) if digest.algorithm() == Algorithm::Sha256 => {
            Sha256Hash::from_hex(digest.hex())
                .map_err(sigstore_verify::Error::from)
                .and_then(|hash| verifier.verify(hash, &bundle, policy.as_ref()))
        }
        Artifact::Digest(digest) => {
            return Err(StandaloneError::Algorithm(digest.algorithm().name()));
        }
    };
    let found = result.map_err(|error| match error {
        sigstore_verify::Error::ArtifactRead(source) => StandaloneError::Artifact(source),
        other => StandaloneError::Refused(other),
    })?;
    let places = transparency::places(&bundle, &trust);
    Ok(proven(&found, places.into_iter().map(|(_, index)| index).collect()))
}

fn proven(found: &VerificationResult, log_indexes: Vec<i64>) -> Proven {
    let times = found.integrated_time().into_iter().chain(found.verified_timestamps().to_vec());
    let mut times: Vec<String> = times.map(|time| time.to_string()).collect();
    times.sort();
    times.dedup();
    Proven {
        identity: found.identity().map(|identity| identity.as_str().to_owned()),
        issuer: found.issuer().map(str::to_owned),
        times,
        log_indexes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signature::fulcio::Fulcio;
    use crate::signature::fulcio::Order;
    use crate::signature::fulcio::Tsa;
    use crate::signature::keys::Log;

    const ROOT: &[u8] = include_bytes!("../../policy/trust/sigstore-public-good.json");
    const KEYLESS: &[u8] = include_bytes!("../../tests/data/signature/standalone/keyless.json");
    const KEYED: &[u8] = include_bytes!("../../tests/data/signature/standalone/key.json");
    const KEY: &[u8] = include_bytes!("../../tests/data/signature/standalone/key.pub");
    const ARTIFACT: &[u8] = include_bytes!("../../tests/data/signature/standalone/artifact.txt");
    const DIGEST: &str = "sha256:54303491a8418fbed24344b513546182c29b43bf282ceb433af65e2299f9271f";
    const WORKFLOW: &str = "https://github.com/prefix-dev/sigstore-example/.github/workflows/action.yaml@refs/heads/main";
    const ISSUER: &str = "https://token.actions.githubusercontent.com";

    fn by(identity: &str, issuer: &str) -> Signer {
        Signer::Identity { identity: identity.to_owned(), issuer: issuer.to_owned() }
    }

    fn digest(text: &str) -> Artifact {
        Artifact::Digest(text.parse().unwrap())
    }

    #[test]
    fn a_bundle_of_the_public_log_holds_for_who_signed_it() {
        let found = verify(KEYLESS, ROOT, digest(DIGEST), &by(WORKFLOW, ISSUER)).unwrap();
        assert_eq!(found.identity.as_deref(), Some(WORKFLOW));
        assert_eq!((found.times.len(), found.log_indexes.len()), (1, 1));
        let other = "https://github.com/thief/repo/.github/workflows/release.yml@refs/heads/main";
        for (identity, issuer) in [(other, ISSUER), (WORKFLOW, "https://accounts.example")] {
            let error = verify(KEYLESS, ROOT, digest(DIGEST), &by(identity, issuer)).unwrap_err();
            assert!(matches!(error, StandaloneError::Refused(_)), "{error}");
        }
        let another = digest(&format!("sha256:{}", "0".repeat(64)));
        assert!(verify(KEYLESS, ROOT, another, &by(WORKFLOW, ISSUER)).is_err());
        let bytes = Artifact::Bytes(Box::new(ARTIFACT));
        assert!(verify(KEYLESS, ROOT, bytes, &by(WORKFLOW, ISSUER)).is_err());
    }

    #[test]
    fn a_bundle_by_a_key_holds_for_that_key_and_these_bytes() {
        let key = || Signer::Key(PublicKey::from_pem(KEY).unwrap());
        verify(KEYED, ROOT, Artifact::Bytes(Box::new(ARTIFACT)), &key()).unwrap();
        let changed = Artifact::Bytes(Box::new(&b"something else"[..]));
        assert!(verify(KEYED, ROOT, changed, &key()).is_err());
        // A key of someone's own, and a bundle with a certificate where a key is asked for.
        let own = crate::signature::keys::Key::generate();
        let thief = Signer::Key(PublicKey::from_pem(own.public_pem().as_bytes()).unwrap());
        assert!(verify(KEYED, ROOT, Artifact::Bytes(Box::new(ARTIFACT)), &thief).is_err());
        assert!(verify(KEYLESS, ROOT, digest(DIGEST), &key()).is_err());
        // Under a root that does not know the log.
        let empty = br#"{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "tlogs":[],"certificateAuthorities":[],"ctlogs":[],"timestampAuthorities":[]}"#;
        assert!(verify(KEYED, empty, Artifact::Bytes(Box::new(ARTIFACT)), &key()).is_err());
        assert!(matches!(
            verify(b"{}", ROOT, digest(DIGEST), &key()),
            Err(StandaloneError::Bundle(_))
        ));
    }

    #[test]
    fn a_bundle_that_is_stamped_holds_under_a_root_without_logs() {
        let (fulcio, tsa, log) = (Fulcio::make(), Tsa::make(), Log::default());
        let leaf = fulcio.issue(&Order::email("dev@shop.example"));
        let bytes = crate::signature::keys::statement("https://tests.example/v1", DIGEST);
        let stamped = leaf.stamped_bundle(&bytes, &log, &tsa, Log::TIME);
        let judge = |bundle: &serde_json::Value, issuer: &str| {
            let root = fulcio.trusted_root(&[], Some(&tsa)).to_string();
            let signer = by("dev@shop.example", issuer);
            verify(bundle.to_string().as_bytes(), root.as_bytes(), digest(DIGEST), &signer)
        };
        let found = judge(&stamped, "https://login.example").unwrap();
        assert_eq!((found.times.len(), found.log_indexes.len()), (1, 0));
        judge(&stamped, "https://accounts.example").unwrap_err();
        // The time of a log that nobody trusts is none.
        let logged = leaf.logged_bundle(&bytes, &log, Log::TIME);
        judge(&logged, "https://login.example").unwrap_err();
    }

    /// The bundle by a key, changed.
    fn changed(change: impl Fn(&mut serde_json::Value)) -> Result<Proven, StandaloneError> {
        let mut bundle: serde_json::Value = serde_json::from_slice(KEYED).unwrap();
        change(&mut bundle["verificationMaterial"]);
        let key = Signer::Key(PublicKey::from_pem(KEY).unwrap());
        verify(bundle.to_string().as_bytes(), ROOT, Artifact::Bytes(Box::new(ARTIFACT)), &key)
    }

    #[test]
    fn a_log_entry_that_nothing_proves_is_not_told_beside_a_proven_one() {
        let proven = changed(|_| ()).unwrap().log_indexes;
        // One number too many, with no proof and with that of the other entry; and one that is wrong.
        let forged = |without: &[&str]| {
            changed(|material| {
                let mut entry = material["tlogEntries"][0].clone();
                entry["logIndex"] = "7".into();
                for name in without {
                    entry.as_object_mut().unwrap().remove(*name);
                }
                material["tlogEntries"].as_array_mut().unwrap().push(entry);
            })
        };
        let bare = forged(&["inclusionPromise", "inclusionProof"]).unwrap_err();
        assert!(bare.is_refusal() && matches!(bare, StandaloneError::Log(_)), "{bare}");
        for outcome in [
            forged(&["inclusionPromise"]),
            changed(|material| {
                let entry = material["tlogEntries"][0].as_object_mut().unwrap();
                entry.remove("inclusionPromise");
                entry["logIndex"] = "7".into();
            }),
        ] {
            // What the proof says is the log's word, what stands beside it is not.
            let told = outcome.unwrap().log_indexes;
            assert!(!told.contains(&7), "{told:?}");
        }
        assert_eq!(proven.len(), 1);
        assert!(changed(|material| material["tlogEntries"] = serde_json::json!([])).is_err());
    }

    #[test]
    fn what_cannot_be_read_is_no_refusal() {
        let key = || Signer::Key(PublicKey::from_pem(KEY).unwrap());
        let directory = Box::new(std::fs::File::open("/").unwrap());
        let error = verify(KEYED, ROOT, Artifact::Bytes(directory), &key()).unwrap_err();
        assert!(matches!(error, StandaloneError::Artifact(_)) && !error.is_refusal(), "{error}");
        // Another document of sigstore's in the root's place has no log, and so knows none.
        let artifact = Artifact::Bytes(Box::new(ARTIFACT));
        let error = verify(KEYED, KEYED, artifact, &key()).unwrap_err();
        assert!(matches!(error, StandaloneError::Root(_)) && !error.is_refusal(), "{error}");
    }
}
