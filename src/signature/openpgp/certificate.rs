//! An OpenPGP certificate: a primary key, what it says of itself, and its subkeys.
//!
//! Only what the primary key signed counts, and of two statements the newer. A revocation is
//! different: it is believed whenever its mathematics hold, whatever hash it uses, whenever it was
//! made, and whatever reason it gives. Who took a key back does not want it to be used.

use std::cmp::Reverse;

use pgp::packet::PublicKey;
use pgp::packet::PublicSubkey;
use pgp::packet::Signature;
use pgp::packet::SignatureType;
use pgp::packet::SignatureVersion;
use pgp::packet::SubpacketData;
use pgp::packet::UserId;
use pgp::types::Fingerprint;
use pgp::types::KeyDetails;
use pgp::types::Tag;

use crate::signature::openpgp::rules;
use crate::signature::openpgp::rules::Unfit;

/// The versions of signatures that hold a certificate together.
const VERSIONS: [SignatureVersion; 2] = [SignatureVersion::V4, SignatureVersion::V6];

/// Seconds since 1970.
pub(super) type Time = u64;

/// Why a key may not vouch, as the end of a sentence that begins with "the key …".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    /// It was taken back.
    #[error("is revoked")]
    Revoked,
    /// Its primary key was taken back.
    #[error("is a subkey of {0}, which is revoked")]
    PrimaryRevoked(String),
    /// Its time is over.
    #[error("has expired at {0}")]
    Expired(String),
    /// Its time has not come.
    #[error("is not valid before {0}")]
    Future(String),
    /// It is newer than what it should have signed.
    #[error("is newer than the signature")]
    Newer,
    /// Its mathematics are too weak, or not known.
    #[error("cannot be used: {0}")]
    Weak(String),
    /// Nothing that it says of itself holds.
    #[error("has no self-signature that holds")]
    Unsigned,
    /// What it says of itself is not fit.
    #[error("has no self-signature that is fit: the newest {0}")]
    Unfit(Unfit),
    /// It is for other uses.
    #[error("is not for signing")]
    OtherUse,
    /// The subkey never said that it belongs to the primary key, so anyone may have claimed it.
    #[error("is a subkey that has not signed its primary key back")]
    NoBackSignature,
}

/// What a key says of itself or of its subkey, proven.
#[derive(Debug, Clone)]
struct Statement {
    created: Time,
    /// When the statement ends.
    until: Time,
    /// When the key ends.
    key_until: Time,
    /// Whether the key may sign, if that is said.
    signs: Option<bool>,
    /// Whether the subkey says the same of its primary key.
    back_signed: bool,
}

/// A primary key or a subkey, with what is said of it.
#[derive(Debug, Clone)]
pub(super) struct Component<K> {
    pub(super) key: K,
    statements: Vec<Statement>,
    /// Why the newest of the other self-signatures does not count.
    unfit: Option<(Time, Unfit)>,
    revoked: bool,
}

/// A certificate, with its mathematics done.
#[derive(Debug, Clone)]
pub(super) struct Certificate {
    pub(super) primary: Component<PublicKey>,
    pub(super) subkeys: Vec<Component<PublicSubkey>>,
    /// Keys that may revoke this one.
    revokers: Vec<Vec<u8>>,
}

impl<K: KeyDetails> Component<K> {
    pub(super) fn new(key: K) -> Self {
        Self { key, statements: Vec::new(), unfit: None, revoked: false }
    }

    /// The fingerprint, as tools show it.
    pub(super) fn fingerprint(&self) -> String {
        self.key.fingerprint().to_string().to_ascii_uppercase()
    }

    fn created(&self) -> Time {
        self.key.created_at().as_secs().into()
    }

    /// Takes note of a signature that is proven, if it is fit.
    fn note(&mut self, signature: &Signature, back_signed: bool) {
        let created = created(signature);
        match rules::check(signature, &VERSIONS) {
            Ok(()) => {
                let until = signature.signature_expiration_time().map(|time| time.as_secs());
                let key_until = signature.key_expiration_time().map(|time| time.as_secs());
                self.statements.push(Statement {
                    created,
                    until: end(created, until),
                    key_until: end(self.created(), key_until),
                    signs: signs(signature),
                    back_signed,
                });
            }
            Err(unfit) => {
                if self.unfit.as_ref().is_none_or(|(newest, _)| created >= *newest) {
                    self.unfit = Some((created, unfit));
                }
            }
        }
    }

    /// The newest statement that holds now; of two that are as new, the one that ends the key
    /// sooner.
    fn statement(&self, now: Time) -> Result<&Statement, KeyFault> {
        let holds = |statement: &&Statement| statement.created <= now && now < statement.until;
        let newest = self.statements.iter().filter(holds);
        let newest =
            newest.max_by_key(|statement| (statement.created, Reverse(statement.key_until)));
        newest.ok_or_else(|| match &self.unfit {
            Some((_, unfit)) => KeyFault::Unfit(unfit.clone()),
            None => KeyFault::Unsigned,
        })
    }

    /// Whether the key is good now, and was at `signed`; gives what it says of itself.
    fn check(&self, signed: Time, now: Time) -> Result<&Statement, KeyFault> {
        if self.revoked {
            return Err(KeyFault::Revoked);
        }
        if let Some(weakness) = rules::weakness(&self.key) {
            return Err(KeyFault::Weak(weakness));
        }
        if self.created() > now {
            return Err(KeyFault::Future(shown(self.created())));
        }
        if self.created() > signed {
            return Err(KeyFault::Newer);
        }
        let statement = self.statement(now)?;
        if statement.key_until <= now.max(signed) {
            return Err(KeyFault::Expired(shown(statement.key_until)));
        }
        Ok(statement)
    }

    fn merge(&mut self, other: Self) {
        self.statements.extend(other.statements);
        self.revoked |= other.revoked;
        if self.unfit.is_none() {
            self.unfit = other.unfit;
        }
    }
}

impl Certificate {
    pub(super) fn new(key: PublicKey) -> Self {
        Self { primary: Component::new(key), subkeys: Vec::new(), revokers: Vec::new() }
    }

    /// Takes note of a signature that stands behind the primary key.
    pub(super) fn on_primary(&mut self, signature: &Signature) {
        if signature.typ() == Some(SignatureType::Key)
            && signature.verify_key(&self.primary.key).is_ok()
        {
            self.note_primary(signature);
        }
    }

    /// Takes note of the signatures that stand behind a user ID.
    ///
    /// A user ID that was taken back says nothing more; one that was signed again later does.
    pub(super) fn on_user_id(&mut self, id: &UserId, signatures: &[Signature]) {
        let key = &self.primary.key;
        let own: Vec<&Signature> = signatures
            .iter()
            .filter(|signature| signature.verify_certification(key, Tag::UserId, id).is_ok())
            .collect();
        let is_revocation =
            |signature: &&Signature| signature.typ() == Some(SignatureType::CertRevocation);
        let revoked = own.iter().copied().filter(is_revocation).map(created).max();
        for signature in own.iter().filter(|signature| !is_revocation(signature)) {
            if revoked.is_none_or(|revoked| created(signature) > revoked) {
                self.note_primary(signature);
            }
        }
    }

    fn note_primary(&mut self, signature: &Signature) {
        self.primary.note(signature, true);
        let parts = signature.config().into_iter().flat_map(|config| config.hashed_subpackets());
        self.revokers.extend(parts.filter_map(|part| match &part.data {
            SubpacketData::RevocationKey(revoker) => Some(revoker.fingerprint.to_vec()),
            _ => None,
        }));
    }

    /// Takes note of the signatures that stand behind a subkey.
    pub(super) fn on_subkey(&mut self, key: PublicSubkey, signatures: &[Signature]) {
        let primary = &self.primary.key;
        let mut subkey = Component::new(key);
        for signature in signatures {
            let revokes = signature.typ() == Some(SignatureType::SubkeyRevocation);
            if revokes && self.is_by_revoker(signature) {
                subkey.revoked = true;
            } else if signature.verify_subkey_binding(primary, &subkey.key).is_err() {
                continue;
            } else if revokes {
                subkey.revoked = true;
            } else {
                let back_signed = is_back_signed(signature, primary, &subkey.key);
                subkey.note(signature, back_signed);
            }
        }
        self.add_subkey(subkey);
    }

    /// Takes note of a revocation, wherever it stands in the key file.
    pub(super) fn on_revocation(&mut self, revocation: &Signature) {
        if revocation.verify_key(&self.primary.key).is_ok() || self.is_by_revoker(revocation) {
            self.primary.revoked = true;
        }
    }

    /// Whether a revocation says it is by a key that this certificate names as its revoker.
    ///
    /// That is believed without its mathematics: the revoker's key need not be here, and it was
    /// an administrator who put the revocation here.
    fn is_by_revoker(&self, revocation: &Signature) -> bool {
        let named =
            |issuer: &&Fingerprint| self.revokers.iter().any(|known| known == issuer.as_bytes());
        revocation.issuer_fingerprint().iter().any(named)
    }

    /// Adds what another copy of the same certificate says.
    pub(super) fn merge(&mut self, other: Self) {
        self.primary.merge(other.primary);
        self.revokers.extend(other.revokers);
        for subkey in other.subkeys {
            self.add_subkey(subkey);
        }
    }

    fn add_subkey(&mut self, subkey: Component<PublicSubkey>) {
        let fingerprint = subkey.key.fingerprint();
        let mut known = self.subkeys.iter_mut();
        match known.find(|known| known.key.fingerprint() == fingerprint) {
            Some(known) => known.merge(subkey),
            None => self.subkeys.push(subkey),
        }
    }

    /// Whether the primary key could sign at `signed` and still may.
    pub(super) fn primary_signs(&self, signed: Time, now: Time) -> Result<(), KeyFault> {
        // Where no use is said, the oldest rule holds: a key is for what its algorithm can.
        match self.primary.check(signed, now)?.signs {
            Some(false) => Err(KeyFault::OtherUse),
            Some(true) | None => Ok(()),
        }
    }

    /// Whether this subkey could sign at `signed` and still may.
    pub(super) fn subkey_signs(
        &self,
        subkey: &Component<PublicSubkey>,
        signed: Time,
        now: Time,
    ) -> Result<(), KeyFault> {
        match self.primary.check(signed, now) {
            Ok(_) => {}
            Err(KeyFault::Revoked) => {
                return Err(KeyFault::PrimaryRevoked(self.primary.fingerprint()));
            }
            Err(other) => return Err(other),
        }
        let statement = subkey.check(signed, now)?;
        if statement.signs != Some(true) {
            return Err(KeyFault::OtherUse);
        }
        if !statement.back_signed {
            return Err(KeyFault::NoBackSignature);
        }
        Ok(())
    }
}

/// Whether the subkey, too, says that it belongs to the primary key. Else anyone could put
/// another's subkey under a key of his own and pass for the maker of its signatures.
fn is_back_signed(binding: &Signature, primary: &PublicKey, subkey: &PublicSubkey) -> bool {
    binding.embedded_signature().is_some_and(|back| {
        rules::check(back, &VERSIONS).is_ok()
            && back.verify_primary_key_binding(subkey, primary).is_ok()
    })
}

/// When a signature says it was made; the beginning of time for one that does not.
pub(super) fn created(signature: &Signature) -> Time {
    signature.created().map_or(0, |time| time.as_secs().into())
}

/// The end of what begins at `from`; zero seconds mean that there is none.
pub(super) fn end(from: Time, seconds: Option<u32>) -> Time {
    match seconds {
        None | Some(0) => Time::MAX,
        Some(seconds) => from + Time::from(seconds),
    }
}

fn signs(signature: &Signature) -> Option<bool> {
    let mut parts = signature.config()?.hashed_subpackets();
    parts.find_map(|part| match &part.data {
        SubpacketData::KeyFlags(flags) => Some(flags.sign()),
        _ => None,
    })
}

/// A time in a sentence.
pub(super) fn shown(time: Time) -> String {
    let format =
        time::macros::format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");
    let seconds = i64::try_from(time).unwrap_or(i64::MAX);
    let shown = time::OffsetDateTime::from_unix_timestamp(seconds).ok();
    let shown = shown.and_then(|time| time.format(format).ok());
    shown.unwrap_or_else(|| format!("{time} seconds after 1970"))
}
