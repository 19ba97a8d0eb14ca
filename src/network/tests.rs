//! The network on small shell scripts as plugins, which do what they are told: answer, fail, lie,
//! hang, die. No root is needed; `/proc/self/ns/net` plays the namespace.

use super::*;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::json;

use crate::sys::files::Durability;
use crate::sys::files::replace;

const LIST: &str = r#"{"cniVersion":"1.0.0","name":"net","plugins":[
    {"type":"one","mtu":1400,"prevResult":"mine"},
    {"type":"two","capabilities":{"portMappings":true,"bandwidth":false,"cgroupPath":true}}]}"#;

struct Node {
    directory: tempfile::TempDir,
}

impl Node {
    /// A node with the plugins `one` and `two` and the network `net` that chains them.
    fn new() -> Self {
        let node = Self { directory: tempfile::tempdir().unwrap() };
        fs::create_dir(node.path("conf")).unwrap();
        fs::create_dir(node.path("bin")).unwrap();
        node.plugin("one");
        node.plugin("two");
        node.write("conf/10-net.conflist", LIST);
        node
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        replace(&self.path(name), text.as_bytes(), 0o644, Durability::Process).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    fn json(&self, name: &str) -> Value {
        serde_json::from_str(&self.read(name)).unwrap()
    }

    /// A plugin that writes down how it was called and then does what `do.<name>.<verb>` says.
    fn plugin(&self, name: &str) {
        let root = self.directory.path().display();
        let text = format!(
            r#"#!/bin/sh
root={root}; name={name}; verb=$CNI_COMMAND
in=$(cat)
if [ "$verb" = VERSION ] && [ ! -e "$root/do.$name.VERSION" ]; then
    echo '{{"cniVersion":"1.1.0","supportedVersions":["0.3.1","0.4.0","1.0.0","1.1.0"]}}'
    exit 0
fi
echo "$verb $name" >> "$root/log"
printf %s "$in" > "$root/in.$name.$verb"
tr '\0' '\n' < /proc/$$/environ > "$root/env.$name.$verb"
[ -e "$root/do.$name.$verb" ] && . "$root/do.$name.$verb"
[ "$verb" = ADD ] && echo '{{"cniVersion":"1.0.0","by":"'$name'","ips":[{{"address":"10.9.0.5/16"}}]}}'
exit 0
"#
        );
        let path = self.path("bin").join(name);
        fs::File::create(&path)
            .and_then(|mut file| {
                use std::io::Write;
                file.set_permissions(fs::Permissions::from_mode(0o755))?;
                file.write_all(text.as_bytes())
            })
            .unwrap();
    }

    /// What a plugin does at a verb, as shell text.
    fn when(&self, name: &str, verb: &str, text: &str) {
        self.write(&format!("do.{name}.{verb}"), text);
    }

    fn settings(&self) -> Settings {
        Settings {
            conf_dir: self.path("conf"),
            plugin_dirs: vec![self.path("nothing here"), self.path("bin")],
            default_network: None,
            cache_dir: self.path("cache"),
            namespaces_dir: "/".into(),
            timeout: Duration::from_secs(10),
            host_ports: false,
            localnet_note: self.path("localnet"),
            tool_dirs: None,
        }
    }

    fn network(&self) -> Network {
        Network::new(self.settings()).unwrap()
    }

    fn log(&self) -> Vec<String> {
        self.read("log").lines().map(str::to_owned).collect()
    }

    fn cache(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path("cache")).into_iter().flatten();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

fn pod() -> PodNetwork {
    PodNetwork {
        id: SandboxId::fresh().unwrap(),
        name: "shop".to_owned(),
        namespace: "default".to_owned(),
        uid: "u".to_owned(),
        netns: PathBuf::from("/proc/self/ns/net"),
        port_mappings: vec![],
        annotations: BTreeMap::new(),
        cgroup_path: "/pod".to_owned(),
    }
}

#[tokio::test]
async fn a_chain_is_added_forward_and_deleted_backward() {
    let node = Node::new();
    let network = node.network();
    let mapping = PortMapping {
        protocol: crate::model::sandbox::Protocol::Tcp,
        container_port: 80,
        host_port: 8080,
        host_ip: None,
    };
    let pod = PodNetwork { port_mappings: vec![mapping], ..pod() };
    let id = &pod.id;

    let addresses = network.add(&pod).await.unwrap();
    assert_eq!(addresses.ips, [IpAddr::from([10, 9, 0, 5])]);
    assert_eq!(addresses.result["by"], "two");
    assert_eq!(
        node.json("in.one.ADD"),
        json!({"cniVersion": "1.0.0", "name": "net", "type": "one", "mtu": 1400})
    );
    let two = node.json("in.two.ADD");
    assert_eq!(two["prevResult"]["by"], "one");
    assert_eq!(two["runtimeConfig"], json!({"cgroupPath": "/pod"}));

    let bin = format!("{}:{}", node.path("nothing here").display(), node.path("bin").display());
    let path = std::env::var("PATH").unwrap();
    let mut variables: Vec<_> = node.read("env.one.ADD").lines().map(str::to_owned).collect();
    variables.sort();
    assert_eq!(
        variables,
        [
            format!(
                "CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=shop;\
                 K8S_POD_INFRA_CONTAINER_ID={id};K8S_POD_UID=u"
            ),
            "CNI_COMMAND=ADD".to_owned(),
            format!("CNI_CONTAINERID={id}"),
            "CNI_IFNAME=eth0".to_owned(),
            "CNI_NETNS=/proc/self/ns/net".to_owned(),
            format!("CNI_PATH={bin}"),
            format!("PATH={path}"),
        ]
    );

    // A daemon that starts later knows the addresses.
    let network = node.network();
    assert_eq!(network.cached(id).unwrap().unwrap(), addresses);
    assert_eq!(network.remove(&pod).await.unwrap(), Change::Made(()));
    assert_eq!(node.log(), ["ADD one", "ADD two", "DEL two", "DEL one"]);
    for name in ["one", "two"] {
        assert_eq!(node.json(&format!("in.{name}.DEL"))["prevResult"]["by"], "two");
    }
    assert_eq!(network.cached(id).unwrap(), None);
    assert!(node.cache().is_empty());
}

#[tokio::test]
async fn removing_again_does_nothing_once_the_namespace_is_gone() {
    let node = Node::new();
    let pod = PodNetwork { netns: "/missing".into(), ..pod() };
    assert_eq!(node.network().remove(&pod).await.unwrap(), Change::Unchanged(()));
    assert!(node.log().is_empty());
}

/// What a bad plugin does, and the words that the error has.
async fn check_undone(plugin: &str, does: &str, seconds: u64, words: &str) {
    let node = Node::new();
    node.when(plugin, "ADD", does);
    let network =
        Network::new(Settings { timeout: Duration::from_secs(seconds), ..node.settings() })
            .unwrap();
    let error = network.add(&pod()).await.unwrap_err();
    let text = failure::chain(&error);
    assert!(text.contains(words), "{text}");
    assert!(matches!(error, NetworkError::Add { .. }), "{error:?}");
    assert!(
        node.log().ends_with(&["DEL two".to_owned(), "DEL one".to_owned()]),
        "{:?}",
        node.log()
    );
    assert!(node.cache().is_empty());
    let left = node.read("left");
    for pid in left.lines() {
        assert!(!is_running(pid), "{pid} is left");
    }
}

/// Zombies do not count: PID 1 may be slow to reap what was killed.
fn is_running(pid: &str) -> bool {
    let stat = fs::read_to_string(Path::new("/proc").join(pid).join("stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(" Z"))
}

#[tokio::test]
async fn a_plugin_that_hangs_is_killed_with_its_children_and_undone() {
    let does = "echo $$ >> $root/left; sleep 600 & echo $! >> $root/left; wait";
    check_undone("two", does, 2, "was killed").await;
}

#[tokio::test]
async fn a_plugin_that_lies_is_undone() {
    check_undone("one", "echo hello; exit 0", 30, "not a CNI result").await;
    check_undone("two", r#"echo '{"ips":[{"address":"../etc"}]}'; exit 0"#, 30, "no address").await;
    check_undone("one", r#"echo '{"cniVersion":"3"}'; exit 0"#, 30, "unknown CNI version").await;
    check_undone("two", "yes; exit 0", 30, "more than 1048576 bytes").await;
}

#[tokio::test]
async fn a_plugin_that_dies_is_undone() {
    check_undone("one", "echo oh >&2; exit 3", 30, "exit status 3: oh").await;
    check_undone("one", "kill -9 $$", 30, "signal 9").await;
    let says = r#"echo '{"code":11,"msg":"later","details":"pool empty"}'; exit 1"#;
    check_undone("two", says, 30, "plugin \"two\": plugin says: later; pool empty (code 11)").await;
}

#[tokio::test]
async fn an_add_that_nobody_waits_for_is_undone() {
    let node = Node::new();
    node.when("two", "ADD", "sleep 600");
    let network = node.network();
    let pod = pod();
    let waited = tokio::time::timeout(Duration::from_millis(600), network.add(&pod)).await;
    assert!(waited.is_err());
    for _ in 0..200 {
        if node.cache().is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    assert_eq!(node.log(), ["ADD one", "ADD two", "DEL two", "DEL one"]);
    assert!(node.cache().is_empty());
}

#[tokio::test]
async fn undoing_is_tried_again() {
    let node = Node::new();
    node.when("two", "ADD", "exit 1");
    node.when("one", "DEL", "rm $root/do.one.DEL; exit 1");
    let error = node.network().add(&pod()).await.unwrap_err();
    assert!(matches!(error, NetworkError::Add { .. }), "{error:?}");
    assert!(node.cache().is_empty());
}

#[tokio::test]
async fn what_cannot_be_undone_stays_written_down() {
    let node = Node::new();
    node.when("two", "ADD", "exit 1");
    node.when("one", "DEL", "exit 1");
    let network = node.network();
    let pod = pod();
    let error = network.add(&pod).await.unwrap_err();
    assert!(matches!(error, NetworkError::NotUndone { .. }), "{error:?}");
    assert_eq!(node.cache().len(), 1);
    assert_eq!(network.cached(&pod.id).unwrap(), None);
    assert!(matches!(network.add(&pod).await, Err(NetworkError::Attached { .. })));
    fs::remove_file(node.path("do.one.DEL")).unwrap();
    assert_eq!(network.remove(&pod).await.unwrap(), Change::Made(()));
    assert!(node.cache().is_empty());
}

#[tokio::test]
async fn a_pod_is_removed_as_it_was_added_whatever_the_configuration_says_now() {
    let node = Node::new();
    let network = node.network();
    let pod = pod();
    network.add(&pod).await.unwrap();
    fs::remove_file(node.path("conf/10-net.conflist")).unwrap();
    node.write("conf/10-net.conf", r#"{"cniVersion":"1.0.0","name":"other","type":"two"}"#);
    node.when("two", "DEL", "echo not today >&2; exit 1");
    let error = network.remove(&pod).await.unwrap_err();
    assert!(failure::chain(&error).contains("plugin \"two\""), "{error}");
    assert_eq!(node.log()[2..], ["DEL two", "DEL one"]);
    assert_eq!(node.json("in.one.DEL")["mtu"], 1400);
    assert_eq!(node.cache().len(), 1);

    // When the namespace is gone, the pod can go, and the plugins are asked again later.
    let gone = PodNetwork { netns: node.path("log"), ..pod };
    assert_eq!(network.remove(&gone).await.unwrap(), Change::Made(()));
    assert_eq!(node.log()[4..], ["DEL two", "DEL one"]);
    assert!(!node.read("env.one.DEL").contains("CNI_NETNS"));
    assert!(network.owes() && node.cache().len() == 1);
    assert_eq!(network.collect(&[]).await.failures.len(), 1);
    assert!(network.owes() && node.cache().len() == 1);
    fs::remove_file(node.path("do.two.DEL")).unwrap();
    assert_eq!(network.collect(&[]).await.removed, [gone.id]);
    assert!(!network.owes() && node.cache().is_empty());
}

#[tokio::test]
async fn pods_do_not_wait_for_each_other() {
    let node = Node::new();
    // Each waits until the other has come, too.
    node.when(
        "one",
        "ADD",
        r#"while [ "$(grep -c 'ADD one' $root/log)" -lt 2 ]; do sleep 0.02; done"#,
    );
    let network = node.network();
    let (a, b) = (pod(), pod());
    let (a, b) = tokio::join!(network.add(&a), network.add(&b));
    assert!(a.is_ok() && b.is_ok(), "{a:?} {b:?}");
}

#[tokio::test]
async fn collecting_undoes_what_no_living_pod_has() {
    let node = Node::new();
    node.write("conf/10-net.conflist", &LIST.replace("1.0.0", "1.1.0"));
    let (dead, living, fresh) = (pod(), pod(), pod());
    let earlier = node.network();
    earlier.add(&dead).await.unwrap();
    earlier.add(&living).await.unwrap();
    let network = node.network();
    network.add(&fresh).await.unwrap();
    // Another tool's attachment, in the same directory.
    let name = format!("net-{}-eth0", "c".repeat(64));
    let text = node.read(&format!("cache/net-{}-eth0", dead.id));
    node.write(
        &format!("cache/{name}"),
        &text.replace(dead.id.as_str(), &"c".repeat(64)).replace("K8S_POD_INFRA", "X"),
    );

    // A living sandbox that the cache knows nothing of.
    let unknown = SandboxId::fresh().unwrap();
    let collected = network.collect(&[living.id.clone(), unknown.clone()]).await;
    assert!(collected.failures.is_empty(), "{:?}", collected.failures);
    assert_eq!(collected.removed, [dead.id]);
    assert_eq!(node.cache().len(), 3);
    assert!(node.log().ends_with(&[
        "DEL one".to_owned(),
        "GC one".to_owned(),
        "GC two".to_owned()
    ]));
    let mut valid = vec![living.id.to_string(), fresh.id.to_string()];
    valid.sort();
    valid.push(unknown.to_string());
    let said = node.json("in.one.GC")["cni.dev/valid-attachments"].clone();
    let said: Vec<_> =
        said.as_array().unwrap().iter().map(|one| one["containerID"].clone()).collect();
    assert_eq!(said, valid);
}

#[tokio::test]
async fn collecting_spares_the_pods_of_another_daemon() {
    let node = Node::new();
    let pod = pod();
    node.network().add(&pod).await.unwrap();
    let elsewhere = Settings { namespaces_dir: node.path("ns"), ..node.settings() };
    let collected = Network::new(elsewhere).unwrap().collect(&[]).await;
    assert!(collected.removed.is_empty(), "{:?}", collected.removed);
    assert_eq!(node.network().collect(&[]).await.removed, [pod.id]);
}

#[tokio::test]
async fn a_network_is_ready_when_its_file_and_plugins_are_there() {
    let node = Node::new();
    fs::remove_file(node.path("conf/10-net.conflist")).unwrap();
    let network = node.network();
    let no = format!(
        "no CNI configuration file in {}. Has your network provider started?",
        node.path("conf").display()
    );
    assert_eq!(network.ready().await.unwrap_err().to_string(), no);
    node.write("conf/10-net.conflist.mk_disabled", LIST);
    assert_eq!(network.ready().await.unwrap_err().to_string(), no);
    let now = Instant::now();
    assert!(network.wait_ready(now).await.is_err());

    let waiting = tokio::spawn({
        let network = network.clone();
        async move { network.wait_ready(now + Duration::from_secs(20)).await }
    });
    node.write("conf/10-net.conflist", &LIST.replace("\"two\"", "\"three\""));
    let error = network.ready().await.unwrap_err().to_string();
    assert!(error.starts_with(&no) && error.contains("plugin \"three\" is not in"), "{error}");
    node.plugin("three");
    waiting.await.unwrap().unwrap();
}

#[tokio::test]
async fn status_is_asked_until_it_was_good_once() {
    let node = Node::new();
    node.write("conf/10-net.conflist", &LIST.replace("1.0.0", "1.1.0"));
    node.when("two", "STATUS", r#"echo '{"code":50,"msg":"no route"}'; exit 1"#);
    let network = node.network();
    let error = network.ready().await.unwrap_err().to_string();
    assert!(error.contains("plugin says: no route (code 50)"), "{error}");
    fs::remove_file(node.path("do.two.STATUS")).unwrap();
    network.ready().await.unwrap();
    network.ready().await.unwrap();
    assert_eq!(node.log(), ["STATUS one", "STATUS two", "STATUS one", "STATUS two"]);
    assert!(!node.read("env.one.STATUS").contains("CNI_CONTAINERID"));
}

#[tokio::test]
async fn the_first_usable_file_wins_unless_a_network_is_named() {
    let node = Node::new();
    node.when(
        "old",
        "VERSION",
        r#"echo '{"code":4,"msg":"unknown CNI_COMMAND: VERSION"}'; exit 1"#,
    );
    node.plugin("old");
    node.write("conf/00-broken.conflist", "{");
    node.write("conf/01-old.conflist", &LIST.replace("\"one\"", "\"old\""));
    node.write("conf/99-last.conf", r#"{"cniVersion":"0.3.1","name":"last","type":"one"}"#);
    let choice = async |wanted: Option<&str>| {
        let settings = Settings { default_network: wanted.map(str::to_owned), ..node.settings() };
        let shared = Network::new(settings).unwrap().shared;
        shared.select.one(&shared.plugins).await.map(|conf| conf.name)
    };
    assert_eq!(choice(None).await.unwrap(), "net");
    assert_eq!(choice(Some("last")).await.unwrap(), "last");
    let error = choice(Some("none")).await.unwrap_err().to_string();
    assert!(error.contains("00-broken.conflist") && error.contains("CNI version 1.0.0"), "{error}");
}
