//! What an operator does with a deployment that runs, on the command line and over the API.

mod letters;

use std::{process::Stdio, sync::Arc, time::Duration};

use build::{
    BuildLog, BuildRecord, BuildRequest, BuildUpdate, BuildUpdateMessage, Phid, SkipReason, Source,
};
use bus::{Bus, Message, Outgoing, Producer, Queue, QueueAdmin, Reserve, Settlement};
use events::queues::{self, BUILD_LOAD, BUILD_PUBLISH};
use runtime::{Clock, SystemClock};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::Command,
};

use crate::world::{World, until};

const HOUR: Duration = Duration::from_secs(3600);

/// How a command ended, and what it said.
#[derive(Debug)]
pub struct Said {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Said {
    /// The lines of a command that did what it was asked for.
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

    /// What a command that failed complained of.
    pub fn fault(&self) -> &str {
        assert_eq!((self.code, self.out.as_str()), (Some(1), ""), "{self:?}");
        self.err.strip_prefix("events: ").unwrap().trim_end()
    }
}

impl World {
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
    async fn counts(&self, queue: &str) -> [u64; 4] {
        let rows = self.events(&["queues", "--json"]).await.json();
        let row = rows.iter().find(|row| row["queue"] == queue).unwrap();
        ["ready", "in_flight", "delayed", "dead"].map(|count| row[count].as_u64().unwrap())
    }

    async fn push<M: Message>(&self, queue: &Queue<M>, message: &M, after: Duration) -> String {
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
    }
}

#[tokio::test]
async fn accepted_builds_are_seen_in_their_queue() {
    let world = World::with_redis().await;
    let mut web = world.start("web");
    let build = world.submit_stack();
    assert_eq!(world.request(web.address().await, &build).await, 200);
    web.stop().await;

    let said = world.events(&["queues"]).await;
    let lines = said.lines();
    let cells: Vec<Vec<&str>> = lines
        .iter()
        .map(|line| line.split("  ").filter(|cell| !cell.is_empty()).collect())
        .collect();
    let names: Vec<_> = cells.iter().map(|row| row[0]).collect();
    let all = queues::all();
    let expected = std::iter::once("QUEUE").chain(all.iter().map(|queue| queue.name));
    assert_eq!(names, Vec::from_iter(expected));
    assert_eq!(
        names[1..5],
        ["build:load", "build:push", "build:publish", "lando"]
    );
    assert_eq!([cells[0][1].trim(), cells[0][2]], ["READY", "IN FLIGHT"]);
    assert_eq!(cells[1][1].trim(), "1");
    assert_eq!(world.counts("build:load").await, [1, 0, 0, 0]);

    let peeked = world
        .events(&["queues", "peek", "build:load", "--json"])
        .await
        .json();
    assert_eq!(
        (peeked.len(), &peeked[0]["state"], &peeked[0]["attempts"]),
        (1, &json!("ready"), &json!(0))
    );
    let id = peeked[0]["id"].as_str().unwrap();
    assert!(
        world
            .events(&["queues", "peek", "build:load"])
            .await
            .out
            .contains(id)
    );
    let one = world
        .events(&["queues", "peek", "build:load", "--id", id, "--json"])
        .await
        .json()
        .remove(0);
    assert_eq!(one["body"]["target"], json!(build.target.as_str()));
}

#[tokio::test]
async fn a_paused_queue_holds_a_build_until_it_is_resumed() {
    let world = World::with_redis().await;
    assert_eq!(
        world
            .events(&["queues", "pause", "build:load"])
            .await
            .lines(),
        ["build:load is paused: 0 ready, 0 in flight, 0 delayed"]
    );
    let (web, worker) = (world.start("web"), world.start("worker"));
    let build = world.submit_stack();
    assert_eq!(
        world.request(web.address().await, &build).await,
        200,
        "builds are accepted"
    );
    worker.until_logged("working on").await;
    assert!(
        world
            .events(&["queues"])
            .await
            .out
            .lines()
            .nth(1)
            .unwrap()
            .ends_with("paused")
    );
    assert_eq!(world.counts("build:load").await, [1, 0, 0, 0]);

    let resumed = world
        .events(&["queues", "resume", "build:load", "--json"])
        .await
        .json()
        .remove(0);
    assert_eq!(
        (&resumed["queue"], &resumed["paused"]),
        (&json!("build:load"), &json!(false))
    );
    let link = world.until_pushed(&build, &worker).await;
    for queue in ["build:load", "build:push", "build:publish", "lando"] {
        assert_eq!(
            world.events(&["queues", "drain", queue]).await.lines(),
            [format!("{queue} is drained")]
        );
    }
    world.assert_pushed_once(&build, &link).await;
    let rows = world.events(&["queues", "--json"]).await.json();
    // Lando is not configured, nor is anything that is triggered.
    let used = rows
        .iter()
        .filter(|row| row["finished_per_minute"].as_f64().unwrap() > 0.0);
    let used: Vec<_> = used.map(|row| row["queue"].as_str().unwrap()).collect();
    assert_eq!(used, ["build:load", "build:push", "build:publish"]);
}

#[tokio::test]
async fn delayed_builds_are_made_ready_and_waiting_ones_dropped() {
    let world = World::with_redis().await;
    let first = world.push(&BUILD_LOAD, &request(1), HOUR).await;
    for diff in 2..=4 {
        world.push(&BUILD_LOAD, &request(diff), HOUR).await;
    }
    let one = world
        .events(&["queues", "requeue", "build:load", "--id", &first])
        .await;
    assert_eq!(one.lines(), ["made 1 delayed message of build:load ready"]);
    let again = world
        .events(&["queues", "requeue", "build:load", "--id", &first])
        .await;
    assert_eq!(
        again.fault(),
        format!("queue build:load has no message {first} that is delayed")
    );
    let all = world
        .events(&["queues", "requeue", "build:load", "--all", "--json"])
        .await;
    assert_eq!(all.json(), [json!({"queue": "build:load", "requeued": 3})]);
    assert_eq!(world.counts("build:load").await, [4, 0, 0, 0]);

    let limited = world
        .events(&["queues", "peek", "build:load", "--limit", "3"])
        .await;
    assert_eq!(limited.lines().len(), 5);
    assert!(limited.lines()[4].contains("there are more"), "{limited:?}");

    let refused = world
        .events(&["queues", "drop", "build:load", "--all"])
        .await;
    assert_eq!(
        refused.fault(),
        "4 messages of build:load would be dropped permanently: say --yes if that is meant"
    );
    assert_eq!(world.counts("build:load").await, [4, 0, 0, 0]);
    let one = world
        .events(&["queues", "drop", "build:load", "--id", &first, "--yes"])
        .await;
    assert_eq!(one.lines(), ["dropped 1 message of build:load"]);
    let all = world
        .events(&["queues", "drop", "build:load", "--all", "--yes", "--json"])
        .await;
    assert_eq!(all.json(), [json!({"queue": "build:load", "dropped": 3})]);
    assert_eq!(world.counts("build:load").await, [0, 0, 0, 0]);
}

#[tokio::test]
async fn draining_waits_for_the_last_message_or_says_what_is_left() {
    let world = World::with_redis().await;
    world.push(&BUILD_LOAD, &request(1), Duration::ZERO).await;
    world.push(&BUILD_LOAD, &request(2), HOUR).await;
    let late = world
        .events(&["queues", "drain", "build:load", "--timeout", "0"])
        .await;
    assert_eq!(
        late.fault(),
        "build:load is not drained after 0 s: 1 ready, 0 in flight, 1 delayed"
    );

    let mut draining = world.command(&["queues", "drain", "build:load", "--json"]);
    let draining = draining.stdout(Stdio::piped()).spawn().unwrap();
    world
        .events(&["queues", "drop", "build:load", "--all", "--yes"])
        .await
        .lines();
    let output = draining.wait_with_output().await.unwrap();
    assert!(output.status.success());
    let line: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&line["queue"], &line["ready"], &line["delayed"]),
        (&json!("build:load"), &json!(0), &json!(0))
    );
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

#[tokio::test]
async fn a_command_that_changes_nothing_says_so() {
    let world = World::with_redis().await;
    for (arguments, expected) in [
        (
            vec!["queues", "resume", "build:load"],
            "build:load was not paused: ",
        ),
        (
            vec!["queues", "pause", "build:load"],
            "build:load is paused: ",
        ),
        (
            vec!["queues", "pause", "build:load"],
            "build:load was paused already: ",
        ),
        (
            vec!["queues", "requeue", "build:load", "--all"],
            "requeued nothing: build:load has no delayed message",
        ),
        (
            vec!["queues", "drop", "build:load", "--all", "--yes"],
            "dropped nothing: build:load has no message that is ready or delayed",
        ),
        (
            vec!["dead", "requeue", "--all"],
            "requeued nothing: there are no such dead letters",
        ),
        (
            vec!["dead", "drop", "--reason", "x", "--yes"],
            "dropped nothing: there are no such dead letters",
        ),
    ] {
        let said = world.events(&arguments).await;
        assert!(
            said.lines()[0].starts_with(expected),
            "{arguments:?}: {said:?}"
        );
    }
}

#[tokio::test]
async fn wrong_name_or_place_is_reported_with_its_remedy() {
    let world = World::with_redis().await;
    let known = Vec::from_iter(queues::all().iter().map(|queue| queue.name)).join(", ");
    let known = format!("the queues are {known}");
    for (arguments, expected) in [
        (
            vec!["queues", "peek", "build:loud"],
            format!("there is no queue \"build:loud\", did you mean build:load?; {known}"),
        ),
        (
            vec!["queues", "drop", "xyz", "--all", "--yes"],
            format!("there is no queue \"xyz\"; {known}"),
        ),
        (
            vec!["dead", "list", "--queue", "build:publsh"],
            format!("there is no queue \"build:publsh\", did you mean build:publish?; {known}"),
        ),
    ] {
        assert_eq!(world.events(&arguments).await.fault(), expected);
    }
    for (command, variable, expected) in [
        (
            "queues",
            "REDIS_URL",
            "queues in memory belong to the process that runs them",
        ),
        ("audit", "EVENTS_CONFIG", "name its configuration"),
    ] {
        let output = world
            .command(&[command])
            .env_remove(variable)
            .output()
            .await
            .unwrap();
        assert_eq!(output.status.code(), Some(1));
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(expected), "{said}");
    }
    for unclear in [
        vec!["dead", "drop", "--yes"],
        vec!["queues", "drop", "build:load", "--yes"],
        vec!["dead", "requeue", "x", "--all"],
    ] {
        assert_eq!(world.events(&unclear).await.code, Some(2), "{unclear:?}");
    }
}

#[tokio::test]
async fn the_api_of_a_running_web_server_serves_who_knows_the_token() {
    let world = World::with_redis().await;
    let config = std::fs::read_to_string(world.path("config.yml")).unwrap();
    std::fs::write(
        world.path("config.yml"),
        format!("{config}  api_token: t0ken\n"),
    )
    .unwrap();
    let mut web = world.start("web");
    let address = web.address().await;
    let delayed = world.push(&BUILD_LOAD, &request(1), HOUR).await;
    let call = async |token: &str, line: &str, body: &str| -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!(
            "{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {token}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    assert!(
        call("wrong", "GET /api/v1/queues", "")
            .await
            .starts_with("HTTP/1.1 401")
    );
    let queues = call("t0ken", "GET /api/v1/queues", "").await;
    assert!(
        queues.starts_with("HTTP/1.1 200") && queues.contains("\"build:publish\""),
        "{queues}"
    );
    let requeued = call(
        "t0ken",
        "POST /api/v1/queues/build:load/requeue",
        &json!({"id": delayed}).to_string(),
    )
    .await;
    assert!(requeued.ends_with("{\"requeued\":1}"), "{requeued}");
    assert_eq!(world.counts("build:load").await, [1, 0, 0, 0]);
    until("the refusal to be logged", &web, || {
        web.log().contains("refused a request without the secret")
    })
    .await;
    assert!(!web.log().contains("t0ken"), "{}", web.log());
    web.stop().await;
}
