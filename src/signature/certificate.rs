//! Signers' certificates: what they say, and whether an authority vouches for them.
//!
//! Fulcio, the authority of keyless signing, writes into a certificate who logged in (a subject
//! alternative name), at which identity provider, and, for a CI job, what was built and how. These
//! extensions are under the arc 1.3.6.1.4.1.57264.1 (fulcio/docs/oid-info.md). All of it is only a
//! claim until the chain of the certificate is proven.

use std::collections::BTreeMap;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::ServerName;
use rustls_pki_types::TrustAnchor;
use rustls_pki_types::UnixTime;
use rustls_pki_types::pem::PemObject as _;
use sigstore_verify::crypto::WEBPKI_VERIFICATION_ALGS;
use webpki::EndEntityCert;
use webpki::KeyUsage;
use x509_cert::Certificate as Parsed;
use x509_cert::der::Decode as _;
use x509_cert::der::Encode as _;
use x509_cert::der::asn1::ObjectIdentifier;
use x509_cert::der::asn1::Utf8StringRef;
use x509_cert::ext::pkix::ExtendedKeyUsage;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use crate::signature::SignatureError;
use crate::signature::key::KeyError;
use crate::signature::key::PublicKey;

/// The arc of Fulcio's extensions.
const FULCIO: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.57264.1");
/// The identity provider, as bare text; the older form.
const ISSUER_V1: u32 = 1;
/// The identity provider, as a UTF8String.
const ISSUER: u32 = 8;
/// The purpose that a certificate must have: code signing (RFC 5280 section 4.2.1.12).
const CODE_SIGNING: [u8; 8] = [0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x03];
/// The most certificates of a chain that are looked at; real ones have three.
pub(super) const LONGEST_CHAIN: usize = 10;

/// The most extensions of a certificate; real ones have some twenty. A stranger's may have as many as its
/// bytes allow, and each is compared with those before it.
const MOST_EXTENSIONS: usize = 256;

/// What Fulcio says of a CI job: the word for it in a policy, and its place under the arc.
pub const CLAIMS: [(&str, u32); 15] = [
    ("buildSignerURI", 9),
    ("buildSignerDigest", 10),
    ("runnerEnvironment", 11),
    ("sourceRepository", 12),
    ("sourceRepositoryDigest", 13),
    ("sourceRef", 14),
    ("sourceRepositoryIdentifier", 15),
    ("sourceRepositoryOwner", 16),
    ("sourceRepositoryOwnerIdentifier", 17),
    ("buildConfigURI", 18),
    ("buildConfigDigest", 19),
    ("buildTrigger", 20),
    ("runInvocationURI", 21),
    ("sourceRepositoryVisibility", 22),
    ("deploymentEnvironment", 23),
];

/// What a certificate says of its owner.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Certificate {
    /// The e-mail addresses among its subject alternative names.
    pub emails: Vec<String>,
    /// The URIs among them.
    pub uris: Vec<String>,
    /// The host names among them.
    pub hosts: Vec<String>,
    /// The identity provider where the owner logged in.
    pub issuer: Option<String>,
    /// What else Fulcio says, under the words of [`CLAIMS`].
    pub claims: BTreeMap<&'static str, String>,
}

impl Certificate {
    /// Reads a certificate.
    ///
    /// # Errors
    ///
    /// [`SignatureError::CertificateMalformed`], also for an extension that is there twice: two
    /// readers would see two owners; and for more extensions than anybody needs.
    pub fn parse(der: &[u8]) -> Result<Self, SignatureError> {
        let parsed = read(der)?;
        let mut certificate = Self::default();
        let names: Option<(bool, SubjectAltName)> =
            parsed.tbs_certificate.get().map_err(malformed)?;
        for name in names.into_iter().flat_map(|(_, names)| names.0) {
            match name {
                GeneralName::Rfc822Name(text) => certificate.emails.push(text.to_string()),
                GeneralName::UniformResourceIdentifier(text) => {
                    certificate.uris.push(text.to_string());
                }
                GeneralName::DnsName(text) => certificate.hosts.push(text.to_string()),
                _ => {}
            }
        }
        let mut seen = Vec::new();
        for extension in parsed.tbs_certificate.extensions.iter().flatten() {
            if seen.len() == MOST_EXTENSIONS {
                return Err(malformed(format!("it has more than {MOST_EXTENSIONS} extensions")));
            }
            if seen.contains(&extension.extn_id) {
                return Err(malformed(format!("extension {} is there twice", extension.extn_id)));
            }
            seen.push(extension.extn_id);
            if extension.extn_id.parent() == Some(FULCIO) {
                let number = extension.extn_id.arcs().last().unwrap_or_default();
                certificate.claim(number, extension.extn_value.as_bytes())?;
            }
        }
        Ok(certificate)
    }

    /// Every name of the owner, for a sentence.
    #[must_use]
    pub fn subjects(&self) -> Vec<&str> {
        let Self { emails, uris, hosts, .. } = self;
        emails.iter().chain(uris).chain(hosts).map(String::as_str).collect()
    }

    fn claim(&mut self, number: u32, value: &[u8]) -> Result<(), SignatureError> {
        if number == ISSUER_V1 {
            let text = std::str::from_utf8(value).map_err(malformed)?;
            return self.issued_by(text);
        }
        let known = CLAIMS.iter().find(|(_, of)| *of == number).map(|(word, _)| *word);
        if number != ISSUER && known.is_none() {
            return Ok(());
        }
        let text = Utf8StringRef::from_der(value).map_err(malformed)?.as_str();
        match known {
            Some(word) => drop(self.claims.insert(word, text.to_owned())),
            None => self.issued_by(text)?,
        }
        Ok(())
    }

    /// Both forms of the issuer must agree.
    fn issued_by(&mut self, text: &str) -> Result<(), SignatureError> {
        match &self.issuer {
            Some(known) if known != text => {
                Err(malformed(format!("it names two OIDC issuers, {known:?} and {text:?}")))
            }
            _ => {
                self.issuer = Some(text.to_owned());
                Ok(())
            }
        }
    }
}

/// The key of a certificate.
///
/// # Errors
///
/// [`SignatureError::CertificateMalformed`] when it has none that is fit to verify with.
pub fn key(der: &[u8]) -> Result<PublicKey, SignatureError> {
    let spki = read(der)?.tbs_certificate.subject_public_key_info.to_der().map_err(malformed)?;
    PublicKey::from_der(spki).map_err(unfit)
}

/// That a certificate's key is not fit to verify with.
pub(super) fn unfit(error: KeyError) -> SignatureError {
    malformed(crate::failure::chain(&error))
}

/// The one certificate of a PEM text.
///
/// # Errors
///
/// [`SignatureError::CertificateMalformed`] when there is none, or more than one.
pub fn one(pem: &str) -> Result<Vec<u8>, SignatureError> {
    match <[_; 1]>::try_from(several(pem.as_bytes())?) {
        Ok([one]) => Ok(one),
        Err(found) => Err(malformed(format!("{} certificates stand where one is", found.len()))),
    }
}

/// The certificates of a PEM text.
///
/// # Errors
///
/// [`SignatureError::CertificateMalformed`] when it is no PEM, or has too many.
pub fn several(pem: &[u8]) -> Result<Vec<Vec<u8>>, SignatureError> {
    let mut found = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(pem).take(LONGEST_CHAIN + 1) {
        found.push(certificate.map_err(|error| malformed(format!("{error:?}")))?.to_vec());
    }
    if found.len() > LONGEST_CHAIN {
        return Err(malformed(format!("more than {LONGEST_CHAIN} certificates")));
    }
    Ok(found)
}

/// Certificate authorities that an administrator trusts.
#[derive(Debug)]
pub struct Authorities {
    roots: Vec<TrustAnchor<'static>>,
    intermediates: Vec<CertificateDer<'static>>,
}

impl Authorities {
    /// Reads roots, and intermediates that help to reach them, from PEM.
    ///
    /// # Errors
    ///
    /// [`SignatureError::CertificateMalformed`] when one cannot be read, or there is no root.
    pub fn from_pem(roots: &[u8], intermediates: &[u8]) -> Result<Self, SignatureError> {
        let roots = several(roots)?.into_iter().map(anchor).collect::<Result<Vec<_>, _>>()?;
        if roots.is_empty() {
            return Err(malformed("no certificate in the file"));
        }
        let intermediates = several(intermediates)?.into_iter().map(CertificateDer::from).collect();
        Ok(Self { roots, intermediates })
    }

    /// Trusts each of these certificates by itself, as a trusted root does.
    pub(super) fn all_of(
        certificates: impl Iterator<Item = Vec<u8>>,
    ) -> Result<Self, SignatureError> {
        let roots = certificates.map(anchor).collect::<Result<_, _>>()?;
        Ok(Self { roots, intermediates: Vec::new() })
    }

    /// Proves that one of the roots vouches for `leaf` as a signer of code, at `now`; `chain` may
    /// help to reach it.
    ///
    /// # Errors
    ///
    /// [`SignatureError::Chain`].
    pub fn vouch_for(
        &self,
        leaf: &[u8],
        chain: Vec<Vec<u8>>,
        now: SystemTime,
    ) -> Result<(), SignatureError> {
        let untrusted = |error: webpki::Error| {
            SignatureError::Chain(format!("verifying leaf certificate failed: {error}"))
        };
        let purposes: Option<(bool, ExtendedKeyUsage)> =
            read(leaf)?.tbs_certificate.get().map_err(malformed)?;
        if !purposes.is_some_and(|(_, of)| of.0.iter().any(|of| of.as_bytes() == CODE_SIGNING)) {
            let fault = "verifying leaf certificate failed: it is not for signing code";
            return Err(SignatureError::Chain(fault.to_owned()));
        }
        let leaf = CertificateDer::from(leaf);
        let end = EndEntityCert::try_from(&leaf).map_err(untrusted)?;
        let mut helpers = self.intermediates.clone();
        helpers.extend(chain.into_iter().map(CertificateDer::from));
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        // An authority that names no purpose is one for all; the leaf was asked already.
        let purpose = KeyUsage::required_if_present(&CODE_SIGNING);
        let time = UnixTime::since_unix_epoch(since);
        end.verify_for_usage(
            WEBPKI_VERIFICATION_ALGS,
            &self.roots,
            &helpers,
            time,
            purpose,
            None,
            None,
        )
        .map(drop)
        .map_err(untrusted)
    }
}

fn anchor(der: Vec<u8>) -> Result<TrustAnchor<'static>, SignatureError> {
    let der = CertificateDer::from(der);
    webpki::anchor_from_trusted_cert(&der).map(|anchor| anchor.to_owned()).map_err(malformed)
}

/// When a certificate begins to hold, by its own word.
pub(super) fn begins(der: &[u8]) -> Result<SystemTime, SignatureError> {
    Ok(read(der)?.tbs_certificate.validity.not_before.to_system_time())
}

/// Whether a certificate is one for the host `name`.
#[must_use]
pub fn is_for_host(der: &[u8], name: &str) -> bool {
    let der = CertificateDer::from(der);
    let name = ServerName::try_from(name);
    EndEntityCert::try_from(&der)
        .ok()
        .zip(name.ok())
        .is_some_and(|(end, name)| end.verify_is_valid_for_subject_name(&name).is_ok())
}

fn read(der: &[u8]) -> Result<Parsed, SignatureError> {
    Parsed::from_der(der).map_err(malformed)
}

fn malformed(why: impl std::fmt::Display) -> SignatureError {
    SignatureError::CertificateMalformed(why.to_string().chars().take(300).collect())
}

#[cfg(test)]
mod tests {
    use x509_cert::der::asn1::OctetString;
    use x509_cert::ext::Extension;

    use super::*;
    use crate::signature::fulcio::Fulcio;
    use crate::signature::fulcio::Order;

    /// Each is compared with all before it, and nobody has vouched for the certificate yet.
    #[test]
    fn a_certificate_that_is_made_of_extensions_is_refused() {
        let leaf = Fulcio::make().issue(&Order::email("dev@shop.example"));
        let with = |count: usize| {
            let mut parsed = Parsed::from_der(&leaf.der).unwrap();
            let own = parsed.tbs_certificate.extensions.as_mut().unwrap();
            for number in own.len()..count {
                own.push(Extension {
                    extn_id: ObjectIdentifier::new(&format!("1.3.9999.{number}")).unwrap(),
                    critical: false,
                    extn_value: OctetString::new([]).unwrap(),
                });
            }
            parsed.to_der().unwrap()
        };
        let most = Certificate::parse(&with(MOST_EXTENSIONS)).unwrap();
        assert_eq!(most.emails, ["dev@shop.example"]);
        let error = Certificate::parse(&with(MOST_EXTENSIONS + 1)).unwrap_err().to_string();
        assert!(error.contains("more than 256 extensions"), "{error}");
    }
}
