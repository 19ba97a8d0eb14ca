//! A signature on the index alone: that it counts for the manifest which the index lists, and what
//! an attacker makes of that.

mod by_whom;

use serde_json::Value;
use serde_json::json;

use super::*;
use crate::oci::media_type;
use crate::policy::Verdict;

const NAME: &str = "registry.example/shop/api";

/// An entry of an index: this digest, for this node's platform.
fn entry(digest: &str) -> Value {
    json!({
        "mediaType": media_type::OCI_MANIFEST, "size": 7, "digest": digest,
        "platform": { "os": "linux", "architecture": "amd64" },
    })
}

fn index(entries: &[Value]) -> Vec<u8> {
    let index = json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": entries,
    });
    index.to_string().into_bytes()
}

fn digest_of(bytes: &[u8]) -> String {
    Digest::sha256(bytes).to_string()
}

/// `evidence`, with these indexes.
fn with(evidence: Evidence, indexes: &[Vec<u8>]) -> Evidence {
    Evidence { indexes: indexes.to_vec(), ..evidence }
}

/// `by_shop`, under any tag of the repository.
fn by_repository() -> String {
    identity(r#"{"type":"matchRepository"}"#)
}

fn verdict(node: &Node, requirement: &str, evidence: &Evidence) -> Verdict {
    let reference = Reference::parse_normalized(IMAGE).unwrap();
    let digest: Digest = DIGEST.parse().unwrap();
    let subject = Subject { reference: &reference, manifest_digest: &digest };
    let policy = node.policy(&format!(r#"{{"default":[{requirement}]}}"#));
    evaluate(&policy, &subject, evidence, SystemTime::UNIX_EPOCH)
}

/// The key has signed `index`, which is at hand, and that does not count.
#[track_caller]
fn refuses(node: &Node, index: &[u8]) {
    let digest = digest_of(index);
    let words = format!(
        "1 signature found, which is for another digest: Signature for digest {digest} does not match"
    );
    let indexes = [index.to_vec()];
    let signed = with(node.signed(&node.shop, NAME, &digest), &indexes);
    check(node.judge(&by_repository(), &signed), &words);
    let statement = signers::statement(signers::SIGN, &digest);
    let signed = with(bundled(signers::bundle(&node.shop, &statement)), &indexes);
    check(node.judge(&identity(BY_DIGEST), &signed), &words);
}

#[test]
fn a_signature_of_the_index_counts_for_the_manifest_that_it_lists() {
    let node = Node::new();
    let index = index(&[entry(OTHER), entry(DIGEST)]);
    let (digest, indexes) = (digest_of(&index), [index]);
    let signed = with(node.signed(&node.shop, NAME, &digest), &indexes);
    let verdict = verdict(&node, &by_repository(), &signed);
    assert!(verdict.allows() && verdict.is_timeless(), "{verdict}");
    assert_eq!(
        verdict.reasons(),
        format!("sigstoreSigned: signature of the index {digest} by the key in /keys/shop.pub")
    );
    let told = serde_json::to_value(&verdict).unwrap();
    assert_eq!(told["requirements"][0]["accepted"]["signed"], json!({ "index": digest }));
    let statement = signers::statement(signers::SIGN, &digest);
    let signed = with(bundled(signers::bundle(&node.shop, &statement)), &indexes);
    node.judge(&identity(BY_DIGEST), &signed).unwrap();
    // The manifest's own signature counts beside it, whatever the index.
    let own = with(node.signed(&node.shop, IMAGE, DIGEST), &indexes);
    let by = node.judge(&by_shop(""), &own).unwrap();
    assert_eq!(by, ["sigstoreSigned: signature by the key in /keys/shop.pub"]);
}

#[test]
fn signature_of_an_index_that_is_not_at_hand_is_not_accepted() {
    let node = Node::new();
    let index = index(&[entry(DIGEST)]);
    let signed = node.signed(&node.shop, NAME, &digest_of(&index));
    node.judge(&by_repository(), &signed).unwrap_err();
    // Nor when another one is in its place, though it lists the same.
    let mut other = index.clone();
    other.push(b'\n');
    node.judge(&by_repository(), &with(signed.clone(), &[other.clone()])).unwrap_err();
    node.judge(&by_repository(), &with(signed, &[other, index])).unwrap();
}

#[test]
fn manifest_added_to_the_index_after_signing_is_not_accepted() {
    let node = Node::new();
    let (signed, grown) = (index(&[entry(OTHER)]), index(&[entry(OTHER), entry(DIGEST)]));
    let evidence = node.signed(&node.shop, NAME, &digest_of(&signed));
    node.judge(&by_repository(), &with(evidence, &[grown, signed])).unwrap_err();
}

#[test]
fn signed_index_of_other_manifests_is_not_accepted() {
    let node = Node::new();
    refuses(&node, &index(&[]));
    refuses(&node, &index(&[entry(OTHER)]));
}

#[test]
fn manifest_listed_as_something_else_than_an_image_is_not_accepted() {
    let node = Node::new();
    let edits: [fn(&mut Value); 10] = [
        // As BuildKit lists attestations, and each half of that.
        |it| {
            it["annotations"] = json!({ "vnd.docker.reference.type": "attestation-manifest" });
            it["platform"] = json!({ "os": "unknown", "architecture": "unknown" });
        },
        |it| it["annotations"] = json!({ "vnd.docker.reference.type": "attestation-manifest" }),
        |it| it["platform"]["architecture"] = json!("unknown"),
        |it| it["platform"]["os"] = json!(""),
        |it| drop(it.as_object_mut().unwrap().remove("platform")),
        |it| it["mediaType"] = json!(media_type::OCI_INDEX),
        |it| it["mediaType"] = json!(media_type::DOCKER_LIST),
        |it| it["mediaType"] = json!("application/octet-stream"),
        |it| drop(it.as_object_mut().unwrap().remove("mediaType")),
        |it| {
            it["annotations"] = json!({ "digest": it["digest"] });
            it["digest"] = json!(OTHER);
        },
    ];
    for edit in edits {
        let mut listed = entry(DIGEST);
        edit(&mut listed);
        refuses(&node, &index(&[entry(OTHER), listed]));
    }
}

#[test]
fn manifest_of_an_index_in_a_signed_index_is_not_accepted() {
    let node = Node::new();
    let inner = index(&[entry(DIGEST)]);
    let mut nested = entry(&digest_of(&inner));
    nested["mediaType"] = json!(media_type::OCI_INDEX);
    for outer in [index(&[nested.clone()]), index(&[entry(&digest_of(&inner))])] {
        let signed = node.signed(&node.shop, NAME, &digest_of(&outer));
        let evidence = with(signed, &[outer, inner.clone()]);
        node.judge(&by_repository(), &evidence).unwrap_err();
    }
}

#[test]
fn signed_document_that_can_be_read_in_two_ways_is_no_index() {
    let node = Node::new();
    let good = String::from_utf8(index(&[entry(DIGEST)])).unwrap();
    let empty = String::from_utf8(index(&[])).unwrap();
    for text in [
        // The manifests twice: one reader sees the first, another the last.
        good.replacen("\"manifests\":", "\"manifests\":[],\"manifests\":", 1),
        empty.replacen(
            "\"schemaVersion\"",
            &format!("\"manifests\":[{}],\"schemaVersion\"", entry(DIGEST)),
            1,
        ),
        // A manifest that is an index too.
        good.replacen(
            "\"manifests\":",
            &format!("\"config\":{},\"layers\":[],\"manifests\":", entry(OTHER)),
            1,
        ),
        // An index that calls itself a manifest, or nothing that is known.
        good.replace(media_type::OCI_INDEX, media_type::OCI_MANIFEST),
        good.replace(media_type::OCI_INDEX, "application/json"),
        good.replace("\"schemaVersion\":2", "\"schemaVersion\":1"),
        format!("{good}{good}"),
        format!("[{good}]"),
        String::new(),
    ] {
        refuses(&node, text.as_bytes());
    }
}

#[test]
fn signature_of_the_index_under_another_repository_is_not_accepted() {
    let node = Node::new();
    let index = index(&[entry(DIGEST)]);
    let signed = node.signed(&node.shop, "registry.example/shop/web", &digest_of(&index));
    check(
        node.judge(&by_repository(), &with(signed, &[index])),
        "1 signature found, which is for another repository: Signature for identity \
         \"registry.example/shop/web\" is not accepted by matchRepository",
    );
}

#[test]
fn signature_of_the_index_by_another_key_is_not_accepted() {
    let node = Node::new();
    let index = index(&[entry(DIGEST)]);
    let digest = digest_of(&index);
    let signed = with(node.signed(&node.other, NAME, &digest), std::slice::from_ref(&index));
    let words = "1 signature found, none by the key in /keys/shop.pub";
    check(node.judge(&by_repository(), &signed), words);
    let statement = signers::statement(signers::SIGN, &digest);
    let signed = with(bundled(signers::bundle(&node.other, &statement)), &[index]);
    check(node.judge(&identity(BY_DIGEST), &signed), words);
}

#[test]
fn attestation_of_the_index_is_no_signature_of_it() {
    let node = Node::new();
    let index = index(&[entry(DIGEST)]);
    let sbom = signers::statement(signers::SPDX, &digest_of(&index));
    let evidence = with(bundled(signers::bundle(&node.shop, &sbom)), &[index]);
    node.judge(&identity(BY_DIGEST), &evidence).unwrap_err();
}

#[test]
fn more_indexes_than_the_limit_are_not_looked_at() {
    let node = Node::new();
    let good = index(&[entry(DIGEST)]);
    let others = (0..Evidence::INDEXES).map(|n| index(&vec![entry(OTHER); n]));
    let mut indexes: Vec<Vec<u8>> = others.collect();
    indexes.push(good.clone());
    let signed = node.signed(&node.shop, NAME, &digest_of(&good));
    node.judge(&by_repository(), &with(signed.clone(), &indexes)).unwrap_err();
    // What is added to others is bounded, so that what was judged first stays.
    let mut kept = with(signed, &[good]);
    kept.merge(&with(Evidence::default(), &indexes));
    assert_eq!(kept.indexes.len(), Evidence::INDEXES);
    node.judge(&by_repository(), &kept).unwrap();
}

#[test]
fn attestations_of_the_index_are_heard() {
    let node = Node::new();
    let index = index(&[entry(DIGEST)]);
    let digest = digest_of(&index);
    let vex = |product: &str, status: &str| {
        let statement = json!({
            "vulnerability": { "name": "CVE-1" }, "status": status,
            "justification": "component_not_present",
            "products": [{ "@id": format!("pkg:oci/api@{product}") }],
        });
        let predicate = json!({
            "@context": "https://openvex.dev/ns/v0.2.0", "timestamp": "2026-01-01T00:00:00Z",
            "statements": [statement],
        });
        let statement = signers::attestation("https://openvex.dev/ns", &predicate, &digest);
        let mut evidence = Evidence::default();
        evidence.sort_in(signers::bundle(&node.shop, &statement));
        with(evidence, std::slice::from_ref(&index))
    };
    let requirement = r#"{"type":"sigstoreAttested","keyPath":"/keys/shop.pub",
        "predicateType":"https://openvex.dev/ns","conditions":{"vex":{"noAffected":"all"}}}"#;
    for product in [digest.as_str(), DIGEST] {
        let by = node.judge(requirement, &vex(product, "fixed")).unwrap();
        let words = format!("attestation of the index {digest} by the key in /keys/shop.pub");
        assert_eq!(by, [format!("sigstoreAttested: {words}")]);
        let refused = node.judge(requirement, &vex(product, "affected")).unwrap_err();
        assert!(refused.contains("is VEX that says affected for CVE-1"), "{refused}");
    }
    let alone = Evidence { indexes: Vec::new(), ..vex(&digest, "fixed") };
    let refused = node.judge(requirement, &alone).unwrap_err();
    assert!(refused.contains("is for another digest"), "{refused}");
}

#[test]
fn what_is_of_the_index_is_kept_and_not_given_to_tools_that_know_no_such_thing() {
    let node = Node::new();
    let index = index(&[entry(DIGEST)]);
    let mut evidence =
        with(node.signed(&node.shop, NAME, &digest_of(&index)), std::slice::from_ref(&index));
    evidence.merge(&node.signed(&node.shop, IMAGE, DIGEST));
    let text = serde_json::to_string(&evidence).unwrap();
    assert_eq!(serde_json::from_str::<Evidence>(&text).unwrap(), evidence);
    assert_eq!((evidence.signatures.len(), evidence.stored().len()), (2, 1));
    let claims = evidence.claims();
    assert_eq!(claims[0].subject.as_deref(), Some(&*digest_of(&index)));
    assert_eq!((claims[2].kind, claims[2].digest.to_string()), ("image index", digest_of(&index)));
}

mod golden {
    //! What cosign 2 and 3 wrote about an index, without `--recursive`.

    use std::path::PathBuf;

    use super::*;
    use crate::policy::Attachment;
    use crate::policy::Attestation;

    const OWN: &str = "https://shop.example/tests/v1";

    fn read(name: &str) -> Vec<u8> {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/signature/index");
        std::fs::read(root.join(name)).unwrap()
    }

    fn judge(requirement: &Value, evidence: &Evidence, manifest: &str) -> Result<String, String> {
        let text = json!({ "default": [requirement] }).to_string();
        let policy =
            Policy::parse(Path::new("/p"), text.as_bytes(), &|_| Ok(read("key.pub"))).unwrap();
        let reference = Reference::parse_normalized("127.0.0.1:5717/shop/api:1").unwrap();
        let manifest_digest: Digest = manifest.parse().unwrap();
        let subject = Subject { reference: &reference, manifest_digest: &manifest_digest };
        let verdict = evaluate(&policy, &subject, evidence, SystemTime::UNIX_EPOCH);
        verdict.allowed().map(|one| one.reasons()).map_err(|refusal| refusal.to_string())
    }

    /// Holds for both manifests of the index, and for no other one; and not without the index.
    #[track_caller]
    fn check(requirement: &Value, evidence: Evidence) {
        let bytes = read("index.json");
        let listed: Value = serde_json::from_slice(&bytes).unwrap();
        let own = digest_of(&bytes);
        let evidence = with(evidence, &[bytes]);
        for entry in listed["manifests"].as_array().unwrap() {
            let manifest = entry["digest"].as_str().unwrap();
            let reasons = judge(requirement, &evidence, manifest).unwrap();
            assert!(reasons.contains(&format!("of the index {own} by the key")), "{reasons}");
            judge(requirement, &with(evidence.clone(), &[]), manifest).unwrap_err();
        }
        judge(requirement, &evidence, OTHER).unwrap_err();
    }

    fn signed(identity: &str) -> Value {
        json!({
            "type": "sigstoreSigned", "keyPath": "/k", "signedIdentity": { "type": identity },
        })
    }

    fn attested() -> Value {
        json!({
            "type": "sigstoreAttested", "keyPath": "/k", "predicateType": OWN,
            "conditions": { "json": [{ "pointer": "/tests/passed", "equals": 214 }] },
        })
    }

    #[test]
    fn what_cosign_2_signs_of_an_index_is_judged() {
        let annotations = serde_json::from_slice(&read("annotations.json")).unwrap();
        let evidence = found(read("payload.json"), annotations);
        check(&signed("matchRepository"), evidence);
        let annotations = BTreeMap::from([
            ("dev.cosignproject.cosign/signature".to_owned(), String::new()),
            ("predicateType".to_owned(), OWN.to_owned()),
        ]);
        let envelope = read("attestation-envelope.json");
        let attached = Attestation::Attached(Attachment { envelope, annotations });
        let evidence = Evidence { attestations: vec![attached], ..Evidence::default() };
        check(&attested(), evidence);
    }

    #[test]
    fn what_cosign_3_signs_of_an_index_is_judged() {
        check(&signed("matchSubjectDigest"), bundled(read("bundle.json")));
        let mut evidence = Evidence::default();
        evidence.sort_in(read("attestation-bundle.json"));
        check(&attested(), evidence);
    }
}
