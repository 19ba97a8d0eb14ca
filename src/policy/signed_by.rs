//! `signedBy`: one of the OpenPGP signatures found must be true, for this digest, under an accepted
//! name, by one of the keys.
//!
//! As with sigstore, one good signature is enough, and bad ones beside it do no harm. The keys of
//! all the files together are one keyring, as in the reference; a file that cannot be used makes
//! the requirement refuse every image.

use std::path::Path;
use std::time::SystemTime;

use serde::Deserialize;
use time::OffsetDateTime;

use crate::failure::chain;
use crate::policy::Evidence;
use crate::policy::Outcome;
use crate::policy::cause::Cause;
use crate::policy::cause::Reason;
use crate::policy::identity;
use crate::policy::identity::Identity;
use crate::policy::json::Fault;
use crate::policy::json::Part;
use crate::policy::keys::Inline;
use crate::policy::keys::Read;
use crate::policy::proof::Proof;
use crate::policy::proof::ProvenTime;
use crate::policy::proof::Signer;
use crate::policy::proof::TimeSource;
use crate::policy::proof::What;
use crate::policy::reasons;
use crate::policy::signable::Signable;
use crate::signature::SignatureError;
use crate::signature::openpgp;
use crate::signature::openpgp::Keyring;

/// By whom, and under which name an image must be signed.
#[derive(Debug)]
pub(crate) struct SignedBy {
    /// Where the keys are: files, or the member of the policy that carries them.
    source: String,
    keys: Result<Keyring, Reason>,
    identity: Identity,
}

/// What the keys are. Only the first is built, in the reference too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
enum KeyType {
    #[serde(rename = "GPGKeys")]
    GpgKeys,
    #[serde(rename = "signedByGPGKeys")]
    SignedByGpgKeys,
    #[serde(rename = "X509Certificates")]
    Certificates,
    #[serde(rename = "signedByX509CAs")]
    SignedByCas,
}

/// Where keys are, as written.
enum Source {
    Files(Vec<String>),
    Inline(Inline),
}

impl KeyType {
    fn name(self) -> &'static str {
        match self {
            Self::GpgKeys => "GPGKeys",
            Self::SignedByGpgKeys => "signedByGPGKeys",
            Self::Certificates => "X509Certificates",
            Self::SignedByCas => "signedByX509CAs",
        }
    }
}

impl Source {
    fn described(&self) -> String {
        match self {
            Self::Files(paths) => paths.join(", "),
            Self::Inline(_) => "keyData".to_owned(),
        }
    }

    fn load(&self, read: Read<'_>) -> Result<Keyring, String> {
        let mut keyring = Keyring::default();
        let unusable = |of: &str, error: &(dyn std::error::Error + 'static)| {
            format!("the keys in {of} cannot be used: {}", chain(error))
        };
        match self {
            Self::Inline(Inline(bytes)) => {
                keyring.add(bytes).map_err(|error| unusable("keyData", &error))?;
            }
            Self::Files(paths) => {
                for path in paths {
                    let bytes = read(Path::new(path)).map_err(|error| unusable(path, &error))?;
                    keyring.add(&bytes).map_err(|error| unusable(path, &error))?;
                }
            }
        }
        if keyring.is_empty() {
            return Err(format!("No public keys imported from {:?}", self.described()));
        }
        Ok(keyring)
    }
}

impl SignedBy {
    /// Reads the requirement, and the key files that it names.
    pub(crate) fn parse(part: &Part<'_>, read: Read<'_>) -> Result<Self, Fault> {
        let mut members = part.members()?;
        members.kind()?;
        let Some(key_type) = members.take::<KeyType>("keyType")? else {
            return Err(part.fault("missing field `keyType`"));
        };
        let path = members.take::<String>("keyPath")?.map(|path| Source::Files(vec![path]));
        let paths = members.take::<Vec<String>>("keyPaths")?.map(Source::Files);
        let data = members.take::<Inline>("keyData")?.map(Source::Inline);
        let identity = identity::take(&mut members)?;
        members.end()?;
        let mut named = [path, paths, data].into_iter().flatten();
        let (Some(source), None) = (named.next(), named.next()) else {
            let fault = "exactly one of keyPath, keyPaths and keyData must be specified";
            return Err(part.fault(fault));
        };
        if let Source::Files(paths) = &source
            && paths.iter().any(String::is_empty)
        {
            return Err(part.fault("a path of a key file is empty"));
        }
        let keys = match key_type {
            KeyType::GpgKeys => {
                source.load(read).map_err(|fault| Reason::new(Cause::KeyUnusable, fault))
            }
            other => {
                let words = format!("Unimplemented \"keyType\" value {:?}", other.name());
                Err(Reason::new(Cause::NotSupported, words))
            }
        };
        Ok(Self { source: source.described(), keys, identity })
    }

    /// Whether signatures must be looked for.
    pub(crate) fn needs_evidence(&self) -> bool {
        self.keys.is_ok()
    }

    /// Why it refuses every image, if it does.
    pub(crate) fn fault(&self) -> Option<String> {
        self.keys.as_ref().err().map(ToString::to_string)
    }

    /// Judges the evidence.
    pub(crate) fn judge(
        &self,
        subject: &Signable<'_>,
        evidence: &Evidence,
        now: SystemTime,
    ) -> Outcome {
        let keyring = match &self.keys {
            Ok(keyring) => keyring,
            Err(fault) => return Outcome::Rejected(fault.clone()),
        };
        let mut faults = Vec::new();
        for message in evidence.openpgp.iter().take(Evidence::LIMIT) {
            match self.signature(message, keyring, subject, now) {
                Ok(proof) => return Outcome::accepted(proof),
                Err(fault) => faults.push(fault),
            }
        }
        Outcome::Rejected(reasons::listed("signature", &faults, reasons::unsigned()))
    }

    fn signature(
        &self,
        message: &[u8],
        keyring: &Keyring,
        subject: &Signable<'_>,
        now: SystemTime,
    ) -> Result<Proof, Reason> {
        let proven = openpgp::verify(message, keyring, now)
            .map_err(|error| Reason::new(Cause::of(&error), chain(&error)))?;
        let payload = proven.payload;
        let Some(signed) = subject.find(&payload.digest) else {
            let error = SignatureError::Subject { signed: payload.digest.to_string() };
            return Err(Reason::new(Cause::of(&error), error.to_string()));
        };
        if !self.identity.accepts(subject.reference, &payload.docker_reference) {
            let shown = reasons::short(&payload.docker_reference);
            let by = self.identity.name();
            let words = format!(
                "is for another name: Signature for identity {shown:?} is not accepted by {by}"
            );
            return Err(Reason::new(Cause::OtherName, words));
        }
        let time = OffsetDateTime::from(proven.time).unix_timestamp();
        Ok(Proof {
            signed: Some(signed),
            signer: Some(Signer::OpenPgp {
                fingerprint: proven.fingerprint,
                keyring: self.source.clone(),
            }),
            times: vec![ProvenTime { time, source: TimeSource::Signer }],
            ..Proof::of(What::OpenPgp)
        })
    }
}
