//! Evidence on an index by everyone whom a policy can ask for: someone who logged in, the owner of an
//! ordinary authority's certificate, the owner of an OpenPGP key. What counts, and what does not, is
//! the same for all of them.

use serde_json::Value;
use serde_json::json;

use super::*;
use crate::policy::Attachment;
use crate::policy::Attestation;
use crate::policy::Outcome;
use crate::signature::fulcio::Ca;
use crate::signature::fulcio::Fulcio;
use crate::signature::fulcio::Leaf;
use crate::signature::fulcio::Order;
use crate::signature::fulcio::Tsa;
use crate::signature::gpg;
use crate::signature::gpg::Gpg;

const DEV: &str = "dev@shop.example";
const THIEF: &str = "thief@evil.example";
const TESTS: &str = "https://shop.example/tests/v1";
const OTHER_NAME: &str = "registry.example/shop/web";

/// Everyone who signs here. Of each pair the second is not who the policy asks for.
struct Signers {
    fulcio: Fulcio,
    log: Log,
    tsa: Tsa,
    /// With certificates of Fulcio.
    people: [Leaf; 2],
    /// Ordinary, below Fulcio's root.
    authority: Ca,
    /// With certificates of that one, which hold now.
    owners: [Leaf; 2],
    gpg: Gpg,
    keys: [String; 2],
}

/// A way to sign: what the policy demands, and what is made of a digest under a name by the true
/// signer or, of the pair, the other one.
struct Way {
    name: &'static str,
    requirement: Value,
    sign: fn(&Signers, by: usize, name: &str, digest: &str) -> Evidence,
    /// What is said of the other signer.
    by_other: &'static str,
    /// Whether it has the name in it.
    named: bool,
}

impl Signers {
    fn new() -> Self {
        let (fulcio, gpg) = (Fulcio::make(), Gpg::new());
        let authority = Ca::make("ordinary", Some(&fulcio.root));
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let people = [DEV, THIEF].map(|name| fulcio.issue(&Order::email(name)));
        let owners = [DEV, THIEF].map(|name| {
            let order = Order { from: now as i64 - 60, ..Order::email(name) };
            authority.issue(&order)
        });
        let keys = ["shop", "thief"].map(|user| gpg.key(user, "ed25519"));
        let (log, tsa) = (Log::default(), Tsa::make());
        Self { fulcio, log, tsa, people, authority, owners, gpg, keys }
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        match path.to_str() {
            Some("/root.json") => {
                let root = self.fulcio.trusted_root(&[&self.log], Some(&self.tsa));
                Ok(root.to_string().into_bytes())
            }
            Some("/root.pem") => Ok(self.fulcio.root.pem().into_bytes()),
            Some("/ordinary.pem") => Ok(self.authority.pem().into_bytes()),
            Some("/shop.gpg") => Ok(self.gpg.export(&self.keys[0])),
            _ => Err(io::Error::from_raw_os_error(2)),
        }
    }

    /// What the requirement says of the image with the manifest `DIGEST`.
    fn judge(&self, way: &Way, evidence: &Evidence) -> Result<String, String> {
        let text = json!({ "default": [way.requirement] }).to_string();
        let policy =
            Policy::parse(Path::new("/p"), text.as_bytes(), &|path| self.read(path)).unwrap();
        let reference = Reference::parse_normalized(IMAGE).unwrap();
        let digest: Digest = DIGEST.parse().unwrap();
        let subject = Subject { reference: &reference, manifest_digest: &digest };
        let mut verdict = evaluate(&policy, &subject, evidence, SystemTime::now());
        match verdict.requirements.remove(0).outcome {
            Outcome::Accepted(proof) => Ok(proof.to_string()),
            Outcome::Rejected(reason) => Err(reason.words),
        }
    }
}

fn requirement(kind: &str, who: &str, by: Value, identity: &str) -> Value {
    let mut requirement = json!({ "type": kind, who: by });
    if !identity.is_empty() {
        requirement["signedIdentity"] = json!({ "type": identity });
    }
    requirement
}

/// `fulcio`, by a trusted root.
fn by_dev(kind: &str, identity: &str) -> Value {
    let fulcio = json!({
        "trustedRootPath": "/root.json", "oidcIssuer": "https://login.example", "subjectEmail": DEV,
    });
    requirement(kind, "fulcio", fulcio, identity)
}

fn by_owner(identity: &str) -> Value {
    let pki = json!({
        "caRootsPath": "/root.pem", "caIntermediatesPath": "/ordinary.pem", "subjectEmail": DEV,
    });
    requirement("sigstoreSigned", "pki", pki, identity)
}

fn attested() -> Value {
    let mut requirement = by_dev("sigstoreAttested", "");
    requirement["predicateType"] = json!(TESTS);
    requirement["conditions"] = json!({ "json": [{ "pointer": "/passed", "equals": 214 }] });
    requirement
}

fn by_openpgp() -> Value {
    let mut requirement = requirement("signedBy", "keyPath", json!("/shop.gpg"), "matchRepository");
    requirement["keyType"] = json!("GPGKeys");
    requirement
}

fn bundle(bundle: &Value) -> Evidence {
    let mut evidence = Evidence::default();
    evidence.sort_in(bundle.to_string().into_bytes());
    evidence
}

fn sign(digest: &str) -> Vec<u8> {
    signers::statement(signers::SIGN, digest)
}

fn passed(digest: &str) -> Vec<u8> {
    signers::attestation(TESTS, &json!({ "passed": 214 }), digest)
}

/// Every way.
fn ways() -> Vec<Way> {
    let someone_else = "is by someone else: Required email";
    let way = |name, requirement, named, sign| Way {
        name,
        requirement,
        sign,
        by_other: someone_else,
        named,
    };
    let signed = "sigstoreSigned";
    vec![
        way("fulcio, cosign 2", by_dev(signed, "matchRepository"), true, |it, by, name, digest| {
            let payload = signers::payload(name, digest);
            let chain = [&it.fulcio.intermediate, &it.fulcio.root];
            let annotations = it.people[by].annotations(&payload, &chain, &it.log, Log::TIME);
            found(payload, annotations)
        }),
        way("fulcio, Rekor 1", by_dev(signed, "matchSubjectDigest"), false, |it, by, _, digest| {
            bundle(&it.people[by].logged_bundle(&sign(digest), &it.log, Log::TIME))
        }),
        way("fulcio, Rekor 2", by_dev(signed, "matchSubjectDigest"), false, |it, by, _, digest| {
            bundle(&it.people[by].stamped_bundle(&sign(digest), &it.log, &it.tsa, Log::TIME))
        }),
        way("fulcio, attested", attested(), false, |it, by, _, digest| {
            bundle(&it.people[by].stamped_bundle(&passed(digest), &it.log, &it.tsa, Log::TIME))
        }),
        way("fulcio, attested by cosign 2", attested(), false, |it, by, _, digest| {
            let chain = [&it.fulcio.intermediate, &it.fulcio.root];
            let (envelope, annotations) =
                it.people[by].attached(&passed(digest), &chain, &it.log, Log::TIME);
            let attached = Attestation::Attached(Attachment { envelope, annotations });
            Evidence { attestations: vec![attached], ..Evidence::default() }
        }),
        way("pki, cosign 2", by_owner("matchRepository"), true, |it, by, name, digest| {
            let payload = signers::payload(name, digest);
            let mut annotations = it.owners[by].annotations(&payload, &[], &it.log, Log::TIME);
            annotations.remove("dev.sigstore.cosign/bundle");
            found(payload, annotations)
        }),
        way("pki, bundle", by_owner("matchSubjectDigest"), false, |it, by, _, digest| {
            bundle(&it.owners[by].bundle(&sign(digest)))
        }),
        Way {
            name: "OpenPGP",
            requirement: by_openpgp(),
            sign: |it, by, name, digest| {
                let message = it.gpg.sign(&it.keys[by], &gpg::payload(name, digest));
                Evidence { openpgp: vec![message], ..Evidence::default() }
            },
            by_other: "by the OpenPGP key",
            named: true,
        },
    ]
}

#[test]
fn by_whomever_it_is_it_counts_for_the_manifest_that_the_index_lists() {
    let it = Signers::new();
    let listing = index(&[entry(OTHER), entry(DIGEST)]);
    let own = digest_of(&listing);
    for way in ways() {
        let signed = (way.sign)(&it, 0, NAME, &own);
        let found = with(signed.clone(), std::slice::from_ref(&listing));
        let told = it.judge(&way, &found).unwrap_or_else(|reason| panic!("{}: {reason}", way.name));
        assert!(told.contains(&format!("of the index {own} by")), "{}: {told}", way.name);
        // As it is kept for a create; and no other tool is given what it would not understand.
        let kept = serde_json::to_string(&found).unwrap();
        let kept: Evidence = serde_json::from_str(&kept).unwrap();
        assert_eq!(it.judge(&way, &kept), Ok(told), "{}", way.name);
        assert_eq!(kept.stored(), [], "{}", way.name);
        // Of the manifest's own the same signer's word counts as ever.
        it.judge(&way, &(way.sign)(&it, 0, NAME, DIGEST)).unwrap();
    }
}

#[test]
fn by_whomever_it_is_it_does_not_count_without_the_very_index_that_lists_the_manifest() {
    let it = Signers::new();
    let listing = index(&[entry(DIGEST), entry(OTHER)]);
    let (own, of_others) = (digest_of(&listing), index(&[entry(OTHER)]));
    let nested = index(&[entry(&own)]);
    let mut attestation = entry(DIGEST);
    attestation["annotations"] = json!({ "vnd.docker.reference.type": "attestation-manifest" });
    let beside = index(&[attestation]);
    // What is signed, and which indexes are at hand.
    let cases: [(&str, &str, &[&Vec<u8>]); 6] = [
        ("not at hand", &own, &[]),
        ("another in its place", &own, &[&of_others]),
        ("evidence of another index", &digest_of(&of_others), &[&of_others, &listing]),
        ("an index in the signed one", &digest_of(&nested), &[&nested, &listing]),
        ("listed as an attestation", &digest_of(&beside), &[&beside, &listing]),
        ("evidence of another manifest of the index", OTHER, &[&listing]),
    ];
    for way in ways() {
        for (case, signed, indexes) in cases {
            let indexes: Vec<Vec<u8>> = indexes.iter().map(|one| one.to_vec()).collect();
            let found = with((way.sign)(&it, 0, NAME, signed), &indexes);
            let reason = it.judge(&way, &found).expect_err(case);
            let words = format!("Signature for digest {signed} does not match");
            assert!(reason.contains(&words), "{}, {case}: {reason}", way.name);
        }
    }
}

#[test]
fn by_somebody_else_or_under_another_name_it_does_not_count() {
    let it = Signers::new();
    let listing = index(&[entry(DIGEST)]);
    let own = digest_of(&listing);
    for way in ways() {
        let by = |signer, name| {
            let found = (way.sign)(&it, signer, name, &own);
            it.judge(&way, &with(found, std::slice::from_ref(&listing)))
        };
        let reason = by(1, NAME).expect_err(way.name);
        assert!(reason.contains(way.by_other), "{}: {reason}", way.name);
        if way.named {
            let reason = by(0, OTHER_NAME).expect_err(way.name);
            let words = format!("identity {OTHER_NAME:?} is not accepted by matchRepository");
            assert!(reason.contains(&words), "{}: {reason}", way.name);
        }
    }
}
