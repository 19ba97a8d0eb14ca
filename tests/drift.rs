//! Holds together what is said in more than one place: program, documents, configuration.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that cannot run the program must stop"
)]

use std::collections::BTreeSet;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use crioxide::config::key::Effect;
use crioxide::config::keys;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap()
}

/// What the program prints, with no configuration of this machine in the way.
fn crio(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_crio"))
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("CONTAINERS_STORAGE_CONF", "/nonexistent/storage.conf")
        .args(["--config=", "--config-dir="])
        .args(arguments)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "crio {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

fn documents() -> Vec<PathBuf> {
    let inside = |directory: &Path| {
        let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.extension().is_some_and(|kind| kind == "md")).collect::<Vec<_>>()
    };
    let folders = ["", "docs", "docs/decisions", "kubeadm", "packaging", "policy", "tests/vm"];
    folders.iter().flat_map(|folder| inside(&root().join(folder))).collect()
}

#[test]
fn the_first_line_of_version_is_what_minikube_cuts() {
    let line = format!("crio version {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(crio(&["--version"]), line);
}

#[test]
fn the_default_configuration_has_every_key_and_nothing_else_is_a_setting() {
    let text = crio(&["config", "--default"]);
    let set = text.lines().filter(|line| !line.starts_with('#'));
    let set: BTreeSet<&str> =
        set.filter_map(|line| line.split_once(" = ")).map(|(key, _)| key).collect();
    // Workloads have no default, so their tables are not printed.
    let shown =
        keys().filter(|key| key.table.starts_with("crio") && !key.table.contains("workloads"));
    let known: BTreeSet<&str> = shown.map(|key| key.name).collect();
    assert_eq!(set, known);
}

#[test]
fn a_default_configuration_is_a_comment() {
    let text = crio(&["config"]);
    let set: Vec<&str> =
        text.lines().filter(|line| line.contains(" = ") && !line.starts_with('#')).collect();
    assert_eq!(set, [""; 0]);
    let text = crio(&["--cgroup-manager", "cgroupfs", "config"]);
    assert!(text.lines().any(|line| line == "cgroup_manager = \"cgroupfs\""), "{text}");
}

#[test]
fn the_configuration_reference_is_what_the_program_prints() {
    let printed = crio(&["markdown", "configuration.md"]);
    assert!(
        read("docs/configuration.md") == printed,
        "docs/configuration.md is not what the program prints; mend it with: \
         target/debug/crio markdown configuration.md > docs/configuration.md"
    );
}

#[test]
fn every_flag_is_explained() {
    let help = crio(&["--help"]);
    for key in keys().filter(|key| !key.row.hidden) {
        let Some(flag) = key.flag() else { continue };
        assert!(help.contains(&format!("--{flag}")), "--{flag}");
    }
}

/// A key that says it has an effect must be read by somebody.
#[test]
fn every_key_with_an_effect_is_used() {
    let mut code = String::new();
    for directory in ["src/daemon", "src/cli", "src/config"] {
        for entry in std::fs::read_dir(root().join(directory)).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_file() && name != "tests.rs" {
                code.push_str(&std::fs::read_to_string(&path).unwrap());
            }
        }
    }
    let unused = keys().filter(|key| key.row.effect == Effect::Now).filter(|key| {
        let field = format!(".{}", key.name);
        let ends = |rest: &str| {
            !rest.starts_with(|letter: char| letter.is_alphanumeric() || letter == '_')
        };
        !code
            .match_indices(&field)
            .any(|(at, found)| code.get(at + found.len()..).is_some_and(ends))
    });
    let unused: Vec<String> = unused.map(crioxide::config::key::Key::path).collect();
    assert_eq!(unused, [""; 0], "a row that says NOW, and nobody reads the field");
}

/// Whether a document has a heading that is linked to so.
fn has_heading(text: &str, link: &str) -> bool {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let mut links = headings.map(|line| {
        let kept = |letter: &char| letter.is_alphanumeric() || matches!(letter, ' ' | '-' | '_');
        let words: String = line.trim_start_matches('#').trim().chars().filter(kept).collect();
        words.to_lowercase().replace(' ', "-")
    });
    links.any(|found| found == link)
}

/// A path in a document that begins with a folder of ours must be there.
#[test]
fn documents_name_files_that_exist() {
    let mut missing = Vec::new();
    for document in documents() {
        let text = std::fs::read_to_string(&document).unwrap();
        let quoted = text.split('`').skip(1).step_by(2);
        let linked = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        let ours = ["src/", "tests/", "docs/", "proto/", "policy/", "packaging/"];
        for path in quoted.filter(|path| ours.iter().any(|folder| path.starts_with(folder))) {
            if !root().join(path).exists() {
                missing.push(format!("{}: {path}", document.display()));
            }
        }
        for link in linked.filter(|link| !link.contains("://")) {
            let (path, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = match path {
                "" => document.clone(),
                path => document.parent().unwrap().join(path),
            };
            let found = heading.is_empty()
                || std::fs::read_to_string(&target).is_ok_and(|text| has_heading(&text, heading));
            if !target.exists() || !found {
                missing.push(format!("{}: {link}", document.display()));
            }
        }
    }
    assert_eq!(missing, [""; 0]);
}

#[test]
fn every_decision_is_listed() {
    let listed = read("docs/decisions/README.md");
    for entry in std::fs::read_dir(root().join("docs/decisions")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(name == "README.md" || listed.contains(&format!("({name})")), "{name}");
    }
}

#[test]
fn documents_name_verbs_that_make_knows() {
    let makefile = read("Makefile");
    for document in documents() {
        let text = std::fs::read_to_string(&document).unwrap();
        for rest in text.split("make ").skip(1) {
            let end = rest.find(|letter: char| !letter.is_ascii_lowercase()).unwrap_or(rest.len());
            let (verb, after) = rest.split_at(end);
            // Prose has "make" too; a verb is in code: a backtick or a line's end follows.
            let is_code =
                after.starts_with('`') || after.starts_with('\n') || after.starts_with(" &&");
            if is_code && !verb.is_empty() {
                assert!(
                    makefile.contains(&format!("\n{verb}:")),
                    "{}: make {verb}",
                    document.display()
                );
            }
        }
    }
}
