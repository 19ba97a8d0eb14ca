//! registries.d as an administrator writes it, rightly and wrongly.

use super::*;

/// Writes a file, as someone else would.
fn write(path: impl AsRef<std::path::Path>, text: impl AsRef<[u8]>) {
    let durability = crate::sys::files::Durability::Process;
    crate::sys::files::replace(path.as_ref(), text.as_ref(), 0o644, durability).unwrap();
}

/// What files of these texts say.
fn load(texts: &[&str]) -> Result<Arc<SignatureConf>, RegistryError> {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("registries.d");
    std::fs::create_dir(&directory).unwrap();
    for (index, text) in texts.iter().enumerate() {
        write(directory.join(format!("{index}.yaml")), text);
    }
    write(directory.join("README"), "not: [read");
    SignatureFiles::new(vec![root.path().join("absent"), directory]).load()
}

fn lookaside(conf: &SignatureConf, reference: &str) -> Option<String> {
    conf.lookaside(&reference.parse().unwrap()).map(Url::to_string)
}

#[test]
fn the_most_specific_scope_that_says_something_counts() {
    let conf = load(&[
        "default-docker:\n  sigstore: https://d.example/\n  lookaside-staging: file:///staging\n",
        "docker:
  q.io:
    lookaside: https://host.example/
    use-sigstore-attachments: true
  q.io/a:
    lookaside: https://namespace.example/
    sigstore: https://older.example/
  q.io/a/b:
    use-sigstore-attachments: false
  q.io/a/b:t:
    sigstore: file:///tag
  \"*.io\":
    lookaside: https://wildcard.example/
",
        "# nothing\n",
        "docker:\n",
    ]);
    let conf = conf.unwrap();
    for (reference, expected) in [
        ("q.io/a/b:t", "file:///tag"),
        ("q.io/a/b:u", "https://namespace.example/"),
        ("q.io/a:t", "https://namespace.example/"),
        ("q.io/other:t", "https://host.example/"),
        ("q.io:5000/a:t", "https://wildcard.example/"),
        ("r.io/a:t", "https://wildcard.example/"),
        ("r.example/a:t", "https://d.example/"),
    ] {
        assert_eq!(lookaside(&conf, reference).as_deref(), Some(expected), "{reference}");
    }
    for (reference, expected) in
        [("q.io/a/b:t", Some(false)), ("q.io/a:t", Some(true)), ("r.io/a:t", None)]
    {
        assert_eq!(conf.attachments(&reference.parse().unwrap()), expected, "{reference}");
    }
}

#[test]
fn nothing_configured_says_nothing() {
    let reference = "q.io/a:t".parse().unwrap();
    for conf in [load(&[]).unwrap(), SignatureFiles::new(Vec::new()).load().unwrap()] {
        assert_eq!(conf.lookaside(&reference), None);
        assert_eq!(conf.attachments(&reference), None);
    }
}

#[test]
fn what_cannot_be_understood_is_an_error_and_not_silence() {
    for (texts, expected) in [
        (&["docker: [a"][..], "0.yaml"),
        (&["docker:\n  q.io:\n    lookaside: 7/\n"], "lookaside"),
        (&["docker:\n  q.io:\n    lookaside: ftp://h/\n"], "scheme"),
        (&["docker:\n  q.io:\n    use-sigstore-attachments: perhaps\n"], "0.yaml"),
        (&["docker:\n  q.io: {}\n  q.io: {}\n"], "0.yaml"),
        (&["default-docker: {}\n", "default-docker: {}\n"], "default-docker"),
        (&["docker:\n  q.io: {}\n", "docker:\n  q.io: {}\n"], "\"q.io\""),
    ] {
        let error = crate::failure::chain(&load(texts).unwrap_err());
        assert!(error.contains(expected), "{texts:?}: {error}");
    }
}

#[test]
fn unknown_keys_are_for_other_versions() {
    let conf = load(&["new: 1\ndocker:\n  q.io:\n    later: [1]\n    lookaside: file:///a\n"]);
    assert_eq!(lookaside(&conf.unwrap(), "q.io/a:t").as_deref(), Some("file:///a"));
}
