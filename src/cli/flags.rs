//! The commands and flags, made from the rows of the configuration.

use clap::Arg;
use clap::ArgAction;
use clap::ArgMatches;
use clap::Command;
use clap::parser::ValueSource;

use super::NOT_BUILT;
use crate::config::Given;
use crate::config::Inputs;
use crate::config::Shape;
use crate::config::Source;
use crate::config::key::Effect;
use crate::config::key::Key;
use crate::config::keys;

/// `--version`.
pub(super) const VERSION: &str = "version";
/// `crio config --default`.
pub(super) const DEFAULT: &str = "default";
/// `crio version --json`.
pub(super) const JSON: &str = "json";
/// `crio version --verbose`.
pub(super) const VERBOSE: &str = "verbose";

/// The whole command line.
pub(super) fn command() -> Command {
    let mut command = Command::new("crio")
        .about("Runs the containers of a Kubernetes node, and none that its policy did not allow.")
        .after_help("Flags go before the configuration files. See also: crio config.")
        .disable_version_flag(true)
        .disable_help_subcommand(false)
        .allow_external_subcommands(true)
        .arg(switch(VERSION, 'v', "Print the version."))
        .subcommand(super::check::command())
        .subcommand(config())
        .subcommand(super::documents::completion_command())
        .subcommand(super::evidence::command())
        .subcommand(super::documents::markdown_command())
        .subcommand(super::policy::command())
        .subcommand(super::status::command())
        .subcommand(super::verify::command())
        .subcommand(version())
        .subcommand(super::wipe::command());
    for name in NOT_BUILT {
        command = command.subcommand(not_built(name));
    }
    keys().filter_map(flag).fold(command, Command::arg)
}

fn config() -> Command {
    Command::new("config")
        .about("Print the configuration as a file: what differs from the defaults is no comment.")
        .arg(
            Arg::new(DEFAULT)
                .long(DEFAULT)
                .action(ArgAction::SetTrue)
                .help("Print the defaults, and none of them as a comment."),
        )
}

fn version() -> Command {
    Command::new("version")
        .about("Print what this program was made from.")
        .arg(switch(JSON, 'j', "Print JSON."))
        .arg(switch(VERBOSE, 'v', "Print more."))
}

/// A command that takes anything, because it answers the same to everything.
fn not_built(name: &'static str) -> Command {
    let rest = Arg::new("rest").num_args(0..).allow_hyphen_values(true).trailing_var_arg(true);
    Command::new(name).hide(true).disable_help_flag(true).arg(rest)
}

pub(super) fn switch(name: &'static str, short: char, help: &'static str) -> Arg {
    Arg::new(name).long(name).short(short).action(ArgAction::SetTrue).help(help)
}

fn flag(key: &'static Key) -> Option<Arg> {
    let name = key.flag()?;
    let mut arg = Arg::new(name.clone()).long(name).help(help(key)).hide(key.row.hidden);
    arg = match key.shape {
        Shape::List => arg.action(ArgAction::Append).value_name("LIST"),
        // Go's flags take `--x` and `--x=false`.
        Shape::Bool => arg
            .action(ArgAction::Set)
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .value_name("true|false"),
        Shape::Integer => {
            arg.action(ArgAction::Set).allow_negative_numbers(true).value_name("NUMBER")
        }
        Shape::Text | Shape::Map => arg.action(ArgAction::Set).value_name("TEXT"),
    };
    if let Some(variable) = key.variable() {
        arg = arg.env(variable).hide_env_values(true);
    }
    match key.row.alias.map(|alias| (alias, alias.chars().next())) {
        Some((alias, Some(letter))) if alias.len() == 1 => Some(arg.short(letter)),
        Some((alias, _)) => Some(arg.visible_alias(alias)),
        None => Some(arg),
    }
}

fn help(key: &Key) -> String {
    let words: Vec<&str> = key.doc.split_whitespace().collect();
    let effect = match key.row.effect {
        Effect::Now => String::new(),
        Effect::Later => " (No effect: not built yet.)".to_owned(),
        Effect::Never(why) => format!(" (No effect: {why}.)"),
    };
    format!("{}{effect} [default: {}]", words.join(" "), key.fallback.value())
}

/// What the flags and the environment say about the configuration.
pub(super) fn inputs(matches: &ArgMatches) -> Inputs {
    let given = keys().filter_map(|key| given(key, matches)).collect();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let storage_conf = match std::env::var_os("CONTAINERS_STORAGE_CONF") {
        Some(path) => vec![path.into()],
        None => {
            vec!["/etc/containers/storage.conf".into(), "/usr/share/containers/storage.conf".into()]
        }
    };
    Inputs { given, storage_conf, search_path: std::env::split_paths(&path).collect() }
}

fn given(key: &'static Key, matches: &ArgMatches) -> Option<Given> {
    let name = key.flag()?;
    let source = match matches.value_source(&name)? {
        ValueSource::CommandLine => Source::Flag(name.clone()),
        ValueSource::EnvVariable => Source::Variable(key.variable()?),
        _ => return None,
    };
    let mut texts: Vec<String> = matches.get_many::<String>(&name)?.cloned().collect();
    // Which files to read is said at a prompt too, from where one is.
    if matches!(name.as_str(), "config" | "config-dir") {
        for text in texts.iter_mut().filter(|text| !text.is_empty()) {
            if let Ok(path) = std::path::absolute(&*text) {
                *text = path.to_string_lossy().into_owned();
            }
        }
    }
    // An empty variable says nothing, unless the key is a text, which can be empty.
    let silent = matches!(source, Source::Variable(_))
        && key.shape != Shape::Text
        && texts.iter().all(String::is_empty);
    (!silent).then_some(Given { key, texts, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given_by(arguments: &[&str]) -> Vec<(String, Vec<String>)> {
        let all = ["crio"].iter().chain(arguments);
        let matches = command().try_get_matches_from(all).unwrap();
        let from_flags = |given: &Given| matches!(given.source, Source::Flag(_));
        let given = inputs(&matches).given.into_iter().filter(from_flags);
        given.map(|given| (given.key.name.to_owned(), given.texts)).collect()
    }

    fn said(name: &str, texts: &[&str]) -> (String, Vec<String>) {
        (name.to_owned(), texts.iter().map(|&text| text.to_owned()).collect())
    }

    #[test]
    fn the_command_line_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn the_references_notations_are_understood() {
        assert_eq!(given_by(&["--listen", "/a"]), [said("listen", &["/a"])]);
        assert_eq!(given_by(&["-l=debug"]), [said("log_level", &["debug"])]);
        assert_eq!(given_by(&["--drop-infra-ctr=false"]), [said("drop_infra_ctr", &["false"])]);
        assert_eq!(given_by(&["--selinux"]), [said("selinux", &["true"])]);
        assert_eq!(given_by(&["--pids-limit", "-1"]), [said("pids_limit", &["-1"])]);
        assert_eq!(given_by(&["--tz", "Local"]), [said("timezone", &["Local"])]);
        assert_eq!(
            given_by(&["--insecure-registry", "a", "--insecure-registry=b,c"]),
            [said("insecure_registries", &["a", "b,c"])]
        );
        assert_eq!(given_by(&["-c", "", "config"]), [said("config", &[""])]);
        let here = std::env::current_dir().unwrap();
        let file = here.join("a.conf").display().to_string();
        assert_eq!(given_by(&["-c", "a.conf", "config"]), [said("config", &[&file])]);
    }

    #[test]
    fn names_that_follow_no_rule_are_the_references() {
        let variable =
            |flag: &str| keys().find(|key| key.flag().as_deref() == Some(flag)).unwrap().variable();
        for (flag, name) in [
            ("listen", Some("CONTAINER_LISTEN")),
            ("cni-config-dir", Some("CONTAINER_CNI_CONFIG_DIR")),
            ("log-journald", Some("CONTAINER_LOG_JOURNALD")),
            ("storage-opt", Some("CONTAINER_STORAGE_OPT")),
            ("separate-pull-cgroup", Some("PULL_IN_A_CGROUP")),
            ("container-exits-dir", Some("CONTAINER_EXITS_DIR")),
            ("ctr-stop-timeout", Some("CONTAINER_STOP_TIMEOUT")),
            ("stream-tls-ca", Some("CONTAINER_TLS_CA")),
            ("enable-nri", None),
            ("rdt-config-file", None),
        ] {
            assert_eq!(variable(flag).as_deref(), name, "--{flag}");
        }
    }
}
