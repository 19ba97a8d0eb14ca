//! The streaming server behind other addresses and behind TLS: who may speak to it.

use std::io::Write;
use std::process::Stdio;

use crate::scene;
use crate::streaming::TRANSPORTS;
use crate::streaming::UPGRADE;
use crate::streaming::ask;
use crate::streaming::crictl;
use crate::streaming::running;
use crate::streaming::talk;
use crate::streaming::wanted;
use crate::support::daemon::Daemon;
use crate::support::host;

/// Writes an authority, and what it signs for a server on localhost and for a client.
fn certificates(daemon: &Daemon, name: &str) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    let authority = params.self_signed(&key).unwrap();
    daemon.write(&format!("{name}-ca.pem"), &authority.pem());
    let issuer = rcgen::Issuer::new(params, key);
    for (role, usage) in [
        ("server", rcgen::ExtendedKeyUsagePurpose::ServerAuth),
        ("client", rcgen::ExtendedKeyUsagePurpose::ClientAuth),
    ] {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.extended_key_usages = vec![usage];
        let signed = params.signed_by(&key, &issuer).unwrap();
        daemon.write(&format!("{name}-{role}.pem"), &signed.pem());
        daemon.write(&format!("{name}-{role}.key"), &key.serialize_pem());
    }
}

fn path(daemon: &Daemon, name: &str) -> String {
    daemon.path(name).display().to_string()
}

fn with_tls(daemon: &Daemon, more: &str) {
    certificates(daemon, "ours");
    certificates(daemon, "theirs");
    daemon.config(&format!(
        "[crio.api]\nstream_enable_tls = true\nstream_tls_cert = {:?}\nstream_tls_key = {:?}\n\
         stream_tls_ca = {:?}\n{more}",
        daemon.path("ours-server.pem"),
        daemon.path("ours-server.key"),
        daemon.path("ours-ca.pem"),
    ));
}

/// What openssl says of a connection at this version, with or without a certificate, when it asks
/// for something: an HTTP answer, or an alert.
fn openssl(daemon: &Daemon, url: &str, version: &str, client: Option<&str>) -> String {
    let address = url.strip_prefix("https://").unwrap().split('/').next().unwrap();
    let mut command = host::command("openssl");
    command.args(["s_client", "-connect", address, "-quiet", "-no_ign_eof", version]);
    command.args(["-CAfile", &path(daemon, "ours-ca.pem"), "-verify_return_error"]);
    if let Some(client) = client {
        command.args(["-cert", &path(daemon, &format!("{client}-client.pem"))]);
        command.args(["-key", &path(daemon, &format!("{client}-client.key"))]);
    }
    // The oldest versions are off in openssl itself.
    command.args(["-cipher", "ALL:@SECLEVEL=0"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let _ = stdin.write_all(b"GET /exec/none HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let output = child.wait_with_output().unwrap();
    drop(stdin);
    let all = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&all).into_owned()
}

#[test]
fn with_tls_only_clients_that_the_authority_signed_are_served() {
    if !host::can(&["crictl", "openssl"]) {
        return;
    }
    let prepare = |daemon: &mut Daemon| with_tls(daemon, "");
    scene::prepared(&[], prepare, |daemon, mut client| async move {
        let (pod_id, id) = running(&mut client, "sleep 600").await;
        for transport in TRANSPORTS {
            let exec = |who: &str| {
                let mut command = crictl(&daemon, &["exec", "-r", transport]);
                command.args(["--tls-ca", &path(&daemon, "ours-ca.pem")]);
                command.args(["--tls-cert", &path(&daemon, &format!("{who}-client.pem"))]);
                command.args(["--tls-key", &path(&daemon, &format!("{who}-client.key"))]);
                command.args([&id, "/bin/sh", "-c", "echo ran; exit 3"]);
                let ran = talk(command, Vec::new());
                (ran.stdout, String::from_utf8_lossy(&ran.stderr).into_owned())
            };
            let (stdout, stderr) = exec("ours");
            assert_eq!(stdout, b"ran\n", "{transport}: {stderr}");
            assert!(stderr.contains("exit code 3"), "{transport}: {stderr}");
            let (stdout, stderr) = exec("theirs");
            assert_eq!(stdout, b"", "{transport}");
            assert!(stderr.contains("tls:"), "{transport}: {stderr}");
        }
        let url = client.runtime.exec(wanted(&id, "true")).await.unwrap().into_inner().url;
        assert!(url.starts_with("https://127.0.0.1:"), "{url}");
        // Without TLS there is no HTTP, and a token is not used up by that.
        let (line, _) = ask(&url.replace("https", "http"), "GET", UPGRADE);
        assert!(!line.contains("HTTP"), "{line}");
        for version in ["-tls1_2", "-tls1_3"] {
            let said = openssl(&daemon, &url, version, Some("ours"));
            assert!(said.contains("HTTP/1.1 404"), "{version}: {said}");
            for stranger in [None, Some("theirs")] {
                let said = openssl(&daemon, &url, version, stranger);
                assert!(!said.contains("HTTP/1.1"), "{version} {stranger:?}: {said}");
                assert!(said.contains("alert"), "{version} {stranger:?}: {said}");
            }
        }
        let said = openssl(&daemon, &url, "-tls1_1", Some("ours"));
        assert!(!said.contains("HTTP/1.1"), "{said}");
        client.remove_pod(&pod_id).await.unwrap();
        daemon
    });
}

#[test]
fn an_old_version_of_tls_can_be_turned_off() {
    if !host::can(&["openssl"]) {
        return;
    }
    let prepare = |daemon: &mut Daemon| with_tls(daemon, "tls_min_version = \"VersionTLS13\"\n");
    scene::prepared(&[], prepare, |daemon, mut client| async move {
        let (pod_id, id) = running(&mut client, "sleep 600").await;
        let url = client.runtime.exec(wanted(&id, "true")).await.unwrap().into_inner().url;
        let said = openssl(&daemon, &url, "-tls1_3", Some("ours"));
        assert!(said.contains("HTTP/1.1 404"), "{said}");
        let said = openssl(&daemon, &url, "-tls1_2", Some("ours"));
        assert!(!said.contains("HTTP/1.1") && said.contains("alert"), "{said}");
        client.remove_pod(&pod_id).await.unwrap();
        daemon
    });
}

#[test]
fn streams_are_served_by_ipv6_and_on_every_address() {
    if !host::can(&["crictl"]) {
        return;
    }
    for (address, host) in [("::1", "[::1]"), ("::", "[::]"), ("0.0.0.0", "[::]")] {
        let prepare = |daemon: &mut Daemon| {
            daemon.config(&format!("[crio.api]\nstream_address = {address:?}\n"));
        };
        scene::prepared(&[], prepare, |daemon, mut client| async move {
            let (pod_id, id) = running(&mut client, "sleep 600").await;
            let url = client.runtime.exec(wanted(&id, "true")).await.unwrap().into_inner().url;
            assert!(url.starts_with(&format!("http://{host}:")), "{address}: {url}");
            for transport in TRANSPORTS {
                let all = ["exec", "-r", transport, &id, "/bin/sh", "-c", "echo ran"];
                let ran = talk(crictl(&daemon, &all), Vec::new());
                let stderr = String::from_utf8_lossy(&ran.stderr);
                assert_eq!(ran.stdout, b"ran\n", "{address} {transport}: {stderr}");
            }
            // Whoever asks for every address has both families.
            let four = url.replace(host, "127.0.0.1");
            if address == "::1" {
                let port = four.rsplit(':').next().unwrap().split('/').next().unwrap();
                let port: u16 = port.parse().unwrap();
                assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err());
            } else {
                assert!(ask(&four, "GET", "").0.contains(" 400 "));
            }
            client.remove_pod(&pod_id).await.unwrap();
            daemon
        });
    }
}

#[test]
fn metrics_are_served_over_tls_with_a_certificate_that_is_made_and_read_again() {
    if !host::can(&["openssl"]) {
        return;
    }
    scene::prepared(
        &[],
        |daemon| {
            daemon.config(&format!(
                "[crio.metrics]\nenable_metrics = true\nmetrics_port = 19092\n\
                 metrics_cert = {:?}\nmetrics_key = {:?}\n",
                daemon.path("metrics/cert.pem"),
                daemon.path("metrics/key.pem"),
            ));
        },
        |daemon, _| async move {
            let scraped = |authority: &str| {
                let mut command = host::command("openssl");
                command.args(["s_client", "-connect", "127.0.0.1:19092", "-quiet", "-no_ign_eof"]);
                command.args(["-verify_return_error", "-CAfile", authority]);
                command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
                let mut child = command.spawn().unwrap();
                let mut stdin = child.stdin.take().unwrap();
                let asked = b"GET /metrics HTTP/1.1\r\nHost: node\r\n\r\n";
                let _ = stdin.write_all(asked);
                let output = child.wait_with_output().unwrap();
                drop(stdin);
                String::from_utf8_lossy(&output.stdout).into_owned()
            };
            let made = path(&daemon, "metrics/cert.pem");
            assert!(scraped(&made).contains("container_runtime_crio_operations_total"));
            // Nobody who speaks no TLS is told anything.
            let mut plain = std::net::TcpStream::connect("127.0.0.1:19092").unwrap();
            plain.write_all(b"GET /metrics HTTP/1.1\r\nHost: node\r\n\r\n").unwrap();
            let mut answer = Vec::new();
            let _ = std::io::Read::read_to_end(&mut plain, &mut answer);
            assert!(!String::from_utf8_lossy(&answer).contains("container_runtime_crio"));
            // A renewed one needs no signal.
            certificates(&daemon, "ours");
            for (from, to) in [("ours-server.key", "key.pem"), ("ours-server.pem", "cert.pem")] {
                let to = daemon.path(&format!("metrics/{to}"));
                std::fs::rename(daemon.path(from), to).unwrap();
            }
            let renewed = scraped(&path(&daemon, "ours-ca.pem"));
            assert!(renewed.contains("container_runtime_crio_operations_total"), "{renewed}");
            daemon
        },
    );
}
