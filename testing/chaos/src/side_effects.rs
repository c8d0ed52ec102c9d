//! The world outside the bus: a second Redis that meets no fault. It keeps what handlers did there, and a log of every
//! execution, so that nothing about the campaign is taken from what the bus says of itself.

use std::{sync::LazyLock, time::Duration};

use anyhow::Context;
use jiff::Timestamp;
use redis::{
    AsyncConnectionConfig, RedisResult, Script,
    aio::MultiplexedConnection,
    streams::{StreamId, StreamRangeReply},
};
use serde::{Deserialize, Serialize};

use crate::chain::Step;

const LOG: &str = "log";
const ANSWER: Duration = Duration::from_secs(20);
/// The most lines that are taken at once.
pub const CHUNK: usize = 5000;

/// An effect has a key. The first one is made and logged, another one is refused and logged as a repeat.
/// `KEYS[1]` the effect   `KEYS[2]` the log   `ARGV[1]`, `ARGV[2]` the lines for either case
static PERFORM: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local made = redis.call('SET', KEYS[1], 1, 'NX')
         redis.call('XADD', KEYS[2], '*', 'e', made and ARGV[1] or ARGV[2])",
    )
});

/// One line of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The worker that wrote it, by its serial number.
    pub worker: u32,
    /// What it did.
    pub event: Event,
}

/// What a worker did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// It can be told to stop from now on.
    Ready,
    /// A handler began.
    Begun(Work),
    /// Its effect was made.
    Effect(Work),
    /// Its effect had been made before.
    Repeat(Work),
}

/// One execution of one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work {
    /// The message.
    pub number: u32,
    /// The step.
    pub step: Step,
    /// The message's tag.
    pub tag: u64,
}

/// A connection to the world outside.
#[derive(Clone)]
pub struct SideEffects {
    connection: MultiplexedConnection,
}

impl SideEffects {
    /// Connects.
    pub async fn connect(url: &str) -> anyhow::Result<Self> {
        let config = AsyncConnectionConfig::new().set_response_timeout(Some(ANSWER));
        let client =
            redis::Client::open(url).context("the url of the world outside is not usable")?;
        let connection = client
            .get_multiplexed_async_connection_with_config(&config)
            .await;
        Ok(Self {
            connection: connection.context("cannot connect to the world outside")?,
        })
    }

    /// Logs an event that has no effect.
    pub async fn log(&self, worker: u32, event: Event) -> RedisResult<()> {
        let line = line(&Entry { worker, event });
        redis::cmd("XADD")
            .arg(LOG)
            .arg("*")
            .arg("e")
            .arg(line)
            .exec_async(&mut self.connection.clone())
            .await
    }

    /// Makes the effect of a step, once.
    pub async fn perform(&self, worker: u32, work: Work) -> RedisResult<()> {
        PERFORM
            .key(format!("effect:{}:{}", work.number, work.step))
            .key(LOG)
            .arg(line(&Entry {
                worker,
                event: Event::Effect(work),
            }))
            .arg(line(&Entry {
                worker,
                event: Event::Repeat(work),
            }))
            .invoke_async(&mut self.connection.clone())
            .await
    }

    /// Takes the oldest lines out of the log, with their times; [`CHUNK`] at most.
    pub async fn take(&self) -> anyhow::Result<Vec<(Timestamp, Entry)>> {
        let mut connection = self.connection.clone();
        let found: StreamRangeReply = redis::cmd("XRANGE")
            .arg(LOG)
            .arg("-")
            .arg("+")
            .arg("COUNT")
            .arg(CHUNK)
            .query_async(&mut connection)
            .await
            .context("cannot read the log")?;
        if let Some(last) = found.ids.last() {
            let read = redis::cmd("XTRIM")
                .arg(LOG)
                .arg("MINID")
                .arg(&last.id)
                .exec_async(&mut connection)
                .await;
            read.context("cannot trim the log")?;
            // MINID keeps the last one itself.
            let read = redis::cmd("XDEL")
                .arg(LOG)
                .arg(&last.id)
                .exec_async(&mut connection)
                .await;
            read.context("cannot trim the log")?;
        }
        found.ids.iter().map(parse).collect()
    }
}

fn line(entry: &Entry) -> String {
    // Numbers and unit names only: it cannot fail.
    serde_json::to_string(entry).unwrap_or_default()
}

fn parse(id: &StreamId) -> anyhow::Result<(Timestamp, Entry)> {
    let millis = id.id.split('-').next().unwrap_or_default().parse()?;
    let line: String = id.get("e").context("a line of the log has no entry")?;
    Ok((
        Timestamp::from_millisecond(millis)?,
        serde_json::from_str(&line).context("a line of the log is unreadable")?,
    ))
}
