//! Builds and tests are told of as they finish: what the tests of the monitor have in common.

mod told;
mod trouble;

use std::{collections::BTreeMap, fs, sync::Arc};

use parking_lot::Mutex;

use pulse::{
    PulseError, PulseMessage,
    monitor::{BuildFinished, BuildMonitor, BuildMonitorBuilder, TestFinished},
};
use serde_json::Value;
use tempfile::TempDir;
use testkit::RabbitServer;

use crate::world::{keep_logs, logged, message, until};

const BUILDS: &str = "exchange/build/normalized";
const JOBS: &str = "exchange/taskcluster-treeherder/v1/jobs";

/// What handlers were told.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<Value>>>);

impl Told {
    fn note(&self, event: impl serde::Serialize) {
        self.0.lock().push(serde_json::to_value(event).unwrap());
    }

    fn count(&self) -> usize {
        self.0.lock().len()
    }

    /// The values of a field, sorted.
    fn all(&self, field: &str) -> Vec<String> {
        let told = self.0.lock();
        let mut values: Vec<_> = told
            .iter()
            .map(|event| event[field].as_str().unwrap_or_default().to_owned())
            .collect();
        values.sort();
        values
    }

    fn monitor(&self) -> BuildMonitorBuilder {
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
async fn own_rabbit() -> (RabbitServer, TempDir) {
    let directory = TempDir::new().unwrap();
    (
        prepared(RabbitServer::start(directory.path()).await.unwrap()).await,
        directory,
    )
}

/// A server that other tests use too.
async fn rabbit() -> RabbitServer {
    prepared(RabbitServer::share().await.unwrap()).await
}

async fn prepared(rabbit: RabbitServer) -> RabbitServer {
    for exchange in [BUILDS, JOBS] {
        rabbit.declare_exchange(exchange).await.unwrap();
    }
    keep_logs();
    rabbit
}

fn said(parts: &[&str]) -> usize {
    logged()
        .lines()
        .filter(|line| parts.iter().all(|part| line.contains(part)))
        .count()
}

async fn until_listening(label: &str, times: usize) {
    let queue = format!("queue=\"queue/pulseuser/{label}\"");
    until(&format!("{label} to listen"), async || {
        said(&[&queue, "the build monitor listens"]) >= times
    })
    .await;
}

/// The queues of monitors without a label, in the order in which they began to listen. Their names are random, so the
/// exchange is what tells tests of one process apart: each has an exchange of its own for them.
fn passing_queues(exchange: &str) -> Vec<String> {
    let parts = [
        &format!("exchange=\"{exchange}\""),
        "the build monitor listens",
    ];
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
async fn until_passing_listens(exchange: &str, times: usize) -> String {
    until(
        &format!("a queue of {exchange} to be listened to"),
        async || passing_queues(exchange).len() >= times,
    )
    .await;
    passing_queues(exchange).swap_remove(times - 1)
}

fn counted(label: &str) -> BTreeMap<String, f64> {
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

fn fixture(name: &str) -> Value {
    serde_json::from_slice(&fs::read(format!("tests/fixtures/buildbot/{name}")).unwrap()).unwrap()
}

/// Every recorded message of buildbot.
fn recorded() -> Vec<PulseMessage> {
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

async fn publish_all(rabbit: &RabbitServer) {
    let messages = recorded();
    assert_eq!(messages.len(), 13);
    for message in messages {
        rabbit.publish(&message).await.unwrap();
    }
}

/// Publishes a message. A monitor of all trees that receives it has received all before it.
async fn publish_build(rabbit: &RabbitServer, tree: &str, number: usize) {
    publish_build_on(rabbit, BUILDS, tree, number).await;
}

async fn publish_build_on(rabbit: &RabbitServer, exchange: &str, tree: &str, number: usize) {
    let body = format!("{{\"payload\": {{\"key\": \"{tree} {number}\"}}}}");
    let message = message(exchange, &format!("build.{tree}.linux64.opt.b"), &body);
    // What was published before the server was restarted is on a connection that is gone.
    until("a message to be confirmed", async || {
        rabbit.publish(&message).await.is_ok()
    })
    .await;
}
