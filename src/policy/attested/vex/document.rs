//! An OpenVEX document, read strictly: a statement that lacks what makes it one spoils the whole.
//!
//! Versions 0.0.1 (names as plain texts) and 0.2.0 (names as objects) are read.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::policy::attested::vex::product;
use crate::policy::attested::vex::product::Whom;
use crate::policy::reasons::short;
use crate::policy::signable::Signable;

/// One statement about one product, with what it inherits.
#[derive(Debug)]
pub(crate) struct Said {
    /// The vulnerability's names, in capitals.
    names: BTreeSet<String>,
    time: OffsetDateTime,
    pub(super) whom: Whom,
    /// The components of the product that are meant; none means all.
    parts: BTreeSet<String>,
    pub(super) status: Status,
}

/// What a statement says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    /// `not_affected` or `fixed`.
    Cleared,
    UnderInvestigation,
    Affected,
}

#[derive(Deserialize)]
struct Document {
    #[serde(rename = "@context")]
    context: String,
    #[serde(default)]
    timestamp: Option<String>,
    #[serde(default)]
    statements: Option<Vec<Statement>>,
}

#[derive(Deserialize)]
struct Statement {
    vulnerability: Vulnerability,
    #[serde(default)]
    timestamp: Option<String>,
    #[serde(default)]
    products: Option<Vec<Component>>,
    #[serde(default)]
    subcomponents: Option<Vec<Component>>,
    status: String,
    #[serde(default)]
    justification: Option<String>,
    #[serde(default)]
    impact_statement: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Vulnerability {
    Name(String),
    Names {
        #[serde(rename = "@id", default)]
        id: Option<String>,
        #[serde(default)]
        name: Option<String>,
        #[serde(default)]
        aliases: Option<Vec<String>>,
    },
}

/// A product, or a part of one.
#[derive(Deserialize)]
#[serde(untagged)]
enum Component {
    Name(String),
    Names {
        #[serde(rename = "@id", default)]
        id: Option<String>,
        #[serde(default)]
        identifiers: Option<BTreeMap<String, String>>,
        #[serde(default)]
        hashes: Option<BTreeMap<String, String>>,
        #[serde(default)]
        subcomponents: Option<Vec<Component>>,
    },
}

impl Said {
    /// Whether it is about the vulnerability of this name.
    pub(super) fn is_about(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// Whether it was said later, about the same.
    pub(super) fn supersedes(&self, earlier: &Self) -> bool {
        let product = self.whom == Whom::Ours || self.whom == earlier.whom;
        let parts = self.parts.is_empty()
            || (!earlier.parts.is_empty() && earlier.parts.is_subset(&self.parts));
        self.time > earlier.time && product && parts && !self.names.is_disjoint(&earlier.names)
    }

    /// What it says, as the end of a sentence.
    pub(super) fn words(&self) -> String {
        let status = match self.status {
            Status::Cleared => "cleared",
            Status::UnderInvestigation => "under_investigation",
            Status::Affected => "affected",
        };
        let name = self.names.first().map_or("", String::as_str);
        let of = match &self.whom {
            Whom::Ours => String::new(),
            Whom::Unclear(product) => format!(" of {:?}, which may be this image", short(product)),
        };
        format!("is VEX that says {status} for {}{of}", short(name))
    }
}

/// Reads a document: all that it says of this image, or of what may be this image.
pub(super) fn read(text: &str, subject: &Signable<'_>) -> Result<Vec<Said>, String> {
    let none = || "is no OpenVEX document".to_owned();
    let document: Document = serde_json::from_str(text).map_err(|_| none())?;
    let rest = document.context.strip_prefix("https://openvex.dev/ns");
    if !rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
        return Err(none());
    }
    let mut said = Vec::new();
    for statement in document.statements.unwrap_or_default() {
        let time = statement.timestamp.as_ref().or(document.timestamp.as_ref());
        let time = time.and_then(|time| OffsetDateTime::parse(time, &Rfc3339).ok());
        let time = time.ok_or("is VEX with a statement of no time")?;
        said.extend(statement.read(time, subject)?);
    }
    Ok(said)
}

impl Statement {
    fn read(self, time: OffsetDateTime, subject: &Signable<'_>) -> Result<Vec<Said>, String> {
        let names = self.vulnerability.names();
        if names.is_empty() {
            return Err("is VEX with a statement of no vulnerability".to_owned());
        }
        let given = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
        let status = match self.status.as_str() {
            "not_affected" if !given(&self.justification) && !given(&self.impact_statement) => {
                return Err("is VEX with a not_affected that is not justified".to_owned());
            }
            "not_affected" | "fixed" => Status::Cleared,
            "under_investigation" => Status::UnderInvestigation,
            "affected" => Status::Affected,
            other => return Err(format!("is VEX with the unknown status {:?}", short(other))),
        };
        let shared = parts(self.subcomponents.unwrap_or_default());
        let one = |whom, parts| Said { names: names.clone(), time, whom, parts, status };
        let products = self.products.unwrap_or_default();
        if products.is_empty() {
            // What the attestation is about, which is this image.
            return Ok(vec![one(Whom::Ours, shared)]);
        }
        let said = products.into_iter().filter_map(|product| {
            let whom = product.whom(subject)?;
            let mut parts = product.parts();
            parts.extend(shared.iter().cloned());
            Some(one(whom, parts))
        });
        Ok(said.collect())
    }
}

impl Vulnerability {
    fn names(self) -> BTreeSet<String> {
        let names: Vec<String> = match self {
            Self::Name(name) => vec![name],
            Self::Names { id, name, aliases } => {
                id.into_iter().chain(name).chain(aliases.unwrap_or_default()).collect()
            }
        };
        let given = names.iter().filter(|name| !name.is_empty());
        given.map(|name| name.to_ascii_uppercase()).collect()
    }
}

impl Component {
    fn whom(&self, subject: &Signable<'_>) -> Option<Whom> {
        let none = BTreeMap::new();
        match self {
            Self::Name(name) => product::whom(Some(name), &none, &none, subject),
            Self::Names { id, identifiers, hashes, .. } => {
                let identifiers = identifiers.as_ref().unwrap_or(&none);
                let hashes = hashes.as_ref().unwrap_or(&none);
                product::whom(id.as_deref(), identifiers, hashes, subject)
            }
        }
    }

    fn parts(self) -> BTreeSet<String> {
        match self {
            Self::Name(_) => BTreeSet::new(),
            Self::Names { subcomponents, .. } => parts(subcomponents.unwrap_or_default()),
        }
    }
}

/// The names of the parts of a product; a part without one is like no other.
fn parts(components: Vec<Component>) -> BTreeSet<String> {
    let name = |(place, component): (usize, Component)| match component {
        Component::Name(name) => name,
        Component::Names { id, identifiers, .. } => {
            let purl = identifiers.and_then(|mut named| named.remove("purl"));
            id.or(purl).unwrap_or_else(|| format!("part {place} without a name"))
        }
    };
    components.into_iter().enumerate().map(name).collect()
}
