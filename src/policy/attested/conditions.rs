//! `conditions`: what the predicate of an attestation must say.

use serde_json::value::RawValue;

use crate::policy::attested::pointer::Equals;
use crate::policy::attested::sbom::Sbom;
use crate::policy::attested::slsa::Slsa;
use crate::policy::attested::vex::Said;
use crate::policy::attested::vex::Vex;
use crate::policy::cause::Cause;
use crate::policy::cause::Reason;
use crate::policy::json::Fault;
use crate::policy::json::Part;
use crate::policy::signable::Signable;

/// All of these must hold of one predicate.
#[derive(Debug, Default)]
pub(super) struct Conditions {
    slsa: Option<Slsa>,
    vex: Option<Vex>,
    sbom: Option<Sbom>,
    json: Vec<Equals>,
}

/// What is said by all attestations together that could hold.
#[derive(Debug, Default)]
pub(super) struct Together {
    said: Vec<Vec<Said>>,
}

impl Conditions {
    /// Reads the conditions, which must be such for the predicate type.
    pub(super) fn parse(part: &Part<'_>, predicate_type: &str) -> Result<Self, Fault> {
        let mut members = part.members()?;
        let slsa = members.part("slsa").map(|part| Slsa::parse(&part, predicate_type));
        let vex = members.part("vex").map(|part| Vex::parse(&part, predicate_type));
        let sbom = members.part("sbom").map(|part| Sbom::parse(&part, predicate_type));
        let json = members.part("json").map(|part| list(&part));
        members.end()?;
        if slsa.is_none() && vex.is_none() && sbom.is_none() && json.is_none() {
            return Err(part.fault("at least one of slsa, vex, sbom and json must be specified"));
        }
        Ok(Self {
            slsa: slsa.transpose()?,
            vex: vex.transpose()?,
            sbom: sbom.transpose()?,
            json: json.transpose()?.unwrap_or_default(),
        })
    }

    /// Reads what one of the attestations says that others may contradict.
    pub(super) fn hear(
        &self,
        together: &mut Together,
        predicate: &RawValue,
        subject: &Signable<'_>,
    ) -> Result<(), Reason> {
        if self.vex.is_some() {
            together.said.push(Vex::read(predicate, subject).map_err(affected)?);
        }
        Ok(())
    }

    /// Whether nothing that is said by all together forbids the image.
    pub(super) fn hold_together(&self, together: &Together) -> Result<(), Reason> {
        match &self.vex {
            Some(vex) => vex.holds(together.said.iter().flatten()).map_err(affected),
            None => Ok(()),
        }
    }

    /// Whether one attestation, the `place`th that was heard, fulfils all conditions.
    pub(super) fn hold_alone(
        &self,
        predicate_type: &str,
        predicate: &RawValue,
        together: &Together,
        place: usize,
    ) -> Result<(), Reason> {
        if let Some(slsa) = &self.slsa {
            let other = |words| Reason::new(Cause::OtherProvenance, words);
            slsa.holds(predicate_type, predicate).map_err(other)?;
        }
        if let Some(vex) = &self.vex {
            vex.holds(together.said.get(place).into_iter().flatten()).map_err(affected)?;
        }
        let unmet = |words| Reason::new(Cause::Unmet, words);
        if let Some(sbom) = &self.sbom {
            sbom.holds(predicate_type, predicate).map_err(unmet)?;
        }
        self.json.iter().try_for_each(|equals| equals.holds(predicate)).map_err(unmet)
    }
}

fn affected(words: String) -> Reason {
    Reason::new(Cause::Affected, words)
}

fn list(part: &Part<'_>) -> Result<Vec<Equals>, Fault> {
    let items = part.items()?;
    if items.is_empty() {
        return Err(part.fault("at least one pointer must be specified"));
    }
    items.iter().map(Equals::parse).collect()
}
