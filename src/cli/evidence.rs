//! `crio evidence`: what is kept with an image of the store, by which it is judged without network.
//!
//! All of it is what others claim; `crio verify` says what is proven. Reads the store, and changes
//! nothing in it.

use std::io::Write;

use clap::Arg;
use clap::ArgMatches;
use clap::Command;
use serde::Serialize;

use super::CliError;
use super::output;
use super::output::Form;
use crate::config::Inputs;
use crate::daemon::offline;
use crate::judge;
use crate::oci::digest::Digest;
use crate::policy::claims::Item;

const IMAGE: &str = "image";

/// What is printed of an image.
#[derive(Debug, Serialize)]
struct Found {
    id: String,
    names: Vec<String>,
    manifests: Vec<Digest>,
    evidence: Vec<Item>,
}

pub(super) fn command() -> Command {
    Command::new("evidence")
        .about(
            "Print the signatures that are kept with an image of the store, as they claim to be.",
        )
        .arg(output::flag())
        .arg(
            Arg::new(IMAGE)
                .value_name("IMAGE")
                .required(true)
                .help("The image: a name, an ID or the beginning of one."),
        )
}

pub(super) fn run(inputs: &Inputs, matches: &ArgMatches) -> Result<(), CliError> {
    let loaded = super::configured(inputs)?;
    let wanted = matches.get_one::<String>(IMAGE).cloned().unwrap_or_default();
    let (store, artifacts, catalog) = offline::images(&loaded.config)?;
    let image = catalog.find(&wanted)?.ok_or_else(|| CliError::NoImage(wanted.clone()))?;
    let evidence = match &image.artifact {
        None => judge::kept(&store, &image.id)?,
        Some(artifact) => {
            let kept = artifacts.kept(&artifact.digest, judge::EVIDENCE_LIMIT)?;
            let kept = kept.map(|bytes| judge::read_kept(&bytes, &image.id)).transpose()?;
            kept.unwrap_or_default()
        }
    };
    let found = Found {
        id: image.id.to_string(),
        names: image.tags.iter().chain(&image.digests).map(ToString::to_string).collect(),
        manifests: catalog.manifests(&image)?,
        evidence: evidence.claims(),
    };
    match output::form(matches) {
        Form::Json => output::json(&found)?,
        Form::Table => std::io::stdout().write_all(text(&found).as_bytes())?,
    }
    Ok(())
}

fn text(found: &Found) -> String {
    let mut lines = vec![("image", found.id.clone())];
    lines.extend(found.names.iter().map(|name| ("name", name.clone())));
    lines.extend(found.manifests.iter().map(|digest| ("manifest", digest.to_string())));
    if found.evidence.is_empty() {
        lines.push(("evidence", "none is kept".to_owned()));
    }
    for item in &found.evidence {
        lines.push(("evidence", format!("{}, {} bytes, {}", item.kind, item.size, item.digest)));
        let claims = [
            ("  of", &item.subject),
            ("  under the name", &item.reference),
            ("  predicate", &item.predicate),
            ("  signer", &item.signer),
            ("  time", &item.time),
            ("  fault", &item.fault),
        ];
        lines.extend(claims.into_iter().filter_map(|(name, claim)| Some((name, claim.clone()?))));
        lines.extend(item.log_indexes.iter().map(|index| ("  log index", index.to_string())));
    }
    output::lines(&lines)
}
