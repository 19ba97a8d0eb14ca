//! Tables for short names, mirrors and rewritten locations.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::*;
use crate::registry::conf::Entry;
use crate::registry::conf::Mirror;

fn digested(name: &str) -> String {
    format!("{name}@sha256:{}", "0".repeat(64))
}

fn short_names(search: &[&str]) -> Conf {
    let mut aliases = BTreeMap::new();
    aliases.insert("app".to_owned(), Some("q.io/team/app".parse().unwrap()));
    aliases.insert("taken/back".to_owned(), None);
    let search = search.iter().map(|host| (*host).to_owned()).collect();
    Conf { search, aliases, search_file: PathBuf::from("/conf"), ..Conf::default() }
}

#[test]
fn names_are_completed() {
    let conf = short_names(&["docker.io"]);
    for (text, expected) in [
        ("app", "q.io/team/app:latest".to_owned()),
        ("app:1", "q.io/team/app:1".to_owned()),
        (&digested("app:1"), digested("q.io/team/app")),
        ("busybox", "docker.io/library/busybox:latest".to_owned()),
        ("me/busybox:1", "docker.io/me/busybox:1".to_owned()),
        ("taken/back", "docker.io/taken/back:latest".to_owned()),
        ("localhost/a", "localhost/a:latest".to_owned()),
        (&digested("r.io/a:1"), digested("r.io/a")),
    ] {
        let found = candidates(&conf, ShortNameMode::Enforcing, text).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].to_string(), expected, "{text}");
    }
}

#[test]
fn a_name_with_two_meanings_is_refused_unless_allowed() {
    let conf = short_names(&["docker.io", "q.io"]);
    let error = candidates(&conf, ShortNameMode::Enforcing, "b").unwrap_err().to_string();
    assert!(error.contains("docker.io/library/b:latest, q.io/b:latest"), "{error}");
    let found = candidates(&conf, ShortNameMode::Disabled, "b").unwrap();
    let found: Vec<String> = found.iter().map(Reference::to_string).collect();
    assert_eq!(found, ["docker.io/library/b:latest", "q.io/b:latest"]);
    let none = candidates(&short_names(&[]), ShortNameMode::Disabled, "b").unwrap_err();
    assert!(none.to_string().contains("/conf"), "{none}");
}

fn entry(location: &str, mirrors: &[(&str, Serves)]) -> Entry {
    let endpoint = |location: &str| Endpoint { location: location.to_owned(), insecure: false };
    let mirrors = mirrors
        .iter()
        .map(|(location, serves)| Mirror { endpoint: endpoint(location), serves: *serves });
    Entry {
        file: PathBuf::from("/conf"),
        blocked: false,
        endpoint: endpoint(location),
        mirrors: mirrors.collect(),
    }
}

fn asked(conf: &Conf, reference: &str) -> Vec<String> {
    let places = places(conf, &reference.parse().unwrap()).unwrap();
    places
        .iter()
        .map(|place| {
            let insecure = if place.insecure { "!" } else { "" };
            let mirror = if place.mirror { "~" } else { "" };
            format!("{mirror}{insecure}{}", place.physical)
        })
        .collect()
}

fn registries(entries: &[(&str, Entry)]) -> Conf {
    let entries = entries.iter().map(|(prefix, entry)| ((*prefix).to_owned(), entry.clone()));
    Conf { entries: entries.collect(), ..Conf::default() }
}

#[test]
fn mirrors_come_first_and_serve_what_they_may() {
    let mirrors = [
        ("all.io/cache", Serves::All),
        ("tags.io", Serves::Tags),
        ("digests.io:5000", Serves::Digests),
    ];
    let conf = registries(&[("q.io", entry("q.io", &mirrors))]);
    assert_eq!(asked(&conf, "r.io/a:1"), ["r.io/a:1"]);
    assert_eq!(asked(&conf, "q.io/a/b:1"), ["~all.io/cache/a/b:1", "~tags.io/a/b:1", "q.io/a/b:1"]);
    assert_eq!(
        asked(&conf, &digested("q.io/a")),
        [
            format!("~{}", digested("all.io/cache/a")),
            format!("~{}", digested("digests.io:5000/a")),
            digested("q.io/a")
        ]
    );
}

#[test]
fn locations_take_the_place_of_prefixes() {
    let conf = registries(&[
        ("q.io/old", entry("new.io:5000/x", &[])),
        ("q.io/one:1", entry("r.io/one:2", &[])),
        ("*.w.io", entry("", &[("m.io/w", Serves::All)])),
        ("bad.io", entry("short/x", &[])),
    ]);
    assert_eq!(asked(&conf, "q.io/old/a:1"), ["new.io:5000/x/a:1"]);
    assert_eq!(asked(&conf, "q.io/older:1"), ["q.io/older:1"]);
    assert_eq!(asked(&conf, "q.io/one:1"), ["r.io/one:2"]);
    assert_eq!(asked(&conf, "x.w.io/a:1"), ["~m.io/w/a:1", "x.w.io/a:1"]);
    let error = places(&conf, &"bad.io/a:1".parse().unwrap()).unwrap_err().to_string();
    assert!(error.contains("/conf") && error.contains("short/x"), "{error}");
}

#[test]
fn a_place_with_an_entry_of_its_own_obeys_it() {
    let mut insecure = entry("i.io", &[]);
    insecure.endpoint.insecure = true;
    let mut blocked = entry("b.io", &[]);
    blocked.blocked = true;
    let mirrors = [("b.io", Serves::All), ("i.io/x", Serves::All)];
    let conf = registries(&[
        ("q.io", entry("q.io", &mirrors)),
        ("moved.io", entry("b.io/x", &[])),
        ("i.io", insecure),
        ("b.io", blocked),
    ]);
    assert_eq!(asked(&conf, "q.io/a:1"), ["~!i.io/x/a:1", "q.io/a:1"]);
    assert_eq!(asked(&conf, "i.io/a:1"), ["!i.io/a:1"]);
    for reference in ["b.io/a:1", "moved.io/a:1"] {
        let error = places(&conf, &reference.parse().unwrap()).unwrap_err();
        assert!(matches!(error, RegistryError::Blocked { .. }), "{error}");
        assert!(error.to_string().contains("\"b.io\" is blocked in /conf"), "{error}");
    }
}
