//! Both deployments, a Phabricator, a bus with the handlers, and what bugbug and Try do.

use std::{sync::Arc, time::Duration};

use build::{
    BaseChoice, BaseReason, BuildLog, BuildQueues, BuildRecord, BuildRequest, BuildUpdate,
    BuildUpdateMessage, Phid, Pushed, Source, TestResult, VersionControl,
};
use bus::{Bus, Consumer, MemoryBus, Message, Policy, Producer, Queue, Reserve};
use phabricator::{Conduit, TestResultPublisher};
use pulse::{PulseMessage, Routing};
use runtime::{Clock, ManualClock};
use serde_json::{Value, json};
use taskcluster::{Email, Taskcluster};
use testkit::{
    phabricator::{FakePhabricator, NewDiff, NewRevision},
    taskcluster::{FakeArtifact, FakeTaskcluster},
};
use triggers::{
    Mailer, SelectionQueues, SelectionResultHandler, SelectionStart, TestResultHandler, Trigger,
};

use crate::stage::{self, Hurried, NOW, credentials, dead_reasons, decoded, http};

pub(crate) const ACTIONS: &str = include_str!("../../fixtures/actions.json");
const TASK_COMPLETED: &str =
    include_str!("../../../../../taskcluster/tests/fixtures/pulse/queue-task-completed-1.json");

pub(crate) const PUSHES: Queue<BuildUpdateMessage> = Queue::new("bugbug:try_push", Policy::DEFAULT);
pub(crate) const COMMUNITY_HOOKS: Queue<Trigger> = Queue::new("hooks:community", Policy::DEFAULT);
pub(crate) const SELECTIONS: Queue<PulseMessage> =
    Queue::new("pulse:bugbug_test_select", Policy::DEFAULT);
pub(crate) const HOOKS: Queue<Trigger> = Queue::new("hooks", Policy::DEFAULT);
pub(crate) const MAILS: Queue<Email> = Queue::new("mails", Policy::DEFAULT);
pub(crate) const TASKS: Queue<PulseMessage> = Queue::new("pulse:tests", Policy::DEFAULT);
pub(crate) const RESULTS: Queue<TestResult> = Queue::new("build:publish-tests", Policy::DEFAULT);

/// The artifacts of bugbug's task for a diff.
pub(crate) struct Selection<'a> {
    pub(crate) deployment: &'a str,
    pub(crate) risk: Option<&'a str>,
    pub(crate) labels: Option<&'a str>,
}

impl Default for Selection<'_> {
    fn default() -> Self {
        Self {
            deployment: "prod",
            risk: Some("1\n"),
            labels: Some("test-linux/opt-a\ntest-linux/opt-b\n"),
        }
    }
}

pub(crate) struct World {
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) community: FakeTaskcluster,
    pub(crate) firefox: FakeTaskcluster,
    pub(crate) phabricator: FakePhabricator,
    alice: Phid,
    repository: Phid,
    start: Consumer,
    end: Consumer,
    tests: Consumer,
    results: Consumer,
    mails: Consumer,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with_share(1.0).await
    }

    /// A world in which tests are selected for this share of pushes.
    pub(crate) async fn with_share(share: f64) -> Self {
        let clock = Arc::new(ManualClock::new(NOW.parse().unwrap()));
        let hurried = Hurried::new(NOW);
        let community = FakeTaskcluster::start(hurried.clone()).await.unwrap();
        let firefox = FakeTaskcluster::start(hurried.clone()).await.unwrap();
        let phabricator = FakePhabricator::start(clock.clone()).await.unwrap();
        let bus: Arc<dyn Bus> = Arc::new(MemoryBus::new(clock.clone()));
        let client = |fake: &FakeTaskcluster| {
            Taskcluster::new(
                fake.root().clone(),
                Some(credentials(fake)),
                http(),
                hurried.clone(),
            )
        };
        let start =
            SelectionStart::new(share, "prod".to_owned(), client(&firefox), COMMUNITY_HOOKS);
        let end = SelectionResultHandler::new(
            "prod".to_owned(),
            client(&community),
            client(&firefox),
            SelectionQueues {
                hooks: HOOKS,
                mails: MAILS,
            },
            vec!["dev@example.com".to_owned(), "qa@example.com".to_owned()],
        );
        let conduit = Conduit::new(phabricator.url().clone(), phabricator.token(), http());
        let on = || (bus.clone(), clock.clone());
        Self {
            start: Consumer::new(on().0, on().1, PUSHES, start),
            end: Consumer::new(on().0, on().1, SELECTIONS, end),
            tests: Consumer::new(
                on().0,
                on().1,
                TASKS,
                TestResultHandler::new(client(&firefox), RESULTS),
            ),
            results: Consumer::new(
                on().0,
                on().1,
                RESULTS,
                TestResultPublisher::new(conduit, true, build_log()),
            ),
            mails: Consumer::new(on().0, on().1, MAILS, Mailer::new(client(&firefox))),
            alice: phabricator.add_user("alice", "Alice Example"),
            repository: phabricator.add_repository("mozilla-central"),
            clock,
            bus,
            community,
            firefox,
            phabricator,
        }
    }

    /// A build of a new revision that ended with a push of this head.
    pub(crate) async fn build(&self, head: &str) -> BuildUpdateMessage {
        let diff = NewDiff::new("patch").base("f".repeat(40));
        let revision = self.phabricator.create_revision(NewRevision::new(
            "title",
            &self.alice,
            &self.repository,
            diff,
        ));
        self.build_again(revision.diff.id, head).await
    }

    /// A build of a diff that ended with a push of this head.
    pub(crate) async fn build_again(&self, diff_id: u64, head: &str) -> BuildUpdateMessage {
        let build = self.phabricator.start_build(diff_id);
        self.phabricator.answered(&build.target, 200);
        let request = BuildRequest {
            target: build.target,
            diff_id,
            repository: build.repository,
            revision_id: build.revision_id,
            accepted_at: self.clock.now(),
            staged: None,
        };
        let update = BuildUpdate::Pushed(Box::new(Pushed {
            vcs: VersionControl::Mercurial,
            revision: head.to_owned(),
            reference: None,
            job_url: None,
            jobs_url: Some(format!(
                "https://treeherder.mozilla.org/#/jobs?repo=try&revision={head}"
            )),
            on_treeherder: true,
            patches: 1,
            revisions: vec![request.revision_id],
            landed: Vec::new(),
            abandoned: Vec::new(),
            base: BaseChoice {
                used: "b".repeat(40),
                instead_of: None,
                reason: BaseReason::Named,
                tried: None,
            },
            seconds: 1.0,
        }));
        let (log, producer) = (
            build_log(),
            Producer::new(self.bus.clone(), self.clock.clone()),
        );
        log.accept(&producer, &request, Source::Harbormaster)
            .await
            .unwrap();
        let record = BuildRecord::default();
        log.finish_from(&producer, &request, &record, update.clone(), None)
            .await
            .unwrap();
        BuildUpdateMessage { request, update }
    }

    /// Sends a push to test selection, and handles it.
    pub(crate) async fn push(&self, applied: &BuildUpdateMessage) {
        self.send(&PUSHES, applied).await;
        assert_eq!(self.take_pushes().await, 1);
    }

    pub(crate) async fn take_pushes(&self) -> usize {
        self.start.step().await.unwrap()
    }

    /// Creates bugbug's task for a diff, with its artifacts, and returns its id.
    pub(crate) fn select(&self, diff_id: u64, selection: &Selection<'_>) -> String {
        let task = self.community.add_task(json!({
            "routes": ["project.bugbug.test_select"],
            // Hooks turn numbers into text.
            "extra": { "phabricator-deployment": selection.deployment, "phabricator-diff-id": diff_id.to_string() },
        }));
        let artifacts = [
            ("public/failure_risk", selection.risk),
            ("public/selected_tasks", selection.labels),
        ];
        for (name, content) in artifacts {
            if let Some(content) = content {
                self.community
                    .add_artifact(&task, name, FakeArtifact::Gzip(content.into()));
            }
        }
        task
    }

    /// Sends the message of Pulse about the end of bugbug's task.
    pub(crate) async fn announce(&self, task: &str) {
        let mut message = ended(task, task, "completed", Some(json!({})));
        message.routing.other_routes = vec![
            "route.index.x".to_owned(),
            "route.project.bugbug.test_select".to_owned(),
        ];
        self.send(&SELECTIONS, &message).await;
    }

    /// Runs bugbug's task for a diff, and handles its result.
    pub(crate) async fn selected(&self, diff_id: u64, selection: &Selection<'_>) {
        self.announce(&self.select(diff_id, selection)).await;
        assert_eq!(self.take_selections().await, 1);
    }

    pub(crate) async fn take_selections(&self) -> usize {
        self.end.step().await.unwrap()
    }

    /// Creates the decision task of a push, with `actions`, adds it to the index, and returns its id.
    pub(crate) fn decide(&self, head: &str, actions: Option<&str>) -> String {
        let decision = self.firefox.add_task(json!({
            "schedulerId": "gecko-level-1",
            "scopes": ["assume:repo:hg.mozilla.org/try", "in-tree:hook-action:project-gecko/in-tree-action-1-*"],
            "tags": { "kind": "decision-task" },
        }));
        if let Some(actions) = actions {
            self.firefox.add_artifact(
                &decision,
                "public/actions.json",
                FakeArtifact::Gzip(actions.into()),
            );
        }
        self.firefox.index(
            &format!("gecko.v2.try.revision.{head}.taskgraph.decision"),
            &decision,
        );
        decision
    }

    /// Handles the end of a task on Try, and publishes its result.
    pub(crate) async fn end_task(&self, message: &PulseMessage) {
        self.send(&TASKS, message).await;
        assert_eq!(self.tests.step().await.unwrap(), 1);
        self.results.step().await.unwrap();
    }

    pub(crate) async fn send_mails(&self) -> usize {
        self.mails.step().await.unwrap()
    }

    pub(crate) async fn send<M: Message>(&self, queue: &Queue<M>, message: &M) {
        stage::send(&self.bus, &self.clock, queue, message).await;
    }

    /// The messages of a queue.
    pub(crate) async fn waiting<M: Message>(&self, queue: &Queue<M>) -> Vec<M> {
        let found = self.bus.peek(&queue.spec(), 100).await.unwrap();
        found
            .iter()
            .map(|waiting| decoded(&waiting.envelope))
            .collect()
    }

    /// The reasons of the dead letters of a queue.
    pub(crate) async fn dead<M: Message>(&self, queue: &Queue<M>) -> Vec<String> {
        dead_reasons(self.bus.as_ref(), queue).await
    }

    /// The number of messages of a queue that are ready, delayed or in flight.
    pub(crate) async fn unfinished<M: Message>(&self, queue: &Queue<M>) -> usize {
        self.bus.depth(&queue.spec()).await.unwrap().unfinished()
    }

    /// A worker takes the messages of a queue, and dies.
    pub(crate) async fn die_with<M: Message>(&self, queue: &Queue<M>) {
        assert!(
            !self
                .bus
                .reserve(&queue.spec(), Reserve::now(10))
                .await
                .unwrap()
                .is_empty()
        );
        self.clock.advance(2 * queue.spec().policy.lease);
    }

    /// Name, result and details of the units on a build's target.
    pub(crate) fn units(&self, applied: &BuildUpdateMessage) -> Vec<[String; 3]> {
        let units = self
            .phabricator
            .target(&applied.request.target)
            .unwrap()
            .units;
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        units
            .iter()
            .map(|unit| ["name", "result", "details"].map(|key| text(&unit[key])))
            .collect()
    }
}

fn build_log() -> BuildLog {
    let queues = BuildQueues::new(
        Queue::new("build:load", Policy::DEFAULT),
        Queue::new("build:push", Policy::DEFAULT),
        Queue::new("build:publish", Policy::DEFAULT),
    );
    BuildLog::new(Duration::from_secs(30 * 24 * 3600), "a worker", queues)
}

/// The recorded message about the end of a task, changed to be about the task `task`. `tags` are the tags in it.
pub(crate) fn ended(task: &str, group: &str, state: &str, tags: Option<Value>) -> PulseMessage {
    let recorded: Value = serde_json::from_str(TASK_COMPLETED).unwrap();
    let mut body = recorded["body"].clone();
    let status = &mut body["status"];
    (status["taskId"], status["taskGroupId"], status["state"]) =
        (json!(task), json!(group), json!(state));
    (status["schedulerId"], status["runs"][0]["state"]) = (json!("gecko-level-1"), json!(state));
    match tags {
        Some(tags) => body["task"] = json!({ "tags": tags }),
        None => _ = body.as_object_mut().unwrap().remove("task"),
    }
    let routing = Routing {
        exchange: format!("exchange/taskcluster-queue/v1/task-{state}"),
        key: format!("primary.{task}.0.us-east-1.i-0.gecko-t.t-linux.gecko-level-1.{group}._"),
        other_routes: Vec::new(),
    };
    PulseMessage {
        routing,
        body: body.to_string().into_bytes().into(),
    }
}
