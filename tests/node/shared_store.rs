//! One store, two masters: what the daemon pulls podman runs, and what podman, skopeo and buildah
//! put there the daemon lists, while it runs.

use std::time::Duration;

use crate::images;
use crate::images::Image;
use crate::images::Layer;
use crate::images::Tar;
use crate::publish;
use crate::support::client::Client;
use crate::support::daemon::Daemon;
use crate::support::host;
use crate::support::net;
use crate::test_registry::TestRegistry;

/// Tells a story of a daemon with a registry and an empty store, if this host can.
fn story<F: Future<Output = ()>>(story: impl FnOnce(Daemon, TestRegistry, Client) -> F + Send) {
    if !host::can(&["root", "ip", "runc", "conmon", "podman", "skopeo", "buildah"]) {
        return;
    }
    net::in_own_network(|| async {
        let registry = TestRegistry::start().await;
        let mut daemon = Daemon::new();
        daemon.registries(&publish::insecure(&[&registry]));
        daemon.start().await;
        let client = daemon.client().await;
        story(daemon, registry, client).await;
    });
}

/// An image that can run, with a file of its own.
fn runnable(text: &str) -> Image {
    let own = Tar::new().dir("data/", 0o755).file("data/text", 0o644, text.as_bytes());
    let layers = vec![Layer::gzip(images::busybox()), Layer::zstd(own.finish())];
    Image::new(layers, &["/bin/cat", "/data/text"])
}

/// The names of all images, as the daemon lists them.
async fn listed(client: &mut Client) -> Vec<String> {
    let images = client.images().await.unwrap();
    let mut names: Vec<_> = images.into_iter().flat_map(|image| image.repo_tags).collect();
    names.sort();
    names
}

/// Has podman run an image, and gives what it says. Its default limits need more than root has in
/// some places.
fn run(daemon: &Daemon, name: &str) -> String {
    let limits = ["--ulimit", "nofile=512:512", "--ulimit", "nproc=512:512"];
    let mut all = vec!["run", "--rm", "--network", "none", "--pull", "never"];
    all.extend(limits);
    all.push(name);
    daemon.podman(&all)
}

fn inspected(daemon: &Daemon, name: &str) -> serde_json::Value {
    let text = host::run("skopeo", &["inspect", &daemon.in_store(name)]);
    serde_json::from_str(&text).unwrap()
}

#[test]
fn what_the_daemon_pulls_the_other_tools_see_and_run() {
    story(|daemon, registry, mut client| async move {
        let image = runnable("pulled");
        let digest = publish::image(&registry, "shop/api:1", &image);
        let name = format!("{}/shop/api:1", registry.host());
        let id = client.pull(&name).await.unwrap();
        let told = daemon.podman(&["images", "--no-trunc", "--format", "{{.ID}} {{.Names}}"]);
        assert_eq!(told.trim(), format!("sha256:{id} [{name}]"));
        let seen = inspected(&daemon, &name);
        assert_eq!(seen["Digest"], digest.to_string());
        assert_eq!(seen["Layers"].as_array().unwrap().len(), 2);
        // Every byte of it can be given back: the layers are those that were pulled.
        let out = daemon.path("out");
        let to = format!("dir:{}", out.display());
        let copied = ["--insecure-policy", "copy", "-q", &daemon.in_store(&name), &to];
        host::run("skopeo", &copied);
        for layer in &image.layers {
            let bytes = std::fs::read(out.join(layer.diff_id().hex())).unwrap();
            assert!(bytes == layer.archive);
        }
        let said = run(&daemon, &name);
        assert_eq!(said, "pulled");
        // A container of podman's is none of the daemon's pods, and holds its image.
        daemon.podman(&["create", "--name", "holder", "--network", "none", &name]);
        assert!(client.containers().await.unwrap().is_empty());
        let held = client.remove_image(&name).await;
        assert!(held.is_err(), "an image that a container of podman's uses was removed");
        assert!(client.image(&name).await.unwrap().is_some());
        daemon.podman(&["rm", "holder"]);
        client.remove_image(&name).await.unwrap();
        assert_eq!(daemon.podman(&["images", "--quiet"]), "");
        daemon.finish().await;
    });
}

#[test]
fn what_other_tools_bring_and_take_is_listed_at_once() {
    story(|daemon, registry, mut client| async move {
        assert!(listed(&mut client).await.is_empty());
        let image = runnable("brought");
        image.write_dir(&daemon.path("image"));
        let brought = "example.test/brought:1";
        daemon.skopeo_copy("image", brought);
        assert_eq!(listed(&mut client).await, [brought]);
        let found = client.image(brought).await.unwrap().unwrap();
        assert_eq!(found.id, image.config_digest().hex());
        assert!(found.size > 1000);

        let built = "example.test/built:1";
        build(&daemon, brought, built);
        assert_eq!(listed(&mut client).await, [brought, built]);
        assert!(client.image(built).await.unwrap().is_some());

        daemon.podman(&["tag", brought, "example.test/tagged:1"]);
        assert!(client.image("example.test/tagged:1").await.unwrap().is_some());
        daemon.podman(&["untag", brought, "example.test/tagged:1"]);
        assert!(client.image("example.test/tagged:1").await.unwrap().is_none());

        // The layers that skopeo brought need not be pulled.
        publish::image(&registry, "shop/api:1", &image);
        let pulled = format!("{}/shop/api:1", registry.host());
        client.pull(&pulled).await.unwrap();
        for layer in &image.layers {
            assert!(registry.asked(&layer.digest().to_string()).is_empty());
        }
        daemon.podman(&["rmi", built]);
        assert_eq!(listed(&mut client).await, [&*pulled, brought]);
        daemon.podman(&["rmi", "--force", image.config_digest().hex()]);
        assert!(listed(&mut client).await.is_empty());
        assert!(client.image(brought).await.unwrap().is_none());
        client.pull(&pulled).await.unwrap();
        assert_eq!(run(&daemon, &pulled), "brought");
        daemon.finish().await;
    });
}

/// Has buildah put a file onto an image.
fn build(daemon: &Daemon, from: &str, name: &str) {
    let (root, run) = (daemon.path("storage"), daemon.path("storage-run"));
    let buildah = |arguments: &[&str]| {
        let mut all = vec!["--root", root.to_str().unwrap(), "--runroot", run.to_str().unwrap()];
        all.extend(["--storage-driver", "overlay"]);
        all.extend(arguments);
        host::run("buildah", &all)
    };
    daemon.write("more", "more");
    let working = buildah(&["from", "--pull-never", from]);
    let working = working.trim();
    buildah(&["copy", "-q", working, daemon.path("more").to_str().unwrap(), "/more"]);
    buildah(&["commit", "-q", "--rm", working, name]);
}

#[test]
fn an_image_that_skopeo_brought_runs_as_a_pod() {
    story(|daemon, _registry, mut client| async move {
        let image = runnable("from skopeo");
        image.write_dir(&daemon.path("image"));
        daemon.skopeo_copy("image", "example.test/brought:1");
        let pod = client.pod("brought");
        let pod_id = client.run_pod(&pod).await.unwrap();
        let config = client.container("cat", "example.test/brought:1", &[]);
        let id = client.run(&pod_id, &pod, &config).await.unwrap();
        assert_eq!(client.exited(&id).await.unwrap().exit_code, 0);
        assert!(client.log(&pod, &config).contains("from skopeo"));
        client.remove_pod(&pod_id).await.unwrap();
        daemon.finish().await;
    });
}

/// How often each side writes.
const ROUNDS: usize = 20;

#[test]
fn both_writing_at_once_corrupt_nothing() {
    story(|daemon, registry, client| async move {
        let base = Layer::gzip(images::busybox());
        let image = |text: String| {
            let own = Tar::new().file("own", 0o644, text.as_bytes()).finish();
            Image::new(vec![base.clone(), Layer::gzip(own)], &["/bin/cat", "/own"])
        };
        for round in 0..ROUNDS {
            let pulled = image(format!("pulled {round}"));
            publish::image(&registry, &format!("shop/api:{round}"), &pulled);
            image(format!("copied {round}")).write_dir(&daemon.path(&format!("image-{round}")));
        }
        let host = registry.host();
        let pulls = async {
            for round in 0..ROUNDS {
                let mut client = client.clone();
                client.pull(&format!("{host}/shop/api:{round}")).await.unwrap();
                client.images().await.unwrap();
                if round % 2 == 1 {
                    client.remove_image(&format!("{host}/shop/api:{round}")).await.unwrap();
                }
            }
        };
        let daemon = std::sync::Arc::new(daemon);
        let others = std::sync::Arc::clone(&daemon);
        let copies = tokio::task::spawn_blocking(move || {
            for round in 0..ROUNDS {
                let name = format!("example.test/copied:{round}");
                others.skopeo_copy(&format!("image-{round}"), &name);
                if round % 2 == 1 {
                    others.podman(&["rmi", &name]);
                }
            }
        });
        let (copied, ()) = tokio::join!(copies, pulls);
        copied.unwrap();
        // Both see the same, and all of it is whole.
        let mut client = client;
        let names = listed(&mut client).await;
        assert_eq!(names.len(), ROUNDS);
        let told = daemon.podman(&["images", "--format", "{{.Repository}}:{{.Tag}}"]);
        let mut told: Vec<_> = told.lines().map(str::to_owned).collect();
        told.sort();
        assert_eq!(told, names);
        for name in [format!("{host}/shop/api:0"), "example.test/copied:18".to_owned()] {
            let to = format!("dir:{}", daemon.path("out").display());
            host::run("skopeo", &["--insecure-policy", "copy", "-q", &daemon.in_store(&name), &to]);
            let said = run(&daemon, &name);
            assert!(said.starts_with("pulled 0") || said.starts_with("copied 18"), "{said}");
        }
        for name in names {
            client.remove_image(&name).await.unwrap();
        }
        let gone = || daemon.podman(&["images", "--quiet"]).is_empty();
        host::eventually("an empty store", Duration::from_secs(5), gone);
        daemon.holds_nothing();
        let Ok(daemon) = std::sync::Arc::try_unwrap(daemon) else { panic!("still in use") };
        daemon.finish().await;
    });
}
