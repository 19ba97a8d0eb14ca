//! `signedBy`, with keys and signatures that GnuPG made.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::oci::digest::Digest;
use crate::oci::reference::Reference;
use crate::policy::Cause;
use crate::policy::Evidence;
use crate::policy::Policy;
use crate::policy::PolicyError;
use crate::policy::Subject;
use crate::policy::Verdict;
use crate::policy::evaluate;
use crate::policy::tests::DIGEST;
use crate::policy::tests::IMAGE;
use crate::policy::tests::OTHER;
use crate::signature::gpg;
use crate::signature::gpg::Gpg;

/// A node with two keys in files, and their owner.
struct Node {
    gpg: Gpg,
    shop: String,
    other: String,
    files: BTreeMap<PathBuf, Vec<u8>>,
}

impl Node {
    fn new() -> Self {
        let gpg = Gpg::new();
        let [shop, other] = ["shop", "other"].map(|user| gpg.key(user, "ed25519"));
        let files = BTreeMap::from([
            (PathBuf::from("/keys/shop.gpg"), gpg.export(&shop)),
            (PathBuf::from("/keys/other.asc"), gpg.export_armored(&other)),
            (PathBuf::from("/keys/rubbish"), b"rubbish".to_vec()),
        ]);
        Self { gpg, shop, other, files }
    }

    fn parse(&self, requirements: &str) -> Result<Policy, PolicyError> {
        let text = format!(
            "{{\"default\":[{{\"type\":\"reject\"}}],\n\"transports\":{{\"docker\":{{\n\
             \"registry.example\":[\n{requirements}]}}}}}}"
        );
        let read = |path: &Path| {
            let missing = io::Error::from_raw_os_error(2);
            self.files.get(path).cloned().ok_or(missing)
        };
        Policy::parse(Path::new("/etc/policy.json"), text.as_bytes(), &read)
    }

    /// Judges `IMAGE` by these requirements.
    fn judge(&self, requirements: &str, evidence: &Evidence) -> Result<String, String> {
        let verdict = self.verdict(requirements, evidence);
        let verdict = verdict.allowed().map_err(|refusal| refusal.to_string())?;
        let by: Vec<String> = verdict.requirements.iter().map(ToString::to_string).collect();
        Ok(by.join("; "))
    }

    fn verdict(&self, requirements: &str, evidence: &Evidence) -> Verdict {
        let policy = self.parse(requirements).unwrap_or_else(|error| panic!("{error}"));
        let reference: Reference = IMAGE.parse().unwrap();
        let manifest_digest: Digest = DIGEST.parse().unwrap();
        let subject = Subject { reference: &reference, manifest_digest: &manifest_digest };
        evaluate(&policy, &subject, evidence, SystemTime::now())
    }

    fn signed(&self, key: &str, name: &str, digest: &str) -> Vec<u8> {
        self.gpg.sign(key, &gpg::payload(name, digest))
    }

    fn good(&self) -> Evidence {
        found(vec![self.signed(&self.shop, IMAGE, DIGEST)])
    }

    #[track_caller]
    fn refused(&self, requirements: &str, evidence: &Evidence, words: &str) {
        let refusal = self.judge(requirements, evidence).unwrap_err();
        assert!(refusal.contains(words), "{words:?} is not in: {refusal}");
    }
}

fn found(openpgp: Vec<Vec<u8>>) -> Evidence {
    Evidence { openpgp, ..Evidence::default() }
}

/// A `signedBy` with these keys, and more.
fn by(keys: &str) -> String {
    format!(r#"{{"type":"signedBy","keyType":"GPGKeys",{keys}}}"#)
}

const SHOP: &str = r#""keyPath":"/keys/shop.gpg""#;

fn identity(of: &str) -> String {
    by(&format!(r#"{SHOP},"signedIdentity":{of}"#))
}

#[test]
fn a_signed_image_is_allowed_and_the_verdict_names_the_key() {
    let node = Node::new();
    let by_whom = node.judge(&by(SHOP), &node.good()).unwrap();
    let expected =
        format!("signedBy: OpenPGP signature by the key {} in /keys/shop.gpg", node.shop);
    assert_eq!(by_whom, expected);
}

#[test]
fn an_unsigned_image_is_not_accepted() {
    let node = Node::new();
    let words = "signedBy: A signature was required, but no signature exists";
    node.refused(&by(SHOP), &Evidence::default(), words);
}

#[test]
fn signature_for_another_digest_is_not_accepted() {
    let node = Node::new();
    let evidence = found(vec![node.signed(&node.shop, IMAGE, OTHER)]);
    node.refused(&by(SHOP), &evidence, &format!("Signature for digest {OTHER} does not match"));
}

#[test]
fn signature_for_another_repository_is_not_accepted() {
    let node = Node::new();
    let name = "registry.example/evil/api:1.4";
    let evidence = found(vec![node.signed(&node.shop, name, DIGEST)]);
    let words = format!("Signature for identity {name:?} is not accepted");
    node.refused(&by(SHOP), &evidence, &words);
}

#[test]
fn signature_for_another_tag_is_not_accepted() {
    let node = Node::new();
    let evidence = found(vec![node.signed(&node.shop, "registry.example/shop/api:1.3", DIGEST)]);
    node.refused(&by(SHOP), &evidence, "Signature for identity");
    node.judge(&identity(r#"{"type":"matchRepository"}"#), &evidence).unwrap();
}

#[test]
fn signature_by_another_key_is_not_accepted() {
    let node = Node::new();
    let evidence = found(vec![node.signed(&node.other, IMAGE, DIGEST)]);
    node.refused(&by(SHOP), &evidence, &format!("by the OpenPGP key {}", node.other));
}

#[test]
fn a_cosign_signature_is_no_openpgp_signature() {
    let node = Node::new();
    let mut evidence = Evidence::default();
    evidence.bundles.push(b"{}".to_vec());
    node.refused(&by(SHOP), &evidence, "no signature exists");
}

#[test]
fn one_good_signature_among_bad_ones_is_enough() {
    let node = Node::new();
    let bad = [
        b"rubbish".to_vec(),
        node.signed(&node.other, IMAGE, DIGEST),
        node.signed(&node.shop, IMAGE, OTHER),
    ];
    node.refused(&by(SHOP), &found(bad.to_vec()), "3 signatures found: 1 is malformed");
    let all = [&bad[..], &node.good().openpgp].concat();
    node.judge(&by(SHOP), &found(all)).unwrap();
}

#[test]
fn every_requirement_must_hold() {
    let node = Node::new();
    let both = format!("{}, {}", by(SHOP), by(r#""keyPath":"/keys/other.asc""#));
    node.refused(&both, &node.good(), "which is by the OpenPGP key");
    let mut evidence = node.good();
    evidence.openpgp.push(node.signed(&node.other, IMAGE, DIGEST));
    node.judge(&both, &evidence).unwrap();
    let rejected = format!("{both}, {{\"type\":\"reject\"}}");
    node.refused(&rejected, &evidence, "reject: ");
    let layer = format!(
        r#"{both}, {{"type":"signedBaseLayer","baseLayerIdentity":{{"type":"matchExact"}}}}"#
    );
    node.refused(&layer, &evidence, "signedBaseLayer not implemented yet!");
}

#[test]
fn keys_come_from_one_file_several_or_the_policy_itself() {
    let node = Node::new();
    let data = BASE64.encode(&node.files[Path::new("/keys/shop.gpg")]);
    for keys in [
        r#""keyPaths":["/keys/shop.gpg"]"#.to_owned(),
        r#""keyPaths":["/keys/other.asc","/keys/shop.gpg"]"#.to_owned(),
        format!(r#""keyData":"{data}""#),
    ] {
        node.judge(&by(&keys), &node.good()).unwrap();
    }
}

#[test]
fn keys_that_cannot_be_used_refuse_everything_and_are_a_fault() {
    let node = Node::new();
    for (keys, words) in [
        (r#""keyPath":"/keys/none""#, "the keys in /keys/none cannot be used: No such file"),
        (r#""keyPaths":["/keys/shop.gpg","/keys/rubbish"]"#, "/keys/rubbish cannot be used"),
        (r#""keyPaths":[]"#, "No public keys imported"),
        (r#""keyData":"""#, "the keys in keyData cannot be used"),
    ] {
        node.refused(&by(keys), &node.good(), words);
        let policy = node.parse(&by(keys)).unwrap();
        assert!(policy.faults()[0].contains(words), "{:?}", policy.faults());
    }
    for kind in ["signedByGPGKeys", "X509Certificates", "signedByX509CAs"] {
        let requirement = by(SHOP).replace("GPGKeys", kind);
        node.refused(
            &requirement,
            &node.good(),
            &format!("Unimplemented \"keyType\" value {kind:?}"),
        );
    }
}

#[test]
fn the_requirement_is_strict() {
    let node = Node::new();
    for requirement in [
        r#"{"type":"signedBy"}"#.to_owned(),
        by(SHOP).replace("GPGKeys", "GPG"),
        by(SHOP).replace(r#""keyType":"GPGKeys","#, ""),
        by(SHOP).replace(r#""keyType":"GPGKeys""#, r#""keyType":null"#),
        by(&format!("{SHOP},{SHOP}")),
        by(&format!(r#"{SHOP},"keyType":"GPGKeys""#)),
        by(&format!(r#"{SHOP},"keyPaths":["/keys/shop.gpg"]"#)),
        by(&format!(r#"{SHOP},"keyData":"AAAA""#)),
        by(r#""keyPath":"","keyData":"AAAA""#),
        by(r#""keyPath":"""#),
        by(r#""keyPath":null"#),
        by(r#""keyPaths":"/keys/shop.gpg""#),
        by(r#""keyPaths":[""]"#),
        by(r#""keyData":"%""#),
        by(r#""keyDatas":["AAAA"]"#),
        by(r#""rekorPublicKeyPath":"/k""#),
        by(&format!(r#"{SHOP},"more":1"#)),
        by(&format!(r#"{SHOP},"KeyType":"GPGKeys""#)),
        identity("null"),
        identity(r#"{"type":"matchExact","more":1}"#),
        identity(r#"{"type":"matchExact","type":"matchExact"}"#),
        r#"{"type":"signedBaseLayer"}"#.to_owned(),
        r#"{"type":"signedBaseLayer","baseLayerIdentity":null}"#.to_owned(),
        r#"{"type":"signedBaseLayer","baseLayerIdentity":{"type":"x"}}"#.to_owned(),
        r#"{"type":"signedBaseLayer","baseLayerIdentity":{"type":"matchExact"},"x":1}"#.to_owned(),
    ] {
        let error = node.parse(&requirement).map(|_| ()).expect_err(&requirement);
        let error = crate::failure::chain(&error);
        assert!(error.contains("line 4"), "{requirement}: {error}");
    }
}

#[test]
fn what_is_asked_for_is_looked_for_and_nothing_else() {
    let node = Node::new();
    let reference: Reference = IMAGE.parse().unwrap();
    let sigstore = r#"{"type":"sigstoreSigned","keyPath":"/keys/none"}"#;
    for (requirements, openpgp, attachments) in [
        (by(SHOP), true, false),
        (by(r#""keyPath":"/keys/none""#), false, false),
        (sigstore.to_owned(), false, true),
        (r#"{"type":"reject"}"#.to_owned(), false, false),
        (format!("{}, {sigstore}", by(SHOP)), true, true),
    ] {
        let policy = node.parse(&requirements).unwrap();
        assert_eq!(policy.needs(&reference).openpgp, openpgp, "{requirements}");
        assert_eq!(policy.needs(&reference).attached(), attachments, "{requirements}");
        assert_eq!(policy.needs_evidence(&reference), openpgp || attachments, "{requirements}");
    }
}

#[test]
fn a_verdict_on_keys_that_expire_is_found_anew_each_time() {
    let node = Node::new();
    let verdict = node.verdict(&by(SHOP), &node.good());
    assert!(verdict.allows() && !verdict.is_timeless());
    assert_eq!(verdict.cause(), Cause::Allowed);
    for (evidence, cause) in [
        (Evidence::default(), Cause::NoSignature),
        (found(vec![node.signed(&node.other, IMAGE, DIGEST)]), Cause::WrongSigner),
        (found(vec![node.signed(&node.shop, IMAGE, OTHER)]), Cause::OtherDigest),
        (found(vec![node.signed(&node.shop, "q.io/a:1", DIGEST)]), Cause::OtherName),
        (found(vec![b"rubbish".to_vec()]), Cause::Malformed),
    ] {
        assert_eq!(node.verdict(&by(SHOP), &evidence).cause(), cause);
    }
}

#[test]
fn what_is_kept_says_what_it_claims() {
    let node = Node::new();
    let claims = node.good().claims();
    assert_eq!(claims[0].kind, "OpenPGP signature");
    assert_eq!(claims[0].subject.as_deref(), Some(DIGEST));
    assert_eq!(claims[0].reference.as_deref(), Some(IMAGE));
    assert_eq!(claims[0].signer, Some(format!("the OpenPGP key {}", node.shop)));
    assert!(claims[0].time.is_some());
    assert!(found(vec![b"rubbish".to_vec()]).claims()[0].fault.is_some());
}

#[test]
fn signatures_are_kept_and_shared_as_they_came() {
    let node = Node::new();
    let mut evidence = node.good();
    evidence.add_stored(vec![]);
    let text = serde_json::to_string(&evidence).unwrap();
    assert_eq!(serde_json::from_str::<Evidence>(&text).unwrap(), evidence);
    let mut shared = Evidence::default();
    shared.add_stored(evidence.stored());
    shared.add_stored(evidence.stored());
    assert_eq!(shared, evidence);
}
