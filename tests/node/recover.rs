//! What a start finds of the daemon's and the node's last life: a shutdown without a last word, a
//! reboot, another version.

use crioxide::cri::api;
use serde_json::Value;

use crate::scene;
use crate::scene::script;
use crate::support::client::Client;
use crate::support::daemon::Daemon;

const UNCLEAN: &str = "the last shutdown was not clean";

fn image_directory(daemon: &Daemon) -> std::path::PathBuf {
    let text = daemon.path("storage/overlay-images/images.json");
    let images: Vec<Value> = serde_json::from_slice(&std::fs::read(text).unwrap()).unwrap();
    daemon.path("storage/overlay-images").join(images[0]["id"].as_str().unwrap())
}

async fn has_image(client: &mut Client) -> bool {
    client.images().await.unwrap().iter().any(|image| image.repo_tags == [scene::IMAGE])
}

/// A pod with a container that runs.
async fn pod(client: &mut Client) -> (String, String) {
    let pod = client.pod("shop");
    let id = client.run_pod(&pod).await.unwrap();
    let web = client.run(&id, &pod, &script(client, "web", "sleep 600")).await.unwrap();
    (id, web)
}

#[test]
fn a_killed_daemon_has_the_store_looked_through_and_a_clean_stop_has_not() {
    scene::story(&[], |mut daemon, _| async move {
        assert!(daemon.path("clean.shutdown.supported").exists());
        assert!(!daemon.path("clean.shutdown").exists());
        daemon.stop().await;
        assert!(daemon.path("clean.shutdown").exists());
        // Damage that nobody looks for: the stop was clean.
        let item = image_directory(&daemon).join("manifest");
        let kept = std::fs::read(&item).unwrap();
        std::fs::remove_file(&item).unwrap();
        daemon.start().await;
        assert!(!daemon.log().contains(UNCLEAN));
        assert!(has_image(&mut daemon.client().await).await);
        daemon.kill().await;
        daemon.start().await;
        let log = daemon.log();
        assert!(log.contains(UNCLEAN) && log.contains("it was damaged and is removed"));
        assert!(!has_image(&mut daemon.client().await).await);
        assert_eq!(daemon.stored(), [""; 0]);
        assert!(!kept.is_empty());
        daemon
    });
}

#[test]
fn what_runs_goes_on_over_a_repair_and_keeps_its_image() {
    scene::story(&["it stays damaged"], |mut daemon, mut client| async move {
        let (id, web) = pod(&mut client).await;
        daemon.kill().await;
        std::fs::remove_file(image_directory(&daemon).join("manifest")).unwrap();
        daemon.start().await;
        let mut client = daemon.client().await;
        assert!(daemon.log().contains("it is damaged, and stays because it runs"));
        let status = client.status(&web).await.unwrap();
        assert_eq!(status.state(), api::ContainerState::ContainerRunning);
        client.remove_pod(&id).await.unwrap();
        // Nothing uses it any more.
        daemon.kill().await;
        daemon.start().await;
        assert!(!has_image(&mut daemon.client().await).await);
        daemon
    });
}

#[test]
fn repairs_can_be_left_to_the_administrator() {
    scene::prepared(
        &[],
        |daemon| daemon.config("[crio]\ninternal_repair = false\n"),
        |mut daemon, _| async move {
            daemon.kill().await;
            std::fs::remove_file(image_directory(&daemon).join("manifest")).unwrap();
            daemon.start().await;
            assert!(daemon.log().contains(UNCLEAN));
            assert!(has_image(&mut daemon.client().await).await);
            daemon
        },
    );
}

#[test]
fn an_index_that_a_power_loss_cut_does_not_keep_the_daemon_from_starting() {
    scene::story(&["it was damaged and is put aside"], |mut daemon, mut client| async move {
        let (id, _) = pod(&mut client).await;
        client.remove_pod(&id).await.unwrap();
        daemon.kill().await;
        daemon.write("storage/overlay-containers/volatile-containers.json", "[{\"id\":\"12");
        daemon.start().await;
        assert!(has_image(&mut daemon.client().await).await);
        daemon
    });
}

#[test]
fn a_reboot_removes_all_pods_and_no_image() {
    scene::story(&[], |mut daemon, mut client| async move {
        let version = std::fs::read_to_string(daemon.path("version")).unwrap();
        assert_eq!(version, format!("\"{}\"", env!("CARGO_PKG_VERSION")));
        pod(&mut client).await;
        daemon.stop().await;
        std::fs::remove_file(daemon.path("version")).unwrap();
        daemon.start().await;
        let mut client = daemon.client().await;
        assert!(client.pods().await.unwrap().is_empty());
        assert!(client.containers().await.unwrap().is_empty());
        assert!(has_image(&mut client).await);
        assert_eq!(std::fs::read_to_string(daemon.path("version")).unwrap(), version);
        daemon
    });
}

#[test]
fn another_minor_version_removes_the_images_of_pods_only_where_that_is_asked_for() {
    scene::story(&[], |mut daemon, mut client| async move {
        // A file that the daemon writes itself, as the administrator named it.
        let persist = daemon.path("persist");
        daemon.config(&format!("[crio]\nversion_file_persist = {persist:?}\n"));
        daemon.write("persist", "\"1.2.3\"");
        let (id, web) = pod(&mut client).await;
        daemon.restart().await;
        let mut client = daemon.client().await;
        assert!(client.pods().await.unwrap().is_empty(), "{id} {web}");
        assert!(!has_image(&mut client).await);
        let version = format!("\"{}\"", env!("CARGO_PKG_VERSION"));
        assert_eq!(std::fs::read_to_string(&persist).unwrap(), version);
        daemon
    });
}

#[test]
fn without_internal_wipe_the_command_removes_what_a_reboot_made_void() {
    scene::prepared(
        &[],
        |daemon| daemon.config("[crio]\ninternal_wipe = false\n"),
        |mut daemon, mut client| async move {
            let (id, _) = pod(&mut client).await;
            daemon.stop().await;
            assert!(daemon.crio(&["wipe"]).status.success());
            daemon.start().await;
            assert_eq!(daemon.client().await.pods().await.unwrap().len(), 1, "{id}");
            daemon.stop().await;
            std::fs::remove_file(daemon.path("version")).unwrap();
            let wiped = daemon.crio(&["wipe"]);
            assert!(wiped.status.success(), "{wiped:?}");
            daemon.start().await;
            let mut client = daemon.client().await;
            assert!(client.pods().await.unwrap().is_empty() && has_image(&mut client).await);
            daemon
        },
    );
}

#[test]
fn records_that_a_power_loss_cut_are_recognised_and_what_they_were_of_is_collected() {
    scene::story(&[], |mut daemon, mut client| async move {
        for cut in ["", "{\"format\":1,\"record\":{\"id\":\"", "\0\0\0\0"] {
            // A container that has its record cut, and a pod.
            let (id, web) = pod(&mut client).await;
            daemon.kill().await;
            let record = format!("storage/overlay-containers/{web}/userdata/record.json");
            daemon.write(&record, cut);
            daemon.start().await;
            client = daemon.client().await;
            assert!(client.containers().await.unwrap().is_empty(), "{cut:?}");
            assert_eq!(client.pods().await.unwrap().len(), 1, "{cut:?}");
            // What cuts a record takes cgroups and rules too, which are the kernel's.
            client.stop_pod(&id).await.unwrap();
            daemon.kill().await;
            let record = format!("storage/crioxide/sandboxes/{id}/record.json");
            daemon.write(&record, cut);
            daemon.start().await;
            client = daemon.client().await;
            assert!(client.pods().await.unwrap().is_empty(), "{cut:?}");
            // What the network keeps is taken back once it is ready.
            let gone = || scene::kept(&daemon).is_empty();
            scene::until("nothing is left of the pod", gone).await;
        }
        daemon
    });
}

#[test]
fn a_record_of_a_later_version_is_left_alone() {
    scene::story(&["its record is left alone"], |mut daemon, mut client| async move {
        let (id, _) = pod(&mut client).await;
        let path = daemon.path(&format!("storage/crioxide/sandboxes/{id}/record.json"));
        let kept = std::fs::read_to_string(&path).unwrap();
        daemon.kill().await;
        let name = format!("storage/crioxide/sandboxes/{id}/record.json");
        daemon.write(&name, "{\"format\":2,\"record\":{}}");
        daemon.start().await;
        assert!(daemon.client().await.pods().await.unwrap().is_empty() && path.exists());
        daemon.stop().await;
        daemon.write(&name, &kept);
        daemon.start().await;
        let mut client = daemon.client().await;
        assert_eq!(client.pods().await.unwrap().len(), 1);
        client.remove_pod(&id).await.unwrap();
        daemon
    });
}
