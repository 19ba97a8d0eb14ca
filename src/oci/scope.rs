//! The scopes of policy.json and of registries.d: the most specific one wins.

use crate::oci::reference::Reference;

/// The scopes that `reference` falls under, the most specific first.
///
/// `q.io:5000/a/b:t` → itself, `q.io:5000/a/b`, `q.io:5000/a`, `q.io:5000`, `*.io`: the order of
/// containers-policy.json(5). The port is left out for the wildcards. A tag is not looked at where
/// there is a digest.
#[must_use]
pub fn candidates(reference: &Reference) -> Vec<String> {
    let identity = reference.clone().without_tag_if_digested().or_latest();
    let mut scopes = vec![identity.to_string()];
    let repository = identity.repository();
    let mut name = repository.as_str();
    loop {
        scopes.push(name.to_owned());
        match name.rsplit_once('/') {
            Some((parent, _)) => name = parent,
            None => break,
        }
    }
    let mut domain = name.split_once(':').map_or(name, |(host, _)| host);
    while let Some((_, parent)) = domain.split_once('.') {
        scopes.push(format!("*.{parent}"));
        domain = parent;
    }
    scopes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(reference: &str, expected: &[&str]) {
        let reference = Reference::parse_normalized(reference).unwrap();
        assert_eq!(candidates(&reference), expected, "{reference}");
    }

    #[test]
    fn scopes_go_from_the_image_up_to_its_domain() {
        check(
            "registry.example.com:5000/a/b:t",
            &[
                "registry.example.com:5000/a/b:t",
                "registry.example.com:5000/a/b",
                "registry.example.com:5000/a",
                "registry.example.com:5000",
                "*.example.com",
                "*.com",
            ],
        );
        check(
            "busybox",
            &[
                "docker.io/library/busybox:latest",
                "docker.io/library/busybox",
                "docker.io/library",
                "docker.io",
                "*.io",
            ],
        );
        check("localhost/a:1", &["localhost/a:1", "localhost/a", "localhost"]);
    }

    #[test]
    fn a_digest_hides_the_tag_from_the_scopes() {
        let digest = format!("sha256:{}", "1".repeat(64));
        let image = format!("localhost/a:1@{digest}");
        check(&image, &[&format!("localhost/a@{digest}"), "localhost/a", "localhost"]);
    }
}
