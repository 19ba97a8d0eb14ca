//! The one word of a verdict, for counters and records.

use super::*;
use crate::policy::Cause;

#[track_caller]
fn check(node: &Node, requirements: &str, evidence: &Evidence, expected: Cause) {
    let reference = Reference::parse_normalized(IMAGE).unwrap();
    let digest: Digest = DIGEST.parse().unwrap();
    let subject = Subject { reference: &reference, manifest_digest: &digest };
    let policy = node.policy(&format!(r#"{{"default":[{requirements}]}}"#));
    let verdict = evaluate(&policy, &subject, evidence, SystemTime::now());
    assert_eq!(verdict.cause(), expected, "{verdict}");
}

fn all(several: &[Evidence]) -> Evidence {
    let mut evidence = Evidence::default();
    several.iter().for_each(|one| evidence.merge(one));
    evidence
}

#[test]
fn what_is_found_says_the_word() {
    let node = Node::new();
    let none = Evidence::default();
    let good = node.signed(&node.shop, IMAGE, DIGEST);
    let foreign = node.signed(&node.other, IMAGE, DIGEST);
    let elsewhere = node.signed(&node.shop, "q.io/a:1", DIGEST);
    let older = node.signed(&node.shop, IMAGE, OTHER);
    let rubbish = bundled(b"rubbish".to_vec());
    let statement = signers::statement(signers::SIGN, DIGEST);
    let bundle = bundled(signers::bundle(&node.shop, &statement));
    let by = by_shop("");
    let logged = by_shop(r#","rekorPublicKeyPath":"/keys/other.pub""#);
    let missing = r#"{"type":"sigstoreSigned","keyPath":"/keys/none.pub"}"#;
    let attested =
        r#"{"type":"sigstoreAttested","keyPath":"/keys/shop.pub","predicateType":"https://a/b"}"#;
    let base = r#"{"type":"signedBaseLayer","baseLayerIdentity":{"type":"matchExact"}}"#;
    for (requirement, evidence, expected) in [
        (by.as_str(), &good, Cause::Allowed),
        (r#"{"type":"insecureAcceptAnything"}"#, &none, Cause::Unchecked),
        (r#"{"type":"reject"}"#, &good, Cause::Rejected),
        (missing, &good, Cause::KeyUnusable),
        (base, &good, Cause::NotSupported),
        (&by, &none, Cause::NoSignature),
        (attested, &good, Cause::NoAttestation),
        (&by, &foreign, Cause::WrongSigner),
        (&by, &elsewhere, Cause::OtherName),
        (&by, &bundle, Cause::OtherName),
        (&by, &older, Cause::OtherDigest),
        (&logged, &node.logged(), Cause::NotLogged),
        (&by, &rubbish, Cause::Malformed),
    ] {
        check(&node, requirement, evidence, expected);
    }
}

#[test]
fn of_several_faults_the_one_that_says_the_most_is_counted() {
    let node = Node::new();
    let foreign = node.signed(&node.other, IMAGE, DIGEST);
    let elsewhere = node.signed(&node.shop, "q.io/a:1", DIGEST);
    let rubbish = bundled(b"rubbish".to_vec());
    let found = all(&[rubbish, foreign.clone(), elsewhere]);
    check(&node, &by_shop(""), &found, Cause::OtherName);
    // The first requirement that is not met is the cause.
    let both = format!(r#"{},{{"type":"reject"}}"#, by_shop(""));
    check(&node, &both, &foreign, Cause::WrongSigner);
}

#[test]
fn words_of_a_stranger_in_a_signature_do_not_choose_what_is_counted() {
    let node = Node::new();
    for words in ["cannot be used", "no signature exists", "transparency log", "is VEX"] {
        let payload = String::from_utf8(signers::payload(IMAGE, DIGEST)).unwrap();
        let payload = payload.replace("cosign container image signature", words).into_bytes();
        let annotations = signers::annotations(&node.shop, &payload);
        let evidence = super::found(payload, annotations);
        check(&node, &by_shop(""), &evidence, Cause::Malformed);
    }
}
