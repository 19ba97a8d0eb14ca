//! `crio verify`: what the policy says of images in registries, and why.
//!
//! It goes the way of a pull up to the verdict and not a step further. The exit status is 0 if all are
//! allowed, 1 if one is refused, and 2 if something could not be found out.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Arg;
use clap::ArgAction;
use clap::ArgMatches;
use clap::Command;
use serde::Serialize;

use super::CliError;
use super::bundle;
use super::output;
use super::output::Form;
use crate::config::Inputs;
use crate::daemon::offline;
use crate::failure::chain;
use crate::image::Credentials;
use crate::image::ImageError;
use crate::image::PullRequest;
use crate::image::Wanted;
use crate::model::names::SandboxMetadata;
use crate::policy::Outcome;
use crate::policy::Verdict;
use crate::policy::proof::Proof;

const NAMESPACE: &str = "namespace";
const POLICY: &str = "policy";
const IMAGES: &str = "images";

/// How an image fared; a later one is worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
enum Fared {
    Allowed,
    Refused,
    Unknown,
}

/// What is printed of an image.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    /// As it was asked for.
    asked: String,
    verdict: Fared,
    /// For whose pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<String>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    explained: Option<Verdict>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

pub(super) fn command() -> Command {
    Command::new("verify")
        .about("Say whether the policy allows images, and why, as a pull would be answered.")
        .long_about(
            "Say whether the policy allows images, and why, as a pull would be answered. Asks the \
             registry for manifests and signatures only; nothing is stored or recorded.\n\n\
             The exit status is 0 if all are allowed, 1 if one is refused, 2 if it could not be \
             found out.",
        )
        .arg(
            Arg::new(NAMESPACE)
                .long(NAMESPACE)
                .value_name("NAMESPACE")
                .conflicts_with(bundle::BUNDLE)
                .help(
                    "The Kubernetes namespace of the pods that would run them, whose policy holds.",
                ),
        )
        .arg(Arg::new(POLICY).long(POLICY).value_name("FILE").conflicts_with(bundle::BUNDLE).help(
            "Ask this policy instead of those that the configuration names, whatever the \
                     namespace; or, of a directory, the file NAMESPACE.json, where it has one.",
        ))
        .args(bundle::flags())
        .arg(output::flag())
        .arg(
            Arg::new(IMAGES)
                .value_name("IMAGE")
                .required(true)
                .action(ArgAction::Append)
                .num_args(1..)
                .help("The image, as a pod would name it."),
        )
}

pub(super) fn run(inputs: &Inputs, matches: &ArgMatches) -> Result<ExitCode, CliError> {
    if matches.contains_id(bundle::BUNDLE) {
        let mut artifacts = matches.get_many::<String>(IMAGES).into_iter().flatten();
        return match (artifacts.next(), artifacts.next()) {
            (Some(artifact), None) => bundle::run(matches, artifact),
            _ => Err(CliError::OneArtifact),
        };
    }
    let loaded = super::configured(inputs)?;
    let policy = matches.get_one::<String>(POLICY).map(PathBuf::from);
    let namespace = matches.get_one::<String>(NAMESPACE).filter(|name| !name.is_empty());
    if let (Some(path), None) = (policy.as_ref().filter(|path| path.is_dir()), namespace) {
        return Err(CliError::WhichNamespace(path.clone()));
    }
    let verifier = offline::verifier(&loaded.config, policy)?;
    let images = matches.get_many::<String>(IMAGES).into_iter().flatten();
    let requests: Vec<PullRequest> = images
        .map(|image| PullRequest {
            image: image.clone(),
            credentials: Credentials::None,
            pod: namespace.map(|name| pod_in(name)),
            wanted: Wanted::Any,
        })
        .collect();
    let verdicts = offline::wait_for(futures_util::future::join_all(
        requests.iter().map(|request| verifier.verify(request)),
    ))?;
    let rows: Vec<Row> =
        requests.into_iter().zip(verdicts).map(|(asked, verdict)| row(asked, verdict)).collect();
    match output::form(matches) {
        Form::Json => output::json(&rows)?,
        Form::Table => {
            let texts: Vec<String> = rows.iter().map(text).collect();
            std::io::stdout().write_all(texts.join("\n").as_bytes())?;
        }
    }
    let worst = rows.iter().map(|row| row.verdict).max().unwrap_or(Fared::Unknown);
    Ok(ExitCode::from(worst as u8))
}

/// Some pod in this namespace.
fn pod_in(namespace: &str) -> SandboxMetadata {
    SandboxMetadata { namespace: namespace.to_owned(), ..SandboxMetadata::default() }
}

fn row(request: PullRequest, verdict: Result<Verdict, ImageError>) -> Row {
    let namespace = request.pod.map(|pod| pod.namespace);
    let (fared, explained, error) = match verdict {
        Ok(verdict) if verdict.allows() => (Fared::Allowed, Some(verdict), None),
        Ok(verdict) => (Fared::Refused, Some(verdict), None),
        Err(error) => (Fared::Unknown, None, Some(chain(&error))),
    };
    Row { asked: request.image, verdict: fared, namespace, explained, error }
}

fn text(row: &Row) -> String {
    let mut lines = vec![("image", row.asked.clone())];
    let word = match row.verdict {
        Fared::Allowed => "allowed",
        Fared::Refused => "refused",
        Fared::Unknown => "could not be found out, so a pull would fail",
    };
    lines.push(("verdict", word.to_owned()));
    lines.extend(row.namespace.iter().map(|name| ("namespace", name.clone())));
    if let Some(error) = &row.error {
        lines.push(("reason", error.clone()));
    }
    if let Some(verdict) = &row.explained {
        lines.push(("judged", verdict.image.clone()));
        lines.push(("policy", format!("{} {}", verdict.policy.display(), verdict.policy_digest)));
        lines.push(("scope", verdict.scope.clone()));
        for judged in &verdict.requirements {
            let met = match &judged.outcome {
                Outcome::Accepted(_) => "met",
                Outcome::Rejected(_) => "not met",
            };
            lines.push((met, judged.to_string()));
            if let Outcome::Accepted(proof) = &judged.outcome {
                lines.extend(proven(proof));
            }
        }
    }
    output::lines(&lines)
}

/// The parts of a proof, one a line.
fn proven(proof: &Proof) -> Vec<(&'static str, String)> {
    let signed = proof.signed.iter().map(|signed| ("  signed", signed.to_string()));
    let signer = proof.signer.iter().map(|signer| ("  signer", signer.to_string()));
    let times = proof.times.iter().map(|time| ("  time", text_of(time)));
    let entries = proof
        .entries
        .iter()
        .map(|entry| ("  log entry", format!("{} in {}", entry.index, entry.log)));
    signed.chain(signer).chain(times).chain(entries).collect()
}

/// A value as its JSON has it: the words are written down once.
fn text_of(value: &impl Serialize) -> String {
    let value = serde_json::to_value(value).unwrap_or_default();
    let parts = value.as_object().into_iter().flatten().map(|(_, part)| match part {
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    });
    parts.collect::<Vec<_>>().join(" ")
}
