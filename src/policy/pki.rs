//! `pki`: the owner of a certificate of an ordinary authority must have signed.

use crate::failure::chain;
use crate::policy::fulcio::FileOrData;
use crate::policy::json::Fault;
use crate::policy::json::Part;
use crate::policy::keys::Read;
use crate::policy::proof::quoted;
use crate::signature::certificate;
use crate::signature::certificate::Authorities;
use crate::signature::pki::Proven;

/// Who must have signed, and whose word counts for it.
#[derive(Debug)]
pub(crate) struct Pki {
    authorities: Result<Authorities, String>,
    email: Option<String>,
    host: Option<String>,
}

impl Pki {
    /// Reads the member `pki`, and the files that it names.
    pub(crate) fn parse(part: &Part<'_>, read: Read<'_>) -> Result<Self, Fault> {
        let mut members = part.members()?;
        let roots = FileOrData::take_or_empty(&mut members, ["caRootsPath", "caRootsData"])?;
        let intermediates = ["caIntermediatesPath", "caIntermediatesData"];
        let intermediates = FileOrData::take_or_empty(&mut members, intermediates)?;
        let named = |text: Option<String>| text.filter(|text| !text.is_empty());
        let email = named(members.take("subjectEmail")?);
        let host = named(members.take("subjectHostname")?);
        members.end()?;
        if roots.used() != 1 {
            return Err(part.fault("exactly one of caRootsPath and caRootsData must be specified"));
        }
        if intermediates.used() > 1 {
            return Err(part.fault(
                "caIntermediatesPath and caIntermediatesData cannot be used simultaneously",
            ));
        }
        if email.is_none() && host.is_none() {
            let fault = "at least one of subjectEmail, subjectHostname must be specified";
            return Err(part.fault(fault));
        }
        Ok(Self { authorities: load(roots, intermediates, read), email, host })
    }

    /// Whose word counts, or what is missing.
    pub(crate) fn authorities(&self) -> Result<&Authorities, String> {
        self.authorities.as_ref().map_err(Clone::clone)
    }

    /// Whether the owner of a proven certificate is who must have signed; if not, in which respect.
    pub(crate) fn accepts(&self, proven: &Proven) -> Result<(), String> {
        let emails = &proven.certificate.emails;
        if let Some(email) = self.email.as_ref().filter(|email| !emails.contains(email)) {
            return Err(format!("Required email {email:?} not found (got [{}])", quoted(emails)));
        }
        let other = |host: &&String| !certificate::is_for_host(&proven.der, host);
        if let Some(host) = self.host.as_ref().filter(other) {
            let found = quoted(&proven.certificate.hosts);
            return Err(format!("Unexpected subject hostname: not {host:?} (got [{found}])"));
        }
        Ok(())
    }

    /// Who must have signed, in a sentence.
    pub(crate) fn described(&self) -> String {
        let names = [&self.email, &self.host].into_iter().flatten();
        names.map(String::as_str).collect::<Vec<_>>().join(" and ")
    }
}

fn load(
    roots: FileOrData,
    intermediates: FileOrData,
    read: Read<'_>,
) -> Result<Authorities, String> {
    let place = roots.place().to_owned();
    let in_file = |fault: String| format!("the certificate in {fault}");
    let roots = roots.load(read).map_err(in_file)?;
    let intermediates = intermediates.load(read).map_err(in_file)?;
    Authorities::from_pem(&roots, &intermediates)
        .map_err(|error| format!("the certificates in {place} cannot be used: {}", chain(&error)))
}
