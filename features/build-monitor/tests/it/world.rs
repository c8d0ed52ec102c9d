//! A RabbitMQ, monitors, and their logs and metrics.

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    sync::{Arc, OnceLock},
    time::Duration,
};

use build_monitor::{BuildFinished, BuildMonitor, BuildMonitorBuilder, TestFinished};
use parking_lot::Mutex;
use pulse::{PulseError, PulseMessage, Routing};
use runtime::{Clock, SystemClock};
use serde_json::Value;
use testkit::RabbitServer;

pub const BUILDS: &str = "exchange/build/normalized";
pub const JOBS: &str = "exchange/taskcluster-treeherder/v1/jobs";

/// The events that handlers received.
#[derive(Clone, Default)]
pub struct Received(pub Arc<Mutex<Vec<Value>>>);

impl Received {
    pub fn note(&self, event: impl serde::Serialize) {
        self.0.lock().push(serde_json::to_value(event).unwrap());
    }

    pub fn count(&self) -> usize {
        self.0.lock().len()
    }

    /// The values of a field, sorted.
    pub fn all(&self, field: &str) -> Vec<String> {
        let received = self.0.lock();
        let mut values: Vec<_> = received
            .iter()
            .map(|event| event[field].as_str().unwrap_or_default().to_owned())
            .collect();
        values.sort();
        values
    }

    pub fn monitor(&self) -> BuildMonitorBuilder {
        let (builds, tests) = (self.clone(), self.clone());
        BuildMonitor::builder()
            .on_build(move |build: BuildFinished| {
                builds.note(build);
                async { Ok::<(), PulseError>(()) }
            })
            .on_test(move |test: TestFinished| {
                tests.note(test);
                async { Ok::<(), PulseError>(()) }
            })
    }
}

/// A server that can be killed and restarted.
pub async fn own_rabbit() -> RabbitServer {
    prepared(RabbitServer::lend().await.unwrap()).await
}

/// A server that other tests use too.
pub async fn rabbit() -> RabbitServer {
    prepared(RabbitServer::share().await.unwrap()).await
}

pub async fn prepared(rabbit: RabbitServer) -> RabbitServer {
    for exchange in [BUILDS, JOBS] {
        rabbit.declare_exchange(exchange).await.unwrap();
    }
    logs();
    rabbit
}

pub fn logged_lines(parts: &[&str]) -> usize {
    logged()
        .lines()
        .filter(|line| parts.iter().all(|part| line.contains(part)))
        .count()
}

pub async fn until_listening(label: &str, times: usize) {
    let queue = format!("queue=\"queue/pulseuser/{label}\"");
    until(&format!("{label} to listen"), async || {
        logged_lines(&[&queue, "listening to pulse"]) >= times
    })
    .await;
}

/// The queues of monitors without a label, in the order in which they began to listen. Their names are random, so the
/// exchange is what tells tests of one process apart: each has an exchange of its own for them.
pub fn passing_queues(exchange: &str) -> Vec<String> {
    let parts = [&format!("exchanges=\"{exchange}\""), "listening to pulse"];
    let log = logged();
    let lines = log
        .lines()
        .filter(|line| parts.iter().all(|part| line.contains(part)));
    let names = lines.filter_map(|line| {
        line.split_once("queue=\"queue/pulseuser/monitor-")?
            .1
            .split('"')
            .next()
    });
    names
        .map(|name| format!("queue/pulseuser/monitor-{name}"))
        .collect()
}

/// Waits until a monitor without a label listens to this exchange for the `times`-th time.
pub async fn until_passing_listens(exchange: &str, times: usize) -> String {
    until(
        &format!("a queue of {exchange} to be listened to"),
        async || passing_queues(exchange).len() >= times,
    )
    .await;
    passing_queues(exchange).swap_remove(times - 1)
}

pub fn counted(label: &str) -> BTreeMap<String, f64> {
    let label = format!("{{label=\"{label}\"}}");
    let text = observe::metrics::render();
    let lines = text.lines().filter_map(|line| line.rsplit_once(' '));
    lines
        .filter_map(|(name, value)| {
            Some((
                name.strip_suffix(&label)?.to_owned(),
                value.parse().unwrap(),
            ))
        })
        .collect()
}

pub fn reconnects(label: &str) -> f64 {
    let name = format!("pulse_reconnects_total{{queue=\"queue/pulseuser/{label}\"}} ");
    let text = observe::metrics::render();
    let count = text.lines().find_map(|line| line.strip_prefix(&name));
    count.unwrap().parse().unwrap()
}

pub fn fixture(name: &str) -> Value {
    serde_json::from_slice(&fs::read(format!("tests/fixtures/buildbot/{name}")).unwrap()).unwrap()
}

/// Every recorded message of buildbot.
pub fn recorded() -> Vec<PulseMessage> {
    let names = fs::read_dir("tests/fixtures/buildbot")
        .unwrap()
        .map(|file| file.unwrap().file_name());
    let names = names
        .map(|name| name.into_string().unwrap())
        .filter(|name| name.starts_with("normalized-"));
    let messages = names.map(|name| {
        let recorded = fixture(&name);
        let word = |field: &str| recorded[field].as_str().unwrap().to_owned();
        message(
            &word("exchange"),
            &word("routing_key"),
            &recorded["body"].to_string(),
        )
    });
    messages.collect()
}

pub async fn publish_all(rabbit: &RabbitServer) {
    let messages = recorded();
    assert_eq!(messages.len(), 13);
    for message in messages {
        rabbit.publish(&message).await.unwrap();
    }
}

/// Publishes a message. A monitor of all trees that receives it has received all before it.
pub async fn publish_build(rabbit: &RabbitServer, tree: &str, number: usize) {
    publish_build_on(rabbit, BUILDS, tree, number).await;
}

pub async fn publish_build_on(rabbit: &RabbitServer, exchange: &str, tree: &str, number: usize) {
    let body = format!("{{\"payload\": {{\"key\": \"{tree} {number}\"}}}}");
    let message = message(exchange, &format!("build.{tree}.linux64.opt.b"), &body);
    // What was published before the server was restarted is on a connection that is gone.
    until("a message to be confirmed", async || {
        rabbit.publish(&message).await.is_ok()
    })
    .await;
}

pub fn message(exchange: &str, key: &str, body: &str) -> PulseMessage {
    PulseMessage {
        routing: Routing {
            exchange: exchange.to_owned(),
            key: key.to_owned(),
            other_routes: Vec::new(),
        },
        body: body.as_bytes().to_vec().into(),
    }
}

/// Waits until `condition` holds.
pub async fn until(what: &str, condition: impl AsyncFn() -> bool) {
    for _ in 0..18_000 {
        if condition().await {
            return;
        }
        SystemClock.sleep(Duration::from_millis(10)).await;
    }
    panic!("waited in vain for {what}; logged:\n{}", logged());
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What this process has logged and counted, from the first call on.
fn logs() -> &'static Lines {
    static LINES: OnceLock<Lines> = OnceLock::new();
    LINES.get_or_init(|| {
        observe::metrics::install();
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(move || writer.clone());
        subscriber
            .with_max_level(tracing_subscriber::filter::LevelFilter::INFO)
            .init();
        lines
    })
}

pub fn logged() -> String {
    String::from_utf8(logs().0.lock().clone()).unwrap()
}
