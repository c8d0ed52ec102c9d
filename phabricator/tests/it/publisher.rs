//! What is read on a build target in the end.

mod outages;
mod repeats;

use build::{
    BaseChoice, BaseReason, BuildEventKind, BuildUpdate, InfraFailure, PatchFailure, Pushed,
    SkipReason, VersionControl,
};
use runtime::Clock;
use serde_json::json;
use testkit::phabricator::{Artifact, Fault, TargetStatus};

use crate::world::{World, capture_logs, conduit};

fn pushed(instead_of: Option<&str>) -> BuildUpdate {
    BuildUpdate::Pushed(Box::new(Pushed {
        vcs: VersionControl::Mercurial,
        revision: "a".repeat(40),
        reference: None,
        job_url: None,
        jobs_url: Some("https://treeherder.example/#/jobs?repo=try&revision=aaaa".to_owned()),
        on_treeherder: true,
        patches: 3,
        revisions: vec![7, 8, 9],
        landed: Vec::new(),
        abandoned: Vec::new(),
        base: BaseChoice {
            used: "b".repeat(40),
            instead_of: instead_of.map(str::to_owned),
            reason: if instead_of.is_some() {
                BaseReason::NotAHash
            } else {
                BaseReason::Named
            },
            tried: None,
        },
        seconds: 12.5,
    }))
}

fn patch_failed() -> BuildUpdate {
    BuildUpdate::PatchFailed(PatchFailure {
        vcs: VersionControl::Mercurial,
        summary: "The patch of D1 does not apply.".to_owned(),
        details: "Hunk #1 FAILED".to_owned(),
        advice: "Rebase it.".to_owned(),
        commands: "hg rebase".to_owned(),
        base: None,
        seconds: 1.5,
    })
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

/// What an update leaves on its target.
struct Left {
    status: TargetStatus,
    messages: &'static [&'static str],
    /// Name and result.
    unit: Option<(&'static str, &'static str)>,
    link: bool,
}

#[tokio::test]
async fn each_report_makes_its_calls() {
    use TargetStatus::{Failed, Passed, Waiting};
    let left = |status, messages, unit, link| Left {
        status,
        messages,
        unit,
        link,
    };
    let table = [
        (BuildUpdate::Working, left(Waiting, &["work"], None, false)),
        (
            pushed(None),
            left(Waiting, &["work"], Some(("mercurial", "pass")), true),
        ),
        (
            pushed(Some("dead")),
            left(Waiting, &["work"], Some(("mercurial", "unsound")), true),
        ),
        (
            patch_failed(),
            left(Failed, &["fail"], Some(("mercurial", "fail")), false),
        ),
        (
            broken(),
            left(Failed, &["fail"], Some(("general", "broken")), false),
        ),
        (
            BuildUpdate::skipped(SkipReason::Expired, "Expired."),
            left(Passed, &["pass"], Some(("general", "skip")), false),
        ),
        (
            BuildUpdate::Private,
            left(Passed, &["pass"], Some(("general", "skip")), false),
        ),
    ];
    observe::metrics::install();
    let world = World::new().await;
    for (update, left) in table {
        let request = world.request(world.create("revision").diff.id);
        world.publish(&request, &update).await;
        let target = world.target(&request);
        assert_eq!(target.status, left.status, "{update:?}");
        assert_eq!(target.messages, left.messages, "{update:?}");
        let unit = target.units.first().map(|unit| {
            (
                unit["name"].as_str().unwrap(),
                unit["result"].as_str().unwrap(),
            )
        });
        assert_eq!(unit, left.unit, "{update:?}");
        let link = Artifact {
            key: "treeherder".to_owned(),
            data: json!({
                "uri": "https://treeherder.example/#/jobs?repo=try&revision=aaaa",
                "name": "CI (Treeherder) Jobs",
                "ui.external": true,
            }),
        };
        assert_eq!(
            target.artifacts,
            if left.link { vec![link] } else { vec![] },
            "{update:?}"
        );
        if let Some(outcome) = update.outcome() {
            let counted = format!("builds_total{{outcome=\"{}\"}}", outcome.name());
            let metrics = observe::metrics::render();
            assert!(metrics.contains(&counted), "{counted} in {metrics}");
        }
    }
    assert_eq!(world.results().await, bus::Depth::default());
}

#[tokio::test]
async fn units_have_text_and_seconds_and_no_empty_keys() {
    let world = World::new().await;
    let request = world.request(world.create("revision").diff.id);
    world.publish(&request, &patch_failed()).await;
    let unit = json!({
        "namespace": "code-review",
        "name": "mercurial",
        "result": "fail",
        "format": "remarkup",
        "duration": 1.5,
        "details":
            "The patch of D1 does not apply.\n\n  lang=text\n  Hunk #1 FAILED\n\nRebase it.\n\n  lang=text\n  hg rebase",
    });
    assert_eq!(json!(world.target(&request).units), json!([unit]));
    let request = world.request(world.create("revision").diff.id);
    world.publish(&request, &BuildUpdate::Private).await;
    let unit = json!({
        "namespace": "code-review",
        "name": "general",
        "result": "skip",
        "format": "remarkup",
        "details": "This is a private revision, it is not built.",
    });
    assert_eq!(json!(world.target(&request).units), json!([unit]));
}

#[tokio::test]
async fn first_end_of_a_target_stands() {
    let world = World::new().await;
    let request = world.request(world.create("revision").diff.id);
    world.publish(&request, &patch_failed()).await;
    world
        .publish(&request, &BuildUpdate::skipped(SkipReason::Expired, "late"))
        .await;
    world.publish(&request, &pushed(None)).await;
    assert_eq!(world.target(&request).status, TargetStatus::Failed);
    assert_eq!(world.results().await, bus::Depth::default());
}

#[tokio::test]
async fn answer_before_the_target_waits_counts() {
    let world = World::new().await;
    let revision = world.create("revision");
    let request = world.request(revision.diff.id);
    let early = world.fake.start_build(revision.diff.id).target;
    let request = build::BuildRequest {
        target: early.clone(),
        ..request
    };
    world.publish(&request, &patch_failed()).await;
    assert_eq!(world.target(&request).status, TargetStatus::Building);
    world.fake.answered(&early, 200);
    assert_eq!(world.target(&request).status, TargetStatus::Failed);
}

#[tokio::test]
async fn private_target_gets_no_call_and_no_error() {
    let (_guard, logs) = capture_logs();
    let world = World::new().await;
    let revision = world.create("the hidden title");
    let request = world.request(revision.diff.id);
    world.fake.set_visible(revision.id, false);
    world.publish(&request, &BuildUpdate::Private).await;
    assert_eq!(world.results().await, bus::Depth::default());
    assert!(world.target(&request).messages.is_empty());
    assert!(
        !logs.text().contains("ERROR") && !logs.text().contains("hidden"),
        "{}",
        logs.text()
    );
}

#[tokio::test]
async fn answer_for_an_unknown_target_becomes_a_dead_letter() {
    let world = World::new().await;
    for update in [BuildUpdate::Working, patch_failed(), pushed(None)] {
        let revision = world.create("revision");
        let request = world.request(revision.diff.id);
        world.fake.set_visible(revision.id, false);
        world.publish(&request, &update).await;
        let reasons = world.dead_results().await;
        assert!(reasons[0].contains(request.target.as_str()), "{reasons:?}");
        assert!(world.record(&request).await.published_at.is_none());
    }
    assert_eq!(world.dead_results().await.len(), 3);
}

#[tokio::test]
async fn requeued_dead_answer_is_published() {
    let world = World::new().await;
    let revision = world.create("revision");
    let request = world.build(&revision).await;
    world.decide(&request, &patch_failed()).await;
    world.fake.set_visible(revision.id, false);
    world.publish(&request, &patch_failed()).await;
    assert!(
        world.open().await.is_empty(),
        "nobody works on it until the operator does"
    );
    world.fake.set_visible(revision.id, true);
    assert_eq!(world.requeue_dead_results().await, 1);
    world.tell().await;
    assert_eq!(
        (
            world.target(&request).status,
            world.target(&request).units.len()
        ),
        (TargetStatus::Failed, 1)
    );
    assert!(world.record(&request).await.published_at.is_some());
}

#[tokio::test]
async fn nothing_is_published_when_publish_is_false() {
    let (_guard, logs) = capture_logs();
    let world = World::with(|_| {}, false).await;
    for update in [
        BuildUpdate::Working,
        pushed(None),
        patch_failed(),
        BuildUpdate::Private,
    ] {
        let request = world.request(world.create("revision").diff.id);
        world.publish(&request, &update).await;
    }
    assert!(
        world
            .fake
            .calls()
            .iter()
            .all(|call| !call.method.starts_with("harbormaster."))
    );
    assert!(
        logs.text()
            .contains("skipping publication: PHABRICATOR.publish is false: failed, the patch"),
        "{}",
        logs.text()
    );
}

/// Calls of a method.
fn count(world: &World, method: &str) -> usize {
    world
        .fake
        .calls()
        .iter()
        .filter(|call| call.method == method)
        .count()
}

#[tokio::test]
async fn nothing_is_published_on_a_target_that_ended_elsewhere() {
    let (_guard, logs) = capture_logs();
    let world = World::new().await;
    for update in [patch_failed(), pushed(None)] {
        let request = world.request(world.create("revision").diff.id);
        world.fake.abort_build(&request.target);
        world.publish(&request, &update).await;
        let record = world.record(&request).await;
        assert!(
            matches!(&record.events.last().unwrap().kind, BuildEventKind::NotPublished { reason } if reason.contains("aborted"))
        );
    }
    assert_eq!(
        count(&world, "harbormaster.sendmessage") + count(&world, "harbormaster.createartifact"),
        0
    );
    assert_eq!(
        (world.results().await, world.dead_results().await.len()),
        (bus::Depth::default(), 0)
    );
    assert!(
        logs.text()
            .contains("skipping publication: the target is aborted already"),
        "{}",
        logs.text()
    );
}

#[tokio::test]
async fn first_decided_end_is_published() {
    let world = World::new().await;
    let request = world.request(world.create("revision").diff.id);
    world.decide(&request, &patch_failed()).await;
    world.publish(&request, &pushed(None)).await;
    world.publish(&request, &BuildUpdate::Working).await;
    assert!(
        world.target(&request).messages.is_empty() && world.target(&request).artifacts.is_empty()
    );
    world.publish(&request, &patch_failed()).await;
    world.publish(&request, &patch_failed()).await;
    assert_eq!(
        (
            world.target(&request).status,
            world.target(&request).units.len()
        ),
        (TargetStatus::Failed, 1)
    );
}

#[tokio::test]
async fn each_end_without_a_push_links_to_the_documentation_before_the_target_ends() {
    let docs_url = "https://docs.example.com/builds#ends";
    let world = World::new().await.with_docs_url(docs_url);
    let neutral = BuildUpdate::skipped(SkipReason::Expired, "Expired.");
    for update in [patch_failed(), broken(), neutral, BuildUpdate::Private] {
        let request = world.build(&world.create("the secret title")).await;
        world.decide(&request, &update).await;
        // The message is refused once, so that it is seen what was there before it.
        world
            .fake
            .fail_next("harbormaster.sendmessage", 1, &Fault::Status(503));
        world.publish(&request, &update).await;
        let page = json!({
            "uri": docs_url,
            "name": "Why this was not built",
            "ui.external": true,
        });
        let link = Artifact {
            key: "code-review-why".to_owned(),
            data: page,
        };
        let target = world.target(&request);
        assert_eq!(
            (target.status, &target.artifacts),
            (TargetStatus::Waiting, &vec![link.clone()]),
            "{update:?}"
        );

        world.advance(120);
        world.tell().await;
        let target = world.target(&request);
        assert!(
            matches!(target.status, TargetStatus::Passed | TargetStatus::Failed),
            "{update:?}"
        );
        assert_eq!(
            (target.units.len(), target.artifacts),
            (1, vec![link]),
            "{update:?}"
        );
        let record = world.record(&request).await;
        let sent: Vec<&str> = record
            .sent()
            .map(|(_, answer)| answer.act.as_str())
            .collect();
        assert_eq!((sent[0], sent.len()), ("link", 2), "{update:?}");
        assert!(
            !format!("{record:?}").contains("secret title"),
            "{record:?}"
        );
    }
    let request = world.build(&world.create("pushed")).await;
    world.publish(&request, &pushed(None)).await;
    assert_eq!(world.target(&request).artifacts[0].key, "treeherder");
    assert_eq!(
        world.target(&request).artifacts.len(),
        1,
        "a push needs no reason"
    );
}

#[tokio::test]
async fn record_holds_the_sent_answers_and_no_others() {
    let world = World::new().await;
    let request = world.build(&world.create("revision")).await;
    world.decide(&request, &patch_failed()).await;
    assert_eq!(
        world.record(&request).await.sent().count(),
        0,
        "it is decided, and not sent"
    );
    world.publish(&request, &patch_failed()).await;
    let record = world.record(&request).await;
    let sent: Vec<_> = record.sent().collect();
    assert_eq!(sent.len(), 1);
    assert_eq!(
        (sent[0].0, sent[0].1.heading.as_deref()),
        (world.clock.now(), Some("mercurial: fail"))
    );
    assert_eq!(sent[0].1.text, world.target(&request).units[0]["details"]);

    let silent = World::with(|_| {}, false).await;
    let request = silent.build(&silent.create("revision")).await;
    silent.decide(&request, &patch_failed()).await;
    silent.publish(&request, &patch_failed()).await;
    let record = silent.record(&request).await;
    assert_eq!(
        (record.sent().count(), record.published_at.is_some()),
        (0, true)
    );
    let last = &record.events.last().unwrap().kind;
    assert!(
        matches!(last, BuildEventKind::NotPublished { reason } if reason == "publish is false"),
        "{record:?}"
    );
}
