//! `events builds restart`: Harbormaster builds targets again that have ended.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use build::{
    BuildEventKind, BuildLog, BuildRecord, BuildRequest, BuildUpdate, BuildUpdateMessage,
    InfraFailure, Phid, Source,
};
use bus::{BusError, Consumer, Context, Handler, MessageSelector, Outcome, Producer};
use events::queues::BUILD_QUEUES;
use runtime::{Clock, ManualClock, SystemClock};
use serde_json::json;
use testkit::phabricator::{CreatedRevision, Plan};

use crate::world::World;

const HOUR: Duration = Duration::from_secs(3600);

fn build_log() -> BuildLog {
    BuildLog::new(24 * HOUR, "a test", BUILD_QUEUES)
}

fn broken() -> BuildUpdate {
    let summary = "The key of Try is not accepted.".to_owned();
    BuildUpdate::InfraFailed(InfraFailure {
        summary,
        details: String::new(),
        attempts: 5,
        seconds: 60.0,
    })
}

/// Publishes nothing, and records that it did.
struct Closed {
    log: BuildLog,
    kind: BuildEventKind,
}

#[async_trait]
impl Handler<BuildUpdateMessage> for Closed {
    type Error = BusError;

    async fn handle(&self, message: BuildUpdateMessage, cx: &Context) -> Result<Outcome, BusError> {
        let target = &message.request.target;
        self.log.close(cx, target, self.kind.clone())?;
        Ok(Outcome::Done)
    }
}

impl World {
    /// A build of this revision that ended so, so long ago.
    async fn ended(&self, revision: &CreatedRevision, update: &BuildUpdate, ago: Duration) -> Phid {
        let build = self.phabricator.start_build(revision.diff.id);
        self.phabricator.answered(&build.target, 200);
        let at = SystemClock.now().checked_sub(ago).unwrap();
        let request = BuildRequest {
            target: build.target,
            diff_id: build.diff_id,
            repository: build.repository,
            revision_id: build.revision_id,
            accepted_at: at,
            staged: None,
        };
        let (log, bus) = (build_log(), self.bus());
        let clock = Arc::new(ManualClock::new(at));
        let producer = Producer::new(Arc::new(bus), clock.clone());
        log.accept(&producer, &request, Source::Harbormaster)
            .await
            .unwrap();
        let record = BuildRecord::default();
        log.finish_from(&producer, &request, &record, update.clone(), None)
            .await
            .unwrap();
        let closed = Closed {
            log,
            kind: BuildEventKind::Published {
                what: "failed".to_owned(),
            },
        };
        let publish = BUILD_QUEUES.publish;
        let publisher = Consumer::new(producer.bus().clone(), clock, publish, closed);
        while publisher.step().await.unwrap() > 0 {}
        let load = BUILD_QUEUES.load.spec();
        producer
            .bus()
            .drop_waiting(&load, MessageSelector::All)
            .await
            .unwrap();
        request.target
    }

    fn revisions(&self, titles: &[&str]) -> Vec<CreatedRevision> {
        titles
            .iter()
            .map(|title| self.submit(title, "patch", None))
            .collect()
    }

    /// The targets that Harbormaster made by restarts, by the diff that they are of.
    fn restarted(&self) -> Vec<u64> {
        self.phabricator
            .unanswered()
            .iter()
            .map(|request| request.diff_id)
            .collect()
    }
}

#[tokio::test]
async fn failed_builds_of_a_period_are_restarted_once() {
    let world = World::with_redis().await;
    let [old, failed, skipped, private, open] =
        <[_; 5]>::try_from(world.revisions(&["old", "failed", "skipped", "private", "open"]))
            .unwrap();
    world.ended(&old, &broken(), 3 * HOUR).await;
    let target = world.ended(&failed, &broken(), HOUR).await;
    world
        .ended(
            &skipped,
            &BuildUpdate::skipped(build::SkipReason::Expired, "Expired."),
            HOUR,
        )
        .await;
    world.ended(&private, &BuildUpdate::Private, HOUR).await;
    world.phabricator.start_build(open.diff.id);

    let command = [
        "builds",
        "restart",
        "--outcome",
        "infra_failed",
        "--since",
        "2h",
    ];
    let planned = world.events(&[&command[..], &["--dry-run"]].concat()).await;
    assert!(
        planned.lines()[1].contains("would be restarted"),
        "{planned:?}"
    );
    assert_eq!(planned.lines().last(), Some(&"would restart 1 build"));
    assert_eq!(
        world.restarted(),
        [open.diff.id],
        "a dry run restarts nothing"
    );

    let done = world.events(&command).await;
    let lines = done.lines();
    assert!(
        lines[1].contains(target.as_str())
            && lines[1].contains("infra_failed")
            && lines[1].ends_with("restarted")
    );
    assert_eq!((lines.len(), lines[2]), (3, "restarted 1 build"));
    assert_eq!(world.restarted(), [open.diff.id, failed.diff.id]);
    let record = build_log()
        .find(&world.bus(), &[target])
        .await
        .unwrap()
        .remove(0);
    assert!(record.was_restarted());

    assert_eq!(
        world.events(&command).await.lines(),
        ["restarted nothing: no build matches"]
    );
    assert_eq!(world.restarted().len(), 2);
}

#[tokio::test]
async fn builds_are_restarted_by_selector_repository_and_limit() {
    let world = World::with_redis().await;
    let revisions = world.revisions(&["one", "two", "three"]);
    for revision in &revisions {
        world.ended(revision, &broken(), HOUR).await;
    }
    let command = [
        "builds",
        "restart",
        "--outcome",
        "infra_failed",
        "--since",
        "2h",
        "--json",
    ];
    let with = |more: &[&'static str]| [&command[..], more].concat();
    let unknown = world.events(&with(&["--repository", "elsewhere"])).await;
    assert!(
        unknown
            .fault()
            .contains("phabricator does not know the repository \"elsewhere\""),
        "{unknown:?}"
    );
    let first = world
        .events(&with(&["--repository", "product", "--limit", "1"]))
        .await
        .json();
    assert_eq!(
        (first.len(), &first[0]["diff"], &first[0]["action"]),
        (1, &json!(3), &json!("restarted"))
    );
    // However often it is named.
    let named = world
        .events(&["builds", "restart", "D1", "D1", "1", "--json"])
        .await
        .json();
    assert_eq!(
        (named.len(), &named[0]["diff"], &named[0]["outcome"]),
        (1, &json!(1), &json!("infra_failed"))
    );
    assert_eq!(world.restarted(), [3, 1]);
    // Harbormaster knows that it was restarted, whatever the record says.
    let again = world.events(&["builds", "restart", "D1"]).await;
    assert!(
        again.lines()[1].ends_with("not restarted: it was already restarted"),
        "{again:?}"
    );
    assert_eq!(world.restarted(), [3, 1]);
}

#[tokio::test]
async fn build_with_a_newer_one_is_not_restarted() {
    let world = World::with_redis().await;
    let revision = world.revisions(&["one"]).remove(0);
    let old = world.ended(&revision, &broken(), HOUR).await;
    let newer = world.ended(&revision, &broken(), HOUR / 2).await;
    let said = world.events(&["builds", "restart", old.as_str()]).await;
    assert!(
        said.lines()[1].contains(&format!("not restarted: {newer} of D1 is newer")),
        "{said:?}"
    );
    assert!(world.restarted().is_empty());
}

#[tokio::test]
async fn refusal_of_harbormaster_is_reported_with_its_remedy() {
    let world = World::with_redis().await;
    let revision = world.revisions(&["one"]).remove(0);
    world.ended(&revision, &broken(), HOUR).await;
    let plan = world.phabricator.build_plan();
    let hide: fn(&mut Plan) = |plan| plan.is_visible = false;
    let forbid: fn(&mut Plan) = |plan| {
        plan.is_visible = true;
        plan.restartable = "never";
    };
    for (edit, remedy) in [
        (
            hide,
            "refused: let our user see the build plan. Harbormaster: ",
        ),
        (
            forbid,
            "refused: change \\\"Restartable\\\" of the build plan. Harbormaster: ",
        ),
    ] {
        world.phabricator.edit_build_plan(&plan, edit);
        let said = world.events(&["builds", "restart", "D1", "--json"]).await;
        assert_eq!(said.code, Some(1));
        assert!(said.out.contains(remedy), "{said:?}");
        assert!(
            said.err.contains("harbormaster refused to restart 1 build"),
            "{said:?}"
        );
    }
}

#[tokio::test]
async fn revision_names_the_build_that_was_accepted_last() {
    let world = World::with_redis().await;
    let revision = world.revisions(&["one"]).remove(0);
    // A worker may begin an older request of a revision after the newer one.
    let newer = world.ended(&revision, &broken(), HOUR / 2).await;
    let older = world.ended(&revision, &broken(), HOUR).await;
    let listed = world.events(&["builds", "list", "--json"]).await.json();
    assert_eq!(
        (&listed[0]["target"], &listed[1]["target"]),
        (&json!(newer), &json!(older))
    );
    let restarted = world
        .events(&["builds", "restart", "D1", "--json"])
        .await
        .json();
    assert_eq!(restarted[0]["target"], json!(newer));
}

#[tokio::test]
async fn build_that_has_no_end_yet_is_not_restarted() {
    let world = World::with_redis().await;
    let revision = world.revisions(&["one"]).remove(0);
    let build = world.phabricator.start_build(revision.diff.id);
    let request = BuildRequest {
        target: build.target,
        diff_id: build.diff_id,
        repository: build.repository,
        revision_id: build.revision_id,
        accepted_at: SystemClock.now(),
        staged: None,
    };
    let producer = Producer::new(Arc::new(world.bus()), Arc::new(SystemClock));
    build_log()
        .accept(&producer, &request, Source::Harbormaster)
        .await
        .unwrap();
    let before = world.restarted();
    for arguments in [&["D1"][..], &["D1", "--dry-run"]] {
        let said = world
            .events(&[&["builds", "restart"][..], arguments].concat())
            .await;
        let row = said.lines()[1];
        assert!(
            row.contains("accepted")
                && row.ends_with("not restarted: it has not ended yet; see `events builds show`"),
            "{said:?}"
        );
    }
    assert_eq!(world.restarted(), before);
    let record = build_log()
        .find(&world.bus(), &[request.target])
        .await
        .unwrap()
        .remove(0);
    assert!(!record.was_restarted());
}

#[tokio::test]
async fn restart_without_a_selection_or_with_an_unknown_outcome_is_refused() {
    let world = World::with_redis().await;
    for unclear in [
        vec!["builds", "restart"],
        vec!["builds", "restart", "--outcome", "infra_failed"],
        vec!["builds", "restart", "--outcome", "broken", "--since", "2h"],
        vec![
            "builds",
            "restart",
            "D1",
            "--outcome",
            "pushed",
            "--since",
            "2h",
        ],
    ] {
        assert_eq!(world.events(&unclear).await.code, Some(2), "{unclear:?}");
    }
    assert_eq!(
        world.events(&["builds", "list"]).await.lines(),
        ["no build matches"]
    );
    assert_eq!(
        world
            .events(&["builds", "list", "--limit", "3"])
            .await
            .lines(),
        ["no build matches"]
    );
}
