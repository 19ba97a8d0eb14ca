//! `crio policy`: whether a policy file says what its author means, and which one holds.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use clap::Arg;
use clap::ArgAction;
use clap::ArgMatches;
use clap::Command;
use serde::Serialize;

use super::CliError;
use super::output;
use super::output::Form;
use crate::config::Inputs;
use crate::daemon::offline;
use crate::failure::chain;
use crate::judge;
use crate::oci::digest::Digest;
use crate::oci::reference::Reference;
use crate::policy::Mistakes;
use crate::policy::Policy;
use crate::policy::PolicyError;
use crate::policy::outline::Outline;

const FILE: &str = "file";
const IMAGES: &str = "images";
const NAMESPACE: &str = "namespace";

/// What is printed of a policy.
#[derive(Debug, Default, Serialize)]
struct Shown {
    file: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<Digest>,
    /// Mistakes, because of which nothing would run under it.
    errors: Vec<String>,
    /// What is legal and surely not meant.
    warnings: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    scopes: Vec<Scope>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    images: Vec<Scope>,
}

/// What holds for a scope, or for an image by its scope.
#[derive(Debug, Serialize)]
struct Scope {
    #[serde(skip_serializing_if = "Option::is_none")]
    image: Option<String>,
    scope: String,
    requires: Vec<String>,
}

pub(super) fn command() -> Command {
    let check = Command::new("check")
        .about("Look for mistakes in a policy file, and say which scope applies to images.")
        .long_about(
            "Look for mistakes in a policy file, and for what is legal and surely not meant; say \
             which scope applies to images.\n\nThe exit status is 0 if there is no mistake, 1 if \
             there is one, 2 if it could not be found out. Warnings do not change it.",
        )
        .arg(output::flag())
        .arg(Arg::new(FILE).value_name("FILE").required(true).help("The policy file."))
        .arg(
            Arg::new(IMAGES)
                .value_name("IMAGE")
                .action(ArgAction::Append)
                .num_args(0..)
                .help("An image, as a pod would name it."),
        );
    let show = Command::new("show")
        .about("Print the policy that holds, in words.")
        .long_about(
            "Print the policy that holds, in words.\n\nThe exit status is 0, or 2 if there is none \
             that can be used: nothing can run then.",
        )
        .arg(output::flag())
        .arg(
            Arg::new(NAMESPACE)
                .long(NAMESPACE)
                .value_name("NAMESPACE")
                .help("The Kubernetes namespace whose policy is meant."),
        );
    Command::new("policy")
        .about("Check and show the policies that say which images may run.")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(check)
        .subcommand(show)
}

pub(super) fn run(inputs: &Inputs, matches: &ArgMatches) -> Result<ExitCode, CliError> {
    match matches.subcommand() {
        Some(("check", inner)) => check(inner),
        Some(("show", inner)) => show(inputs, inner),
        _ => Err(CliError::NotSupported("policy".to_owned())),
    }
}

fn check(matches: &ArgMatches) -> Result<ExitCode, CliError> {
    let file = matches.get_one::<String>(FILE).cloned().unwrap_or_default();
    let images: Vec<&String> = matches.get_many(IMAGES).into_iter().flatten().collect();
    let mut shown = Shown { file: file.clone(), ..Shown::default() };
    let checked = judge::check(Path::new(&file));
    match checked.map_err(|source| CliError::File { path: file.into(), source })? {
        Err(Mistakes { first, others }) => {
            shown.errors = std::iter::once(&first).chain(&others).map(place).collect();
        }
        Ok((policy, outline)) => {
            shown.digest = Some(policy.digest().clone());
            shown.warnings = policy.faults().into_iter().chain(outline.doubts()).collect();
            shown.images = images
                .into_iter()
                .map(|image| applying(&policy, &outline, image))
                .collect::<Result<_, CliError>>()?;
        }
    }
    print(&shown, matches)?;
    Ok(ExitCode::from(u8::from(!shown.errors.is_empty())))
}

/// A mistake without the file's name, which is said once.
fn place(error: &PolicyError) -> String {
    match error {
        PolicyError::Malformed { line, column, at, fault, .. } => {
            format!("line {line} column {column}, {at}: {fault}")
        }
        other => chain(other),
    }
}

fn applying(policy: &Policy, outline: &Outline, image: &str) -> Result<Scope, CliError> {
    let reference = Reference::parse_normalized(image)
        .map_err(|source| CliError::Reference { image: image.to_owned(), source })?
        .without_tag_if_digested()
        .or_latest();
    let scope = policy.scope(&reference);
    let requires = outline.requires(&scope);
    Ok(Scope { image: Some(reference.to_string()), scope, requires })
}

fn show(inputs: &Inputs, matches: &ArgMatches) -> Result<ExitCode, CliError> {
    let loaded = super::configured(inputs)?;
    let namespace = matches.get_one::<String>(NAMESPACE).map(String::as_str);
    let (policy, outline) = offline::judge(&loaded.config, None).outlined(namespace)?;
    let shown = Shown {
        file: policy.path().display().to_string(),
        digest: Some(policy.digest().clone()),
        errors: Vec::new(),
        warnings: policy.faults().into_iter().chain(outline.doubts()).collect(),
        scopes: outline
            .scopes()
            .into_iter()
            .map(|(scope, requires)| Scope { image: None, scope, requires })
            .collect(),
        images: Vec::new(),
    };
    print(&shown, matches)?;
    Ok(ExitCode::SUCCESS)
}

fn print(shown: &Shown, matches: &ArgMatches) -> Result<(), CliError> {
    if output::form(matches) == Form::Json {
        return Ok(output::json(shown)?);
    }
    let mut lines = vec![("policy", shown.file.clone())];
    lines.extend(shown.digest.iter().map(|digest| ("digest", digest.to_string())));
    lines.extend(shown.errors.iter().map(|error| ("mistake", error.clone())));
    lines.extend(shown.warnings.iter().map(|warning| ("warning", warning.clone())));
    for Scope { image, scope, requires } in shown.scopes.iter().chain(&shown.images) {
        lines.extend(image.iter().map(|image| ("image", image.clone())));
        lines.push(("scope", scope.clone()));
        lines.extend(requires.iter().map(|words| ("  requires", words.clone())));
    }
    if shown.errors.is_empty() && lines.len() == 2 {
        lines.push(("found", "no mistake".to_owned()));
    }
    std::io::stdout().write_all(output::lines(&lines).as_bytes())?;
    Ok(())
}
