//! A policy in words, and what in it is legal and surely not meant.
//!
//! It goes by the text and not by what was understood of it, so that every requirement is shown with
//! all that its author wrote, whatever its kind. It decides nothing.

use std::collections::BTreeMap;

use serde_json::Map;
use serde_json::Value;

use crate::oci::reference::Reference;

/// The transport of images from registries.
const DOCKER: &str = "docker";
/// The others that containers/image has: whoever names one means it.
const OTHER_TRANSPORTS: [&str; 9] = [
    "atomic",
    "containers-storage",
    "dir",
    "docker-archive",
    "docker-daemon",
    "oci",
    "oci-archive",
    "ostree",
    "sif",
];
/// What the words of a keyless signer begin with or have in them, where they are compared whole.
const WRITTEN_OUT: [(&str, &str, &str); 4] = [
    ("oidcIssuer", "://", "https://accounts.google.com"),
    ("subjectEmail", "@", "dev@shop.example"),
    ("sourceRepository", "://", "https://github.com/shop/api"),
    ("sourceRef", "refs/", "refs/heads/main"),
];
/// The scope of what no other one names.
pub const DEFAULT: &str = "default";
/// The scope of what no other one names, of images from registries.
const DOCKER_DEFAULT: &str = "docker default";

/// The requirements of a policy, by their scopes.
#[derive(Debug)]
pub struct Outline {
    scopes: BTreeMap<String, Vec<Map<String, Value>>>,
    /// Transports of images that this program never sees.
    others: Vec<String>,
}

impl Outline {
    /// Reads the text of a policy that was found to be one; what is none has no scopes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let value: Value = serde_json::from_slice(bytes).unwrap_or_default();
        let list = |list: &Value| -> Vec<Map<String, Value>> {
            list.as_array().into_iter().flatten().filter_map(Value::as_object).cloned().collect()
        };
        let mut outline = Self { scopes: BTreeMap::new(), others: Vec::new() };
        if let Some(default) = value.get(DEFAULT) {
            outline.scopes.insert(DEFAULT.to_owned(), list(default));
        }
        let transports = value.get("transports").and_then(Value::as_object);
        for (transport, scopes) in transports.into_iter().flatten() {
            if transport != DOCKER {
                outline.others.push(transport.clone());
                continue;
            }
            for (scope, requirements) in scopes.as_object().into_iter().flatten() {
                let name = if scope.is_empty() { DOCKER_DEFAULT } else { scope };
                outline.scopes.insert(name.to_owned(), list(requirements));
            }
        }
        outline
    }

    /// Every scope with its requirements in words.
    #[must_use]
    pub fn scopes(&self) -> Vec<(String, Vec<String>)> {
        let named = |(scope, list): (&String, &Vec<_>)| {
            (scope.clone(), list.iter().map(words).collect::<Vec<_>>())
        };
        self.scopes.iter().map(named).collect()
    }

    /// The requirements of a scope in words.
    #[must_use]
    pub fn requires(&self, scope: &str) -> Vec<String> {
        self.scopes.get(scope).into_iter().flatten().map(words).collect()
    }

    /// What is legal and surely not meant.
    #[must_use]
    pub fn doubts(&self) -> Vec<String> {
        let mut doubts: Vec<String> = self
            .others
            .iter()
            .map(|name| {
                let known = OTHER_TRANSPORTS.contains(&name.as_str());
                let near = if known { "" } else { "; did you mean \"docker\"?" };
                format!("transport {name:?} holds for no image of a registry{near}")
            })
            .collect();
        for (scope, list) in &self.scopes {
            let of_scope = never_matches(scope).into_iter().chain(doubts_of(scope, list));
            doubts.extend(of_scope.map(|doubt| format!("scope {scope:?}: {doubt}")));
        }
        doubts.extend(self.doubt_of_the_default());
        doubts
    }

    fn doubt_of_the_default(&self) -> Option<String> {
        let list = self.scopes.get(DOCKER_DEFAULT).or(self.scopes.get(DEFAULT))?;
        let stricter = || self.scopes.values().any(|list| !accepts_anything(list));
        if accepts_anything(list) && stricter() {
            return Some(
                "an image that no scope names is accepted, also one under a name that looks like \
                 one of the scopes; \"default\": [{\"type\": \"reject\"}] refuses it"
                    .to_owned(),
            );
        }
        let all_reject = self.scopes.values().all(|list| has(list, "reject"));
        all_reject.then(|| "every scope rejects, so nothing can run".to_owned())
    }
}

/// A requirement as a sentence has it: its kind, and all that was written beside it.
fn words(requirement: &Map<String, Value>) -> String {
    let kind = requirement.get("type").and_then(Value::as_str).unwrap_or_default();
    let meaning = match kind {
        "insecureAcceptAnything" => "nothing: anything is accepted",
        "reject" => "what never holds: everything is refused",
        "sigstoreSigned" => "a sigstore signature",
        "sigstoreAttested" => "a sigstore attestation",
        "signedBy" => "an OpenPGP signature",
        other => other,
    };
    let mut text = meaning.to_owned();
    for (name, value) in requirement.iter().filter(|(name, _)| *name != "type") {
        text.push_str(&format!(", {name} {}", shown(value)));
    }
    text
}

/// A value in short: of key material only that it is there.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) if text.len() > 120 => format!("({} characters)", text.len()),
        Value::String(text) => text.clone(),
        Value::Array(list) => list.iter().map(shown).collect::<Vec<_>>().join(" or "),
        Value::Object(members) => {
            let kind = members.get("type").and_then(Value::as_str);
            let rest = members.iter().filter(|(name, _)| *name != "type");
            let rest = rest.map(|(name, value)| format!("{name} {}", shown(value)));
            kind.map(str::to_owned).into_iter().chain(rest).collect::<Vec<_>>().join(" ")
        }
        other => other.to_string(),
    }
}

fn kind_of(requirement: &Map<String, Value>) -> &str {
    requirement.get("type").and_then(Value::as_str).unwrap_or_default()
}

fn has(list: &[Map<String, Value>], kind: &str) -> bool {
    list.iter().any(|requirement| kind_of(requirement) == kind)
}

fn accepts_anything(list: &[Map<String, Value>]) -> bool {
    list.iter().all(|requirement| kind_of(requirement) == "insecureAcceptAnything")
}

/// Why no image has this scope, or fewer than its author may think.
fn never_matches(scope: &str) -> Option<String> {
    if matches!(scope, DEFAULT | DOCKER_DEFAULT) {
        return None;
    }
    if let Some((scheme, rest)) = scope.split_once("://") {
        return Some(format!("no image has it, because of {scheme:?}; write {rest:?}"));
    }
    if let Some(domain) = scope.strip_prefix("*.") {
        let plain = |letter: char| letter.is_ascii_alphanumeric() || ".-".contains(letter);
        return (!domain.chars().all(plain) || domain.is_empty()).then(|| {
            "no image has it: a domain stands alone behind \"*.\", without port and path".to_owned()
        });
    }
    if scope.contains('*') {
        return Some(
            "no image has it: \"*.\" can only stand first, for a whole host name".to_owned(),
        );
    }
    let trimmed = scope.trim().trim_end_matches('/');
    if trimmed != scope {
        return Some(format!("no image has it; write {trimmed:?}"));
    }
    let is_host = |text: &str| text.contains(['.', ':']) || text == "localhost";
    let Some((host, path)) = scope.split_once('/') else {
        return never_a_host(scope, is_host(scope));
    };
    if !is_host(host) {
        let meant = Reference::parse_normalized(scope).map(|name| name.to_string());
        let meant = meant.unwrap_or_else(|_| format!("docker.io/{scope}"));
        return Some(format!(
            "no image has it, because names are written out; did you mean {meant:?}?"
        ));
    }
    if host == "index.docker.io" {
        return Some(format!("no image has it; write {:?}", format!("docker.io/{path}")));
    }
    let reference = match Reference::parse_normalized(scope) {
        Ok(reference) => reference,
        Err(error) => return Some(format!("no image has it: {}", crate::failure::chain(&error))),
    };
    if reference.tag().is_some() && reference.digest().is_some() {
        return Some("no image has it: where there is a digest, no tag is looked at".to_owned());
    }
    if host == "docker.io" && !path.contains('/') && path != "library" {
        let pinned = reference.tag().is_some() || reference.digest().is_some();
        return Some(if pinned {
            format!("no image has it; write {:?}", reference.to_string())
        } else {
            format!(
                "holds for what is below it, as {scope}/app; the image {path} itself is {:?}",
                reference.to_string()
            )
        });
    }
    None
}

/// The same of a scope without a path, which must be a host.
fn never_a_host(scope: &str, looks_like_one: bool) -> Option<String> {
    if scope == "index.docker.io" {
        return Some("no image has it; write \"docker.io\"".to_owned());
    }
    if looks_like_one && Reference::parse_normalized(&format!("{scope}/x")).is_ok() {
        return None;
    }
    let meant = Reference::parse_normalized(scope).map(|name| name.to_string());
    let meant = meant.unwrap_or_else(|_| "the host".to_owned());
    Some(format!("no image has it, because names are written out; did you mean {meant:?}?"))
}

/// What is odd about the requirements of a scope.
fn doubts_of(scope: &str, list: &[Map<String, Value>]) -> Vec<String> {
    let mut doubts = Vec::new();
    if has(list, "insecureAcceptAnything") && !accepts_anything(list) {
        doubts.push("\"insecureAcceptAnything\" beside others has no effect".to_owned());
    }
    if has(list, "reject") && list.len() > 1 {
        doubts.push("\"reject\" beside others: nothing is ever accepted".to_owned());
    }
    let broad = matches!(scope, DEFAULT | DOCKER_DEFAULT) || !scope.contains('/');
    for requirement in list {
        let identity = requirement.get("signedIdentity");
        let kind = identity.and_then(|identity| identity.get("type")).and_then(Value::as_str);
        let sigstore = kind_of(requirement) == "sigstoreSigned";
        if kind == Some("matchSubjectDigest") && broad {
            doubts.push(
                "\"matchSubjectDigest\" looks at no name, so all that the signer ever signed may run \
                 here under any name; name the repositories"
                    .to_owned(),
            );
        }
        if sigstore && matches!(kind, None | Some("matchExact" | "matchRepoDigestOrExact")) {
            doubts.push(
                "cosign signs without a tag, so its signatures are accepted of images by digest only; \
                 \"signedIdentity\": {\"type\": \"matchRepository\"} accepts them"
                    .to_owned(),
            );
        }
        doubts.extend(identity.and_then(|identity| useless_remap(scope, identity)));
        doubts.extend(doubts_of_the_signer(requirement));
    }
    doubts
}

/// What is odd about who must have signed, and where the keys are.
fn doubts_of_the_signer(requirement: &Map<String, Value>) -> Vec<String> {
    let mut doubts = Vec::new();
    if kind_of(requirement) == "signedBaseLayer" {
        doubts.push(
            "\"signedBaseLayer\" is not implemented, as in containers/image: nothing is ever accepted"
                .to_owned(),
        );
    }
    let inner = |name: &str| requirement.get(name).and_then(Value::as_object);
    for members in [Some(requirement), inner("fulcio"), inner("pki")].into_iter().flatten() {
        for (name, value) in members.iter().filter(|(name, _)| name.ends_with("Path")) {
            doubts.extend(value.as_str().and_then(|path| relative(name, path)));
        }
        for (name, value) in members.iter().filter(|(name, _)| name.ends_with("Paths")) {
            let paths = value.as_array().into_iter().flatten().filter_map(Value::as_str);
            doubts.extend(paths.filter_map(|path| relative(name, path)));
        }
    }
    let fulcio = |name: &str| inner("fulcio")?.get(name)?.as_str();
    for (name, has, example) in WRITTEN_OUT {
        if let Some(text) = fulcio(name).filter(|text| !text.contains(has)) {
            doubts.push(format!("{name:?} is compared whole, as {example:?}, not {text:?}"));
        }
    }
    let pattern = fulcio("subjectRegex").map(|text| text.trim_matches(['^', '$']));
    if pattern.is_some_and(|pattern| matches!(pattern, ".*" | ".+")) {
        doubts.push("\"subjectRegex\" is met by anybody who can log in with the issuer".to_owned());
    }
    doubts
}

/// A path that means one file here and another one for the daemon.
fn relative(name: &str, path: &str) -> Option<String> {
    (!path.starts_with('/')).then(|| {
        format!(
            "{name:?} {path:?} is looked for below the directory that the program is started in, the \
             daemon's being another one; write the whole path"
        )
    })
}

/// A prefix that no name in the scope begins with.
fn useless_remap(scope: &str, identity: &Value) -> Option<String> {
    let prefix = identity.get("prefix")?.as_str()?;
    let meets = matches!(scope, DEFAULT | DOCKER_DEFAULT)
        || scope.starts_with("*.")
        || prefix.starts_with(scope)
        || scope.starts_with(prefix);
    (!meets).then(|| format!("no name here begins with the prefix {prefix:?} of \"remapIdentity\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn doubts(docker: &str) -> Vec<String> {
        let text =
            format!(r#"{{"default":[{{"type":"reject"}}],"transports":{{"docker":{docker}}}}}"#);
        Outline::of(text.as_bytes()).doubts()
    }

    fn scope(scope: &str) -> String {
        let all = doubts(&format!(
            r#"{{{}:[{{"type":"signedBy","keyType":"GPGKeys","keyPath":"/k"}}]}}"#,
            serde_json::json!(scope)
        ));
        all.join("\n")
    }

    #[test]
    fn a_scope_that_no_image_can_have_is_doubted() {
        for (written, meant) in [
            ("https://q.io/a", "\"q.io/a\""),
            ("docker://q.io/a", "\"q.io/a\""),
            ("busybox", "\"docker.io/library/busybox\""),
            ("shop/api", "\"docker.io/shop/api\""),
            ("docker.io/busybox:1", "\"docker.io/library/busybox:1\""),
            ("docker.io/busybox", "\"docker.io/library/busybox\""),
            ("index.docker.io/library/a", "\"docker.io/library/a\""),
            ("q.io/a/", "\"q.io/a\""),
            ("q.io/*", "stand first"),
            ("*.q.io:5000", "without port"),
            ("*.q.io/a", "without port and path"),
            ("q.io/Shop", "illegal"),
            ("busybox:latest", "\"docker.io/library/busybox:latest\""),
            ("q.io:main", "names are written out"),
            ("index.docker.io", "write \"docker.io\""),
        ] {
            let doubt = scope(written);
            assert!(doubt.contains(meant), "{written}: {doubt}");
        }
        let digest = format!("q.io/a:1@sha256:{}", "1".repeat(64));
        assert!(scope(&digest).contains("no tag is looked at"));
        for fine in [
            "q.io",
            "q.io:5000",
            "localhost",
            "q.io/a",
            "q.io/a/b:1",
            "*.q.io",
            "docker.io/library",
            "docker.io/library/busybox",
            "docker.io",
            "",
        ] {
            assert_eq!(scope(fine), "", "{fine}");
        }
    }

    #[test]
    fn requirements_that_cannot_be_meant_are_doubted() {
        for (requirements, words) in [
            (r#"[{"type":"insecureAcceptAnything"},{"type":"reject"}]"#, "has no effect"),
            (r#"[{"type":"reject"},{"type":"reject"}]"#, "nothing is ever accepted"),
            (
                r#"[{"type":"sigstoreSigned","keyPath":"/k","signedIdentity":{"type":"matchSubjectDigest"}}]"#,
                "under any name",
            ),
            (r#"[{"type":"sigstoreSigned","keyPath":"/k"}]"#, "cosign signs without a tag"),
            (
                r#"[{"type":"signedBy","keyType":"GPGKeys","keyPath":"/k","signedIdentity":
                {"type":"remapIdentity","prefix":"z.io","signedPrefix":"a.io"}}]"#,
                "no name here begins with the prefix \"z.io\"",
            ),
            (
                r#"[{"type":"signedBaseLayer","baseLayerIdentity":{"type":"matchExact"}}]"#,
                "is not implemented",
            ),
            (
                r#"[{"type":"signedBy","keyType":"GPGKeys","keyPaths":["/k","shop.gpg"]}]"#,
                "\"keyPaths\" \"shop.gpg\" is looked for below",
            ),
            (
                r#"[{"type":"sigstoreSigned","fulcio":{"trustedRootPath":"root.json"}}]"#,
                "\"trustedRootPath\" \"root.json\" is looked for below",
            ),
            (
                r#"[{"type":"sigstoreSigned","fulcio":{"sourceRef":"main"}}]"#,
                "\"sourceRef\" is compared whole, as \"refs/heads/main\", not \"main\"",
            ),
            (
                r#"[{"type":"sigstoreAttested","fulcio":{"oidcIssuer":"accounts.google.com"}}]"#,
                "\"oidcIssuer\" is compared whole",
            ),
            (
                r#"[{"type":"sigstoreSigned","fulcio":{"subjectRegex":"^.*$"}}]"#,
                "anybody who can log in",
            ),
        ] {
            let found = doubts(&format!(r#"{{"q.io":{requirements}}}"#)).join("\n");
            assert!(found.contains(words), "{requirements}: {found}");
        }
    }

    #[test]
    fn a_default_that_lets_everything_in_beside_strict_scopes_is_doubted() {
        let text = r#"{"default":[{"type":"insecureAcceptAnything"}],
            "transports":{"docker":{"q.io":[{"type":"reject"}]},"Docker":{}}}"#;
        let found = Outline::of(text.as_bytes()).doubts().join("\n");
        assert!(found.contains("no scope names is accepted"), "{found}");
        assert!(found.contains("did you mean \"docker\"?"), "{found}");
        // What containers-common brings for podman is no slip of the pen.
        let stock = r#"{"default":[{"type":"reject"}],
            "transports":{"docker-daemon":{"":[{"type":"insecureAcceptAnything"}]},"dockr":{}}}"#;
        let found = Outline::of(stock.as_bytes()).doubts();
        assert!(found[0].ends_with("no image of a registry"), "{found:?}");
        assert!(found[1].contains("\"dockr\"") && found[1].contains("did you mean"), "{found:?}");
        let plain = r#"{"default":[{"type":"insecureAcceptAnything"}]}"#;
        assert_eq!(Outline::of(plain.as_bytes()).doubts(), [""; 0]);
    }

    #[test]
    fn a_requirement_is_shown_with_all_that_was_written() {
        let text = r#"{"default":[{"type":"sigstoreSigned","keyPaths":["/a","/b"],
            "signedIdentity":{"type":"exactRepository","dockerRepository":"q.io/a"}}]}"#;
        assert_eq!(
            Outline::of(text.as_bytes()).requires("default"),
            ["a sigstore signature, keyPaths /a or /b, signedIdentity exactRepository \
              dockerRepository q.io/a"]
        );
    }
}
