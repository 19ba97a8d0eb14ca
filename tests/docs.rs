//! Every command that the documents name is done, and prints what they quote. How is in `tests/docs/run.sh`; what needs
//! an installed package is done in a virtual machine, by `tests/vm/docs.sh`.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a test that cannot run the documents must stop"
)]

use std::path::Path;
use std::process::Command;

fn played(stage: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = Command::new(root.join("tests/docs/run.sh"))
        .arg(stage)
        .env("CRIO", env!("CARGO_BIN_EXE_crio"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "stage {stage}:\n{said}\n{complaints}");
    said
}

#[test]
fn every_command_says_what_it_needs_and_every_exception_has_a_reason() {
    println!("{}", played("check"));
}

#[test]
fn commands_that_need_the_sources_do_what_the_documents_say() {
    played("tree");
}

#[test]
fn commands_that_need_the_program_do_what_the_documents_say() {
    played("built");
}

#[test]
fn commands_that_need_a_node_do_what_the_documents_say() {
    played("node");
}

/// What the program can say, with `…` for what it fills in.
fn sayings(directory: &Path, out: &mut String) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sayings(&path, out);
        } else {
            let text = std::fs::read_to_string(&path).unwrap();
            // A string that goes on in the next line, and what is filled in.
            let joined: Vec<&str> = text.split("\\\n").map(str::trim_start).collect();
            let mut filled_in = false;
            for letter in joined.concat().replace("\\\"", "\"").chars() {
                match letter {
                    '{' => filled_in = true,
                    '}' => {
                        filled_in = false;
                        out.push('…');
                    }
                    '\n' => {
                        filled_in = false;
                        out.push(letter);
                    }
                    _ if filled_in => {}
                    _ => out.push(letter),
                }
            }
        }
    }
}

/// The words of refusals in the table of policy/README.md, cut where the program puts them together.
#[test]
fn refusals_that_are_explained_are_those_that_the_program_prints() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut said = String::new();
    sayings(&root.join("src"), &mut said);
    let text = std::fs::read_to_string(root.join("policy/README.md")).unwrap();
    let table = text.split("\n## ").find(|part| part.starts_with("What is refused")).unwrap();
    let rows = table.lines().filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
    let spans = rows.flat_map(|row| row.split('`').step_by(2)).map(|span| span.replace('…', "\0"));
    let joints = ["\0", ": 1 ", ": ", ", which "];
    let parts = spans.flat_map(|span| {
        let cut = joints.iter().fold(span, |span, joint| span.replace(joint, "\0"));
        cut.split('\0').map(|part| part.trim().to_owned()).collect::<Vec<_>>()
    });
    let parts: Vec<String> = parts
        .map(|part| part.strip_prefix("which ").unwrap_or(&part).to_owned())
        .filter(|part| !part.is_empty())
        .collect();
    assert!(parts.len() > 30, "{parts:?}");
    let unsaid: Vec<&String> = parts.iter().filter(|part| !said.contains(part.as_str())).collect();
    assert_eq!(unsaid, [""; 0]);
}

/// Messages in a block of text are the program's; those of others say whose they are.
#[test]
fn messages_that_are_explained_are_those_that_the_program_prints() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut said = String::new();
    sayings(&root.join("src"), &mut said);
    let mut unsaid = Vec::new();
    for name in ["docs/troubleshooting.md", "docs/moving.md"] {
        let text = std::fs::read_to_string(root.join(name)).unwrap();
        let mut messages = 0;
        for block in text.split("\n```text\n").skip(1) {
            for message in block.split("\n```").next().unwrap().lines() {
                messages += 1;
                let missing = message.split('…').map(str::trim).find(|part| !said.contains(part));
                unsaid.extend(missing.map(|part| format!("{name}: {part:?} of {message}")));
            }
        }
        assert!(messages > 0, "{name} has no message");
    }
    assert_eq!(unsaid, [""; 0]);
}
