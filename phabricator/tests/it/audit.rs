//! Builds that nobody works on any more, and builds whose request was lost.

use build::{
    BuildEventKind, BuildOutcome, BuildRequest, BuildUpdate, FinalOutcome, Phid, SkipReason, Source,
};
use phabricator::AuditFinding;
use testkit::phabricator::{EVERY_METHOD, Fault, TargetStatus};

use serde_json::{Value, json};

use crate::world::{World, conduit};

const HOUR: u64 = 3600;

async fn audit(world: &World, plan: Option<&Phid>) -> Vec<AuditFinding> {
    world.auditor(plan).audit(false).await.unwrap()
}

fn actions(findings: &[AuditFinding]) -> Vec<&str> {
    findings
        .iter()
        .map(|finding| finding.action.as_str())
        .collect()
}

async fn accepted(world: &World) -> BuildRequest {
    world.build(&world.create("revision")).await
}

#[tokio::test]
async fn lost_build_is_built_again_twice_and_then_fails() {
    let world = World::new().await;
    let request = accepted(&world).await;
    world.lose_all_messages().await;
    assert!(audit(&world, None).await.is_empty(), "it has time");
    world.advance(HOUR);
    assert_eq!(actions(&audit(&world, None).await), ["it is built again"]);
    assert!(
        audit(&world, None).await.is_empty(),
        "it is on its way again"
    );
    assert_eq!(world.work().await, 1);
    assert_eq!(world.builds().await.len(), 1, "its stack is loaded");

    world.lose_all_messages().await;
    world.advance(HOUR);
    assert_eq!(actions(&audit(&world, None).await), ["it is built again"]);
    world.lose_all_messages().await;
    world.advance(HOUR);
    assert_eq!(
        actions(&audit(&world, None).await),
        ["ended as infra_failed"]
    );
    world.tell().await;
    let target = world.target(&request);
    assert_eq!(
        (target.status, target.units.len()),
        (TargetStatus::Failed, 1)
    );
    assert_eq!(
        world.record(&request).await.outcome(),
        Some(BuildOutcome::InfraFailed)
    );
    world.advance(HOUR);
    assert!(audit(&world, None).await.is_empty());
}

#[tokio::test]
async fn waiting_build_is_not_overdue() {
    let world = World::new().await;
    // One waits in a long queue, one for its revision to become public.
    let hidden = world.create("hidden");
    world.fake.set_visible(hidden.id, false);
    world.build(&hidden).await;
    assert_eq!(world.work().await, 1);
    accepted(&world).await;
    world.advance(10);
    assert!(audit(&world, None).await.is_empty());
    world.advance(5 * HOUR);
    let found = audit(&world, None).await;
    assert_eq!(
        actions(&found),
        Vec::<&str>::new(),
        "both are still there: {found:?}"
    );
}

#[tokio::test]
async fn decided_answer_that_was_not_published_is_published() {
    let world = World::new().await;
    let revision = world.create("revision");
    world
        .fake
        .set_status(revision.id, testkit::phabricator::RevisionStatus::Published);
    let request = world.build(&revision).await;
    world.work().await;
    world.lose_all_messages().await;
    world.advance(HOUR);
    assert_eq!(
        actions(&audit(&world, None).await),
        ["its answer is sent again"]
    );
    world.tell().await;
    assert_eq!(world.target(&request).status, TargetStatus::Passed);
    let record = world.record(&request).await;
    assert_eq!(
        record.outcome(),
        Some(BuildOutcome::Skipped(SkipReason::Landed))
    );
    assert!(record.published_at.is_some());
}

#[tokio::test]
async fn build_that_ended_or_is_invisible_in_harbormaster_is_closed_without_an_answer() {
    let world = World::new().await;
    let aborted = accepted(&world).await;
    let private = world.create("private later");
    let hidden = world.build(&private).await;
    world.lose_all_messages().await;
    world.fake.abort_build(&aborted.target);
    world.fake.set_visible(private.id, false);
    world.advance(HOUR);
    let mut actions: Vec<String> = audit(&world, None)
        .await
        .into_iter()
        .map(|finding| finding.action)
        .collect();
    actions.sort();
    assert_eq!(
        actions,
        [
            "closed",
            "ended as private: harbormaster does not show its target"
        ]
    );
    assert_eq!(
        world.record(&aborted).await.outcome(),
        Some(BuildOutcome::Skipped(SkipReason::EndedElsewhere))
    );
    assert_eq!(
        world.record(&hidden).await.outcome(),
        Some(BuildOutcome::Private)
    );
    world.tell().await;
    assert!(world.target(&hidden).messages.is_empty());
    assert!(world.target(&aborted).units.is_empty());
    world.advance(HOUR);
    assert!(audit(&world, None).await.is_empty());
}

#[tokio::test]
async fn build_whose_request_was_lost_is_accepted_once() {
    let world = World::new().await;
    let known = accepted(&world).await;
    let revision = world.create("its request was lost");
    let lost = world.request(revision.diff.id);
    let plan = world.fake.build_plan();
    assert!(
        audit(&world, Some(&plan)).await.is_empty(),
        "the request may be on its way"
    );
    world.advance(HOUR);
    assert!(
        world.auditor(None).audit(true).await.unwrap().is_empty(),
        "without a plan it is not looked for"
    );
    let found = world.auditor(Some(&plan)).audit(true).await.unwrap();
    assert_eq!(actions(&found), ["accepted"]);
    assert!(
        world.record(&lost).await.request.is_none(),
        "a dry run only looks"
    );

    let found = audit(&world, Some(&plan)).await;
    assert_eq!(
        (found.len(), &found[0].target, found[0].revision_id),
        (1, &lost.target, revision.id)
    );
    assert!(audit(&world, Some(&plan)).await.is_empty());
    let record = world.record(&lost).await;
    assert!(
        matches!(
            record.events[0].kind,
            BuildEventKind::Accepted {
                source: Source::Audit
            }
        ),
        "{record:?}"
    );
    while world.work().await > 0 {}
    let built: Vec<Phid> = world
        .builds()
        .await
        .into_iter()
        .map(|build| build.request.target)
        .collect();
    assert_eq!(built, [known.target, lost.target]);
}

#[tokio::test]
async fn audit_does_nothing_while_harbormaster_is_down() {
    let world = World::new().await;
    let request = accepted(&world).await;
    world.lose_all_messages().await;
    world.advance(HOUR);
    world
        .fake
        .fail_until_mended(EVERY_METHOD, &Fault::Refuse("ERR-CONDUIT-CORE"));
    assert!(world.auditor(None).audit(false).await.is_err());
    assert_eq!(
        (
            world.requests().await.unfinished(),
            world.results().await.unfinished()
        ),
        (0, 0)
    );
    world.fake.mend();
    assert_eq!(audit(&world, None).await[0].target, request.target);
}

/// An operator cancels while the build is lost: there is one end, and it is the operator's.
#[tokio::test]
async fn first_decided_answer_is_published() {
    let world = World::new().await;
    let request = accepted(&world).await;
    world
        .decide(
            &request,
            &BuildUpdate::skipped(SkipReason::Cancelled, "Cancelled by an operator."),
        )
        .await;
    world.lose_all_messages().await;
    world.advance(HOUR);
    assert_eq!(
        actions(&audit(&world, None).await),
        ["its answer is sent again"]
    );
    world.tell().await;
    assert_eq!(
        world.target(&request).units[0]["details"],
        "Cancelled by an operator."
    );
}

#[tokio::test]
async fn repeated_request_does_not_reopen_its_build() {
    let world = World::new().await;
    let revision = world.create("revision");
    world
        .fake
        .set_status(revision.id, testkit::phabricator::RevisionStatus::Published);
    let request = world.build(&revision).await;
    world.work().await;
    world.tell().await;
    world.advance(48 * HOUR);
    world.accept(&request).await;
    assert_eq!(
        world.work().await,
        0,
        "the record says that it was accepted"
    );
    world.advance(HOUR);
    assert!(audit(&world, None).await.is_empty());
    assert_eq!(world.target(&request).units.len(), 1);
    assert!(world.open().await.is_empty());
}

/// A delayed message is put among the ready ones by who looks for it, so after an outage it is younger than its time.
#[tokio::test]
async fn delayed_build_is_not_overdue_after_an_outage_of_all_workers() {
    let world = World::new().await;
    let hidden = world.create("hidden");
    world.fake.set_visible(hidden.id, false);
    world.build(&hidden).await;
    assert_eq!(world.work().await, 1);
    world.advance(HOUR);
    // The workers are back, and have much to do before this one.
    world.pause_requests(true).await;
    assert_eq!(world.work().await, 0);
    let auditor = world.auditor(None);
    for _ in 0..6 {
        world.advance(600);
        let found = auditor.audit(false).await.unwrap();
        assert!(found.is_empty(), "its message is there: {found:?}");
    }
    world.lose_all_messages().await;
    world.fake.set_visible(hidden.id, true);
    assert_eq!(
        actions(&auditor.audit(false).await.unwrap()),
        ["it is built again"]
    );
}

/// Puts the link of a push on a target, as a service before this one did.
async fn link_by_somebody_else(world: &World, target: &Phid) {
    let params = json!({
        "buildTargetPHID": target,
        "artifactKey": "treeherder",
        "artifactType": "uri",
        "artifactData": { "uri": "https://treeherder.example/theirs", "name": "Jobs", "ui.external": true },
    });
    let params = params.as_object().cloned().unwrap();
    conduit(&world.fake)
        .call::<Value>("harbormaster.createartifact", params)
        .await
        .unwrap();
}

/// The records are new, or were lost: nothing is known here of what the target has.
#[tokio::test]
async fn unknown_build_with_the_link_of_a_push_is_adopted() {
    let world = World::new().await;
    let plan = world.fake.build_plan();
    let pushed = world.request(world.create("pushed before").diff.id);
    link_by_somebody_else(&world, &pushed.target).await;
    let lost = world.request(world.create("its request was lost").diff.id);
    world.advance(HOUR);
    let adopted = "it has its link already: recorded as pushed, and not built again";
    let mut planned = world.auditor(Some(&plan)).audit(true).await.unwrap();
    planned.sort_by_key(|finding| finding.diff_id);
    assert_eq!(actions(&planned), [adopted, "accepted"]);
    assert!(
        world.record(&pushed).await.request.is_none(),
        "a dry run only looks"
    );

    assert_eq!(audit(&world, Some(&plan)).await.len(), 2);
    let record = world.record(&pushed).await;
    assert_eq!(record.outcome(), Some(BuildOutcome::Pushed));
    assert_eq!(
        record.end.as_ref().unwrap().outcome,
        FinalOutcome::PushedBefore
    );
    assert!(
        record.published_at.is_some() && record.sent().next().is_none(),
        "{record:?}"
    );
    assert!(record.events.iter().any(
        |event| matches!(&event.kind, BuildEventKind::Adopted { key } if key == "treeherder")
    ));
    assert!(audit(&world, Some(&plan)).await.is_empty());
    while world.work().await > 0 {}
    while world.tell().await > 0 {}
    let built: Vec<Phid> = world
        .builds()
        .await
        .into_iter()
        .map(|build| build.request.target)
        .collect();
    assert_eq!(built, [lost.target]);
    let target = world.target(&pushed);
    assert!(
        target.units.is_empty() && target.messages.is_empty(),
        "{target:?}"
    );
    assert_eq!(target.artifacts.len(), 1);
}

#[tokio::test]
async fn lost_build_with_the_link_of_a_push_is_adopted() {
    let world = World::new().await;
    let request = accepted(&world).await;
    world.lose_all_messages().await;
    link_by_somebody_else(&world, &request.target).await;
    world.advance(HOUR);
    assert_eq!(
        actions(&audit(&world, None).await),
        ["it has its link already: recorded as pushed, and not built again"]
    );
    assert_eq!(
        world.record(&request).await.outcome(),
        Some(BuildOutcome::Pushed)
    );
    assert!(world.open().await.is_empty());
    assert_eq!(
        (
            world.requests().await.unfinished(),
            world.results().await.unfinished()
        ),
        (0, 0)
    );
}

/// While the artifacts cannot be read, nothing is known of what the target has.
#[tokio::test]
async fn no_build_is_repeated_while_harbormaster_does_not_list_artifacts() {
    let world = World::new().await;
    let lost = world.request(world.create("its request was lost").diff.id);
    world.advance(HOUR);
    world
        .fake
        .fail_until_mended("harbormaster.artifact.search", &Fault::Status(503));
    assert!(
        world
            .auditor(Some(&world.fake.build_plan()))
            .audit(false)
            .await
            .is_err()
    );
    assert!(world.record(&lost).await.request.is_none());
}
