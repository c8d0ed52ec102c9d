//! Durations of sendings reach a real InfluxDB, without delaying a sending.

use std::sync::Arc;

use bus::Consumer;
use notify::{
    ChannelError, InfluxRecorder, InfluxSettings, Notification, Sender, Status, Templates,
};
use runtime::{Service, ServiceError, Shutdown};
use serde_json::json;
use tokio::task::JoinHandle;

use crate::{
    peers::{
        closed,
        influx::{Influx, PASSWORD},
    },
    world::{DIGESTS, Hurried, LIMIT, NOTIFICATIONS, TASKS, World, capture_logs, http, message},
};

/// A world whose sendings are timed.
struct Timed {
    world: World,
    sender: Consumer,
}

impl Timed {
    /// The part of the process that writes runs until `shutdown`.
    async fn new(
        settings: InfluxSettings,
        shutdown: &Shutdown,
    ) -> (Self, JoinHandle<Result<(), ServiceError>>) {
        let world = World::new().await;
        let (influx, writer) =
            InfluxRecorder::new(settings, http(), Arc::new(Hurried(world.clock.clone())));
        let running = tokio::spawn(Box::new(writer).run(shutdown.clone()));
        (Self::over(world, influx), running)
    }

    fn over(world: World, influx: InfluxRecorder) -> Self {
        let templates = Arc::new(Templates::ours().unwrap());
        let sender = Sender::new(
            world.channels.clone(),
            templates,
            NOTIFICATIONS,
            DIGESTS,
            LIMIT,
        )
        .with_timings(influx);
        let sender = Consumer::new(
            world.bus.clone(),
            world.clock.clone(),
            NOTIFICATIONS,
            sender,
        );
        Self { world, sender }
    }

    /// Sends a notification, a second after the last one.
    async fn send(&self) {
        self.world.clock.advance(std::time::Duration::from_secs(1));
        let task = self
            .world
            .task(json!({ "notification": { "task-failed": { "plugins": ["robot"] } } }));
        self.world
            .send(&TASKS, &message(&task, Status::TaskFailed, |_| {}))
            .await;
        self.world.dispatch().await;
        assert_eq!(self.sender.step().await.unwrap(), 1);
    }

    /// Sends until `said` is logged, and not longer.
    async fn send_until(&self, logs: &testkit::Logs, said: &str) {
        while !logs.text().contains(said) {
            self.send().await;
            tokio::task::yield_now().await;
        }
    }

    async fn waiting(&self) -> Vec<Notification> {
        self.world.peek(&NOTIFICATIONS).await
    }
}

fn point(outcome: &str) -> (String, String, f64) {
    ("robot".to_owned(), outcome.to_owned(), 0.0)
}

#[tokio::test]
async fn each_send_writes_one_point() {
    let influx = Influx::start().await;
    let (timed, _running) = Timed::new(influx.settings(None), &Shutdown::new()).await;
    timed.send().await;
    let problem = "no".to_owned();
    timed.world.robot.fail_next(ChannelError::Refused {
        channel: "robot",
        problem,
    });
    timed.send().await;
    assert_eq!(influx.holds(2).await, [point("sent"), point("failed")]);
}

#[tokio::test]
async fn notifications_are_sent_during_influxdb_outage() {
    let (_guard, logs) = capture_logs();
    let mut influx = Influx::start().await;
    let (timed, _running) = Timed::new(influx.settings(None), &Shutdown::new()).await;
    timed.send().await;
    influx.holds(1).await;

    influx.kill();
    let away = "cannot write durations to InfluxDB; dropped until it recovers";
    timed.send_until(&logs, away).await;
    for _ in 0..20 {
        timed.send().await;
    }
    let sent = timed.world.robot.sent().len();
    assert!(sent > 20 && timed.waiting().await.is_empty(), "{sent}");

    influx.restart().await;
    timed
        .send_until(&logs, "InfluxDB accepts durations again")
        .await;
    influx.holds(2).await;
    assert_eq!(logs.text().matches(away).count(), 1, "{}", logs.text());
}

#[tokio::test]
async fn buffered_points_are_written_at_shutdown() {
    let influx = Influx::start().await;
    let shutdown = Shutdown::new();
    let (timed, running) = Timed::new(influx.settings(None), &shutdown).await;
    shutdown.stop();
    timed.send().await;
    drop(timed);
    running.await.unwrap().unwrap();
    assert_eq!(influx.points().await.len(), 1, "nobody measures any more");

    let shutdown = Shutdown::new();
    let world = World::new().await;
    let (recorder, writer) =
        InfluxRecorder::new(influx.settings(None), http(), world.clock.clone());
    let timed = Timed::over(world, recorder);
    for _ in 0..3 {
        timed.send().await;
    }
    shutdown.cancel();
    Box::new(writer).run(shutdown).await.unwrap();
    assert_eq!(
        influx.points().await.len(),
        3,
        "the first one is written once more, on a clock that began again"
    );
}

#[tokio::test]
async fn unresponsive_influxdb_does_not_block_shutdown() {
    let (_guard, logs) = capture_logs();
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap())
        .parse()
        .unwrap();
    let shutdown = Shutdown::new();
    let settings = InfluxSettings {
        url,
        database: "notify".to_owned(),
        login: None,
    };
    let (timed, running) = Timed::new(settings, &shutdown).await;
    timed.send().await;
    let (_connection, _) = silent.accept().await.unwrap();
    shutdown.cancel();
    running.await.unwrap().unwrap();
    assert!(
        logs.text()
            .contains("cannot write the last durations to InfluxDB before the process ends"),
        "{}",
        logs.text()
    );
}

#[tokio::test]
async fn rejected_write_is_reported() {
    let influx = Influx::start_with_login().await;
    let other = InfluxSettings {
        database: "others".to_owned(),
        ..influx.settings(Some(PASSWORD))
    };
    for (settings, words) in [
        (
            influx.settings(None),
            "set notify.influxdb.user and notify.influxdb.password",
        ),
        (
            influx.settings(Some("wrong")),
            "http status 401: {\\\"error\\\":\\\"authorization failed\\\"}; set notify.influxdb.user",
        ),
        (
            other,
            "create the database, or set notify.influxdb.database",
        ),
    ] {
        let (_guard, logs) = capture_logs();
        let (timed, _running) = Timed::new(settings, &Shutdown::new()).await;
        timed
            .send_until(&logs, "cannot write durations to InfluxDB")
            .await;
        assert!(
            logs.text().contains(words) && !logs.text().contains("wrong"),
            "{}",
            logs.text()
        );
    }
    let (timed, _running) = Timed::new(influx.settings(Some(PASSWORD)), &Shutdown::new()).await;
    timed.send().await;
    assert_eq!(influx.holds(1).await, [point("sent")]);
}

#[tokio::test]
async fn without_writer_nothing_is_buffered() {
    let url = closed().parse().unwrap();
    let world = World::new().await;
    let settings = InfluxSettings {
        url,
        database: "notify".to_owned(),
        login: None,
    };
    let (influx, writer) = InfluxRecorder::new(settings, http(), world.clock.clone());
    drop(writer);
    let timed = Timed::over(world, influx);
    timed.send().await;
    assert_eq!(timed.world.robot.sent().len(), 1);
}
