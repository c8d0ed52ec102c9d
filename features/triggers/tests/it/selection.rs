//! Test selection, from a push to the results on its build target.

mod interruptions;
mod results;

mod world;

use std::time::Duration;

use build::{BuildUpdate, BuildUpdateMessage, InfraFailure, Pushed, VersionControl};
use bus::Depth;
use serde_json::{Value, json};
use testkit::taskcluster::Fault;

use crate::docs::assert_documented;
use world::{
    ACTIONS, COMMUNITY_HOOKS, HOOKS, MAILS, PUSHES, RESULTS, SELECTIONS, Selection, TASKS, World,
    ended,
};

const HEAD: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const SEVEN_HOURS: Duration = Duration::from_secs(7 * 3600);

fn a_test(label: &str) -> Option<Value> {
    Some(json!({ "kind": "test", "label": label, "os": "linux" }))
}

/// A world with a push whose selected tests were added: the build, and the group of its tasks.
async fn selected() -> (World, BuildUpdateMessage, String) {
    let world = World::new().await;
    let build = world.build(HEAD).await;
    world.push(&build).await;
    let decision = world.decide(HEAD, Some(ACTIONS));
    world
        .selected(build.request.diff_id, &Selection::default())
        .await;
    assert_eq!(
        world.waiting(&HOOKS).await.len(),
        1,
        "{:?}",
        world.dead(&SELECTIONS).await
    );
    (world, build, decision)
}

#[tokio::test]
async fn selected_tests_run_and_results_are_published() {
    let world = World::new().await;
    let build = world.build(HEAD).await;
    let diff = build.request.diff_id;

    world.push(&build).await;
    let [select] = &world.waiting(&COMMUNITY_HOOKS).await[..] else {
        panic!("one hook is triggered")
    };
    assert_eq!(
        (select.hook.group.as_str(), select.hook.id.as_str()),
        ("project-bugbug", "bugbug-test-select")
    );
    assert_documented("test_selection_enabled", select);
    let jobs = format!(
        "{}api/index/v1/task/gecko.v2.try.revision.{HEAD}.firefox.decision/artifacts/public/runnable-jobs.json",
        world.firefox.root()
    );
    let payload = select.payload.clone();
    assert_eq!(
        (&payload["PHABRICATOR_DEPLOYMENT"], &payload["DIFF_ID"]),
        (&json!("prod"), &json!(diff))
    );
    assert_eq!(
        payload["RUNNABLE_JOBS"]
            .as_str()
            .unwrap()
            .replace("%2F", "/"),
        jobs
    );

    let decision = world.decide(HEAD, Some(ACTIONS));
    world.selected(diff, &Selection::default()).await;
    let [add] = &world.waiting(&HOOKS).await[..] else {
        panic!("one hook is triggered")
    };
    assert_eq!(
        (add.hook.group.as_str(), add.hook.id.as_str()),
        ("project-gecko", "in-tree-action-1-generic/0123456789")
    );
    let user = json!({
        "input": { "tasks": ["test-linux/opt-a", "test-linux/opt-b"] }, "taskGroupId": decision, "taskId": null,
    });
    assert_eq!(
        (
            &add.payload["user"],
            &add.payload["decision"]["action"]["cb_name"]
        ),
        (&user, &json!("add-new-jobs"))
    );

    assert_eq!(world.send_mails().await, 2);
    let mails = world.firefox.mails();
    assert_eq!(
        mails
            .iter()
            .map(|mail| mail.address.as_str())
            .collect::<Vec<_>>(),
        ["dev@example.com", "qa@example.com"]
    );
    assert_eq!(
        mails[0].subject,
        format!("Tests selected for D{}", build.request.revision_id)
    );
    assert!(
        mails[0].content.contains("    test-linux/opt-b\n")
            && mails[0].content.contains("repo=try&revision=aaaa")
    );

    world
        .end_task(&ended(
            "Aq_1-A",
            &decision,
            "completed",
            a_test("test-linux/opt-a"),
        ))
        .await;
    world
        .end_task(&ended(
            "Bq_1-B",
            &decision,
            "failed",
            a_test("test-linux/opt-b"),
        ))
        .await;
    world
        .end_task(&ended(
            "Cq_1-C",
            &decision,
            "exception",
            a_test("test-linux/opt-c"),
        ))
        .await;
    world
        .end_task(&ended(
            "Dq_1-D",
            &decision,
            "completed",
            Some(json!({ "kind": "source-test" })),
        ))
        .await;
    let job = |task| {
        format!(
            "https://treeherder.mozilla.org/#/jobs?repo=try&revision={HEAD}&selectedTaskRun={task}-0"
        )
    };
    let expected = [
        [
            "test-linux/opt-a".to_owned(),
            "pass".to_owned(),
            String::new(),
        ],
        [
            "test-linux/opt-b".to_owned(),
            "fail".to_owned(),
            job("Bq_1-B"),
        ],
        [
            "test-linux/opt-c".to_owned(),
            "fail".to_owned(),
            job("Cq_1-C"),
        ],
    ];
    assert_eq!(world.units(&build), expected);
    assert!(world.unfinished(&RESULTS).await == 0 && world.dead(&TASKS).await.is_empty());
}

#[tokio::test]
async fn tests_are_selected_for_configured_share_of_pushes() {
    let world = World::new().await;
    let build = world.build(HEAD).await;
    let failure = InfraFailure {
        summary: "Try is away.".to_owned(),
        details: String::new(),
        attempts: 1,
        seconds: 1.0,
    };
    for update in [BuildUpdate::InfraFailed(failure), BuildUpdate::Private] {
        world
            .push(&BuildUpdateMessage {
                update,
                ..build.clone()
            })
            .await;
    }
    assert!(world.waiting(&COMMUNITY_HOOKS).await.is_empty());
    let world = World::with_share(0.0).await;
    world.push(&world.build(HEAD).await).await;
    assert!(world.waiting(&COMMUNITY_HOOKS).await.is_empty());
}

#[tokio::test]
async fn tests_are_selected_only_for_pushes_with_jobs_on_treeherder() {
    let world = World::new().await;
    let build = world.build(HEAD).await;
    let BuildUpdate::Pushed(pushed) = &build.update else {
        panic!("it was pushed")
    };
    let of_git = Pushed {
        vcs: VersionControl::Git,
        ..Pushed::clone(pushed)
    };
    let elsewhere = Pushed {
        jobs_url: Some("https://ci.example.com/#/jobs?repo=try".to_owned()),
        on_treeherder: false,
        ..Pushed::clone(pushed)
    };
    for pushed in [of_git, elsewhere] {
        world
            .push(&BuildUpdateMessage {
                update: BuildUpdate::Pushed(Box::new(pushed)),
                ..build.clone()
            })
            .await;
    }
    assert!(world.waiting(&COMMUNITY_HOOKS).await.is_empty());
}

#[tokio::test]
async fn each_push_has_tests_selected_once() {
    let world = World::new().await;
    let build = world.build(HEAD).await;
    world.push(&build).await;
    world.push(&build).await;
    assert_eq!(world.waiting(&COMMUNITY_HOOKS).await.len(), 1);
    let other = "b".repeat(40);
    let again = world.build_again(build.request.diff_id, &other).await;
    world.push(&again).await;
    let triggers = world.waiting(&COMMUNITY_HOOKS).await;
    assert_eq!(triggers.len(), 2);
    assert_ne!(
        triggers[0].key, triggers[1].key,
        "each push has a key of its own"
    );

    // The results belong to the newest push.
    let decision = world.decide(&other, Some(ACTIONS));
    world
        .selected(build.request.diff_id, &Selection::default())
        .await;
    world
        .end_task(&ended("Aq", &decision, "completed", a_test("a")))
        .await;
    assert_eq!(
        (world.units(&build).len(), world.units(&again).len()),
        (0, 1)
    );
}

#[tokio::test]
async fn new_push_of_same_diff_has_tests_selected_again() {
    let (world, build, _) = selected().await;
    let other = "b".repeat(40);
    world
        .push(&world.build_again(build.request.diff_id, &other).await)
        .await;
    world.decide(&other, Some(ACTIONS));
    world
        .selected(build.request.diff_id, &Selection::default())
        .await;
    assert_eq!(world.waiting(&HOOKS).await.len(), 2);
}

#[tokio::test]
async fn duplicate_selection_adds_tests_once() {
    let (world, build, _) = selected().await;
    world
        .selected(build.request.diff_id, &Selection::default())
        .await;
    assert_eq!(
        (
            world.waiting(&HOOKS).await.len(),
            world.waiting(&MAILS).await.len()
        ),
        (1, 2)
    );
    assert!(world.dead(&SELECTIONS).await.is_empty());
}

#[tokio::test]
async fn no_tests_are_added_without_risk_or_selection() {
    for selection in [
        Selection {
            risk: Some("0"),
            ..Selection::default()
        },
        Selection {
            risk: Some(" 0\n"),
            labels: None,
            ..Selection::default()
        },
        Selection {
            labels: Some(" \n\n"),
            ..Selection::default()
        },
        Selection {
            deployment: "dev",
            ..Selection::default()
        },
    ] {
        let world = World::new().await;
        let build = world.build(HEAD).await;
        world.push(&build).await;
        world.decide(HEAD, Some(ACTIONS));
        world.selected(build.request.diff_id, &selection).await;
        assert!(world.waiting(&HOOKS).await.is_empty() && world.waiting(&MAILS).await.is_empty());
        assert_eq!(
            world.bus.depth(&SELECTIONS.spec()).await.unwrap(),
            Depth::default()
        );
    }
}

#[tokio::test]
async fn unrelated_community_task_makes_no_call() {
    let world = World::new().await;
    let task = world.select(1, &Selection::default());
    world
        .send(&SELECTIONS, &ended(&task, &task, "completed", None))
        .await;
    assert_eq!(world.take_selections().await, 1);
    assert!(world.community.calls().is_empty() && world.unfinished(&SELECTIONS).await == 0);
}

#[tokio::test]
async fn selection_for_unknown_or_expired_push_is_ignored() {
    let world = World::new().await;
    world.selected(4711, &Selection::default()).await;
    let build = world.build(HEAD).await;
    world.push(&build).await;
    world.decide(HEAD, Some(ACTIONS));
    world.clock.advance(SEVEN_HOURS);
    world
        .selected(build.request.diff_id, &Selection::default())
        .await;
    assert!(world.waiting(&HOOKS).await.is_empty());
    assert_eq!(
        world.community.calls(),
        ["queue.task", "queue.task"],
        "no artifact is requested"
    );
    assert_eq!(
        world.bus.depth(&SELECTIONS.spec()).await.unwrap(),
        Depth::default()
    );
}

/// The dead letter has the reason, so that an operator can correct it and requeue the message.
#[tokio::test]
async fn malformed_selection_becomes_dead_letter() {
    let with = |change: fn(&mut Value)| {
        let mut actions: Value = serde_json::from_str(ACTIONS).unwrap();
        change(&mut actions["actions"][1]);
        Some(actions.to_string())
    };
    let unchanged = || Some(ACTIONS.to_owned());
    let table = [
        (
            Selection {
                risk: None,
                ..Selection::default()
            },
            unchanged(),
            "cannot read the artifact public/failure_risk of task SELECTION: ",
        ),
        (
            Selection {
                labels: None,
                ..Selection::default()
            },
            unchanged(),
            "cannot read the artifact public/selected_tasks of task SELECTION: ",
        ),
        (
            Selection {
                risk: Some("high"),
                ..Selection::default()
            },
            unchanged(),
            "public/failure_risk of the test selection task",
        ),
        (
            Selection::default(),
            None,
            "cannot read the artifact public/actions.json of task DECISION: ",
        ),
        (
            Selection::default(),
            with(|action| action["name"] = json!("other")),
            "it has no action add-new-jobs",
        ),
        (
            Selection::default(),
            with(|action| action["schema"]["properties"]["tasks"]["maxItems"] = json!(1)),
            "its schema does not accept the selected tests",
        ),
        (
            Selection::default(),
            with(|action| action["hookPayload"]["user"] = json!({ "$eval": "nothing" })),
            "its hookPayload cannot be rendered",
        ),
        (
            Selection::default(),
            with(|action| action["hookGroupId"] = json!("project-relman")),
            "it has no scope in-tree:",
        ),
    ];
    for (selection, actions, expected) in table {
        let world = World::new().await;
        let build = world.build(HEAD).await;
        world.push(&build).await;
        let decision = world.decide(HEAD, actions.as_deref());
        let task = world.select(build.request.diff_id, &selection);
        world.announce(&task).await;
        assert_eq!(world.take_selections().await, 1);
        let dead = world.dead(&SELECTIONS).await;
        let expected = expected
            .replace("SELECTION", &task)
            .replace("DECISION", &decision);
        assert!(
            dead.len() == 1 && dead[0].contains(&expected),
            "{expected}: {dead:?}"
        );
        assert!(world.waiting(&HOOKS).await.is_empty() && world.waiting(&MAILS).await.is_empty());
        world
            .end_task(&ended("Aq", &decision, "completed", a_test("a")))
            .await;
        assert!(
            world.units(&build).is_empty(),
            "no tests were added, so no result is published"
        );
    }
}

#[tokio::test]
async fn each_mail_is_retried_on_its_own() {
    let (world, ..) = selected().await;
    world.firefox.denylist("qa@example.com");
    assert_eq!(world.send_mails().await, 2);
    assert_eq!(world.firefox.mails().len(), 1);
    assert_eq!(
        world.bus.depth(&MAILS.spec()).await.unwrap(),
        Depth::default(),
        "the mail to the refused address is dropped"
    );

    let (world, ..) = selected().await;
    world
        .firefox
        .fail_until_mended("notify.email", &Fault::Status(503));
    world.send_mails().await;
    assert_eq!(
        (world.firefox.mails().len(), world.unfinished(&MAILS).await),
        (0, 2)
    );
    world.firefox.mend();
    // One response is lost, so that mail is sent again; it arrives once.
    world.firefox.fail_next("notify.email", 1, &Fault::CutAfter);
    for _ in 0..3 {
        world.clock.advance(Duration::from_secs(600));
        world.send_mails().await;
    }
    assert_eq!(
        (world.firefox.mails().len(), world.unfinished(&MAILS).await),
        (2, 0)
    );
}
