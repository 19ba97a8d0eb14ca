//! The lists as streams, in chunks (KEP-5825): a node with very many pods has lists that do not fit
//! into one message.
//!
//! What is listed is settled when the request comes. Each chunk is made when it is time to send it,
//! from records that everyone shares, so no list is there twice; statistics are taken for each
//! chunk. A chunk has at least one item, and nothing to list is a stream that ends at once.

use std::future::Future;
use std::sync::Arc;

use futures_util::stream;
use tonic::Status;

use crate::cri::api;
use crate::cri::containers;
use crate::cri::convert::metrics;
use crate::cri::convert::stats as counted;
use crate::cri::convert::status as out;
use crate::cri::error::DoorError;
use crate::cri::observe::observe;
use crate::cri::pods;
use crate::cri::runtime_service::Answer;
use crate::cri::runtime_service::Chunks;
use crate::cri::runtime_service::RuntimeDoor;
use crate::cri::stats;
use crate::cri::status;

/// How many items a chunk has, as in CRI-O; the last one may have fewer.
const CHUNK: usize = 3000;

pub(super) async fn pods(
    door: &RuntimeDoor,
    request: api::StreamPodSandboxesRequest,
) -> Answer<Chunks<api::StreamPodSandboxesResponse>> {
    let filter = request.filter.unwrap_or_default();
    observe("StreamPodSandboxes", &filter.id, async {
        Ok::<_, DoorError>(converted(
            pods::matching(door, &filter),
            |record| out::sandbox_item(record),
            |pod_sandboxes| api::StreamPodSandboxesResponse { pod_sandboxes },
        ))
    })
    .await
}

pub(super) async fn containers(
    door: &RuntimeDoor,
    request: api::StreamContainersRequest,
) -> Answer<Chunks<api::StreamContainersResponse>> {
    let filter = request.filter.unwrap_or_default();
    observe("StreamContainers", &filter.id, async {
        Ok::<_, DoorError>(converted(
            containers::matching(door, &filter),
            |record| out::container_item(record),
            |containers| api::StreamContainersResponse { containers },
        ))
    })
    .await
}

pub(super) async fn container_stats(
    door: &RuntimeDoor,
    request: api::StreamContainerStatsRequest,
) -> Answer<Chunks<api::StreamContainerStatsResponse>> {
    let filter = request.filter.unwrap_or_default();
    let subject = filter.id.clone();
    observe("StreamContainerStats", &subject, async {
        let containers = Arc::clone(&door.containers);
        Ok::<_, DoorError>(asked(
            stats::matching_containers(door, filter),
            move |records| {
                let containers = Arc::clone(&containers);
                async move {
                    let found = containers.stats(records).await?;
                    Ok(found.iter().map(|stats| counted::container_to_proto(stats)).collect())
                }
            },
            |container_stats| api::StreamContainerStatsResponse { container_stats },
        ))
    })
    .await
}

pub(super) async fn pod_stats(
    door: &RuntimeDoor,
    request: api::StreamPodSandboxStatsRequest,
) -> Answer<Chunks<api::StreamPodSandboxStatsResponse>> {
    let filter = request.filter.unwrap_or_default();
    let subject = filter.id.clone();
    observe("StreamPodSandboxStats", &subject, async {
        let sandboxes = Arc::clone(&door.sandboxes);
        Ok::<_, DoorError>(asked(
            stats::matching_pods(door, filter),
            move |records| {
                let sandboxes = Arc::clone(&sandboxes);
                async move {
                    let found = sandboxes.stats(records, Arc::default()).await?;
                    Ok(found.iter().map(|stats| counted::pod_to_proto(stats)).collect())
                }
            },
            |pod_sandbox_stats| api::StreamPodSandboxStatsResponse { pod_sandbox_stats },
        ))
    })
    .await
}

pub(super) async fn pod_metrics(
    door: &RuntimeDoor,
    _: api::StreamPodSandboxMetricsRequest,
) -> Answer<Chunks<api::StreamPodSandboxMetricsResponse>> {
    observe("StreamPodSandboxMetrics", "", async {
        let (sandboxes, groups) = (Arc::clone(&door.sandboxes), Arc::clone(&door.metric_groups));
        Ok::<_, DoorError>(asked(
            door.sandboxes.list(),
            move |records| {
                let (sandboxes, groups) = (Arc::clone(&sandboxes), Arc::clone(&groups));
                async move {
                    let found = sandboxes.stats(records, Arc::clone(&groups)).await?;
                    Ok(found.iter().map(|pod| metrics::to_proto(pod, &groups)).collect())
                }
            },
            |pod_sandbox_metrics| api::StreamPodSandboxMetricsResponse { pod_sandbox_metrics },
        ))
    })
    .await
}

/// A stream of things that only need to be converted.
pub(super) fn converted<T, U, R>(
    things: Vec<T>,
    convert: impl Fn(&T) -> U + Send + 'static,
    wrap: impl Fn(Vec<U>) -> R + Send + 'static,
) -> Chunks<R>
where
    T: Send + 'static,
    U: 'static,
    R: Send + 'static,
{
    let mut things = things.into_iter();
    let next = move || {
        let chunk: Vec<U> = things.by_ref().take(CHUNK).map(|thing| convert(&thing)).collect();
        (!chunk.is_empty()).then(|| Ok(wrap(chunk)))
    };
    Box::pin(stream::iter(std::iter::from_fn(next)))
}

/// A stream of what is asked about things, chunk by chunk. What cannot be answered ends it.
fn asked<T, U, R, F>(
    things: Vec<T>,
    ask: impl Fn(Vec<T>) -> F + Send + 'static,
    wrap: impl Fn(Vec<U>) -> R + Send + 'static,
) -> Chunks<R>
where
    T: Send + 'static,
    U: Send + 'static,
    R: Send + 'static,
    F: Future<Output = Result<Vec<U>, DoorError>> + Send,
{
    let begin = (things.into_iter(), ask, wrap);
    Box::pin(stream::try_unfold(begin, |(mut things, ask, wrap)| async move {
        loop {
            let chunk: Vec<T> = things.by_ref().take(CHUNK).collect();
            if chunk.is_empty() {
                return Ok::<_, Status>(None);
            }
            let answers = ask(chunk).await.map_err(|error| status::of(&error))?;
            if !answers.is_empty() {
                return Ok(Some((wrap(answers), (things, ask, wrap))));
            }
        }
    }))
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;

    use super::*;

    async fn sizes(count: usize) -> (Vec<usize>, Vec<usize>) {
        let things: Vec<usize> = (0..count).collect();
        let plain = converted(things.clone(), |thing| *thing, |chunk| chunk);
        let even = |chunk: Vec<usize>| async move {
            Ok(chunk
                .into_iter()
                .filter(|thing| (thing / CHUNK).is_multiple_of(2))
                .collect::<Vec<_>>())
        };
        let asked = asked(things.clone(), even, |chunk| chunk);
        let chunks: Vec<Vec<usize>> = plain.map(Result::unwrap).collect().await;
        assert_eq!(chunks.concat(), things);
        let some: Vec<Vec<usize>> = asked.map(Result::unwrap).collect().await;
        let size = |chunks: &[Vec<usize>]| chunks.iter().map(Vec::len).collect();
        (size(&chunks), size(&some))
    }

    #[tokio::test]
    async fn a_chunk_has_at_most_so_many_items_and_at_least_one() {
        for (count, plain, some) in [
            (0, vec![], vec![]),
            (1, vec![1], vec![1]),
            (CHUNK, vec![CHUNK], vec![CHUNK]),
            (CHUNK + 1, vec![CHUNK, 1], vec![CHUNK]),
            (2 * CHUNK + 7, vec![CHUNK, CHUNK, 7], vec![CHUNK, 7]),
        ] {
            assert_eq!(sizes(count).await, (plain, some), "{count}");
        }
    }
}
