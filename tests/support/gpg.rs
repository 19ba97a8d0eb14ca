//! GnuPG with keys of its own, made on the spot: signatures of images as skopeo and podman have
//! them made.
//!
//! No private key lies in the tree. The agent that GnuPG starts ends with the test.
#![allow(dead_code, unreachable_pub, reason = "each test takes its own part, from where it is")]
#![allow(clippy::disallowed_methods, reason = "tests run the real program")]

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;

use serde_json::json;

/// A GnuPG home that lives as long as the test.
#[derive(Debug)]
pub struct Gpg {
    home: tempfile::TempDir,
}

impl Drop for Gpg {
    fn drop(&mut self) {
        let home = self.home.path();
        let _ = Command::new("gpgconf").arg("--homedir").arg(home).args(["--kill", "all"]).status();
    }
}

impl Default for Gpg {
    fn default() -> Self {
        Self::new()
    }
}

impl Gpg {
    /// A home without keys.
    pub fn new() -> Self {
        // Short, because the agent's socket lies in it.
        let mut builder = tempfile::Builder::new();
        builder.prefix("gpg").permissions(std::fs::Permissions::from_mode(0o700));
        Self { home: builder.tempdir_in("/tmp").expect("a directory") }
    }

    /// The home, for `GNUPGHOME`.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Runs gpg and gives what it writes; what it reads is `input`.
    pub fn run(&self, arguments: &[&str], input: &[u8]) -> Vec<u8> {
        let mut command = Command::new("gpg");
        command.arg("--homedir").arg(self.home.path());
        command.args(["--no-tty", "--yes", "--quiet", "--trust-model", "always"]);
        command.args(["--pinentry-mode", "loopback", "--passphrase", ""]);
        if !arguments.contains(&"--command-fd") {
            command.arg("--batch");
        }
        command.args(arguments).stdin(Stdio::piped());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("gpg");
        child.stdin.take().expect("a pipe").write_all(input).expect("what gpg reads");
        let output = child.wait_with_output().expect("what gpg writes");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "gpg {arguments:?}: {said}");
        output.stdout
    }

    /// A new key for signing that never expires; gives its fingerprint.
    pub fn key(&self, user: &str, algorithm: &str) -> String {
        self.key_with(user, algorithm, "sign", "never", &[])
    }

    /// A new key for `usage` that expires when `expire` says.
    pub fn key_with(
        &self,
        user: &str,
        algorithm: &str,
        usage: &str,
        expire: &str,
        options: &[&str],
    ) -> String {
        let make = ["--quick-generate-key", user, algorithm, usage, expire];
        self.run(&[options, &make].concat(), b"");
        self.fingerprints(user).remove(0)
    }

    /// A new subkey; gives its fingerprint.
    pub fn subkey(&self, key: &str, algorithm: &str, usage: &str, expire: &str) -> String {
        self.run(&["--quick-add-key", key, algorithm, usage, expire], b"");
        self.fingerprints(key).pop().expect("a subkey")
    }

    /// The fingerprints of a key and its subkeys.
    pub fn fingerprints(&self, key: &str) -> Vec<String> {
        let listed = self.run(&["--with-colons", "--list-keys", key], b"");
        let listed = String::from_utf8(listed).expect("text");
        let lines = listed.lines().filter_map(|line| line.strip_prefix("fpr:::::::::"));
        lines.map(|line| line.trim_end_matches(':').to_owned()).collect()
    }

    /// A public key as `gpg --export` writes it.
    pub fn export(&self, key: &str) -> Vec<u8> {
        self.run(&["--export", key], b"")
    }

    /// The same as text.
    pub fn export_armored(&self, key: &str) -> Vec<u8> {
        self.run(&["--armor", "--export", key], b"")
    }

    /// The revocation that gpg keeps ready for a key, as text.
    pub fn revocation(&self, key: &str) -> Vec<u8> {
        let path = self.home.path().join("openpgp-revocs.d").join(format!("{key}.rev"));
        let text = std::fs::read_to_string(path).expect("a revocation");
        let start = text.find(":-----BEGIN").expect("a revocation");
        text.as_bytes()[start + 1..].to_vec()
    }

    /// A signed message, as skopeo has it made.
    pub fn sign(&self, key: &str, text: &[u8]) -> Vec<u8> {
        self.sign_with(key, text, &[])
    }

    /// The same with more options.
    pub fn sign_with(&self, key: &str, text: &[u8], options: &[&str]) -> Vec<u8> {
        // The mark keeps gpg from choosing a subkey by itself.
        let key = format!("{key}!");
        self.run(&[options, &["--local-user", &key, "--sign"]].concat(), text)
    }
}

/// What skopeo and podman sign: `digest` under the name `docker_reference`.
pub fn payload(docker_reference: &str, digest: &str) -> Vec<u8> {
    json!({
        "critical": {
            "identity": { "docker-reference": docker_reference },
            "image": { "docker-manifest-digest": digest },
            "type": "atomic container signature",
        },
        "optional": { "creator": "atomic 5.24.1", "timestamp": 1_458_239_713 },
    })
    .to_string()
    .into_bytes()
}
