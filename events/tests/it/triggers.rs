//! Messages of Pulse and new diffs trigger hooks, whose tasks are watched and reported: the program on a real RabbitMQ and a
//! real Redis.

use std::{process::Stdio, sync::Arc, time::Duration};

use bus::{MessageSelector, QueueAdmin};
use events::queues::{self, HOOK_TASKS};
use pulse::{PulseMessage, Routing};
use runtime::{Clock, SystemClock};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use testkit::{
    RabbitServer,
    phabricator::{NewDiff, NewRevision},
    taskcluster::TaskState,
    taskcluster::{FakeTaskcluster, Trigger},
};

use crate::world::{Process, World, pulse_url, until};

const GROUPS: &str = "exchange/taskcluster-queue/v1/task-group-resolved";
const ENDS: [&str; 3] = ["task-completed", "task-failed", "task-exception"];
const MOZREVIEW: &str = "exchange/mozreview/";
/// All that a person may have to wait for.
const PATIENCE: Duration = Duration::from_secs(180);

struct Pulse {
    world: World,
    taskcluster: FakeTaskcluster,
    rabbit: RabbitServer,
}

impl Pulse {
    /// On a RabbitMQ that other tests use too.
    async fn new() -> Self {
        Self::with(
            RabbitServer::share().await.unwrap(),
            World::with_redis().await,
        )
        .await
    }

    /// On a RabbitMQ that can be killed and restarted.
    async fn with_own_rabbit() -> Self {
        Self::with(
            RabbitServer::lend().await.unwrap(),
            World::with_redis().await,
        )
        .await
    }

    async fn with(rabbit: RabbitServer, world: World) -> Self {
        let taskcluster = FakeTaskcluster::start(Arc::new(SystemClock)).await.unwrap();
        for exchange in ENDS.map(|end| format!("exchange/taskcluster-queue/v1/{end}")) {
            rabbit.declare_exchange(&exchange).await.unwrap();
        }
        for exchange in [GROUPS, MOZREVIEW] {
            rabbit.declare_exchange(exchange).await.unwrap();
        }
        let metadata = json!({ "name": "bot", "description": "x", "owner": "a@example.com", "source": "https://example.com" });
        for (group, hook) in [
            ("project-releng", "coverage/bot"),
            ("project-releng", "static-analysis/bot"),
            ("project-relman", "code-review-testing"),
        ] {
            taskcluster.add_hook(group, hook, Some(json!({ "metadata": metadata })));
        }
        Self {
            world,
            taskcluster,
            rabbit,
        }
    }

    /// Writes the configuration, with this user on Pulse, and these lines.
    fn configure(&self, more: &str) {
        let (settings, credentials) = (self.rabbit.settings(), self.taskcluster.credentials());
        self.world.configure(&format!(
            "  APP_CHANNEL: testing\n  admins: [ann@example.com]\n  monitoring_period: 1s\n  pulse_url: \"{}\"\n  \
             pulse_user: {}\n  pulse_password: \"{}\"\n  taskcluster: {{root_url: \"{}\", client_id: \"{}\", \
             access_token: \"{}\"}}\n{more}",
            pulse_url(&settings),
            settings.user,
            settings.password.expose_secret(),
            self.taskcluster.root(),
            credentials.client_id,
            credentials.access_token.expose_secret(),
        ));
    }

    async fn publish(&self, exchange: &str, key: &str, body: &Value) {
        let routing = Routing {
            exchange: exchange.to_owned(),
            key: key.to_owned(),
            other_routes: Vec::new(),
        };
        let message = PulseMessage {
            routing,
            body: body.to_string().into_bytes().into(),
        };
        self.rabbit.publish(&message).await.unwrap();
    }

    async fn resolve(&self, group: &str) {
        let body = json!({ "version": 1, "taskGroupId": group, "schedulerId": "gecko-level-3" });
        self.publish(GROUPS, &format!("primary.{group}.gecko-level-3._"), &body)
            .await;
    }

    /// A task group whose first task has this repository.
    fn group(&self, repository: &str) -> String {
        let env = json!({ "GECKO_HEAD_REPOSITORY": repository, "GECKO_HEAD_REV": "a".repeat(40) });
        self.taskcluster
            .add_task(json!({ "payload": { "env": env } }))
    }

    /// One that has a build for code coverage.
    fn coverage(&self) -> String {
        let repository = "https://hg.mozilla.org/mozilla-central";
        let group = self.group(repository);
        let env = json!({ "GECKO_HEAD_REPOSITORY": repository, "GECKO_HEAD_REV": "b".repeat(40) });
        let metadata = json!({
            "name": "build-linux64-ccov/opt", "description": "x", "owner": "a@example.com", "source": "https://example.com",
        });
        self.taskcluster.add_task(
            json!({ "taskGroupId": group, "metadata": metadata, "payload": { "env": env } }),
        );
        group
    }

    async fn until_triggered(&self, count: usize, process: &Process) -> Vec<Trigger> {
        until("hooks to be triggered", process, || {
            self.taskcluster.triggers().len() >= count
        })
        .await;
        self.taskcluster.triggers()
    }

    /// Waits until nothing is under way; returns what was triggered.
    async fn at_rest(&self, process: &Process) -> Vec<Trigger> {
        let (bus, begun) = (self.world.bus(), SystemClock.now());
        loop {
            let mut under_way = 0;
            for queue in queues::all()
                .iter()
                .filter(|queue| queue.name != HOOK_TASKS.spec().name)
            {
                let depth = bus.depth(queue).await.unwrap();
                assert_eq!(
                    depth.dead,
                    0,
                    "a dead letter in {}:\n{}",
                    queue.name,
                    process.log()
                );
                under_way += depth.unfinished();
            }
            if under_way == 0
                && self
                    .rabbit
                    .depth("queue/pulseuser/events-testing")
                    .await
                    .unwrap()
                    == Some(0)
            {
                return self.taskcluster.triggers();
            }
            let waited = SystemClock.now().duration_since(begun).unsigned_abs();
            assert!(
                waited < PATIENCE,
                "it does not come to rest:\n{}",
                process.log()
            );
            SystemClock.sleep(Duration::from_millis(20)).await;
        }
    }
}

fn payloads(triggers: &[Trigger], hook: &str) -> Vec<Value> {
    triggers
        .iter()
        .filter(|trigger| trigger.hook == hook)
        .map(|trigger| trigger.payload.clone())
        .collect()
}

#[tokio::test]
async fn every_source_triggers_its_hook_once_although_rabbitmq_is_killed_and_its_tasks_are_reported()
 {
    let mut pulse = Pulse::with_own_rabbit().await;
    pulse.configure(
        "  autoland_enabled: true
  HOOKS:
    - {type: code-coverage, hookId: coverage/bot}
    - {type: static-analysis-mozreview, hookId: static-analysis/bot}
    - {type: static-analysis-phabricator, hookId: static-analysis/bot, repositories: [product], interval: 1}
",
    );
    let world = &pulse.world;
    // The poller begins with the diff that is the newest at its first look.
    world.submit("Before the start", "diff", None);
    let (worker, other) = (world.start("worker"), world.start("worker"));
    for line in [
        "code coverage: triggering project-releng/coverage/bot",
        "mozreview: triggering project-releng/static-analysis/bot",
        "phabricator: triggering project-releng/static-analysis/bot for new diffs of product",
        "code review: triggering code-review-testing for Autoland",
        "taskcluster: triggering hooks and watching their tasks on that of Firefox",
        "pulse: listening as pulseuser",
    ] {
        worker.until_logged(line).await;
        other.until_logged(line).await;
    }
    until("one of them to look for diffs", &worker, || {
        (worker.log() + &other.log()).contains("polls for new diffs")
    })
    .await;
    until("its first look", &worker, || {
        pulse
            .world
            .phabricator
            .calls()
            .iter()
            .any(|call| call.method == "differential.revision.search")
    })
    .await;
    until("the queue", &worker, || {
        (worker.log() + &other.log()).contains("listening to pulse")
    })
    .await;

    let (coverage, autoland) = (
        pulse.coverage(),
        pulse.group("https://hg.mozilla.org/integration/autoland"),
    );
    pulse.resolve(&coverage).await;
    pulse.resolve(&autoland).await;
    let commits = include_str!("../fixtures/mozreview-commits-published.json");
    let commits: Value = serde_json::from_str(commits).unwrap();
    pulse
        .publish(MOZREVIEW, "mozreview.commits.published", &commits["body"])
        .await;
    let diff = NewDiff::new("diff");
    let revision = pulse.world.phabricator.create_revision(NewRevision::new(
        "New",
        &pulse.world.author,
        &pulse.world.repository,
        diff,
    ));
    let of_commits = commits["body"]["payload"]["commits"]
        .as_array()
        .unwrap()
        .len();
    pulse.until_triggered(3 + of_commits, &worker).await;

    // RabbitMQ dies; then the same tasks end again, and a new one.
    pulse.rabbit.kill().unwrap();
    pulse.rabbit.restart().await.unwrap();
    let another = pulse.coverage();
    for group in [&coverage, &autoland, &another] {
        pulse.resolve(group).await;
    }
    pulse.until_triggered(4 + of_commits, &worker).await;
    let triggers = pulse.at_rest(&worker).await;
    assert_eq!(triggers.len(), 4 + of_commits, "{triggers:?}");
    assert_eq!(payloads(&triggers, "coverage/bot").len(), 2);
    assert_eq!(
        payloads(&triggers, "code-review-testing"),
        [json!({ "AUTOLAND_TASK_GROUP_ID": autoland })]
    );
    let analysed = payloads(&triggers, "static-analysis/bot");
    assert_eq!(analysed.len(), 1 + of_commits);
    let phid = &revision.diff.phid;
    assert!(
        analysed.contains(&json!({ "ANALYSIS_SOURCE": "phabricator", "ANALYSIS_ID": phid })),
        "{analysed:?}"
    );

    // Their tasks end, and what went wrong is reported once.
    let task = triggers[0].task_id.clone().unwrap();
    pulse.taskcluster.move_on(&task, TaskState::Failed);
    pulse
        .world
        .bus()
        .requeue(&HOOK_TASKS.spec(), MessageSelector::All)
        .await
        .unwrap();
    until("the report", &worker, || {
        !pulse.taskcluster.mails().is_empty()
    })
    .await;
    let mail = &pulse.taskcluster.mails()[0];
    assert_eq!(mail.address, "ann@example.com");
    assert!(mail.content.contains(&task), "{}", mail.content);
    let [mut worker, mut other] = [worker, other];
    worker.stop().await;
    other.stop().await;
    assert_eq!(pulse.taskcluster.mails().len(), 1);
}

#[tokio::test]
async fn operators_see_pulse_services_and_reports() {
    let pulse = Pulse::new().await;
    let world = &pulse.world;
    pulse.configure("  HOOKS: [{type: code-coverage, hookId: coverage/bot}]\n");
    let config = world.path("config.yml");
    let checked = world
        .events(&["config", "check", "--online", config.to_str().unwrap()])
        .await;
    for line in [
        "ok      redis:",
        "ok      phabricator",
        "ok      the Taskcluster of Firefox",
        "ok      pulse amqp://localhost:",
    ] {
        assert!(checked.out.contains(line), "{}", checked.out);
    }

    let tail = [
        "pulse",
        "tail",
        "--exchange",
        GROUPS,
        "--topic",
        "#.gecko-level-3.#",
    ];
    let mut tail_one = world.command(&[&tail[..], &["--limit", "1"]].concat());
    let listening = tokio::spawn(async move { tail_one.output().await.unwrap() });
    // What is published before the queue is bound is not shown.
    while !listening.is_finished() {
        pulse.resolve("a-group\u{202e}").await;
        SystemClock.sleep(Duration::from_millis(50)).await;
    }
    let output = listening.await.unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(
        printed.contains("a-group\\u202e") && !printed.contains('\u{202e}'),
        "{printed:?}"
    );
    let message: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&message["exchange"], &message["body"]["taskGroupId"]),
        (&json!(GROUPS), &json!("a-group\u{202e}"))
    );
    let mut unread = world.command(&tail).stdout(Stdio::piped()).spawn().unwrap();
    drop(unread.stdout.take());
    let ended = tokio::time::timeout(PATIENCE, async {
        while unread.try_wait().unwrap().is_none() {
            pulse.resolve("a-group").await;
            SystemClock.sleep(Duration::from_millis(50)).await;
        }
        unread.wait().await.unwrap()
    });
    let ended = ended.await.expect("it ends when nobody reads");
    assert!(ended.success(), "{ended}");

    let report = world.events(&["report"]).await;
    assert!(
        report
            .out
            .contains("Firefox: 0 tasks since the last report"),
        "{}",
        report.out
    );

    pulse.taskcluster.go_down().await.unwrap();
    let checked = world
        .events(&["config", "check", "--online", config.to_str().unwrap()])
        .await;
    assert!(
        checked.out.contains("FAILED  the Taskcluster of Firefox"),
        "{}",
        checked.out
    );
    assert_eq!(
        (checked.code, checked.err.trim_end()),
        (Some(1), "events: 1 check failed")
    );
}

#[tokio::test]
async fn a_hook_with_wrong_credentials_or_repositories_stops_the_start_and_is_named() {
    let world = World::with_redis().await;
    let taskcluster = FakeTaskcluster::start(Arc::new(SystemClock)).await.unwrap();
    world.configure(&format!(
        "  taskcluster: {{root_url: \"{}\", client_id: nobody, access_token: wrong}}\n  HOOKS:\n    \
         - {{type: static-analysis-phabricator, hookId: static-analysis/bot, repositories: [product]}}\n",
        taskcluster.root()
    ));
    let mut worker = world.start("worker");
    assert!(!worker.ended().await.success());
    let log = worker.log();
    assert!(
        log.contains(
            "the hook project-releng/static-analysis/bot cannot work on the Taskcluster of Firefox"
        ),
        "{log}"
    );
    assert!(!log.contains("wrong"), "{log}");

    world.configure(
        "    - {type: static-analysis-phabricator, hookId: other/bot, repositories: [unknown]}\n",
    );
    let mut worker = world.start("worker");
    assert!(!worker.ended().await.success());
    let expected =
        "phabricator does not know: repository unknown of the hook project-releng/other/bot";
    assert!(worker.log().contains(expected), "{}", worker.log());
}

#[tokio::test]
async fn the_configuration_can_be_a_secret_of_taskcluster() {
    let world = World::with_redis().await;
    let taskcluster = FakeTaskcluster::start(Arc::new(SystemClock)).await.unwrap();
    let document = json!({ "events": {
        "PHABRICATOR": { "url": world.phabricator.url(), "api_key": world.phabricator.token().expose_secret() },
        "repositories": [{ "name": "product", "url": "https://hg.example.com/product", "try_url": "ssh://hg.example.com/try" }],
    }});
    taskcluster.add_secret("project/code-review/testing", document);
    let proxy = taskcluster.start_proxy().await.unwrap();
    let arguments = [
        "config",
        "check",
        "--taskcluster-secret",
        "project/code-review/testing",
    ];
    let mut command = world.command(&arguments);
    // The file of the environment is there, and is not meant.
    let output = command
        .env("TASKCLUSTER_PROXY_URL", proxy.as_str())
        .output()
        .await
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success() && said.contains("the secret project/code-review/testing is valid"),
        "{said}"
    );
}
