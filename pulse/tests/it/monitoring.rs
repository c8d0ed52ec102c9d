//! Builds and tests are told of as they finish: what the tests of the monitor have in common.

mod told;
mod trouble;

use std::{
    collections::BTreeMap,
    fs,
    sync::{Arc, Mutex},
};

use pulse::{
    PulseError, PulseMessage,
    monitor::{BuildFinished, BuildMonitor, BuildMonitorBuilder, TestFinished},
    testing::RabbitServer,
};
use serde_json::Value;
use tempfile::TempDir;

use crate::world::{keep_logs, logged, message, until};

const BUILDS: &str = "exchange/build/normalized";
const JOBS: &str = "exchange/taskcluster-treeherder/v1/jobs";

/// What handlers were told.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<Value>>>);

impl Told {
    fn note(&self, event: impl serde::Serialize) {
        self.0
            .lock()
            .unwrap()
            .push(serde_json::to_value(event).unwrap());
    }

    fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    /// The values of a field, sorted.
    fn all(&self, field: &str) -> Vec<String> {
        let told = self.0.lock().unwrap();
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

fn listening(label: &str) -> usize {
    said(&[
        &format!("queue=\"queue/pulseuser/{label}"),
        "the build monitor listens",
    ])
}

async fn until_listening(label: &str, times: usize) {
    until(&format!("{label} to listen"), async || {
        listening(label) == times
    })
    .await;
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

/// A message with which a monitor that takes all trees knows that it has heard all before it.
async fn publish_build(rabbit: &RabbitServer, tree: &str, number: usize) {
    let body = format!("{{\"payload\": {{\"key\": \"{tree} {number}\"}}}}");
    let message = message(BUILDS, &format!("build.{tree}.linux64.opt.b"), &body);
    // What was published before the server was restarted is on a connection that is gone.
    until("a message to be confirmed", async || {
        rabbit.publish(&message).await.is_ok()
    })
    .await;
}
