//! From a challenge and credentials to the `Authorization` header.
//!
//! A bearer token is fetched once for each host, scope and credentials, and kept until it expires.
//! The token server's address comes from the registry, so it is not trusted: it gets the
//! credentials over TLS, or when the administrator marked the registry insecure, and else never.

use std::collections::HashMap;
use std::fmt;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::SystemTime;

use reqwest::StatusCode;
use reqwest::Url;
use reqwest::header::HeaderMap;
use reqwest::header::HeaderValue;
use serde::Deserialize;
use tokio::time::Instant;

use crate::oci::digest::Digest;
use crate::registry::answer;
use crate::registry::answer::Refusal;
use crate::registry::challenge::Challenge;
use crate::registry::credentials::Login;
use crate::registry::credentials::describe;
use crate::registry::error::RegistryError;
use crate::registry::names::Source;
use crate::registry::retry;
use crate::registry::retry::Failure;
use crate::registry::tls::Clients;
use crate::registry::transport;
use crate::registry::transport::Get;
use crate::registry::transport::SeeOther;
use crate::registry::transport::asked;

/// How long a token is good if the server does not say, or says less: the token specification's
/// minimum.
const SHORTEST_LIFE: u64 = 60;
/// How long a token is kept at most.
const LONGEST_LIFE: u64 = 3600;
/// How many tokens are kept.
const TOKEN_LIMIT: usize = 1024;

/// The tokens fetched so far.
#[derive(Default)]
pub(super) struct Tokens {
    kept: Mutex<HashMap<Key, Token>>,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Tokens").finish_non_exhaustive()
    }
}

/// A token is for one registry, one scope and one set of credentials: two pods with different
/// pull secrets never share one.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    registry: Url,
    scope: String,
    login: Option<Digest>,
}

#[derive(Clone)]
struct Token {
    header: HeaderValue,
    expires: Instant,
}

/// Whether a token that is kept will do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Freshness {
    /// Yes.
    Kept,
    /// No: it was just refused.
    New,
}

/// A registry's answer to "who are you": its address, and what it wants to know of us.
#[derive(Debug, Clone)]
pub(super) struct Host {
    /// `https://host:port/v2/`.
    pub(super) base: Url,
    /// In the registry's order.
    pub(super) challenges: Vec<Challenge>,
    /// Whether it says that it keeps signatures itself, by its extension.
    pub(super) signatures: bool,
}

/// The header to send to `host` for `source`; `None` if none is wanted, or we have none to give.
pub(super) async fn authorization(
    tokens: &Tokens,
    clients: &Clients,
    host: &Host,
    source: &Source,
    patience: Duration,
    freshness: Freshness,
) -> Result<Option<HeaderValue>, Failure> {
    for challenge in &host.challenges {
        match (challenge.scheme.as_str(), &source.login) {
            ("basic", Some(login)) => {
                return Ok(header(&login.basic()));
            }
            ("bearer", login) => {
                let scope = format!("repository:{}:pull", source.physical.path());
                let key = Key {
                    registry: host.base.clone(),
                    scope,
                    login: login.as_ref().map(Login::fingerprint),
                };
                if freshness == Freshness::Kept
                    && let Some(header) = tokens.find(&key)
                {
                    return Ok(Some(header));
                }
                let request = Request { clients, host, source, challenge, patience };
                let token = request.fetch(&key.scope).await?;
                let header = token.header.clone();
                tokens.keep(key, token);
                return Ok(Some(header));
            }
            _ => {}
        }
    }
    Ok(None)
}

impl Tokens {
    fn find(&self, key: &Key) -> Option<HeaderValue> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get(key)
            .filter(|token| token.expires > Instant::now())
            .map(|token| token.header.clone())
    }

    fn keep(&self, key: Key, token: Token) {
        let now = Instant::now();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|_, token| token.expires > now);
        if kept.len() >= TOKEN_LIMIT {
            kept.clear();
        }
        kept.insert(key, token);
    }
}

#[derive(Deserialize)]
struct TokenReply {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

/// A request for a token.
struct Request<'a> {
    clients: &'a Clients,
    host: &'a Host,
    source: &'a Source,
    challenge: &'a Challenge,
    patience: Duration,
}

impl Request<'_> {
    async fn fetch(&self, scope: &str) -> Result<Token, Failure> {
        let reference = self.source.logical.to_string();
        let login = self.source.login.as_ref();
        let url = self.url(scope, &reference)?;
        let shown = asked(&reference, &url);
        let get = Get {
            home: &self.host.base,
            host: self.source.physical.host(),
            insecure: self.source.insecure,
            headers: HeaderMap::new(),
            authorization: login.and_then(|login| header(&login.basic())),
            see_other: SeeOther::Follow,
            reference: &reference,
            url,
        };
        let response = transport::send(self.clients, &get).await?;
        let status = response.status();
        if status != StatusCode::OK {
            let again = retry::advice(&response, SystemTime::now());
            let message = Refusal::read(response, self.patience, &shown).await.into_message();
            let error = match status.as_u16() {
                401 | 403 => {
                    RegistryError::Unauthenticated { asked: shown, tried: describe(login), message }
                }
                status => RegistryError::Status { asked: shown, status, message },
            };
            return Err(Failure { error, again });
        }
        let bytes = answer::read(response, answer::REPLY_LIMIT, self.patience, &shown).await?;
        // No cause is given: the parser's message could quote the token.
        let reply: Option<TokenReply> = serde_json::from_slice(&bytes).ok();
        let token = reply.and_then(TokenReply::into_token);
        token.ok_or_else(|| RegistryError::Token { asked: shown }.into())
    }

    /// The token server's address with the question; refused if it would expose the credentials.
    fn url(&self, scope: &str, reference: &str) -> Result<Url, RegistryError> {
        let realm = self.challenge.parameter("realm").unwrap_or_default();
        let parsed = Url::parse(realm).ok().filter(|url| matches!(url.scheme(), "https" | "http"));
        let Some(mut url) = parsed else {
            return Err(RegistryError::Token { asked: asked(reference, &self.host.base) });
        };
        let safe = url.scheme() == "https" || self.source.insecure;
        if self.source.login.is_some() && !safe {
            let realm = asked(reference, &url).url;
            return Err(RegistryError::ExposedRealm {
                asked: asked(reference, &self.host.base),
                realm,
            });
        }
        let _ = url.set_username("");
        let _ = url.set_password(None);
        {
            let mut query = url.query_pairs_mut();
            if let Some(login) = &self.source.login {
                query.append_pair("account", &login.username);
            }
            if let Some(service) = self.challenge.parameter("service").filter(|it| !it.is_empty()) {
                query.append_pair("service", service);
            }
            query.append_pair("scope", scope);
        }
        Ok(url)
    }
}

impl TokenReply {
    fn into_token(self) -> Option<Token> {
        let given = |token: Option<String>| token.filter(|token| !token.is_empty());
        let token = given(self.token).or_else(|| given(self.access_token))?;
        let life = self.expires_in.unwrap_or(SHORTEST_LIFE).clamp(SHORTEST_LIFE, LONGEST_LIFE);
        let header = header(&format!("Bearer {token}"))?;
        Some(Token { header, expires: Instant::now() + Duration::from_secs(life) })
    }
}

/// A header that is not shown; `None` if the text has characters that a header cannot have.
fn header(text: &str) -> Option<HeaderValue> {
    let mut header = HeaderValue::from_str(text).ok()?;
    header.set_sensitive(true);
    Some(header)
}
