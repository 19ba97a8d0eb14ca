//! Images of which only the index is signed, by everyone whom a policy can ask for: keyless in both of
//! cosign's forms, with an ordinary authority's certificate, and with OpenPGP by skopeo. Pulled,
//! created without the registry, and what an attacker makes of each.

use std::time::SystemTime;

use crioxide::oci::digest::Digest;
use serde_json::Value;
use serde_json::json;

use crate::gpg::Gpg;
use crate::images::Image;
use crate::index::API;
use crate::index::create;
use crate::index::elsewhere;
use crate::index::entry;
use crate::index::image;
use crate::index::list;
use crate::index::publish_listed;
use crate::index::refused;
use crate::keyless::Ca;
use crate::keyless::Fulcio;
use crate::keyless::Leaf;
use crate::keyless::Order;
use crate::keyless::Tsa;
use crate::keys;
use crate::keys::Log;
use crate::policy::Scene;
use crate::policy::anything;
use crate::publish;
use crate::support::client::Client;
use crate::support::host;
use crate::support::net;
use crate::test_registry::Fault;

/// Whom the policy asks for, who signs too, and who does not.
const DEV: &str = "dev@shop.example";
const THIEF: &str = "thief@evil.example";
const STRANGER: &str = "stranger@shop.example";

/// Who vouches for the signers.
struct Signers {
    fulcio: Fulcio,
    log: Log,
    tsa: Tsa,
    authority: Ca,
    gpg: Gpg,
}

/// A way to sign an index.
struct Way {
    name: &'static str,
    /// What a policy demands that asks for this person.
    demanded: fn(&Story, who: &str) -> Value,
    /// This person signs the index, and what is signed is put where the evidence of `beside` is.
    sign: fn(&Story, who: &str, index: &str, beside: &Digest),
    /// What is said where another person has signed.
    by_other: &'static str,
}

/// A daemon, its registry, and who signs.
struct Story {
    scene: Scene,
    it: Signers,
}

impl Signers {
    fn new() -> Self {
        let (fulcio, gpg) = (Fulcio::make(), Gpg::new());
        let authority = Ca::make("ordinary", None);
        for who in [DEV, THIEF, STRANGER] {
            gpg.key(who, "ed25519");
        }
        Self { fulcio, log: Log::default(), tsa: Tsa::make(), authority, gpg }
    }

    fn person(&self, who: &str) -> Leaf {
        self.fulcio.issue(&Order::email(who))
    }

    /// With a certificate that holds now.
    fn owner(&self, who: &str) -> Leaf {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let from = i64::try_from(now).unwrap() - 60;
        self.authority.issue(&Order { from, ..Order::email(who) })
    }
}

impl Story {
    /// The policy asks for one person in this way.
    async fn of(way: &Way) -> (Self, Client) {
        let (mut scene, it) = (Scene::strict("matchRepository").await, Signers::new());
        let root = it.fulcio.trusted_root(&[&it.log], Some(&it.tsa));
        scene.daemon.write("trusted_root.json", &root.to_string());
        scene.daemon.write("ordinary.pem", &it.authority.pem());
        for who in [DEV, THIEF, STRANGER] {
            let key = String::from_utf8(it.gpg.export_armored(who)).unwrap();
            scene.daemon.write(&format!("{who}.asc"), &key);
        }
        let lookaside = format!("default-docker:\n  lookaside: {}/sigs\n", scene.registry.base());
        std::fs::create_dir_all(scene.daemon.path("home/.config/containers/registries.d")).unwrap();
        scene.daemon.write("home/.config/containers/registries.d/default.yaml", &lookaside);
        scene.daemon.start().await;
        let client = scene.daemon.client().await;
        let story = Self { scene, it };
        story.demand(way, DEV);
        (story, client)
    }

    fn demand(&self, way: &Way, who: &str) {
        let demanded = (way.demanded)(self, who);
        self.scene.demand(&json!({ self.scene.registry.host(): [demanded] }));
    }

    /// As cosign 2 puts it.
    fn at_tag(&self, leaf: &Leaf, chain: &[&Ca], logged: bool, (index, beside): (&str, &Digest)) {
        let signed = Digest::sha256(index.as_bytes()).to_string();
        let payload = keys::payload(&self.scene.name(API), &signed);
        let mut annotations = leaf.annotations(&payload, chain, &self.it.log, Log::TIME);
        if !logged {
            annotations.remove("dev.sigstore.cosign/bundle");
        }
        publish::annotated_at_tag(&self.scene.registry, API, beside, payload, &annotations);
    }
}

fn keyless(story: &Story, who: &str, identity: &str) -> Value {
    json!({
        "type": "sigstoreSigned",
        "fulcio": {
            "trustedRootPath": story.scene.daemon.path("trusted_root.json"),
            "oidcIssuer": "https://login.example",
            "subjectEmail": who,
        },
        "signedIdentity": { "type": identity },
    })
}

const WAYS: [Way; 4] = [
    Way {
        name: "keyless-at-a-tag",
        demanded: |story, who| keyless(story, who, "matchRepository"),
        sign: |story, who, index, beside| {
            let fulcio = &story.it.fulcio;
            let chain = [&fulcio.intermediate, &fulcio.root];
            story.at_tag(&story.it.person(who), &chain, true, (index, beside));
        },
        by_other: "by someone else: Required email",
    },
    Way {
        name: "keyless-by-a-referrer",
        demanded: |story, who| keyless(story, who, "matchSubjectDigest"),
        sign: |story, who, index, beside| {
            let signed = Digest::sha256(index.as_bytes()).to_string();
            let statement = keys::statement(keys::SIGN, &signed);
            let (log, tsa) = (&story.it.log, &story.it.tsa);
            let bundle = story.it.person(who).stamped_bundle(&statement, log, tsa, Log::TIME);
            let bundle = bundle.to_string().into_bytes();
            publish::bundle_by_referrer(&story.scene.registry, API, beside, bundle);
        },
        by_other: "by someone else: Required email",
    },
    Way {
        name: "ordinary-certificate",
        demanded: |story, who| {
            json!({
                "type": "sigstoreSigned",
                "pki": {
                    "caRootsPath": story.scene.daemon.path("ordinary.pem"), "subjectEmail": who,
                },
                "signedIdentity": { "type": "matchRepository" },
            })
        },
        sign: |story, who, index, beside| {
            story.at_tag(&story.it.owner(who), &[], false, (index, beside));
        },
        by_other: "by someone else: Required email",
    },
    Way {
        name: "openpgp",
        demanded: |story, who| {
            json!({
                "type": "signedBy", "keyType": "GPGKeys",
                "keyPath": story.scene.daemon.path(&format!("{who}.asc")),
            })
        },
        sign: |story, who, index, beside| {
            let daemon = &story.scene.daemon;
            daemon.write("to-sign.json", index);
            let output = daemon.path("signature");
            let mut command = host::command("skopeo");
            command.env("GNUPGHOME", story.it.gpg.home());
            command.args(["standalone-sign", "-o"]).arg(&output).arg(daemon.path("to-sign.json"));
            let key = story.it.gpg.fingerprints(who).remove(0);
            let ran = command.args([&*story.scene.name("shop/api:1"), &*key]).output().unwrap();
            assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
            let place = format!("/sigs/{API}@sha256={}/signature-1", beside.hex());
            story.scene.registry.put_file(&place, std::fs::read(output).unwrap());
        },
        by_other: "by the OpenPGP key",
    },
];

/// What is refused at a pull, and what is not.
async fn is_pulled(story: &Story, client: &mut Client, way: &Way, image: &Image) -> String {
    let name = story.scene.name("shop/api:1");
    let listed = publish_listed(&story.scene.registry, image);
    let index = list(&[elsewhere(), entry(image)]);
    refused(client.pull(&name).await, "no signature exists");
    (way.sign)(story, THIEF, &index, &listed);
    refused(client.pull(&name).await, way.by_other);
    // True, and of another index, which does not list the image; beside the index and the manifest.
    let others = list(&[elsewhere()]);
    let words =
        format!("Signature for digest {} does not match", Digest::sha256(others.as_bytes()));
    for beside in [&listed, &image.digest()] {
        (way.sign)(story, DEV, &others, beside);
        refused(client.pull(&name).await, &words);
    }
    assert_eq!(story.scene.blobs_asked_of(image), [""; 0], "{}", way.name);
    assert_eq!(story.scene.daemon.stored(), [""; 0], "{}", way.name);
    (way.sign)(story, DEV, &index, &listed);
    let id = client.pull(&name).await.unwrap();
    let explained = story.scene.daemon.crio(&["verify", "-o", "json", &name]);
    let rows: Value = serde_json::from_slice(&explained.stdout).unwrap();
    let signed = &rows[0]["requirements"][0]["accepted"]["signed"];
    assert_eq!(*signed, json!({ "index": listed.to_string() }), "{}: {rows}", way.name);
    id
}

/// What is refused at a create, without network, and what is not.
async fn is_created(story: &mut Story, way: &Way, id: &str, other: &str) {
    let name = story.scene.name("shop/api:1");
    story.scene.registry.fail("/", Fault::Silence, usize::MAX);
    story.scene.daemon.restart().await;
    let mut client = story.scene.daemon.client().await;
    let asked = story.scene.registry.seen().len();
    create(&mut client, "again", id, &name).await.unwrap();
    story.demand(way, STRANGER);
    refused(create(&mut client, "by-another", id, &name).await, way.by_other);
    story.demand(way, DEV);
    // The evidence, index and all, put beside an image that the index does not list.
    let item = |of: &str| format!("storage/overlay-images/{of}/=Y3Jpb3hpZGUtZXZpZGVuY2U=");
    let kept = std::fs::read_to_string(story.scene.daemon.path(&item(id))).unwrap();
    story.scene.daemon.write(&item(other), &kept);
    let name = story.scene.name("shop/other:1");
    refused(create(&mut client, "moved", other, &name).await, "does not match");
    assert_eq!(story.scene.registry.seen().len(), asked, "{}", way.name);
}

#[test]
fn an_index_signed_by_anyone_counts_for_its_manifest_and_for_nothing_else() {
    if !host::can(&["root", "ip", "runc", "conmon", "skopeo", "gpg"]) {
        return;
    }
    net::in_own_network(|| async {
        for way in WAYS {
            let (mut story, mut client) = Story::of(&way).await;
            let signed = image(way.name);
            let id = is_pulled(&story, &mut client, &way, &signed).await;
            let other = image(&format!("unsigned beside {}", way.name));
            publish::image(&story.scene.registry, "shop/other:1", &other);
            story.scene.daemon.namespace_policy("lab", &anything());
            let name = story.scene.name("shop/other:1");
            let other = client.pull_as(&name, None, "lab").await.unwrap();
            is_created(&mut story, &way, &id, &other).await;
            story.scene.daemon.finish().await;
        }
    });
}
