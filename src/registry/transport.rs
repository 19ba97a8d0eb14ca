//! One GET, with its redirects, to whatever host it leads.
//!
//! Every hop is dialled with what its own host may see: the `Authorization` header and the client
//! certificate stay with the host that was asked first. A redirect never leads from TLS to plain
//! HTTP, unless the registry is marked insecure.

use std::error::Error;
use std::io;

use reqwest::Response;
use reqwest::StatusCode;
use reqwest::Url;
use reqwest::header::AUTHORIZATION;
use reqwest::header::HeaderMap;
use reqwest::header::HeaderValue;
use reqwest::header::LOCATION;

use crate::registry::error::Asked;
use crate::registry::error::RegistryError;
use crate::registry::tls::Check;
use crate::registry::tls::Clients;
use crate::registry::tls::Identify;

/// How many redirects are followed.
const REDIRECT_LIMIT: usize = 10;

/// What 303 means: see this page for what was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SeeOther {
    /// It is followed like any redirect.
    Follow,
    /// It is an answer: there is nothing here.
    Answer,
}

/// A request before it is sent.
pub(super) struct Get<'a> {
    /// Where to.
    pub(super) url: Url,
    /// The registry's address: the token server may be elsewhere.
    pub(super) home: &'a Url,
    /// The registry's name in `certs.d`. Its authorities count wherever it sends us.
    pub(super) host: &'a str,
    /// Whether the administrator marked the registry insecure.
    pub(super) insecure: bool,
    /// For any host.
    pub(super) headers: HeaderMap,
    /// For the first host alone.
    pub(super) authorization: Option<HeaderValue>,
    /// What 303 means here.
    pub(super) see_other: SeeOther,
    /// For messages.
    pub(super) reference: &'a str,
}

/// Sends the request and follows redirects; any other status is an answer.
pub(super) async fn send(clients: &Clients, get: &Get<'_>) -> Result<Response, RegistryError> {
    let mut url = get.url.clone();
    for _ in 0..=REDIRECT_LIMIT {
        let response = hop(clients, get, &url).await?;
        if !is_redirect(response.status(), get.see_other) {
            return Ok(response);
        }
        url = next(get, &url, &response)?;
    }
    Err(redirect_fault(get, &url, "is one of too many"))
}

async fn hop(clients: &Clients, get: &Get<'_>, url: &Url) -> Result<Response, RegistryError> {
    let named = host_of(url);
    let home = url.origin() == get.home.origin();
    let own = clients.directory(if home { get.host } else { &named });
    let check = if get.insecure { Check::Nothing } else { Check::Certificate };
    let client = match own {
        Some(directory) => clients.client(&named, Some(&directory), check, Identify::Yes),
        None => clients.client(&named, clients.directory(get.host).as_deref(), check, Identify::No),
    }?;
    let mut headers = get.headers.clone();
    if url.origin() == get.url.origin()
        && let Some(authorization) = &get.authorization
    {
        headers.insert(AUTHORIZATION, authorization.clone());
    }
    client.get(url.clone()).headers(headers).send().await.map_err(|source| {
        let (asked, source) = (asked(get.reference, url), source.without_url());
        match tls_fault(&source) {
            Some(rustls::Error::InvalidCertificate(_)) => {
                RegistryError::Untrusted { asked, host: named, source }
            }
            Some(rustls::Error::InvalidMessage(_)) => RegistryError::NoTls { asked, source },
            _ => RegistryError::Unreachable { asked, source },
        }
    })
}

/// The TLS fault among the causes of an error. I/O errors hide what they carry one step deeper.
fn tls_fault<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        let carried = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = match carried {
            Some(carried) => Some(carried),
            None => error.source(),
        };
    }
    None
}

fn is_redirect(status: StatusCode, see_other: SeeOther) -> bool {
    match status.as_u16() {
        303 => see_other == SeeOther::Follow,
        status => matches!(status, 301 | 302 | 307 | 308),
    }
}

fn next(get: &Get<'_>, from: &Url, response: &Response) -> Result<Url, RegistryError> {
    let location = response.headers().get(LOCATION).and_then(|location| location.to_str().ok());
    let next = location.and_then(|location| from.join(location).ok());
    let Some(mut next) = next else {
        return Err(redirect_fault(get, from, "names no place"));
    };
    match (from.scheme(), next.scheme()) {
        (_, "https") | ("http", "http") => {}
        ("https", "http") if get.insecure => {}
        ("https", "http") => return Err(redirect_fault(get, from, "leads from https to http")),
        _ => return Err(redirect_fault(get, from, "leads to something else than http")),
    }
    // A name in the URL would become an `Authorization` header that nobody asked for.
    let _ = next.set_username("");
    let _ = next.set_password(None);
    Ok(next)
}

fn redirect_fault(get: &Get<'_>, url: &Url, fault: &'static str) -> RegistryError {
    RegistryError::Redirect { asked: asked(get.reference, url), fault }
}

/// Host and port as `certs.d` names them.
fn host_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// What was asked, and where: without the query, which may be a signed secret.
pub(super) fn asked(reference: &str, url: &Url) -> Box<Asked> {
    let url = format!("{}://{}{}", url.scheme(), host_of(url), url.path());
    Box::new(Asked { reference: reference.to_owned(), url })
}
