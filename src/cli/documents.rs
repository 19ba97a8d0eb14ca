//! `crio markdown` and `crio completion`: what is said about commands and keys, from the rows that
//! make them.
//!
//! The reference of the configuration in `docs/`, the manual pages of the packages and the shells'
//! completions all come from here, so none of them can say what the program does not do.

use std::fmt::Write as _;
use std::io;
use std::io::Write;

use clap::Arg;
use clap::ArgMatches;
use clap::Command;
use clap_complete::Shell;

use super::flags;
use crate::config::Shape;
use crate::config::key::Effect;
use crate::config::key::Key;
use crate::config::keys;

const SHELL: &str = "shell";
const PAGE: &str = "page";
/// The manual page of the program.
const PROGRAM: &str = "crio.8";
/// The manual page of its configuration.
const CONFIGURATION: &str = "crio.conf.5";
/// The same for the folder of documents, as it is read on the web.
const REFERENCE: &str = "configuration.md";

pub(super) fn completion_command() -> Command {
    let shells = clap::value_parser!(Shell);
    Command::new("completion")
        .visible_alias("complete")
        .about("Print the completions of a shell.")
        .arg(Arg::new(SHELL).required(true).value_parser(shells).help("Which shell."))
}

pub(super) fn markdown_command() -> Command {
    Command::new("markdown").visible_alias("md").about("Print a manual page as Markdown.").arg(
        Arg::new(PAGE)
            .default_value(PROGRAM)
            .value_parser([PROGRAM, CONFIGURATION, REFERENCE])
            .help("Which page."),
    )
}

pub(super) fn print_completion(matches: &ArgMatches) -> io::Result<()> {
    match matches.get_one(SHELL) {
        Some(shell) => io::stdout().write_all(&completion(*shell)),
        None => Ok(()),
    }
}

pub(super) fn print_page(matches: &ArgMatches) -> io::Result<()> {
    let name = matches.get_one::<String>(PAGE).map(String::as_str);
    let text = match name {
        Some(CONFIGURATION) => configuration(),
        Some(REFERENCE) => reference(),
        _ => commands(),
    };
    io::stdout().write_all(text.as_bytes())
}

fn completion(shell: Shell) -> Vec<u8> {
    let mut out = Vec::new();
    clap_complete::generate(shell, &mut flags::command(), "crio", &mut out);
    out
}

/// As Markdown for md2man: the first line is the page's title.
fn commands() -> String {
    let mut command = flags::command();
    command.build();
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let mut out = format!(
        "% crio 8\n\n# NAME\n\ncrio - {}\n\n# SYNOPSIS\n\n\
         **crio** [*flags*]\n\n",
        uncapitalised(&about)
    );
    let shown = |command: &&Command| !command.is_hide_set() && command.get_name() != "help";
    for inner in command.get_subcommands().filter(shown) {
        let _ = write!(out, "**crio {}** [*arguments*]\n\n", inner.get_name());
    }
    out.push_str(DESCRIPTION);
    out.push_str("# COMMANDS\n\n");
    for inner in command.get_subcommands().filter(shown) {
        of_command(&mut out, inner);
    }
    out.push_str("# FLAGS\n\nEach has the meaning of its key in **crio.conf**(5).\n\n");
    for key in keys().filter(|key| !key.row.hidden) {
        let Some(flag) = key.flag() else { continue };
        let value = match key.shape {
            Shape::Bool => "",
            Shape::Integer => "=*number*",
            Shape::List => "=*list*",
            Shape::Text | Shape::Map => "=*text*",
        };
        let variable = key.variable().map(|name| format!(" ({name})")).unwrap_or_default();
        let _ = write!(out, "**--{flag}**{value}{variable}\n: {}\n\n", sentences(key));
    }
    out.push_str(COMMANDS_END);
    out
}

/// A command with its own arguments.
fn of_command(out: &mut String, command: &Command) {
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let _ = write!(out, "## {}\n\n{about}\n\n", command.get_name());
    for argument in command.get_arguments().filter(|argument| argument.get_id() != "help") {
        let name = match (argument.get_long(), argument.get_short()) {
            (Some(long), Some(short)) => format!("**--{long}**, **-{short}**"),
            (Some(long), None) => format!("**--{long}**"),
            _ => format!("*{}*", argument.get_id()),
        };
        let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
        let _ = write!(out, "{name}\n: {help}\n\n");
    }
}

fn configuration() -> String {
    let mut out = "% crio.conf 5\n\n# NAME\n\ncrio.conf - the configuration of crio\n\n".to_owned();
    let _ = write!(out, "# DESCRIPTION\n\n{TOGETHER}\n# KEYS\n\n");
    let mut table = "";
    for key in keys().filter(|key| key.table.starts_with("crio")) {
        if key.table != table {
            table = key.table;
            let _ = write!(out, "## [{}]\n\n", table.replace('*', "NAME"));
        }
        let default = key.fallback.value().to_string();
        let _ = write!(out, "**{}** = `{default}`\n: {}", key.name, sentences(key));
        if let Some(flag) = key.flag() {
            let _ = write!(out, " Flag: `--{flag}`.");
        }
        if let Some(variable) = key.variable() {
            let _ = write!(out, " Variable: `{variable}`.");
        }
        out.push_str("\n\n");
    }
    out.push_str(CONFIGURATION_END);
    out
}

/// As Markdown for readers: no definition lists, which most of its readers do not draw.
fn reference() -> String {
    let mut out = format!("{REFERENCE_BEGIN}{TOGETHER}");
    let mut table = "";
    for key in keys().filter(|key| key.table.starts_with("crio") && !key.row.hidden) {
        if key.table != table {
            table = key.table;
            let _ = write!(out, "\n## [{}]\n\n", table.replace('*', "NAME"));
        }
        let default = key.fallback.value().to_string();
        let _ = write!(out, "* **{}** = `{}`  \n  {}", key.name, default.trim(), sentences(key));
        let flag = key.flag().map(|flag| format!("`--{flag}`"));
        let variable = key.variable().map(|variable| format!("`{variable}`"));
        let others: Vec<String> = flag.into_iter().chain(variable).collect();
        let also = if others.is_empty() { "" } else { " Also " };
        let _ =
            writeln!(out, "{also}{}{}", others.join(", "), if also.is_empty() { "" } else { "." });
    }
    out
}

/// What a key is for, and whether it does it.
fn sentences(key: &Key) -> String {
    // A star begins emphasis and an angle a tag; nothing else in these texts means anything.
    let text = key.text().replace('*', "\\*").replace('<', "\\<");
    match key.row.effect {
        Effect::Now => text,
        Effect::Later => format!("{text} Not built yet: setting it is warned of."),
        Effect::Never(why) => format!("{text} Without effect: {why}."),
    }
}

fn uncapitalised(text: &str) -> String {
    let mut letters = text.trim_end_matches('.').chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}

const DESCRIPTION: &str = "\
# DESCRIPTION

Without a command, **crio** is the daemon: it serves the Container Runtime Interface to the kubelet on a unix socket, pulls \
images, judges them by **containers-policy.json**(5) before anything of them is fetched and again whenever a container is \
created, and runs pods through an OCI runtime and conmon. Containers go on when it stops, and a new start finds them.

Values are printed to the standard output stream and everything else to the standard error stream.

";

const COMMANDS_END: &str = "\
# FILES

**/etc/crio/crio.conf**, **/etc/crio/crio.conf.d/\\***
: The configuration: **crio.conf**(5), **crio.conf.d**(5).

**/etc/containers/policy.json**, **/etc/crio/policies/NAMESPACE.json**
: Which images may run: **crio-policy**(5).

**/var/run/crio/crio.sock**
: Where the kubelet asks.

# SEE ALSO

**crio.conf**(5), **crio.conf.d**(5), **crio-policy**(5), **containers-policy.json**(5), **containers-registries.conf**(5), \
**containers-storage.conf**(5), **conmon**(8), **runc**(8)
";

/// How the places where keys are set come together.
const TOGETHER: &str = "\
The configuration is TOML. **/etc/crio/crio.conf** is read first, then every file below **/etc/crio/crio.conf.d** in the order of \
their names, then environment variables and flags; what comes later goes before. `crio config` prints what results, `crio config \
--default` the defaults. A key that is not known is warned of. A value that cannot be is an error that names file, line, key and \
what is wanted.

A table with NAME in it is there once for each name: a runtime handler or a workload.
";

const REFERENCE_BEGIN: &str = "\
# Every key of the configuration

Printed by `crio markdown configuration.md` from the rows that make the keys; **crio.conf**(5) is the same as a manual page.

";

const CONFIGURATION_END: &str = "\
# SEE ALSO

**crio**(8), **crio.conf.d**(5), **crio-policy**(5), **containers-storage.conf**(5), **containers-registries.conf**(5)
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_and_command_has_its_place() {
        let (configuration, reference) = (configuration(), reference());
        for key in keys().filter(|key| key.table.starts_with("crio")) {
            assert!(configuration.contains(&format!("**{}** = ", key.name)), "{}", key.path());
            let listed = reference.contains(&format!("\n* **{}** = ", key.name));
            assert_eq!(listed, !key.row.hidden, "{}", key.path());
        }
        let commands = commands();
        for name in ["config", "version", "verify"] {
            assert!(commands.contains(&format!("\n## {name}\n")), "{name}");
        }
    }

    #[test]
    fn each_shell_is_completed() {
        for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
            let text = String::from_utf8(completion(shell)).unwrap();
            assert!(text.contains("cgroup-manager"), "{shell}");
        }
    }
}
