//! Why an image is allowed or refused, in one word, for counters and records.
//!
//! It goes by the words of a refusal that `policy/README.md` promises: whoever reads the word and
//! whoever reads the sentence are told the same.

use crate::policy::Outcome;
use crate::policy::Verdict;
use crate::policy::proof::What;

/// What a reason has in it, and the word for that; the first that fits counts.
const WORDS: &[(&str, &str)] = &[
    ("cannot be used", "key_unusable"),
    ("not supported by this version", "not_supported"),
    ("not implemented yet", "not_supported"),
    ("Unimplemented ", "not_supported"),
    ("No public keys imported", "key_unusable"),
    ("no signature exists", "no_signature"),
    ("no attestation exists", "no_attestation"),
    ("is provenance", "other_provenance"),
    ("is VEX", "affected"),
    ("is for another repository", "other_name"),
    ("is for another tag", "other_name"),
    ("is for no tag", "other_name"),
    ("names no repository", "other_name"),
    ("is for another name", "other_name"),
    ("is for another digest", "other_digest"),
    ("transparency log", "not_logged"),
    (", none by ", "wrong_signer"),
    ("is not by ", "wrong_signer"),
    ("none of the policy's", "wrong_signer"),
    ("is by someone else", "wrong_signer"),
    ("and the policy asks for a ", "wrong_signer"),
    ("certificate that is not trusted", "signer_unfit"),
    ("no time that can be trusted", "signer_unfit"),
    ("does not count: ", "signer_unfit"),
    ("is made with ", "signer_unfit"),
    ("Invalid GPG signature", "malformed"),
    ("is not true", "malformed"),
    ("malformed", "malformed"),
    ("incomplete", "malformed"),
    ("is no image signature", "malformed"),
];

impl Verdict {
    /// Why, in one word.
    #[must_use]
    pub fn cause(&self) -> &'static str {
        let refused = self.requirements.iter().find_map(|judged| match &judged.outcome {
            Outcome::Accepted(_) => None,
            Outcome::Rejected(reason) => Some((judged.requirement, reason)),
        });
        match refused {
            Some(("reject", _)) => "rejected",
            Some((_, reason)) => {
                let fits = |(words, _): &&(&str, &str)| reason.contains(words);
                WORDS.iter().find(fits).map_or("unmet", |(_, word)| word)
            }
            None if self.proofs().all(|proof| proof.what == What::Nothing) => "unchecked",
            None => "allowed",
        }
    }
}
