//! Handlers fail, hang or are slow, and RabbitMQ goes away.

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use pulse::{
    PulseError,
    monitor::{BuildFinished, BuildMonitor, Source, TestFinished},
};
use tokio::sync::Notify;

use super::{
    Told, counted, own_rabbit, publish_all, publish_build, publish_build_on, rabbit, said,
    until_listening, until_passing_listens,
};
use crate::world::{logged, until};

#[tokio::test]
async fn failing_handlers_do_not_stop_monitor() {
    let rabbit = rabbit().await;
    let told = Told::default();
    let tests = told.clone();
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
    // All that it wants has been read: a build may come after the last test.
    until("all builds and tests", async || {
        counted("faulty").get("pulse_monitor_accepted_total") == Some(&24.0) && told.count() == 4
    })
    .await;
    monitor.stop();
    monitor.join().await.unwrap();
    assert_eq!(
        counted("faulty")["pulse_monitor_handlers_failed_total"],
        20.0
    );
    for (key, problem) in [
        ("panics 0", "it panicked: a handler of a test"),
        ("hangs 1", "it took too long, and was given up"),
        ("fails 2", "it does not like fails"),
    ] {
        assert_eq!(
            said(&["ERROR", &format!("key=\"{key}\""), problem]),
            1,
            "{}",
            logged()
        );
    }
}

#[tokio::test]
async fn overload_drops_oldest_and_keeps_queue_empty() {
    let rabbit = rabbit().await;
    let (told, gate) = (Told::default(), Arc::new(Notify::new()));
    let (builds, open) = (told.clone(), Arc::clone(&gate));
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
        counted("slow").get("pulse_monitor_accepted_total") == Some(&1.0)
    })
    .await;
    // It is with its handler before the others come, or is the first to go.
    let all = 1_200;
    futures::stream::iter(1..all)
        .map(|number| publish_build(&rabbit, "slow", number))
        .buffered(50)
        .collect::<()>()
        .await;
    until("all to be taken", async || {
        counted("slow")["pulse_monitor_accepted_total"] == all as f64
    })
    .await;
    assert_eq!(
        rabbit.depth("queue/pulseuser/slow").await.unwrap(),
        Some(0),
        "the queue is not held up"
    );
    let dropped = counted("slow")["pulse_monitor_dropped_total"];
    assert!((199.0..=200.0).contains(&dropped), "{dropped}");
    assert_eq!(
        said(&[
            "WARN",
            "key=\"slow ",
            "the oldest of what waits for them is dropped"
        ]),
        1
    );
    gate.notify_one();
    monitor.stop();
    monitor.join().await.unwrap();
    assert_eq!(told.count(), all - dropped as usize);
    let keys = told.all("key");
    assert!(
        (200..all).all(|number| keys.contains(&format!("slow {number}"))),
        "the newest are delivered"
    );
}

/// The exchange of the server that is restarted.
const RESTARTED: &str = "exchange/build/restarted";

#[tokio::test]
async fn monitor_survives_restart_of_rabbitmq() {
    let (mut rabbit, _directory) = own_rabbit().await;
    let (told, passing) = (Told::default(), Told::default());
    rabbit.declare_exchange(RESTARTED).await.unwrap();
    let builder = |told: &Told| {
        told.monitor()
            .trees(["again"])
            .source(Source::buildbot().on(RESTARTED))
    };
    let monitor = builder(&told)
        .label("again")
        .start(rabbit.settings())
        .unwrap();
    let other = builder(&passing).start(rabbit.settings()).unwrap();
    until_listening("again", 1).await;
    until_passing_listens(RESTARTED, 1).await;
    publish_build_on(&rabbit, RESTARTED, "again", 1).await;
    until("the first", async || {
        told.count() == 1 && passing.count() == 1
    })
    .await;
    rabbit.restart().await.unwrap();
    until_listening("again", 2).await;
    until_passing_listens(RESTARTED, 2).await;
    publish_build_on(&rabbit, RESTARTED, "again", 2).await;
    for told in [&told, &passing] {
        until("the second", async || {
            let mut keys = told.all("key");
            // The server may have died before it received the acknowledgement of the first.
            keys.dedup();
            keys == ["again 1", "again 2"]
        })
        .await;
    }
    assert_eq!(counted("again")["pulse_monitor_reconnects_total"], 1.0);
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
            "does not let user pulseuser in".to_owned(),
        ),
        (
            vhost,
            Source::buildbot(),
            "cannot use the virtual host nowhere".to_owned(),
        ),
    ] {
        let mut monitor = Told::default()
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
}

#[tokio::test]
async fn exchange_deleted_later_is_awaited_and_logged_once() {
    let rabbit = rabbit().await;
    let told = Told::default();
    let mut monitor = told
        .monitor()
        .trees(["later"])
        .label("later")
        .start(rabbit.settings())
        .unwrap();
    until_listening("later", 1).await;
    // The monitor declares its queue again, and finds nothing to bind it to.
    rabbit.delete_exchange(super::BUILDS).await.unwrap();
    rabbit.delete_queue("queue/pulseuser/later").await.unwrap();
    let gone = [
        "WARN",
        "cannot listen to pulse",
        "cannot find the exchange exchange/build/normalized",
    ];
    until("the missing exchange to be logged", async || {
        said(&gone) == 1
    })
    .await;
    rabbit.declare_exchange(super::BUILDS).await.unwrap();
    until_listening("later", 2).await;
    publish_build(&rabbit, "later", 1).await;
    until("an event", async || told.count() == 1).await;
    assert_eq!(said(&gone), 1, "{}", logged());
    monitor.stop();
    monitor.join().await.unwrap();
}
