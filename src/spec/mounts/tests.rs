//! Which mounts come, in which order, and which are refused.

use super::*;
use crate::failure::Classify;
use crate::failure::Kind;
use crate::model::container::ImageChoice;
use crate::model::container::Mount as Wanted;
use crate::model::security::IdMapping;
use crate::spec::tests::Fixture;

fn wanted(target: &str) -> Wanted {
    Wanted {
        container_path: target.to_owned(),
        host_path: "/srv/x".to_owned(),
        ..Wanted::default()
    }
}

fn resolved(mount: &Wanted) -> ResolvedMount<'_> {
    ResolvedMount {
        mount,
        target: None,
        source: "/srv/x".into(),
        sharing: Sharing::Private,
        holds_store: false,
    }
}

fn made(fixture: &Fixture) -> Mounts {
    fixture.with(container).unwrap()
}

fn targets(mounts: &Mounts) -> Vec<String> {
    mounts.list.iter().map(|mount| mount.destination().display().to_string()).collect()
}

fn options<'a>(mounts: &'a Mounts, target: &str) -> &'a [String] {
    let found = mounts.list.iter().find(|mount| mount.destination() == Path::new(target));
    found.and_then(|mount| mount.options().as_deref()).unwrap_or_else(|| panic!("{target}"))
}

/// Makes the mounts with these requested ones, each changed as `with` says.
fn with_mounts(
    list: &[Wanted],
    with: impl Fn(&mut ResolvedMount<'_>),
) -> Result<Mounts, SpecError> {
    let mut fixture = Fixture::default();
    fixture.config.mounts = list.to_vec();
    let mut found: Vec<_> = list.iter().map(resolved).collect();
    found.iter_mut().for_each(with);
    fixture.with(|facts| container(&ContainerFacts { mounts: &found, ..*facts }))
}

#[test]
fn the_default_mounts_come_in_order() {
    let expected = [
        "/proc",
        "/dev",
        "/dev/pts",
        "/dev/shm",
        "/dev/mqueue",
        "/sys",
        "/sys/fs/cgroup",
        "/etc/resolv.conf",
        "/etc/hostname",
        "/run/.containerenv",
    ];
    let mounts = made(&Fixture::default());
    assert_eq!(targets(&mounts), expected);
    assert!(options(&mounts, "/sys").contains(&"ro".to_owned()));
    assert!(options(&mounts, "/sys/fs/cgroup").contains(&"ro".to_owned()));
    assert_eq!(options(&mounts, "/dev/shm"), ["rw", "bind"]);
    assert_eq!(options(&mounts, "/etc/hostname"), ["rw", "bind"]);
    assert_eq!(mounts.root_propagation, None);
}

#[test]
fn requested_mounts_come_by_depth_and_replace_what_they_cover() {
    let list = ["/data/a/b", "/dev", "/data", "/etc/hostname", "/data//a/", "/sys/fs"].map(wanted);
    let mounts = with_mounts(&list, |_| {}).unwrap();
    assert_eq!(
        targets(&mounts),
        [
            "/proc",
            "/sys",
            "/etc/resolv.conf",
            "/run/.containerenv",
            "/dev",
            "/data",
            "/etc/hostname",
            "/data/a",
            "/sys/fs",
            "/data/a/b",
        ]
    );
    assert_eq!(options(&mounts, "/data"), ["rbind", "rprivate", "rw"]);
}

#[test]
fn the_last_of_two_mounts_at_one_place_wins() {
    let mut second = wanted("/data/");
    second.readonly = true;
    let mounts = with_mounts(&[wanted("/data"), second], |_| {}).unwrap();
    assert_eq!(options(&mounts, "/data"), ["rbind", "rprivate", "ro"]);
    assert_eq!(targets(&mounts).iter().filter(|target| *target == "/data").count(), 1);
}

#[test]
fn a_mount_does_not_take_the_place_of_the_judged_image() {
    for target in ["/", "/x/..", "relative", "", "/a\nb"] {
        assert!(with_mounts(&[wanted(target)], |_| {}).is_err(), "{target:?}");
    }
    let climbing = with_mounts(&[wanted("/../../data")], |_| {}).unwrap();
    assert!(targets(&climbing).contains(&"/data".to_owned()));
}

#[test]
fn propagation_needs_a_source_that_propagates() {
    use Propagation::Bidirectional;
    use Propagation::HostToContainer;
    use Propagation::Private;
    for (asked, sharing, expected) in [
        (Private, Sharing::Shared, Some(("rprivate", None))),
        (HostToContainer, Sharing::Shared, Some(("rslave", Some("rslave")))),
        (HostToContainer, Sharing::Slave, Some(("rslave", Some("rslave")))),
        (HostToContainer, Sharing::Private, None),
        (Bidirectional, Sharing::Shared, Some(("rshared", Some("rshared")))),
        (Bidirectional, Sharing::Slave, None),
        (Bidirectional, Sharing::Private, None),
    ] {
        let list = [Wanted { propagation: asked, ..wanted("/data") }];
        match (with_mounts(&list, |mount| mount.sharing = sharing), expected) {
            (Ok(mounts), Some((option, root))) => {
                assert_eq!(options(&mounts, "/data"), ["rbind", option, "rw"]);
                assert_eq!(mounts.root_propagation, root);
            }
            (Err(SpecError::Propagation { .. }), None) => {}
            (found, _) => panic!("{asked:?} {sharing:?}: {:?}", found.map(|m| m.root_propagation)),
        }
    }
    let list = [
        Wanted { propagation: Bidirectional, ..wanted("/a") },
        Wanted { propagation: HostToContainer, ..wanted("/b") },
    ];
    let mounts = with_mounts(&list, |mount| mount.sharing = Sharing::Shared).unwrap();
    assert_eq!(mounts.root_propagation, Some("rshared"));
}

#[test]
fn the_store_s_own_mounts_are_not_held_by_a_container() {
    let mounts = with_mounts(&[wanted("/host")], |mount| mount.holds_store = true).unwrap();
    assert_eq!(options(&mounts, "/host"), ["rbind", "rslave", "rw"]);
    assert_eq!(mounts.root_propagation, Some("rslave"));
}

#[test]
fn recursive_read_only_is_made_or_refused_never_less() {
    let full = Wanted { readonly: true, recursive_read_only: true, ..wanted("/data") };
    let writable = Wanted { readonly: false, ..full.clone() };
    let spread = Wanted { propagation: Propagation::HostToContainer, ..full.clone() };
    for mount in [full.clone(), writable, spread] {
        let error = with_mounts(&[mount], |found| found.sharing = Sharing::Shared).err().unwrap();
        assert_eq!(error.kind(), Kind::RecursiveReadOnly, "{error}");
    }
    let mut fixture = Fixture::default();
    fixture.handler.recursive_read_only = true;
    fixture.config.mounts = vec![full.clone()];
    let found = [resolved(&full)];
    let mounts = fixture.with(|facts| container(&ContainerFacts { mounts: &found, ..*facts }));
    assert_eq!(options(&mounts.unwrap(), "/data"), ["rbind", "rprivate", "rro"]);
}

#[test]
fn no_mount_is_dropped() {
    let mut fixture = Fixture::default();
    fixture.config.mounts = vec![wanted("/lost")];
    assert!(fixture.with(|facts| container(facts).is_err()), "a mount must not be dropped");
}

#[test]
fn an_image_as_a_volume_is_read_only_whatever_is_asked_for() {
    let image = ImageChoice { image: "vol".into(), ..ImageChoice::default() };
    let list = [Wanted { image: Some(image), readonly: false, ..wanted("/v") }];
    let mounts = with_mounts(&list, |_| {}).unwrap();
    assert_eq!(options(&mounts, "/v"), ["bind", "rprivate", "ro"]);
    let files = with_mounts(&list, |found| found.target = Some("/v/model.bin".to_owned()));
    assert!(targets(&files.unwrap()).contains(&"/v/model.bin".to_owned()));
}

#[test]
fn a_volume_of_the_image_hides_nothing_of_the_kernel_s() {
    let volume = |target: &str| MadeVolume { target: target.to_owned(), source: "/run/v".into() };
    let with = |target: &str| {
        let volumes = [volume(target)];
        Fixture::default()
            .with(|facts| container(&ContainerFacts { own_volumes: &volumes, ..*facts }))
    };
    for target in ["/", "/..", "/proc", "/a/../proc/x", "/sys/fs", "/dev", "relative", "/a\nb"] {
        assert!(with(target).is_err(), "{target:?}");
    }
    let mounts = with("/../../data").unwrap();
    assert_eq!(options(&mounts, "/data"), ["private", "bind", "rw"]);
}

#[test]
fn owners_are_mapped_by_a_runtime_that_can_and_never_left_out() {
    let map = vec![IdMapping { host_id: 65_536, container_id: 0, length: 1000 }];
    let mut volume =
        Wanted { uid_mappings: map.clone(), gid_mappings: map.clone(), ..wanted("/v") };
    let make = |volume: &Wanted, able: bool| {
        let mut fixture = Fixture::default();
        fixture.config.mounts = vec![volume.clone()];
        fixture.handler.id_mapped_mounts = able;
        let found = [resolved(volume)];
        fixture.with(|facts| container(&ContainerFacts { mounts: &found, ..*facts }))
    };
    let error = make(&volume, false).err().unwrap();
    assert!(matches!(&error, SpecError::IdMappedMount { path } if path == "/v"), "{error}");
    let made = make(&volume, true).unwrap();
    let mount = made.list.last().unwrap();
    for ids in [mount.uid_mappings(), mount.gid_mappings()] {
        let id = ids.as_ref().unwrap()[0];
        assert_eq!((id.container_id(), id.host_id(), id.size()), (0, 65_536, 1000));
    }
    volume.gid_mappings = Vec::new();
    assert!(make(&volume, true).is_err(), "users without groups");
    volume.gid_mappings = vec![IdMapping { length: 0, ..map[0] }];
    assert!(make(&volume, true).is_err(), "no ids");
    volume.gid_mappings = vec![IdMapping { host_id: u32::MAX, ..map[0] }];
    assert!(make(&volume, true).is_err(), "past the end");
}

#[test]
fn a_pod_of_the_node_s_network_sees_the_node_s_sysfs_from_its_users() {
    let mut fixture = Fixture::default();
    fixture.sandbox.security.namespaces.user_namespace = Some(IdMapping::default());
    let kind = |fixture: &Fixture| {
        let made = made(fixture);
        let sys = made.list.iter().find(|mount| mount.destination() == Path::new("/sys"));
        let sys = sys.unwrap();
        (sys.typ().clone().unwrap(), sys.options().clone().unwrap())
    };
    assert_eq!(kind(&fixture).0, "sysfs");
    fixture.host_network = true;
    let (kind, options) = kind(&fixture);
    assert_eq!(kind, "bind");
    for option in ["rbind", "ro", "nosuid", "noexec", "nodev"] {
        assert!(options.iter().any(|found| found == option), "{option}");
    }
}

#[test]
fn the_host_s_names_only_for_the_host_s_network() {
    let mut fixture = Fixture::default();
    assert!(!targets(&made(&fixture)).contains(&"/etc/hosts".to_owned()));
    fixture.host_network = true;
    assert!(targets(&made(&fixture)).contains(&"/etc/hosts".to_owned()));
}

#[test]
fn a_read_only_node_leaves_places_to_write() {
    let mut fixture = Fixture::default();
    fixture.defaults.read_only = true;
    let mounts = made(&fixture);
    let targets = targets(&mounts);
    let at = |target: &str| targets.iter().position(|found| found == target).unwrap();
    assert!(at("/run") < at("/run/.containerenv"));
    assert!(options(&mounts, "/tmp").contains(&"mode=1777".to_owned()));
    assert_eq!(options(&mounts, "/etc/hostname"), ["ro", "bind"]);
}

#[test]
fn systemd_gets_its_places_and_no_way_to_the_release_agent() {
    let mut fixture = Fixture::default();
    fixture.config.command = vec!["/sbin/init".into()];
    let mounts = made(&fixture);
    let found = targets(&mounts);
    for target in ["/run", "/run/lock", "/tmp", "/var/log/journal", "/sys/fs/cgroup/systemd"] {
        assert!(found.iter().any(|known| known == target), "{target}");
    }
    assert_eq!(mounts.masked.as_deref(), Some("/sys/fs/cgroup/systemd/release_agent"));
    fixture.host.cgroup_v2 = true;
    let mounts = made(&fixture);
    assert_eq!(options(&mounts, "/sys/fs/cgroup"), ["private", "rw"]);
    assert_eq!(mounts.masked, None);
}
