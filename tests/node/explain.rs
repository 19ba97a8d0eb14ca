//! Why something may run or not, and the account of it, told to the whole program: what the commands
//! say, what is on record, and what a policy does that is only tried.

use std::path::Path;
use std::process::Output;

use crioxide::cri::api;
use serde_json::Value;
use serde_json::json;

use crate::events;
use crate::policy::Scene;
use crate::policy::anything;
use crate::policy::can;
use crate::policy::image;
use crate::policy::only;
use crate::publish;
use crate::scene;
use crate::support::client::Client;
use crate::support::daemon::Daemon;
use crate::support::net;

/// What a command that prints JSON prints.
#[track_caller]
fn json_of(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    let said = String::from_utf8_lossy(&output.stderr);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text} {said}"))
}

#[track_caller]
fn text_of(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The records of this event.
fn of<'a>(records: &'a [Value], event: &str, mode: &str) -> Vec<&'a Value> {
    records.iter().filter(|line| line["event"] == event && line["mode"] == mode).collect()
}

/// Says that a record has these members.
#[track_caller]
fn says(record: &Value, members: &[(&str, &str)]) {
    for (name, text) in members {
        assert_eq!(record[name], *text, "{name}: {record}");
    }
}

/// An image with busybox, signed by the scene's key.
fn signed_busybox(scene: &Scene, name: &str) {
    let image = scene::busybox(json!({"Env": ["PATH=/bin"]}));
    let digest = publish::image(&scene.registry, name, &image);
    let repository = name.split_once(':').unwrap().0;
    let signed_name = scene.name(repository);
    publish::sign_at_tag(&scene.registry, repository, &digest, &scene.key, &signed_name);
}

/// Makes a container of an image, as the kubelet does: by the ID that the pull gave.
async fn create(client: &mut Client, pod: &str, name: &str) -> Result<String, tonic::Status> {
    let config = client.pod(pod);
    let id = client.run_pod(&config).await?;
    let found = client.image(name).await?.expect("the image was pulled");
    let mut container = client.container("web", &found.id, &["/bin/sleep", "1"]);
    if let Some(image) = container.image.as_mut() {
        name.clone_into(&mut image.user_specified_image);
    }
    let created = client.create(&id, &config, &container).await;
    if created.is_err() {
        client.remove_pod(&id).await?;
    }
    created
}

#[test]
fn verify_says_what_a_pull_would_and_touches_nothing() {
    if !can() {
        return;
    }
    net::in_own_network(|| async {
        let scene = Scene::strict("matchRepository").await;
        signed_busybox(&scene, "shop/api:1");
        let unsigned = image("unsigned, to be explained");
        publish::image(&scene.registry, "shop/raw:1", &unsigned);
        let [good, bad, none] =
            ["shop/api:1", "shop/raw:1", "shop/none:1"].map(|it| scene.name(it));

        let all = scene.daemon.crio(&["verify", "-o", "json", &good, &bad, &none]);
        assert_eq!(all.status.code(), Some(2));
        let rows = json_of(&all);
        let key = scene.daemon.path("cosign.pub").display().to_string();
        assert_eq!(rows[0]["verdict"], "allowed", "{rows}");
        assert_eq!(rows[0]["scope"], scene.registry.host());
        assert_eq!(rows[0]["policy"], scene.daemon.path("policy.json").display().to_string());
        assert_eq!(rows[0]["requirements"][0]["accepted"]["signer"]["key"], key, "{rows}");
        assert_eq!(rows[1]["verdict"], "refused");
        let reason = rows[1]["requirements"][0]["rejected"].to_string();
        assert!(reason.contains("no signature exists"), "{rows}");
        assert_eq!(rows[2]["verdict"], "unknown");
        assert!(rows[2]["error"].as_str().unwrap().contains("shop/none"), "{rows}");

        for (name, code, words) in [(&good, 0, "allowed"), (&bad, 1, "no signature exists")] {
            let one = scene.daemon.crio(&["verify", name]);
            let text = text_of(&one);
            assert_eq!(one.status.code(), Some(code), "{text}");
            assert!(text.contains(words) && text.contains("sha256:"), "{text}");
        }
        // Another policy, that of a namespace, and none.
        scene.daemon.write("open.json", &anything().to_string());
        let open = scene.daemon.path("open.json").display().to_string();
        let asked = scene.daemon.crio(&["verify", "--policy", &open, &bad]);
        assert_eq!(asked.status.code(), Some(0), "{}", text_of(&asked));
        scene.daemon.namespace_policy("lab", &anything());
        let asked = scene.daemon.crio(&["verify", "--namespace", "lab", &bad]);
        assert_eq!(asked.status.code(), Some(0), "{}", text_of(&asked));
        for wrong in [vec!["verify"], vec!["verify", "--policy", "/nowhere/policy.json", &good]] {
            assert_eq!(scene.daemon.crio(&wrong).status.code(), Some(2), "{wrong:?}");
        }
        // No config, no layer, no store and no record.
        assert_eq!(scene.blobs_asked_of(&unsigned), [""; 0]);
        assert!(!scene.daemon.path("storage").exists() && !scene.daemon.path("audit.log").exists());
    });
}

#[test]
fn a_policy_to_come_is_asked_for_a_namespace() {
    if !can() {
        return;
    }
    net::in_own_network(|| async {
        let scene = Scene::strict("matchRepository").await;
        let unsigned = image("unsigned, for a namespace");
        publish::image(&scene.registry, "shop/raw:1", &unsigned);
        let image = scene.name("shop/raw:1");
        let ask = |policy: &str, namespace: &[&str]| {
            let policy = scene.daemon.path(policy).display().to_string();
            let command = ["verify", "-o", "json", "--policy", &policy, &image];
            scene.daemon.crio(&[&command[..], namespace].concat())
        };
        let nothing = json!({ "default": [{ "type": "reject" }] });
        scene.daemon.namespace_policy("lab", &nothing);
        std::fs::create_dir(scene.daemon.path("next")).unwrap();
        scene.daemon.write("next/lab.json", &anything().to_string());
        // The file is judged, whatever the node has for the namespace.
        let asked = ask("next/lab.json", &["--namespace", "lab"]);
        assert_eq!(asked.status.code(), Some(0), "{}", text_of(&asked));
        let rows = json_of(&asked);
        assert_eq!(rows[0]["namespace"], "lab", "{rows}");
        let file = scene.daemon.path("next/lab.json").display().to_string();
        assert_eq!(rows[0]["policy"], file, "{rows}");
        // Of a directory the namespace's file, and the node's policy where it has none.
        for (namespace, code, policy) in [("lab", 0, "next/lab.json"), ("shop", 1, "policy.json")] {
            let asked = ask("next", &["--namespace", namespace]);
            assert_eq!(asked.status.code(), Some(code), "{}", text_of(&asked));
            let policy = scene.daemon.path(policy).display().to_string();
            assert_eq!(json_of(&asked)[0]["policy"], policy, "{namespace}");
        }
        let shown = scene.daemon.crio(&["verify", "--policy", &file, "--namespace", "x", &image]);
        assert!(text_of(&shown).contains("namespace: x\n"), "{}", text_of(&shown));
        for (policy, namespace, words) in [
            ("next", &[][..], "is a directory of policies; say with --namespace which"),
            ("next", &["--namespace", "../next/lab"], "is not a DNS label"),
            ("next/lab.json", &["--namespace", "../lab"], "is not a DNS label"),
        ] {
            let asked = ask(policy, namespace);
            assert_eq!(asked.status.code(), Some(2), "{policy} {namespace:?}");
            let said = format!("{}{}", text_of(&asked), String::from_utf8_lossy(&asked.stderr));
            assert!(said.contains(words), "{said}");
        }
    });
}

#[test]
fn every_pull_and_create_is_on_record_with_who_what_and_why() {
    if !can() {
        return;
    }
    net::in_own_network(|| async {
        let (scene, mut client) = Scene::started("matchRepository").await;
        signed_busybox(&scene, "shop/api:1");
        let unsigned = image("unsigned, to be recorded");
        publish::image(&scene.registry, "shop/raw:1", &unsigned);
        let [good, bad] = ["shop/api:1", "shop/raw:1"].map(|it| scene.name(it));
        client.pull(&bad).await.unwrap_err();
        let id = client.pull(&good).await.unwrap();
        let web = create(&mut client, "web-0", &good).await.unwrap();
        let asked = api::ContainerStatusRequest { container_id: web, verbose: true };
        let told = client.runtime.container_status(asked).await.unwrap().into_inner();
        assert!(told.info["info"].contains("signature by the key in"), "{told:?}");
        // Someone takes the trust away.
        scene.demand(&json!({}));
        let refused = create(&mut client, "web-1", &good).await.unwrap_err();
        assert!(refused.message().starts_with("SignatureValidationFailed: "), "{refused}");
        scene.daemon.policy(&anything());
        create(&mut client, "web-2", &good).await.unwrap();

        let records = scene.daemon.audit();
        let pulls = of(&records, "pull", "enforce");
        let creates = of(&records, "create", "enforce");
        assert_eq!((pulls.len(), creates.len(), records.len()), (2, 3, 5), "{records:#?}");
        let digest = unsigned.digest().to_string();
        let said = [("verdict", "refused"), ("cause", "no_signature"), ("digest", &digest)];
        says(pulls[0], &[&said[..], &[("image", &bad)]].concat());
        let reason = pulls[0]["reason"].as_str().unwrap();
        assert!(reason.contains("A signature was required"), "{reason}");
        let allowed = creates[0];
        says(allowed, &[("verdict", "allowed"), ("image_id", &id), ("namespace", "default")]);
        says(allowed, &[("pod", "web-0"), ("pod_uid", "web-0-uid"), ("container", "web")]);
        says(allowed, &[("image", &good), ("reference", &good), ("scope", &scene.registry.host())]);
        let key = scene.daemon.path("cosign.pub").display().to_string();
        assert!(allowed["signers"][0].as_str().unwrap().contains(&key), "{allowed}");
        assert!(allowed["policy_digest"].as_str().unwrap().starts_with("sha256:"), "{allowed}");
        says(creates[1], &[("verdict", "refused"), ("cause", "rejected")]);
        says(creates[2], &[("verdict", "allowed"), ("cause", "unchecked")]);
        assert_ne!(creates[0]["policy_digest"], creates[1]["policy_digest"]);
        let times: Vec<&str> = records.iter().map(|line| line["time"].as_str().unwrap()).collect();
        assert!(times.is_sorted() && times.iter().all(|time| time.len() == 30), "{times:?}");
        remove_pods(&mut client).await;
        scene.daemon.finish().await;
    });
}

async fn remove_pods(client: &mut Client) {
    for pod in client.pods().await.unwrap() {
        client.remove_pod(&pod.id).await.unwrap();
    }
}

#[test]
fn what_must_be_on_record_and_cannot_be_does_not_happen() {
    if !can() {
        return;
    }
    net::in_own_network(|| async {
        let mut scene = Scene::strict("matchRepository").await;
        signed_busybox(&scene, "shop/api:1");
        let good = scene.name("shop/api:1");
        scene.daemon.config("[crio.audit]\naudit_required = true\n");
        scene.daemon.start().await;
        let mut client = scene.daemon.client().await;
        // Someone wants no witness: the file becomes a link to where nothing is kept.
        std::fs::remove_file(scene.daemon.path("audit.log")).unwrap();
        std::os::unix::fs::symlink("/dev/null", scene.daemon.path("audit.log")).unwrap();
        let refused = client.pull(&good).await.unwrap_err();
        assert!(refused.message().contains("audit_required"), "{refused}");
        scene.daemon.holds_nothing();
        std::fs::remove_file(scene.daemon.path("audit.log")).unwrap();
        client.pull(&good).await.unwrap();
        assert_eq!(scene.daemon.audit().len(), 1);
        assert!(scene.daemon.log().contains("no audit record"));
        // And a daemon does not start so.
        scene.daemon.stop().await;
        std::fs::remove_file(scene.daemon.path("audit.log")).unwrap();
        std::fs::create_dir(scene.daemon.path("audit.log")).unwrap();
        scene.daemon.try_start().await.unwrap_err();
        assert!(scene.daemon.log().contains("cannot write the audit record"));
        scene.daemon.finish().await;
    });
}

/// `crio status info` names the policy that holds, the one that is tried, and what is warned of.
#[track_caller]
fn status_says_what_is_tried(daemon: &Daemon) {
    let socket = daemon.path("crio.sock").display().to_string();
    let status = text_of(&daemon.crio(&["status", "--socket", &socket, "info"]));
    let [now, next] = ["policy.json", "next.json"].map(|name| daemon.path(name));
    for line in [
        format!("policy: {}\n", now.display()),
        format!("policy tried in a dry run: {}\n", next.display()),
        format!("warning: the policy {} accepts any image by default", now.display()),
    ] {
        assert!(status.contains(&line), "{line} in\n{status}");
    }
}

#[test]
fn a_policy_that_is_tried_refuses_nothing_and_says_what_it_would() {
    if !can() {
        return;
    }
    net::in_own_network(|| async {
        let mut scene = Scene::strict("matchRepository").await;
        let raw = scene::busybox(json!({"Env": ["PATH=/bin", "RAW=1"]}));
        publish::image(&scene.registry, "shop/raw:1", &raw);
        signed_busybox(&scene, "shop/api:1");
        let [good, bad] = ["shop/api:1", "shop/raw:1"].map(|it| scene.name(it));
        let strict = std::fs::read_to_string(scene.daemon.path("policy.json")).unwrap();
        scene.daemon.write("next.json", &strict);
        scene.daemon.policy(&anything());
        scene.daemon.config(&format!(
            "[crio.image]\nsignature_policy_dry_run = {:?}\n\
             [crio.metrics]\nenable_metrics = true\nmetrics_port = 19091\nmetrics_socket = {:?}\n",
            scene.daemon.path("next.json"),
            scene.daemon.path("metrics.sock"),
        ));
        scene.daemon.start().await;
        let mut client = scene.daemon.client().await;
        client.pull(&good).await.unwrap();
        client.pull(&bad).await.unwrap();
        create(&mut client, "web-0", &bad).await.unwrap();
        let records = scene.daemon.audit();
        let tried = of(&records, "pull", "dry-run");
        assert_eq!(tried.len(), 2, "{records:#?}");
        assert_eq!(
            (&tried[0]["verdict"], &tried[1]["verdict"]),
            (&"allowed".into(), &"refused".into())
        );
        assert_eq!(tried[1]["policy"], scene.daemon.path("next.json").display().to_string());
        // The evidence was kept, so the create knows the same without network.
        assert_eq!(of(&records, "create", "dry-run")[0]["cause"], "no_signature");
        assert!(of(&records, "create", "enforce").iter().all(|line| line["verdict"] == "allowed"));
        // It is said wherever somebody looks.
        assert!(scene.daemon.log().contains("is tried in a dry run"), "at the start");
        let request = api::StatusRequest { verbose: true };
        let info = client.runtime.status(request).await.unwrap().into_inner().info;
        assert!(info["config"].contains("next.json"), "{info:?}");
        status_says_what_is_tried(&scene.daemon);
        let socket = std::os::unix::net::UnixStream::connect(scene.daemon.path("metrics.sock"));
        let metrics = events::scrape(socket.unwrap());
        for line in [
            "container_runtime_crio_policy_dry_run 1",
            "policy_verdicts_total{event=\"pull\",mode=\"dry-run\",cause=\"no_signature\"} 1",
            "policy_verdicts_total{event=\"create\",mode=\"enforce\",cause=\"unchecked\"} 1",
            "policy_verification_seconds_count{event=\"pull\"} 2",
        ] {
            assert!(metrics.contains(line), "{line} in\n{metrics}");
        }
        // A policy that is tried and broken, or a registry that cannot say, stops nothing either.
        scene.daemon.write("next.json", "{");
        create(&mut client, "web-1", &good).await.unwrap();
        let records = scene.daemon.audit();
        let last = of(&records, "create", "dry-run").last().unwrap()["cause"].clone();
        assert_eq!(last, "policy_unusable");
        // The same policy, in force.
        scene.daemon.policy(&serde_json::from_str(&strict).unwrap());
        let refused = create(&mut client, "web-2", &bad).await.unwrap_err();
        assert!(refused.message().contains("no signature exists"), "{refused}");
        remove_pods(&mut client).await;
        scene.daemon.finish().await;
    });
}

#[test]
fn evidence_shows_what_is_kept_and_leaves_the_store_as_it_is() {
    if !can() {
        return;
    }
    net::in_own_network(|| async {
        let (scene, mut client) = Scene::started("matchRepository").await;
        signed_busybox(&scene, "shop/api:1");
        let name = scene.name("shop/api:1");
        let id = client.pull(&name).await.unwrap();
        let index = scene.daemon.path("storage/overlay-images/images.json");
        let before = std::fs::metadata(&index).unwrap().modified().unwrap();
        for wanted in [&name, &id, &id[..12]] {
            let found = json_of(&scene.daemon.crio(&["evidence", "-o", "json", wanted]));
            assert_eq!(found["id"], id);
            let item = &found["evidence"][0];
            assert_eq!(
                (&item["kind"], &item["reference"]),
                (&"cosign signature".into(), &scene.name("shop/api").into())
            );
            assert_eq!(item["subject"], found["manifests"][0]);
        }
        let image = Some(api::ImageSpec { image: name.clone(), ..Default::default() });
        let asked = api::ImageStatusRequest { image, verbose: true };
        let told = client.image.image_status(asked).await.unwrap().into_inner();
        assert!(told.info["info"].contains("cosign signature"), "{told:?}");
        let text = text_of(&scene.daemon.crio(&["evidence", &name]));
        assert!(text.contains("cosign signature") && text.contains("under the name"), "{text}");
        assert_eq!(scene.daemon.crio(&["evidence", "q.io/none"]).status.code(), Some(1));
        assert_eq!(std::fs::metadata(&index).unwrap().modified().unwrap(), before);
        scene.daemon.finish().await;
        // Where there is no store, none is made.
        let empty = Daemon::new();
        assert_eq!(empty.crio(&["evidence", "a"]).status.code(), Some(1));
        assert!(!empty.path("storage").exists());
    });
}

#[test]
fn a_policy_is_checked_before_it_is_put_in_place() {
    let daemon = Daemon::new();
    let file = daemon.path("draft.json").display().to_string();
    daemon.write(
        "draft.json",
        "{\"default\": [{\"type\": \"rejekt\"}],\n \"transports\": {\"docker\": {\n  \
         \"q.io\": [],\n  \"q.io/a\": [{\"type\": \"reject\", \"why\": 1}]}}}",
    );
    let checked = daemon.crio(&["policy", "check", &file]);
    let text = text_of(&checked);
    assert_eq!(checked.status.code(), Some(1), "{text}");
    for words in
        ["line 1 column", "rejekt", "line 3 column", "must not be empty", "line 4 column", "why"]
    {
        assert!(text.contains(words), "{words} in {text}");
    }
    daemon.write("draft.json", "{\"default\": [{\"type\": \"rejekt\"}]}");
    let text = text_of(&daemon.crio(&["policy", "check", &file]));
    assert!(text.contains("mistake:") && !text.contains("no mistake"), "one alone: {text}");
    let policy = only(&json!({
        "https://q.io": [{"type": "reject"}],
        "q.io/a": [{"type": "sigstoreSigned", "keyPath": "/nowhere/key.pub",
                    "signedIdentity": {"type": "matchRepository"}}],
    }));
    daemon.write("draft.json", &policy.to_string());
    let checked = daemon.crio(&["policy", "check", "-o", "json", &file, "q.io/a/b:1", "busybox"]);
    let found = json_of(&checked);
    assert_eq!(checked.status.code(), Some(0), "{found}");
    let warnings = found["warnings"].to_string();
    assert!(
        warnings.contains("/nowhere/key.pub") && warnings.contains("no image has it"),
        "{found}"
    );
    assert_eq!(
        (&found["images"][0]["scope"], &found["images"][1]["scope"]),
        (&"q.io/a".into(), &"default".into())
    );
    assert_eq!(found["images"][1]["image"], "docker.io/library/busybox:latest");
    for (file, words) in [("/nowhere", "cannot read /nowhere"), ("/", "not a regular file")] {
        let checked = daemon.crio(&["policy", "check", file]);
        let said = String::from_utf8_lossy(&checked.stderr).into_owned();
        assert!(checked.status.code() == Some(2) && said.contains(words), "{file}: {said}");
    }

    daemon.namespace_policy("shop", &policy);
    let shown = text_of(&daemon.crio(&["policy", "show", "--namespace", "shop"]));
    assert!(shown.contains("shop.json") && shown.contains("a sigstore signature"), "{shown}");
    daemon.config("[crio.image]\nsignature_polcy = \"/etc/crio/strict.json\"\n");
    let output = daemon.crio(&["policy", "show"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("is it crio.image.signature_policy?"), "{said}");
    let shown = text_of(&output);
    assert!(shown.contains("policy.json") && shown.contains("anything is accepted"), "{shown}");
}

#[test]
fn every_shipped_policy_passes_the_check() {
    let daemon = Daemon::new();
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("policy");
    let mut seen = 0;
    for below in ["", "examples", "examples/per-namespace"] {
        for entry in std::fs::read_dir(shipped.join(below)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let file = path.display().to_string();
            let checked = daemon.crio(&["policy", "check", "-o", "json", &file]);
            let found = json_of(&checked);
            assert_eq!(checked.status.code(), Some(0), "{file}: {found}");
            // What is warned of are the keys, which a node does not have before somebody puts them there.
            for warning in found["warnings"].as_array().into_iter().flatten() {
                let words = warning.as_str().unwrap();
                let open = path.ends_with("kubernetes-signed.json") && words.contains("default");
                assert!(words.contains("No such file") || open, "{file}: {words}");
            }
            seen += 1;
        }
    }
    assert!(seen >= 14, "{seen}");
}

#[test]
fn a_bundle_is_judged_by_itself() {
    let daemon = Daemon::new();
    let data = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/signature/standalone");
    let at = |name: &str| format!("{data}/{name}");
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/policy/trust/sigstore-public-good.json");
    let (key, artifact) = (at("key.pub"), at("artifact.txt"));
    let by_key = ["verify", "--bundle", &at("key.json"), "--trusted-root", root, "--key", &key];
    let ask = |more: &[&str]| daemon.crio(&[&by_key[..], more].concat());
    let good = ask(&[&artifact]);
    assert_eq!(good.status.code(), Some(0), "{}", text_of(&good));
    assert!(text_of(&good).contains("log index"), "{}", text_of(&good));
    let bad = ask(&["-o", "json", &key]);
    assert_eq!((bad.status.code(), &json_of(&bad)["verdict"]), (Some(1), &"refused".into()));
    assert_eq!(ask(&[&artifact, &artifact]).status.code(), Some(2));
    assert_eq!(ask(&["/nowhere"]).status.code(), Some(2));
    // What cannot be read is not refused: nothing was found out.
    assert_eq!(ask(&["/"]).status.code(), Some(2));
    let judged = |bundle: &str, root: &str| {
        let asked =
            ["verify", "--bundle", bundle, "--trusted-root", root, "--key", &key, &artifact];
        let output = daemon.crio(&asked);
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, said) = judged("/dev/zero", root);
    assert!(code == Some(2) && said.contains("larger than"), "{said}");
    let (code, said) = judged(&at("key.json"), &at("key.json"));
    assert!(code == Some(2) && said.contains("not that of a sigstore trusted root"), "{said}");

    let digest = "sha256:54303491a8418fbed24344b513546182c29b43bf282ceb433af65e2299f9271f";
    let identity = "https://github.com/prefix-dev/sigstore-example/.github/workflows/action.yaml\
                    @refs/heads/main";
    let issuer = "https://token.actions.githubusercontent.com";
    let keyless = |identity: &str| {
        let bundle = at("keyless.json");
        let mut asked = vec!["verify", "--bundle", &bundle, "--trusted-root", root];
        asked.extend(["--identity", identity, "--issuer", issuer, "-o", "json", digest]);
        daemon.crio(&asked)
    };
    let good = keyless(identity);
    assert_eq!((good.status.code(), &json_of(&good)["identity"]), (Some(0), &identity.into()));
    assert_eq!(keyless("https://github.com/thief/workflow").status.code(), Some(1));
    // Nobody in particular is nobody.
    let anyone = ["verify", "--bundle", &at("key.json"), "--trusted-root", root, &artifact];
    assert_eq!(daemon.crio(&anyone).status.code(), Some(2));
}
