//! Changesets and pushes on hgweb.
//!
//! Addresses come from messages and are not trusted: a request is always a command below the address of a repository, and
//! the address of a push must be below its repository too. The client follows no redirects.

use std::{collections::BTreeMap, fmt, sync::Arc};

use http_client::{HttpError, Incoming};
use reqwest::StatusCode;
use runtime::Clock;
use serde::{
    Deserialize, Deserializer,
    de::{Error, Visitor},
};
use url::Url;

use crate::{
    Diffstat, Node, Repository, TelemetryError,
    diffstat::DiffstatParser,
    http::{HttpClient, decode_json, failed, open, unexpected},
    json_filter::JsonFieldFilter,
};

/// The longest answer about pushes, in bytes: a push of 100,000 changesets takes 5 MB.
const MAX_PUSHES: usize = 64 << 20;
/// The most bytes of an answer about a changeset that are kept. Nearly all of them are its description.
const MAX_KEPT: usize = 16 << 20;
/// The longest answer about a changeset, in bytes: it contains the whole diff.
const MAX_STREAM: usize = 16 << 30;
/// The fields of `json-rev` that [`Changeset`] has.
const WANTED: &[&str] = &[
    "node",
    "desc",
    "user",
    "parents",
    "pushdate",
    "landingsystem",
];

/// A client of Mercurial's web servers.
#[derive(Clone)]
pub struct Hgweb {
    http: HttpClient,
}

impl fmt::Debug for Hgweb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hgweb").finish_non_exhaustive()
    }
}

/// A changeset, as `json-rev` describes it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Changeset {
    /// Its id.
    pub node: Node,
    /// Its description, in the encoding that its author used.
    #[serde(rename = "desc", deserialize_with = "bytes")]
    pub description: Vec<u8>,
    /// Its author, in the same encoding.
    #[serde(rename = "user", deserialize_with = "bytes")]
    pub author: Vec<u8>,
    /// Its parents; empty for the first changeset.
    pub parents: Vec<Node>,
    /// The time of its push: seconds since 1970, and the offset of a time zone in seconds. Only servers with a pushlog send
    /// it.
    #[serde(default)]
    pub pushdate: Option<(f64, f64)>,
    /// The program that landed it. Only Mozilla's servers send it.
    #[serde(default)]
    pub landingsystem: Option<String>,
}

/// An answer of `json-pushes?version=2`.
#[derive(Debug, Deserialize)]
struct Pushes {
    #[serde(default)]
    lastpushid: Option<u64>,
    pushes: BTreeMap<u64, Push>,
}

#[derive(Debug, Deserialize)]
struct Push {
    changesets: Vec<Node>,
}

/// A range of a pushlog.
#[derive(Debug)]
pub struct Pushlog {
    /// The number of the repository's newest push.
    pub newest: u64,
    /// The changesets of each push, by its number.
    pub pushes: BTreeMap<u64, Vec<Node>>,
}

impl Hgweb {
    /// A client. `http` must not follow redirects.
    pub fn new(http: reqwest::Client, clock: Arc<dyn Clock>) -> Self {
        Self {
            http: HttpClient::new(http, clock),
        }
    }

    /// The changeset with this id, or with this prefix of its id.
    pub async fn changeset(
        &self,
        repository: &Repository,
        revision: &str,
    ) -> Result<Changeset, TelemetryError> {
        let missing = || TelemetryError::NoSuchChangeset {
            revision: revision.to_owned(),
            repository: repository.to_string(),
        };
        let url = repository
            .command("json-rev", revision)
            .ok_or_else(missing)?;
        let call = url.to_string();
        let get = || async {
            let mut answer = self.get(&call, &url).await?.ok_or_else(missing)?;
            let mut filter = JsonFieldFilter::new(WANTED);
            while let Some(chunk) = answer.chunk().await.map_err(failed(&call))? {
                filter.feed(&chunk);
                if filter.kept().len() > MAX_KEPT {
                    return Err(failed(&call)(HttpError::TooLarge { limit: MAX_KEPT }));
                }
            }
            decode_json(&call, filter.kept())
        };
        self.http.with_retries(get).await
    }

    /// The size of a changeset's change, against its first parent.
    pub async fn diffstat(
        &self,
        repository: &Repository,
        changeset: &Changeset,
    ) -> Result<Diffstat, TelemetryError> {
        let node = &changeset.node;
        let missing = || TelemetryError::NoSuchChangeset {
            revision: node.to_string(),
            repository: repository.to_string(),
        };
        let url = repository
            .command("raw-rev", node.as_str())
            .ok_or_else(missing)?;
        let call = url.to_string();
        let fault = |source| TelemetryError::Diff {
            node: node.clone(),
            source,
        };
        let get = || async {
            let mut answer = self.get(&call, &url).await?.ok_or_else(missing)?;
            let mut parser = DiffstatParser::new(&changeset.description);
            while let Some(chunk) = answer.chunk().await.map_err(failed(&call))? {
                parser.feed(&chunk).map_err(fault)?;
            }
            parser.finish().map_err(fault)
        };
        self.http.with_retries(get).await
    }

    /// The changesets of a push, from the address in its message (`push_json_url`).
    pub async fn push(
        &self,
        repository: &Repository,
        push: u64,
        url: &Url,
    ) -> Result<Vec<Node>, TelemetryError> {
        if !repository.contains(url) {
            return Err(TelemetryError::ForeignUrl {
                url: url.to_string(),
                allowed: repository.to_string(),
            });
        }
        let call = format!("push {push} at {url}");
        let mut pushes = self.pushes(&call, url).await?.pushes;
        match pushes.remove(&push) {
            Some(push) => Ok(push.changesets),
            None => Err(undecodable(&call, format!("pushes.{push}: missing"))),
        }
    }

    /// The pushes with numbers from `after`, exclusively, to `end`, inclusively. Numbers may be missing.
    pub async fn pushlog(
        &self,
        repository: &Repository,
        after: u64,
        end: u64,
    ) -> Result<Pushlog, TelemetryError> {
        let url = repository.pushlog(after, end);
        let call = url.to_string();
        let Pushes { lastpushid, pushes } = self.pushes(&call, &url).await?;
        let newest = lastpushid.ok_or_else(|| undecodable(&call, "lastpushid: missing"))?;
        if pushes.keys().any(|&push| push <= after || end < push) {
            return Err(undecodable(
                &call,
                "pushes: a push outside the requested range",
            ));
        }
        Ok(Pushlog {
            newest,
            pushes: pushes
                .into_iter()
                .map(|(number, push)| (number, push.changesets))
                .collect(),
        })
    }

    async fn pushes(&self, call: &str, url: &Url) -> Result<Pushes, TelemetryError> {
        let get = || async {
            let answer = open(call, self.http.get(url), MAX_PUSHES).await?;
            if answer.status() != StatusCode::OK {
                return Err(unexpected(call, answer.status()));
            }
            answer.collect().await.map_err(failed(call))
        };
        decode_json(call, &self.http.with_retries(get).await?.body)
    }

    /// `None` for 404.
    async fn get(&self, call: &str, url: &Url) -> Result<Option<Incoming>, TelemetryError> {
        let answer = open(call, self.http.get(url), MAX_STREAM).await?;
        match answer.status() {
            StatusCode::OK => Ok(Some(answer)),
            StatusCode::NOT_FOUND => Ok(None),
            status => Err(unexpected(call, status)),
        }
    }
}

fn undecodable(call: &str, problem: impl Into<String>) -> TelemetryError {
    TelemetryError::Undecodable {
        call: call.to_owned(),
        problem: problem.into(),
    }
}

/// The bytes that Mercurial wrote as a JSON string. It writes each byte that is not UTF-8 as a surrogate from U+DC80 to
/// U+DCFF, which no text can contain; this restores them.
fn bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    struct Bytes;

    impl Visitor<'_> for Bytes {
        type Value = Vec<u8>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a string")
        }

        fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
            Ok(without_surrogates(bytes))
        }
    }

    deserializer.deserialize_bytes(Bytes)
}

/// Replaces the surrogates U+DC80 to U+DCFF, written as ED B2 80 to ED B3 BF, by the bytes 80 to FF.
fn without_surrogates(mut bytes: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(bytes.len());
    while let Some(at) = memchr::memchr(0xed, bytes) {
        plain.extend_from_slice(&bytes[..at]);
        bytes = &bytes[at..];
        let (byte, taken) = match bytes {
            [_, 0xb2, low @ 0x80..=0xbf, ..] => (*low, 3),
            [_, 0xb3, low @ 0x80..=0xbf, ..] => (low + 0x40, 3),
            _ => (0xed, 1),
        };
        plain.push(byte);
        bytes = &bytes[taken..];
    }
    plain.extend_from_slice(bytes);
    plain
}
