//! What is read on a build target in the end.

use phabricator::{
    model::{BaseChoice, BaseReason, Blame, PatchFailure, Pushed, Report},
    testing::{Artifact, Fault, TargetStatus},
};
use serde_json::json;

use crate::world::{World, capture_logs};

fn pushed(instead_of: Option<&str>) -> Report {
    Report::Pushed(Pushed {
        revision: "a".repeat(40),
        treeherder_url: "https://treeherder.example/#/jobs?repo=try&revision=aaaa".to_owned(),
        patches: 3,
        revisions: vec![7, 8, 9],
        landed: Vec::new(),
        base: BaseChoice {
            used: "b".repeat(40),
            instead_of: instead_of.map(str::to_owned),
            reason: if instead_of.is_some() { BaseReason::NotAHash } else { BaseReason::Named },
        },
        seconds: 12.5,
    })
}

fn patch_failed() -> Report {
    Report::PatchFailed(PatchFailure {
        summary: "The patch of D1 does not apply.".to_owned(),
        details: "Hunk #1 FAILED".to_owned(),
        advice: "Rebase it.".to_owned(),
        commands: "hg rebase".to_owned(),
        base: None,
        seconds: 1.5,
    })
}

fn broken() -> Report {
    let (summary, details) = ("Try is away.".to_owned(), String::new());
    Report::InfrastructureFailed(Blame { summary, details, attempts: 3, seconds: 2.0 })
}

/// What a report leaves on its target.
struct Left {
    status: TargetStatus,
    messages: &'static [&'static str],
    /// Name and result.
    unit: Option<(&'static str, &'static str)>,
    link: bool,
}

#[tokio::test]
async fn each_report_is_said_in_its_way() {
    use TargetStatus::{Failed, Passed, Waiting};
    let left = |status, messages, unit, link| Left { status, messages, unit, link };
    let table = [
        (Report::Working, left(Waiting, &["work"], None, false)),
        (pushed(None), left(Waiting, &["work"], Some(("mercurial", "pass")), true)),
        (pushed(Some("dead")), left(Waiting, &["work"], Some(("mercurial", "unsound")), true)),
        (patch_failed(), left(Failed, &["fail"], Some(("mercurial", "fail")), false)),
        (broken(), left(Failed, &["fail"], Some(("general", "broken")), false)),
        (Report::Neutral("Expired.".to_owned()), left(Passed, &["pass"], Some(("general", "skip")), false)),
        (Report::Withheld, left(Passed, &["pass"], Some(("general", "skip")), false)),
    ];
    let world = World::new().await;
    for (report, left) in table {
        let request = world.request(world.create("revision").diff.id);
        world.publish(&request, &report).await;
        let target = world.target(&request);
        assert_eq!(target.status, left.status, "{report:?}");
        assert_eq!(target.messages, left.messages, "{report:?}");
        let unit = target.units.first().map(|unit| (unit["name"].as_str().unwrap(), unit["result"].as_str().unwrap()));
        assert_eq!(unit, left.unit, "{report:?}");
        let link = Artifact {
            key: "treeherder".to_owned(),
            data: json!({
                "uri": "https://treeherder.example/#/jobs?repo=try&revision=aaaa",
                "name": "CI (Treeherder) Jobs",
                "ui.external": true,
            }),
        };
        assert_eq!(target.artifacts, if left.link { vec![link] } else { vec![] }, "{report:?}");
    }
    assert_eq!(world.results().await, bus::Depth::default());
}

#[tokio::test]
async fn the_units_have_the_words_and_the_seconds_and_no_empty_keys() {
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
    world.publish(&request, &Report::Withheld).await;
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
async fn an_update_that_comes_twice_makes_one_link() {
    let world = World::new().await;
    let request = world.request(world.create("revision").diff.id);
    world.publish(&request, &pushed(None)).await;
    world.publish(&request, &pushed(None)).await;
    assert_eq!(world.target(&request).artifacts.len(), 1);
    assert_eq!(world.results().await, bus::Depth::default());
}

#[tokio::test]
async fn the_first_end_of_a_target_holds() {
    let world = World::new().await;
    let request = world.request(world.create("revision").diff.id);
    world.publish(&request, &patch_failed()).await;
    world.publish(&request, &Report::Neutral("late".to_owned())).await;
    world.publish(&request, &pushed(None)).await;
    assert_eq!(world.target(&request).status, TargetStatus::Failed);
    assert_eq!(world.results().await, bus::Depth::default());
}

#[tokio::test]
async fn an_answer_before_the_target_waits_counts() {
    let world = World::new().await;
    let revision = world.create("revision");
    let request = world.request(revision.diff.id);
    let early = world.fake.start_build(revision.diff.id).target;
    let request = phabricator::model::BuildRequest { target: early.clone(), ..request };
    world.publish(&request, &patch_failed()).await;
    assert_eq!(world.target(&request).status, TargetStatus::Building);
    world.fake.answered(&early, 200);
    assert_eq!(world.target(&request).status, TargetStatus::Failed);
}

#[tokio::test]
async fn a_private_target_is_left_alone_quietly() {
    let (_guard, logs) = capture_logs();
    let world = World::new().await;
    let revision = world.create("the hidden title");
    let request = world.request(revision.diff.id);
    world.fake.set_visible(revision.id, false);
    world.publish(&request, &Report::Withheld).await;
    assert_eq!(world.results().await, bus::Depth::default());
    assert!(world.target(&request).messages.is_empty());
    assert!(!logs.text().contains("ERROR") && !logs.text().contains("hidden"), "{}", logs.text());
}

#[tokio::test]
async fn an_answer_for_an_unknown_target_is_kept_for_the_operator() {
    let world = World::new().await;
    let revision = world.create("revision");
    let request = world.request(revision.diff.id);
    world.fake.set_visible(revision.id, false);
    for report in [patch_failed(), pushed(None)] {
        world.publish(&request, &report).await;
    }
    let reasons = world.dead_results().await;
    assert_eq!(reasons.len(), 2);
    assert!(reasons.iter().all(|reason| reason.contains(request.target.as_str())), "{reasons:?}");
}

#[tokio::test]
async fn an_answer_waits_for_a_phabricator_that_is_down() {
    let world = World::new().await;
    let request = world.request(world.create("revision").diff.id);
    world.fake.fail_next("harbormaster.createartifact", 3, &Fault::Status(503));
    world.publish(&request, &pushed(None)).await;
    assert!(world.target(&request).artifacts.is_empty());
    assert_eq!(world.results().await.delayed, 1);
}

#[tokio::test]
async fn nothing_is_said_when_publishing_is_off() {
    let (_guard, logs) = capture_logs();
    let world = World::with(|_| {}, false).await;
    let request = world.request(world.create("revision").diff.id);
    for report in [Report::Working, pushed(None), patch_failed(), Report::Withheld] {
        world.publish(&request, &report).await;
    }
    assert!(world.fake.calls().iter().all(|call| !call.method.starts_with("harbormaster.")));
    assert!(logs.text().contains("this would have been said: failed, the patch"), "{}", logs.text());
}
