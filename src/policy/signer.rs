//! Who must have signed, and which logs must have seen it: what `sigstoreSigned` names.

use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use crate::failure::chain;
use crate::policy::cause::Cause;
use crate::policy::cause::Reason;
use crate::policy::fulcio::FileOrData;
use crate::policy::fulcio::Fulcio;
use crate::policy::fulcio::trust_root;
use crate::policy::json::Fault;
use crate::policy::json::Members;
use crate::policy::json::Part;
use crate::policy::keys::Keys;
use crate::policy::keys::Read;
use crate::policy::keys::Sources;
use crate::policy::pki::Pki;
use crate::policy::proof::Proof;
use crate::policy::proof::ProvenEntry;
use crate::policy::proof::ProvenTime;
use crate::policy::proof::Signer;
use crate::policy::proof::TimeSource;
use crate::policy::proof::What;
use crate::policy::signable::Signable;
use crate::signature::SignatureError;
use crate::signature::bundle::Bundle;
use crate::signature::certificate;
use crate::signature::certificate::Authorities;
use crate::signature::key::PublicKey;
use crate::signature::keyless;
use crate::signature::pki;
use crate::signature::sigstore::SimpleSigning;
use crate::signature::simple_signing::Payload;
use crate::signature::statement;
use crate::signature::transparency::Logged;
use crate::signature::trust::Trust;

/// The members that name a trusted root for the logs of signatures by a key.
const ROOT: [&str; 2] = ["trustedRootPath", "trustedRootData"];

/// Who must have signed.
#[derive(Debug)]
pub(crate) enum Signers {
    /// The owner of one of these keys; if logs are named, one of them must have seen it.
    Keys { keys: Keys, logs: Option<Box<Result<Trust, String>>> },
    /// Someone with a short-lived certificate of a Fulcio.
    Fulcio(Box<Fulcio>),
    /// Someone with a certificate of an ordinary authority.
    Pki(Pki),
}

/// Signers of whom everything that is needed is at hand.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ready<'a> {
    by: By<'a>,
    now: SystemTime,
}

#[derive(Debug, Clone, Copy)]
enum By<'a> {
    Keys(&'a Keys, &'a [PublicKey], Option<&'a Trust>),
    Fulcio(&'a Fulcio, &'a Trust),
    Pki(&'a Pki, &'a Authorities),
}

/// The members of a requirement that name its signers, unread.
#[derive(Debug)]
pub(crate) struct Named<'a> {
    keys: Sources,
    fulcio: Option<Part<'a>>,
    logs: Sources,
    root: FileOrData,
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
        let root = FileOrData::take(members, ROOT)?;
        Ok(Self { keys, fulcio, logs, root, pki: members.part("pki") })
    }

    /// Reads them, and the files that they name; `part` is the requirement.
    pub(crate) fn load(self, part: &Part<'_>, read: Read<'_>) -> Result<Signers, Fault> {
        if let Some(fault) = self.conflict() {
            return Err(part.fault(fault));
        }
        let Self { keys, fulcio, logs, root, pki } = self;
        if let Some(fulcio) = fulcio {
            let fulcio = Fulcio::parse(&fulcio, logs, part, read)?;
            return Ok(Signers::Fulcio(Box::new(fulcio)));
        }
        if let Some(pki) = pki {
            return Pki::parse(&pki, read).map(Signers::Pki);
        }
        let logs = logs.load(read).map_err(|fault| part.fault(fault))?.map(Keys::of_logs);
        let logs = match root.used() {
            0 => logs.map(|logs| trust_logs(&logs)),
            _ => Some(trust_root(root, read, Trust::logs_from_json)),
        };
        let keys = keys.load(read).map_err(|fault| part.fault(fault))?;
        let keys = keys.ok_or_else(|| part.fault("no signer is named"))?;
        Ok(Signers::Keys { keys, logs: logs.map(Box::new) })
    }

    fn conflict(&self) -> Option<String> {
        let Self { keys, fulcio, logs, root, pki } = self;
        let logged = logs.used() + root.used();
        let signers = keys.used() + usize::from(fulcio.is_some()) + usize::from(pki.is_some());
        if signers != 1 {
            Some(format!("exactly one of {}, fulcio and pki must be specified", keys.list()))
        } else if logged > 1 {
            Some(format!(
                "at most one of {}, {} and {} may be specified",
                logs.list(),
                ROOT[0],
                ROOT[1]
            ))
        } else if root.is_empty_path() {
            Some(format!("{} must not be empty", ROOT[0]))
        } else if pki.is_some() && logged > 0 {
            Some(format!("{}, {} and {} are not supported for pki", logs.list(), ROOT[0], ROOT[1]))
        } else if fulcio.is_some() && root.used() > 0 {
            Some(format!("{} and {} stand in fulcio where it is used", ROOT[0], ROOT[1]))
        } else {
            None
        }
    }
}

impl Signers {
    /// The signers, or what is missing.
    pub(crate) fn ready(&self, now: SystemTime) -> Result<Ready<'_>, Reason> {
        let by = self.by().map_err(|fault| Reason::new(Cause::KeyUnusable, fault))?;
        Ok(Ready { by, now })
    }

    fn by(&self) -> Result<By<'_>, String> {
        Ok(match self {
            Self::Keys { keys, logs } => {
                let logs = logs.as_deref().map(Result::as_ref).transpose().map_err(Clone::clone)?;
                By::Keys(keys, keys.usable()?, logs)
            }
            Self::Fulcio(fulcio) => By::Fulcio(fulcio, fulcio.trust()?),
            Self::Pki(pki) => By::Pki(pki, pki.authorities()?),
        })
    }

    /// What is missing though the policy names it: files that cannot be used.
    pub(crate) fn fault(&self) -> Option<String> {
        self.by().err()
    }
}

impl Ready<'_> {
    /// Proves a signature of a payload.
    pub(crate) fn signature(
        &self,
        signature: &SimpleSigning,
    ) -> Result<(Payload, Proof), SignatureError> {
        let what = What::Signature;
        match self.by {
            By::Keys(names, keys, logs) => {
                let proven = signature.verify(keys, logs)?;
                let proof = self.by_key(what, names.name(proven.key), proven.logged);
                Ok((proven.payload, proof))
            }
            By::Fulcio(fulcio, trust) => {
                let (payload, proven) = keyless::verify_signature(signature, trust)?;
                fulcio.accepts(&proven.certificate).map_err(SignatureError::OtherSigner)?;
                Ok((payload, by_fulcio(what, proven)))
            }
            By::Pki(pki, authorities) => {
                let (payload, proven) = pki::verify_signature(signature, authorities, self.now)?;
                pki.accepts(&proven).map_err(SignatureError::OtherSigner)?;
                Ok((payload, by_certificate(what, proven.certificate)))
            }
        }
    }

    /// Proves that a bundle is an image signature on `subject`.
    pub(crate) fn bundle(
        &self,
        bundle: &Bundle,
        subject: &Signable<'_>,
    ) -> Result<Proof, SignatureError> {
        let proof = self.statement(What::Bundle, bundle)?;
        let signed = bundle.says(statement::SIGN, |digest| subject.find(digest))?;
        Ok(Proof { signed: Some(signed), ..proof })
    }

    /// Proves by whom the statement in a bundle is, whatever it says, and of what.
    fn statement(&self, what: What, bundle: &Bundle) -> Result<Proof, SignatureError> {
        match self.by {
            By::Keys(names, keys, logs) => {
                let proven = bundle.verify(keys, logs)?;
                Ok(self.by_key(what, names.name(proven.key), proven.logged))
            }
            By::Fulcio(fulcio, trust) => {
                let accepts = |certificate: &_| fulcio.accepts(certificate);
                Ok(by_fulcio(what, keyless::verify_bundle(bundle, trust, &accepts)?))
            }
            By::Pki(pki, authorities) => {
                let proven = pki::verify_bundle(bundle, authorities, self.now)?;
                pki.accepts(&proven).map_err(SignatureError::OtherSigner)?;
                Ok(by_certificate(what, proven.certificate))
            }
        }
    }

    /// Proves that a bundle says `what`, a predicate type, of `subject`.
    pub(crate) fn attestation(
        &self,
        bundle: &Bundle,
        what: &str,
        subject: &Signable<'_>,
    ) -> Result<Proof, SignatureError> {
        let proof = self.statement(What::Attestation, bundle)?;
        let signed = bundle.says(what, |digest| subject.find(digest))?;
        Ok(Proof { signed: Some(signed), ..proof })
    }

    /// Who must have signed, for "not by …".
    pub(crate) fn described(&self) -> String {
        match self.by {
            By::Keys(names, _, _) => names.one_of(),
            By::Fulcio(fulcio, _) => fulcio.described(),
            By::Pki(pki, _) => pki.described(),
        }
    }

    fn by_key(&self, what: What, key: &str, logged: Logged) -> Proof {
        let mut proof = Proof::of(what);
        proof.signer = Some(Signer::Key { key: key.to_owned() });
        let now = self.now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let later = |time: &i64| u64::try_from(*time).is_ok_and(|time| time > now);
        if logged.times.iter().any(later) {
            let remark = "at a time that is still to come by this node's clock";
            proof.remarks.push(remark.to_owned());
        }
        witness(&mut proof, logged);
        proof
    }
}

/// Adds which logs have it, and when.
fn witness(proof: &mut Proof, logged: Logged) {
    let Logged { entries, times, stamps } = logged;
    let of =
        |times: Vec<i64>, source| times.into_iter().map(move |time| ProvenTime { time, source });
    proof.times.extend(of(stamps, TimeSource::TimestampAuthority));
    proof.times.extend(of(times, TimeSource::Log));
    proof.entries = entries.into_iter().map(|(log, index)| ProvenEntry { log, index }).collect();
}

fn by_certificate(what: What, certificate: certificate::Certificate) -> Proof {
    Proof { signer: Some(Signer::from(certificate)), ..Proof::of(what) }
}

fn by_fulcio(what: What, proven: keyless::Proven) -> Proof {
    let mut proof = by_certificate(what, proven.certificate);
    witness(&mut proof, proven.logged);
    proof
}

/// The logs of these keys, or what is wrong with one.
fn trust_logs(logs: &Keys) -> Result<Trust, String> {
    let keys = logs.usable()?;
    let named: Vec<_> = keys.iter().enumerate().map(|(at, key)| (key, logs.name(at))).collect();
    Trust::of_logs(&named).map_err(|error| format!("the logs cannot be used: {}", chain(&error)))
}
