//! Commit telemetry, as its users run it: the commands and `events run telemetry`, with a real RabbitMQ and a real Redis.

mod backfill;
mod peer;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use bus::{Operate, RedisBus, RedisOptions};
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
/// How long anything may take before the test gives up on it.
const PATIENCE: Duration = Duration::from_secs(40);

/// How a command ended, and what it wrote.
struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

/// Runs `events telemetry` to its end, with nothing in its environment but this.
async fn telemetry(
    arguments: &[&str],
    environment: &[(String, String)],
    directory: &TempDir,
) -> Said {
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
    Said {
        code: output.status.code(),
        out: text(output.stdout),
        err: text(output.stderr),
    }
}

/// What the environment says of the servers.
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
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let rabbit = RabbitServer::start(directory.path().join("rabbit"))
            .await
            .unwrap();
        rabbit.declare_exchange(EXCHANGE).await.unwrap();
        Self {
            directory,
            rabbit,
            peer: Peer::start(60).await,
        }
    }

    /// One with a queue that is bound.
    async fn with_queue() -> Self {
        let deployment = Self::new().await;
        let said = deployment.process(&[]).await;
        assert_eq!(said.code, Some(0), "{}", said.err);
        assert!(said.err.contains("0 messages done"), "{}", said.err);
        deployment
    }

    fn environment(&self) -> Vec<(String, String)> {
        let settings = self.rabbit.settings();
        let pulse = [
            ("PULSE_HOST", settings.address.host),
            ("PULSE_PORT", settings.address.port.to_string()),
            ("PULSE_SSL", "0".to_owned()),
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

    /// Starts a process that goes on.
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

    async fn process(&self, arguments: &[&str]) -> Said {
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

    /// Waits until so many messages are in the queue, and with nobody.
    async fn until_depth(&self, expected: u32) {
        let begun = SystemClock.now();
        loop {
            let depth = self.rabbit.depth(QUEUE).await.unwrap();
            if depth == Some(expected) {
                return;
            }
            let waited = SystemClock.now().duration_since(begun).unsigned_abs();
            assert!(
                waited < PATIENCE,
                "{depth:?} messages are in the queue, not {expected}"
            );
            SystemClock.sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test]
async fn the_queue_is_worked_off_although_the_command_is_killed_in_the_middle() {
    let deployment = Deployment::with_queue().await;
    let peer = &deployment.peer;
    deployment.push(1..=20).await;
    assert_eq!(deployment.process(&[]).await.code, Some(0));
    assert_eq!(peer.accepted(), pings(1..=20));
    deployment.until_depth(0).await;

    // It dies before it hears that pings were accepted.
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
    let said = deployment.process(&["--timeout", "0.5"]).await;
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert_eq!(peer.accepted(), pings(1..=40));
    assert!(
        peer.world().accepted.values().all(|&times| times == 1),
        "what was acknowledged was not done again"
    );
    deployment.until_depth(0).await;
}

#[tokio::test]
async fn no_send_prints_every_ping_and_leaves_every_message() {
    let deployment = Deployment::with_queue().await;
    deployment.push([7, 10]).await;
    deployment
        .publish(&json!({"payload": {"type": "newrepo.1", "data": {}}}))
        .await;
    for _ in 0..2 {
        let said = deployment.process(&["--no-send"]).await;
        assert_eq!(said.code, Some(0), "{}", said.err);
        let shown: Vec<Value> = said
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
            said.err.contains("showed the pings of a push, sent none"),
            "{}",
            said.err
        );
        assert!(
            said.err.contains("looked at 3 messages, sent nothing"),
            "{}",
            said.err
        );
        assert!(!said.err.contains("sent the pings"), "{}", said.err);
        deployment.until_depth(3).await;
    }
    assert_eq!(deployment.peer.accepted(), BTreeSet::new());
    let said = deployment.process(&["--no-send", "--follow"]).await;
    assert!(
        said.code == Some(2) && said.err.contains("cannot be used with"),
        "{}",
        said.err
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
async fn an_unreadable_message_is_kept_in_a_file_and_the_next_run_succeeds() {
    let deployment = Deployment::with_queue().await;
    let elsewhere = json!({
        "pushid": 1, "time": 1, "user": "ann@example.com", "push_json_url": "http://127.0.0.1:1/json-pushes",
        "push_full_json_url": "http://127.0.0.1:1/json-pushes",
    });
    let data = json!({"repo_url": deployment.peer.repository(), "heads": [], "pushlog_pushes": [elsewhere]});
    deployment
        .publish(&json!({"payload": {"type": "changegroup.1", "data": {}}}))
        .await;
    deployment
        .publish(&json!({"payload": {"type": "changegroup.1", "data": data}}))
        .await;
    deployment.push(1..=5).await;
    let looked = deployment.process(&["--no-send"]).await;
    assert_eq!(looked.code, Some(1), "{}", looked.err);
    deployment.until_depth(7).await;
    let usual = deployment
        .directory
        .path()
        .join(".local/state/code-review-events/telemetry/dead-letters.jsonl");
    assert!(!usual.exists(), "a dry run keeps nothing");

    let said = deployment.process(&[]).await;
    assert_eq!(said.code, Some(1), "{}", said.err);
    let expected = format!(
        "events: 2 messages could never be worked off: kept in {}, and taken off the queue\n",
        usual.display()
    );
    assert!(said.err.ends_with(&expected), "{}", said.err);
    assert_eq!(deployment.peer.accepted(), pings(1..=5));
    deployment.until_depth(0).await;
    let kept = dead_letters(&usual);
    let reasons: Vec<_> = kept
        .iter()
        .map(|letter| letter["reason"].as_str().unwrap())
        .collect();
    assert!(
        reasons
            .iter()
            .any(|reason| reason.contains("payload.data.missing field `repo_url`")),
        "{reasons:?}"
    );
    assert!(
        reasons
            .iter()
            .any(|reason| reason.contains("push_json_url: is not below")),
        "{reasons:?}"
    );
    for letter in &kept {
        assert_eq!(
            (&letter["exchange"], &letter["key"]),
            (&json!(EXCHANGE), &json!("mozilla-central"))
        );
        let body: Value = serde_json::from_str(letter["body"].as_str().unwrap()).unwrap();
        assert_eq!(body["payload"]["type"], "changegroup.1");
    }

    let said = deployment.process(&[]).await;
    assert_eq!(said.code, Some(0), "{}", said.err);
    let other = deployment.directory.path().join("other");
    deployment.publish(&json!(5)).await;
    let said = deployment
        .process(&["--dead-letters", other.to_str().unwrap()])
        .await;
    assert_eq!(said.code, Some(1), "{}", said.err);
    assert_eq!(
        (dead_letters(&other).len(), dead_letters(&usual).len()),
        (1, 2)
    );
}

#[tokio::test]
async fn a_message_stays_in_the_queue_while_no_file_can_keep_it() {
    let deployment = Deployment::with_queue().await;
    deployment.publish(&json!(5)).await;
    let folder = deployment.directory.path().to_str().unwrap();
    let said = deployment.process(&["--dead-letters", folder]).await;
    assert_eq!(said.code, Some(1), "{}", said.err);
    assert!(
        said.err.contains(&format!("cannot write to {folder}")),
        "{}",
        said.err
    );
    let left = "events: 1 message could not be worked off, and left in the queue for a later run\n";
    assert!(said.err.ends_with(left), "{}", said.err);
    deployment.until_depth(1).await;
}

#[tokio::test]
#[ignore = "slow: ./dev test --all"]
async fn a_push_whose_changeset_is_stripped_is_kept_in_the_file_when_it_comes_again() {
    let deployment = Deployment::with_queue().await;
    deployment.peer.world().missing.insert(nodes(3)[0].clone());
    deployment.push([3, 4]).await;
    for (left, ending) in [
        (1, "left in the queue for a later run"),
        (0, "and taken off the queue"),
    ] {
        let said = deployment.process(&[]).await;
        assert!(
            said.code == Some(1) && said.err.ends_with(&format!("{ending}\n")),
            "{}",
            said.err
        );
        deployment.until_depth(left).await;
    }
    assert_eq!(deployment.process(&[]).await.code, Some(0));
    assert_eq!(deployment.peer.accepted(), pings([4]));
}

#[tokio::test]
async fn following_goes_on_through_a_death_of_rabbitmq_until_a_signal() {
    let mut deployment = Deployment::with_queue().await;
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
async fn under_the_bus_every_push_has_its_pings_although_the_process_is_killed() {
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
    // They are on the bus now.
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
            SystemClock.now().duration_since(begun).unsigned_abs() < PATIENCE,
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
async fn one_ping_is_dumped_and_an_unknown_changeset_is_reported() {
    let directory = tempfile::tempdir().unwrap();
    let peer = Peer::start(20).await;
    let environment = servers(&peer, &directory);
    let node = &nodes(7)[0];
    for arguments in [
        &["dump-telemetry", node][..],
        &["dump-telemetry", &node[..20], "--debug"],
    ] {
        let said = telemetry(arguments, &environment, &directory).await;
        assert_eq!(said.code, Some(0), "{}", said.err);
        let expected = json!({
            "changesetID": node,
            "diffstat": {"changedFiles": 1, "additions": 1, "deletions": 1},
            "landingSystem": null,
            "reviewSystemUsed": "phabricator",
            "repository": peer.repository(),
            "pushDate": 1_795_228_696,
        });
        assert_eq!(serde_json::from_str::<Value>(&said.out).unwrap(), expected);
    }
    let backout = &nodes(8)[0];
    for (arguments, expected) in [
        (&["dump-telemetry", backout][..], "review_unneeded"),
        (&["dump-telemetry", backout, "--classic"], "phabricator"),
    ] {
        let said = telemetry(arguments, &environment, &directory).await;
        let ping: Value = serde_json::from_str(&said.out).unwrap();
        assert_eq!(ping["reviewSystemUsed"], expected, "{}", said.err);
    }
    let classic = environment
        .iter()
        .cloned()
        .chain([("TELEMETRY_CLASSIC".to_owned(), "1".to_owned())]);
    let said = telemetry(
        &["dump-telemetry", backout],
        &classic.collect::<Vec<_>>(),
        &directory,
    )
    .await;
    assert!(said.out.contains("\"phabricator\""), "{}", said.out);
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
async fn settings_stand_in_a_file_the_environment_wins_and_every_fault_is_reported_at_once() {
    let deployment = Deployment::with_queue().await;
    deployment.push([1]).await;
    let file: PathBuf = deployment.directory.path().join(".env");
    let lines: Vec<_> = deployment
        .environment()
        .iter()
        .map(|(name, value)| format!("{name}='{value}'\n"))
        .collect();
    std::fs::write(&file, "# ours\n".to_owned() + &lines.concat()).unwrap();
    let arguments = ["process-queue-messages", "--timeout", "0.5"];
    let wins = [(
        "TARGET_REPO".to_owned(),
        "https://hg.example.com/try".to_owned(),
    )];
    let said = telemetry(&arguments, &wins, &deployment.directory).await;
    assert!(
        said.code == Some(1) && said.err.contains("it is not below https://hg.example.com"),
        "{}",
        said.err
    );
    let said = telemetry(&arguments, &[], &deployment.directory).await;
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert_eq!(deployment.peer.accepted(), pings([1]));

    std::fs::write(
        &file,
        "PULSE_PASSWORD=hunter2\nSTATSD_PORT=hunter2\nBMO_API_URL=hunter2\n",
    )
    .unwrap();
    let mut both = vec![telemetry(&arguments, &[], &deployment.directory).await.err];
    let mut command = Command::new(env!("CARGO_BIN_EXE_events"));
    command
        .args(["run", "telemetry"])
        .env_clear()
        .current_dir(deployment.directory.path());
    both.push(String::from_utf8(command.output().await.unwrap().stderr).unwrap());
    for err in both {
        for name in [
            "PULSE_USERNAME",
            "PULSE_QUEUE_NAME",
            "PULSE_QUEUE_ROUTING_KEY",
            "STATSD_PORT",
            "BMO_API_URL",
        ] {
            assert!(err.contains(&format!("\n{name}: ")), "{err}");
        }
        assert!(!err.contains("hunter2"), "{err}");
    }
}

#[tokio::test]
async fn the_example_of_a_file_can_be_read_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../dotenv.example.txt");
    std::fs::copy(example, directory.path().join(".env")).unwrap();
    // Nobody is at home there, which is found out after the settings were read.
    let nobody = [
        ("PULSE_HOST".to_owned(), "127.0.0.1".to_owned()),
        ("PULSE_PORT".to_owned(), "1".to_owned()),
    ];
    let said = telemetry(&["process-queue-messages"], &nobody, &directory).await;
    assert_eq!(said.code, Some(1));
    assert!(
        said.err
            .contains("cannot connect to rabbitmq at amqps://127.0.0.1:1"),
        "{}",
        said.err
    );
}

#[tokio::test]
async fn statsd_receives_each_changeset_and_the_time() {
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
        let said = telemetry(dry, &environment, &deployment.directory).await;
        assert_eq!(said.code, Some(0), "{}", said.err);
    }
    let mut words = Vec::new();
    let mut read = [0; 1000];
    while words.len() < 5 {
        let length = tokio::time::timeout(PATIENCE, server.recv(&mut read))
            .await
            .unwrap()
            .unwrap();
        words.push(String::from_utf8(read[..length].to_vec()).unwrap());
    }
    assert_eq!(
        words[..4],
        ["commit_telemetry.job.items:1|c"; 4],
        "one for each changeset"
    );
    let time = words[4]
        .strip_prefix("commit_telemetry.job.time:")
        .and_then(|rest| rest.strip_suffix("|ms"))
        .unwrap();
    assert!(time.parse::<f64>().unwrap() > 0.0, "{time}");
    // Both commands have ended, and what they sent is here.
    assert!(
        server.try_recv(&mut read).is_err(),
        "a dry run is not counted"
    );
}
