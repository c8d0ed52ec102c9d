//! What is read on a build target of the tests that ran for it.

use build::{
    BaseChoice, BaseReason, BuildRequest, BuildUpdate, Pushed, SkipReason, TestOutcome, TestResult,
    VersionControl,
};
use bus::{Consumer, Depth, Policy, Queue};
use phabricator::TestResultPublisher;
use serde_json::json;
use testkit::phabricator::{Fault, TargetStatus};

use crate::world::{World, build_log, capture_logs, conduit};

const TESTS: Queue<TestResult> = Queue::new("build:publish-tests", Policy::DEFAULT);
const LINK: &str =
    "https://treeherder.example/#/jobs?repo=try&revision=aaaa&selectedTaskRun=B-_1-0";

struct Stage {
    world: World,
    publisher: Consumer,
}

impl Stage {
    async fn new() -> Self {
        Self::publishing(true).await
    }

    async fn publishing(publish: bool) -> Self {
        let world = World::new().await;
        let publisher = world.consumer(
            TESTS,
            TestResultPublisher::new(conduit(&world.fake), publish, build_log()),
        );
        Self { world, publisher }
    }

    /// A build that ended so.
    async fn build(&self, end: &BuildUpdate) -> BuildRequest {
        let request = self.world.build(&self.world.create("revision")).await;
        self.world.decide(&request, end).await;
        request
    }

    async fn send(&self, result: &TestResult) {
        self.world.producer().send(&TESTS, result).await.unwrap();
    }

    /// Has a result told.
    async fn tell(&self, result: &TestResult) {
        self.send(result).await;
        assert_eq!(self.publisher.step().await.unwrap(), 1);
    }

    async fn depth(&self) -> Depth {
        self.world.depth(&TESTS).await
    }

    /// Name, result and details of the units on a target.
    fn units(&self, request: &BuildRequest) -> Vec<[String; 3]> {
        let units = self.world.target(request).units;
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        units
            .iter()
            .map(|unit| ["name", "result", "details"].map(|key| text(&unit[key])))
            .collect()
    }
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

fn result(request: &BuildRequest, task: &str, run: u32, outcome: TestOutcome) -> TestResult {
    TestResult {
        target: request.target.clone(),
        label: "test-linux/opt-mochitest-1".to_owned(),
        outcome,
        link: (outcome == TestOutcome::Fail).then(|| LINK.to_owned()),
        task_id: task.to_owned(),
        run,
    }
}

#[tokio::test]
async fn test_result_is_a_unit_on_a_target_that_still_waits() {
    let stage = Stage::new().await;
    let request = stage.build(&pushed()).await;
    stage
        .tell(&result(&request, "A", 0, TestOutcome::Pass))
        .await;
    stage
        .tell(&result(&request, "B", 0, TestOutcome::Fail))
        .await;
    let target = stage.world.target(&request);
    assert_eq!(
        (target.status, target.messages),
        (TargetStatus::Waiting, vec!["work".to_owned(); 2])
    );
    let failed = json!({
        "namespace": "code-review",
        "name": "test-linux/opt-mochitest-1",
        "result": "fail",
        "format": "remarkup",
        "details": LINK,
    });
    assert_eq!(json!(target.units[1]), failed);
    assert_eq!(
        stage.units(&request)[0],
        ["test-linux/opt-mochitest-1", "pass", ""]
    );
    assert_eq!(stage.depth().await, Depth::default());
}

#[tokio::test]
async fn result_of_each_run_is_published_once() {
    let stage = Stage::new().await;
    let request = stage.build(&pushed()).await;
    for _ in 0..2 {
        stage
            .tell(&result(&request, "A", 0, TestOutcome::Fail))
            .await;
    }
    assert_eq!(stage.units(&request).len(), 1);
    stage
        .tell(&result(&request, "A", 1, TestOutcome::Pass))
        .await;
    assert_eq!(stage.units(&request).len(), 2);
}

#[tokio::test]
async fn only_one_of_two_concurrent_deliveries_sends() {
    let stage = Stage::new().await;
    let request = stage.build(&pushed()).await;
    for _ in 0..2 {
        stage
            .send(&result(&request, "A", 0, TestOutcome::Pass))
            .await;
    }
    assert_eq!(stage.publisher.step().await.unwrap(), 2);
    assert_eq!(
        (stage.units(&request).len(), stage.depth().await),
        (1, Depth::default())
    );
}

#[tokio::test]
async fn result_of_a_build_that_was_not_pushed_is_skipped() {
    let (_guard, logs) = capture_logs();
    let stage = Stage::new().await;
    let skipped = BuildUpdate::skipped(SkipReason::Expired, "late");
    for (end, reason) in [
        (BuildUpdate::Private, "its revision is private"),
        (skipped, "its build was not pushed"),
    ] {
        let request = stage.build(&end).await;
        stage
            .tell(&result(&request, "A", 0, TestOutcome::Fail))
            .await;
        assert!(stage.units(&request).is_empty());
        assert!(
            logs.text()
                .contains(&format!("skipping the result of a test: {reason}")),
            "{}",
            logs.text()
        );
    }
    let unknown = stage.world.request(stage.world.create("revision").diff.id);
    stage
        .tell(&result(&unknown, "A", 0, TestOutcome::Fail))
        .await;
    assert!(
        stage.units(&unknown).is_empty() && logs.text().contains("nothing is known of its build")
    );
    assert!(!logs.text().contains("mochitest"), "{}", logs.text());
    assert_eq!(stage.depth().await, Depth::default());
}

/// A push can be public, and its revision become private while the tests run.
#[tokio::test]
async fn result_on_an_invisible_target_is_skipped() {
    let stage = Stage::new().await;
    let request = stage.build(&pushed()).await;
    stage.world.fake.set_visible(request.revision_id, false);
    stage
        .tell(&result(&request, "A", 0, TestOutcome::Fail))
        .await;
    assert_eq!(stage.depth().await, Depth::default());
    assert!(stage.units(&request).is_empty());
}

#[tokio::test]
async fn result_whose_response_was_lost_is_not_sent_again() {
    let stage = Stage::new().await;
    let request = stage.build(&pushed()).await;
    stage
        .world
        .fake
        .fail_next("harbormaster.sendmessage", 1, &Fault::CutAfter);
    stage
        .tell(&result(&request, "A", 0, TestOutcome::Fail))
        .await;
    assert_eq!(stage.depth().await.delayed, 1);
    stage.world.advance(3600);
    assert_eq!(stage.publisher.step().await.unwrap(), 1);
    assert_eq!(
        (stage.units(&request).len(), stage.depth().await),
        (1, Depth::default())
    );
}

#[tokio::test]
async fn result_of_a_worker_that_died_after_sending_it_is_not_shown_again() {
    let stage = Stage::new().await;
    let request = stage.build(&pushed()).await;
    stage
        .send(&result(&request, "A", 0, TestOutcome::Fail))
        .await;
    let acted = async {
        while stage.units(&request).is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        biased;
        () = acted => {}
        ended = stage.publisher.step() => panic!("settled before it died: {ended:?}"),
    }
    stage.world.advance(3600);
    assert_eq!(stage.publisher.step().await.unwrap(), 1);
    assert_eq!(
        (stage.units(&request).len(), stage.depth().await),
        (1, Depth::default())
    );
}

/// Nobody can tell this from the case above.
#[tokio::test]
async fn result_that_was_lost_in_transit_is_not_sent_again() {
    let stage = Stage::new().await;
    let request = stage.build(&pushed()).await;
    stage
        .world
        .fake
        .fail_next("harbormaster.sendmessage", 1, &Fault::Cut);
    stage
        .tell(&result(&request, "A", 0, TestOutcome::Fail))
        .await;
    stage.world.advance(3600);
    assert_eq!(stage.publisher.step().await.unwrap(), 1);
    assert_eq!(
        (stage.units(&request).len(), stage.depth().await),
        (0, Depth::default())
    );
}

#[tokio::test]
async fn refused_result_is_sent_at_the_next_attempt() {
    let stage = Stage::new().await;
    let request = stage.build(&pushed()).await;
    stage
        .world
        .fake
        .fail_next("harbormaster.sendmessage", 1, &Fault::Status(503));
    stage
        .tell(&result(&request, "A", 0, TestOutcome::Fail))
        .await;
    assert!(stage.units(&request).is_empty());
    stage.world.advance(3600);
    assert_eq!(stage.publisher.step().await.unwrap(), 1);
    assert_eq!(
        (stage.units(&request).len(), stage.depth().await),
        (1, Depth::default())
    );
}

#[tokio::test]
async fn result_is_published_after_an_outage_with_lost_responses() {
    let stage = Stage::new().await;
    let request = stage.build(&pushed()).await;
    for method in ["harbormaster.target.search", "harbormaster.sendmessage"] {
        stage
            .world
            .fake
            .fail_until_mended(method, &Fault::Status(502));
    }
    stage
        .tell(&result(&request, "A", 0, TestOutcome::Fail))
        .await;
    stage.world.advance(3600);
    assert_eq!(stage.publisher.step().await.unwrap(), 1);
    stage.world.fake.mend();
    stage.world.advance(3600);
    assert_eq!(stage.publisher.step().await.unwrap(), 1);
    assert_eq!(
        (stage.units(&request).len(), stage.depth().await),
        (1, Depth::default())
    );
}

#[tokio::test]
async fn nothing_is_published_when_publish_is_false() {
    let stage = Stage::publishing(false).await;
    let request = stage.build(&pushed()).await;
    stage
        .tell(&result(&request, "A", 0, TestOutcome::Fail))
        .await;
    assert!(stage.units(&request).is_empty());
    assert!(
        stage
            .world
            .fake
            .calls()
            .iter()
            .all(|call| call.method != "harbormaster.sendmessage")
    );
}
