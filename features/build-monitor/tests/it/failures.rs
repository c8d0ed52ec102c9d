//! Failing, hanging and slow handlers, and outages of RabbitMQ.

use std::{sync::Arc, time::Duration};

use build_monitor::{BuildFinished, BuildMonitor, Source, TestFinished};
use futures::StreamExt;
use pulse::PulseError;
use tokio::sync::Notify;

use crate::world::{
    BUILDS, Received, counted, logged, logged_lines, own_rabbit, publish_all, publish_build,
    publish_build_on, rabbit, reconnects, until, until_listening, until_passing_listens,
};

#[tokio::test]
async fn failing_handlers_do_not_stop_monitor() {
    let rabbit = rabbit().await;
    let received = Received::default();
    let tests = received.clone();
    let mut monitor = BuildMonitor::builder()
        .label("faulty")
        .trees([""; 0])
        .concurrency(2)
        .time_limit(Duration::from_millis(50))
        .on_build(async |build: BuildFinished| match &*build.tree {
            "panics" => panic!("a handler of a test"),
            "hangs" => std::future::pending().await,
            tree => Err(format!("it does not like {tree}")),
        })
        .on_test(move |test: TestFinished| {
            tests.note(test);
            async { Ok::<(), PulseError>(()) }
        })
        .start(rabbit.settings())
        .unwrap();
    until_listening("faulty", 1).await;
    for (number, tree) in ["panics", "hangs", "fails"]
        .iter()
        .cycle()
        .take(12)
        .enumerate()
    {
        publish_build(&rabbit, tree, number).await;
    }
    publish_all(&rabbit).await;
    // Wait for the builds too: one may arrive after the last test.
    until("all builds and tests", async || {
        counted("faulty").get("build_monitor_accepted_total") == Some(&24.0)
            && received.count() == 4
    })
    .await;
    monitor.stop();
    monitor.join().await.unwrap();
    assert_eq!(
        counted("faulty")["build_monitor_handlers_failed_total"],
        20.0
    );
    for (key, problem) in [
        ("panics 0", "it panicked: a handler of a test"),
        ("hangs 1", "it took too long and was cancelled"),
        ("fails 2", "it does not like fails"),
    ] {
        assert_eq!(
            logged_lines(&["ERROR", &format!("key=\"{key}\""), problem]),
            1,
            "{}",
            logged()
        );
    }
}

#[tokio::test]
async fn overload_drops_oldest_and_keeps_queue_empty() {
    let rabbit = rabbit().await;
    let (received, gate) = (Received::default(), Arc::new(Notify::new()));
    let (builds, open) = (received.clone(), Arc::clone(&gate));
    let mut monitor = BuildMonitor::builder()
        .label("slow")
        .trees(["slow"])
        .concurrency(1)
        .on_build(move |build: BuildFinished| {
            let (builds, open) = (builds.clone(), Arc::clone(&open));
            async move {
                if build.key == "slow 0" {
                    open.notified().await;
                }
                builds.note(build);
                Ok::<(), PulseError>(())
            }
        })
        .start(rabbit.settings())
        .unwrap();
    until_listening("slow", 1).await;
    publish_build(&rabbit, "slow", 0).await;
    until("the first to be taken", async || {
        counted("slow").get("build_monitor_accepted_total") == Some(&1.0)
    })
    .await;
    // The handler has it before the others arrive, or it is the first to be dropped.
    let all = 1_200;
    futures::stream::iter(1..all)
        .map(|number| publish_build(&rabbit, "slow", number))
        .buffered(50)
        .collect::<()>()
        .await;
    until("all to be taken", async || {
        counted("slow")["build_monitor_accepted_total"] == all as f64
    })
    .await;
    assert_eq!(
        rabbit.depth("queue/pulseuser/slow").await.unwrap(),
        Some(0),
        "the queue is not held up"
    );
    let dropped = counted("slow")["build_monitor_dropped_total"];
    assert!((199.0..=200.0).contains(&dropped), "{dropped}");
    assert_eq!(
        logged_lines(&["WARN", "key=\"slow ", "dropping the oldest events"]),
        1
    );
    gate.notify_one();
    monitor.stop();
    monitor.join().await.unwrap();
    assert_eq!(received.count(), all - dropped as usize);
    let keys = received.all("key");
    assert!(
        (200..all).all(|number| keys.contains(&format!("slow {number}"))),
        "the newest are delivered"
    );
}

/// The exchange of the server that is restarted.
const RESTARTED: &str = "exchange/build/restarted";

#[tokio::test]
async fn monitor_survives_restart_of_rabbitmq() {
    let mut rabbit = own_rabbit().await;
    let (received, passing) = (Received::default(), Received::default());
    rabbit.declare_exchange(RESTARTED).await.unwrap();
    let builder = |received: &Received| {
        received
            .monitor()
            .trees(["again"])
            .source(Source::buildbot().on(RESTARTED))
    };
    let monitor = builder(&received)
        .label("again")
        .start(rabbit.settings())
        .unwrap();
    let other = builder(&passing).start(rabbit.settings()).unwrap();
    until_listening("again", 1).await;
    until_passing_listens(RESTARTED, 1).await;
    publish_build_on(&rabbit, RESTARTED, "again", 1).await;
    until("the first", async || {
        received.count() == 1 && passing.count() == 1
    })
    .await;
    rabbit.restart().await.unwrap();
    until_listening("again", 2).await;
    until_passing_listens(RESTARTED, 2).await;
    publish_build_on(&rabbit, RESTARTED, "again", 2).await;
    for received in [&received, &passing] {
        until("the second", async || {
            let mut keys = received.all("key");
            // The server may have died before it received the acknowledgement of the first.
            keys.dedup();
            keys == ["again 1", "again 2"]
        })
        .await;
    }
    assert_eq!(reconnects("again"), 1.0);
    rabbit.kill().unwrap();
    for mut monitor in [monitor, other] {
        monitor.stop();
        monitor.join().await.unwrap();
    }
}

#[tokio::test]
async fn fault_at_start_ends_monitor_with_its_cause() {
    let rabbit = rabbit().await;
    let missing = "exchange/build/none";
    let mut password = rabbit.settings();
    password.password = "not the password".into();
    let mut vhost = rabbit.settings();
    vhost.vhost = "nowhere".to_owned();
    for (settings, source, expected) in [
        (
            rabbit.settings(),
            Source::buildbot().on(missing),
            format!("cannot find the exchange {missing}: correct the name"),
        ),
        (
            rabbit.settings(),
            Source::buildbot().on("amq.topic"),
            "user pulseuser may not".to_owned(),
        ),
        (
            password,
            Source::buildbot(),
            "does not accept user pulseuser".to_owned(),
        ),
        (
            vhost,
            Source::buildbot(),
            "cannot use the virtual host nowhere".to_owned(),
        ),
    ] {
        let mut monitor = Received::default()
            .monitor()
            .source(source.clone())
            .start(settings.clone())
            .unwrap();
        let fault = monitor.join().await.unwrap_err();
        assert!(fault.to_string().contains(&expected), "{fault}");
        monitor.join().await.unwrap();
        let mut stream = Box::pin(
            BuildMonitor::builder()
                .source(source)
                .stream(settings)
                .unwrap(),
        );
        let fault = stream.next().await.unwrap().unwrap_err();
        assert!(fault.to_string().contains(&expected), "{fault}");
        assert!(stream.next().await.is_none());
    }
    let mut monitor = Received::default()
        .monitor()
        .source(Source::buildbot().on(missing))
        .label("mistaken")
        .start(rabbit.settings())
        .unwrap();
    monitor.join().await.unwrap_err();
    assert_eq!(
        rabbit.depth("queue/pulseuser/mistaken").await.unwrap(),
        None,
        "no durable queue is left behind"
    );
}

#[tokio::test]
async fn exchange_deleted_later_is_awaited_and_logged_once() {
    let rabbit = rabbit().await;
    let received = Received::default();
    let mut monitor = received
        .monitor()
        .trees(["later"])
        .label("later")
        .start(rabbit.settings())
        .unwrap();
    until_listening("later", 1).await;
    // The monitor connects again, and finds no exchange to bind its queue to.
    rabbit.delete_exchange(BUILDS).await.unwrap();
    rabbit.delete_queue("queue/pulseuser/later").await.unwrap();
    let gone = [
        "WARN",
        "cannot listen to pulse",
        "cannot find the exchange exchange/build/normalized",
    ];
    until("the missing exchange to be logged", async || {
        logged_lines(&gone) == 1
    })
    .await;
    rabbit.declare_exchange(BUILDS).await.unwrap();
    until_listening("later", 2).await;
    publish_build(&rabbit, "later", 1).await;
    until("an event", async || received.count() == 1).await;
    assert_eq!(logged_lines(&gone), 1, "{}", logged());
    monitor.stop();
    monitor.join().await.unwrap();
}
