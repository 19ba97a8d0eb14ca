//! Blobs as a stream that goes on where a connection broke.
//!
//! A registry that sends next to nothing, for ever, would keep a pull from ending. So the time that
//! is spent waiting for it is counted, and starts anew only with so many bytes; the time that the
//! disk needs is not its.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reqwest::Response;
use reqwest::StatusCode;
use reqwest::header::CONTENT_RANGE;
use tokio::time::Instant;

use crate::oci::descriptor::Descriptor;
use crate::registry::client::Answer;
use crate::registry::client::Asker;
use crate::registry::client::Question;
use crate::registry::error::Asked;
use crate::registry::error::RegistryError;
use crate::registry::names::Source;
use crate::registry::retry;
use crate::registry::retry::Again;
use crate::registry::transport::SeeOther;

/// How often a stream is taken up again without having come this much further.
const RECONNECTS: u32 = 5;
/// What counts as having come further, in bytes: less would let a registry that cuts after every
/// byte keep us for ever.
const PROGRESS: u64 = 1024 * 1024;
/// The slowest that a registry may be, in bytes for each second that it is waited for.
const SLOWEST: u64 = 1024;

/// A blob on its way: exactly as many bytes as its descriptor says, or an error.
///
/// The digest is not checked here but by whoever hashes the bytes, because they are hashed once,
/// where they are used.
#[derive(Debug)]
pub struct BlobStream {
    asker: Arc<Asker>,
    source: Source,
    path: String,
    size: u64,
    received: u64,
    /// Bytes that an answer repeats, because its server knows no ranges.
    repeated: u64,
    response: Option<Response>,
    asked: Box<Asked>,
    reconnects: u32,
    last_start: u64,
    /// How long it was waited for since `fresh` began to count.
    waited: Duration,
    /// Bytes that came meanwhile, repeated ones too.
    fresh: u64,
    finished: bool,
}

/// What waiting for the network brought.
enum Step {
    Chunk(Bytes),
    Connected,
    End,
}

impl BlobStream {
    pub(super) async fn open(
        asker: Arc<Asker>,
        source: &Source,
        descriptor: &Descriptor,
    ) -> Result<Self, RegistryError> {
        let mut stream = Self {
            asker,
            source: source.clone(),
            path: format!("blobs/{}", descriptor.digest),
            size: descriptor.size,
            received: 0,
            repeated: 0,
            response: None,
            asked: Box::new(Asked { reference: String::new(), url: String::new() }),
            reconnects: 0,
            last_start: 0,
            waited: Duration::ZERO,
            fresh: 0,
            finished: false,
        };
        stream.connect().await?;
        Ok(stream)
    }

    /// The next bytes; `None` when all have come. After an error nothing more comes.
    ///
    /// # Errors
    ///
    /// [`RegistryError::Size`] for more or fewer bytes than promised, [`RegistryError::Cut`] when
    /// taking the stream up again did not help, [`RegistryError::Standstill`] when next to nothing
    /// comes, and all that a request can fail with.
    pub async fn next(&mut self) -> Option<Result<Bytes, RegistryError>> {
        if self.finished {
            return None;
        }
        let next = self.advance().await;
        if !matches!(next, Ok(Some(_))) {
            self.finished = true;
            self.response = None;
        }
        next.transpose()
    }

    async fn advance(&mut self) -> Result<Option<Bytes>, RegistryError> {
        loop {
            let begun = Instant::now();
            let left = self.asker.standstill.saturating_sub(self.waited);
            let step = tokio::time::timeout(left, self.step()).await;
            self.waited += begun.elapsed();
            match step {
                Err(_) => return Err(self.standstill()),
                Ok(Err(error)) => return Err(error),
                Ok(Ok(Step::End)) => return Ok(None),
                Ok(Ok(Step::Connected)) => {}
                Ok(Ok(Step::Chunk(chunk))) => {
                    self.count(&chunk);
                    if let Some(fresh) = self.accept(chunk)? {
                        return Ok(Some(fresh));
                    }
                }
            }
        }
    }

    /// Waits for the network once.
    async fn step(&mut self) -> Result<Step, RegistryError> {
        let Some(response) = &mut self.response else {
            self.connect().await?;
            return Ok(Step::Connected);
        };
        match response.chunk().await {
            Ok(Some(chunk)) => Ok(Step::Chunk(chunk)),
            // All is here: how the connection ends does not matter any more.
            _ if self.received == self.size => Ok(Step::End),
            Ok(None) => self.reconnect(None).await,
            Err(error) => self.reconnect(Some(error.without_url())).await,
        }
    }

    /// Enough bytes begin a new count of the time.
    fn count(&mut self, chunk: &Bytes) {
        self.fresh = self.fresh.saturating_add(u64::try_from(chunk.len()).unwrap_or(u64::MAX));
        if self.fresh >= self.enough() {
            (self.fresh, self.waited) = (0, Duration::ZERO);
        }
    }

    /// What must come within the time.
    fn enough(&self) -> u64 {
        self.asker.standstill.as_secs().saturating_mul(SLOWEST).max(SLOWEST)
    }

    fn standstill(&self) -> RegistryError {
        RegistryError::Standstill {
            asked: self.asked.clone(),
            received: self.received,
            size: self.size,
            least: self.enough(),
            seconds: self.asker.standstill.as_secs(),
        }
    }

    /// Counts a chunk; `None` if nothing in it is new.
    fn accept(&mut self, mut chunk: Bytes) -> Result<Option<Bytes>, RegistryError> {
        let length = |chunk: &Bytes| u64::try_from(chunk.len()).unwrap_or(u64::MAX);
        let known = self.repeated.min(length(&chunk));
        self.repeated -= known;
        let _ = chunk.split_to(usize::try_from(known).unwrap_or(chunk.len()));
        let actual = self.received.saturating_add(length(&chunk));
        if actual > self.size {
            return Err(self.wrong_size(actual));
        }
        self.received = actual;
        Ok((!chunk.is_empty()).then_some(chunk))
    }

    async fn reconnect(&mut self, error: Option<reqwest::Error>) -> Result<Step, RegistryError> {
        self.response = None;
        if self.received - self.last_start >= PROGRESS {
            self.reconnects = 0;
            self.last_start = self.received;
        }
        self.reconnects += 1;
        if self.reconnects > RECONNECTS {
            let (received, size) = (self.received, self.size);
            let tries = self.reconnects;
            return Err(RegistryError::Cut { asked: self.asked.clone(), received, size, tries });
        }
        let wait = retry::wait(self.asker.backoff, self.reconnects, Again::Soon);
        tracing::debug!(asked = %self.asked, received = self.received, size = self.size, ?error, ?wait, "a blob broke off");
        tokio::time::sleep(wait).await;
        self.connect().await.map(|()| Step::Connected)
    }

    /// Asks for what is still missing, from the registry itself: an address that it redirected to
    /// may not be good any more.
    async fn connect(&mut self) -> Result<(), RegistryError> {
        let (source, path) = (&self.source, self.path.as_str());
        let question = Question {
            source,
            path,
            accept: "*/*",
            from: self.received,
            see_other: SeeOther::Follow,
        };
        let (response, asked) = match self.asker.ask(question).await? {
            Answer::Found(response, asked) => (response, asked),
            Answer::Missing(refusal, asked) => {
                return Err(RegistryError::NotFound { asked, message: refusal.into_message() });
            }
        };
        self.asked = asked;
        self.repeated = 0;
        let expected = if response.status() == StatusCode::PARTIAL_CONTENT {
            self.range_length(&response)?
        } else {
            self.repeated = self.received;
            self.size
        };
        if let Some(length) = response.content_length().filter(|length| *length != expected) {
            let before = self.received - self.repeated;
            return Err(self.wrong_size(before.saturating_add(length)));
        }
        self.response = Some(response);
        Ok(())
    }

    /// The length of a part, which must begin where the last one ended and be of the blob that was
    /// promised. It may be shorter than what was asked for (RFC 9110, 15.3.7).
    fn range_length(&self, response: &Response) -> Result<u64, RegistryError> {
        let header = response.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
        let range = header.unwrap_or_default();
        let parts = range.strip_prefix("bytes ").and_then(|range| {
            let (part, total) = range.split_once('/')?;
            let (first, last) = part.split_once('-')?;
            Some((first.parse::<u64>().ok()?, last.parse::<u64>().ok()?, total))
        });
        match parts {
            Some((first, last, total))
                if first == self.received
                    && (first..self.size).contains(&last)
                    && (total == "*" || total.parse() == Ok(self.size)) =>
            {
                Ok(last - first + 1)
            }
            _ => {
                let range = range.chars().take(100).collect();
                let asked = self.asked.clone();
                Err(RegistryError::Range { asked, offset: self.received, range })
            }
        }
    }

    fn wrong_size(&self, actual: u64) -> RegistryError {
        RegistryError::Size { asked: self.asked.clone(), expected: self.size, actual }
    }
}

/// Fetches a blob whole and checks its digest.
pub(super) async fn small(
    asker: Arc<Asker>,
    source: &Source,
    descriptor: &Descriptor,
    limit: u64,
) -> Result<Vec<u8>, RegistryError> {
    let asked = || {
        let url = format!("{}/blobs/{}", source.location(), descriptor.digest);
        Box::new(Asked { reference: source.logical.to_string(), url })
    };
    if descriptor.size > limit {
        return Err(RegistryError::TooLarge { asked: asked(), limit });
    }
    let patience = asker.patience;
    let whole = async {
        let mut stream = BlobStream::open(asker, source, descriptor).await?;
        let mut bytes = Vec::new();
        while let Some(chunk) = stream.next().await {
            bytes.extend_from_slice(&chunk?);
        }
        Ok(bytes)
    };
    let bytes = tokio::time::timeout(patience, whole).await.unwrap_or_else(|_| {
        Err(RegistryError::TimedOut { asked: asked(), seconds: patience.as_secs() })
    })?;
    if !descriptor.digest.matches(&bytes) {
        let expected = Box::new(descriptor.digest.clone());
        return Err(RegistryError::Digest { asked: asked(), expected });
    }
    Ok(bytes)
}
