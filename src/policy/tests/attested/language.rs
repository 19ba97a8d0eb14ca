//! What a requirement can say, what it needs, and what is kept.

use super::*;

#[test]
fn evidence_with_attestations_is_kept_and_bounded() {
    let node = Node::new();
    let mut found = evidence(vec![says(&node.shop, V1, &provenance())]);
    let envelope = signers::envelope(&node.shop, &signers::attestation(OWN, &json!({}), DIGEST));
    found.attestations.extend(attached(envelope, &[("predicateType", OWN)]).attestations);
    let text = serde_json::to_string(&found).unwrap();
    assert_eq!(serde_json::from_str::<Evidence>(&text).unwrap(), found);
    let large = Attestation::Bundle(vec![b' '; Evidence::ATTESTATION_BYTES]);
    let before = found.clone();
    found.merge(&Evidence { attestations: vec![large], ..Evidence::default() });
    assert_eq!(found, before);
    let mut other = Evidence::default();
    other.merge(&found);
    other.merge(&found);
    assert_eq!(other, found);
}

#[test]
fn only_what_a_scope_asks_for_is_needed() {
    let node = Node::new();
    let needs = |requirement: &str, image: &str| {
        let policy = node.policy(&format!(
            r#"{{"default":[{{"type":"reject"}}],
                 "transports":{{"docker":{{"registry.example/shop":[{requirement}]}}}}}}"#
        ));
        policy.needs(&Reference::parse_normalized(image).unwrap())
    };
    let both = needs(&format!("{},{}", slsa(), attested(OWN, &Value::Null)), IMAGE);
    assert_eq!(both.attestations.iter().map(String::as_str).collect::<Vec<_>>(), [OWN, V1]);
    assert!(!both.signatures && both.may_need(None) && both.may_need(Some(V1)));
    assert!(!both.may_need(Some(V0_2)) && !both.may_need(Some(statement::SIGN)));
    assert!(needs(&slsa(), "registry.example/other:1").is_empty());
    let signed = needs(&by_shop(""), IMAGE);
    assert!(signed.signatures && signed.attestations.is_empty());
    assert!(signed.may_need(Some(statement::SIGN)) && !signed.may_need(Some(V1)));
}

#[test]
fn a_requirement_that_cannot_mean_one_thing_is_a_fault_of_the_policy() {
    let node = Node::new();
    let fault = |requirement: &str| {
        let text = format!(r#"{{"default":[{requirement}]}}"#);
        node.parse(&text).expect_err(requirement).to_string()
    };
    let with = |member: &str, value: Value| {
        let mut requirement: Value = serde_json::from_str(&slsa()).unwrap();
        requirement[member] = value;
        fault(&requirement.to_string())
    };
    for (member, value, words) in [
        ("predicateType", json!("slsaprovenance1"), "the whole URI"),
        ("predicateType", json!(""), "the whole URI"),
        ("predicateType", json!([V1]), "expected a string"),
        ("predicateType", json!(statement::SIGN), "for which there is sigstoreSigned"),
        ("predicateType", json!(VEX), "slsa is for the predicate types"),
        ("conditions", json!({}), "at least one of slsa, vex, sbom and json"),
        ("conditions", json!({ "more": 1 }), "unknown field `more`"),
        ("conditions", json!({ "json": [] }), "at least one pointer"),
        ("conditions", json!({ "json": [{ "pointer": "a", "equals": 1 }] }), "RFC 6901"),
        ("signedIdentity", json!({ "type": "matchExact" }), "unknown field `signedIdentity`"),
        ("keyPaths", json!(["/a"]), "exactly one of"),
    ] {
        let fault = with(member, value);
        assert!(fault.contains(words), "{fault}");
    }
    let missing = fault(r#"{"type":"sigstoreAttested","keyPath":"/keys/shop.pub"}"#);
    assert!(missing.contains("the whole URI"), "{missing}");
    let unusable = attested(V1, &Value::Null).replace("shop.pub", "empty.pub");
    let reason = node.judge(&unusable, &Evidence::default()).unwrap_err();
    assert!(reason.contains("the key in /keys/empty.pub cannot be used"), "{reason}");
}
