//! `signedBy`: an OpenPGP signature.

use serde::Deserialize;

use crate::policy::Outcome;
use crate::policy::identity;
use crate::policy::json::Fault;
use crate::policy::json::Part;
use crate::policy::keys::Inline;

/// By whom, and under which name an image must be signed.
#[derive(Debug)]
pub(crate) struct SignedBy;

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

impl SignedBy {
    /// Reads the requirement.
    pub(crate) fn parse(part: &Part<'_>) -> Result<Self, Fault> {
        let mut members = part.members()?;
        members.kind()?;
        if members.take::<KeyType>("keyType")?.is_none() {
            return Err(part.fault("missing field `keyType`"));
        }
        let path = members.take::<String>("keyPath")?.is_some_and(|path| !path.is_empty());
        let paths = members.take::<Vec<String>>("keyPaths")?.is_some();
        let data = members.take::<Inline>("keyData")?.is_some();
        identity::take(&mut members)?;
        members.end()?;
        if usize::from(path) + usize::from(paths) + usize::from(data) != 1 {
            let fault = "exactly one of keyPath, keyPaths and keyData must be specified";
            return Err(part.fault(fault));
        }
        Ok(Self)
    }

    /// Judges an image.
    pub(crate) fn judge(&self) -> Outcome {
        Outcome::not_built("OpenPGP signatures are")
    }
}
