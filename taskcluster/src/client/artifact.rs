//! Artifacts: where they are, and what is in them.
//!
//! The queue does not hand out contents: it answers 303 with the address of a store, which for a private artifact is
//! signed. That address was chosen by a task's worker, in the case of a reference even freely, so it is no reason to go
//! just anywhere, and the store gets none of our credentials.

use std::{fmt, io::Read, sync::Arc, time::Duration};

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use http_client::{HttpError, Incoming, Limits};
use reqwest::{
    RequestBuilder,
    header::{CONTENT_ENCODING, LOCATION},
};
use serde::Deserialize;
use url::Url;

use super::{Taskcluster, TaskclusterError, call::Call};

/// What reading a content is called in errors.
const CONTENT: &str = "an artifact's content";
/// How many redirects lead from a store to a content at most.
const MAX_REDIRECTS: usize = 3;
/// The most of a host's name that is shown, in characters: a worker chose it.
const MAX_HOST: usize = 100;
/// How long a stream may bring nothing.
const STALL: Duration = Duration::from_secs(60);
/// How many bytes a second a stream has to bring, beside [`STALL`] that it may wait in all: one that trickles would hold a
/// place for as long as its sender likes.
const LOWEST_RATE: u64 = 64 * 1024;
/// How long a stream may take.
const LONGEST_STREAM: Duration = Duration::from_secs(3600);

/// Where an artifact's content is.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Artifact {
    /// What kind of store it is in, such as `s3`, `object` or `reference`. Links are resolved by the queue.
    pub storage_type: String,
    /// The address of the content. Its query can hold a signature that opens it to anyone: it is not for logs.
    pub url: Url,
}

impl fmt::Debug for Artifact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Artifact")
            .field("storage_type", &self.storage_type)
            .field("host", &self.url.host_str())
            .finish_non_exhaustive()
    }
}

/// What a store answers.
enum Stored<T> {
    Content(T),
    Moved(Url),
}

/// The content of an artifact as it comes, for what is too long to be held.
///
/// It ends by itself: in an error where no byte came for a minute, where it trickles, or when it took an hour.
pub struct ArtifactStream(Incoming);

impl ArtifactStream {
    /// The `Content-Encoding` that the store gives, in lower case; none where the bytes are the content itself.
    pub fn encoding(&self) -> Option<String> {
        let encoding = self.0.header(CONTENT_ENCODING)?.trim().to_ascii_lowercase();
        Some(encoding).filter(|encoding| !matches!(encoding.as_str(), "" | "identity"))
    }

    /// The next bytes, still encoded; none at the end. After an error nothing more comes.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, TaskclusterError> {
        self.0.chunk().await.map_err(failed)
    }
}

impl Taskcluster {
    /// Where an artifact of a task's latest run is (`queue.getLatestArtifact`).
    ///
    /// [`TaskclusterError::ErrorArtifact`] where the task put an error in its place.
    pub async fn artifact(&self, task_id: &str, name: &str) -> Result<Artifact, TaskclusterError> {
        self.call(&Call::get(
            "queue.getLatestArtifact",
            &["task", task_id, "artifacts", name],
        ))
        .await?
        .json()
    }

    /// The content of an artifact of a task's latest run, up to `limit` bytes. The credentials stay with the queue: the
    /// store is asked without. A gzip encoding is undone, and `limit` holds for what comes out of it.
    ///
    /// Fetched is from the deployment itself, and from `https` at public addresses; all else is
    /// [`TaskclusterError::Elsewhere`].
    pub async fn artifact_content(
        &self,
        task_id: &str,
        name: &str,
        limit: usize,
    ) -> Result<Bytes, TaskclusterError> {
        let mut url = self.artifact(task_id, name).await?.url;
        for _ in 0..=MAX_REDIRECTS {
            match self.retried(|| self.content(&url, limit)).await? {
                Stored::Content(content) => return Ok(content),
                Stored::Moved(target) => url = target,
            }
        }
        Err(too_many_redirects())
    }

    /// The content of an artifact of one run (`queue.getArtifact`), as the store gives it, encoded or not. Fetched is from
    /// where [`Taskcluster::artifact_content`] does it.
    pub async fn artifact_stream(
        &self,
        task_id: &str,
        run_id: u32,
        name: &str,
    ) -> Result<ArtifactStream, TaskclusterError> {
        let run_id = run_id.to_string();
        let path = ["task", task_id, "runs", &run_id, "artifacts", name];
        let mut url = self
            .call(&Call::get("queue.getArtifact", &path))
            .await?
            .json::<Artifact>()?
            .url;
        for _ in 0..=MAX_REDIRECTS {
            match self.retried(|| self.opened(&url)).await? {
                Stored::Content(response) => {
                    let clock = Arc::clone(&self.clock);
                    return Ok(ArtifactStream(response.with_lowest_rate(
                        LOWEST_RATE,
                        STALL,
                        clock,
                    )));
                }
                Stored::Moved(target) => url = target,
            }
        }
        Err(too_many_redirects())
    }

    /// Begins to fetch from an address, if that may be fetched from, whoever chose it.
    fn fetch(&self, url: &Url) -> Result<RequestBuilder, TaskclusterError> {
        if self
            .own
            .as_ref()
            .is_some_and(|own| own.origin() == url.origin())
        {
            return Ok(self.http.get(url.clone()));
        }
        match &self.elsewhere {
            Some(client) if url.scheme() == "https" => client.get(url).map_err(|_| elsewhere(url)),
            _ => Err(elsewhere(url)),
        }
    }

    async fn content(&self, url: &Url, limit: usize) -> Result<Stored<Bytes>, TaskclusterError> {
        let response = match stored(url, self.fetch(url)?, Limits::body(limit)).await? {
            Stored::Moved(target) => return Ok(Stored::Moved(target)),
            Stored::Content(response) => response,
        };
        let response = response.collect().await.map_err(failed)?;
        let content = response.body.clone();
        let gzip = response
            .header(CONTENT_ENCODING)
            .is_some_and(|encoding| encoding.eq_ignore_ascii_case("gzip"));
        Ok(Stored::Content(if gzip {
            unpacked(&content, limit)?
        } else {
            content
        }))
    }

    /// An answer whose content may take longer than answers do.
    async fn opened(&self, url: &Url) -> Result<Stored<Incoming>, TaskclusterError> {
        let limits = Limits {
            body: usize::MAX,
            silence: STALL,
        };
        stored(url, self.fetch(url)?.timeout(LONGEST_STREAM), limits).await
    }
}

/// What the store at `url` answers a request for it.
async fn stored(
    url: &Url,
    request: RequestBuilder,
    limits: Limits,
) -> Result<Stored<Incoming>, TaskclusterError> {
    let response = http_client::open(request, limits).await;
    let response = response.map_err(|error| match error {
        HttpError::NotPublic(_) => elsewhere(url),
        error => failed(error),
    })?;
    if response.status().is_redirection() {
        let target = response.header(LOCATION);
        let target = target.and_then(|target| url.join(target).ok());
        return target
            .map(Stored::Moved)
            .ok_or_else(|| malformed("a redirect that leads nowhere"));
    }
    response.check().map(Stored::Content).map_err(failed)
}

fn failed(error: HttpError) -> TaskclusterError {
    TaskclusterError::http(CONTENT)(error)
}

fn malformed(problem: &str) -> TaskclusterError {
    failed(HttpError::Malformed {
        problem: problem.to_owned(),
    })
}

/// That an address is not fetched from. Its path and its query may hold a signature.
fn elsewhere(url: &Url) -> TaskclusterError {
    let host: String = url
        .host_str()
        .unwrap_or_default()
        .chars()
        .take(MAX_HOST)
        .collect();
    TaskclusterError::Elsewhere {
        call: CONTENT,
        address: format!("{}://{host}", url.scheme()),
    }
}

fn too_many_redirects() -> TaskclusterError {
    malformed("too many redirects")
}

/// The content of a gzip stream. Stores keep what workers packed, and hand it out so whether it was asked for or not.
fn unpacked(packed: &[u8], limit: usize) -> Result<Bytes, TaskclusterError> {
    let mut content = Vec::new();
    let longest = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    MultiGzDecoder::new(packed)
        .take(longest)
        .read_to_end(&mut content)
        .map_err(|_| malformed("it is called gzip and is none"))?;
    if content.len() > limit {
        return Err(failed(HttpError::TooLarge { limit }));
    }
    Ok(content.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn artifact_debug_output_hides_signature() {
        let url = Url::parse("https://store.example.com/a?X-Amz-Signature=s3cret").unwrap();
        let artifact = Artifact {
            storage_type: "s3".to_owned(),
            url,
        };
        assert!(!format!("{artifact:?}").contains("s3cret"));
    }

    #[test]
    fn gzip_bomb_is_unpacked_up_to_the_limit() {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        std::io::Write::write_all(&mut packed, &vec![0; 10 << 20]).unwrap();
        let packed = packed.finish().unwrap();
        assert!(packed.len() < 100_000);
        assert!(matches!(
            unpacked(&packed, 1 << 20),
            Err(TaskclusterError::Http {
                source: HttpError::TooLarge { .. },
                ..
            })
        ));
        assert_eq!(unpacked(&packed, 10 << 20).unwrap().len(), 10 << 20);
        assert!(matches!(
            unpacked(b"text", 100),
            Err(TaskclusterError::Http {
                source: HttpError::Malformed { .. },
                ..
            })
        ));
    }
}
