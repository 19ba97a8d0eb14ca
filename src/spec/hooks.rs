//! Hooks of the node: programs that the runtime runs beside a container, as oci-hooks(5) has them.
//!
//! A hook runs as root on the node, so only files of the node's administrator say which there are;
//! an annotation can at most fulfil a condition that such a file names. What CRI-O gates by
//! `allowed_annotations` fulfils none unless the handler allows it. A field that is not known is a
//! fault: a condition that is not understood must not be taken as fulfilled.

use std::collections::BTreeMap;

use oci_spec::runtime::Hook;
use oci_spec::runtime::HookBuilder;
use oci_spec::runtime::Hooks;
use oci_spec::runtime::Spec;
use regex::Regex;
use serde::Deserialize;

use crate::spec::annotations;
use crate::spec::error::SpecError;
use crate::spec::facts::ContainerFacts;
use crate::spec::wishes;

/// The version of the format that is read.
const VERSION: &str = "1.0.0";
/// Keys, and beginnings of keys, that mean something to runtimes and hooks of the field.
const GATED: [&str; 6] = [
    "io.containers.trace-syscall",
    "bundle",
    "org.systemd.property.",
    "org.criu.config",
    "module.wasm.image/variant",
    "run.oci.",
];

/// A program to run, and when.
#[derive(Debug, Clone)]
pub struct NodeHook {
    hook: Program,
    when: Conditions,
    stages: Vec<Stage>,
}

/// The stages of a container's life that runtimes know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Stage {
    CreateRuntime,
    CreateContainer,
    StartContainer,
    /// The older name of what runs at the same moment as `CreateRuntime`.
    #[serde(rename = "prestart")]
    Prestart,
    #[serde(rename = "poststart")]
    Poststart,
    #[serde(rename = "poststop")]
    Poststop,
}

/// A program, in the words of the runtime specification.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Program {
    pub(super) path: String,
    #[serde(default)]
    pub(super) args: Vec<String>,
    #[serde(default)]
    pub(super) env: Vec<String>,
    #[serde(default)]
    pub(super) timeout: Option<i64>,
}

#[derive(Debug, Clone)]
struct Conditions {
    always: Option<bool>,
    has_bind_mounts: Option<bool>,
    annotations: Vec<(Regex, Regex)>,
    commands: Vec<Regex>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: String,
    hook: Program,
    #[serde(default)]
    when: When,
    stages: Vec<Stage>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct When {
    always: Option<bool>,
    has_bind_mounts: Option<bool>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    #[serde(default)]
    commands: Vec<String>,
}

impl NodeHook {
    /// Reads one file.
    ///
    /// # Errors
    ///
    /// What is wrong with it, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let file: File = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if file.version != VERSION {
            return Err(format!("its version is {:?}; {VERSION} is understood", file.version));
        }
        if !file.hook.path.starts_with('/') {
            return Err(format!("hook.path {:?} is no absolute path", file.hook.path));
        }
        let pattern = |text: &str| Regex::new(text).map_err(|error| error.to_string());
        let pairs = file.when.annotations.iter();
        let pairs = pairs.map(|(key, value)| Ok((pattern(key)?, pattern(value)?)));
        let when = Conditions {
            always: file.when.always,
            has_bind_mounts: file.when.has_bind_mounts,
            annotations: pairs.collect::<Result<_, String>>()?,
            commands: file
                .when
                .commands
                .iter()
                .map(|text| pattern(text))
                .collect::<Result<_, _>>()?,
        };
        Ok(Self { hook: file.hook, when, stages: file.stages })
    }

    /// The program.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.hook.path
    }
}

impl Conditions {
    /// All conditions that are stated must hold; none stated never holds.
    fn hold(&self, command: &str, annotations: &BTreeMap<&str, &str>, bind_mounts: bool) -> bool {
        let annotated = self.annotations.iter().all(|(key, value)| {
            annotations.iter().any(|(name, text)| key.is_match(name) && value.is_match(text))
        });
        let commanded =
            self.commands.is_empty() || self.commands.iter().any(|known| known.is_match(command));
        let stated = self.always.is_some()
            || self.has_bind_mounts.is_some()
            || !self.annotations.is_empty()
            || !self.commands.is_empty();
        stated
            && self.always != Some(false)
            && self.has_bind_mounts.is_none_or(|wanted| wanted && bind_mounts)
            && annotated
            && commanded
    }
}

/// Adds those of the node's hooks whose conditions hold for this container.
pub(super) fn apply(spec: &mut Spec, facts: &ContainerFacts<'_>) -> Result<(), SpecError> {
    let allowed = &facts.handler.allowed_annotations;
    let mut said = conditional(&facts.config.annotations, allowed);
    said.extend(conditional(&facts.sandbox.config.annotations, allowed));
    let arguments = spec.process().as_ref().and_then(|process| process.args().clone());
    let command = arguments.and_then(|words| words.into_iter().next()).unwrap_or_default();
    let bind_mounts = !facts.config.mounts.is_empty();
    for hook in facts.hooks {
        if hook.when.hold(&command, &said, bind_mounts) {
            for stage in &hook.stages {
                add(spec, *stage, &hook.hook)?;
            }
        }
    }
    Ok(())
}

/// Those of a user's annotations that may fulfil a condition.
fn conditional<'a>(
    annotations: &'a BTreeMap<String, String>,
    allowed: &[String],
) -> BTreeMap<&'a str, &'a str> {
    let passed = annotations::passed_on(annotations, allowed);
    let gated = |key: &str| {
        wishes::is_known(key) || GATED.iter().any(|beginning| key.starts_with(beginning))
    };
    let texts = annotations.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    texts.filter(|(key, _)| passed.contains_key(key) || !gated(key)).collect()
}

/// Adds one program to what the runtime runs at a stage.
pub(super) fn add(spec: &mut Spec, stage: Stage, program: &Program) -> Result<(), SpecError> {
    let mut made = HookBuilder::default().path(program.path.as_str());
    if !program.args.is_empty() {
        made = made.args(program.args.clone());
    }
    if !program.env.is_empty() {
        made = made.env(program.env.clone());
    }
    if let Some(timeout) = program.timeout {
        made = made.timeout(timeout);
    }
    let made = made.build().map_err(|source| SpecError::Build { part: "a hook", source })?;
    let mut hooks: Hooks = spec.hooks().clone().unwrap_or_default();
    let with = |list: &Option<Vec<Hook>>| {
        let mut list = list.clone().unwrap_or_default();
        list.push(made);
        Some(list)
    };
    match stage {
        Stage::CreateRuntime | Stage::Prestart => {
            let list = with(hooks.create_runtime());
            hooks.set_create_runtime(list)
        }
        Stage::CreateContainer => {
            let list = with(hooks.create_container());
            hooks.set_create_container(list)
        }
        Stage::StartContainer => {
            let list = with(hooks.start_container());
            hooks.set_start_container(list)
        }
        Stage::Poststart => {
            let list = with(hooks.poststart());
            hooks.set_poststart(list)
        }
        Stage::Poststop => {
            let list = with(hooks.poststop());
            hooks.set_poststop(list)
        }
    };
    spec.set_hooks(Some(hooks));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::container::Mount;
    use crate::spec::tests::Fixture;

    fn hook(when: &str) -> NodeHook {
        NodeHook::parse(&format!(
            r#"{{"version":"1.0.0","hook":{{"path":"/bin/true","args":["true"]}},
               "when":{when},"stages":["prestart","poststop"]}}"#
        ))
        .unwrap()
    }

    fn runs(fixture: &Fixture, when: &str) -> bool {
        let hooks = [hook(when)];
        let spec = fixture.with(|facts| {
            crate::spec::container(&ContainerFacts { hooks: &hooks, ..*facts }).unwrap()
        });
        spec.hooks().as_ref().is_some_and(|found| found.create_runtime().is_some())
    }

    #[test]
    fn all_conditions_that_are_stated_must_hold() {
        let mut fixture = Fixture::default();
        fixture.sandbox.annotations.insert("example.com/gpu".into(), "one".into());
        let annotated = r#"{"annotations":{"^example\\.com/gpu$":"^one$"}}"#;
        for (when, expected) in [
            ("{}", false),
            (r#"{"always":true}"#, true),
            (r#"{"always":false,"commands":["sh"]}"#, false),
            (r#"{"commands":["^sh$"]}"#, true),
            (r#"{"commands":["^/bin/sh$"]}"#, false),
            (r#"{"hasBindMounts":true}"#, false),
            (annotated, true),
            (r#"{"always":true,"annotations":{"gpu":"two"}}"#, false),
            (r#"{"annotations":{"gpu":"one"},"commands":["bash"]}"#, false),
        ] {
            assert_eq!(runs(&fixture, when), expected, "{when}");
        }
    }

    #[test]
    fn a_mount_fulfils_the_condition_of_mounts() {
        let hooks = [hook(r#"{"hasBindMounts":true}"#)];
        let conditions = &hooks[0].when;
        assert!(conditions.hold("sh", &BTreeMap::new(), true));
        assert!(!conditions.hold("sh", &BTreeMap::new(), false));
        assert!(Mount::default().image.is_none());
    }

    #[test]
    fn an_annotation_that_the_handler_does_not_allow_fulfils_no_condition() {
        let mut fixture = Fixture::default();
        let key = "io.containers.trace-syscall";
        fixture.sandbox.annotations.insert(key.into(), "of:/tmp/x".into());
        let when = r#"{"annotations":{"^io\\.containers\\.trace-syscall$":".*"}}"#;
        assert!(!runs(&fixture, when));
        fixture.handler.allowed_annotations = vec![key.into()];
        assert!(runs(&fixture, when));
    }

    #[test]
    fn a_file_that_is_not_understood_is_no_hook() {
        let good = r#"{"version":"1.0.0","hook":{"path":"/bin/true"},"when":{"always":true},
                      "stages":["prestart"]}"#;
        assert!(NodeHook::parse(good).is_ok());
        for (from, to) in [
            ("1.0.0", "0.1.0"),
            ("/bin/true", "bin/true"),
            ("always", "unless"),
            ("prestart", "preStart"),
            ("\"always\":true", "\"commands\":[\"(\"]"),
            ("\"path\"", "\"shell\":1,\"path\""),
        ] {
            assert!(NodeHook::parse(&good.replace(from, to)).is_err(), "{to}");
        }
    }
}
