//! Tables for registries.conf.

use super::*;

fn parse(files: &[(&str, &str)]) -> Result<Conf, RegistryError> {
    let mut conf = Conf::default();
    for (name, text) in files {
        let version = if *name == "main" { Version::Any } else { Version::Two };
        add(&mut conf, Path::new(name), text.as_bytes(), version)?;
    }
    Ok(conf)
}

fn fault(text: &str, expected: &str) {
    let error = crate::failure::chain(&parse(&[("main", text)]).unwrap_err());
    assert!(error.starts_with("main: ") || error.starts_with("cannot understand main"), "{error}");
    assert!(error.contains(expected), "{text}: {error}");
}

#[test]
fn a_prefix_ends_where_a_part_of_the_reference_ends() {
    let digest = format!("q.io/a@sha256:{}", "0".repeat(64));
    for (reference, prefix, expected) in [
        ("q.io/team/app:1", "q.io", Some(4)),
        ("q.io/team/app:1", "q.io/team", Some(9)),
        ("q.io/team/app:1", "q.io/team/app", Some(13)),
        ("q.io/team/app:1", "q.io/team/app:1", Some(15)),
        ("q.io/team/app:1", "q.io/te", None),
        ("q.io/team/app:1", "q.io/team/app:12", None),
        ("q.io/team/app:1", "q", None),
        (&digest, "q.io/a", Some(6)),
        // A port is part of the host.
        ("q.io:5000/a:1", "q.io", None),
        ("q.io:5000/a:1", "q.io:5000", Some(9)),
        ("q.io:5000/a:1", "q.io:50", None),
        ("a.q.io/x:1", "*.q.io", Some(6)),
        ("b.a.q.io/x:1", "*.q.io", Some(8)),
        ("a.q.io:5000/x:1", "*.q.io", Some(6)),
        ("q.io/x:1", "*.q.io", None),
        ("evilq.io/x:1", "*.q.io", None),
        ("r.io/a.q.io:1", "*.q.io", None),
    ] {
        let parsed: Reference = reference.parse().unwrap();
        assert_eq!(matched(reference, parsed.host(), prefix), expected, "{reference} {prefix}");
    }
}

#[test]
fn the_longest_prefix_counts() {
    let text = r#"
        [[registry]]
        location = "q.io"
        blocked = true
        [[registry]]
        prefix = "q.io/team"
        location = "r.io/x"
        [[registry]]
        prefix = "*.q.io"
    "#;
    let conf = parse(&[("main", text)]).unwrap();
    let found = |reference: &str| {
        conf.find(&reference.parse().unwrap()).map(|(prefix, _)| prefix.to_owned())
    };
    assert_eq!(found("q.io/team/a").as_deref(), Some("q.io/team"));
    assert_eq!(found("q.io/a").as_deref(), Some("q.io"));
    assert_eq!(found("x.q.io/a").as_deref(), Some("*.q.io"));
    assert_eq!(found("docker.io/library/a"), None);
}

#[test]
fn a_later_file_replaces_entries_lists_and_aliases() {
    let main = r#"
        unqualified-search-registries = ["docker.io", "q.io/"]
        unknown-key = 1
        [[registry]]
        location = "a.io"
        [[registry]]
        location = "b.io"
        [aliases]
        one = "q.io/one"
        two = "q.io/two"
    "#;
    let more = r#"
        unqualified-search-registries = []
        [[registry]]
        location = "b.io"
        blocked = true
        [aliases]
        two = ""
        three = "q.io/three"
    "#;
    let conf = parse(&[("main", main), ("more", more)]).unwrap();
    assert!(conf.search.is_empty());
    assert_eq!(conf.search_file, Path::new("more"));
    assert!(!conf.entries["a.io"].blocked && conf.entries["b.io"].blocked);
    assert_eq!(conf.entries["b.io"].file, Path::new("more"));
    assert!(conf.aliases["one"].is_some() && conf.aliases["two"].is_none());
    assert_eq!(conf.aliases["three"].as_ref().unwrap().to_string(), "q.io/three");
}

#[test]
fn version_1_is_understood_in_the_main_file_only() {
    let text = r#"
        [registries.search]
        registries = ["docker.io"]
        [registries.insecure]
        registries = ["q.io:5000", "both.io"]
        [registries.block]
        registries = ["both.io"]
    "#;
    let conf = parse(&[("main", text)]).unwrap();
    assert_eq!(conf.search, ["docker.io"]);
    assert!(conf.entries["q.io:5000"].endpoint.insecure && !conf.entries["q.io:5000"].blocked);
    assert!(conf.entries["both.io"].endpoint.insecure && conf.entries["both.io"].blocked);
    assert!(parse(&[("drop-in", text)]).unwrap_err().to_string().contains("version 2"));
    fault(&format!("{text}\n[[registry]]\nlocation = \"q.io\""), "mixes versions");
}

#[test]
fn mirrors_keep_their_order_and_their_limits() {
    let text = r#"
        [[registry]]
        location = "q.io"
        [[registry.mirror]]
        location = "m1.io/cache/"
        insecure = true
        [[registry.mirror]]
        location = "m2.io"
        pull-from-mirror = "tag-only"
        [[registry.mirror]]
        location = "m3.io"
        pull-from-mirror = "digest-only"
        [[registry]]
        location = "r.io"
        mirror-by-digest-only = true
        [[registry.mirror]]
        location = "m4.io"
    "#;
    let conf = parse(&[("main", text)]).unwrap();
    let mirrors: Vec<_> = conf.entries["q.io"]
        .mirrors
        .iter()
        .map(|mirror| (mirror.endpoint.location.as_str(), mirror.endpoint.insecure, mirror.serves))
        .collect();
    assert_eq!(
        mirrors,
        [
            ("m1.io/cache", true, Serves::All),
            ("m2.io", false, Serves::Tags),
            ("m3.io", false, Serves::Digests)
        ]
    );
    assert_eq!(conf.entries["r.io"].mirrors[0].serves, Serves::Digests);
}

#[test]
fn what_contradicts_itself_is_refused() {
    fault("[[registry]]", "neither prefix nor location");
    fault("[[registry]]\nprefix = \"q.io\"", "no location");
    fault("[[registry]]\nlocation = \"https://q.io\"", "URL scheme");
    fault("[[registry]]\nprefix = \"*.q.io/a\"\nlocation = \"q.io\"", "wildcard");
    fault("[[registry]]\nprefix = \"a*.q.io\"\nlocation = \"q.io\"", "wildcard");
    fault("[[registry]]\nlocation = \"q.io\"\npull-from-mirror = \"all\"", "belongs to a mirror");
    let with =
        |mirror: &str| format!("[[registry]]\nlocation = \"q.io\"\n[[registry.mirror]]\n{mirror}");
    fault(&with(""), "no location");
    fault(&with("location = \"m.io\"\npull-from-mirror = \"some\""), "unknown");
    let both = with("location = \"m.io\"\npull-from-mirror = \"all\"").replacen(
        "\n[[",
        "\nmirror-by-digest-only = true\n[[",
        1,
    );
    fault(&both, "exclude each other");
    let twice = |more: &str| {
        format!(
            "[[registry]]\nlocation = \"q.io\"\n[[registry]]\nprefix = \"p.io\"\nlocation = \"q.io\"\n{more}"
        )
    };
    fault(&twice("insecure = true"), "'insecure'");
    fault(&twice("blocked = true"), "'blocked'");
    assert!(parse(&[("main", &twice(""))]).is_ok());
    fault("unqualified-search-registries = [\"q.io/a\"]", "no host");
    fault("[aliases]\n\"q.io/a\" = \"q.io/b\"", "no short name");
    fault("[aliases]\n\"a:1\" = \"q.io/b\"", "no short name");
    fault("[aliases]\na = \"b\"", "no full name");
    fault("[aliases]\na = \"q.io/b:1\"", "no full name");
    fault("registry = 1", "cannot understand");
    fault("[[registry", "cannot understand");
}

#[test]
fn files_are_read_again_when_they_change() {
    let root = tempfile::tempdir().unwrap();
    let drop_ins = root.path().join("conf.d");
    let files = Files::new(root.path().join("registries.conf"), drop_ins.clone());
    assert!(files.load().unwrap().entries.is_empty());
    std::fs::create_dir(&drop_ins).unwrap();
    let write = |name: &str, text: &str| {
        let path = drop_ins.join(name);
        crate::sys::files::replace(
            &path,
            text.as_bytes(),
            0o644,
            crate::sys::files::Durability::Process,
        )
        .unwrap();
    };
    write("20.conf", "unqualified-search-registries = [\"two.io\"]");
    write("10.conf", "unqualified-search-registries = [\"one.io\"]");
    write("30.conf.rpmsave", "not toml");
    let loaded = files.load().unwrap();
    assert_eq!(loaded.search, ["two.io"]);
    assert!(Arc::ptr_eq(&loaded, &files.load().unwrap()));
    write("30.conf", "unqualified-search-registries = [\"three.io\"]");
    assert_eq!(files.load().unwrap().search, ["three.io"]);
    write("40.conf", "x");
    assert!(files.load().unwrap_err().to_string().ends_with("conf.d/40.conf"));
}

/// As a backup, or a package, puts it there.
#[test]
fn another_file_of_the_same_size_and_time_is_read() {
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    let files = Files::new(at("registries.conf"), at("conf.d"));
    let time = std::time::SystemTime::UNIX_EPOCH;
    for host in ["one.io", "two.io"] {
        let text = format!("unqualified-search-registries = [\"{host}\"]");
        let durability = crate::sys::files::Durability::Process;
        crate::sys::files::replace(&at("new"), text.as_bytes(), 0o644, durability).unwrap();
        let file = std::fs::File::options().write(true).open(at("new")).unwrap();
        file.set_modified(time).unwrap();
        std::fs::rename(at("new"), at("registries.conf")).unwrap();
        assert_eq!(files.load().unwrap().search, [host]);
    }
}
