//! Builds as they were recorded, and builds of the fake.

use std::{sync::Arc, time::Duration};

use runtime::{Clock, ManualClock};
use serde::de::DeserializeOwned;

use super::*;
use crate::api::Page;
use testkit::phabricator::{CreatedRevision, FakePhabricator, NewDiff, NewRevision};

#[derive(Deserialize)]
struct Recorded<T> {
    response: Answer<T>,
}

#[derive(Deserialize)]
struct Answer<T> {
    result: Page<T>,
}

fn read<T: DeserializeOwned>(recorded: &str) -> Vec<T> {
    serde_json::from_str::<Recorded<T>>(recorded)
        .unwrap()
        .response
        .result
        .data
}

macro_rules! fixture {
    ($name:literal) => {
        read(include_str!(concat!(
            "../../../tests/fixtures/phorge/harbormaster.",
            $name,
            ".json"
        )))
    };
}

#[test]
fn recorded_targets_are_read() {
    let build = Phid::parse("PHID-HMBD-wfasrfljt4porj7uecwb").unwrap();
    let target = |phid: &str, generation, started_at| TargetInfo {
        phid: Phid::parse(phid).unwrap(),
        build: build.clone(),
        generation,
        status: TargetStatus::Waiting,
        started_at: Some(Timestamp::from_second(started_at).unwrap()),
    };
    let runs: Vec<TargetInfo> = fixture!("target.search.after-restart");
    let newest = target("PHID-HMBT-rvm3mtalp4c4yb3u22ji", 2, 1_795_229_063);
    assert_eq!(
        runs,
        [
            newest.clone(),
            target("PHID-HMBT-iefnn5l5w6gdjfm65it2", 1, 1_795_228_927)
        ]
    );
    assert_eq!(
        waiting_by_build(runs),
        HashMap::from([(build.clone(), vec![newest])])
    );

    let passed: Vec<TargetInfo> = fixture!("target.search.phid-passed");
    let failed: Vec<TargetInfo> = fixture!("target.search.phid-failed");
    assert_eq!(
        (passed[0].status, failed[0].status),
        (TargetStatus::Passed, TargetStatus::Failed)
    );
}

#[test]
fn statuses_that_were_not_recorded_are_read() {
    let table = [
        ("target/pending", TargetStatus::Pending),
        ("target/building", TargetStatus::Building),
        ("target/aborted", TargetStatus::Aborted),
        ("target/of-next-year", TargetStatus::Other),
    ];
    for (word, expected) in table {
        let fields = json!({
            "buildPHID": "PHID-HMBD-a", "buildGeneration": 1, "status": { "value": word }, "epochStarted": null,
        });
        let target: TargetInfo =
            serde_json::from_value(json!({ "phid": "PHID-HMBT-a", "fields": fields })).unwrap();
        assert_eq!((target.status, target.started_at), (expected, None));
    }
}

#[test]
fn recorded_builds_and_buildables_are_read() {
    let builds = [
        fixture!("build.search.phid-building"),
        fixture!("build.search.herald"),
    ];
    for build in builds.iter().flatten() {
        let build: &Wire<BuildFields> = build;
        assert!(build.fields.status.value == BuildStatus::Open);
        assert_eq!(build.fields.buildable.kind(), "HMBB");
    }
    let passed: Vec<Wire<BuildFields>> = fixture!("build.search.phid-passed");
    let aborted: Vec<Wire<BuildFields>> = fixture!("build.search.aborted");
    assert!(passed[0].fields.status.value == BuildStatus::Passed);
    assert!(aborted[0].fields.status.value == BuildStatus::Aborted);
    assert_eq!(aborted[0].fields.created_at.as_second(), 1_795_228_926);
    let buildables: Vec<Wire<BuildableFields>> = fixture!("buildable.search.objectPHIDs");
    assert_eq!(buildables.len(), 3);
    assert_eq!(
        buildables[0].fields.object.as_str(),
        "PHID-DIFF-7oxxlizx4z7visjevdpy"
    );
}

struct World {
    fake: FakePhabricator,
    clock: Arc<ManualClock>,
    conduit: Conduit,
    alice: Phid,
    repository: Phid,
}

impl World {
    async fn new() -> Self {
        let clock = Arc::new(ManualClock::new("2026-11-21T04:00:00Z".parse().unwrap()));
        let fake = FakePhabricator::start(clock.clone()).await.unwrap();
        let http = http_client::client(Duration::from_secs(10)).unwrap();
        let conduit = Conduit::new(fake.url().clone(), fake.token(), http);
        let (alice, repository) = (
            fake.add_user("alice", "Alice"),
            fake.add_repository("mozilla-central"),
        );
        Self {
            fake,
            clock,
            conduit,
            alice,
            repository,
        }
    }

    fn revision(&self) -> CreatedRevision {
        self.fake.create_revision(NewRevision::new(
            "x",
            &self.alice,
            &self.repository,
            NewDiff::new("patch"),
        ))
    }

    /// A build whose target waits.
    fn build(&self, revision: &CreatedRevision) -> Phid {
        let target = self.fake.start_build(revision.diff.id).target;
        self.fake.answered(&target, 200);
        target
    }

    async fn waiting_since(&self, since: Timestamp) -> Vec<WaitingBuild> {
        self.conduit
            .waiting_builds(&self.fake.build_plan(), since)
            .await
            .unwrap()
    }

    async fn waiting(&self) -> Vec<Phid> {
        let found = self.waiting_since(Timestamp::UNIX_EPOCH).await;
        found.into_iter().map(|build| build.target).collect()
    }

    fn expected(&self, target: &Phid, revision: &CreatedRevision) -> WaitingBuild {
        WaitingBuild {
            target: target.clone(),
            started_at: self.clock.now(),
            diff_id: revision.diff.id,
            revision_id: revision.id,
            repository: self.repository.clone(),
        }
    }

    fn calls(&self, method: &str) -> usize {
        self.fake
            .calls()
            .iter()
            .filter(|call| call.method == method)
            .count()
    }
}

#[tokio::test]
async fn builds_of_the_plan_that_wait_are_found_with_what_they_are_of() {
    let world = World::new().await;
    let (first, second) = (world.revision(), world.revision());
    let (older, newer) = (world.build(&first), world.build(&second));
    world
        .fake
        .start_build_of_plan(&world.fake.add_build_plan(), first.diff.id);
    let expected = [
        world.expected(&newer, &second),
        world.expected(&older, &first),
    ];
    assert_eq!(world.waiting_since(world.clock.now()).await, expected);

    let targets = world
        .conduit
        .targets(&[older.clone(), Phid::parse("PHID-HMBT-unknown").unwrap()])
        .await
        .unwrap();
    assert_eq!(targets.len(), 1);
    assert_eq!(
        (&targets[0].phid, targets[0].status),
        (&older, TargetStatus::Waiting)
    );
}

#[tokio::test]
async fn builds_that_do_not_wait_are_not_found() {
    let world = World::new().await;
    let revision = world.revision();
    let request_on_its_way = world.fake.start_build(revision.diff.id).target;
    let refused = world.fake.start_build(revision.diff.id).target;
    world.fake.answered(&refused, 503);
    let ended = world.build(&revision);
    world
        .conduit
        .send_message(&ended, crate::api::MessageType::Pass, &[])
        .await
        .unwrap();
    world.fake.abort_build(&world.build(&revision));
    assert_eq!(world.waiting().await, []);
    world.fake.answered(&request_on_its_way, 200);
    assert_eq!(world.waiting().await, [request_on_its_way]);
}

#[tokio::test]
async fn only_the_target_of_the_newest_run_is_found() {
    let world = World::new().await;
    let old = world.build(&world.revision());
    let new = world.fake.restart_build(&old).target;
    // The old one waits, and would take no notice.
    assert_eq!(world.waiting().await, []);
    world.fake.answered(&new, 200);
    assert_eq!(world.waiting().await, [new]);
}

#[tokio::test]
async fn builds_of_what_is_not_visible_are_left_out() {
    let world = World::new().await;
    let (hidden, shown) = (world.revision(), world.revision());
    world.build(&hidden);
    let target = world.build(&shown);
    world.fake.set_visible(hidden.id, false);
    assert_eq!(world.waiting().await, [target]);
}

#[tokio::test]
async fn many_builds_take_a_call_for_each_hundred_of_them() {
    let world = World::new().await;
    let revision = world.revision();
    for _ in 0..250 {
        world.build(&revision);
    }
    let found = world.waiting().await;
    assert_eq!(found.iter().collect::<BTreeSet<_>>().len(), 250);
    let calls = [
        ("harbormaster.build.search", 3),
        ("harbormaster.target.search", 3),
        ("harbormaster.buildable.search", 3),
        ("differential.diff.search", 1),
        ("differential.revision.search", 1),
    ];
    for (method, count) in calls {
        assert_eq!(world.calls(method), count, "{method}");
    }
}

#[tokio::test]
async fn a_build_that_was_restarted_often_hides_no_other() {
    let world = World::new().await;
    let revision = world.revision();
    let older = world.build(&revision);
    let mut target = world.build(&revision);
    // The target of the older build is on the second page.
    for _ in 0..150 {
        target = world.fake.restart_build(&target).target;
    }
    world.fake.answered(&target, 200);
    assert_eq!(world.waiting().await, [target, older]);
}

#[tokio::test]
async fn older_builds_are_not_read() {
    let world = World::new().await;
    let revision = world.revision();
    for _ in 0..250 {
        world.build(&revision);
    }
    world.clock.advance(Duration::from_secs(60));
    let target = world.build(&revision);
    assert_eq!(
        world.waiting_since(world.clock.now()).await,
        [world.expected(&target, &revision)]
    );
    assert_eq!(world.calls("harbormaster.build.search"), 1);
    world.clock.advance(Duration::from_secs(60));
    assert_eq!(world.waiting_since(world.clock.now()).await, []);
}
