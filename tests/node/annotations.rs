//! What a pod may wish for by annotation, and that a wish the handler does not allow is none.

use crioxide::cri::api;
use tonic::Code;

use crate::scene;
use crate::scene::refused;
use crate::scene::said;
use crate::scene::script;
use crate::support::client::Client;
use crate::support::daemon::Daemon;

/// A handler that allows all that is built, beside the default one, which does not.
fn prepare(daemon: &mut Daemon) {
    let runc = crate::support::host::program("runc").unwrap();
    let root = daemon.path("runc");
    daemon.config(&format!(
        "[crio.runtime]\nallowed_devices = [\"/dev/full\", \"/dev/zero\"]\n\
         [crio.runtime.runtimes.runc]\nallowed_annotations = []\n\
         [crio.runtime.runtimes.open]\nruntime_path = {runc:?}\nruntime_root = {root:?}\n\
         allowed_annotations = [\"devices.crio.io\", \"io.kubernetes.cri-o.ShmSize\",\
         \"umask.crio.io\", \"link-logs.crio.io\"]\n"
    ));
}

fn wishing(client: &Client, wishes: &[(&str, &str)]) -> api::PodSandboxConfig {
    let wishes = wishes.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    api::PodSandboxConfig { annotations: wishes.collect(), ..client.pod("shop") }
}

async fn run_pod(
    client: &mut Client,
    pod: &api::PodSandboxConfig,
    handler: &str,
) -> Result<String, tonic::Status> {
    let runtime_handler = handler.to_owned();
    let request = api::RunPodSandboxRequest { config: Some(pod.clone()), runtime_handler };
    Ok(client.runtime.run_pod_sandbox(request).await?.into_inner().pod_sandbox_id)
}

const SEEN: &str = "ls /dev/more /dev/zero2 2>/dev/null; \
                    df -k /dev/shm | tail -n 1 | awk '{print $2}'; \
                    while [ ! -s /umask ]; do :; done; cat /umask";

#[test]
fn wishes_are_granted_by_a_handler_that_allows_them_and_by_no_other() {
    scene::prepared(&[], prepare, |daemon, mut client| async move {
        let wishes = [
            ("devices.crio.io", "/dev/full:/dev/more:rw,/dev/zero:/dev/zero2"),
            ("io.kubernetes.cri-o.ShmSize", "4Mi"),
            ("umask.crio.io", "077"),
        ];
        let pod = wishing(&client, &wishes);
        for (handler, expected) in
            [("open", "/dev/more\n/dev/zero2\n4096\n0077"), ("runc", "65536\n0022")]
        {
            let pod_id = run_pod(&mut client, &pod, handler).await.unwrap();
            let web = script(&client, "web", "umask > /umask; sleep 600");
            let id = client.run(&pod_id, &pod, &web).await.unwrap();
            assert_eq!(said(&mut client, &id, SEEN).await, expected, "{handler}");
            client.remove_pod(&pod_id).await.unwrap();
        }
        let log = daemon.log();
        assert!(log.contains("allows annotations that are not built: link-logs.crio.io"), "{log}");
        daemon
    });
}

#[test]
fn a_wish_for_a_device_that_is_not_allowed_or_for_nonsense_is_refused_and_nothing_is_left() {
    scene::prepared(&[], prepare, |daemon, mut client| async move {
        let before = scene::kept(&daemon);
        let pod = wishing(&client, &[("io.kubernetes.cri-o.ShmSize", "all of it")]);
        let made = run_pod(&mut client, &pod, "open").await;
        assert!(refused(made, Code::InvalidArgument).contains("shm-size"));
        for (key, value) in [
            ("devices.crio.io", "/dev/mem"),
            ("devices.crio.io", "/dev/full/../mem"),
            ("devices.crio.io", "/dev/full:/etc/passwd"),
            ("devices.crio.io", "/dev/full:/dev/x:rwx"),
            ("umask.crio.io", "999"),
        ] {
            let pod = wishing(&client, &[(key, value)]);
            let pod_id = run_pod(&mut client, &pod, "open").await.unwrap();
            let web = script(&client, "web", "sleep 600");
            let text = refused(client.create(&pod_id, &pod, &web).await, Code::InvalidArgument);
            assert!(
                text.contains(value.split(':').next().unwrap()) || text.contains("rwx"),
                "{text}"
            );
            client.remove_pod(&pod_id).await.unwrap();
        }
        scene::unchanged(&daemon, &before, "refused wishes").await;
        daemon
    });
}
