//! What reaches the annotations, and what must not.

use super::*;
use crate::spec::tests::Fixture;

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn allowed(keys: &[&str]) -> Vec<String> {
    keys.iter().map(ToString::to_string).collect()
}

fn made(fixture: &Fixture) -> HashMap<String, String> {
    fixture.with(|facts| container(facts, "RuntimeDefault")).unwrap()
}

#[test]
fn nothing_passes_unless_it_is_allowed_cve_2024_3154() {
    let hostile = "org.systemd.property.ExecStartPre";
    let mut fixture = Fixture::default();
    fixture.config.annotations = map(&[(hostile, "x"), ("run.oci.hooks", "y")]);
    fixture.sandbox.annotations = map(&[(hostile, "x")]);
    fixture.config.labels = map(&[(hostile, "x"), ("run.oci.hooks", "y")]);
    let found = made(&fixture);
    assert!(!found.contains_key(hostile) && !found.contains_key("run.oci.hooks"));
    assert!(found[key::ANNOTATIONS].contains(hostile), "kept as data for the status");
    fixture.handler.allowed_annotations = allowed(&["run.oci."]);
    let found = made(&fixture);
    assert_eq!(found["run.oci.hooks"], "y");
    assert!(!found.contains_key(hostile));
}

#[test]
fn a_suffix_does_not_slip_through_cve_2023_6476() {
    let users = map(&[
        ("unified-cgroup.crio.io", "1"),
        ("unified-cgroup.crio.io/web", "2"),
        ("unified-cgroup.crio.io.web", "3"),
        ("unified-cgroup.crio.iox", "4"),
        ("dev.gvisor.spec.x", "5"),
    ]);
    let found = passed_on(&users, &allowed(&["unified-cgroup.crio.io", "dev.gvisor.", ""]));
    assert_eq!(found.into_values().collect::<Vec<_>>(), ["5", "1", "2"]);
    assert!(passed_on(&users, &[]).is_empty());
}

#[test]
fn a_user_does_not_write_our_records() {
    let mut fixture = Fixture::default();
    let forged = map(&[
        (key::SANDBOX_ID, "f00"),
        (key::MANAGER, "libpod"),
        (key::MOUNT_POINT, "/etc"),
        (key::LABELS, "{}"),
    ]);
    fixture.config.annotations = forged.clone();
    fixture.sandbox.annotations = forged.clone();
    fixture.config.labels = forged;
    fixture.handler.allowed_annotations = allowed(&["io.", "io.kubernetes.cri-o."]);
    let found = made(&fixture);
    assert_eq!(found[key::SANDBOX_ID], fixture.sandbox_id.as_str());
    assert_eq!(
        (found[key::MANAGER].as_str(), found[key::MOUNT_POINT].as_str()),
        ("cri-o", "/root")
    );
}

#[test]
fn labels_of_an_image_are_never_annotations_cve_2026_53488() {
    let mut fixture = Fixture::default();
    fixture.image.labels = Some(map(&[("io.kubernetes.pod.name", "x"), ("run.oci.x", "y")]));
    fixture.handler.allowed_annotations = allowed(&["run.oci.", "io."]);
    let text = format!("{:?}", made(&fixture));
    assert!(!text.contains("run.oci.x") && !text.contains("io.kubernetes.pod.name"), "{text}");
}

#[test]
fn our_keys_are_those_of_crio() {
    let mut fixture = Fixture::default();
    fixture.config.metadata.name = "web".into();
    fixture.config.labels = map(&[("io.kubernetes.pod.name", "shop"), ("app", "x")]);
    fixture.config.tty = true;
    let found = made(&fixture);
    for (key, value) in [
        ("io.kubernetes.cri-o.ContainerType", "container"),
        ("io.kubernetes.cri-o.Metadata", r#"{"name":"web","attempt":0}"#),
        ("io.kubernetes.cri-o.Labels", r#"{"app":"x","io.kubernetes.pod.name":"shop"}"#),
        ("io.kubernetes.cri-o.TTY", "true"),
        ("io.kubernetes.cri-o.Stdin", "false"),
        ("io.kubernetes.cri-o.IP.0", "10.0.0.7"),
        ("io.kubernetes.cri-o.SeccompProfilePath", "RuntimeDefault"),
        ("io.kubernetes.cri-o.ResolvPath", "/run/sb/resolv.conf"),
        ("io.kubernetes.cri-o.Volumes", "[]"),
        ("io.kubernetes.pod.name", "shop"),
    ] {
        assert_eq!(found.get(key).map(String::as_str), Some(value), "{key}");
    }
    assert!(!found.contains_key("app"));
}

#[test]
fn only_a_number_goes_into_a_unit_s_property() {
    let mut fixture = Fixture::default();
    fixture.handler.systemd_cgroups = true;
    fixture.config.annotations = map(&[(GRACE_PERIOD, "30")]);
    let found = made(&fixture);
    assert_eq!(found["org.systemd.property.TimeoutStopUSec"], "uint64 30000000");
    for bad in ["30 uint64", "-1", "", "99999999999999999"] {
        fixture.config.annotations = map(&[(GRACE_PERIOD, bad)]);
        assert!(fixture.with(|facts| container(facts, "")).is_err(), "{bad:?}");
    }
}

#[test]
fn the_stop_signal_is_one_word() {
    let mut fixture = Fixture::default();
    fixture.image.stop_signal = Some("SIGQUIT".into());
    assert_eq!(made(&fixture)[key::STOP_SIGNAL], "SIGQUIT");
    fixture.config.stop_signal = "SIGRTMIN+3".into();
    assert_eq!(made(&fixture)[key::STOP_SIGNAL], "SIGRTMIN+3");
    fixture.config.stop_signal = "TERM\nx".into();
    assert!(fixture.with(|facts| container(facts, "")).is_err());
}
