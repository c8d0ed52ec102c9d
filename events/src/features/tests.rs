//! The registry against the sources, the documentation, and what a process installs.

mod example;
mod pushed_heads;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use bus::{BusError, Context, Handler, MemoryBus, Message, Outcome};
use clap::ValueEnum as _;
use phabricator::Conduit;
use runtime::{Clock, SystemClock};
use secrecy::ExposeSecret as _;
use testkit::{phabricator::FakePhabricator, taskcluster::FakeTaskcluster};

use super::*;
use crate::{
    app::App,
    config::{Config, TelemetryConfig, reference::Table},
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The Rust files of the deployed crates, without those of tests alone.
fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            let skipped = ["target", "testing", "tests", "benches"].contains(&name.as_str());
            if !skipped && !name.starts_with('.') {
                sources(&path, found);
            }
        } else if name.ends_with(".rs") && name != "tests.rs" {
            found.push(path);
        }
    }
}

/// Whether deployed code of a file makes a queue.
fn makes_a_queue(text: &str) -> bool {
    let tests = "#[cfg(test)]\nmod tests {";
    let deployed = text.split(tests).next().unwrap_or_default();
    let code = deployed
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    let code = code.collect::<Vec<_>>().join("\n");
    // `Queue::<M>::new` too, and not `PulseQueue::new`.
    code.match_indices("Queue::").any(|(at, _)| {
        let before = code[..at].chars().next_back();
        !before.is_some_and(|before| before.is_alphanumeric() || before == '_')
    })
}

#[test]
fn queue_that_no_feature_registered_cannot_be_made() {
    for unregistered in [
        "const ONE: Queue<M> = Queue::new(\"one\", POLICY);",
        "let one = bus::Queue::<M>::with_partitions(\"one\", POLICY, by);",
    ] {
        assert!(makes_a_queue(unregistered), "{unregistered}");
    }
    let mut files = Vec::new();
    sources(&root(), &mut files);
    assert!(files.len() > 100, "{} sources", files.len());
    let makers: Vec<_> = files
        .into_iter()
        .filter(|file| makes_a_queue(&fs::read_to_string(file).unwrap()))
        .map(|file| file.strip_prefix(root()).unwrap().to_owned())
        .collect();
    assert_eq!(
        makers,
        [Path::new("events/src/app.rs")],
        "declare the queue with `queues!`"
    );
}

#[test]
fn names_of_queues_are_unique() {
    let names: BTreeSet<_> = all().iter().map(|queue| queue.name).collect();
    assert_eq!(names.len(), all().len());
}

#[test]
fn every_queue_that_builds_are_recorded_in_is_tracked() {
    let tracked = of_builds().into_iter().map(|queue| queue.name);
    let tracked = Vec::from_iter(tracked);
    assert_eq!(
        tracked,
        ["build:load", "build:push", "build:publish", "lando"]
    );
}

#[test]
fn documentation_lists_every_queue_in_order() {
    let page = fs::read_to_string(root().join("docs/operate/operating.md")).unwrap();
    let table = page
        .split("| queue | feature | role | builds | messages |\n")
        .nth(1)
        .expect("the table of queues");
    let rows: Vec<_> = table
        .lines()
        .skip(1)
        .take_while(|line| line.starts_with('|'))
        .map(|row| row.rsplit_once(" | ").unwrap().0)
        .collect();
    let mut rows = rows.into_iter();
    for feature in FEATURES {
        let roles = feature.roles.iter().filter(|role| **role != Role::All);
        let roles: Vec<_> = roles
            .map(|role| role.to_possible_value().unwrap().get_name().to_owned())
            .collect();
        let roles = roles.join(", ");
        for queue in feature.queues {
            let builds = if queue.tracks_builds { "yes" } else { "no" };
            let (queue, feature) = (queue.spec.name, feature.name);
            let row = format!("| `{queue}` | {feature} | {roles} | {builds}");
            assert_eq!(
                rows.next(),
                Some(row.as_str()),
                "the next row of the table in docs/operate/operating.md, on the left, has to be: {row} | its messages |"
            );
        }
    }
    assert_eq!(
        rows.next(),
        None,
        "docs/operate/operating.md has a row too many"
    );
}

/// The keys of triggers that trigger nothing by themselves.
const OPTIONS_OF_TRIGGERS: [&str; 14] = [
    "APP_CHANNEL",
    "admins",
    "bugbug_phabricator_deployment",
    "communitytc_pulse_password",
    "communitytc_pulse_url",
    "communitytc_pulse_user",
    "monitoring_period",
    "pulse_password",
    "pulse_url",
    "pulse_user",
    "taskcluster",
    "taskcluster_community",
    "test_selection_notify_addresses",
    "test_selection_share",
];

/// The settings that trigger hooks: the types of `HOOKS`, and the other keys of triggers that are not options.
fn settings_of_triggers() -> Vec<String> {
    let schema = Table::Triggers.schema();
    let keys = schema["properties"].as_object().expect("a schema of keys");
    for option in OPTIONS_OF_TRIGGERS {
        assert!(keys.contains_key(option), "there is no key {option}");
    }
    let kinds = keys["HOOKS"]["items"]["properties"]["type"]["enum"].as_array();
    let kinds = kinds.expect("the types of hooks").iter();
    let kinds = kinds.map(|kind| format!("HOOKS {}", kind.as_str().unwrap_or_default()));
    let switches: BTreeSet<_> = keys
        .keys()
        .map(String::as_str)
        .filter(|key| *key != "HOOKS" && !OPTIONS_OF_TRIGGERS.contains(key))
        .collect();
    kinds
        .chain(switches.into_iter().map(str::to_owned))
        .collect()
}

#[test]
fn documentation_lists_every_trigger_and_its_messages() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let page = fs::read_to_string(root().join("docs/use/triggers.md")).unwrap();
    let table = page
        .split("| setting | source | hook, and its payload | once for each |\n")
        .nth(1)
        .expect("the table of triggers");
    let (table, _) = table.split_once("\n\n").expect("an end of the table");
    let settings = table.lines().skip(1).filter_map(|row| {
        let cell = row.split('|').nth(1)?;
        let code = cell.split('`').skip(1).step_by(2).collect::<Vec<_>>();
        (!code.is_empty()).then(|| code.join(" "))
    });
    let settings: Vec<_> = settings.collect();
    assert_eq!(
        settings,
        settings_of_triggers(),
        "each setting that triggers a hook has its row; add a key that triggers none to OPTIONS_OF_TRIGGERS"
    );

    let (config, faults) = Config::parse_worker(
        "\
events:
  PHABRICATOR: {url: https://phabricator.example.com, api_key: api-secret}
  repositories: [{name: product, url: https://hg.example.com/product, try_url: ssh://hg.example.com/try}]
  HOOKS:
    - {type: code-coverage, hookId: coverage/bot}
    - {type: static-analysis-mozreview, hookId: mozreview/bot}
  autoland_enabled: true
  pulse_user: us
  pulse_password: hunter2
  taskcluster: {client_id: us, access_token: secret}
",
    );
    let config = config.unwrap_or_else(|| panic!("{faults}")).triggers;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let (firefox, _) = Deployment::all(&config, &clock).unwrap();
    let firefox = firefox.expect("a deployment");
    let mut app = App::new(Arc::new(MemoryBus::new(clock.clone())), clock);
    mozreview::install(&mut app, &config).unwrap();
    code_coverage::install(&mut app, &config, &firefox).unwrap();
    landed::install(&mut app, &config, &firefox).unwrap();
    assert_eq!(app.routes().len(), 3);
    for route in app.routes() {
        let topics = route.topics.iter().map(ToString::to_string);
        for name in topics.chain([route.exchange.clone()]) {
            assert!(
                table.contains(&format!("`{name}`")),
                "{name} is not in the table"
            );
        }
    }
}

/// The services of processes that run everything: of a worker, and of commit telemetry.
async fn services_of_everything() -> Vec<String> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let phabricator = FakePhabricator::start(clock.clone()).await.unwrap();
    phabricator.add_repository("product");
    phabricator.add_project("secure-revision");
    phabricator.add_user("zoe", "Zoë Example");
    let taskcluster = FakeTaskcluster::start(clock.clone()).await.unwrap();
    let credentials = taskcluster.credentials();
    let directory = tempfile::tempdir().unwrap();
    let text = format!(
        "\
events:
  PHABRICATOR: {{url: \"{phabricator}\", api_key: \"{token}\", publish: true}}
  LANDO: {{url: \"https://lando.example.com\", publish: true}}
  clones_dir: {clones}
  repositories:
    - {{name: product, url: https://hg.example.com/product, try_url: ssh://hg.example.com/try}}
  HOOKS:
    - {{type: code-coverage, hookId: coverage/bot}}
    - {{type: static-analysis-mozreview, hookId: mozreview/bot, repository_url: https://hg.example.com/gecko}}
    - {{type: static-analysis-phabricator, hookId: analysis/bot, repositories: [product]}}
  autoland_enabled: true
  risk_analysis_users: [zoe]
  test_selection_enabled: true
  bugbug_phabricator_deployment: testing
  admins: [ann@example.com]
  pulse_user: us
  pulse_password: hunter2
  communitytc_pulse_user: us
  communitytc_pulse_password: hunter2
  taskcluster: {{root_url: \"{taskcluster}\", client_id: \"{client}\", access_token: \"{access}\"}}
  taskcluster_community: {{root_url: \"{taskcluster}\", client_id: \"{client}\", access_token: \"{access}\"}}
  notify:
    services: [webhook]
    webhook: {{url: \"https://hook.example.com\", secret: \"0123456789abcdef\"}}
",
        phabricator = phabricator.url(),
        token = phabricator.token().expose_secret(),
        clones = directory.path().display(),
        taskcluster = taskcluster.root(),
        client = credentials.client_id,
        access = credentials.access_token.expose_secret(),
    );
    let (config, faults) = Config::parse_worker(&text);
    let config = config.unwrap_or_else(|| panic!("{faults}"));

    let bus = Arc::new(MemoryBus::new(clock.clone()));
    let mut app = App::new(bus, clock.clone());
    Notifier::open((&config).into(), &|_| None, &clock)
        .unwrap()
        .expect("a channel")
        .install(&mut app)
        .unwrap();
    let conduit = Conduit::new(
        phabricator.url().clone(),
        phabricator.token(),
        http_client::client(crate::clients::REQUEST).unwrap(),
    );
    let mut app = pipeline::install(&config, app, &conduit).await.unwrap();
    let variables = |name: &str| match name {
        "PULSE_USERNAME" => Some("us".to_owned()),
        "PULSE_PASSWORD" => Some("hunter2".to_owned()),
        "PULSE_QUEUE_NAME" => Some("telemetry".to_owned()),
        "PULSE_QUEUE_ROUTING_KEY" => Some("integration/autoland".to_owned()),
        _ => None,
    };
    let settings = TelemetryConfig::read_with_pulse(&variables).unwrap();
    telemetry::install(&mut app, settings).await.unwrap();
    let services = app.into_services();
    services
        .iter()
        .map(|service| service.name().to_owned())
        .collect()
}

#[tokio::test]
async fn every_registered_queue_has_one_consumer() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let services = services_of_everything().await;
    for queue in all() {
        let consumers = services.iter().filter(|name| **name == queue.name).count();
        assert_eq!(consumers, 1, "{}: {services:?}", queue.name);
    }
}

#[test]
fn every_feature_has_a_role_and_the_web_server_waits_for_no_queue() {
    let of_roles: BTreeSet<_> = Role::value_variants()
        .iter()
        .flat_map(|role| of_role(*role))
        .map(|queue| queue.name)
        .collect();
    let all: BTreeSet<_> = all().iter().map(|queue| queue.name).collect();
    assert_eq!(of_roles, all);
    assert!(of_role(Role::Web).is_empty());
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Reminder;

impl Message for Reminder {
    const VERSION: u16 = 1;
}

struct Remind;

#[async_trait]
impl Handler<Reminder> for Remind {
    type Error = BusError;

    async fn handle(&self, _: Reminder, _: &Context) -> Result<Outcome, BusError> {
        Ok(Outcome::Done)
    }
}

#[test]
fn example_in_docs_registers_and_installs_its_queue() {
    let clock = Arc::new(SystemClock);
    let mut app = App::new(Arc::new(MemoryBus::new(clock.clone())), clock);
    example::install(&mut app);
    let services = app.into_services();
    assert_eq!(services[0].name(), example::FEATURE.queues[0].spec.name);
}
