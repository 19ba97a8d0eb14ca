//! Mounts of the node's paths, and the volumes that an image declares, seen from inside.

use std::path::Path;

use crioxide::cri::api;
use crioxide::cri::api::MountPropagation;
use nix::mount::MntFlags;
use nix::mount::MsFlags;
use nix::sched::CloneFlags;
use serde_json::json;
use tonic::Code;

use crate::scene;
use crate::scene::IMAGE;
use crate::scene::refused;
use crate::scene::said;
use crate::scene::script;
use crate::support::client::Client;
use crate::support::daemon::Daemon;
use crate::support::host;

fn bind(at: &str, source: &Path) -> api::Mount {
    api::Mount {
        container_path: at.to_owned(),
        host_path: source.display().to_string(),
        ..Default::default()
    }
}

fn with(client: &Client, mounts: Vec<api::Mount>) -> api::ContainerConfig {
    api::ContainerConfig { mounts, ..script(client, "web", "sleep 600") }
}

const NONE: Option<&str> = None;

/// Puts this thread, and the daemon that it will start, into a mount namespace of their own, in
/// which `shared` is a mount that propagates and all else is not. It ends with the story.
fn share(daemon: &Daemon) {
    nix::sched::unshare(CloneFlags::CLONE_NEWNS).unwrap();
    nix::mount::mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE).unwrap();
    let shared = daemon.path("shared");
    std::fs::create_dir_all(shared.join("inner")).unwrap();
    nix::mount::mount(Some(&shared), &shared, NONE, MsFlags::MS_BIND, NONE).unwrap();
    nix::mount::mount(NONE, &shared, NONE, MsFlags::MS_SHARED, NONE).unwrap();
}

fn unshare(daemon: &Daemon) {
    nix::mount::umount2(&daemon.path("shared"), MntFlags::MNT_DETACH).unwrap();
}

fn tmpfs(path: &Path) {
    std::fs::create_dir_all(path).unwrap();
    nix::mount::mount(Some("tmpfs"), path, Some("tmpfs"), MsFlags::empty(), NONE).unwrap();
}

#[test]
fn links_are_followed_missing_sources_are_made_and_deeper_mounts_come_later() {
    let prepare = |daemon: &mut Daemon| {
        let absent = daemon.path("absent");
        daemon.config(&format!("[crio.runtime]\nabsent_mount_sources_to_reject = [{absent:?}]\n"));
    };
    scene::prepared(&[], prepare, |daemon, mut client| async move {
        let pod = client.pod("shop");
        let pod_id = client.run_pod(&pod).await.unwrap();
        std::fs::create_dir(daemon.path("real")).unwrap();
        daemon.write("real/file", "real");
        std::os::unix::fs::symlink("real", daemon.path("link")).unwrap();
        let mut locked = bind("/data/deep", &daemon.path("link"));
        locked.readonly = true;
        // The deeper one comes first in the request.
        let mounts = vec![locked, bind("/data", &daemon.path("made/here"))];
        let id = client.run(&pod_id, &pod, &with(&client, mounts.clone())).await.unwrap();
        let text = said(&mut client, &id, "cat /data/deep/file; touch /data/new; ls /data").await;
        assert_eq!(text, "realdeep\nnew");
        let denied =
            client.exec(&id, &["/bin/sh", "-c", "echo x > /data/deep/file"]).await.unwrap();
        assert!(denied.code != 0 && denied.stderr.contains("Read-only"));
        assert!(daemon.path("made/here/new").exists());
        let status = client.status(&id).await.unwrap();
        assert_eq!(status.mounts, mounts);

        let absent = api::ContainerConfig {
            metadata: Some(api::ContainerMetadata { name: "absent".into(), attempt: 0 }),
            ..with(&client, vec![bind("/etc/hostname", &daemon.path("absent"))])
        };
        let made = client.create(&pod_id, &pod, &absent).await;
        let text = refused(made, Code::FailedPrecondition);
        assert!(text.contains("absent_mount_sources_to_reject"), "{text}");
        assert!(!daemon.path("absent").exists());
        client.remove_pod(&pod_id).await.unwrap();
        daemon
    });
}

#[test]
fn mounts_made_later_show_where_the_propagation_says() {
    scene::prepared(
        &[],
        |daemon| share(daemon),
        |daemon, mut client| async move {
            let mut pod = client.pod("shop");
            let linux = pod.linux.get_or_insert_default();
            linux.security_context.get_or_insert_default().privileged = true;
            let pod_id = client.run_pod(&pod).await.unwrap();
            let source = daemon.path("shared");
            let propagating = |at: &str, kind: MountPropagation| api::Mount {
                propagation: kind.into(),
                ..bind(at, &source)
            };
            let mut container = with(
                &client,
                vec![
                    propagating("/private", MountPropagation::PropagationPrivate),
                    propagating("/slave", MountPropagation::PropagationHostToContainer),
                    propagating("/both", MountPropagation::PropagationBidirectional),
                ],
            );
            let context = container.linux.get_or_insert_default();
            context.security_context.get_or_insert_default().privileged = true;
            let id = client.run(&pod_id, &pod, &container).await.unwrap();
            tmpfs(&source.join("inner"));
            std::fs::File::create(source.join("inner/late")).unwrap();
            let text = "for i in private slave both; do ls /$i/inner/late 2>/dev/null; done; true";
            assert_eq!(said(&mut client, &id, text).await, "/slave/inner/late\n/both/inner/late");
            // And the other way, through the one that goes both ways.
            said(
                &mut client,
                &id,
                "mkdir /both/from; mount -t tmpfs t /both/from; touch /both/from/x",
            )
            .await;
            assert!(source.join("from/x").exists());
            said(
                &mut client,
                &id,
                "mkdir /slave/own; mount -t tmpfs t /slave/own; touch /slave/own/x",
            )
            .await;
            assert!(!source.join("own/x").exists());
            let status = client.status(&id).await.unwrap();
            assert_eq!(status.mounts, container.mounts);
            client.remove_pod(&pod_id).await.unwrap();
            for name in ["from", "inner"] {
                nix::mount::umount2(&source.join(name), MntFlags::MNT_DETACH).unwrap();
            }
            unshare(&daemon);
            daemon
        },
    );
}

#[test]
fn propagation_is_refused_where_the_source_does_not_propagate() {
    scene::prepared(
        &[],
        |daemon| share(daemon),
        |daemon, mut client| async move {
            let pod = client.pod("shop");
            let pod_id = client.run_pod(&pod).await.unwrap();
            let before = scene::kept(&daemon);
            let slave = daemon.path("slave");
            std::fs::create_dir(&slave).unwrap();
            let shared = daemon.path("shared");
            nix::mount::mount(Some(&shared), &slave, NONE, MsFlags::MS_BIND, NONE).unwrap();
            nix::mount::mount(NONE, &slave, NONE, MsFlags::MS_SLAVE, NONE).unwrap();
            let private = daemon.path("private");
            std::fs::create_dir(&private).unwrap();
            use MountPropagation::PropagationBidirectional as Both;
            use MountPropagation::PropagationHostToContainer as Slave;
            for (kind, source, wanted) in [
                (Slave, &private, "a shared or slave mount"),
                (Both, &private, "a shared mount"),
                (Both, &slave, "a shared mount"),
            ] {
                let mount = api::Mount { propagation: kind.into(), ..bind("/data", source) };
                let made = client.create(&pod_id, &pod, &with(&client, vec![mount])).await;
                let text = refused(made, Code::FailedPrecondition);
                assert!(text.contains(wanted) && text.contains("/data"), "{text}");
            }
            nix::mount::umount2(&slave, MntFlags::MNT_DETACH).unwrap();
            unshare(&daemon);
            scene::unchanged(&daemon, &before, "refused mounts").await;
            client.remove_pod(&pod_id).await.unwrap();
            daemon
        },
    );
}

#[test]
fn recursive_read_only_holds_for_what_is_mounted_below_or_is_refused() {
    scene::prepared(
        &[],
        |daemon| share(daemon),
        |daemon, mut client| async move {
            let request = api::StatusRequest { verbose: false };
            let status = client.runtime.status(request).await.unwrap().into_inner();
            let handlers = status.runtime_handlers;
            let can = handlers.iter().any(|handler| {
                handler
                    .features
                    .as_ref()
                    .is_some_and(|features| features.recursive_read_only_mounts)
            });
            assert!(can, "this runtime cannot make mounts read-only recursively");
            let pod = client.pod("shop");
            let pod_id = client.run_pod(&pod).await.unwrap();
            let source = daemon.path("shared");
            tmpfs(&source.join("inner"));
            let all =
                api::Mount { readonly: true, recursive_read_only: true, ..bind("/all", &source) };
            let top = api::Mount { readonly: true, ..bind("/top", &source) };
            let container = with(&client, vec![all.clone(), top]);
            let id = client.run(&pod_id, &pod, &container).await.unwrap();
            let text = "touch /top/inner/x && ! touch /top/x 2>/dev/null && echo top; \
                    ! touch /all/inner/x 2>/dev/null && ! touch /all/x 2>/dev/null && echo all";
            assert_eq!(said(&mut client, &id, text).await, "top\nall");
            let status = client.status(&id).await.unwrap();
            assert!(status.mounts.iter().any(|mount| mount.recursive_read_only));
            for wrong in [
                api::Mount { readonly: false, ..all.clone() },
                api::Mount {
                    propagation: MountPropagation::PropagationHostToContainer.into(),
                    ..all.clone()
                },
            ] {
                let mut container = with(&client, vec![wrong]);
                container.metadata.get_or_insert_default().name = "wrong".to_owned();
                let text = refused(client.create(&pod_id, &pod, &container).await, Code::Unknown);
                assert!(text.starts_with("RROUnsupported: "), "{text}");
            }
            client.remove_pod(&pod_id).await.unwrap();
            nix::mount::umount2(&source.join("inner"), MntFlags::MNT_DETACH).unwrap();
            unshare(&daemon);
            daemon
        },
    );
}

/// An image that declares these volumes, under the scene's name.
fn declare(daemon: &Daemon, volumes: &[&str]) {
    let volumes: serde_json::Map<_, _> =
        volumes.iter().map(|path| ((*path).to_owned(), json!({}))).collect();
    let config = json!({"Env": ["PATH=/bin"], "Volumes": volumes});
    scene::bring(daemon, IMAGE, &scene::busybox(config));
}

#[test]
fn a_volume_path_of_the_image_that_climbs_makes_nothing_on_the_node() {
    scene::story(&[], |daemon, mut client| async move {
        let outside = daemon.path("outside");
        let climbing = format!("/../../../../../../../..{}", outside.display());
        declare(&daemon, &["/cache/deep", "/", &climbing]);
        let pod = client.pod("shop");
        let pod_id = client.run_pod(&pod).await.unwrap();
        let mut container = with(&client, Vec::new());
        let context = container.linux.get_or_insert_default();
        let context = context.security_context.get_or_insert_default();
        context.run_as_user = Some(api::Int64Value { value: 1000 });
        let id = client.run(&pod_id, &pod, &container).await.unwrap();
        let text = "touch /cache/deep/x; stat -c %u:%a /cache/deep";
        assert_eq!(said(&mut client, &id, text).await, "1000:755");
        assert!(!outside.exists());
        said(&mut client, &id, &format!("ls -d {}", outside.display())).await;
        client.remove_pod(&pod_id).await.unwrap();
        daemon
    });
}

#[test]
fn bound_volumes_of_an_image_go_with_the_container_and_hide_nothing() {
    let bound = |daemon: &mut Daemon| daemon.config("[crio.image]\nimage_volumes = \"bind\"\n");
    scene::prepared(&[], bound, |daemon, mut client| async move {
        let pod = client.pod("shop");
        let pod_id = client.run_pod(&pod).await.unwrap();
        let before = scene::kept(&daemon);
        declare(&daemon, &["/cache", "/data"]);
        // What the pod asks for at the same place counts.
        std::fs::create_dir(daemon.path("given")).unwrap();
        daemon.write("given/file", "given");
        let container = with(&client, vec![bind("/data", &daemon.path("given"))]);
        let id = client.run(&pod_id, &pod, &container).await.unwrap();
        let text = "grep -c ' /cache ' /proc/self/mountinfo; touch /cache/x; cat /data/file";
        assert_eq!(said(&mut client, &id, text).await, "1\ngiven");
        client.remove(&id).await.unwrap();
        for path in ["/proc", "/", "/dev/x"] {
            declare(&daemon, &[path]);
            let made = client.create(&pod_id, &pod, &with(&client, Vec::new())).await;
            let text = refused(made, Code::InvalidArgument);
            assert!(text.contains("volume of the image"), "{text}");
        }
        scene::unchanged(&daemon, &before, "bound volumes").await;
        client.remove_pod(&pod_id).await.unwrap();
        daemon
    });
}

#[test]
fn volumes_in_memory_and_of_huge_pages_are_what_they_are_inside() {
    scene::story(&[], |daemon, mut client| async move {
        let pod = client.pod("shop");
        let pod_id = client.run_pod(&pod).await.unwrap();
        let mut held = Vec::new();
        // As the kubelet mounts an emptyDir of the medium Memory, and of HugePages-2Mi.
        for (kind, options) in [("tmpfs", "size=4m"), ("hugetlbfs", "pagesize=2M")] {
            let path = daemon.path(kind);
            std::fs::create_dir(&path).unwrap();
            let target = path.to_str().unwrap();
            host::run("mount", &["-t", kind, "-o", options, kind, target]);
            held.push(path);
        }
        let mount = |kind: &str| api::Mount {
            container_path: format!("/{kind}"),
            host_path: daemon.path(kind).display().to_string(),
            ..Default::default()
        };
        let mut web = script(&client, "web", "sleep 600");
        web.mounts = vec![mount("tmpfs"), mount("hugetlbfs")];
        // The kubelet limits every size that the node has, whether or not cgroups can.
        let page = |size: &str, limit| api::HugepageLimit { page_size: size.to_owned(), limit };
        web.linux.as_mut().unwrap().resources = Some(api::LinuxContainerResources {
            hugepage_limits: vec![page("2MB", 4 << 20), page("1GB", 0)],
            ..Default::default()
        });
        let id = client.run(&pod_id, &pod, &web).await.unwrap();
        let text = "awk '$2 == \"/tmpfs\" || $2 == \"/hugetlbfs\" {print $3}' /proc/mounts; \
                    echo x > /tmpfs/x; dd if=/dev/zero of=/tmpfs/y bs=1M count=8 2>&1 | grep -c space";
        let seen = said(&mut client, &id, text).await;
        assert!(seen.contains("tmpfs") && seen.contains("hugetlbfs"), "{seen}");
        assert_eq!(std::fs::read_to_string(daemon.path("tmpfs/x")).unwrap(), "x\n");
        let status = client.status(&id).await.unwrap();
        let limits = status.resources.unwrap().linux.unwrap().hugepage_limits;
        assert!(
            limits.iter().any(|limit| (limit.page_size.as_str(), limit.limit) == ("2MB", 4 << 20))
        );
        let limit = host::cgroup_limit_of_huge_pages(&id);
        assert!(limit.is_none_or(|limit| limit == 4 << 20), "{limit:?}");
        client.remove_pod(&pod_id).await.unwrap();
        for path in held {
            host::run("umount", &[path.to_str().unwrap()]);
        }
        daemon
    });
}

#[test]
fn below_a_prefix_lies_the_node_and_no_link_leads_out_of_it() {
    let prepare = |daemon: &mut Daemon| {
        let prefix = daemon.path("node");
        std::fs::create_dir_all(prefix.join("data")).unwrap();
        std::fs::create_dir_all(prefix.join("etc")).unwrap();
        daemon.write("node/data/file", "below");
        daemon.write("node/etc/hostname", "of the prefix");
        std::os::unix::fs::symlink("/etc", prefix.join("link")).unwrap();
        daemon.config(&format!("[crio.runtime]\nbind_mount_prefix = {prefix:?}\n"));
    };
    scene::prepared(&[], prepare, |daemon, mut client| async move {
        let pod = client.pod("shop");
        let pod_id = client.run_pod(&pod).await.unwrap();
        let mounts = vec![
            bind("/below", Path::new("/data")),
            bind("/linked", Path::new("/link")),
            bind("/made", Path::new("/new/deep")),
        ];
        let id = client.run(&pod_id, &pod, &with(&client, mounts)).await.unwrap();
        let told = said(&mut client, &id, "cat /below/file /linked/hostname; ls /made").await;
        assert_eq!(told, "belowof the prefix");
        assert!(daemon.path("node/new/deep").is_dir() && !Path::new("/new").exists());
        // Another prefix holds for the next container; the first keeps what it has.
        std::fs::create_dir_all(daemon.path("other/data")).unwrap();
        daemon.write("other/data/file", "of the other");
        let other = daemon.path("other");
        let text = format!("[crio.runtime]\nbind_mount_prefix = {other:?}\n");
        daemon.write("crio.conf.d/90-other.conf", &text);
        daemon.reload().await;
        let mut next = with(&client, vec![bind("/below", Path::new("/data"))]);
        next.metadata.as_mut().unwrap().name = "next".to_owned();
        let next = client.run(&pod_id, &pod, &next).await.unwrap();
        assert_eq!(said(&mut client, &next, "cat /below/file").await, "of the other");
        assert_eq!(said(&mut client, &id, "cat /below/file").await, "below");
        client.remove_pod(&pod_id).await.unwrap();
        daemon
    });
}
