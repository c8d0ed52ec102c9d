//! A Phabricator with a user and a repository, a bus, and the crate's handlers on it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use build::{
    Build, BuildLog, BuildQueues, BuildRecord, BuildRequest, BuildUpdate, BuildUpdateMessage, OPEN,
    PatchContent, PatchSource, Phid, Source, VersionControl, eligibility::Rules,
};
use bus::{Backoff, Bus, Consumer, Depth, Handler, MemoryBus, Message, Policy, Producer, Queue};
use http_client::{HttpError, Limits, Response};
use jiff::Timestamp;
use phabricator::{
    Auditor, Conduit, ConfiguredNames, Eligibility, NameResolver, Publisher, ViewPolicies,
    Workflow, WorkflowSettings,
};
use runtime::{Clock, ManualClock};
use testkit::phabricator::{CreatedRevision, FakePhabricator, NewDiff, NewRevision, Target};

pub(crate) use testkit::{Logs, capture_logs};

/// Two attempts, the second after a minute (and a jitter of a few seconds).
const POLICY: Policy = Policy {
    attempts: 2,
    backoff: Backoff {
        first: Duration::from_secs(60),
        factor: 1,
        cap: Duration::from_secs(60),
    },
    ..Policy::DEFAULT
};
const LOAD: Queue<BuildRequest> = Queue::new("build:load", POLICY);
const PUSH: Queue<Build> = Queue::new("build:push", POLICY);
const BUGBUG: Queue<Build> = Queue::new("bugbug", POLICY);
const PUBLISH: Queue<BuildUpdateMessage> = Queue::new("build:publish", POLICY);

/// When every test begins.
pub(crate) fn start() -> Timestamp {
    "2026-11-21T04:00:00Z".parse().unwrap()
}

pub(crate) fn http() -> reqwest::Client {
    http_client::client(Duration::from_secs(10)).unwrap()
}

/// Sends a request as it is and reads the whole response.
pub(crate) async fn response_to(request: reqwest::RequestBuilder) -> Result<Response, HttpError> {
    http_client::send(request, Limits::body(usize::MAX)).await
}

pub(crate) async fn fake() -> FakePhabricator {
    FakePhabricator::start(Arc::new(ManualClock::new(start())))
        .await
        .unwrap()
}

pub(crate) fn conduit(fake: &FakePhabricator) -> Conduit {
    Conduit::new(fake.url().clone(), fake.token(), http())
}

pub(crate) fn build_log() -> BuildLog {
    build_log_of("a worker")
}

/// As this process writes it.
pub(crate) fn build_log_of(process: &str) -> BuildLog {
    let queues = BuildQueues {
        risk: Some(BUGBUG),
        ..BuildQueues::new(LOAD, PUSH, PUBLISH)
    };
    BuildLog::new(Duration::from_secs(30 * 24 * 3600), process, queues)
}

/// What a test may change of a deployment.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) workflow: WorkflowSettings,
    pub(crate) rules: Rules,
}

fn eligibility(conduit: &Conduit, resolver: &NameResolver, settings: &Settings) -> Eligibility {
    Eligibility::new(conduit.clone(), resolver.clone(), settings.rules.clone())
}

fn workflow(conduit: &Conduit, resolver: &NameResolver, settings: &Settings) -> Workflow {
    Workflow::new(
        eligibility(conduit, resolver, settings),
        settings.workflow.clone(),
        build_log(),
    )
}

/// What a patch holds, read from its file.
pub(crate) struct Content {
    pub(crate) author: Option<String>,
    pub(crate) message: String,
    pub(crate) bytes: Vec<u8>,
}

pub(crate) struct World {
    pub(crate) fake: FakePhabricator,
    pub(crate) alice: Phid,
    pub(crate) repository: Phid,
    /// The project whose revisions are private.
    pub(crate) secure: Phid,
    pub(crate) resolver: NameResolver,
    pub(crate) clock: Arc<ManualClock>,
    bus: Arc<dyn Bus>,
    settings: Settings,
    workflow: Consumer,
    publisher: Consumer,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}, true).await
    }

    /// One where this user's revisions are not built.
    pub(crate) async fn skipping(username: &str) -> Self {
        Self::make(vec![username.to_owned()], |_| {}, true).await
    }

    pub(crate) async fn with(adjust: impl FnOnce(&mut Settings), publish: bool) -> Self {
        Self::make(Vec::new(), adjust, publish).await
    }

    async fn make(
        skipped_authors: Vec<String>,
        adjust: impl FnOnce(&mut Settings),
        publish: bool,
    ) -> Self {
        let clock = Arc::new(ManualClock::new(start()));
        let fake = FakePhabricator::start(clock.clone()).await.unwrap();
        let alice = fake.add_user("alice", "Alice Example");
        let repository = fake.add_repository("mozilla-central");
        let secure = fake.add_project("secure-revision");
        let names = ConfiguredNames {
            skipped_authors,
            secure_projects: vec!["secure-revision".to_owned()],
        };
        let resolver = NameResolver::load(&conduit(&fake), names).await.unwrap();
        let mut settings = Settings {
            workflow: WorkflowSettings::default(),
            rules: Rules {
                expiry: Duration::from_secs(24 * 3600),
                repositories: BTreeMap::from([(repository.clone(), VersionControl::Mercurial)]),
            },
        };
        adjust(&mut settings);
        let bus: Arc<dyn Bus> = Arc::new(MemoryBus::new(clock.clone()));
        let conduit = conduit(&fake);
        let workflow = workflow(&conduit, &resolver, &settings);
        let publisher = Publisher::new(conduit, publish, build_log());
        Self {
            workflow: Consumer::new(bus.clone(), clock.clone(), LOAD, workflow),
            publisher: Consumer::new(bus.clone(), clock.clone(), PUBLISH, publisher),
            fake,
            alice,
            repository,
            secure,
            resolver,
            clock,
            bus,
            settings,
        }
    }

    /// The same, where builds have pages.
    pub(crate) fn with_docs_url(self, docs_url: &str) -> Self {
        let docs_url = Some(docs_url.parse().unwrap());
        let publisher = Publisher::new(conduit(&self.fake), true, build_log());
        let publisher = publisher.with_docs_url(docs_url);
        let publisher = Consumer::new(self.bus.clone(), self.clock.clone(), PUBLISH, publisher);
        Self { publisher, ..self }
    }

    /// The same, where other view policies count as public.
    pub(crate) fn with_view_policies(self, policies: ViewPolicies) -> Self {
        let resolver = self.resolver.with_view_policies(policies);
        let workflow = workflow(&conduit(&self.fake), &resolver, &self.settings);
        let workflow = Consumer::new(self.bus.clone(), self.clock.clone(), LOAD, workflow);
        Self {
            resolver,
            workflow,
            ..self
        }
    }

    /// The same, where no repository is built any more.
    pub(crate) fn without_repositories(mut self) -> Self {
        self.settings.rules.repositories.clear();
        self
    }

    /// What decides whether a build is to be built.
    pub(crate) fn eligibility(&self) -> Eligibility {
        eligibility(&conduit(&self.fake), &self.resolver, &self.settings)
    }

    /// A revision of Alice's, to be created.
    pub(crate) fn revision(&self, title: &str) -> NewRevision {
        self.revision_with(
            title,
            NewDiff::new(format!("patch of {title}")).base("f".repeat(40)),
        )
    }

    pub(crate) fn revision_with(&self, title: &str, diff: NewDiff) -> NewRevision {
        NewRevision::new(title, &self.alice, &self.repository, diff)
    }

    pub(crate) fn create(&self, title: &str) -> CreatedRevision {
        self.fake.create_revision(self.revision(title))
    }

    /// The request for a build of a diff, as the web would accept it; its target waits.
    pub(crate) fn request(&self, diff_id: u64) -> BuildRequest {
        let build = self.fake.start_build(diff_id);
        self.fake.answered(&build.target, 200);
        BuildRequest {
            target: build.target,
            diff_id,
            repository: build.repository,
            revision_id: build.revision_id,
            accepted_at: self.clock.now(),
            staged: None,
        }
    }

    /// Sends a request into the workflow.
    pub(crate) async fn accept(&self, request: &BuildRequest) {
        self.accept_from(request, Source::Harbormaster, &build_log())
            .await;
    }

    /// The same from another source, with another log.
    pub(crate) async fn accept_from(&self, request: &BuildRequest, source: Source, log: &BuildLog) {
        log.accept(&self.producer(), request, source).await.unwrap();
    }

    /// Asks for a build of a revision's first diff.
    pub(crate) async fn build(&self, revision: &CreatedRevision) -> BuildRequest {
        let request = self.request(revision.diff.id);
        self.accept(&request).await;
        request
    }

    /// Lets the workflow handle what is ready.
    pub(crate) async fn work(&self) -> usize {
        self.workflow.step().await.unwrap()
    }

    /// Lets the publisher handle what is ready.
    pub(crate) async fn tell(&self) -> usize {
        self.publisher.step().await.unwrap()
    }

    /// An auditor, which looks for lost requests of `plan`.
    pub(crate) fn auditor(&self, plan: Option<&Phid>) -> Auditor {
        let day = Duration::from_secs(24 * 3600);
        Auditor::new(
            conduit(&self.fake),
            build_log(),
            vec![LOAD.spec(), PUSH.spec(), PUBLISH.spec()],
            self.producer(),
            plan.cloned(),
            day,
        )
    }

    /// Throws away all messages, as an operator may, or a Redis that lost its last second.
    pub(crate) async fn lose_all_messages(&self) {
        for queue in [LOAD.spec(), PUSH.spec(), PUBLISH.spec()] {
            self.bus
                .drop_waiting(&queue, bus::MessageSelector::All)
                .await
                .unwrap();
        }
    }

    pub(crate) async fn send_update(&self, request: &BuildRequest, update: &BuildUpdate) {
        let message = BuildUpdateMessage {
            request: request.clone(),
            update: update.clone(),
        };
        self.producer().send(&PUBLISH, &message).await.unwrap();
    }

    /// Has an update published.
    pub(crate) async fn publish(&self, request: &BuildRequest, update: &BuildUpdate) {
        let message = BuildUpdateMessage {
            request: request.clone(),
            update: update.clone(),
        };
        self.producer().send(&PUBLISH, &message).await.unwrap();
        assert_eq!(self.publisher.step().await.unwrap(), 1);
    }

    pub(crate) fn advance(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    /// What the workflow had to say, oldest first.
    pub(crate) async fn updates(&self) -> Vec<BuildUpdate> {
        self.peek(&PUBLISH)
            .await
            .into_iter()
            .map(|message| message.update)
            .collect()
    }

    /// The builds that wait to be applied.
    pub(crate) async fn builds(&self) -> Vec<Build> {
        self.peek(&PUSH).await
    }

    /// The contents of a build's patches, as a worker loads them.
    pub(crate) async fn contents(&self, build: &Build) -> Vec<Content> {
        let directory = tempfile::tempdir().unwrap();
        let loaded = conduit(&self.fake).load(build, directory.path()).await;
        let read = |content: PatchContent| Content {
            bytes: content.file.read().unwrap(),
            author: content.author,
            message: content.message,
        };
        loaded.unwrap().into_iter().map(read).collect()
    }

    /// The builds that wait for bugbug.
    pub(crate) async fn sent_to_bugbug(&self) -> Vec<Build> {
        self.peek(&BUGBUG).await
    }

    pub(crate) async fn requests(&self) -> Depth {
        self.bus.depth(&LOAD.spec()).await.unwrap()
    }

    pub(crate) async fn results(&self) -> Depth {
        self.bus.depth(&PUBLISH.spec()).await.unwrap()
    }

    /// Why updates could not be published.
    pub(crate) async fn dead_results(&self) -> Vec<String> {
        self.bus
            .dead(&PUBLISH.spec(), "", 10)
            .await
            .unwrap()
            .into_iter()
            .map(|letter| letter.reason)
            .collect()
    }

    /// Sends the updates that could not be published again, as an operator does.
    pub(crate) async fn requeue_dead_results(&self) -> usize {
        let letters = self.bus.dead(&PUBLISH.spec(), "", 10).await.unwrap();
        let ids: Vec<String> = letters.into_iter().map(|letter| letter.id).collect();
        self.bus.requeue_dead(&PUBLISH.spec(), &ids).await.unwrap()
    }

    /// Stops or resumes the workflow.
    pub(crate) async fn pause_requests(&self, paused: bool) {
        self.bus.set_paused(&LOAD.spec(), paused).await.unwrap();
    }

    /// The builds that the auditor checks.
    pub(crate) async fn open(&self) -> Vec<Phid> {
        build_log()
            .indexed(self.bus.as_ref(), OPEN, 0..100)
            .await
            .unwrap()
    }

    /// Decides how a build ends, and says nothing of it.
    pub(crate) async fn decide(&self, request: &BuildRequest, end: &BuildUpdate) {
        let record = self.record(request).await;
        let log = build_log();
        log.finish_from(&self.producer(), request, &record, end.clone(), None)
            .await
            .unwrap();
        let sent = bus::MessageSelector::All;
        self.bus.drop_waiting(&PUBLISH.spec(), sent).await.unwrap();
    }

    /// What is recorded of a build.
    pub(crate) async fn record(&self, request: &BuildRequest) -> BuildRecord {
        let found = build_log()
            .find(self.bus.as_ref(), std::slice::from_ref(&request.target))
            .await
            .unwrap();
        found.into_iter().next().unwrap()
    }

    pub(crate) fn target(&self, request: &BuildRequest) -> Target {
        self.fake.target(&request.target).unwrap()
    }

    /// A consumer of another queue, on the same bus.
    pub(crate) fn consumer<M: Message>(
        &self,
        queue: Queue<M>,
        handler: impl Handler<M>,
    ) -> Consumer {
        Consumer::new(self.bus.clone(), self.clock.clone(), queue, handler)
    }

    pub(crate) async fn depth<M: Message>(&self, queue: &Queue<M>) -> Depth {
        self.bus.depth(&queue.spec()).await.unwrap()
    }

    pub(crate) fn producer(&self) -> Producer {
        Producer::new(self.bus.clone(), self.clock.clone())
    }

    /// What waits in a queue, oldest first.
    pub(crate) async fn peek<M: Message>(&self, queue: &Queue<M>) -> Vec<M> {
        let found = self.bus.peek(&queue.spec(), 1000).await.unwrap();
        found
            .iter()
            .map(|waiting| M::decode(waiting.envelope.version, &waiting.envelope.body).unwrap())
            .collect()
    }
}
