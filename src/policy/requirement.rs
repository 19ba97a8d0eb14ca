//! The closed list of requirements, and how each is written.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::policy::identity::Identity;
use crate::policy::json::Fault;
use crate::policy::json::Part;
use crate::policy::json::present;
use crate::policy::keys::Inline;
use crate::policy::keys::Keys;
use crate::policy::keys::Read;
use crate::policy::keys::Sources;

/// What must hold of an image.
#[derive(Debug)]
pub(crate) enum Requirement {
    /// Nothing.
    AcceptAnything,
    /// What never holds.
    Reject,
    /// An OpenPGP signature.
    SignedBy,
    /// A signed base image; not built in the reference either.
    SignedBaseLayer,
    /// A sigstore signature.
    SigstoreSigned(Box<SigstoreSigned>),
}

/// By whom, where logged, and under which name an image must be signed.
#[derive(Debug)]
pub(crate) struct SigstoreSigned {
    pub(crate) signer: Signer,
    /// The logs, one of which must have seen the signature.
    pub(crate) logs: Option<Keys>,
    pub(crate) identity: Identity,
}

/// Who must have signed.
#[derive(Debug)]
pub(crate) enum Signer {
    /// The owner of one of these keys.
    Keys(Keys),
    /// Someone with a short-lived certificate of a Fulcio.
    Fulcio,
    /// Someone with a certificate of a certificate authority.
    Pki,
}

/// What one requirement says of an image.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It holds, because of this.
    Accepted(String),
    /// It does not hold, because of this.
    Rejected(String),
}

impl Outcome {
    /// The refusal for what the language has and this program has not.
    pub(crate) fn not_built(what: &str) -> Self {
        Self::Rejected(format!("{what} not supported by this version yet"))
    }
}

#[derive(Deserialize)]
struct Kind {
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Plain {
    #[serde(rename = "type")]
    _kind: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct SignedByText<'a> {
    #[serde(rename = "type")]
    _kind: String,
    #[serde(rename = "keyType")]
    _key_type: KeyType,
    #[serde(default, deserialize_with = "present")]
    key_path: Option<String>,
    #[serde(default, deserialize_with = "present")]
    key_paths: Option<Vec<String>>,
    #[serde(default, deserialize_with = "present")]
    key_data: Option<Inline>,
    #[serde(borrow, default, deserialize_with = "present")]
    signed_identity: Option<&'a RawValue>,
}

#[derive(Deserialize)]
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct SignedBaseLayerText<'a> {
    #[serde(rename = "type")]
    _kind: String,
    #[serde(borrow)]
    base_layer_identity: &'a RawValue,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct SigstoreSignedText<'a> {
    #[serde(rename = "type")]
    _kind: String,
    #[serde(default, deserialize_with = "present")]
    key_path: Option<String>,
    #[serde(default, deserialize_with = "present")]
    key_paths: Option<Vec<String>>,
    #[serde(default, deserialize_with = "present")]
    key_data: Option<Inline>,
    #[serde(default, deserialize_with = "present")]
    key_datas: Option<Vec<Inline>>,
    #[serde(borrow, default, deserialize_with = "present")]
    fulcio: Option<&'a RawValue>,
    #[serde(default, deserialize_with = "present")]
    rekor_public_key_path: Option<String>,
    #[serde(default, deserialize_with = "present")]
    rekor_public_key_paths: Option<Vec<String>>,
    #[serde(default, deserialize_with = "present")]
    rekor_public_key_data: Option<Inline>,
    #[serde(default, deserialize_with = "present")]
    rekor_public_key_datas: Option<Vec<Inline>>,
    #[serde(borrow, default, deserialize_with = "present")]
    pki: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    signed_identity: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct FulcioText {
    #[serde(default, deserialize_with = "present")]
    ca_path: Option<String>,
    #[serde(default, deserialize_with = "present")]
    ca_data: Option<Inline>,
    oidc_issuer: String,
    subject_email: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct PkiText {
    #[serde(default, deserialize_with = "present")]
    ca_roots_path: Option<String>,
    #[serde(default, deserialize_with = "present")]
    ca_roots_data: Option<Inline>,
    #[serde(default, deserialize_with = "present")]
    ca_intermediates_path: Option<String>,
    #[serde(default, deserialize_with = "present")]
    ca_intermediates_data: Option<Inline>,
    #[serde(default)]
    subject_email: String,
    #[serde(default)]
    subject_hostname: String,
}

impl Requirement {
    /// Reads one requirement, and the key files that it names.
    pub(crate) fn parse(part: &Part<'_>, read: Read<'_>) -> Result<Self, Fault> {
        let Kind { kind } = part.read()?;
        match kind.as_str() {
            "insecureAcceptAnything" => part.read::<Plain>().map(|_| Self::AcceptAnything),
            "reject" => part.read::<Plain>().map(|_| Self::Reject),
            "signedBy" => signed_by(part).map(|()| Self::SignedBy),
            "signedBaseLayer" => {
                let text: SignedBaseLayerText<'_> = part.read()?;
                Identity::parse(&part.member(text.base_layer_identity, "baseLayerIdentity"))?;
                Ok(Self::SignedBaseLayer)
            }
            "sigstoreSigned" => {
                sigstore_signed(part, read).map(|found| Self::SigstoreSigned(Box::new(found)))
            }
            _ => Err(part.fault(format!("unknown policy requirement type {kind:?}"))),
        }
    }

    /// The word for it in the policy file.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::AcceptAnything => "insecureAcceptAnything",
            Self::Reject => "reject",
            Self::SignedBy => "signedBy",
            Self::SignedBaseLayer => "signedBaseLayer",
            Self::SigstoreSigned(_) => "sigstoreSigned",
        }
    }
}

fn identity(part: &Part<'_>, raw: Option<&RawValue>) -> Result<Identity, Fault> {
    match raw {
        None => Ok(Identity::MatchRepoDigestOrExact),
        Some(raw) => Identity::parse(&part.member(raw, "signedIdentity")),
    }
}

fn signed_by(part: &Part<'_>) -> Result<(), Fault> {
    let text: SignedByText<'_> = part.read()?;
    let path = text.key_path.iter().filter(|path| !path.is_empty()).count();
    let lists = usize::from(text.key_paths.is_some()) + usize::from(text.key_data.is_some());
    if path + lists != 1 {
        let fault = "exactly one of keyPath, keyPaths and keyData must be specified";
        return Err(part.fault(fault));
    }
    identity(part, text.signed_identity).map(drop)
}

fn sigstore_signed(part: &Part<'_>, read: Read<'_>) -> Result<SigstoreSigned, Fault> {
    let text: SigstoreSignedText<'_> = part.read()?;
    let keys = Sources {
        names: ["keyPath", "keyPaths", "keyData", "keyDatas"],
        path: text.key_path,
        paths: text.key_paths,
        data: text.key_data,
        datas: text.key_datas,
    };
    let logs = Sources {
        names: [
            "rekorPublicKeyPath",
            "rekorPublicKeyPaths",
            "rekorPublicKeyData",
            "rekorPublicKeyDatas",
        ],
        path: text.rekor_public_key_path,
        paths: text.rekor_public_key_paths,
        data: text.rekor_public_key_data,
        datas: text.rekor_public_key_datas,
    };
    let signers =
        keys.used() + usize::from(text.fulcio.is_some()) + usize::from(text.pki.is_some());
    let fault = if signers != 1 {
        format!("exactly one of {}, fulcio and pki must be specified", keys.list())
    } else if logs.used() > 1 {
        format!("at most one of {} may be specified", logs.list())
    } else if text.fulcio.is_some() && logs.used() == 0 {
        format!("one of {} must be specified if fulcio is used", logs.list())
    } else if text.pki.is_some() && logs.used() > 0 {
        format!("{} are not supported for pki", logs.list())
    } else {
        String::new()
    };
    if !fault.is_empty() {
        return Err(part.fault(fault));
    }
    if let Some(raw) = text.fulcio {
        fulcio(&part.member(raw, "fulcio"))?;
    }
    if let Some(raw) = text.pki {
        pki(&part.member(raw, "pki"))?;
    }
    let at_part = |fault: String| part.fault(fault);
    let signer = match keys.load(read).map_err(at_part)? {
        Some(keys) => Signer::Keys(keys),
        None if text.fulcio.is_some() => Signer::Fulcio,
        None => Signer::Pki,
    };
    let logs = logs.load(read).map_err(at_part)?.map(Keys::of_logs);
    Ok(SigstoreSigned { signer, logs, identity: identity(part, text.signed_identity)? })
}

fn fulcio(part: &Part<'_>) -> Result<(), Fault> {
    let text: FulcioText = part.read()?;
    let path = text.ca_path.is_some_and(|path| !path.is_empty());
    if path == text.ca_data.is_some() {
        return Err(part.fault("exactly one of caPath and caData must be specified"));
    }
    if text.oidc_issuer.is_empty() || text.subject_email.is_empty() {
        return Err(part.fault("oidcIssuer and subjectEmail must be specified"));
    }
    Ok(())
}

fn pki(part: &Part<'_>) -> Result<(), Fault> {
    let text: PkiText = part.read()?;
    let path = |path: Option<String>| path.is_some_and(|path| !path.is_empty());
    if path(text.ca_roots_path) == text.ca_roots_data.is_some() {
        return Err(part.fault("exactly one of caRootsPath and caRootsData must be specified"));
    }
    if path(text.ca_intermediates_path) && text.ca_intermediates_data.is_some() {
        let fault = "caIntermediatesPath and caIntermediatesData cannot be used simultaneously";
        return Err(part.fault(fault));
    }
    if text.subject_email.is_empty() && text.subject_hostname.is_empty() {
        return Err(part.fault("at least one of subjectEmail, subjectHostname must be specified"));
    }
    Ok(())
}
