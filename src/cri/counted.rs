//! Counts every RPC and how long it takes, whichever door it goes through.

use axum::extract::Request;
use axum::extract::State;
use axum::middleware;
use axum::middleware::Next;
use axum::response::Response;
use tokio::time::Instant;
use tonic::Code;
use tonic::service::Routes;

use crate::metrics::Metrics;

/// What the names of the CRI's services begin with in a path.
const SERVICES: [&str; 2] = ["/runtime.v1.RuntimeService/", "/runtime.v1.ImageService/"];

/// The routes, with every request counted.
#[must_use]
pub fn counted(routes: Routes, metrics: Metrics) -> Routes {
    let router = routes.into_axum_router();
    router.layer(middleware::from_fn_with_state(metrics, count)).into()
}

async fn count(State(metrics): State<Metrics>, request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let path = request.uri().path().to_owned();
    let response = next.run(request).await;
    // A request that fails has its status in the head; a stream counts once it has begun.
    let status = response.headers().get("grpc-status");
    let code = status.map_or(Code::Ok, |status| Code::from_bytes(status.as_bytes()));
    if let Some(rpc) = operation(&path, code) {
        metrics.operation(rpc, begun.elapsed(), code != Code::Ok);
    }
    response
}

/// The RPC's name. A path that a stranger made up has none: names are as many as there are RPCs.
fn operation(path: &str, code: Code) -> Option<&str> {
    let rpc = SERVICES.iter().find_map(|service| path.strip_prefix(service))?;
    (code != Code::Unimplemented).then_some(rpc)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_rpcs_that_are_there_are_counted() {
        for (path, code, expected) in [
            ("/runtime.v1.RuntimeService/Version", Code::Ok, Some("Version")),
            ("/runtime.v1.ImageService/PullImage", Code::Unknown, Some("PullImage")),
            ("/runtime.v1.ImageService/Made/Up", Code::Unimplemented, None),
            ("/metrics", Code::Ok, None),
        ] {
            assert_eq!(operation(path, code), expected, "{path}");
        }
    }
}
