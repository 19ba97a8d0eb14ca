//! `vex`: no vulnerability affects the image, as far as OpenVEX statements say.
//!
//! Statements supersede one another: of those about the same vulnerability and product the latest
//! holds. So one document is not enough to look at: it must hold what is asked, and no other
//! document by an accepted signer may say otherwise later. Where it is unclear whether a statement
//! is about this image, it counts against the image and never for it.

mod document;
mod product;

use serde_json::value::RawValue;

use crate::policy::json::Fault;
use crate::policy::json::Part;
use crate::policy::reasons::short;
use crate::policy::signable::Signable;

pub(super) use document::Said;
use document::Status;
use product::Whom;

/// How many statements are looked at: each is compared with others.
const MOST: usize = 10_000;

/// What must be said of the image.
#[derive(Debug)]
pub(crate) struct Vex {
    none_affects: Option<Which>,
    cleared: Vec<String>,
    allow_investigation: bool,
}

/// Which vulnerabilities must not affect the image.
#[derive(Debug)]
enum Which {
    All,
    These(Vec<String>),
}

impl Vex {
    /// Reads the condition.
    pub(crate) fn parse(part: &Part<'_>, predicate_type: &str) -> Result<Self, Fault> {
        let mut members = part.members()?;
        let none_affects =
            members.part("noAffected").map(|part| Which::parse(&part)).transpose()?;
        let cleared = members.part("cleared").map(|part| names(&part)).transpose()?;
        let allow_investigation: Option<bool> = members.take("allowUnderInvestigation")?;
        members.end()?;
        let base = "https://openvex.dev/ns";
        let rest = predicate_type.strip_prefix(base);
        if !rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
            let fault =
                format!("vex is for the predicate type {base}, and those of a version below it");
            return Err(part.fault(fault));
        }
        if none_affects.is_none() && cleared.is_none() {
            return Err(part.fault("noAffected or cleared must be specified"));
        }
        Ok(Self {
            none_affects,
            cleared: cleared.unwrap_or_default(),
            allow_investigation: allow_investigation.unwrap_or_default(),
        })
    }

    /// What a predicate says of the image; if it is no OpenVEX document, what is wrong.
    pub(crate) fn read(predicate: &RawValue, subject: &Signable<'_>) -> Result<Vec<Said>, String> {
        document::read(predicate.get(), subject)
    }

    /// Whether all that is said allows the image; if not, what is wrong.
    pub(crate) fn holds<'a>(&self, said: impl Iterator<Item = &'a Said>) -> Result<(), String> {
        let said: Vec<&Said> = said.take(MOST + 1).collect();
        if said.len() > MOST {
            return Err(format!("is VEX of more than {MOST} statements"));
        }
        if !said.iter().any(|statement| statement.whom == Whom::Ours) {
            return Err("is VEX that says nothing of this image".to_owned());
        }
        let bad = |status: Status| match status {
            Status::Affected => true,
            Status::UnderInvestigation => !self.allow_investigation,
            Status::Cleared => false,
        };
        let in_force = |statement: &Said, bad: &dyn Fn(Status) -> bool| {
            bad(statement.status)
                && !said.iter().any(|later| !bad(later.status) && later.supersedes(statement))
        };
        let asked = |statement: &Said| match &self.none_affects {
            None => false,
            Some(Which::All) => true,
            Some(Which::These(names)) => names.iter().any(|name| statement.is_about(name)),
        };
        if let Some(found) = said.iter().find(|one| asked(one) && in_force(one, &bad)) {
            return Err(found.words());
        }
        let unclear = |status: Status| status != Status::Cleared;
        for name in &self.cleared {
            let of_it = || said.iter().filter(|statement| statement.is_about(name));
            if let Some(found) = of_it().find(|one| in_force(one, &unclear)) {
                return Err(found.words());
            }
            if !of_it().any(|one| one.status == Status::Cleared && one.whom == Whom::Ours) {
                return Err(format!("is VEX that does not clear {}", short(name)));
            }
        }
        Ok(())
    }
}

impl Which {
    fn parse(part: &Part<'_>) -> Result<Self, Fault> {
        match part.read::<String>() {
            Ok(text) if text == "all" => Ok(Self::All),
            _ => names(part).map(Self::These),
        }
    }
}

/// Names of vulnerabilities.
fn names(part: &Part<'_>) -> Result<Vec<String>, Fault> {
    let names: Vec<String> = part.read()?;
    if names.is_empty() || names.iter().any(String::is_empty) {
        return Err(part.fault("names of vulnerabilities must be specified"));
    }
    Ok(names.iter().map(|name| name.to_ascii_uppercase()).collect())
}

#[cfg(test)]
mod tests;
