//! Holds the sources to the map in ARCHITECTURE.md.
//!
//! The `layers` block says which module may use which, the `doors` block which module alone may use
//! a library. Each check is a function from texts to faults, and is seen to fail below on a text
//! that breaks it.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot read the tree must stop"
)]

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::path::Path;
use std::path::PathBuf;

/// No file ships more lines than these; tests in it are not counted.
const LINES: usize = 500;

type Map = BTreeMap<String, BTreeSet<String>>;

#[test]
fn the_sources_follow_the_map() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join("ARCHITECTURE.md")).unwrap();
    let (layers, doors) = (block(&text, "layers"), block(&text, "doors"));
    let mut faults = cycles(&layers);
    let mut found = BTreeSet::new();
    for path in files(&root.join("src"), "rs") {
        let name = path.strip_prefix(root).unwrap().display().to_string();
        let text = std::fs::read_to_string(&path).unwrap();
        faults.extend(shape(&name, &text));
        let Some(module) = module_of(&name) else { continue };
        faults.extend(imports(&name, &module, &text, &layers));
        faults.extend(libraries(&name, &module, &text, &doors));
        found.insert(module);
    }
    let drawn: BTreeSet<String> = layers.keys().cloned().collect();
    faults.extend(
        found.difference(&drawn).map(|name| format!("src/{name} is not in the layers block")),
    );
    faults.extend(
        drawn
            .difference(&found)
            .map(|name| format!("the layers block has {name}, and src has not")),
    );
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[test]
fn no_file_names_a_place_that_others_do_not_have() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut faults = Vec::new();
    for kind in ["rs", "md", "toml", "sh", "json", "yaml", "Makefile", "run", "conf", "proto"] {
        for path in files(root, kind) {
            let name = path.strip_prefix(root).unwrap().display().to_string();
            let Ok(text) = std::fs::read_to_string(&path) else { continue };
            faults.extend(foreign_places(&name, &text));
            faults.extend(merge_marks(&name, &text));
        }
    }
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

/// A fenced block of lines `name -> name name`.
fn block(text: &str, kind: &str) -> Map {
    let fence = format!("```{kind}\n");
    let inner = text.split_once(&fence).and_then(|(_, rest)| rest.split_once("```")).unwrap().0;
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect();
    let line =
        |line: &str| line.split_once("->").map(|(from, to)| (from.trim().to_owned(), words(to)));
    inner.lines().filter_map(line).collect()
}

/// Every file below `directory` whose name ends so, without what is built or hidden.
fn files(directory: &Path, kind: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && !path.is_symlink() {
            if name != "target" && name != ".git" {
                found.extend(files(&path, kind));
            }
        } else if name == kind || name.ends_with(&format!(".{kind}")) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The module that a file belongs to; `main.rs` and `lib.rs` belong to none.
fn module_of(name: &str) -> Option<String> {
    let inner = name.strip_prefix("src/")?;
    let first = inner.split('/').next()?;
    let module = first.strip_suffix(".rs").unwrap_or(first);
    (module != "main" && module != "lib").then(|| module.to_owned())
}

/// Modules that use each other, by whatever way round.
fn cycles(layers: &Map) -> Vec<String> {
    let reaches = |from: &String| {
        let mut seen = BTreeSet::new();
        let mut next: Vec<&String> = layers.get(from).into_iter().flatten().collect();
        while let Some(module) = next.pop() {
            if seen.insert(module) {
                next.extend(layers.get(module).into_iter().flatten());
            }
        }
        seen.contains(from)
    };
    layers
        .keys()
        .filter(|name| reaches(name))
        .map(|name| format!("{name} is part of a cycle"))
        .collect()
}

/// Modules that a file uses and the map does not allow.
fn imports(name: &str, module: &str, text: &str, layers: &Map) -> Vec<String> {
    let code = without_comments_and_strings(text);
    let nothing = BTreeSet::new();
    let allowed = layers.get(module).unwrap_or(&nothing);
    let used: BTreeSet<&str> = names_after(&code, "crate::").collect();
    used.into_iter()
        .filter(|used| *used != module && !allowed.contains(*used))
        .map(|used| format!("{name}: {module} may not use {used}"))
        .collect()
}

/// Libraries that a file uses and another module has for itself.
fn libraries(name: &str, module: &str, text: &str, doors: &Map) -> Vec<String> {
    let code = without_comments_and_strings(text);
    let used = |library: &str| {
        let path = format!("{library}::");
        code.match_indices(&path).any(|(at, _)| {
            let before = code.get(..at).unwrap_or_default().chars().next_back();
            !before.is_some_and(|letter| letter.is_alphanumeric() || letter == '_' || letter == ':')
        })
    };
    let shut = doors.iter().filter(|(library, owners)| !owners.contains(module) && used(library));
    shut.map(|(library, _)| format!("{name}: {module} may not use the library {library}")).collect()
}

/// What every file must look like.
fn shape(name: &str, text: &str) -> Vec<String> {
    let code = without_comments_and_strings(text);
    let packed: String = code.split_whitespace().collect();
    let mut faults = Vec::new();
    // A tests.rs stands behind the header of its module.
    if !text.starts_with("//! ") && !name.ends_with("tests.rs") {
        faults.push(format!("{name}: does not begin with a header (//!)"));
    }
    if packed.contains("super::super") {
        faults.push(format!("{name}: super::super; name the path from crate"));
    }
    if packed.contains("usecrate::{") {
        faults.push(format!("{name}: a grouped use crate::{{..}}; one line each"));
    }
    let shipped = shipped_lines(text);
    if shipped > LINES && !name.ends_with("tests.rs") {
        faults.push(format!("{name}: {shipped} lines, {LINES} are allowed"));
    }
    if packed.contains("allow(unsafe_code") && !name.starts_with("src/sys/") {
        faults.push(format!("{name}: unsafe outside src/sys"));
    }
    faults
}

/// The lines before the tests.
fn shipped_lines(text: &str) -> usize {
    let tests = text.rfind("\n#[cfg(test)]\nmod tests {");
    text.get(..tests.unwrap_or(text.len())).unwrap_or(text).lines().count()
}

/// The machine something was written on, and hosts that builds fetch from.
fn foreign_places(name: &str, text: &str) -> Vec<String> {
    // In two parts each, so that this file does not name them either.
    let words = [
        ["/wor", "k/main"],
        ["/wor", "k/wt"],
        ["/wor", "k/shared"],
        ["/wor", "k/help"],
        ["index.crat", "es.io"],
        ["static.crat", "es.io"],
        ["proxy.gola", "ng.org"],
        ["sum.gola", "ng.org"],
        ["pypi", ".org"],
        ["npmj", "s.org"],
        ["deb.debi", "an.org"],
    ];
    let words = words.map(|parts| parts.concat());
    let found = words.iter().filter(|word| text.contains(*word));
    found.map(|word| format!("{name}: names {word}")).collect()
}

/// Where git could not bring two texts together, and nobody has.
fn merge_marks(name: &str, text: &str) -> Option<String> {
    let marks = ["<<<<<<< ", ">>>>>>> "];
    let found = text.lines().position(|line| marks.iter().any(|mark| line.starts_with(mark)))?;
    Some(format!("{name}:{}: a mark of a merge", found + 1))
}

/// The names that follow `before`, wherever it stands by itself.
fn names_after<'t>(code: &'t str, before: &'t str) -> impl Iterator<Item = &'t str> {
    code.match_indices(before).filter_map(move |(at, _)| {
        let left = code.get(..at)?.chars().next_back();
        let part_of_a_word = left.is_some_and(|letter| letter.is_alphanumeric() || letter == '_');
        let rest = code.get(at + before.len()..)?;
        let end = rest.find(|letter: char| !letter.is_alphanumeric() && letter != '_')?;
        rest.get(..end).filter(|name| !part_of_a_word && name.starts_with(char::is_lowercase))
    })
}

/// The text with comments and the insides of strings left out.
fn without_comments_and_strings(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(inner) = rest.strip_prefix("r#\"") {
            inner.find("\"#").map_or(rest.len(), |end| end + 5)
        } else if let Some(inner) = rest.strip_prefix('"') {
            string_end(inner) + 1
        } else if rest.starts_with("'\"'") {
            3
        } else {
            out.push(first);
            first.len_utf8()
        };
        rest = rest.get(skipped..).unwrap_or_default();
    }
    out
}

/// Where a string ends, behind its closing quote.
fn string_end(inner: &str) -> usize {
    let mut escaped = false;
    for (at, letter) in inner.char_indices() {
        match letter {
            '"' if !escaped => return at + 1,
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    inner.len()
}

mod each_check_fails_on_what_it_is_for {
    use super::*;

    fn map(text: &str) -> Map {
        block(&format!("```layers\n{text}\n```"), "layers")
    }

    #[test]
    fn an_import_that_is_not_allowed() {
        let layers = map("a -> b\nb ->\nc ->");
        let text = "use crate::b::X;\n// crate::c\nconst T: &str = \"crate::c\\\"crate::c\";\nfn f(x: u8) {}";
        assert_eq!(imports("src/a.rs", "a", text, &layers), [""; 0]);
        for text in ["use crate::c::X;", "fn f() { $crate::c::g() }", "type X = crate::c::X;"] {
            assert_eq!(
                imports("src/a.rs", "a", text, &layers),
                ["src/a.rs: a may not use c"],
                "{text}"
            );
        }
        assert_eq!(imports("src/a.rs", "a", "use crate::Error;", &layers), [""; 0]);
    }

    #[test]
    fn a_library_behind_another_modules_door() {
        let doors = map("tonic -> cri");
        assert_eq!(libraries("f", "cri", "use tonic::Status;", &doors), [""; 0]);
        assert_eq!(libraries("f", "image", "use my_tonic::Status; // tonic::", &doors), [""; 0]);
        let faults = libraries("f", "image", "fn f() -> tonic::Status {}", &doors);
        assert_eq!(faults, ["f: image may not use the library tonic"]);
    }

    #[test]
    fn a_cycle_in_the_map() {
        assert_eq!(cycles(&map("a -> b c\nb -> c\nc ->")), [""; 0]);
        assert_eq!(
            cycles(&map("a -> b\nb -> c\nc -> b")),
            ["b is part of a cycle", "c is part of a cycle"]
        );
    }

    #[test]
    fn shapes_that_are_not_ours() {
        assert_eq!(shape("src/a.rs", "//! A room.\nuse crate::b::X;\n"), [""; 0]);
        for text in [
            "// A comment.\n",
            "//! A.\nuse super::super::b;\n",
            "//! A.\nuse crate:: {\n a, b};\n",
            "//! A.\n#![allow(unsafe_code, reason = \"x\")]\n",
        ] {
            assert_eq!(shape("src/a.rs", text).len(), 1, "{text}");
        }
        assert_eq!(
            shape("src/sys/a.rs", "//! A.\n#![allow(unsafe_code, reason = \"x\")]\n"),
            [""; 0]
        );
    }

    #[test]
    fn a_file_that_grew_too_long() {
        let long = format!("//! A.\n{}", "x\n".repeat(LINES));
        assert_eq!(
            shape("src/a.rs", &long),
            [format!("src/a.rs: {} lines, {LINES} are allowed", LINES + 1)]
        );
        assert_eq!(shape("src/a/tests.rs", &long), [""; 0]);
        let tests = format!("//! A.\nx\n\n#[cfg(test)]\nmod tests {{\n{}}}\n", "x\n".repeat(LINES));
        assert_eq!(shape("src/a.rs", &tests), [""; 0]);
    }

    #[test]
    fn a_place_that_others_do_not_have() {
        assert_eq!(foreign_places("f", "<layer>/work/index and crates.io"), [""; 0]);
        assert_eq!(foreign_places("f", &["https://index.crat", "es.io/x"].concat()).len(), 1);
        assert_eq!(foreign_places("f", &["cd /wor", "k/main"].concat()).len(), 1);
    }

    #[test]
    fn a_merge_that_nobody_finished() {
        let text = "one\n<<<<<<< HEAD\ntwo\n=======\nthree\n>>>>>>> 0123abc\n";
        assert_eq!(merge_marks("f", text), Some("f:2: a mark of a merge".to_owned()));
        assert_eq!(merge_marks("f", "a heading\n=======\n  >>>>>>> quoted\n"), None);
    }

    #[test]
    fn quotes_do_not_hide_code() {
        let text =
            "let a = '\"'; use crate::c; let b = r#\"crate::d\"\"#; /* crate::e */ crate::f::g;";
        let code = without_comments_and_strings(text);
        assert_eq!(names_after(&code, "crate::").collect::<Vec<_>>(), ["c", "f"]);
    }
}
