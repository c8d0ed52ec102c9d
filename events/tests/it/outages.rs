//! Phabricator is away, or does not let us in: nothing is answered wrongly, and when it is back every build goes on.
//!
//! The queues are those of the program, with their attempts and waits; time is moved by hand.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use build::{
    BaseChoice, BaseReason, BuildLog, BuildOutcome, BuildRecord, BuildRequest, BuildState,
    BuildUpdate, InfraFailure, Phid, Pushed, SkipReason, Source, VersionControl,
};
use bus::{Consumer, MemoryBus, Producer, QueueAdmin, QueueSpec};
use events::queues::{BUILD_LOAD, BUILD_PUBLISH, BUILD_PUSH, BUILD_QUEUES};
use phabricator::{
    Conduit, ConfiguredNames, Eligibility, NameResolver, Publisher, Workflow, WorkflowSettings,
};
use runtime::{Clock, ManualClock};
use testkit::phabricator::{
    EVERY_METHOD, FakePhabricator, Fault, NewDiff, NewRevision, TargetStatus,
};

const MINUTE: u64 = 60;
const HOUR: u64 = 3600;
/// The longest wait between two tries, with its jitter.
const LONGEST_WAIT: u64 = 11 * MINUTE;

struct Office {
    fake: FakePhabricator,
    alice: Phid,
    repository: Phid,
    clock: Arc<ManualClock>,
    bus: Arc<MemoryBus>,
    workflow: Consumer,
    publisher: Consumer,
}

fn build_log() -> BuildLog {
    BuildLog::new(
        Duration::from_secs(30 * 24 * HOUR),
        "a worker",
        BUILD_QUEUES,
    )
}

impl Office {
    async fn new() -> Self {
        let clock = Arc::new(ManualClock::new("2026-11-21T04:00:00Z".parse().unwrap()));
        let fake = FakePhabricator::start(clock.clone()).await.unwrap();
        fake.add_project("secure-revision");
        let (alice, repository) = (
            fake.add_user("alice", "Alice Example"),
            fake.add_repository("product"),
        );
        let http = http_client::client(Duration::from_secs(10)).unwrap();
        let conduit = Conduit::new(fake.url().clone(), fake.token(), http);
        let names = ConfiguredNames {
            skipped_authors: Vec::new(),
            secure_projects: vec!["secure-revision".to_owned()],
        };
        let resolver = NameResolver::load(&conduit, names).await.unwrap();
        let repositories = BTreeMap::from([(repository.clone(), VersionControl::Mercurial)]);
        let rules = build::eligibility::Rules {
            expiry: Duration::from_secs(24 * 3600),
            repositories,
        };
        let eligibility = Eligibility::new(conduit.clone(), resolver, rules);
        let bus = Arc::new(MemoryBus::new(clock.clone()));
        let workflow = Workflow::new(eligibility, WorkflowSettings::default(), build_log());
        let publisher = Publisher::new(conduit, true, build_log());
        Self {
            workflow: Consumer::new(bus.clone(), clock.clone(), BUILD_LOAD, workflow),
            publisher: Consumer::new(bus.clone(), clock.clone(), BUILD_PUBLISH, publisher),
            fake,
            alice,
            repository,
            clock,
            bus,
        }
    }

    fn producer(&self) -> Producer {
        Producer::new(self.bus.clone(), self.clock.clone())
    }

    /// A build that was accepted, and whose message is nowhere yet.
    fn request(&self) -> BuildRequest {
        let new = NewRevision::new("x", &self.alice, &self.repository, NewDiff::new("patch"));
        let revision = self.fake.create_revision(new);
        let build = self.fake.start_build(revision.diff.id);
        self.fake.answered(&build.target, 200);
        BuildRequest {
            target: build.target,
            diff_id: build.diff_id,
            repository: build.repository,
            revision_id: build.revision_id,
            accepted_at: self.clock.now(),
            staged: None,
        }
    }

    async fn accept(&self) -> BuildRequest {
        let request = self.request();
        build_log()
            .accept(&self.producer(), &request, Source::Harbormaster)
            .await
            .unwrap();
        request
    }

    /// A build that ended with `update`, which is to be said.
    async fn end(&self, update: BuildUpdate) -> BuildRequest {
        let request = self.request();
        let (log, record) = (build_log(), BuildRecord::default());
        log.finish_from(&self.producer(), &request, &record, update, None)
            .await
            .unwrap();
        request
    }

    /// Lets time pass, in a hundred steps or so.
    async fn pass(&self, seconds: u64) {
        let step = (seconds / 100).max(5);
        for _ in 0..seconds.div_ceil(step) {
            while self.workflow.step().await.unwrap() + self.publisher.step().await.unwrap() > 0 {}
            self.clock.advance(Duration::from_secs(step));
        }
    }

    async fn depth(&self, queue: &QueueSpec) -> (usize, usize) {
        let depth = self.bus.depth(queue).await.unwrap();
        (depth.unfinished(), depth.dead)
    }

    async fn record(&self, request: &BuildRequest) -> BuildRecord {
        let found = build_log()
            .find(self.bus.as_ref(), std::slice::from_ref(&request.target))
            .await
            .unwrap();
        found.into_iter().next().unwrap()
    }

    /// What its target was told: status, messages, units, links.
    fn said(&self, request: &BuildRequest) -> (TargetStatus, usize, usize, usize) {
        let target = self.fake.target(&request.target).unwrap();
        (
            target.status,
            target.messages.len(),
            target.units.len(),
            target.artifacts.len(),
        )
    }
}

fn broken() -> BuildUpdate {
    let (summary, details) = ("Try is away.".to_owned(), String::new());
    BuildUpdate::InfraFailed(InfraFailure {
        summary,
        details,
        attempts: 3,
        seconds: 2.0,
    })
}

fn pushed() -> BuildUpdate {
    BuildUpdate::Pushed(Box::new(Pushed {
        vcs: VersionControl::Mercurial,
        revision: "a".repeat(40),
        reference: None,
        job_url: None,
        jobs_url: Some("https://treeherder.example/#/jobs?repo=try&revision=aaaa".to_owned()),
        on_treeherder: true,
        patches: 1,
        revisions: vec![1],
        landed: Vec::new(),
        abandoned: Vec::new(),
        base: BaseChoice {
            used: "b".repeat(40),
            instead_of: None,
            reason: BaseReason::Named,
            tried: None,
        },
        seconds: 1.0,
    }))
}

/// An outage.
enum Trouble {
    Down,
    Fails(Fault),
}

/// Builds of all kinds meet an outage of `seconds`. Returns the outcome of the build that was accepted before it, if it has one.
async fn outage(trouble: Trouble, seconds: u64) -> Option<BuildOutcome> {
    let office = Office::new().await;
    let accepted = office.accept().await;
    let ended = [
        office.end(pushed()).await,
        office.end(broken()).await,
        office.end(skipped()).await,
    ];
    match &trouble {
        Trouble::Down => office.fake.go_down().await.unwrap(),
        Trouble::Fails(fault) => office.fake.fail_until_mended(EVERY_METHOD, fault),
    }
    // The waits within a call are short, and real: while nothing can succeed they are skipped.
    tokio::time::pause();
    office.pass(seconds).await;
    tokio::time::resume();
    let nothing = (TargetStatus::Waiting, 0, 0, 0);
    for request in ended.iter().chain([&accepted]) {
        assert_eq!(office.said(request), nothing);
    }
    let record = office.record(&accepted).await;
    assert_eq!(
        (record.state(), record.outcome()),
        (BuildState::Deferred, None)
    );
    assert_eq!(office.depth(&BUILD_LOAD.spec()).await, (1, 0));
    assert_eq!(office.depth(&BUILD_PUBLISH.spec()).await, (3, 0));

    office.fake.come_up().unwrap();
    office.fake.mend();
    office.pass(LONGEST_WAIT).await;
    assert_eq!(office.said(&ended[0]), (TargetStatus::Waiting, 1, 1, 1));
    assert_eq!(office.said(&ended[1]), (TargetStatus::Failed, 1, 1, 0));
    assert_eq!(office.said(&ended[2]), (TargetStatus::Passed, 1, 1, 0));
    assert_eq!(office.depth(&BUILD_LOAD.spec()).await, (0, 0));
    assert_eq!(office.depth(&BUILD_PUBLISH.spec()).await, (0, 0));
    let record = office.record(&accepted).await;
    let (state, outcome) = (record.state(), record.outcome());
    let goes_on = outcome.is_none();
    let expected = if goes_on {
        BuildState::Applying
    } else {
        BuildState::Published
    };
    assert_eq!(state, expected);
    assert_eq!(
        office.depth(&BUILD_PUSH.spec()).await,
        (usize::from(goes_on), 0)
    );
    let said = if goes_on {
        (TargetStatus::Waiting, 1, 0, 0)
    } else {
        (TargetStatus::Passed, 1, 1, 0)
    };
    assert_eq!(office.said(&accepted), said);
    outcome
}

fn skipped() -> BuildUpdate {
    BuildUpdate::skipped(
        SkipReason::Author,
        "Revisions of this author are not built.",
    )
}

#[tokio::test]
async fn phabricator_is_down_for_a_minute() {
    assert_eq!(outage(Trouble::Down, MINUTE).await, None);
}

#[tokio::test]
async fn phabricator_is_down_for_an_hour() {
    assert_eq!(outage(Trouble::Down, HOUR).await, None);
}

#[tokio::test]
async fn phabricator_answers_500_for_an_hour() {
    for status in [500, 503] {
        assert_eq!(
            outage(Trouble::Fails(Fault::Status(status)), HOUR).await,
            None
        );
    }
}

#[tokio::test]
async fn phabricator_cuts_every_answer_for_an_hour() {
    assert_eq!(outage(Trouble::Fails(Fault::Cut), HOUR).await, None);
}

/// A build whose diff is a day old by then is neutral, which is nobody's fault.
#[tokio::test]
async fn the_token_is_revoked_for_most_of_a_day_and_for_longer() {
    for (hours, outcome) in [
        (23, None),
        (25, Some(BuildOutcome::Skipped(SkipReason::Expired))),
    ] {
        let revoked = Trouble::Fails(Fault::Refuse("ERR-INVALID-AUTH"));
        assert_eq!(
            outage(revoked, hours * HOUR).await,
            outcome,
            "{hours} hours"
        );
    }
}
