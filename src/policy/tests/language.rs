//! The language: scopes, identities, strictness, and the files that are shipped.

use std::path::Path;

use crate::oci::reference::Reference;
use crate::policy::Evidence;
use crate::policy::tests::BY_DIGEST;
use crate::policy::tests::DIGEST;
use crate::policy::tests::IMAGE;
use crate::policy::tests::Node;
use crate::policy::tests::by_shop;
use crate::policy::tests::identity;
use crate::policy::tests::judge;
use crate::signature::keys as signers;

#[test]
fn the_most_specific_scope_decides() {
    let node = Node::new();
    let policy = node.policy(&format!(
        r#"{{
            "default": [{{"type":"reject"}}],
            "transports": {{
                "docker": {{
                    "": [{signed}],
                    "*.example": [{open}],
                    "q.example": [{signed}],
                    "q.example/open": [{open}],
                    "q.example/open/not": [{signed}],
                    "q.example/open/not:one": [{open}],
                    "p.example:5000": [{signed}]
                }},
                "atomic": {{ "q.example": [{open}] }}
            }}
        }}"#,
        signed = by_shop(""),
        open = r#"{"type":"insecureAcceptAnything"}"#
    ));
    for (image, scope, looks) in [
        ("docker.io/library/a", "docker default", true),
        ("a.b.example/x", "*.example", false),
        ("q.example/x:1", "q.example", true),
        ("q.example/open/x", "q.example/open", false),
        ("q.example/openx", "q.example", true),
        ("q.example/open/not/x:one", "q.example/open/not", true),
        ("q.example/open/not:two", "q.example/open/not", true),
        ("q.example/open/not:one", "q.example/open/not:one", false),
        ("q.example:5000/open/x", "*.example", false),
        ("p.example:5000/x", "p.example:5000", true),
        ("p.example/x", "*.example", false),
    ] {
        let reference = Reference::parse_normalized(image).unwrap();
        assert_eq!(policy.requirements(&reference).0, scope, "{image}");
        assert_eq!(policy.needs_evidence(&reference), looks, "{image}");
        assert_eq!(judge(&policy, image, &Evidence::default()).is_ok(), !looks, "{image}");
    }
    assert!(!policy.accepts_anything_by_default());
}

#[test]
fn a_digest_in_the_reference_hides_its_tag() {
    let node = Node::new();
    let image = format!("registry.example/shop/api:evil@{DIGEST}");
    // Any tag of the repository was signed; the digest is what is compared.
    node.judge_as(&image, &by_shop(""), &node.signed(&node.shop, IMAGE, DIGEST)).unwrap();
    let exact = identity(r#"{"type":"matchExact"}"#);
    let error = node.judge_as(&image, &exact, &node.signed(&node.shop, IMAGE, DIGEST)).unwrap_err();
    assert!(error.starts_with(&format!("registry.example/shop/api@{DIGEST} is refused")));
    let named = format!("registry.example/shop/api@{DIGEST}");
    node.judge_as(&image, &exact, &node.signed(&node.shop, &named, DIGEST)).unwrap();
}

#[test]
fn identities() {
    let node = Node::new();
    let by_digest = format!("registry.example/shop/api@{DIGEST}");
    let cases = [
        (r#"{"type":"matchExact"}"#, IMAGE, true),
        (r#"{"type":"matchExact"}"#, "registry.example/shop/api", false),
        (r#"{"type":"matchExact"}"#, by_digest.as_str(), false),
        (r#"{"type":"matchRepoDigestOrExact"}"#, IMAGE, true),
        (r#"{"type":"matchRepoDigestOrExact"}"#, "registry.example/shop/api", false),
        (r#"{"type":"matchRepoDigestOrExact"}"#, by_digest.as_str(), false),
        (r#"{"type":"matchRepository"}"#, "registry.example/shop/api:9", true),
        (r#"{"type":"matchRepository"}"#, "registry.example/shop/api/x:1.4", false),
        (r#"{"type":"matchRepository"}"#, "", false),
        (r#"{"type":"exactReference","dockerReference":"q.io/a:1"}"#, "q.io/a:1", true),
        (r#"{"type":"exactReference","dockerReference":"q.io/a:1"}"#, "q.io/a", false),
        (r#"{"type":"exactReference","dockerReference":"q.io/a:1"}"#, IMAGE, false),
        (
            r#"{"type":"exactReference","dockerReference":"busybox:1"}"#,
            "docker.io/library/busybox:1",
            true,
        ),
        (r#"{"type":"exactRepository","dockerRepository":"q.io/a"}"#, "q.io/a:7", true),
        (r#"{"type":"exactRepository","dockerRepository":"q.io/a"}"#, "q.io/ab:7", false),
        (
            r#"{"type":"remapIdentity","prefix":"registry.example/shop","signedPrefix":"q.io/s"}"#,
            "q.io/s/api:1.4",
            true,
        ),
        (
            r#"{"type":"remapIdentity","prefix":"registry.example/shop","signedPrefix":"q.io/s"}"#,
            IMAGE,
            false,
        ),
        (
            r#"{"type":"remapIdentity","prefix":"registry.example","signedPrefix":"q.io"}"#,
            "q.io/shop/api:1.4",
            true,
        ),
        (
            r#"{"type":"remapIdentity","prefix":"registry.example/sho","signedPrefix":"q.io"}"#,
            IMAGE,
            true,
        ),
        (
            r#"{"type":"remapIdentity","prefix":"registry.example/sho","signedPrefix":"q.io"}"#,
            "q.io/p/api:1.4",
            false,
        ),
        (
            r#"{"type":"remapIdentity","prefix":"registry.example/shop/api","signedPrefix":"q.io/x"}"#,
            "q.io/x:1.4",
            true,
        ),
        (BY_DIGEST, "q.io/anything", true),
    ];
    for (of, signed, accepted) in cases {
        let evidence = node.signed(&node.shop, signed, DIGEST);
        assert_eq!(node.judge(&identity(of), &evidence).is_ok(), accepted, "{of} {signed}");
    }
}

#[test]
fn a_malformed_policy_is_refused_with_its_place() {
    let node = Node::new();
    let error = node
        .parse("{\n  \"default\": [{\"type\": \"reject\"}],\n  \"transports\": {\"docker\": {\n    \"q.io\": [\n      {\"type\": \"sigstoreSigned\",\n       \"keypath\": \"/k\"}]}}}")
        .unwrap_err()
        .to_string();
    assert_eq!(
        error.split(", expected").next().unwrap(),
        "policy /etc/policy.json, line 6 column 19, transports.docker[\"q.io\"][0]: unknown \
         field `keypath`"
    );
    let error = node.parse("{\"default\": []}").unwrap_err().to_string();
    assert_eq!(
        error,
        "policy /etc/policy.json, line 1 column 13, default: list of verification policy \
         requirements must not be empty"
    );
}

#[test]
fn a_fault_is_told_in_the_words_of_the_file_and_on_one_line() {
    let node = Node::new();
    let signed = |member: &str| in_default(&format!(r#"{{"type":"sigstoreSigned",{member}}}"#));
    for (text, words) in [
        ("null".to_owned(), "document: invalid type: null, expected an object"),
        ("[]".to_owned(), "document: invalid type: a list, expected an object"),
        (in_default("\"reject\""), "default[0]: invalid type: a string, expected an object"),
        (
            signed(r#""keyPath":"/k","signedIdentity":"matchExact""#),
            "signedIdentity: invalid type: a string, expected an object",
        ),
        (signed(r#""fulcio":1"#), "default[0].fulcio: invalid type: a number, expected an object"),
        (
            signed(r#""keyData":"!!!""#),
            "default[0].keyData: not base64: Invalid symbol 33, offset 0",
        ),
        (
            signed(
                r#""fulcio":{"trustedRootPath":"/c","oidcIssuer":"https://i.example","subjectRegex":"(a"}"#,
            ),
            "subjectRegex cannot be used: unclosed group",
        ),
        (format!("\u{feff}{}", in_default(r#"{"type":"reject"}"#)), "byte order mark"),
    ] {
        let error = node.parse(&text).unwrap_err().to_string();
        assert!(error.contains(words) && !error.contains('\n'), "{text}: {error}");
    }
}

/// A policy with one requirement.
fn in_default(requirement: &str) -> String {
    format!(r#"{{"default":[{requirement}]}}"#)
}

#[track_caller]
fn refused(text: &str) {
    assert!(Node::new().parse(text).is_err(), "{text}");
}

#[test]
fn documents_are_strict() {
    for text in [
        "".to_owned(),
        "null".to_owned(),
        "[]".to_owned(),
        r#"[[{"type":"reject"}]]"#.to_owned(),
        r#"[[{"type":"reject"}],{}]"#.to_owned(),
        "{}".to_owned(),
        r#"{"default":null}"#.to_owned(),
        r#"{"default":{}}"#.to_owned(),
        r#"{"default":[{"type":"reject"}]} x"#.to_owned(),
        r#"{"default":[{"type":"reject"}],"more":1}"#.to_owned(),
        r#"{"default":[{"type":"reject"}],"default":[{"type":"reject"}]}"#.to_owned(),
        r#"{"default":[{"type":"reject"}],"transports":null}"#.to_owned(),
        r#"{"default":[{"type":"reject"}],"transports":{"docker":{"a":[]}}}"#.to_owned(),
        r#"{"default":[{"type":"reject"}],"transports":{"docker":[]}}"#.to_owned(),
        r#"{"default":[{"type":"reject"}],"transports":{"dir":{"/a":[{"type":"x"}]}}}"#.to_owned(),
    ] {
        refused(&text);
    }
}

#[test]
fn requirements_are_strict() {
    for text in [
        in_default("1"),
        in_default(r#"["insecureAcceptAnything"]"#),
        in_default("{}"),
        in_default(r#"{"type":1}"#),
        in_default(r#"{"type":"Reject"}"#),
        in_default(r#"{"type":"reject","more":1}"#),
        in_default(r#"{"Type":"reject"}"#),
        in_default(r#"{"type":"insecureAcceptAnything","keyPath":"/k"}"#),
        in_default(r#"{"type":"sigstoreSigned"}"#),
        in_default(r#"{"type":"sigstoreSigned","keyPath":null}"#),
        in_default(r#"{"type":"sigstoreSigned","keyPath":""}"#),
        in_default(r#"{"type":"sigstoreSigned","keyPaths":[]}"#),
        in_default(r#"{"type":"sigstoreSigned","keyPaths":[""]}"#),
        in_default(r#"{"type":"sigstoreSigned","keyDatas":[]}"#),
        in_default(r#"{"type":"sigstoreSigned","keyData":"%"}"#),
        in_default(&by_shop(r#","keyData":"AAAA""#)),
        in_default(&by_shop(r#","keyPath":"/keys/shop.pub""#)),
        in_default(&by_shop(r#","rekorPublicKeyPath":"""#)),
        in_default(&by_shop(r#","rekorPublicKeyPaths":[]"#)),
        in_default(&by_shop(
            r#","rekorPublicKeyPath":"/keys/rekor.pub","rekorPublicKeyData":"AAAA""#,
        )),
    ] {
        refused(&text);
    }
}

#[test]
fn requirements_that_are_not_built_are_strict_too() {
    let fulcio = |of: &str| {
        in_default(&format!(
            r#"{{"type":"sigstoreSigned","fulcio":{of},"rekorPublicKeyData":"AAAA"}}"#
        ))
    };
    for text in [
        fulcio("null"),
        fulcio(r#"{"caData":"AAAA","oidcIssuer":"i"}"#),
        fulcio(r#"{"oidcIssuer":"i","subjectEmail":"e"}"#),
        fulcio(r#"{"caPath":"/a","caData":"AAAA","oidcIssuer":"i","subjectEmail":"e"}"#),
        in_default(
            r#"{"type":"sigstoreSigned","fulcio":{"caPath":"/a","oidcIssuer":"i","subjectEmail":"e"}}"#,
        ),
        in_default(r#"{"type":"sigstoreSigned","pki":{"caRootsPath":"/a"}}"#),
        in_default(
            r#"{"type":"sigstoreSigned","pki":{"caRootsPath":"/a","subjectEmail":"e"},"rekorPublicKeyPath":"/b"}"#,
        ),
    ] {
        refused(&text);
    }
}

#[test]
fn identities_are_strict() {
    let with_identity = |of: &str| in_default(&identity(of));
    for text in [
        in_default(&by_shop(r#","signedIdentity":null"#)),
        with_identity("{}"),
        with_identity(r#"["matchExact"]"#),
        with_identity(r#"["exactReference","q.io/a:1"]"#),
        with_identity(r#"{"type":"match"}"#),
        with_identity(r#"{"type":"matchExact","x":1}"#),
        with_identity(r#"{"type":"exactReference"}"#),
        with_identity(r#"{"type":"exactReference","dockerReference":"q.io/a"}"#),
        with_identity(r#"{"type":"exactRepository","dockerRepository":"A b"}"#),
        with_identity(r#"{"type":"remapIdentity","prefix":"q.io","signedPrefix":"q.io/a:1"}"#),
        with_identity(r#"{"type":"remapIdentity","prefix":"q.io/","signedPrefix":"q.io"}"#),
        with_identity(r#"{"type":"remapIdentity","prefix":"q.io"}"#),
    ] {
        refused(&text);
    }
}

#[test]
fn accepting_anything_by_default_is_known() {
    let node = Node::new();
    let open = in_default(r#"{"type":"insecureAcceptAnything"}"#);
    assert!(node.policy(&open).accepts_anything_by_default());
    assert!(!node.policy(&in_default(&by_shop(""))).accepts_anything_by_default());
}

#[test]
fn evidence_comes_back_from_its_record() {
    let node = Node::new();
    let mut evidence = node.logged();
    evidence.bundles.push(signers::bundle(&node.shop, b"{}"));
    let text = serde_json::to_string(&evidence).unwrap();
    assert_eq!(serde_json::from_str::<Evidence>(&text).unwrap(), evidence);
    assert_eq!(serde_json::from_str::<Evidence>("{}").unwrap(), Evidence::default());
    assert!(serde_json::from_str::<Evidence>(r#"{"more":1}"#).is_err());
}

#[test]
fn the_shipped_policies_parse() {
    let node = Node::new();
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("policy");
    let mut seen = 0;
    for directory in
        [directory.clone(), directory.join("examples"), directory.join("examples/per-namespace")]
    {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "json") {
                let text = std::fs::read_to_string(&path).unwrap();
                let policy = node.policy(&text);
                let open = ["policy/default.json", "policy/kubernetes-signed.json"];
                let open = open.iter().any(|name| path.ends_with(name));
                assert_eq!(policy.accepts_anything_by_default(), open, "{}", path.display());
                seen += 1;
            }
        }
    }
    assert!(seen >= 5, "{seen}");
}
