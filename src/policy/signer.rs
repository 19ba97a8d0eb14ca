//! Who must have signed, and which logs must have seen it: what `sigstoreSigned` names.

use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use crate::oci::digest::Digest;
use crate::policy::json::Fault;
use crate::policy::json::Members;
use crate::policy::json::Part;
use crate::policy::keys::Inline;
use crate::policy::keys::Keys;
use crate::policy::keys::Read;
use crate::policy::keys::Sources;
use crate::policy::proof::Proof;
use crate::policy::proof::ProvenEntry;
use crate::policy::proof::ProvenTime;
use crate::policy::proof::Signer;
use crate::policy::proof::TimeSource;
use crate::policy::proof::What;
use crate::signature::SignatureError;
use crate::signature::bundle::Bundle;
use crate::signature::key::PublicKey;
use crate::signature::sigstore::SimpleSigning;
use crate::signature::simple_signing::Payload;
use crate::signature::transparency::LogEntry;

/// Who must have signed.
#[derive(Debug)]
pub(crate) enum Signers {
    /// The owner of one of these keys; if logs are named, one of them must have seen it.
    Keys { keys: Keys, logs: Option<Keys> },
    /// Someone with a short-lived certificate of a Fulcio.
    Fulcio,
    /// Someone with a certificate of a certificate authority.
    Pki,
}

/// Signers of whom everything that is needed is at hand.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ready<'a> {
    signers: &'a Keys,
    keys: &'a [PublicKey],
    log_names: Option<&'a Keys>,
    logs: &'a [PublicKey],
    now: SystemTime,
}

/// The members of a requirement that name its signers, unread.
#[derive(Debug)]
pub(crate) struct Named<'a> {
    keys: Sources,
    fulcio: Option<Part<'a>>,
    logs: Sources,
    pki: Option<Part<'a>>,
}

impl<'a> Named<'a> {
    /// Takes them from the members of a requirement.
    pub(crate) fn take(members: &mut Members<'a>) -> Result<Self, Fault> {
        let keys = Sources::take(members, ["keyPath", "keyPaths", "keyData", "keyDatas"])?;
        let fulcio = members.part("fulcio");
        let logs = [
            "rekorPublicKeyPath",
            "rekorPublicKeyPaths",
            "rekorPublicKeyData",
            "rekorPublicKeyDatas",
        ];
        let logs = Sources::take(members, logs)?;
        Ok(Self { keys, fulcio, logs, pki: members.part("pki") })
    }

    /// Reads them, and the files that they name; `part` is the requirement.
    pub(crate) fn load(self, part: &Part<'_>, read: Read<'_>) -> Result<Signers, Fault> {
        if let Some(fault) = self.conflict() {
            return Err(part.fault(fault));
        }
        let logs = self.logs.load(read).map_err(|fault| part.fault(fault))?.map(Keys::of_logs);
        if let Some(fulcio) = self.fulcio {
            return parse_fulcio(&fulcio).map(|()| Signers::Fulcio);
        }
        if let Some(pki) = self.pki {
            return parse_pki(&pki).map(|()| Signers::Pki);
        }
        let keys = self.keys.load(read).map_err(|fault| part.fault(fault))?;
        let keys = keys.ok_or_else(|| part.fault("no signer is named"))?;
        Ok(Signers::Keys { keys, logs })
    }

    fn conflict(&self) -> Option<String> {
        let Self { keys, fulcio, logs, pki } = self;
        let signers = keys.used() + usize::from(fulcio.is_some()) + usize::from(pki.is_some());
        if signers != 1 {
            Some(format!("exactly one of {}, fulcio and pki must be specified", keys.list()))
        } else if logs.used() > 1 {
            Some(format!("at most one of {} may be specified", logs.list()))
        } else if fulcio.is_some() && logs.used() == 0 {
            Some(format!("one of {} must be specified if fulcio is used", logs.list()))
        } else if pki.is_some() && logs.used() > 0 {
            Some(format!("{} are not supported for pki", logs.list()))
        } else {
            None
        }
    }
}

impl Signers {
    /// The signers, or what is missing.
    pub(crate) fn ready(&self, now: SystemTime) -> Result<Ready<'_>, String> {
        let (signers, log_names) = match self {
            Self::Keys { keys, logs } => (keys, logs.as_ref()),
            Self::Fulcio => return Err(not_built("keyless signatures (fulcio)")),
            Self::Pki => return Err(not_built("signatures with certificates (pki)")),
        };
        let logs = log_names.map_or(Ok(&[] as &[PublicKey]), Keys::usable)?;
        Ok(Ready { signers, keys: signers.usable()?, log_names, logs, now })
    }

    /// What is missing though the policy names it: files that cannot be used.
    pub(crate) fn fault(&self) -> Option<String> {
        match self {
            Self::Keys { .. } => self.ready(UNIX_EPOCH).err(),
            Self::Fulcio | Self::Pki => None,
        }
    }

    /// Whether a signature could satisfy them.
    pub(crate) fn can_be_satisfied(&self) -> bool {
        matches!(self, Self::Keys { .. })
    }
}

fn not_built(what: &str) -> String {
    format!("{what} are not supported by this version yet")
}

impl Ready<'_> {
    /// Proves a signature of a payload.
    pub(crate) fn signature(
        &self,
        signature: &SimpleSigning,
    ) -> Result<(Payload, Proof), SignatureError> {
        let proven = signature.verify(self.keys, self.logs)?;
        let proof = self.proof(What::Signature, proven.key, proven.entry.as_ref());
        Ok((proven.payload, proof))
    }

    /// Proves that a bundle is an image signature of `digest`.
    pub(crate) fn bundle(&self, bundle: &Bundle, digest: &Digest) -> Result<Proof, SignatureError> {
        let proven = bundle.verify(self.keys, self.logs, digest)?;
        Ok(self.proof(What::Bundle, proven.key, proven.entry.as_ref()))
    }

    /// Proves that a bundle says `what`, a predicate type, of `digest`.
    pub(crate) fn attestation(
        &self,
        bundle: &Bundle,
        what: &str,
        digest: &Digest,
    ) -> Result<Proof, SignatureError> {
        let proven = bundle.says(what, self.keys, self.logs, digest)?;
        Ok(self.proof(What::Attestation, proven.key, proven.entry.as_ref()))
    }

    /// Who must have signed, for "not by …".
    pub(crate) fn described(&self) -> String {
        let mut text = self.signers.one_of();
        if self.keys.iter().any(PublicKey::is_ed25519) {
            text.push_str(
                " (Ed25519ph, in which cosign signs with Ed25519 keys, is not supported)",
            );
        }
        text
    }

    fn proof(&self, what: What, key: usize, entry: Option<&LogEntry>) -> Proof {
        let mut proof = Proof::of(what);
        proof.signer = Some(Signer::Key { key: self.signers.name(key).to_owned() });
        let Some(entry) = entry else {
            return proof;
        };
        let log = self.log_names.map_or("", |logs| logs.name(entry.log)).to_owned();
        proof.entries.push(ProvenEntry { log, index: entry.index });
        if let Some(time) = entry.time {
            proof.times.push(ProvenTime { time, source: TimeSource::Log });
            let now = self.now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
            if u64::try_from(time).is_ok_and(|time| time > now) {
                let remark = "at a time that is still to come by this node's clock";
                proof.remarks.push(remark.to_owned());
            }
        }
        proof
    }
}

fn parse_fulcio(part: &Part<'_>) -> Result<(), Fault> {
    let mut members = part.members()?;
    let path = members.take::<String>("caPath")?.is_some_and(|path| !path.is_empty());
    let data = members.take::<Inline>("caData")?.is_some();
    let issuer = members.take::<String>("oidcIssuer")?.unwrap_or_default();
    let email = members.take::<String>("subjectEmail")?.unwrap_or_default();
    members.end()?;
    if path == data {
        return Err(part.fault("exactly one of caPath and caData must be specified"));
    }
    if issuer.is_empty() || email.is_empty() {
        return Err(part.fault("oidcIssuer and subjectEmail must be specified"));
    }
    Ok(())
}

fn parse_pki(part: &Part<'_>) -> Result<(), Fault> {
    let mut members = part.members()?;
    let roots_path = members.take::<String>("caRootsPath")?.is_some_and(|path| !path.is_empty());
    let roots_data = members.take::<Inline>("caRootsData")?.is_some();
    let path = members.take::<String>("caIntermediatesPath")?.is_some_and(|path| !path.is_empty());
    let data = members.take::<Inline>("caIntermediatesData")?.is_some();
    let email = members.take::<String>("subjectEmail")?.unwrap_or_default();
    let host = members.take::<String>("subjectHostname")?.unwrap_or_default();
    members.end()?;
    if roots_path == roots_data {
        return Err(part.fault("exactly one of caRootsPath and caRootsData must be specified"));
    }
    if path && data {
        let fault = "caIntermediatesPath and caIntermediatesData cannot be used simultaneously";
        return Err(part.fault(fault));
    }
    if email.is_empty() && host.is_empty() {
        return Err(part.fault("at least one of subjectEmail, subjectHostname must be specified"));
    }
    Ok(())
}
