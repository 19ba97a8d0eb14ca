//! `crio version` and `crio --version`.

use std::io;
use std::io::Write;

use serde::Serialize;

/// The version of this program. Major and minor are those of the Kubernetes release it belongs to.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What this program was made from. The names are the reference's where it has the same thing.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Version {
    version: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    git_commit: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    build_date: Option<&'static str>,
    platform: String,
    compiler: &'static str,
    seccomp_enabled: bool,
    app_armor_enabled: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    cri_api: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    debug: Option<bool>,
}

/// Prints `crio version X.Y.Z`. minikube takes what comes after these two words as the version.
pub(super) fn print_first_line() -> io::Result<()> {
    writeln!(io::stdout(), "crio version {VERSION}")
}

/// Prints all there is to say.
pub(super) fn print(json: bool, verbose: bool) -> io::Result<()> {
    let text = text(json, verbose)?;
    io::stdout().write_all(text.as_bytes())
}

fn text(json: bool, verbose: bool) -> io::Result<String> {
    let version = Version {
        version: VERSION,
        // A packager sets these; a build from the sources does not know them.
        git_commit: option_env!("CRIO_GIT_COMMIT"),
        build_date: option_env!("CRIO_BUILD_DATE"),
        platform: format!("linux/{}", architecture()),
        compiler: "rustc",
        seccomp_enabled: true,
        app_armor_enabled: false,
        cri_api: verbose.then_some(include_str!("../../proto/runtime/v1/VERSION").trim_ascii()),
        debug: verbose.then_some(cfg!(debug_assertions)),
    };
    if json {
        return Ok(format!("{}\n", serde_json::to_string_pretty(&version)?));
    }
    let value = serde_json::to_value(&version)?;
    let mut lines = format!("{:<17}{VERSION}\n", "Version:");
    for (name, value) in value.as_object().into_iter().flatten() {
        if name == "version" {
            continue;
        }
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let mut letters = name.chars();
        let first = letters.next().map(|letter| letter.to_ascii_uppercase());
        let name: String = first.into_iter().chain(letters).chain([':']).collect();
        lines.push_str(&format!("{name:<17}{value}\n"));
    }
    Ok(lines)
}

/// The architecture as Go and OCI call it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_hold_the_version() {
        let json: serde_json::Value = serde_json::from_str(&text(true, true).unwrap()).unwrap();
        assert_eq!(json["version"], VERSION);
        assert!(json["criApi"].as_str().unwrap().starts_with('v'), "{json}");
        let lines = text(false, false).unwrap();
        assert!(lines.lines().any(|line| line == format!("Version:         {VERSION}")), "{lines}");
    }
}
