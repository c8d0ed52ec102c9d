//! What hgweb tells of changesets and pushes.
//!
//! Addresses come from messages, so they are not trusted: what is asked is always a command below the address of a
//! repository, and the address of a push is taken only if it is below its repository too. Redirects are not followed.

use std::{collections::BTreeMap, fmt, sync::Arc};

use reqwest::StatusCode;
use runtime::Clock;
use serde::{
    Deserialize, Deserializer,
    de::{Error, Visitor},
};
use url::Url;

use crate::{
    Diffstat, DiffstatParser, Node, Repository, TelemetryError,
    call::{Answer, Caller, read_json},
    skim::Skim,
};

/// The longest answer about pushes that is read, in bytes: a push of 100,000 changesets takes 5 MB.
const MAX_PUSHES: usize = 64 << 20;
/// The most that is kept of an answer about a changeset, in bytes. Its description is nearly all of it.
const MAX_KEPT: usize = 16 << 20;
/// The longest answer about a changeset that is read, in bytes: it holds the whole diff.
const MAX_STREAM: u64 = 16 << 30;
/// The fields of `json-rev` that are of use.
const WANTED: &[&str] = &[
    "node",
    "desc",
    "user",
    "parents",
    "pushdate",
    "landingsystem",
];

/// Mercurial's web servers.
#[derive(Clone)]
pub struct Hgweb {
    caller: Caller,
}

impl fmt::Debug for Hgweb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hgweb").finish_non_exhaustive()
    }
}

/// A changeset, as `json-rev` tells it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Changeset {
    /// Its id.
    pub node: Node,
    /// Its description, in whatever encoding its author used.
    #[serde(rename = "desc", deserialize_with = "bytes")]
    pub description: Vec<u8>,
    /// Its author, likewise.
    #[serde(rename = "user", deserialize_with = "bytes")]
    pub author: Vec<u8>,
    /// Its parents. None, if it is the first.
    pub parents: Vec<Node>,
    /// When it was pushed: seconds since 1970, and the offset of a time zone in seconds. Only a server with a pushlog tells.
    #[serde(default)]
    pub pushdate: Option<(f64, f64)>,
    /// What landed it. Only Mozilla's servers tell.
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

/// A push.
#[derive(Debug, Deserialize)]
struct Push {
    changesets: Vec<Node>,
}

/// A part of a pushlog.
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
            caller: Caller::new(http, clock),
        }
    }

    /// The changeset that the repository knows by this name: its id, or the beginning of it.
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
            let (mut skim, mut read) = (Skim::new(WANTED), 0);
            while let Some(chunk) = answer.chunk().await? {
                read += chunk.len() as u64;
                skim.feed(&chunk);
                if read > MAX_STREAM || skim.kept().len() > MAX_KEPT {
                    let limit = if read > MAX_STREAM {
                        MAX_STREAM
                    } else {
                        MAX_KEPT as u64
                    };
                    return Err(TelemetryError::TooLarge {
                        call: call.clone(),
                        limit,
                    });
                }
            }
            read_json(&call, skim.kept())
        };
        self.caller.retried(get).await
    }

    /// How much a changeset changes, against its first parent.
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
            let (mut parser, mut read) = (DiffstatParser::new(&changeset.description), 0);
            while let Some(chunk) = answer.chunk().await? {
                read += chunk.len() as u64;
                if read > MAX_STREAM {
                    return Err(TelemetryError::TooLarge {
                        call: call.clone(),
                        limit: MAX_STREAM,
                    });
                }
                parser.feed(&chunk).map_err(fault)?;
            }
            parser.finish().map_err(fault)
        };
        self.caller.retried(get).await
    }

    /// The changesets of a push, by the address that its message gives for it (`push_json_url`).
    pub async fn push(
        &self,
        repository: &Repository,
        push: u64,
        url: &Url,
    ) -> Result<Vec<Node>, TelemetryError> {
        if !repository.holds(url) {
            return Err(TelemetryError::Elsewhere {
                url: url.to_string(),
                below: repository.to_string(),
            });
        }
        let call = format!("push {push} at {url}");
        let mut pushes = self.pushes(&call, url).await?.pushes;
        let absent = || TelemetryError::Undecodable {
            call: call.clone(),
            problem: format!("pushes.{push}: is not there"),
        };
        Ok(pushes.remove(&push).ok_or_else(absent)?.changesets)
    }

    /// The pushes with numbers from `after`, exclusively, to `end`, inclusively. Some may be missing.
    pub async fn pushlog(
        &self,
        repository: &Repository,
        after: u64,
        end: u64,
    ) -> Result<Pushlog, TelemetryError> {
        let url = repository.pushlog(after, end);
        let call = url.to_string();
        let Pushes { lastpushid, pushes } = self.pushes(&call, &url).await?;
        let wrong = |problem: &str| TelemetryError::Undecodable {
            call: call.clone(),
            problem: problem.to_owned(),
        };
        let newest = lastpushid.ok_or_else(|| wrong("lastpushid: is not there"))?;
        if pushes.keys().any(|&push| push <= after || end < push) {
            return Err(wrong("pushes: holds one that was not asked for"));
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
            let answer = Answer::of(call, self.caller.http.get(url.clone())).await?;
            if answer.status() != StatusCode::OK {
                return Err(answer.unexpected());
            }
            answer.body(MAX_PUSHES).await
        };
        read_json(call, &self.caller.retried(get).await?)
    }

    /// `None` is 404.
    async fn get<'a>(
        &self,
        call: &'a str,
        url: &Url,
    ) -> Result<Option<Answer<'a>>, TelemetryError> {
        let answer = Answer::of(call, self.caller.http.get(url.clone())).await?;
        match answer.status() {
            StatusCode::OK => Ok(Some(answer)),
            StatusCode::NOT_FOUND => Ok(None),
            _ => Err(answer.unexpected()),
        }
    }
}

/// Bytes that Mercurial wrote as a JSON string. Where they are no UTF-8, each is written as a surrogate from U+DC80 to
/// U+DCFF, which no text can hold; they become the bytes again that they were.
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

/// U+DC80 to U+DCFF are ED B2 80 to ED B3 BF, as far as surrogates can be written.
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
