//! `slsa`: who built the image, from which repository, at which ref.
//!
//! Both versions of the provenance predicate are read as slsa.dev specifies them. In version 0.2
//! the source is `invocation.configSource.uri`, whatever the build type. In version 1 the build
//! type decides what the parameters mean, so the source is read of build types that are known
//! here, and of no other.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use crate::policy::attested::source::Source;
use crate::policy::json::Fault;
use crate::policy::json::Part;
use crate::policy::reasons::short;

const V0_2: &str = "https://slsa.dev/provenance/v0.2";
const V1: &str = "https://slsa.dev/provenance/v1";

/// Build types whose `externalParameters.workflow` is a GitHub workflow's repository and ref.
const GITHUB_WORKFLOW: [&str; 2] = [
    "https://actions.github.io/buildtypes/workflow/v1",
    "https://slsa-framework.github.io/github-actions-buildtypes/workflow/v1",
];
/// The build type of Google Cloud Build, whose source is `sourceToBuild`, or else `configSource`.
const CLOUD_BUILD: &str = "https://slsa-framework.github.io/gcb-buildtypes/triggered-build/v1";
/// The build type of BuildKit, whose source is `configSource.uri`.
const BUILDKIT: &str =
    "https://github.com/moby/buildkit/blob/master/docs/attestations/slsa-definitions.md";

/// What the provenance must say.
#[derive(Debug)]
pub(crate) struct Slsa {
    builder: Option<String>,
    repository: Option<String>,
    git_ref: Option<String>,
}

/// What the provenance says.
#[derive(Debug)]
struct Said {
    builder: String,
    source: Result<Source, String>,
}

#[derive(Deserialize)]
struct Builder {
    id: String,
}

#[derive(Deserialize)]
struct Resource {
    #[serde(default)]
    uri: Option<String>,
}

/// Version 0.2.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Old {
    builder: Builder,
    #[serde(rename = "buildType")]
    _build_type: String,
    #[serde(default)]
    invocation: Option<Invocation>,
    #[serde(default)]
    materials: Option<Vec<Resource>>,
    build_definition: Option<IgnoredAny>,
    run_details: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Invocation {
    #[serde(default)]
    config_source: Option<Resource>,
}

/// Version 1.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct New {
    build_definition: BuildDefinition,
    run_details: RunDetails,
    builder: Option<IgnoredAny>,
    invocation: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BuildDefinition {
    build_type: String,
    external_parameters: Box<RawValue>,
    #[serde(default)]
    resolved_dependencies: Option<Vec<Resource>>,
}

#[derive(Deserialize)]
struct RunDetails {
    builder: Builder,
}

/// The parameters that name a source, of all build types that are known.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Parameters {
    #[serde(default)]
    workflow: Option<Place>,
    #[serde(default)]
    source_to_build: Option<Place>,
    #[serde(default)]
    config_source: Option<Place>,
}

#[derive(Deserialize)]
struct Place {
    #[serde(default)]
    uri: Option<String>,
    #[serde(default)]
    repository: Option<String>,
    #[serde(rename = "ref", default)]
    git_ref: Option<String>,
}

impl Slsa {
    /// Reads the condition.
    pub(crate) fn parse(part: &Part<'_>, predicate_type: &str) -> Result<Self, Fault> {
        let mut members = part.members()?;
        let builder: Option<String> = members.take("builderID")?;
        let repository: Option<String> = members.take("sourceRepository")?;
        let git_ref: Option<String> = members.take("sourceRef")?;
        members.end()?;
        if ![V0_2, V1].contains(&predicate_type) {
            return Err(part.fault(format!("slsa is for the predicate types {V0_2} and {V1}")));
        }
        if builder.is_none() && repository.is_none() {
            return Err(part.fault("builderID or sourceRepository must be specified"));
        }
        if builder.as_deref() == Some("") {
            return Err(part.fault("builderID must not be empty"));
        }
        if git_ref.is_some() && repository.is_none() {
            return Err(part.fault("sourceRef needs sourceRepository"));
        }
        if git_ref.as_deref().is_some_and(|git_ref| !is_full_ref(git_ref)) {
            let fault = "sourceRef must be written in full, such as refs/heads/main or \
                         refs/tags/v1, because a branch and a tag can have the same name";
            return Err(part.fault(fault));
        }
        let repository = match repository {
            None => None,
            Some(text) => Some(Source::of(&text, None).ok_or_else(|| {
                let fault =
                    "sourceRepository must be written like https://host/path, without a ref";
                part.fault(fault)
            })?),
        };
        Ok(Self { builder, repository: repository.map(|source| source.repository), git_ref })
    }

    /// Whether the provenance says so; if not, what is wrong.
    pub(crate) fn holds(&self, predicate_type: &str, predicate: &RawValue) -> Result<(), String> {
        let said = match predicate_type {
            V0_2 => old(predicate.get())?,
            _ => new(predicate.get())?,
        };
        if self.builder.as_ref().is_some_and(|builder| *builder != said.builder) {
            return Err(format!("is provenance by another builder: {:?}", short(&said.builder)));
        }
        let Some(repository) = &self.repository else {
            return Ok(());
        };
        let source = said.source?;
        if source.repository != *repository {
            let other = short(&source.repository);
            return Err(format!("is provenance of another source repository: {other:?}"));
        }
        match (&self.git_ref, source.git_ref) {
            (None, _) => Ok(()),
            (Some(wanted), Some(found)) if found == *wanted => Ok(()),
            (Some(_), Some(found)) => {
                Err(format!("is provenance of another source ref: {:?}", short(&found)))
            }
            (Some(_), None) => Err("is provenance that names no source ref".to_owned()),
        }
    }
}

fn is_full_ref(git_ref: &str) -> bool {
    git_ref
        .strip_prefix("refs/")
        .is_some_and(|rest| rest.contains('/') && rest.split('/').all(|part| !part.is_empty()))
}

fn old(text: &str) -> Result<Said, String> {
    let none = |_| "is no SLSA provenance v0.2".to_owned();
    let said: Old = serde_json::from_str(text).map_err(none)?;
    if said.build_definition.is_some() || said.run_details.is_some() {
        return Err("is provenance of two versions at once".to_owned());
    }
    let uri = said.invocation.and_then(|invocation| invocation.config_source?.uri);
    let source = match uri {
        None => Err("is provenance without invocation.configSource.uri".to_owned()),
        Some(uri) => read(&uri, Source::parse(&uri)),
    };
    let source = source.and_then(|source| agree(source, said.materials.as_deref()));
    Ok(Said { builder: said.builder.id, source })
}

fn new(text: &str) -> Result<Said, String> {
    let none = |_| "is no SLSA provenance v1".to_owned();
    let said: New = serde_json::from_str(text).map_err(none)?;
    if said.builder.is_some() || said.invocation.is_some() {
        return Err("is provenance of two versions at once".to_owned());
    }
    let definition = said.build_definition;
    let source = parameters(&definition);
    let source =
        source.and_then(|source| agree(source, definition.resolved_dependencies.as_deref()));
    Ok(Said { builder: said.run_details.builder.id, source })
}

/// The source among the parameters, as the build type says.
fn parameters(definition: &BuildDefinition) -> Result<Source, String> {
    let kind = definition.build_type.as_str();
    let known = GITHUB_WORKFLOW.contains(&kind) || [CLOUD_BUILD, BUILDKIT].contains(&kind);
    if !known {
        let kind = short(kind);
        return Err(format!("is provenance of a build type whose source is not known: {kind:?}"));
    }
    let none = || "is provenance without a source in its parameters".to_owned();
    let parameters: Parameters =
        serde_json::from_str(definition.external_parameters.get()).map_err(|_| none())?;
    if kind == BUILDKIT {
        let uri = parameters.config_source.and_then(|place| place.uri).ok_or_else(none)?;
        return read(&uri, Source::parse(&uri));
    }
    let named = |place: &Place| place.repository.is_some();
    let place = if kind == CLOUD_BUILD {
        parameters.source_to_build.filter(named).or(parameters.config_source)
    } else {
        parameters.workflow
    };
    let place = place.ok_or_else(none)?;
    let repository = place.repository.ok_or_else(none)?;
    read(&repository, Source::of(&repository, place.git_ref.as_deref()))
}

fn read(text: &str, source: Option<Source>) -> Result<Source, String> {
    source.ok_or_else(|| {
        format!("is provenance whose source cannot be read as a repository: {:?}", short(text))
    })
}

/// What else is said of the same repository must not be another ref.
fn agree(source: Source, resources: Option<&[Resource]>) -> Result<Source, String> {
    let others = resources.unwrap_or_default().iter();
    let others = others.filter_map(|resource| Source::parse(resource.uri.as_deref()?));
    for other in others.filter(|other| other.repository == source.repository) {
        if other.git_ref.is_some() && source.git_ref.is_some() && other.git_ref != source.git_ref {
            return Err("is provenance that names two refs of its source".to_owned());
        }
    }
    Ok(source)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use serde_json::json;

    use super::*;
    use crate::policy::json::Text;

    const BUILDER: &str =
        "https://github.com/shop/api/.github/workflows/release.yml@refs/heads/main";
    const API: &str = "https://github.com/shop/api";

    fn parse(text: &str, predicate_type: &str) -> Result<Slsa, String> {
        Slsa::parse(&Part::whole(Text(text)), predicate_type).map_err(|fault| fault.fault)
    }

    fn wanted() -> String {
        json!({ "builderID": BUILDER, "sourceRepository": API, "sourceRef": "refs/heads/main" })
            .to_string()
    }

    fn v0_2() -> Value {
        json!({
            "builder": { "id": BUILDER },
            "buildType": "https://github.com/slsa-framework/slsa-github-generator/container@v1",
            "invocation": { "configSource": { "uri": format!("git+{API}@refs/heads/main") } },
            "materials": [{ "uri": format!("git+{API}@refs/heads/main") }, { "uri": "pkg:docker/a" }, {}],
        })
    }

    fn v1() -> Value {
        json!({
            "buildDefinition": {
                "buildType": GITHUB_WORKFLOW[0],
                "externalParameters": {
                    "workflow": { "repository": API, "ref": "refs/heads/main", "path": "release.yml" },
                },
                "resolvedDependencies": [{ "uri": format!("git+{API}@refs/heads/main") }],
            },
            "runDetails": { "builder": { "id": BUILDER } },
        })
    }

    fn judge(kind: &str, predicate: &Value) -> Result<(), String> {
        let predicate = RawValue::from_string(predicate.to_string()).unwrap();
        parse(&wanted(), kind).unwrap().holds(kind, &predicate)
    }

    #[track_caller]
    fn refused(kind: &str, predicate: &Value, words: &str) {
        let reason = judge(kind, predicate).unwrap_err();
        assert!(reason.starts_with(&format!("is {words}")), "{reason}");
    }

    /// The predicate with another value at a place that is there.
    fn with(mut predicate: Value, pointer: &str, value: Value) -> Value {
        *predicate.pointer_mut(pointer).unwrap() = value;
        predicate
    }

    #[test]
    fn provenance_of_both_versions_is_read() {
        judge(V0_2, &v0_2()).unwrap();
        judge(V1, &v1()).unwrap();
        let place = "/buildDefinition/buildType";
        judge(V1, &with(v1(), place, json!(GITHUB_WORKFLOW[1]))).unwrap();
        let parameters = "/buildDefinition/externalParameters";
        let uri = json!({ "configSource": { "uri": format!("{API}.git#refs/heads/main") } });
        judge(V1, &with(with(v1(), place, json!(BUILDKIT)), parameters, uri)).unwrap();
        let gcb = with(v1(), place, json!(CLOUD_BUILD));
        let here = json!({ "repository": API, "ref": "refs/heads/main" });
        let other = json!({ "repository": "https://github.com/a/b", "ref": "refs/heads/main" });
        let both = json!({ "sourceToBuild": here, "configSource": other });
        judge(V1, &with(gcb.clone(), parameters, both)).unwrap();
        let dir = json!({ "sourceToBuild": { "dir": "a" }, "configSource": here });
        judge(V1, &with(gcb.clone(), parameters, dir)).unwrap();
        let both = json!({ "sourceToBuild": other, "configSource": here });
        refused(V1, &with(gcb, parameters, both), "provenance of another source repository");
    }

    #[test]
    fn a_builder_id_that_only_begins_or_ends_alike_is_another() {
        for id in
            [format!("{BUILDER}-evil"), BUILDER[..BUILDER.len() - 1].to_owned(), String::new()]
        {
            let words = "provenance by another builder";
            refused(V0_2, &with(v0_2(), "/builder/id", json!(id)), words);
            refused(V1, &with(v1(), "/runDetails/builder/id", json!(id)), words);
        }
    }

    #[test]
    fn a_source_repository_with_more_behind_it_is_another() {
        for other in ["-evil", "/evil", ".evil"] {
            let uri = format!("git+{API}{other}@refs/heads/main");
            let words = "provenance of another source repository";
            refused(V0_2, &with(v0_2(), "/invocation/configSource/uri", json!(uri)), words);
            let place = "/buildDefinition/externalParameters/workflow/repository";
            refused(V1, &with(v1(), place, json!(format!("{API}{other}"))), words);
        }
    }

    #[test]
    fn a_source_that_can_be_read_in_two_ways_is_none() {
        let words = "provenance whose source cannot be read";
        for uri in
            [format!("{API}/../evil"), format!("{API}?a"), "https://a@github.com/shop/api".into()]
        {
            refused(V0_2, &with(v0_2(), "/invocation/configSource/uri", json!(uri)), words);
        }
        let place = "/buildDefinition/externalParameters/workflow/repository";
        refused(V1, &with(v1(), place, json!(format!("{API}@refs/heads/evil"))), words);
    }

    #[test]
    fn a_tag_of_the_name_of_a_branch_is_another_ref() {
        let words = "provenance of another source ref";
        for other in ["refs/tags/main", "main", "refs/heads/main2", ""] {
            let mut old = v0_2();
            old["invocation"]["configSource"]["uri"] = json!(format!("git+{API}@{other}"));
            old["materials"] = json!([]);
            refused(V0_2, &old, words);
            let mut new = v1();
            new["buildDefinition"]["externalParameters"]["workflow"]["ref"] = json!(other);
            new["buildDefinition"]["resolvedDependencies"] = Value::Null;
            refused(V1, &new, words);
        }
        let uri = json!(format!("git+{API}"));
        let no_ref = with(v0_2(), "/invocation/configSource/uri", uri);
        refused(V0_2, &no_ref, "provenance that names no source ref");
    }

    #[test]
    fn a_dependency_that_contradicts_the_source_is_a_refusal() {
        let other = json!(format!("git+{API}@refs/heads/evil"));
        let words = "provenance that names two refs";
        refused(V0_2, &with(v0_2(), "/materials/0/uri", other.clone()), words);
        refused(V1, &with(v1(), "/buildDefinition/resolvedDependencies/0/uri", other), words);
    }

    #[test]
    fn a_source_among_the_dependencies_alone_is_none() {
        let words = "provenance without";
        refused(V0_2, &with(v0_2(), "/invocation", Value::Null), words);
        refused(V1, &with(v1(), "/buildDefinition/externalParameters", json!({})), words);
        refused(V1, &with(v1(), "/buildDefinition/externalParameters", json!([])), words);
        // A user's own parameter of the name of another build type's.
        let place = "/buildDefinition/buildType";
        let words = "provenance of a build type whose source is not known";
        refused(V1, &with(v1(), place, json!("https://shop.example/build/v1")), words);
    }

    #[test]
    fn provenance_of_one_version_under_the_name_of_the_other_is_refused() {
        refused(V0_2, &v1(), "no SLSA provenance v0.2");
        refused(V1, &v0_2(), "no SLSA provenance v1");
        let mut both = v0_2();
        both.as_object_mut().unwrap().extend(v1().as_object().unwrap().clone());
        refused(V0_2, &both, "provenance of two versions at once");
        refused(V1, &both, "provenance of two versions at once");
        for odd in [json!("text"), json!([]), json!({}), Value::Null] {
            refused(V0_2, &odd, "no SLSA provenance v0.2");
            refused(V1, &odd, "no SLSA provenance v1");
        }
    }

    #[test]
    fn a_condition_that_cannot_mean_one_thing_is_a_fault_of_the_policy() {
        for (text, words) in [
            ("{}", "must be specified"),
            (r#"{"builderID":""}"#, "must not be empty"),
            (r#"{"sourceRef":"refs/heads/main","builderID":"a"}"#, "needs sourceRepository"),
            (r#"{"sourceRepository":"https://q.io/a","sourceRef":"main"}"#, "in full"),
            (r#"{"sourceRepository":"https://q.io/a","sourceRef":"refs/main"}"#, "in full"),
            (r#"{"sourceRepository":"q.io/a"}"#, "like https://host/path"),
            (r#"{"sourceRepository":"https://q.io/a@refs/heads/x"}"#, "without a ref"),
            (r#"{"builderID":"a","builderId":"b"}"#, "unknown field"),
            (r#"{"builderID":null}"#, "null"),
        ] {
            let fault = parse(text, V1).unwrap_err();
            assert!(fault.contains(words), "{text}: {fault}");
        }
        let fault = parse(&wanted(), "https://slsa.dev/provenance/v0.1").unwrap_err();
        assert!(fault.contains("is for the predicate types"), "{fault}");
    }
}
