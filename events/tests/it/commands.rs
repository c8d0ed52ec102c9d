//! The commands of operators, and the same over the API.

mod dead_letters;
mod queues;
mod refs;
mod repositories;
mod restart;
mod show;

use std::{process::Stdio, sync::Arc, time::Duration};

use build::{
    BuildLog, BuildRecord, BuildRequest, BuildUpdate, BuildUpdateMessage, Phid, SkipReason, Source,
};
use bus::{Bus, Message, Outgoing, Producer, Queue, QueueAdmin, Reserve, Settlement};
use events::queues::{BUILD_LOAD, BUILD_PUBLISH, BUILD_QUEUES};
use runtime::{Clock, SystemClock};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::Command,
};

use crate::world::{World, until};

const HOUR: Duration = Duration::from_secs(3600);

/// The exit code and the output of a command.
#[derive(Debug)]
pub struct Said {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Said {
    /// The output of a command that succeeded without a warning.
    pub fn lines(&self) -> Vec<&str> {
        assert_eq!((self.code, self.err.as_str()), (Some(0), ""), "{self:?}");
        self.out.lines().collect()
    }

    pub fn json(&self) -> Vec<Value> {
        self.lines()
            .iter()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// The error of a command that failed without output.
    pub fn fault(&self) -> &str {
        assert_eq!((self.code, self.out.as_str()), (Some(1), ""), "{self:?}");
        self.err.strip_prefix("events: ").unwrap().trim_end()
    }
}

impl World {
    /// A command of the program, in this deployment.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_events"));
        command
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("EVENTS_CONFIG", self.path("config.yml"))
            .env("REDIS_URL", self.redis.as_ref().unwrap().url())
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    /// Runs a command of the program to its end.
    pub async fn events(&self, arguments: &[&str]) -> Said {
        let output = self.command(arguments).output().await.unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        Said {
            code: output.status.code(),
            out: text(&output.stdout),
            err: text(&output.stderr),
        }
    }

    /// The counts of a queue: ready, in flight, delayed, dead.
    pub async fn counts(&self, queue: &str) -> [u64; 4] {
        let rows = self.events(&["queues", "list", "--json"]).await.json();
        let row = rows.iter().find(|row| row["queue"] == queue).unwrap();
        ["ready", "in_flight", "delayed", "dead"].map(|count| row[count].as_u64().unwrap())
    }

    /// Sends a message, which is delivered after this time; returns its id.
    pub async fn push<M: Message>(&self, queue: &Queue<M>, message: &M, after: Duration) -> String {
        let packed = queue.pack(message, &SystemClock).unwrap();
        let id = packed.envelope.id.to_string();
        self.bus()
            .push(vec![Outgoing { after, ..packed }])
            .await
            .unwrap();
        id
    }

    /// A dead letter of a queue that is otherwise empty.
    async fn bury<M: Message>(&self, queue: &Queue<M>, message: &M, reason: &str) -> String {
        let id = self.push(queue, message, Duration::ZERO).await;
        let bus = self.bus();
        let delivery = bus
            .reserve(&queue.spec(), Reserve::now(1))
            .await
            .unwrap()
            .remove(0);
        let letter = delivery.envelope.id;
        let how = Settlement::Dead {
            id: letter,
            reason: reason.to_owned(),
            attempts: 3,
            emit: Vec::new(),
        };
        bus.settle(&delivery.lease, &how).await.unwrap();
        // Letters are listed by the millisecond in which they died: the next one gets another.
        let died = SystemClock.now().as_millisecond();
        while SystemClock.now().as_millisecond() == died {
            SystemClock.sleep(Duration::from_millis(1)).await;
        }
        id
    }
}

fn request(diff_id: u64) -> BuildRequest {
    BuildRequest {
        target: Phid::parse_as(Phid::TARGET, &format!("PHID-HMBT-{diff_id:020}")).unwrap(),
        diff_id,
        repository: Phid::parse_as(Phid::REPOSITORY, "PHID-REPO-gheyr7w2d2ab3qg236ha").unwrap(),
        revision_id: 1,
        accepted_at: "2026-11-21T12:00:00Z".parse().unwrap(),
        staged: None,
    }
}

async fn post(address: std::net::SocketAddr, path: &str, token: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}
