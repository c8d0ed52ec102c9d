//! Commit telemetry from end to end: the commands and `events run telemetry`, with a real RabbitMQ and a real Redis.

mod backfill;
mod dead_letters;
mod peer;
mod settings;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use bus::{QueueAdmin, RedisBus, RedisOptions};
use events::queues::PULSE_HGPUSHES;
use nix::sys::signal::Signal;
use pulse::{PulseMessage, Routing};
use runtime::{Clock, SystemClock};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::{RabbitServer, RedisServer};
use tokio::{net::UdpSocket, process::Command};

use self::peer::{Peer, nodes, pings};
use crate::world::{Process, until};

const EXCHANGE: &str = "exchange/hgpushes/v2";
const QUEUE: &str = "queue/pulseuser/telemetry";
/// The deadline of every wait.
const TIMEOUT: Duration = Duration::from_secs(180);

/// The exit code and the output of a command.
struct CommandResult {
    code: Option<i32>,
    out: String,
    err: String,
}

/// Runs `events telemetry` to its end, with only this environment.
async fn telemetry(
    arguments: &[&str],
    environment: &[(String, String)],
    directory: &TempDir,
) -> CommandResult {
    let mut command = Command::new(env!("CARGO_BIN_EXE_events"));
    command
        .arg("telemetry")
        .args(arguments)
        .env_clear()
        .envs(environment.iter().cloned());
    let output = command
        .current_dir(directory.path())
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    CommandResult {
        code: output.status.code(),
        out: text(output.stdout),
        err: text(output.stderr),
    }
}

/// The variables with the addresses of the servers.
fn servers(peer: &Peer, directory: &TempDir) -> Vec<(String, String)> {
    let set = [
        ("TARGET_REPO", peer.repository()),
        ("BMO_API_URL", format!("{}/rest", peer.root)),
        ("TMO_BASE_URL", format!("{}/submit", peer.root)),
        ("HOME", directory.path().to_str().unwrap().to_owned()),
    ];
    set.map(|(name, value)| (name.to_owned(), value)).into()
}

struct Deployment {
    directory: TempDir,
    rabbit: RabbitServer,
    peer: Peer,
}

impl Deployment {
    /// A deployment with a bound queue.
    async fn with_queue() -> Self {
        Self::on(RabbitServer::share().await.unwrap()).await
    }

    /// On a RabbitMQ with a bound queue.
    async fn on(rabbit: RabbitServer) -> Self {
        rabbit.declare_exchange(EXCHANGE).await.unwrap();
        let deployment = Self {
            directory: tempfile::tempdir().unwrap(),
            rabbit,
            peer: Peer::start(60).await,
        };
        let result = deployment.process(&[]).await;
        assert_eq!(result.code, Some(0), "{}", result.err);
        assert!(result.err.contains("0 messages done"), "{}", result.err);
        deployment
    }

    fn environment(&self) -> Vec<(String, String)> {
        let settings = self.rabbit.settings();
        let pulse = [
            ("PULSE_HOST", settings.address.host),
            ("PULSE_PORT", settings.address.port.to_string()),
            ("PULSE_SSL", "0".to_owned()),
            ("PULSE_VHOST", settings.vhost),
            ("PULSE_USERNAME", settings.user),
            (
                "PULSE_PASSWORD",
                settings.password.expose_secret().to_owned(),
            ),
            ("PULSE_QUEUE_NAME", "telemetry".to_owned()),
            ("PULSE_QUEUE_ROUTING_KEY", "mozilla-central".to_owned()),
        ];
        let pulse = pulse.map(|(name, value)| (name.to_owned(), value));
        servers(&self.peer, &self.directory)
            .into_iter()
            .chain(pulse)
            .collect()
    }

    /// Starts a process without waiting for its end.
    fn start(&self, arguments: &[&str], more: &[(&str, &str)]) -> Process {
        let own = self.environment();
        let own = own
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()));
        Process::start(
            arguments,
            &own.chain(more.iter().copied()).collect::<Vec<_>>(),
        )
    }

    async fn process(&self, arguments: &[&str]) -> CommandResult {
        let arguments = [&["process-queue-messages"], arguments].concat();
        telemetry(&arguments, &self.environment(), &self.directory).await
    }

    async fn publish(&self, body: &Value) {
        let key = "mozilla-central".to_owned();
        let routing = Routing {
            exchange: EXCHANGE.to_owned(),
            key,
            other_routes: Vec::new(),
        };
        let message = PulseMessage {
            routing,
            body: body.to_string().into_bytes().into(),
        };
        self.rabbit.publish(&message).await.unwrap();
    }

    async fn push(&self, pushes: impl IntoIterator<Item = u64>) {
        for push in pushes {
            self.publish(&self.peer.message(push)).await;
        }
    }

    /// Waits until the queue has `expected` messages, and no consumer has one of them.
    async fn until_depth(&self, expected: u32) {
        let begun = SystemClock.now();
        loop {
            let depth = self.rabbit.depth(QUEUE).await.unwrap();
            if depth == Some(expected) {
                return;
            }
            let waited = SystemClock.now().duration_since(begun).unsigned_abs();
            assert!(
                waited < TIMEOUT,
                "{depth:?} messages are in the queue, not {expected}"
            );
            SystemClock.sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test]
async fn killed_command_leaves_its_messages_to_the_next_run() {
    let deployment = Deployment::with_queue().await;
    let peer = &deployment.peer;
    deployment.push(1..=20).await;
    assert_eq!(deployment.process(&[]).await.code, Some(0));
    assert_eq!(peer.accepted(), pings(1..=20));
    deployment.until_depth(0).await;

    // It is killed before its pings are answered.
    peer.world().silent = true;
    deployment.push(21..=40).await;
    let command = deployment.start(&["telemetry", "process-queue-messages"], &[]);
    until("pings that get no answer", &command, || {
        peer.world().unheard.len() >= 4
    })
    .await;
    command.signal(Signal::SIGKILL);
    deployment.until_depth(20).await;
    peer.world().silent = false;
    let result = deployment.process(&["--timeout", "0.5"]).await;
    assert_eq!(result.code, Some(0), "{}", result.err);
    assert_eq!(peer.accepted(), pings(1..=40));
    assert!(
        peer.world().accepted.values().all(|&times| times == 1),
        "what was acknowledged was not done again"
    );
    deployment.until_depth(0).await;
}

#[tokio::test]
async fn dry_run_prints_every_ping_and_leaves_every_message() {
    let deployment = Deployment::with_queue().await;
    deployment.push([7, 10]).await;
    deployment
        .publish(&json!({"payload": {"type": "newrepo.1", "data": {}}}))
        .await;
    for _ in 0..2 {
        let result = deployment.process(&["--no-send"]).await;
        assert_eq!(result.code, Some(0), "{}", result.err);
        let shown: Vec<Value> = result
            .out
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let ids: BTreeSet<_> = shown
            .iter()
            .map(|ping| ping["changesetID"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(ids, nodes(7).into_iter().chain(nodes(10)).collect());
        let reviewed = shown
            .iter()
            .find(|ping| ping["changesetID"] == json!(nodes(7)[0]))
            .unwrap();
        assert_eq!(reviewed["reviewSystemUsed"], "phabricator");
        assert_eq!(
            reviewed["diffstat"],
            json!({"changedFiles": 1, "additions": 1, "deletions": 1})
        );
        assert!(
            result
                .err
                .contains("printed the pings of a push, sent none"),
            "{}",
            result.err
        );
        assert!(
            result.err.contains("checked 3 messages, sent nothing"),
            "{}",
            result.err
        );
        assert!(!result.err.contains("sent the pings"), "{}", result.err);
        deployment.until_depth(3).await;
    }
    assert_eq!(deployment.peer.accepted(), BTreeSet::new());
    let result = deployment.process(&["--no-send", "--follow"]).await;
    assert!(
        result.code == Some(2) && result.err.contains("cannot be used with"),
        "{}",
        result.err
    );
}

/// The dead letters in a file.
fn dead_letters(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[tokio::test]
async fn follow_survives_crash_of_rabbitmq_and_ends_at_a_signal() {
    let mut deployment = Deployment::on(RabbitServer::lend().await.unwrap()).await;
    let mut command = deployment.start(&["telemetry", "process-queue-messages", "--follow"], &[]);
    command.until_logged("reading messages").await;
    deployment.push(1..=3).await;
    until("the first pings", &command, || {
        deployment.peer.accepted() == pings(1..=3)
    })
    .await;
    deployment.rabbit.kill().unwrap();
    deployment.rabbit.restart().await.unwrap();
    deployment.push(4..=6).await;
    until("the other pings", &command, || {
        deployment.peer.accepted() == pings(1..=6)
    })
    .await;
    command.stop().await;
    deployment.until_depth(0).await;
}

#[tokio::test]
async fn connections_that_break_at_once_are_one_outage() {
    let deployment = Deployment::with_queue().await;
    let mut command = deployment.start(&["telemetry", "process-queue-messages", "--follow"], &[]);
    command.until_logged("reading messages").await;
    // RabbitMQ ends the command's subscription with its queue. The command declares the queue again.
    let count = |text: &str, log: &str| log.matches(text).count();
    deployment.rabbit.delete_queue(QUEUE).await.unwrap();
    until("another connection", &command, || {
        count("reading messages", &command.log()) == 2
    })
    .await;
    deployment.rabbit.delete_queue(QUEUE).await.unwrap();
    deployment.until_depth(0).await;
    command.stop().await;
    let log = command.log();
    assert_eq!(count("cannot read from pulse", &log), 1, "{log}");
    assert_eq!(count("reading messages", &log), 2, "{log}");
}

#[tokio::test]
async fn bus_sends_every_ping_although_the_process_is_killed() {
    let deployment = Deployment::with_queue().await;
    let place = deployment.directory.path().join("redis");
    std::fs::create_dir(&place).unwrap();
    let redis = RedisServer::start(place).await.unwrap();
    let url = redis.url();
    let run = || {
        deployment.start(
            &["run", "telemetry", "--grace", "1"],
            &[("REDIS_URL", &url)],
        )
    };
    let peer = &deployment.peer;
    deployment.push(1..=20).await;
    peer.world().silent = true;
    let process = run();
    until("pings that get no answer", &process, || {
        peer.world().unheard.len() >= 4
    })
    .await;
    // The messages are on the bus.
    deployment.until_depth(0).await;
    process.signal(Signal::SIGKILL);
    peer.world().silent = false;
    let mut process = run();
    deployment.push(21..=30).await;
    until("every ping", &process, || peer.accepted() == pings(1..=30)).await;
    let options = RedisOptions {
        url: url.clone().into(),
        namespace: "events".to_owned(),
        ca: None,
        waiters: 1,
    };
    let bus = RedisBus::new(&options, &SystemClock).unwrap();
    let begun = SystemClock.now();
    loop {
        let depth = bus.depth(&PULSE_HGPUSHES.spec()).await.unwrap();
        assert_eq!(depth.dead, 0, "{}", process.log());
        if depth.unfinished() == 0 {
            break;
        }
        assert!(
            SystemClock.now().duration_since(begun).unsigned_abs() < TIMEOUT,
            "{depth:?}:\n{}",
            process.log()
        );
        SystemClock.sleep(Duration::from_millis(20)).await;
    }
    process.stop().await;
    assert!(
        peer.world().accepted.values().all(|&times| times == 1),
        "nothing was accepted twice"
    );
}

#[tokio::test]
async fn dump_prints_one_ping_and_reports_an_unknown_changeset() {
    let directory = tempfile::tempdir().unwrap();
    let peer = Peer::start(20).await;
    let environment = servers(&peer, &directory);
    let node = &nodes(7)[0];
    for arguments in [
        &["dump-telemetry", node][..],
        &["dump-telemetry", &node[..20], "--debug"],
    ] {
        let result = telemetry(arguments, &environment, &directory).await;
        assert_eq!(result.code, Some(0), "{}", result.err);
        let expected = json!({
            "changesetID": node,
            "diffstat": {"changedFiles": 1, "additions": 1, "deletions": 1},
            "landingSystem": null,
            "reviewSystemUsed": "phabricator",
            "repository": peer.repository(),
            "pushDate": 1_795_228_696,
        });
        assert_eq!(
            serde_json::from_str::<Value>(&result.out).unwrap(),
            expected
        );
    }
    let backout = &nodes(8)[0];
    for (arguments, expected) in [
        (&["dump-telemetry", backout][..], "review_unneeded"),
        (&["dump-telemetry", backout, "--classic"], "phabricator"),
    ] {
        let result = telemetry(arguments, &environment, &directory).await;
        let ping: Value = serde_json::from_str(&result.out).unwrap();
        assert_eq!(ping["reviewSystemUsed"], expected, "{}", result.err);
    }
    let classic = environment
        .iter()
        .cloned()
        .chain([("TELEMETRY_CLASSIC".to_owned(), "1".to_owned())]);
    let result = telemetry(
        &["dump-telemetry", backout],
        &classic.collect::<Vec<_>>(),
        &directory,
    )
    .await;
    assert!(result.out.contains("\"phabricator\""), "{}", result.out);
    let unknown = telemetry(&["dump-telemetry", "feedface"], &environment, &directory).await;
    let expected = format!(
        "events: no such changeset: feedface is not in {}\n",
        peer.repository()
    );
    assert_eq!(
        (unknown.code, unknown.out.as_str(), unknown.err),
        (Some(1), "", expected)
    );
    let elsewhere = format!("{}/try", peer.root);
    let unknown = telemetry(
        &["dump-telemetry", node, "--target-repo", &elsewhere],
        &environment,
        &directory,
    )
    .await;
    assert!(
        unknown.err.contains(&format!("is not in {elsewhere}")),
        "{}",
        unknown.err
    );
    assert_eq!(peer.accepted(), BTreeSet::new());
}

#[tokio::test]
async fn statsd_receives_count_of_changesets_and_duration() {
    let deployment = Deployment::with_queue().await;
    let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    deployment.push([9, 10]).await;
    let mut environment = deployment.environment();
    environment.push(("STATSD_HOST".to_owned(), "127.0.0.1".to_owned()));
    environment.push((
        "STATSD_PORT".to_owned(),
        server.local_addr().unwrap().port().to_string(),
    ));
    for dry in [
        &["process-queue-messages", "--no-send"][..],
        &["process-queue-messages"],
    ] {
        let result = telemetry(dry, &environment, &deployment.directory).await;
        assert_eq!(result.code, Some(0), "{}", result.err);
    }
    let mut words = Vec::new();
    let mut read = [0; 1000];
    while words.len() < 3 {
        let length = tokio::time::timeout(TIMEOUT, server.recv(&mut read))
            .await
            .unwrap()
            .unwrap();
        words.push(String::from_utf8(read[..length].to_vec()).unwrap());
    }
    let time = words.pop().unwrap();
    words.sort();
    assert_eq!(
        words,
        [
            "commit_telemetry.job.items:1|c",
            "commit_telemetry.job.items:3|c"
        ],
        "one for each push"
    );
    let time = time
        .strip_prefix("commit_telemetry.job.time:")
        .and_then(|rest| rest.strip_suffix("|ms"))
        .unwrap();
    assert!(time.parse::<f64>().unwrap() > 0.0, "{time}");
    // Both commands have ended, so all datagrams have arrived.
    assert!(
        server.try_recv(&mut read).is_err(),
        "a dry run is not counted"
    );
}
