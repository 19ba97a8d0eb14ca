//! The answers of the test registry: what a good one says, and then spoilt.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::Response;
use axum::http::header;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use crioxide::oci::media_type;
use futures_util::StreamExt;
use serde_json::Value;
use serde_json::json;

use super::Fault;
use super::Guard;
use super::Seen;
use super::Shared;

/// Answers a request, and remembers it.
pub async fn handle(State(shared): State<Arc<Shared>>, request: Request) -> Response<Body> {
    let headers = request.headers();
    let text = |name: header::HeaderName| {
        headers.get(name).map(|value| value.to_str().unwrap_or_default().to_owned())
    };
    let path = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
    let mut seen = Seen {
        method: request.method().to_string(),
        path: path.clone(),
        authorization: text(header::AUTHORIZATION),
        range: text(header::RANGE),
        user_agent: text(header::USER_AGENT).unwrap_or_default(),
        status: 0,
    };
    let fault = {
        let mut content = shared.content.lock().unwrap();
        let found =
            content.faults.iter_mut().find(|(part, _, times)| *times > 0 && is_meant(&path, part));
        found.map(|(_, fault, times)| {
            *times = times.saturating_sub(1);
            fault.clone()
        })
    };
    let answer = match fault {
        None => Some(answer(&shared, &request)),
        Some(Fault::Silence) => None,
        Some(fault) => {
            let usual = fault.spoils().then(|| answer(&shared, &request));
            Some(misbehave(usual, fault).await)
        }
    };
    seen.status = answer.as_ref().map_or(0, |answer| answer.status().as_u16());
    shared.content.lock().unwrap().seen.push(seen);
    match answer {
        Some(answer) => answer,
        None => std::future::pending().await,
    }
}

fn is_meant(path: &str, part: &str) -> bool {
    match part.strip_suffix('$') {
        Some(end) => path.split('?').next().is_some_and(|path| path.ends_with(end)),
        None => path.contains(part),
    }
}

async fn misbehave(usual: Option<Response<Body>>, fault: Fault) -> Response<Body> {
    match fault {
        Fault::Status(status, body) => plain(status, body),
        Fault::Header(status, name, value) => {
            let mut response = plain(status, String::new());
            response.headers_mut().insert(name, value.parse().unwrap());
            response
        }
        Fault::Linked(body, link) => {
            let mut response = plain(200, body);
            response.headers_mut().insert(header::LINK, link.parse().unwrap());
            response
        }
        Fault::Redirect(place) => {
            let mut response = plain(307, String::new());
            response.headers_mut().insert(header::LOCATION, place.parse().unwrap());
            response
        }
        Fault::Garbage => plain(200, "<html>welcome to the hotel's network</html>".to_owned()),
        Fault::Endless => {
            let chunks = futures_util::stream::repeat_with(|| {
                Ok::<_, io::Error>(Bytes::from_static(&[0; 65536]))
            });
            Response::new(Body::from_stream(chunks))
        }
        Fault::Silence => std::future::pending().await,
        Fault::Called(kind) => {
            let mut response = usual.unwrap();
            response.headers_mut().insert(header::CONTENT_TYPE, kind.parse().unwrap());
            response
        }
        Fault::Shorter(length) => {
            let (mut head, body) = usual.unwrap().into_parts();
            let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
            head.headers.remove(header::CONTENT_LENGTH);
            Response::from_parts(head, Body::from(bytes.slice(..length.min(bytes.len()))))
        }
        Fault::Cut(_) | Fault::Drip(_) | Fault::OtherBytes => spoilt(usual.unwrap(), fault).await,
    }
}

/// The usual answer with something done to its body.
async fn spoilt(usual: Response<Body>, fault: Fault) -> Response<Body> {
    let (head, body) = usual.into_parts();
    let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let body = match fault {
        Fault::Cut(length) => {
            let kept = bytes.slice(..length.min(bytes.len()));
            let chunks = [Ok(kept), Err(io::Error::other("cut"))];
            // Time for the first part to leave.
            let chunks = futures_util::stream::iter(chunks).then(|chunk| async {
                if chunk.is_err() {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                chunk
            });
            Body::from_stream(chunks)
        }
        Fault::Drip(pause) => {
            let singles: Vec<Bytes> = (0..bytes.len()).map(|at| bytes.slice(at..=at)).collect();
            Body::from_stream(futures_util::stream::iter(singles).then(move |byte| async move {
                tokio::time::sleep(pause).await;
                Ok::<_, io::Error>(byte)
            }))
        }
        _ => Body::from(vec![b'!'; bytes.len()]),
    };
    let mut response = Response::from_parts(head, body);
    response.headers_mut().insert(header::CONTENT_LENGTH, bytes.len().into());
    response
}

/// What a well-behaved registry answers.
fn answer(shared: &Shared, request: &Request) -> Response<Body> {
    let path = request.uri().path();
    let query = request.uri().query().unwrap_or_default();
    if path == "/token" {
        return token(shared, request.headers(), query);
    }
    let Some(rest) = path.strip_prefix("/v2/") else {
        let file = shared.content.lock().unwrap().files.get(path).cloned();
        return match file {
            Some(bytes) => Response::new(Body::from(bytes)),
            None => plain(404, "404 page not found".to_owned()),
        };
    };
    let part = ["/manifests/", "/blobs/", "/referrers/"]
        .into_iter()
        .find_map(|kind| rest.rsplit_once(kind).map(|(name, last)| (name, kind, last)));
    let repository = part.map(|(name, _, _)| name).unwrap_or_default();
    if !admitted(shared, request.headers(), repository) {
        return unauthorized(shared, repository);
    }
    match part {
        None if rest.is_empty() => {
            let mut answer = plain(200, "{}".to_owned());
            if shared.setup.signatures {
                let one = header::HeaderValue::from_static("1");
                answer.headers_mut().insert("x-registry-supports-signatures", one);
            }
            answer
        }
        Some((name, "/manifests/", which)) => manifest(shared, name, which),
        Some((_, "/blobs/", which)) => blob(shared, which, request.headers()),
        Some((name, "/referrers/", which)) if shared.setup.referrers => {
            referrers(shared, name, which, query)
        }
        _ => plain(404, "404 page not found".to_owned()),
    }
}

fn plain(status: u16, body: String) -> Response<Body> {
    Response::builder().status(status).body(Body::from(body)).unwrap()
}

fn refusal(status: u16, code: &str) -> Response<Body> {
    let body = json!({"errors": [{"code": code, "message": code.to_lowercase()}]});
    plain(status, body.to_string())
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

fn sent(headers: &HeaderMap) -> &str {
    let header = headers.get(header::AUTHORIZATION);
    header.and_then(|header| header.to_str().ok()).unwrap_or_default()
}

fn admitted(shared: &Shared, headers: &HeaderMap, repository: &str) -> bool {
    match shared.setup.guard {
        Guard::Open => true,
        Guard::Basic(user, password) => sent(headers) == basic(user, password),
        Guard::AnonymousToken | Guard::Token(..) => {
            let token = sent(headers).strip_prefix("Bearer ").unwrap_or_default();
            let content = shared.content.lock().unwrap();
            content.tokens.get(token) == Some(&format!("repository:{repository}:pull"))
        }
    }
}

fn unauthorized(shared: &Shared, repository: &str) -> Response<Body> {
    let challenge = if let Guard::Basic(..) = shared.setup.guard {
        "Basic realm=\"test\"".to_owned()
    } else {
        let own = format!("{}/token", shared.base);
        let realm = shared.setup.realm.clone().unwrap_or(own);
        let scope = if repository.is_empty() {
            String::new()
        } else {
            format!(",scope=\"repository:{repository}:pull\"")
        };
        format!("Bearer realm=\"{realm}\",service=\"test\"{scope}")
    };
    let mut response = refusal(401, "UNAUTHORIZED");
    response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge.parse().unwrap());
    response
}

fn token(shared: &Shared, headers: &HeaderMap, query: &str) -> Response<Body> {
    if let Guard::Token(user, password) = shared.setup.guard
        && sent(headers) != basic(user, password)
    {
        return refusal(401, "UNAUTHORIZED");
    }
    let scope = query.split('&').find_map(|pair| pair.strip_prefix("scope=")).unwrap_or_default();
    let scope = scope.replace("%3A", ":").replace("%2F", "/");
    let mut content = shared.content.lock().unwrap();
    content.issued += 1;
    let token = format!("token-{}", content.issued);
    content.tokens.insert(token.clone(), scope);
    plain(200, json!({"token": token, "expires_in": 300}).to_string())
}

fn manifest(shared: &Shared, repository: &str, which: &str) -> Response<Body> {
    let content = shared.content.lock().unwrap();
    let tagged = content.tags.get(&(repository.to_owned(), which.to_owned())).cloned();
    let digest = tagged.or_else(|| which.parse().ok());
    let found = digest.and_then(|digest| {
        let key = (repository.to_owned(), digest);
        content.manifests.get(&key).map(|value| (key.1, value))
    });
    let Some((digest, (media_type, bytes))) = found else {
        return refusal(404, "MANIFEST_UNKNOWN");
    };
    Response::builder()
        .header(header::CONTENT_TYPE, media_type)
        .header("Docker-Content-Digest", digest.to_string())
        .body(Body::from(bytes.clone()))
        .unwrap()
}

fn blob(shared: &Shared, which: &str, headers: &HeaderMap) -> Response<Body> {
    let content = shared.content.lock().unwrap();
    let found = which.parse().ok().and_then(|digest| content.blobs.get(&digest));
    let Some(bytes) = found else { return refusal(404, "BLOB_UNKNOWN") };
    let range = headers.get(header::RANGE).and_then(|range| range.to_str().ok());
    let first = range
        .filter(|_| shared.setup.ranges)
        .and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
    match first {
        None => Response::new(Body::from(bytes.clone())),
        Some(first) if first < bytes.len() => {
            let range = format!("bytes {first}-{}/{}", bytes.len() - 1, bytes.len());
            Response::builder()
                .status(206)
                .header(header::CONTENT_RANGE, range)
                .body(Body::from(bytes.slice(first..)))
                .unwrap()
        }
        Some(_) => plain(416, String::new()),
    }
}

fn referrers(shared: &Shared, repository: &str, subject: &str, query: &str) -> Response<Body> {
    let content = shared.content.lock().unwrap();
    let mut found = Vec::new();
    for ((name, digest), (media_type, bytes)) in &content.manifests {
        let value: Value = serde_json::from_slice(bytes).unwrap_or_default();
        if name == repository && value["subject"]["digest"] == subject {
            let mut descriptor = json!({
                "mediaType": media_type, "digest": digest.to_string(), "size": bytes.len(),
            });
            for key in ["artifactType", "annotations"] {
                if !value[key].is_null() {
                    descriptor[key] = value[key].clone();
                }
            }
            found.push(descriptor);
        }
    }
    let first: usize = query.strip_prefix("last=").and_then(|last| last.parse().ok()).unwrap_or(0);
    let last = found.len().min(first + shared.setup.page);
    let page = &found[first.min(last)..last];
    let index = json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": page,
    });
    let mut builder = Response::builder().header(header::CONTENT_TYPE, media_type::OCI_INDEX);
    if last < found.len() {
        let link = format!("</v2/{repository}/referrers/{subject}?last={last}>; rel=\"next\"");
        builder = builder.header(header::LINK, link);
    }
    builder.body(Body::from(index.to_string())).unwrap()
}
