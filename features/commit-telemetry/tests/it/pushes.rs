//! The path of a push from its message to its pings.

use std::{net::UdpSocket, sync::Arc, time::Duration};

use bus::{Backoff, Bus, Consumer, Depth, MemoryBus, Policy, Producer, Queue};
use commit_telemetry::PushHandler;
use observe::statsd::StatsD;
use pulse::{PulseMessage, Routing};
use runtime::ManualClock;
use serde_json::{Value, json};

use crate::{
    peers::{Fault, Peers, fixture},
    pings::{expected, sent},
};

/// Two attempts, the second after a minute or so.
const PUSHES: Queue<PulseMessage> = Queue::new(
    "pulse:pushes",
    Policy {
        attempts: 2,
        backoff: Backoff {
            first: Duration::from_secs(60),
            factor: 1,
            cap: Duration::from_secs(60),
        },
        ..Policy::DEFAULT
    },
);

/// The recorded messages, in the order of their pushes.
const MESSAGES: [&str; 8] = [
    "reviewed",
    "backout",
    "nobug",
    "uplift",
    "wptsync",
    "merge",
    "rename-binary-unicode",
    "ignore-this",
];

/// The handler on a bus.
struct Stage {
    peers: Peers,
    clock: Arc<ManualClock>,
    bus: Arc<dyn Bus>,
    consumer: Consumer,
}

impl Stage {
    async fn start() -> Self {
        Self::with_statsd(None).await
    }

    async fn with_statsd(statsd: Option<StatsD>) -> Self {
        let peers = Peers::start().await;
        let clock = Arc::new(ManualClock::new("2026-11-21T04:00:00Z".parse().unwrap()));
        let bus: Arc<dyn Bus> = Arc::new(MemoryBus::new(clock.clone()));
        let mut handler = PushHandler::new(peers.telemetry(), peers.root.clone());
        if let Some(statsd) = statsd {
            handler = handler.with_statsd(statsd);
        }
        Self {
            consumer: Consumer::new(bus.clone(), clock.clone(), PUSHES, handler),
            peers,
            clock,
            bus,
        }
    }

    /// The body of a recorded message, with the address of these peers.
    fn message(&self, name: &str) -> Value {
        let recorded = self
            .peers
            .moved(&fixture(&format!("hgpush/v2-{name}.json")));
        serde_json::from_str::<Value>(&recorded).unwrap()["body"].clone()
    }

    async fn deliver(&self, body: impl ToString) {
        let routing = Routing {
            exchange: "exchange/hgpushes/v2".to_owned(),
            key: "mozilla-central".to_owned(),
            other_routes: Vec::new(),
        };
        let message = PulseMessage {
            routing,
            body: body.to_string().into_bytes().into(),
        };
        Producer::new(self.bus.clone(), self.clock.clone())
            .send(&PUSHES, &message)
            .await
            .unwrap();
        assert_eq!(self.consumer.step().await.unwrap(), 1);
    }

    /// Advances the clock to the next delivery.
    async fn redeliver(&self) {
        self.clock.advance(Duration::from_secs(70));
        assert_eq!(self.consumer.step().await.unwrap(), 1);
    }

    async fn depth(&self) -> Depth {
        self.bus.depth(&PUSHES.spec()).await.unwrap()
    }

    /// Checks that the only message is delayed.
    async fn assert_delayed(&self) {
        let delayed = Depth {
            delayed: 1,
            ..Depth::default()
        };
        assert_eq!(self.depth().await, delayed);
    }

    /// Checks that the only message is a dead letter.
    async fn assert_dead(&self) {
        let dead = Depth {
            dead: 1,
            ..Depth::default()
        };
        assert_eq!(self.depth().await, dead);
    }

    /// The reason of the only dead letter.
    async fn dead_letter_reason(&self) -> String {
        let letters = self.bus.dead(&PUSHES.spec(), "", 100).await.unwrap();
        assert_eq!(letters.len(), 1);
        letters[0].reason.clone()
    }
}

fn sorted(mut pings: Vec<Value>) -> Vec<Value> {
    pings.sort_by_key(|ping| ping["path"].as_str().unwrap().to_owned());
    pings
}

#[tokio::test]
async fn recorded_pushes_produce_recorded_pings() {
    let stage = Stage::start().await;
    for name in MESSAGES {
        stage
            .deliver(stage.message(&format!("changegroup-{name}")))
            .await;
    }
    assert_eq!(sorted(sent(&stage.peers)), sorted(expected(&stage.peers)));
    assert_eq!(stage.depth().await, Depth::default());
}

#[tokio::test]
async fn messages_without_exactly_one_push_are_skipped() {
    let stage = Stage::start().await;
    for name in ["newrepo", "obsolete", "changegroup-zero-pushes"] {
        stage
            .deliver(
                stage
                    .message(name)
                    .to_string()
                    .replace("https://hg.mozilla.org", &stage.peers.address("")),
            )
            .await;
    }
    let two = stage.message("changegroup-two-pushes").to_string();
    stage
        .deliver(two.replace("https://hg.mozilla.org", &stage.peers.address("")))
        .await;
    assert_eq!(stage.depth().await, Depth::default());
    assert_eq!(stage.peers.seen(""), []);
}

#[tokio::test]
async fn malformed_message_becomes_dead_letter_naming_the_field() {
    let stage = Stage::start().await;
    let good = stage.message("changegroup-reviewed");
    let with = |pointer: &str, value: Value| {
        let mut message = good.clone();
        *message.pointer_mut(pointer).unwrap() = value;
        message.to_string()
    };
    for (body, problem) in [
        ("no json".to_owned(), "expected ident"),
        (format!("{good}{good}"), "trailing characters"),
        ("{}".to_owned(), "missing field `payload`"),
        (
            r#"{"payload": {}}"#.to_owned(),
            "payload: missing field `type`",
        ),
        (
            with("/payload/type", json!(1)),
            "payload.type: invalid type",
        ),
        (with("/payload/data", json!([])), "payload.data."),
        (with("/payload/data", json!({})), "missing field `repo_url`"),
        (
            with("/payload/data/repo_url", json!("file:///etc/passwd")),
            "payload.data.repo_url: ",
        ),
        (
            with(
                "/payload/data/repo_url",
                json!("http://me:secret@127.0.0.1/x"),
            ),
            "payload.data.repo_url: ",
        ),
        (
            with("/payload/data/pushlog_pushes", json!(5)),
            "payload.data.pushlog_pushes: invalid type",
        ),
        (
            with("/payload/data/pushlog_pushes/0/pushid", json!(-1)),
            "payload.data.pushlog_pushes[0].pushid: invalid value",
        ),
        (
            with("/payload/data/pushlog_pushes/0/push_json_url", json!("x")),
            "payload.data.pushlog_pushes[0].push_json_url: ",
        ),
    ] {
        let stage = Stage::start().await;
        stage.deliver(&body).await;
        let reason = stage.dead_letter_reason().await;
        assert!(reason.contains(problem), "{body}: {reason}");
        assert!(
            reason.contains("exchange/hgpushes/v2 with routing key mozilla-central"),
            "{reason}"
        );
        assert!(!reason.contains("secret"), "{reason}");
        stage.assert_dead().await;
        assert_eq!(stage.peers.seen(""), []);
    }
}

#[tokio::test]
async fn requests_stay_on_known_server_and_below_repository() {
    for (pointer, address) in [
        ("/payload/data/repo_url", "http://169.254.169.254/latest"),
        (
            "/payload/data/repo_url",
            "http://127.0.0.1:1/mozilla-central",
        ),
        (
            "/payload/data/pushlog_pushes/0/push_json_url",
            "http://169.254.169.254/mozilla-central/json-pushes",
        ),
        (
            "/payload/data/pushlog_pushes/0/push_json_url",
            "OWN/rest/bug/1/attachment",
        ),
        (
            "/payload/data/pushlog_pushes/0/push_json_url",
            "OWN/mozilla-central/../rest/bug/1/history",
        ),
    ] {
        let stage = Stage::start().await;
        let own = stage.peers.address("");
        let mut message = stage.message("changegroup-reviewed");
        *message.pointer_mut(pointer).unwrap() = json!(address.replace("OWN", &own));
        stage.deliver(message).await;
        let reason = stage.dead_letter_reason().await;
        assert!(reason.contains("is not below"), "{address}: {reason}");
        assert_eq!(stage.peers.seen(""), []);
    }
}

#[tokio::test]
async fn push_survives_outage_of_each_service() {
    for service in [
        "/json-pushes",
        "/json-rev/",
        "/raw-rev/",
        "/rest/",
        "/submit/",
    ] {
        let stage = Stage::start().await;
        // Far longer than its attempts last.
        for _ in 0..5 {
            for _ in 0..8 {
                stage.peers.outage(service, 503);
            }
        }
        stage.deliver(stage.message("changegroup-reviewed")).await;
        let mut waited = 0;
        while stage.depth().await != Depth::default() {
            assert_eq!(
                stage.depth().await,
                Depth {
                    delayed: 1,
                    ..Depth::default()
                },
                "{service}"
            );
            waited += 1;
            assert!(waited < 100, "{service} recovered long ago");
            stage.redeliver().await;
        }
        assert!(waited > 2, "{service}");
        // Every ping arrived; repeats have the same id.
        let mut pings = sorted(sent(&stage.peers));
        pings.dedup();
        assert_eq!(
            pings,
            sorted(expected(&stage.peers)[..2].to_vec()),
            "{service}"
        );
    }
}

#[tokio::test]
async fn changeset_without_ping_does_not_block_others() {
    let stage = Stage::start().await;
    // Push 1 has two changesets.
    for _ in 0..2 {
        stage
            .peers
            .fail("/submit/eng-workflow/hgpush/1/30b686e0", Fault::status(413));
    }
    stage.deliver(stage.message("changegroup-reviewed")).await;
    let reason = stage.dead_letter_reason().await;
    assert!(
        reason.contains("1 of 2 changesets of push 1 to"),
        "{reason}"
    );
    assert!(
        reason.contains("30b686e0c48bde03742fb29c17ff80e54b3712a4"),
        "{reason}"
    );
    assert!(reason.ends_with("it is too large"), "{reason}");
    assert_eq!(
        stage
            .peers
            .seen("/submit/eng-workflow/hgpush/1/5621210e")
            .len(),
        1
    );
}

#[tokio::test]
async fn failing_changeset_does_not_block_others() {
    let stage = Stage::start().await;
    stage.peers.outage("/json-rev/30b686e0", 500);
    stage.deliver(stage.message("changegroup-reviewed")).await;
    stage.assert_delayed().await;
    assert_eq!(
        stage
            .peers
            .seen("/submit/eng-workflow/hgpush/1/5621210e")
            .len(),
        1
    );
    stage.peers.outage("/json-rev/30b686e0", 500);
    // The push is not deferred without end.
    stage.redeliver().await;
    stage.assert_dead().await;
    assert!(stage.dead_letter_reason().await.contains("30b686e0"));
}

#[tokio::test]
async fn outage_defers_long_push_without_processing_all_of_it() {
    let stage = Stage::start().await;
    let nodes: Vec<_> = (0..1000).map(|number| format!("{number:040x}")).collect();
    stage.peers.fail(
        "/json-pushes",
        Fault::body(json!({"pushes": {"1": {"changesets": nodes}}}).to_string()),
    );
    for _ in 0..1000 {
        stage.peers.outage("/json-rev/", 503);
    }
    stage.deliver(stage.message("changegroup-reviewed")).await;
    stage.assert_delayed().await;
    assert!(stage.peers.seen("/json-rev/").len() < 100);
}

#[tokio::test]
async fn missing_changeset_is_retried() {
    let stage = Stage::start().await;
    stage.peers.fail("/json-rev/30b686e0", Fault::status(404));
    stage.deliver(stage.message("changegroup-reviewed")).await;
    stage.assert_delayed().await;
    stage.redeliver().await;
    assert_eq!(stage.depth().await, Depth::default());
}

#[tokio::test]
async fn permanently_missing_changeset_becomes_dead_letter() {
    let stage = Stage::start().await;
    for _ in 0..2 {
        stage.peers.fail("/json-rev/30b686e0", Fault::status(404));
    }
    stage.deliver(stage.message("changegroup-reviewed")).await;
    stage.redeliver().await;
    assert!(
        stage
            .dead_letter_reason()
            .await
            .contains("no such changeset")
    );
    stage.assert_dead().await;
}

/// The counts of changesets that have arrived.
fn counts(server: &UdpSocket) -> Vec<String> {
    let mut counts = Vec::new();
    let mut read = [0; 100];
    while let Ok(length) = server.recv(&mut read) {
        counts.push(String::from_utf8_lossy(&read[..length]).into_owned());
    }
    counts.retain(|line| line.contains("job.items"));
    counts
}

#[tokio::test]
async fn push_is_counted_once_when_it_is_done_or_given_up() {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    server.set_nonblocking(true).unwrap();
    let port = server.local_addr().unwrap().port();
    let statsd = StatsD::open("127.0.0.1", port, "telemetry").await.unwrap();
    for failures in 1..=2 {
        let stage = Stage::with_statsd(Some(statsd.clone())).await;
        for _ in 0..failures {
            stage.peers.fail("/json-rev/30b686e0", Fault::status(404));
        }
        stage.deliver(stage.message("changegroup-reviewed")).await;
        stage.assert_delayed().await;
        assert_eq!(counts(&server), [""; 0], "it will be retried");
        stage.redeliver().await;
        match failures {
            1 => assert_eq!(stage.depth().await, Depth::default()),
            _ => stage.assert_dead().await,
        }
        assert_eq!(counts(&server), ["telemetry.job.items:2|c"]);
    }
}

#[tokio::test]
async fn changesets_of_a_push_are_handled_concurrently_within_bound() {
    let stage = Stage::start().await;
    let nodes: Vec<_> = (0..32).map(|number| format!("{number:040x}")).collect();
    stage.peers.fail(
        "/json-pushes",
        Fault::body(json!({"pushes": {"1": {"changesets": nodes}}}).to_string()),
    );
    for node in &nodes {
        let changeset =
            json!({"node": node, "desc": "", "user": "", "parents": [], "pushdate": [1, 0]});
        stage.peers.fail(
            &format!("/json-rev/{node}"),
            Fault::body(changeset.to_string()),
        );
    }
    // The server answers when eight requests are waiting.
    stage.peers.gate("/json-rev/", 8);
    stage.deliver(stage.message("changegroup-reviewed")).await;
    assert_eq!(stage.depth().await, Depth::default());
    assert_eq!(stage.peers.seen("/submit/").len(), 32);
    // A changeset is in flight from its first request to its ping.
    let (mut begun, mut most) = (0, 0);
    for seen in stage.peers.seen("") {
        begun +=
            i32::from(seen.path.contains("/json-rev/")) - i32::from(seen.path.contains("/submit/"));
        most = most.max(begun);
    }
    assert_eq!(most, 8);
}

#[tokio::test]
async fn push_missing_from_pushlog_is_retried() {
    let stage = Stage::start().await;
    for body in [
        r#"{"pushes": {}}"#,
        r#"{"pushes": {"2": {"changesets": []}}}"#,
    ] {
        stage.peers.fail("/json-pushes", Fault::body(body));
    }
    stage.deliver(stage.message("changegroup-reviewed")).await;
    stage.redeliver().await;
    assert!(
        stage
            .dead_letter_reason()
            .await
            .contains("pushes.1: missing")
    );
}
