//! `sbom`: the predicate is a bill of materials that names components.
//!
//! Whether the list is true or complete nobody can see from it; that it is there, is one, and is
//! not empty, can be seen.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use crate::policy::json::Fault;
use crate::policy::json::Part;

/// How many components must be named.
#[derive(Debug)]
pub(crate) struct Sbom {
    min_components: usize,
}

/// A kind of bill of materials.
#[derive(Debug, Clone, Copy)]
enum Format {
    CycloneDx,
    Spdx,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CycloneDx {
    bom_format: String,
    #[serde(default)]
    components: Option<Vec<IgnoredAny>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spdx {
    spdx_version: String,
    #[serde(default)]
    packages: Option<Vec<IgnoredAny>>,
}

impl Format {
    fn of(predicate_type: &str) -> Option<Self> {
        let is = |base: &str| {
            let rest = predicate_type.strip_prefix(base);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        if is("https://cyclonedx.org/bom") {
            Some(Self::CycloneDx)
        } else if is("https://spdx.dev/Document") {
            Some(Self::Spdx)
        } else {
            None
        }
    }
}

impl Sbom {
    /// Reads the condition.
    pub(crate) fn parse(part: &Part<'_>, predicate_type: &str) -> Result<Self, Fault> {
        let mut members = part.members()?;
        let min_components = members.take::<usize>("minComponents")?.unwrap_or(1);
        members.end()?;
        if min_components == 0 {
            return Err(part.fault("minComponents must be at least 1"));
        }
        if Format::of(predicate_type).is_none() {
            let fault = "sbom is for the predicate types https://cyclonedx.org/bom and \
                         https://spdx.dev/Document, and those of a version below them";
            return Err(part.fault(fault));
        }
        Ok(Self { min_components })
    }

    /// Whether the predicate is such a list; if not, what is wrong.
    pub(crate) fn holds(&self, predicate_type: &str, predicate: &RawValue) -> Result<(), String> {
        let (found, name) = match Format::of(predicate_type) {
            Some(Format::CycloneDx) => (cyclonedx(predicate.get()), "CycloneDX document"),
            Some(Format::Spdx) => (spdx(predicate.get()), "SPDX document of version 2 in JSON"),
            None => (None, "bill of materials"),
        };
        match found {
            None => Err(format!("is no {name}")),
            Some(count) if count < self.min_components => {
                Err(format!("names {count} components, and {} are wanted", self.min_components))
            }
            Some(_) => Ok(()),
        }
    }
}

fn cyclonedx(text: &str) -> Option<usize> {
    let document: CycloneDx = serde_json::from_str(text).ok()?;
    let count = document.components.map_or(0, |components| components.len());
    (document.bom_format == "CycloneDX").then_some(count)
}

fn spdx(text: &str) -> Option<usize> {
    let document: Spdx = serde_json::from_str(text).ok()?;
    let count = document.packages.map_or(0, |packages| packages.len());
    document.spdx_version.starts_with("SPDX-2.").then_some(count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::json::Text;

    const CYCLONEDX: &str = "https://cyclonedx.org/bom";
    const SPDX: &str = "https://spdx.dev/Document/v2.3";

    fn parse(text: &str, predicate_type: &str) -> Result<Sbom, String> {
        Sbom::parse(&Part::whole(Text(text)), predicate_type).map_err(|fault| fault.fault)
    }

    #[track_caller]
    fn check(predicate_type: &str, predicate: &str, expected: Result<(), &str>) {
        let sbom = parse(r#"{"minComponents":2}"#, predicate_type).unwrap();
        let found = sbom.holds(predicate_type, serde_json::from_str(predicate).unwrap());
        assert_eq!(found.as_ref().copied().map_err(String::as_str), expected, "{predicate}");
    }

    #[test]
    fn a_list_of_enough_components_holds() {
        check(CYCLONEDX, r#"{"bomFormat":"CycloneDX","components":[{},{"name":"a"}]}"#, Ok(()));
        check(SPDX, r#"{"spdxVersion":"SPDX-2.3","packages":[{},{},{}]}"#, Ok(()));
    }

    #[test]
    fn an_empty_or_missing_list_does_not() {
        let few = |count| format!("names {count} components, and 2 are wanted");
        check(CYCLONEDX, r#"{"bomFormat":"CycloneDX"}"#, Err(&few(0)));
        check(CYCLONEDX, r#"{"bomFormat":"CycloneDX","components":null}"#, Err(&few(0)));
        check(SPDX, r#"{"spdxVersion":"SPDX-2.3","packages":[{}]}"#, Err(&few(1)));
    }

    #[test]
    fn something_else_under_that_name_does_not() {
        let no = Err("is no CycloneDX document");
        check(CYCLONEDX, r#"{"spdxVersion":"SPDX-2.3","packages":[{},{}]}"#, no);
        check(CYCLONEDX, r#"{"bomFormat":"cyclonedx","components":[{},{}]}"#, no);
        check(CYCLONEDX, r#""a text""#, no);
        let no = Err("is no SPDX document of version 2 in JSON");
        check(SPDX, r#"{"@context":"https://spdx.org/rdf/3.0.1/spdx-context.jsonld"}"#, no);
        check(SPDX, r#""SPDXVersion: SPDX-2.3""#, no);
    }

    #[test]
    fn a_condition_for_another_kind_is_a_fault_of_the_policy() {
        for kind in ["https://slsa.dev/provenance/v1", "https://cyclonedx.org/bomb"] {
            parse("{}", kind).unwrap_err();
        }
        parse(r#"{"minComponents":0}"#, CYCLONEDX).unwrap_err();
        parse(r#"{"minComponents":-1}"#, CYCLONEDX).unwrap_err();
        parse(r#"{"components":1}"#, CYCLONEDX).unwrap_err();
    }
}
