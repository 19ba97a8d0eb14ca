use std::path::Path;

use serde_json::json;

use super::*;
use crate::audit;
use crate::oci::digest::Digest;
use crate::oci::reference::Reference;
use crate::policy::Evidence;
use crate::policy::SimpleSigning;
use crate::policy::Subject;
use crate::storage::Store;
use keys::Key;

#[path = "../../tests/support/keys.rs"]
#[allow(clippy::duplicate_mod, reason = "this room does not use the one that has it too")]
mod keys;

fn write(path: &Path, policy: &serde_json::Value) {
    files::replace(path, policy.to_string().as_bytes(), 0o600, files::Durability::Process).unwrap();
}

fn reject() -> serde_json::Value {
    json!({"default": [{"type": "reject"}]})
}

fn anything() -> serde_json::Value {
    json!({"default": [{"type": "insecureAcceptAnything"}]})
}

/// A node's policies and its account, in a directory.
struct Node {
    directory: tempfile::TempDir,
    judge: Judge,
}

impl Node {
    fn new(dry_run: bool) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        for name in ["now", "next"] {
            std::fs::create_dir(at(name)).unwrap();
        }
        write(&at("now.json"), &anything());
        write(&at("next.json"), &reject());
        let settings = Settings {
            global: at("now.json"),
            namespaces: Some(at("now")),
            dry_run: dry_run.then(|| at("next.json")),
            dry_run_namespaces: dry_run.then(|| at("next")),
        };
        let audit = Audit::new(audit::Settings {
            file: Some(at("audit.log")),
            size_max: 1 << 20,
            ..audit::Settings::default()
        });
        let judge = Judge::new(settings, audit, Metrics::default());
        Self { directory, judge }
    }

    fn write(&self, name: &str, policy: &serde_json::Value) {
        write(&self.directory.path().join(name), policy);
    }

    fn ask(&self, namespace: &str) -> Result<(), JudgeError> {
        self.ask_with(namespace, &Evidence::default())
    }

    fn ask_with(&self, namespace: &str, evidence: &Evidence) -> Result<(), JudgeError> {
        let pod = SandboxMetadata { namespace: namespace.to_owned(), ..Default::default() };
        let about = About {
            event: Event::Create,
            pod: Some(pod),
            container: Some("web".to_owned()),
            image: "q.io/a:1".to_owned(),
            id: None,
        };
        let reference: Reference = "q.io/a:1".parse().unwrap();
        let manifest_digest = &Digest::sha256(b"manifest");
        let subject = Subject { reference: &reference, manifest_digest };
        let case = self.judge.open(about)?;
        case.decide(&[subject], Ok(evidence)).map(drop)
    }

    /// Mode, verdict and policy file of every record.
    fn records(&self) -> Vec<String> {
        let path = self.directory.path().join("audit.log");
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let word = |line: &serde_json::Value, name: &str| {
            let text = line[name].as_str().unwrap_or_default();
            text.rsplit('/').next().unwrap_or_default().to_owned()
        };
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .map(|line| {
                ["mode", "verdict", "cause", "policy"].map(|name| word(&line, name)).join(" ")
            })
            .collect()
    }
}

#[test]
fn a_policy_that_is_tried_decides_nothing_and_is_on_record() {
    let node = Node::new(true);
    node.ask("shop").unwrap();
    assert_eq!(
        node.records(),
        ["dry-run refused rejected next.json", "enforce allowed unchecked now.json"]
    );
    // The other way round it is not weaker: what holds holds.
    let node = Node::new(true);
    node.write("now.json", &reject());
    node.write("next.json", &anything());
    assert!(matches!(node.ask("shop"), Err(JudgeError::Refused(_))));
    assert_eq!(
        node.records(),
        ["dry-run allowed unchecked next.json", "enforce refused rejected now.json"]
    );
}

#[test]
fn which_policy_is_tried_goes_by_the_namespace() {
    let node = Node::new(true);
    let tried = |namespace: &str| {
        let policy = node.judge.dry_run(Some(namespace))?;
        Some(policy.unwrap().path().strip_prefix(node.directory.path()).unwrap().to_owned())
    };
    assert_eq!(tried("shop").unwrap(), Path::new("next.json"));
    // What replaces the node's policy now is not touched by what is to replace the node's.
    node.write("now/shop.json", &anything());
    assert_eq!(tried("shop"), None);
    node.write("next/shop.json", &reject());
    assert_eq!(tried("shop").unwrap(), Path::new("next/shop.json"));
    assert_eq!(tried("lab").unwrap(), Path::new("next.json"));
    assert_eq!(tried("../next"), None);
}

#[test]
fn a_file_in_the_policy_language_turns_no_trial_on() {
    let node = Node::new(false);
    node.write("next/shop.json", &reject());
    assert!(node.judge.dry_run(Some("shop")).is_none());
    node.ask("shop").unwrap();
    assert_eq!(node.records(), ["enforce allowed unchecked now.json"]);
}

#[test]
fn a_policy_that_cannot_be_read_is_a_refusal_on_record() {
    let node = Node::new(true);
    node.write("now.json", &json!({"default": []}));
    node.write("next.json", &json!({}));
    assert!(matches!(node.ask("shop"), Err(JudgeError::Policy(_))));
    assert!(node.ask("../shop").is_err());
    std::fs::remove_file(node.directory.path().join("now.json")).unwrap();
    let missing = node.ask("shop").unwrap_err();
    assert!(missing.to_string().ends_with("create it, or set signature_policy"), "{missing}");
    // What is there and cannot be read is not to be created.
    std::fs::create_dir(node.directory.path().join("now.json")).unwrap();
    let unreadable = node.ask("shop").unwrap_err();
    assert!(matches!(unreadable, JudgeError::Unreadable { .. }), "{unreadable}");
    assert!(unreadable.to_string().ends_with("cannot be read"), "{unreadable}");
    assert_eq!(
        node.records(),
        [
            "enforce undecided policy_unusable ",
            "enforce undecided namespace_invalid ",
            "enforce undecided policy_unusable ",
            "enforce undecided policy_unusable ",
        ]
    );
}

#[test]
fn policies_of_namespaces_are_looked_at_before_their_pods_fail() {
    let node = Node::new(false);
    assert_eq!(look_at_namespaces(&node.directory.path().join("nowhere")), [""; 0]);
    let directory = node.directory.path().join("now");
    let key = json!({"default": [{"type": "sigstoreSigned", "keyPath": "/nowhere/key.pub"}]});
    node.write("now/good.json", &reject());
    node.write("now/broken.json", &json!({"defualt": []}));
    node.write("now/keyless.json", &key);
    for never in ["Shop.json", "kube_system.json", "shop.JSON"] {
        node.write(&format!("now/{never}"), &reject());
    }
    node.write("now/good.json.bak", &json!({}));
    let found = look_at_namespaces(&directory);
    assert_eq!(found.len(), 5, "{found:?}");
    for (file, words) in [
        ("broken.json", "cannot be used: policy "),
        ("keyless.json", "/nowhere/key.pub cannot be used"),
        ("Shop.json", "never asked"),
        ("kube_system.json", "never asked"),
        ("shop.JSON", "never asked"),
    ] {
        let about = |line: &&String| line.contains(file) && line.contains(words);
        assert_eq!(found.iter().filter(about).count(), 1, "{file}: {found:?}");
    }
}

#[test]
fn a_trial_tells_damage_from_a_registry_that_does_not_answer() {
    let node = Node::new(true);
    let signed = json!({"default": [{"type": "sigstoreSigned", "keyPath": "/nowhere/key.pub"}]});
    node.write("next.json", &signed);
    let about =
        About { event: Event::Create, pod: None, container: None, image: "x".into(), id: None };
    let case = node.judge.open(about).unwrap();
    let reference: Reference = "q.io/a:1".parse().unwrap();
    let manifest_digest = &Digest::sha256(b"manifest");
    let subject = Subject { reference: &reference, manifest_digest };
    case.give_up(Some(&subject), "evidence_unreadable", "it is damaged");
    case.decide(&[subject], Err(("lookup_failed", "no answer"))).unwrap();
    assert_eq!(
        node.records(),
        [
            "enforce undecided evidence_unreadable now.json",
            "dry-run undecided evidence_unreadable next.json",
            "dry-run undecided lookup_failed next.json",
            "enforce allowed unchecked now.json",
        ]
    );
}

#[test]
fn what_has_no_name_is_refused() {
    let node = Node::new(false);
    let about =
        About { event: Event::Create, pod: None, container: None, image: "x".into(), id: None };
    let case = node.judge.open(about).unwrap();
    let error = case.decide(&[], Ok(&Evidence::default())).unwrap_err();
    assert!(matches!(error, JudgeError::Unnamed(_)));
    assert_eq!(node.records(), ["enforce undecided unnamed now.json"]);
}

#[test]
fn a_verdict_is_found_again_for_the_same_bytes_and_for_no_others() {
    let node = Node::new(false);
    let key = Key::generate();
    let key_file = node.directory.path().join("cosign.pub");
    let trust = |key: &Key| {
        let pem = key.public_pem();
        files::replace(&key_file, pem.as_bytes(), 0o600, files::Durability::Process).unwrap();
    };
    trust(&key);
    let signed = json!([{"type": "sigstoreSigned", "keyPath": key_file,
                         "signedIdentity": {"type": "matchRepository"}}]);
    node.write("now.json", &json!({"default": signed}));
    let payload = keys::payload("q.io/a", &Digest::sha256(b"manifest").to_string());
    let signature = SimpleSigning { annotations: keys::annotations(&key, &payload), payload };
    let evidence = Evidence { signatures: vec![signature], ..Evidence::default() };
    let kept = || node.judge.inner.cache.len();

    node.ask_with("shop", &evidence).unwrap();
    node.ask_with("shop", &evidence).unwrap();
    assert_eq!(kept(), 1);
    // A refusal is found out anew, since time may make it something else.
    assert!(node.ask_with("shop", &Evidence::default()).is_err());
    // Somebody replaces the key file; the policy file is the same bytes.
    trust(&Key::generate());
    assert!(node.ask_with("shop", &evidence).is_err());
    trust(&key);
    node.ask_with("shop", &evidence).unwrap();
    assert_eq!(kept(), 1);
    // More evidence is other evidence.
    let more = Evidence { bundles: vec![b"{".to_vec()], ..evidence.clone() };
    node.ask_with("shop", &more).unwrap();
    assert_eq!(kept(), 2);
}

#[test]
fn a_verdict_by_an_index_is_not_found_again_for_another_index() {
    let node = Node::new(false);
    let key = Key::generate();
    let key_file = node.directory.path().join("cosign.pub");
    let pem = key.public_pem();
    files::replace(&key_file, pem.as_bytes(), 0o600, files::Durability::Process).unwrap();
    let signed = json!([{"type": "sigstoreSigned", "keyPath": key_file,
                         "signedIdentity": {"type": "matchRepository"}}]);
    node.write("now.json", &json!({"default": signed}));
    let index = |of: &[u8]| {
        let entry = json!({
            "mediaType": "application/vnd.oci.image.manifest.v1+json", "size": 1,
            "digest": Digest::sha256(of), "platform": {"os": "linux", "architecture": "amd64"},
        });
        json!({"schemaVersion": 2, "manifests": [entry]}).to_string().into_bytes()
    };
    let good = index(b"manifest");
    let payload = keys::payload("q.io/a", &Digest::sha256(&good).to_string());
    let signature = SimpleSigning { annotations: keys::annotations(&key, &payload), payload };
    let by = |indexes: Vec<Vec<u8>>| Evidence {
        signatures: vec![signature.clone()],
        indexes,
        ..Evidence::default()
    };
    node.ask_with("shop", &by(vec![good.clone()])).unwrap();
    node.ask_with("shop", &by(vec![good])).unwrap();
    assert_eq!(node.judge.inner.cache.len(), 1);
    for other in [vec![], vec![index(b"other")]] {
        assert!(node.ask_with("shop", &by(other)).is_err());
    }
}

/// The directory may be on a disk that is not mounted yet: its policies must not count as missing.
#[test]
fn a_directory_of_policies_that_a_link_leads_to_and_is_not_there_is_a_refusal() {
    let node = Node::new(false);
    let at = |name: &str| node.directory.path().join(name);
    node.write("now/shop.json", &reject());
    std::fs::rename(at("now"), at("disk")).unwrap();
    // Without a directory no namespace has a policy of its own.
    node.ask("shop").unwrap();
    std::os::unix::fs::symlink(at("disk"), at("now")).unwrap();
    assert!(matches!(node.ask("shop"), Err(JudgeError::Refused(_))));
    node.ask("lab").unwrap();
    std::fs::rename(at("disk"), at("elsewhere")).unwrap();
    for namespace in ["shop", "lab"] {
        assert!(matches!(node.ask(namespace), Err(JudgeError::Missing { .. })), "{namespace}");
    }
    let told = look_at_namespaces(&at("now"));
    assert!(told.len() == 1 && told[0].contains("cannot be read"), "{told:?}");
    assert!(look_at_namespaces(&at("none")).is_empty());
}

/// A store with an image that has no layers.
fn store(directory: &Path) -> (Store, ImageId) {
    let settings = crate::storage::Settings {
        root: directory.join("root"),
        runroot: directory.join("run"),
        mount_options: Vec::new(),
    };
    let store = Store::open(settings).unwrap();
    let id: ImageId = Digest::sha256(b"config").hex().parse().unwrap();
    commit(&store, &id, Vec::new(), String::new());
    (store, id)
}

fn commit(store: &Store, id: &ImageId, big_data: Vec<(String, Vec<u8>)>, metadata: String) {
    let new = crate::storage::NewImage {
        id: id.clone(),
        names: vec!["q.io/a:1".to_owned()],
        layer: None,
        digest: Digest::sha256(b"manifest"),
        created: None,
        big_data,
        metadata,
    };
    store.commit_image(new).unwrap();
}

fn openpgp(sizes: &[usize]) -> Evidence {
    let message = |size: &usize| [vec![0x90], size.to_le_bytes().to_vec(), vec![7; *size]].concat();
    Evidence { openpgp: sizes.iter().map(message).collect(), ..Evidence::default() }
}

#[test]
fn what_is_kept_later_does_not_take_the_place_of_what_was_kept() {
    let directory = tempfile::tempdir_in("/var/tmp").unwrap();
    let (store, id) = store(directory.path());
    keep_more(&store, &id, openpgp(&[1])).unwrap();
    keep_more(&store, &id, openpgp(&[2])).unwrap();
    assert_eq!(kept(&store, &id).unwrap(), openpgp(&[2, 1]));
    let first = text_with(openpgp(&[1]), None, &id).unwrap();
    let both = text_with(openpgp(&[2]), Some(&first), &id).unwrap();
    assert_eq!(read_kept(&both, &id).unwrap(), openpgp(&[2, 1]));
    // What cannot be read is replaced.
    let fresh = text_with(openpgp(&[2]), Some(b"{"), &id).unwrap();
    assert_eq!(read_kept(&fresh, &id).unwrap(), openpgp(&[2]));
}

#[test]
fn no_more_is_kept_than_is_read_again() {
    const MIB: usize = 1 << 20;
    let directory = tempfile::tempdir_in("/var/tmp").unwrap();
    let (store, id) = store(directory.path());
    let digest = Digest::sha256(b"manifest");
    // Beside what other tools look for: more than one of their items may have.
    let large = openpgp(&[5 * MIB, 6 * MIB, 1]);
    let (items, metadata) = keep(&store, &id, &digest, large.clone()).unwrap();
    commit(&store, &id, items, metadata);
    assert_eq!(kept(&store, &id).unwrap(), large);
    // What was kept gives way to what was just judged, where there is no room for both.
    let fresh = openpgp(&[20 * MIB, 21 * MIB]);
    keep_more(&store, &id, fresh.clone()).unwrap();
    let found = kept(&store, &id).unwrap();
    assert_eq!(found.openpgp.first(), fresh.openpgp.first());
    assert!(found.openpgp.contains(&fresh.openpgp[1]));
    // And what alone is too much is refused, and not kept to be found unreadable.
    let error = keep(&store, &id, &digest, openpgp(&[30 * MIB, 31 * MIB])).unwrap_err();
    assert!(matches!(error, JudgeError::TooMuch(_)), "{error}");
}
