//! The one way a registry is asked: address, authorization, retries, and the meaning of a status.
//!
//! A registry is first asked for `/v2/`: that tells whether an insecure one speaks TLS, and which
//! credentials it wants, before any name is named. What it said is kept for some minutes.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::SystemTime;

use reqwest::Response;
use reqwest::StatusCode;
use reqwest::Url;
use reqwest::header::ACCEPT;
use reqwest::header::ACCEPT_ENCODING;
use reqwest::header::HeaderMap;
use reqwest::header::HeaderValue;
use reqwest::header::RANGE;
use reqwest::header::WWW_AUTHENTICATE;
use tokio::time::Instant;

use crate::oci::document::DOCUMENT_LIMIT;
use crate::oci::reference::ReferenceError;
use crate::registry::answer;
use crate::registry::answer::Refusal;
use crate::registry::auth;
use crate::registry::auth::Freshness;
use crate::registry::auth::Host;
use crate::registry::auth::Tokens;
use crate::registry::challenge;
use crate::registry::challenge::Challenge;
use crate::registry::credentials::describe;
use crate::registry::error::Asked;
use crate::registry::error::RegistryError;
use crate::registry::names::Source;
use crate::registry::retry;
use crate::registry::retry::Again;
use crate::registry::retry::Failure;
use crate::registry::tls::Clients;
use crate::registry::transport;
use crate::registry::transport::Get;
use crate::registry::transport::SeeOther;
use crate::registry::transport::asked;

/// How long a host's answer to `/v2/` is believed.
const HOST_LIFE: Duration = Duration::from_secs(300);
/// The header by which a registry says that it keeps signatures itself.
const SIGNATURES: &str = "X-Registry-Supports-Signatures";
/// How long an error's text is waited for.
pub(super) const REFUSAL_PATIENCE: Duration = Duration::from_secs(10);

/// What to ask of a source.
#[derive(Debug, Clone, Copy)]
pub(super) struct Question<'a> {
    /// Who is asked.
    pub(super) source: &'a Source,
    /// What, below the repository: `manifests/latest`. Or a path with its query, from the root.
    pub(super) path: &'a str,
    /// The media types that will do.
    pub(super) accept: &'static str,
    /// The first byte that is wanted.
    pub(super) from: u64,
    /// What 303 means here.
    pub(super) see_other: SeeOther,
}

/// What a registry said: a response on its way, or a document that has come.
pub(super) enum Answer<T> {
    /// This.
    Found(T, Box<Asked>),
    /// 404, and why.
    Missing(Refusal, Box<Asked>),
}

/// A document that has come whole.
pub(super) struct Whole {
    /// Where it came from.
    pub(super) url: Url,
    /// What the server says of it.
    pub(super) headers: HeaderMap,
    /// Its bytes.
    pub(super) bytes: Vec<u8>,
}

impl Whole {
    /// The text of a header; empty if there is none.
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// How registries are asked.
#[derive(Debug)]
pub(super) struct Asker {
    pub(super) clients: Clients,
    pub(super) tokens: Tokens,
    pub(super) hosts: Hosts,
    /// The first wait between two tries.
    pub(super) backoff: Duration,
    /// How long one thing asked for may take with all its tries: a document to its last byte, a
    /// layer to its first.
    pub(super) patience: Duration,
    /// How long a layer may be waited for without coming further.
    pub(super) standstill: Duration,
}

/// What hosts answered to `/v2/`, and until when it is believed.
#[derive(Debug, Default)]
pub(super) struct Hosts {
    known: Mutex<HashMap<(String, bool), (Host, Instant)>>,
}

impl Hosts {
    fn find(&self, source: &Source) -> Option<Host> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let (host, until) = known.get(&Self::key(source))?;
        (*until > Instant::now()).then(|| host.clone())
    }

    fn keep(&self, source: &Source, host: Host) {
        let now = Instant::now();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, (_, until)| *until > now);
        known.insert(Self::key(source), (host, now + HOST_LIFE));
    }

    fn forget(&self, source: &Source) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.remove(&Self::key(source));
    }

    fn key(source: &Source) -> (String, bool) {
        (source.physical.host().to_owned(), source.insecure)
    }
}

impl Asker {
    /// Asks until there is an answer, or no sense in asking again.
    ///
    /// # Errors
    ///
    /// [`RegistryError`] for all but success and 404.
    pub(super) async fn ask(
        &self,
        question: Question<'_>,
    ) -> Result<Answer<Response>, RegistryError> {
        self.persist(place(question.source, question.path), || self.attempt(question)).await
    }

    /// Asks for a document of at most [`DOCUMENT_LIMIT`] bytes; again, too, if it broke off.
    ///
    /// # Errors
    ///
    /// As [`Asker::ask`].
    pub(super) async fn read(
        &self,
        question: Question<'_>,
    ) -> Result<Answer<Whole>, RegistryError> {
        self.persist(place(question.source, question.path), || async move {
            let (response, asked) = match self.attempt(question).await? {
                Answer::Found(response, asked) => (response, asked),
                Answer::Missing(refusal, asked) => return Ok(Answer::Missing(refusal, asked)),
            };
            let (url, headers) = (response.url().clone(), response.headers().clone());
            let bytes = answer::read(response, DOCUMENT_LIMIT, self.patience, &asked).await?;
            Ok(Answer::Found(Whole { url, headers, bytes }, asked))
        })
        .await
    }

    /// Whether the registry keeps OpenPGP signatures itself.
    pub(super) async fn keeps_signatures(&self, source: &Source) -> Result<bool, RegistryError> {
        let asked = place(source, "");
        self.persist(asked, || async move { Ok(self.host(source).await?.signatures) }).await
    }

    /// Tries until there is an answer, or no sense in trying again.
    pub(super) async fn persist<T, F: Future<Output = Result<T, Failure>>>(
        &self,
        asked: Box<Asked>,
        attempt: impl Fn() -> F,
    ) -> Result<T, RegistryError> {
        let deadline = Instant::now() + self.patience;
        let mut failed = 0;
        loop {
            let failure = match tokio::time::timeout_at(deadline, attempt()).await {
                Ok(Ok(found)) => return Ok(found),
                Ok(Err(failure)) => failure,
                Err(_) => {
                    let seconds = self.patience.as_secs();
                    return Err(RegistryError::TimedOut { asked, seconds });
                }
            };
            failed += 1;
            if failure.again == Again::No || failed >= retry::TRIES {
                return Err(failure.error);
            }
            let wait = retry::wait(self.backoff, failed, failure.again);
            // Who waits past the deadline learns no more than is known now.
            let told = match failure.again {
                Again::After(told) => told,
                Again::Soon | Again::No => Duration::ZERO,
            };
            if deadline.duration_since(Instant::now()) <= wait.max(told) {
                return Err(failure.error);
            }
            tracing::debug!(error = %failure.error, failed, ?wait, "asking the registry again");
            tokio::time::sleep(wait).await;
        }
    }

    async fn attempt(&self, question: Question<'_>) -> Result<Answer<Response>, Failure> {
        let source = question.source;
        let mut host = self.host(source).await?;
        let first = self.authorization(&host, source, Freshness::Kept).await?;
        let url = url(&host, question);
        let mut response = self.send(&url, question, first.clone()).await?;
        if response.status() == StatusCode::UNAUTHORIZED {
            // The token may have been revoked, or the registry may want another one here.
            let offered = challenges(&response);
            if !offered.is_empty() {
                host.challenges = offered;
                self.hosts.keep(source, host.clone());
            }
            let second = self.authorization(&host, source, Freshness::New).await?;
            if second.is_some() && second != first {
                response = self.send(&url, question, second).await?;
            }
        }
        self.judge(response, source, &url).await
    }

    async fn authorization(
        &self,
        host: &Host,
        source: &Source,
        freshness: Freshness,
    ) -> Result<Option<HeaderValue>, Failure> {
        let (tokens, clients) = (&self.tokens, &self.clients);
        auth::authorization(tokens, clients, host, source, self.patience, freshness).await
    }

    /// The meaning of a status.
    async fn judge(
        &self,
        response: Response,
        source: &Source,
        url: &Url,
    ) -> Result<Answer<Response>, Failure> {
        let asked = asked(&source.logical.to_string(), url);
        let status = response.status();
        if matches!(status, StatusCode::OK | StatusCode::PARTIAL_CONTENT) {
            return Ok(Answer::Found(response, asked));
        }
        let again = retry::advice(&response, SystemTime::now());
        let refusal = Refusal::read(response, REFUSAL_PATIENCE, &asked).await;
        let error = match status.as_u16() {
            404 => return Ok(Answer::Missing(refusal, asked)),
            401 | 403 => RegistryError::Unauthenticated {
                asked,
                tried: describe(source.login.as_ref()),
                message: refusal.into_message(),
            },
            status => RegistryError::Status { asked, status, message: refusal.into_message() },
        };
        Err(Failure { error, again })
    }

    async fn send(
        &self,
        url: &Url,
        question: Question<'_>,
        authorization: Option<HeaderValue>,
    ) -> Result<Response, RegistryError> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static(question.accept));
        // The digest is of the bytes as they are stored.
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if question.from > 0
            && let Ok(range) = HeaderValue::from_str(&format!("bytes={}-", question.from))
        {
            headers.insert(RANGE, range);
        }
        let source = question.source;
        let sent = self.get(source, url.clone(), headers, authorization, question.see_other).await;
        if sent.is_err() {
            // The registry may have moved between TLS and plain HTTP.
            self.hosts.forget(source);
        }
        sent
    }

    async fn get(
        &self,
        source: &Source,
        url: Url,
        headers: HeaderMap,
        authorization: Option<HeaderValue>,
        see_other: SeeOther,
    ) -> Result<Response, RegistryError> {
        let get = Get {
            home: &url.clone(),
            url,
            host: source.physical.host(),
            insecure: source.insecure,
            headers,
            authorization,
            see_other,
            reference: &source.logical.to_string(),
        };
        transport::send(&self.clients, &get).await
    }

    /// The registry's address and wishes, asked for if they are not known.
    async fn host(&self, source: &Source) -> Result<Host, Failure> {
        if let Some(host) = self.hosts.find(source) {
            return Ok(host);
        }
        let ping = self.ping(source, "https").await;
        let answer = match ping {
            // Anything else than a connection that could not be made is an answer over TLS.
            Err(
                RegistryError::Unreachable { source: error, .. }
                | RegistryError::NoTls { source: error, .. },
            ) if source.insecure && error.is_connect() => self.ping(source, "http").await,
            other => other,
        };
        let (base, response) = answer?;
        let again = retry::advice(&response, SystemTime::now());
        if again != Again::No {
            let asked = asked(&source.logical.to_string(), &base);
            let status = response.status().as_u16();
            let message = Refusal::read(response, REFUSAL_PATIENCE, &asked).await.into_message();
            return Err(Failure { error: RegistryError::Status { asked, status, message }, again });
        }
        let signatures = response.headers().get(SIGNATURES).is_some_and(|value| value == "1");
        let host = Host { base, challenges: challenges(&response), signatures };
        self.hosts.keep(source, host.clone());
        Ok(host)
    }

    async fn ping(&self, source: &Source, scheme: &str) -> Result<(Url, Response), RegistryError> {
        let host = match source.physical.host() {
            "docker.io" => "registry-1.docker.io",
            other => other,
        };
        let base = Url::parse(&format!("{scheme}://{host}/v2/"))
            .map_err(|_| ReferenceError::Host(host.to_owned()))?;
        let response =
            self.get(source, base.clone(), HeaderMap::new(), None, SeeOther::Follow).await?;
        Ok((base, response))
    }
}

/// What is asked for, before it is known which address that has.
fn place(source: &Source, path: &str) -> Box<Asked> {
    let url = format!("{}/{path}", source.location());
    Box::new(Asked { reference: source.logical.to_string(), url })
}

fn url(host: &Host, question: Question<'_>) -> Url {
    // Repository, tag and digest were checked when they were parsed: none of them can leave the
    // path. A path from the root came from the registry itself, in a link.
    let mut url = host.base.clone();
    match question.path.strip_prefix('/') {
        Some(_) => {
            let (path, query) = question.path.split_once('?').unwrap_or((question.path, ""));
            url.set_path(path);
            url.set_query((!query.is_empty()).then_some(query));
        }
        None => url.set_path(&format!("/v2/{}/{}", question.source.physical.path(), question.path)),
    }
    url
}

/// The challenges of an answer with status 401; of any other answer none.
fn challenges(response: &Response) -> Vec<Challenge> {
    if response.status() != StatusCode::UNAUTHORIZED {
        return Vec::new();
    }
    let headers = response.headers().get_all(WWW_AUTHENTICATE).iter();
    headers.filter_map(|header| header.to_str().ok()).flat_map(challenge::parse).collect()
}
