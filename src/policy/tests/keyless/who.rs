//! Who may have signed: names, issuers and claims, and those who pose as somebody else.

use serde_json::Value;
use serde_json::json;

use crate::policy::tests::keyless::DEV;
use crate::policy::tests::keyless::ISSUER;
use crate::policy::tests::keyless::JOB;
use crate::policy::tests::keyless::Node;
use crate::policy::tests::keyless::by_dev;
use crate::policy::tests::keyless::by_root;
use crate::policy::tests::keyless::refused;
use crate::signature::fulcio::Order;

#[test]
fn another_issuer_is_not_accepted() {
    let node = Node::new();
    let mut order = Order::email(DEV);
    order.issuer = Some("https://login.example.evil.example".to_owned());
    let leaf = node.fulcio.issue(&order);
    let expected = "is by someone else: Unexpected Fulcio OIDC issuer \
                    \"https://login.example.evil.example\"";
    node.refuses(&by_dev(), &leaf, expected);
    order.issuer = None;
    let leaf = node.fulcio.issue(&order);
    node.refuses(&by_dev(), &leaf, "Fulcio certificate is missing the issuer extension");
}

#[test]
fn another_email_is_not_accepted() {
    let node = Node::new();
    for other in ["dev@shop.example.evil.example", "adev@shop.example", "DEV@shop.example", "dev@"]
    {
        let leaf = node.fulcio.issue(&Order::email(other));
        let expected = format!("Required email {DEV:?} not found (got [{other:?}])");
        node.refuses(&by_dev(), &leaf, &expected);
    }
}

#[test]
fn a_uri_or_a_host_posing_as_an_email_is_not_accepted() {
    let node = Node::new();
    for order in [Order::uri(DEV), Order::host(DEV)] {
        let leaf = node.fulcio.issue(&order);
        node.refuses(&by_dev(), &leaf, &format!("Required email {DEV:?} not found (got [])"));
    }
    let leaf = node.fulcio.issue(&Order::email(JOB));
    let by_job = by_root(json!({ "subjectURI": JOB }));
    node.refuses(&by_job, &leaf, &format!("Required URI {JOB:?} not found (got [])"));
}

#[test]
fn a_certificate_with_several_names_is_judged_by_all_of_a_kind() {
    let node = Node::new();
    let mut order = Order::email("other@shop.example");
    order.names.extend(Order::email(DEV).names);
    order.names.extend(Order::uri("https://x.example").names);
    let leaf = node.fulcio.issue(&order);
    node.judge(&by_dev(), &node.signed(&leaf)).unwrap();
    let by_x = by_root(json!({ "subjectEmail": "https://x.example" }));
    let expected = "not found (got [\"other@shop.example\" \"dev@shop.example\"])";
    node.refuses(&by_x, &leaf, expected);
}

#[test]
fn a_regular_expression_matches_the_whole_name() {
    let node = Node::new();
    let by = |pattern: &str| by_root(json!({ "subjectRegex": pattern }));
    let signed = node.signed(&node.fulcio.issue(&Order::uri(JOB)));
    for accepted in [r"https://git\.example/shop/.*", r"no|https://git\.example/shop/api/.+"] {
        node.judge(&by(accepted), &signed).unwrap();
    }
    for refused_by in [
        "shop",
        "git\\.example/shop/api.*",
        r"https://git\.example/shop/api",
        // A branch that begins the name, and one that ends it.
        r"https://git\.example|refs/tags/v1",
        // The dot is no line break.
        r"(?m)^https.*$\n?x",
    ] {
        refused(node.judge(&by(refused_by), &signed), "Required name matching");
    }
    let two_lines = node.fulcio.issue(&Order::email("dev@shop.example\nevil@evil.example"));
    let pattern = by(r"(?m)^dev@shop\.example$");
    refused(node.judge(&pattern, &node.signed(&two_lines)), "Required name matching");
    for fault in ["(", "a)(b", "(?x)a #", &"a".repeat(2000), "(a{1000}){1000}"] {
        assert!(node.parse(&by(fault)).is_err(), "{fault}");
    }
}

#[test]
fn every_claim_that_is_asked_for_must_be_there() {
    let node = Node::new();
    let mut order = Order::uri(JOB);
    order.claims = [
        (9, "https://git.example/shop/ci/build.yml@refs/heads/main"),
        (11, "github-hosted"),
        (12, "https://git.example/shop/api"),
        (14, "refs/tags/v1"),
        (18, JOB),
    ]
    .map(|(number, text)| (number, text.to_owned()))
    .to_vec();
    let leaf = node.fulcio.issue(&order);
    let asked = json!({
        "subjectURI": JOB,
        "sourceRepository": "https://git.example/shop/api",
        "sourceRef": "refs/tags/v1",
        "buildSignerURI": "https://git.example/shop/ci/build.yml@refs/heads/main",
        "buildConfigURI": JOB,
        "runnerEnvironment": "github-hosted",
    });
    for evidence in node.forms(&leaf) {
        node.judge(&by_root(asked.clone()), &evidence).unwrap();
    }
    for (word, other) in [
        ("sourceRepository", "https://git.example/shop"),
        ("sourceRef", "refs/heads/main"),
        ("buildSignerURI", JOB),
        ("runnerEnvironment", "self-hosted"),
        ("buildTrigger", "push"),
    ] {
        let mut asked = asked.clone();
        asked[word] = other.into();
        node.refuses(
            &by_root(asked),
            &leaf,
            &format!("Required {word} {other:?} not found (got ["),
        );
    }
}

#[test]
fn keyless_requirements_are_strict() {
    let node = Node::new();
    let fulcio = |of: Value| json!({ "type": "sigstoreSigned", "fulcio": of });
    let mut both_logs = by_dev();
    both_logs["rekorPublicKeyPath"] = "/etc/rekor.pub".into();
    for requirement in [
        fulcio(json!({ "trustedRootPath": "/etc/root.json", "subjectEmail": DEV })),
        fulcio(json!({ "trustedRootPath": "/etc/root.json", "oidcIssuer": ISSUER })),
        fulcio(json!({ "oidcIssuer": ISSUER, "subjectEmail": DEV })),
        by_root(json!({ "subjectEmail": DEV, "caPath": "/etc/fulcio.pem" })),
        by_root(json!({ "subjectEmail": DEV, "subjectURI": JOB })),
        by_root(json!({ "subjectEmail": DEV, "sourceRef": "" })),
        by_root(json!({ "subjectEmail": DEV, "sourceref": "x" })),
        by_root(json!({ "subjectEmail": DEV, "sourceRef": null })),
        both_logs,
    ] {
        assert!(node.parse(&requirement).is_err(), "{requirement}");
    }
}
