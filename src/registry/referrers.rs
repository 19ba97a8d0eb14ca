//! What refers to an image: signatures, attestations and the like.
//!
//! The referrers API of the distribution specification 1.1, and where it is not there the tag that
//! clients of older registries keep the list under. "There are none" is said only when a registry said it clearly;
//! whatever else happens is an error, because an image whose signatures were not found out about
//! must not pass for one without signatures.

use reqwest::Url;

use crate::oci::descriptor::Descriptor;
use crate::oci::digest::Digest;
use crate::oci::document::Document;
use crate::oci::media_type;
use crate::registry::client::Answer;
use crate::registry::client::Asker;
use crate::registry::client::Question;
use crate::registry::client::Whole;
use crate::registry::error::Asked;
use crate::registry::error::RegistryError;
use crate::registry::manifest;
use crate::registry::manifest::Found;
use crate::registry::manifest::TagOrDigest;
use crate::registry::names::Source;
use crate::registry::transport::SeeOther;

/// How many pages of a list are read.
const PAGE_LIMIT: usize = 32;
/// How many referrers are read.
const REFERRER_LIMIT: usize = 4096;
/// How many bytes all pages may have.
const BYTES_LIMIT: usize = 8 * 1024 * 1024;

/// All referrers of `subject`; empty if there are none.
pub(super) async fn list(
    asker: &Asker,
    source: &Source,
    subject: &Digest,
) -> Result<Vec<Descriptor>, RegistryError> {
    let mut path = format!("referrers/{subject}");
    let (mut found, mut bytes) = (Vec::new(), 0);
    for page in 0..PAGE_LIMIT {
        let accept = media_type::OCI_INDEX;
        let question =
            Question { source, path: &path, accept, from: 0, see_other: SeeOther::Answer };
        let answer = asker.read(question).await;
        if page == 0 && has_no_api(&answer) {
            return tagged(asker, source, subject).await;
        }
        let (list, asked) = match answer? {
            Answer::Found(list, asked) => (list, asked),
            Answer::Missing(refusal, asked) => {
                return Err(RegistryError::Unclear { asked, message: refusal.into_message() });
            }
        };
        let next = next(&list.url, list.header("link"));
        found.extend(descriptors(&asked, &manifest::media_type(&list), &list.bytes)?);
        bytes += list.bytes.len();
        for (count, limit, what) in
            [(found.len(), REFERRER_LIMIT, "entries"), (bytes, BYTES_LIMIT, "bytes")]
        {
            if count > limit {
                return Err(RegistryError::TooManyReferrers { asked, limit, what });
            }
        }
        match next {
            None => return Ok(found),
            Some(_) if page + 1 == PAGE_LIMIT => {
                let (limit, what) = (PAGE_LIMIT, "pages");
                return Err(RegistryError::TooManyReferrers { asked, limit, what });
            }
            Some(next) => path = next,
        }
    }
    Ok(found)
}

/// Whether the registry does not know the API: then what lies under the tag decides.
///
/// The specification has 404 for that. Registries are also seen to say 400 or 406, to show a page, and
/// to name one: 303 says of a GET that there is no representation of what was asked for (RFC 9110,
/// section 15.4.4). cosign keeps the list under the tag there, too.
fn has_no_api(answer: &Result<Answer<Whole>, RegistryError>) -> bool {
    match answer {
        Ok(Answer::Missing(_, _)) => true,
        Ok(Answer::Found(list, _)) => manifest::media_type(list) == "text/html",
        Err(RegistryError::Status { status, .. }) => matches!(status, 303 | 400 | 406),
        Err(_) => false,
    }
}

/// The list under the tag `<algorithm>-<hex>`, where clients keep it for registries without the API.
///
/// An image under that tag is no list, and the specification has it that there is none then:
/// `cosign copy` puts the image itself there.
async fn tagged(
    asker: &Asker,
    source: &Source,
    subject: &Digest,
) -> Result<Vec<Descriptor>, RegistryError> {
    // A tag has at most 128 characters, and the specification cuts the hex digits to 64.
    let hex = subject.hex().get(..64).unwrap_or_default();
    let tag = TagOrDigest::Tag(format!("{}-{hex}", subject.algorithm().name()));
    match manifest::fetch(asker, source, &tag).await? {
        Found::Nothing(refusal, _) if refusal.denies_existence() => Ok(Vec::new()),
        Found::Nothing(refusal, asked) => {
            Err(RegistryError::Unclear { asked, message: refusal.into_message() })
        }
        Found::Manifest(list) => {
            let url = format!("{}:{}-{hex}", source.location(), subject.algorithm().name());
            let asked = Asked { reference: source.logical.to_string(), url };
            match descriptors(&asked, &list.media_type, &list.bytes) {
                Err(RegistryError::NoIndex { .. }) => Ok(Vec::new()),
                found => found,
            }
        }
    }
}

fn descriptors(
    asked: &Asked,
    served: &str,
    bytes: &[u8],
) -> Result<Vec<Descriptor>, RegistryError> {
    match Document::parse(served, bytes) {
        Ok(Document::Index(index)) => Ok(index.manifests),
        Ok(Document::Manifest(_)) => Err(RegistryError::NoIndex { asked: Box::new(asked.clone()) }),
        Err(source) => Err(RegistryError::Referrers { asked: Box::new(asked.clone()), source }),
    }
}

/// The next page's path and query, from `Link: <url>; rel="next"` (RFC 8288).
///
/// Only what lies at the same host is followed, so nothing but path and query is taken.
fn next(here: &Url, link: &str) -> Option<String> {
    let (target, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
    let is_next = parameters.split(';').any(|parameter| {
        parameter.trim().trim_end_matches(',').replace('"', "").eq_ignore_ascii_case("rel=next")
    });
    let url = here.join(target).ok().filter(|_| is_next)?;
    Some(match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_to_the_same_host_only() {
        let here = Url::parse("https://q.io/v2/a/referrers/sha256:0").unwrap();
        let check = |link: &str, expected: Option<&str>| {
            assert_eq!(next(&here, link).as_deref(), expected, "{link}");
        };
        check("</v2/a/referrers/x?n=1&last=2>; rel=\"next\"", Some("/v2/a/referrers/x?n=1&last=2"));
        check("<?last=2>; rel=next", Some("/v2/a/referrers/sha256:0?last=2"));
        check("<https://evil.example/x?y>; rel=\"next\"", Some("/x?y"));
        check("</v2/x>; rel=\"prev\"", None);
        check("/v2/x; rel=next", None);
        check("", None);
    }
}
