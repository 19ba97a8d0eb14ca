//! Devices of the node, and those of CDI specifications, seen from inside.

use crioxide::cri::api;
use tonic::Code;

use crate::scene;
use crate::scene::refused;
use crate::scene::said;
use crate::scene::script;
use crate::support::client::Client;
use crate::support::daemon::Daemon;

const JSON: &str = r#"{"cdiVersion": "0.6.0", "kind": "vendor.example/gpu",
  "containerEdits": {"env": ["DRIVER=1"]},
  "devices": [
    {"name": "0", "containerEdits": {
      "env": ["FROM=cdi"],
      "deviceNodes": [{"path": "/dev/gpu0", "hostPath": "/dev/zero", "permissions": "r"}],
      "mounts": [{"hostPath": "DIR/lib", "containerPath": "/opt/lib", "options": ["ro"]}],
      "hooks": [{"hookName": "createContainer", "path": "/bin/touch",
                 "args": ["touch", "DIR/hooked"]}],
      "additionalGids": [4321]}}]}"#;

const YAML: &str = "cdiVersion: \"0.5.0\"\nkind: vendor.example/net\ndevices:\n- name: one\n  \
                    containerEdits:\n    env: [\"NET=one\"]\n";

fn prepare(daemon: &mut Daemon) {
    for name in ["cdi", "cdi-later", "lib"] {
        std::fs::create_dir(daemon.path(name)).unwrap();
    }
    daemon.write("lib/driver", "driver");
    let directory = daemon.path("lib").parent().unwrap().display().to_string();
    daemon.write("cdi/gpu.json", &JSON.replace("DIR", &directory));
    daemon.write("cdi/net.yaml", YAML);
    daemon.write("cdi/broken.json", "{");
    daemon.config(&format!(
        "[crio.runtime]\ncdi_spec_dirs = [{:?}, {:?}]\n\
         additional_devices = [\"/dev/full:/dev/more:rw\"]\n",
        daemon.path("cdi"),
        daemon.path("cdi-later")
    ));
}

fn container(client: &Client, name: &str, cdi: &[&str]) -> api::ContainerConfig {
    let named = |name: &&str| api::CdiDevice { name: (*name).to_owned() };
    api::ContainerConfig {
        cdi_devices: cdi.iter().map(named).collect(),
        ..script(client, name, "sleep 600")
    }
}

#[test]
fn a_cdi_device_changes_what_its_specification_says() {
    scene::prepared(&[], prepare, |daemon, mut client| async move {
        let pod = client.pod("shop");
        let pod_id = client.run_pod(&pod).await.unwrap();
        let mut web = container(&client, "web", &["vendor.example/gpu=0"]);
        let plugin = ("cdi.k8s.io/plugin_x", "vendor.example/net=one,vendor.example/gpu=0");
        web.annotations.insert(plugin.0.to_owned(), plugin.1.to_owned());
        let id = client.run(&pod_id, &pod, &web).await.unwrap();
        let text = "echo $FROM $DRIVER $NET; cat /opt/lib/driver; head -c 3 /dev/gpu0 | wc -c";
        assert_eq!(said(&mut client, &id, text).await, "cdi 1 one\ndriver3");
        assert!(said(&mut client, &id, "id -G").await.contains("4321"));
        let text = "! echo x 2>/dev/null > /dev/gpu0; ! touch /opt/lib/x 2>/dev/null";
        said(&mut client, &id, text).await;
        assert!(daemon.path("hooked").exists());

        // What a later directory says counts, and is read when it is there.
        daemon.write("cdi-later/net.yml", &YAML.replace("NET=one", "NET=later"));
        let id = container(&client, "later", &["vendor.example/net=one"]);
        let id = client.run(&pod_id, &pod, &id).await.unwrap();
        assert_eq!(said(&mut client, &id, "echo $NET").await, "later");
        client.remove_pod(&pod_id).await.unwrap();
        daemon
    });
}

#[test]
fn a_cdi_device_that_is_unknown_or_there_twice_is_named_and_nothing_is_left() {
    scene::prepared(&[], prepare, |daemon, mut client| async move {
        let pod = client.pod("shop");
        let pod_id = client.run_pod(&pod).await.unwrap();
        let before = scene::kept(&daemon);
        daemon.write("cdi/twin.yaml", YAML);
        for name in ["vendor.example/gpu=9", "vendor.example/net=one", "/etc/shadow"] {
            let made = client.create(&pod_id, &pod, &container(&client, "web", &[name])).await;
            let text = refused(made, Code::InvalidArgument);
            assert!(text.contains("unresolvable CDI devices") && text.contains(name), "{text}");
        }
        assert!(daemon.log().contains("broken.json"));
        scene::unchanged(&daemon, &before, "refused devices").await;
        client.remove_pod(&pod_id).await.unwrap();
        daemon
    });
}

#[test]
fn devices_come_with_their_rights_through_links_and_from_directories() {
    scene::prepared(&["it is no device"], prepare, |daemon, mut client| async move {
        let pod = client.pod("shop");
        let pod_id = client.run_pod(&pod).await.unwrap();
        std::fs::create_dir(daemon.path("nodes")).unwrap();
        std::os::unix::fs::symlink("/dev/zero", daemon.path("nodes/zero")).unwrap();
        let device = |host: String, inside: &str, permissions: &str| api::Device {
            host_path: host,
            container_path: inside.to_owned(),
            permissions: permissions.to_owned(),
        };
        let mut web = container(&client, "web", &[]);
        let nodes = daemon.path("nodes").display().to_string();
        web.devices = vec![
            device(format!("{nodes}/zero"), "/dev/linked", "r"),
            device(nodes.clone(), "/dev/nodes", "r"),
        ];
        let id = client.run(&pod_id, &pod, &web).await.unwrap();
        let text = "for d in linked nodes/zero; do head -c 2 /dev/$d | wc -c; done; \
                    ! echo x 2>/dev/null > /dev/linked; stat -c %t:%T /dev/more";
        assert_eq!(said(&mut client, &id, text).await, "2\n2\n1:7");
        let mut file = container(&client, "file", &[]);
        file.devices = vec![device(daemon.path("lib/driver").display().to_string(), "/dev/x", "r")];
        assert!(client.create(&pod_id, &pod, &file).await.is_err());
        client.remove_pod(&pod_id).await.unwrap();
        daemon
    });
}
