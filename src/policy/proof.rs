//! What satisfied a requirement: who signed what, when, and which log saw it.
//!
//! It is kept as parts, because it is printed, written into records and asked for by programs. All
//! of it is proven; what a signature only claims is not here.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use serde::Serializer;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::oci::digest::Digest;
use crate::signature::certificate;

/// What satisfied a requirement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Proof {
    /// What kind of thing was found true.
    pub what: What,
    /// What it is of; of nothing if nothing was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signed: Option<Signed>,
    /// Who made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signer: Option<Signer>,
    /// When, by every clock that vouches for it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub times: Vec<ProvenTime>,
    /// The log entries that were proven.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub entries: Vec<ProvenEntry>,
    /// What an administrator should know, though it changes no verdict.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remarks: Vec<String>,
}

/// What kind of thing satisfied a requirement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum What {
    /// The requirement asks for nothing.
    Nothing,
    /// A signature as cosign v2 makes it.
    Signature,
    /// A signature as cosign v3 makes it.
    Bundle,
    /// A signature as GnuPG makes it.
    OpenPgp,
    /// A statement on the image that is no signature.
    Attestation,
}

/// What a signature or an attestation is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Signed {
    /// The manifest that is judged.
    Manifest(Digest),
    /// An index that lists it.
    Index(Digest),
}

/// Who made a signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "type")]
pub enum Signer {
    /// The owner of a key that the policy names.
    Key {
        /// The key's file, or the member of the policy that carries it.
        key: String,
    },
    /// The owner of an OpenPGP key that the policy names.
    OpenPgp {
        /// The fingerprint of the primary key.
        fingerprint: String,
        /// The key's file, one of these files, or the member of the policy that carries it.
        keyring: String,
    },
    /// The owner of a certificate.
    Certificate(Box<Certificate>),
}

/// What a proven certificate says of its owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Certificate {
    /// The owner's names: e-mail addresses, URIs, host names.
    pub subjects: Vec<String>,
    /// The identity provider where the owner logged in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// What the authority says of a CI job, under the words of a policy.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub claims: BTreeMap<&'static str, String>,
}

/// A time that somebody vouches for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ProvenTime {
    /// Seconds since 1970.
    #[serde(serialize_with = "rfc3339")]
    pub time: i64,
    /// Who vouches for it.
    pub source: TimeSource,
}

/// Who vouches for a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum TimeSource {
    /// A transparency log, which signed its entry with it (the SET).
    Log,
    /// The signer, and nobody else.
    Signer,
    /// A time stamp authority (RFC 3161).
    TimestampAuthority,
}

/// An entry of a transparency log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProvenEntry {
    /// The log: its key's file, or its address.
    pub log: String,
    /// The place of the entry.
    pub index: i64,
}

impl Proof {
    /// A proof of nothing more than its kind.
    #[must_use]
    pub(crate) fn of(what: What) -> Self {
        Self {
            what,
            signed: None,
            signer: None,
            times: Vec::new(),
            entries: Vec::new(),
            remarks: Vec::new(),
        }
    }
}

impl From<certificate::Certificate> for Signer {
    fn from(certificate: certificate::Certificate) -> Self {
        let subjects = certificate.subjects().into_iter().map(str::to_owned).collect();
        let certificate::Certificate { issuer, claims, .. } = certificate;
        Self::Certificate(Box::new(Certificate { subjects, issuer, claims }))
    }
}

impl fmt::Display for Signed {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Manifest(digest) => write!(out, "manifest {digest}"),
            Self::Index(digest) => write!(out, "index {digest}"),
        }
    }
}

impl fmt::Display for Proof {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self.what {
            What::Nothing => "nothing was checked",
            What::Signature => "signature",
            What::Bundle => "bundle",
            What::OpenPgp => "OpenPGP signature",
            What::Attestation => "attestation",
        })?;
        if let Some(index @ Signed::Index(_)) = &self.signed {
            write!(out, " of the {index}")?;
        }
        if let Some(signer) = &self.signer {
            write!(out, " by {signer}")?;
        }
        for (place, entry) in self.entries.iter().enumerate() {
            let lead = if place == 0 { ", in the log at index" } else { " and" };
            write!(out, "{lead} {}", entry.index)?;
        }
        for remark in &self.remarks {
            write!(out, " ({remark})")?;
        }
        Ok(())
    }
}

impl fmt::Display for Signer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key { key } => write!(out, "the key in {key}"),
            Self::OpenPgp { fingerprint, keyring } => {
                write!(out, "the key {fingerprint} in {keyring}")
            }
            Self::Certificate(certificate) => {
                let Certificate { subjects, issuer, claims: _ } = certificate.as_ref();
                out.write_str(&quoted(subjects))?;
                issuer.as_ref().map_or(Ok(()), |issuer| write!(out, " of {issuer:?}"))
            }
        }
    }
}

/// Texts of strangers in a sentence.
pub(crate) fn quoted(texts: &[String]) -> String {
    let short = |text: &String| text.chars().take(200).collect::<String>();
    let shown: Vec<String> =
        texts.iter().take(5).map(|text| format!("{:?}", short(text))).collect();
    shown.join(" ")
}

fn rfc3339<S: Serializer>(seconds: &i64, serializer: S) -> Result<S::Ok, S::Error> {
    let text = OffsetDateTime::from_unix_timestamp(*seconds).ok();
    let text = text.and_then(|time| time.format(&Rfc3339).ok());
    match text {
        Some(text) => serializer.serialize_str(&text),
        None => serializer.serialize_i64(*seconds),
    }
}
