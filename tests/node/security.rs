//! Rights that are asked for, and images that lie about who is who.

use crioxide::cri::api;
use crioxide::cri::api::NamespaceMode;
use serde_json::json;
use tonic::Code;

use crate::images::Entry;
use crate::images::Image;
use crate::images::Layer;
use crate::images::Tar;
use crate::scene;
use crate::scene::IMAGE;
use crate::scene::refused;
use crate::scene::said;
use crate::scene::script;
use crate::support::client::Client;

fn security(container: &mut api::ContainerConfig) -> &mut api::LinuxContainerSecurityContext {
    container.linux.as_mut().unwrap().security_context.get_or_insert_default()
}

/// The capability sets of a container's first process, as the node sees them.
async fn sets_of(client: &mut Client, id: &str) -> String {
    let pid = scene::pid_of(client, id).await;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let sets = status.lines().filter(|line| line.starts_with("Cap"));
    sets.fold(String::from("\n"), |text, line| text + line + "\n")
}

/// The number of `CAP_NET_BIND_SERVICE`.
const NET_BIND_SERVICE: u64 = 10;

#[test]
fn a_user_keeps_an_ambient_capability_and_no_other() {
    scene::story(&[], |daemon, mut client| async move {
        let pod = client.pod("shop");
        let pod_id = client.run_pod(&pod).await.unwrap();
        let mut bind = script(&client, "bind", "sleep 600");
        let asked = security(&mut bind);
        asked.run_as_user = Some(api::Int64Value { value: 1234 });
        asked.capabilities = Some(api::Capability {
            add_capabilities: vec!["NET_BIND_SERVICE".into()],
            drop_capabilities: vec!["ALL".into()],
            add_ambient_capabilities: vec!["NET_BIND_SERVICE".into()],
        });
        let id = client.run(&pod_id, &pod, &bind).await.unwrap();
        let sets = said(&mut client, &id, "grep ^Cap /proc/self/status").await
            + &sets_of(&mut client, &id).await;
        assert_eq!(sets.matches("Cap").count(), 10, "{sets}");
        for line in sets.lines().filter(|line| !line.is_empty()) {
            let set = u64::from_str_radix(line.split_whitespace().last().unwrap(), 16).unwrap();
            assert_eq!(set, 1 << NET_BIND_SERVICE, "{line}");
        }
        let mut lacking = bind.clone();
        lacking.metadata.as_mut().unwrap().name = "lacking".into();
        security(&mut lacking).capabilities.as_mut().unwrap().add_ambient_capabilities =
            vec!["KILL".into()];
        let told = refused(client.create(&pod_id, &pod, &lacking).await, Code::InvalidArgument);
        assert!(told.contains("KILL"), "{told}");
        client.remove_pod(&pod_id).await.unwrap();
        daemon
    });
}

#[test]
fn no_capability_is_had_where_the_node_gives_none() {
    scene::prepared(
        &[],
        |daemon| daemon.config("[crio.runtime]\ndefault_capabilities = []\nread_only = true\n"),
        |daemon, mut client| async move {
            let pod = client.pod("shop");
            let pod_id = client.run_pod(&pod).await.unwrap();
            let plain = script(&client, "plain", "sleep 600");
            let id = client.run(&pod_id, &pod, &plain).await.unwrap();
            let sets = sets_of(&mut client, &id).await;
            assert_eq!(sets.matches("\t0000000000000000\n").count(), 5, "{sets}");
            let written = "(echo x > /data/x) 2>/dev/null && echo written; echo x > /tmp/x";
            assert_eq!(said(&mut client, &id, written).await, "");
            client.remove_pod(&pod_id).await.unwrap();
            daemon
        },
    );
}

#[test]
fn processes_are_shown_to_a_debugger_of_the_same_pod_only() {
    scene::story(&[], |daemon, mut client| async move {
        let own =
            api::NamespaceOption { pid: NamespaceMode::Container.into(), ..Default::default() };
        let (shop, bank) = (client.pod("shop"), client.pod("bank"));
        let shop_id = client.run_pod(&shop).await.unwrap();
        let bank_id = client.run_pod(&bank).await.unwrap();
        let mut victim = script(&client, "victim", "sleep 600");
        security(&mut victim).namespace_options = Some(own);
        let victim_id = client.run(&bank_id, &bank, &victim).await.unwrap();
        let mut debugger = script(&client, "debugger", "sleep 600");
        security(&mut debugger).namespace_options = Some(api::NamespaceOption {
            pid: NamespaceMode::Target.into(),
            target_id: victim_id.clone(),
            ..Default::default()
        });
        let told = refused(client.create(&shop_id, &shop, &debugger).await, Code::InvalidArgument);
        assert!(told.contains("is not in sandbox"), "{told}");
        let id = client.run(&bank_id, &bank, &debugger).await.unwrap();
        let link = "readlink /proc/self/ns/pid";
        assert_eq!(said(&mut client, &id, link).await, said(&mut client, &victim_id, link).await);
        assert_eq!(said(&mut client, &id, "tr '\\0' ' ' < /proc/1/cmdline").await, "sleep 600");

        client.stop(&victim_id, 0).await.unwrap();
        debugger.metadata.as_mut().unwrap().attempt = 1;
        refused(client.create(&bank_id, &bank, &debugger).await, Code::FailedPrecondition);
        client.remove_pod(&shop_id).await.unwrap();
        client.remove_pod(&bank_id).await.unwrap();
        daemon
    });
}

#[test]
fn a_control_character_adds_no_user_cve_2022_4318_cve_2026_15809() {
    scene::story(&[], |daemon, mut client| async move {
        let passwd = Tar::new().dir("etc/", 0o755).file("etc/passwd", 0o644, b"root:x:0:0::/:\n");
        let layers = vec![
            Layer::plain(crate::images::busybox()),
            Layer::plain(Tar::new().link("bin/cat", "busybox").finish()),
            Layer::plain(passwd.finish()),
        ];
        let image = Image::with_config(layers, &json!({"Env": ["PATH=/bin"]}));
        scene::bring(&daemon, "example.test/passwd:1", &image);
        let pod = client.pod("shop");
        let pod_id = client.run_pod(&pod).await.unwrap();
        let before = scene::kept(&daemon);
        let sleep = ["/bin/sh", "-c", "sleep 600"];
        let mut container = client.container("home", "example.test/passwd:1", &sleep);
        security(&mut container).run_as_user = Some(api::Int64Value { value: 1234 });
        for byte in ['\n', '\r', '\t', '\u{b}', '\u{c}', '\u{1b}', '\u{7f}', '\u{85}', '\u{9b}'] {
            let value = format!("/x{byte}evil:x:0:0::/:/bin/sh");
            container.envs = vec![api::KeyValue { key: "HOME".into(), value: value.into_bytes() }];
            let told =
                refused(client.create(&pod_id, &pod, &container).await, Code::InvalidArgument);
            assert!(told.contains("HOME") && !told.contains('\n'), "{byte:?}: {told}");
        }
        for name in ["a\nevil:x:0:0", "a\revil", "a:b:c", "1234\n"] {
            let mut named = client.container("named", "example.test/passwd:1", &sleep);
            security(&mut named).run_as_username = name.into();
            assert!(client.create(&pod_id, &pod, &named).await.is_err(), "{name:?}");
        }
        scene::unchanged(&daemon, &before, "refused users").await;
        // What separates fields and not lines stays out of the file and in the environment.
        container.envs = vec![api::KeyValue { key: "HOME".into(), value: b"/x:0:0".to_vec() }];
        let id = client.run(&pod_id, &pod, &container).await.unwrap();
        let found = said(&mut client, &id, "cat /etc/passwd; echo $HOME").await;
        let expected = "root:x:0:0::/:\n1234:x:1234:0:1234 user:/:/sbin/nologin\n/x:0:0";
        assert_eq!(found, expected);
        client.remove_pod(&pod_id).await.unwrap();
        daemon
    });
}

#[test]
fn account_files_that_are_no_files_neither_hang_nor_lead_to_the_node() {
    scene::story(&[], |daemon, mut client| async move {
        let base = || {
            let links =
                ["cat", "id", "sleep"].iter().fold(Tar::new().dir("etc/", 0o755), |tar, name| {
                    tar.link(&format!("bin/{name}"), "busybox")
                });
            vec![Layer::plain(crate::images::busybox()), Layer::plain(links.finish())]
        };
        let fifo = |path: &[u8]| {
            let entry = Entry { path, mode: 0o644, kind: b'6', ..Entry::default() };
            Tar::new().entry(&entry).finish()
        };
        let huge = vec![b'a'; 3 << 20];
        let hostile = [
            ("fifo", fifo(b"etc/passwd")),
            ("group-fifo", fifo(b"etc/group")),
            ("huge", Tar::new().file("etc/passwd", 0o644, &huge).finish()),
            ("huge-group", Tar::new().file("etc/group", 0o644, &huge).finish()),
            ("directory", Tar::new().dir("etc/passwd/", 0o755).finish()),
            ("magic", Tar::new().link("etc/passwd", "/proc/self/environ").finish()),
        ];
        let pod = client.pod("shop");
        let pod_id = client.run_pod(&pod).await.unwrap();
        let before = scene::kept(&daemon);
        for (name, archive) in hostile {
            let mut layers = base();
            layers.push(Layer::plain(archive));
            let reference = format!("example.test/{name}:1");
            scene::bring(&daemon, &reference, &Image::with_config(layers, &json!({"User": "web"})));
            let container = client.container(name, &reference, &["/bin/sleep", "600"]);
            let answer = client.create(&pod_id, &pod, &container);
            let answer = tokio::time::timeout(std::time::Duration::from_secs(60), answer).await;
            let told = refused(answer.expect(name), Code::InvalidArgument);
            assert!(name == "magic" || told.contains("the image's /etc/"), "{name}: {told}");
            scene::unchanged(&daemon, &before, name).await;
        }
        // A link to a file that only the node has leads to nothing: it ends at the image's root.
        daemon.write("secret", "web:x:77:77::/:\n");
        let secret = daemon.path("secret").display().to_string();
        let up = format!("../../../../../../../..{secret}");
        for (name, target) in [("absolute", &secret), ("upwards", &up)] {
            let mut layers = base();
            layers.push(Layer::plain(Tar::new().link("etc/passwd", target).finish()));
            let reference = format!("example.test/{name}:1");
            scene::bring(&daemon, &reference, &Image::with_config(layers, &json!({"User": "web"})));
            let container = client.container(name, &reference, &["/bin/sleep", "600"]);
            let told =
                refused(client.create(&pod_id, &pod, &container).await, Code::InvalidArgument);
            assert!(told.contains("web"), "{told}");
        }
        client.remove_pod(&pod_id).await.unwrap();
        daemon
    });
}

#[test]
fn a_privileged_container_sees_devices_that_came_after_the_daemon() {
    scene::story(&[], |daemon, mut client| async move {
        let mut pod = client.pod("shop");
        pod.linux.as_mut().unwrap().security_context =
            Some(api::LinuxSandboxSecurityContext { privileged: true, ..Default::default() });
        let pod_id = client.run_pod(&pod).await.unwrap();
        let path = format!("/dev/{}", daemon.token());
        let null = nix::sys::stat::makedev(1, 3);
        let (kind, mode) = (nix::sys::stat::SFlag::S_IFCHR, nix::sys::stat::Mode::S_IRUSR);
        nix::sys::stat::mknod(path.as_str(), kind, mode, null).unwrap();
        let mut container = client.container("devices", IMAGE, &["/bin/sh", "-c", "sleep 600"]);
        security(&mut container).privileged = true;
        let made = client.run(&pod_id, &pod, &container).await;
        std::fs::remove_file(&path).unwrap();
        let id = made.unwrap();
        let _ = said(&mut client, &id, &format!("test -c {path}")).await;
        client.remove_pod(&pod_id).await.unwrap();
        daemon
    });
}
