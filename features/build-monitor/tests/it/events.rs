//! The events that reach handlers.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use build_monitor::{BuildMonitor, BuildMonitorBuilder, Event, Source, TestFinished};
use futures::StreamExt;
use pulse::{PulseError, PulseMessage};
use serde_json::Value;
use testkit::RabbitServer;

use crate::world::{
    BUILDS, JOBS, Received, counted, fixture, logged, logged_lines, message, publish_all,
    publish_build, rabbit, until, until_listening, until_passing_listens,
};

/// The callbacks of this monitor's predecessor for the same messages, recorded with a filter on these platforms and with
/// talos. It passed whole payloads, of which only our fields are compared. Its documentation promised another form of
/// `timestamp`, `mobile` and `branch`, which the program did not have.
fn expected_tests() -> Vec<Value> {
    let recorded = fixture("pulsebuildmonitor-callbacks-tests.json");
    let payloads = recorded.as_array().unwrap().iter().map(|call| {
        assert_eq!(call["callback"], "on_test_complete");
        let payload = &call["payload"];
        let mut event = serde_json::Map::new();
        for field in [
            "tree",
            "os",
            "platform",
            "buildtype",
            "builddate",
            "test",
            "logurl",
            "talos",
            "product",
            "key",
        ] {
            event.insert(field.to_owned(), payload[field].clone());
        }
        let timestamp: String = payload["timestamp"]
            .as_str()
            .unwrap()
            .chars()
            .filter(char::is_ascii_digit)
            .collect();
        event.insert("timestamp".to_owned(), timestamp.into());
        event.insert("branch".to_owned(), payload["tree"].clone());
        event.insert("mobile".to_owned(), false.into());
        Value::Object(event)
    });
    sorted(payloads.collect())
}

fn sorted(mut events: Vec<Value>) -> Vec<Value> {
    events.sort_by_key(ToString::to_string);
    events
}

#[tokio::test]
async fn recorded_messages_are_sent_as_by_the_predecessor() {
    let rabbit = rabbit().await;
    let received = Received::default();
    let tests = received.clone();
    let monitor = BuildMonitor::builder()
        .label("recorded")
        .platforms(["linux64", "win32"])
        .talos(true)
        .on_test(move |test: TestFinished| {
            tests.note(test);
            async { Ok::<(), PulseError>(()) }
        })
        .start(rabbit.settings())
        .unwrap();
    let everything = Received::default();
    let all = everything
        .monitor()
        .label("everything")
        .trees([""; 0])
        .talos(true)
        .start(rabbit.settings())
        .unwrap();
    until_listening("recorded", 1).await;
    until_listening("everything", 1).await;
    publish_all(&rabbit).await;
    until("all events", async || everything.count() == 13).await;
    until("the tests", async || received.count() == 3).await;
    for mut monitor in [monitor, all] {
        monitor.stop();
        monitor.join().await.unwrap();
    }
    assert_eq!(sorted(received.0.lock().clone()), expected_tests());
    assert_eq!(
        everything
            .all("buildtype")
            .iter()
            .filter(|kind| *kind == "debug")
            .count(),
        3
    );
    // The queue asked for no more than it wanted, and all of it was acknowledged.
    assert_eq!(counted("recorded")["build_monitor_messages_total"], 3.0);
    assert_eq!(counted("everything")["build_monitor_accepted_total"], 13.0);
    for label in ["recorded", "everything"] {
        assert_eq!(
            rabbit
                .depth(&format!("queue/pulseuser/{label}"))
                .await
                .unwrap(),
            Some(0)
        );
    }
}

/// They share a server, which takes seconds to start.
#[tokio::test]
async fn monitor_sends_what_its_filters_select() {
    let rabbit = rabbit().await;
    filters_select_topics_and_events(&rabbit).await;
    treeherder_jobs_become_events(&rabbit).await;
    stream_has_builds_and_tests_and_its_queue_ends_with_it(&rabbit).await;
    on_pulse_gets_every_message(&rabbit).await;
    durable_queue_keeps_messages_without_listener(&rabbit).await;
    invalid_monitor_does_not_start(&rabbit);
}

async fn filters_select_topics_and_events(rabbit: &RabbitServer) {
    let none = || {
        BuildMonitor::builder()
            .trees([""; 0])
            .mobile(None)
            .talos(true)
    };
    // The number of messages that the queue is bound to, and of those that its handlers receive.
    let cases: Vec<(&str, BuildMonitorBuilder, usize, usize)> = vec![
        ("tree", BuildMonitor::builder().talos(true), 7, 7),
        ("trees", none().trees(["try", "mozilla-aurora"]), 2, 2),
        ("platform", none().platforms(["macosx64"]), 3, 3),
        ("type", none().build_types(["debug", "pgo"]), 4, 4),
        ("test", none().tests(["xpcshell"]), 10, 10),
        ("product", none().products(["fennec"]), 8, 0),
        ("tags", none().build_tags(["nightly", "l10n"]), 13, 6),
        (
            "any",
            none().any_build_tags([vec!["nightly"], vec!["pgo", "x"]]),
            13,
            7,
        ),
        ("mobile", none().mobile(true), 13, 0),
        ("desktop", none().mobile(false), 13, 13),
        ("talos", none().talos(false), 12, 12),
        (
            "both",
            none()
                .trees(["mozilla-central"])
                .platforms(["linux64"])
                .build_types(["opt"]),
            2,
            2,
        ),
    ];
    let mut running = Vec::new();
    for (name, builder, routed, expected) in cases {
        let label = format!("filter-{name}");
        let mut stream = Box::pin(builder.label(&*label).stream(rabbit.settings()).unwrap());
        until_listening(&label, 1).await;
        let received = Arc::new(AtomicUsize::new(0));
        let counting = Arc::clone(&received);
        let counting = tokio::spawn(async move {
            while stream.next().await.is_some() {
                counting.fetch_add(1, Ordering::SeqCst);
            }
        });
        running.push((label, routed, expected, received, counting));
    }
    publish_all(rabbit).await;
    for (label, routed, expected, received, counting) in running {
        let count = |name: &str| counted(&label).get(name).copied().unwrap_or_default();
        until(&format!("{label} to have read {routed}"), async || {
            count("build_monitor_messages_total") == routed as f64
        })
        .await;
        // All was read, so nothing more is accepted.
        let accepted = count("build_monitor_accepted_total");
        assert_eq!(accepted, expected as f64, "{label}");
        until(
            &format!("{label} to have received {expected}"),
            async || received.load(Ordering::SeqCst) == expected,
        )
        .await;
        counting.abort();
    }
}

async fn treeherder_jobs_become_events(rabbit: &RabbitServer) {
    let received = Received::default();
    let builder = received
        .monitor()
        .source(Source::treeherder())
        .trees(["autoland"])
        .label("jobs");
    let mut monitor = builder
        .build_types(["debug"])
        .products(["firefox"])
        .start(rabbit.settings())
        .unwrap();
    until_listening("jobs", 1).await;
    let samples = fs::read("tests/fixtures/treeherder/pulse-jobs-samples.json").unwrap();
    let samples: Vec<Value> = serde_json::from_slice(&samples).unwrap();
    for project in ["try", "autoland"] {
        for mut job in samples.clone() {
            job["origin"]["project"] = project.into();
            rabbit
                .publish(&message(
                    JOBS,
                    &format!("primary.{project}._"),
                    &job.to_string(),
                ))
                .await
                .unwrap();
        }
    }
    until("the jobs", async || received.count() == samples.len()).await;
    monitor.stop();
    monitor.join().await.unwrap();
    assert_eq!(received.all("tree"), vec!["autoland"; samples.len()]);
    assert_eq!(received.all("test")[0], "jsreftest-2");
}

async fn stream_has_builds_and_tests_and_its_queue_ends_with_it(rabbit: &RabbitServer) {
    let mut stream = Box::pin(BuildMonitor::builder().stream(rabbit.settings()).unwrap());
    let queue = until_passing_listens(BUILDS, 1).await;
    publish_all(rabbit).await;
    let (mut builds, mut tests) = (0, 0);
    for _ in 0..6 {
        match stream.next().await.unwrap().unwrap() {
            Event::Build(build) => {
                assert_eq!(build.tree, "mozilla-central");
                builds += 1;
            }
            Event::Test(test) => {
                assert!(!test.talos);
                tests += 1;
            }
        }
    }
    assert_eq!((builds, tests), (3, 3));
    drop(stream);
    until("its queue to end", async || {
        matches!(rabbit.depth(&queue).await, Ok(None))
    })
    .await;
}

async fn on_pulse_gets_every_message(rabbit: &RabbitServer) {
    let (received, raw) = (Received::default(), Received::default());
    let messages = raw.clone();
    let builder = received
        .monitor()
        .platforms(["win32"])
        .label("raw")
        .on_pulse(move |message: PulseMessage| {
            messages.note(message.routing.key);
            async { Ok::<(), PulseError>(()) }
        });
    let mut monitor = builder.start(rabbit.settings()).unwrap();
    until_listening("raw", 1).await;
    for (key, body) in [
        ("build.x", "{}"),
        ("unittest.a.b.c.d.e.f.g", "no json"),
        ("talos.\u{1b}[2J", ""),
    ] {
        rabbit.publish(&message(BUILDS, key, body)).await.unwrap();
    }
    let large = "x".repeat(300 * 1024);
    rabbit
        .publish(&message(BUILDS, "build.a.b.c.large", &large))
        .await
        .unwrap();
    let wide = format!(
        "{{\"payload\": {{\"buildurl\": \"{}\"}}}}",
        "x".repeat(20_000)
    );
    rabbit
        .publish(&message(
            BUILDS,
            "build.mozilla-central.win32.c.wide",
            &wide,
        ))
        .await
        .unwrap();
    publish_all(rabbit).await;
    until("all messages to be read", async || {
        counted("raw").get("build_monitor_messages_total") == Some(&18.0)
    })
    .await;
    monitor.stop();
    monitor.join().await.unwrap();
    let keys = raw.0.lock().clone();
    assert_eq!(
        keys.len(),
        17,
        "all but the one that is too large to wait in memory"
    );
    assert!(
        !keys.contains(&"build.a.b.c.large".into()) && keys.contains(&"build.x".into()),
        "{keys:?}"
    );
    assert_eq!(received.count(), 2);
    assert_eq!(counted("raw")["build_monitor_parse_errors_total"], 5.0);
    // Logged once, without control characters.
    assert_eq!(
        logged_lines(&[
            "ERROR",
            "key=\"build.x\"",
            "cannot read a build or a test from a message"
        ]),
        1
    );
    assert_eq!(logged_lines(&["key=\"build.a.b.c.large\""]), 0);
    assert!(!logged().contains('\u{1b}'));
}

async fn durable_queue_keeps_messages_without_listener(rabbit: &RabbitServer) {
    let received = Received::default();
    let builder = || received.monitor().trees(["kept"]).label("kept");
    let mut monitor = builder().start(rabbit.settings()).unwrap();
    until_listening("kept", 1).await;
    monitor.stop();
    monitor.join().await.unwrap();
    publish_build(rabbit, "kept", 1).await;
    let mut monitor = builder().start(rabbit.settings()).unwrap();
    until("what came meanwhile", async || {
        received.all("key") == ["kept 1"]
    })
    .await;
    // After a deletion.
    rabbit.delete_queue("queue/pulseuser/kept").await.unwrap();
    until_listening("kept", 3).await;
    publish_build(rabbit, "kept", 2).await;
    until("what comes after that", async || {
        received.all("key") == ["kept 1", "kept 2"]
    })
    .await;
    assert_eq!(
        logged_lines(&["ERROR", "queue=\"queue/pulseuser/kept\"", "was deleted"]),
        1
    );
    monitor.stop();
    monitor.join().await.unwrap();
}

fn invalid_monitor_does_not_start(rabbit: &RabbitServer) {
    let long = "x".repeat(300);
    let received = Received::default();
    for (error, expected) in [
        (
            BuildMonitor::builder().start(rabbit.settings()).err(),
            "has no handler",
        ),
        (
            received.monitor().stream(rabbit.settings()).err(),
            "has handlers, which a stream would never call",
        ),
        (
            received
                .monitor()
                .label(&*long)
                .start(rabbit.settings())
                .err(),
            "the queue \"queue/pulseuser/xxx",
        ),
        (
            received
                .monitor()
                .trees([&*long])
                .start(rabbit.settings())
                .err(),
            "the topic \"build.xxx",
        ),
        (
            received
                .monitor()
                .source(Source::buildbot().on(&*long))
                .start(rabbit.settings())
                .err(),
            "the exchange \"xxx",
        ),
    ] {
        let error = error.map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains(expected), "{expected}: {error}");
    }
}
