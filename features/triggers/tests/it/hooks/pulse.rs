//! Messages of Pulse that trigger hooks.

use bus::Queue;
use pulse::PulseMessage;
use serde_json::{Value, json};
use taskcluster::model::TaskDefinition;
use testkit::taskcluster::Fault;
use triggers::{CoverageBuilds, HookName, Landing, PostLandingReview, PublishedCommits, Trigger};

use super::world::{DAY, HOOKS, LATER, POLICY, World, bot, metadata, recorded};
use crate::docs::assert_documented;

const PULSE: Queue<PulseMessage> = Queue::new("pulse", POLICY);

const RESOLVED: &str = include_str!(
    "../../../../../taskcluster/tests/fixtures/pulse/queue-task-group-resolved-1.json"
);
const DEFINED: &str =
    include_str!("../../../../../taskcluster/tests/fixtures/pulse/queue-task-defined-1.json");
const PUBLISHED: &str = include_str!("../../fixtures/mozreview/commits-published.json");
const REVIEWED: &str = include_str!("../../fixtures/mozreview/review-published.json");

/// The group of the recorded message, and its tasks as they were recorded.
const RECORDED_GROUP: &str = "EHvlZcWCR6WAZapcRiLoNg";
const PAGES: [&str; 2] = [
    include_str!("../../../../../taskcluster/tests/fixtures/rest/queue-listTaskGroup-page1.json"),
    include_str!("../../../../../taskcluster/tests/fixtures/rest/queue-listTaskGroup-page2.json"),
];

const CENTRAL: &str = "https://hg.mozilla.org/mozilla-central";
const AUTOLAND: &str = "https://hg.mozilla.org/integration/autoland";
const REVISION: &str = "98467d80785ec84dd871f213c167ed704a6d974d";

fn resolved(group: &str) -> PulseMessage {
    recorded(RESOLVED, |body| body["taskGroupId"] = group.into())
}

fn env(repository: impl Into<Value>, revision: impl Into<Value>) -> Value {
    json!({ "GECKO_HEAD_REPOSITORY": repository.into(), "GECKO_HEAD_REV": revision.into() })
}

impl World {
    /// Creates a decision task with this environment, and returns the id of its group.
    fn decision(&self, env: &Value) -> String {
        self.stage
            .fake
            .add_task(json!({ "payload": { "env": env } }))
    }

    fn add_to(&self, group: &str, name: &str, env: &Value) -> String {
        let payload = json!({ "env": env });
        self.stage.fake.add_task(
            json!({ "taskGroupId": group, "metadata": metadata(name), "payload": payload }),
        )
    }

    /// Creates the tasks of the recorded group.
    async fn recorded_group(&self) {
        let client = self.stage.client();
        let pages = PAGES.map(|page| {
            serde_json::from_str::<Value>(page).unwrap()["response"]["body"]["tasks"].take()
        });
        let mut tasks: Vec<_> = pages
            .iter()
            .flat_map(|tasks| tasks.as_array().unwrap())
            .collect();
        // The decision task is created first, and tasks after those that they depend on.
        tasks.sort_by_key(|task| {
            (
                task["status"]["taskId"] != RECORDED_GROUP,
                task["task"]["dependencies"].as_array().unwrap().len(),
            )
        });
        for task in tasks {
            let definition: TaskDefinition = serde_json::from_value(task["task"].clone()).unwrap();
            client
                .create_task(task["status"]["taskId"].as_str().unwrap(), &definition)
                .await
                .unwrap();
        }
    }

    fn coverage(&self) -> CoverageBuilds {
        CoverageBuilds::new(self.stage.client(), bot(), HOOKS)
    }

    fn landed(&self, landing: Landing) -> PostLandingReview {
        PostLandingReview::new(self.stage.client(), landing, "testing", HOOKS)
    }
}

#[tokio::test]
async fn recorded_group_triggers_neither_coverage_nor_review() {
    let world = World::new().await;
    world.recorded_group().await;
    world.stage.fake.page_size(4);
    let message = recorded(RESOLVED, |_| {});
    world.handle(PULSE, world.coverage(), &message).await;
    for landing in [Landing::Autoland, Landing::MozillaCentral] {
        world.handle(PULSE, world.landed(landing), &message).await;
    }
    assert_eq!(world.depth(&HOOKS).await.ready, 0);
    assert_eq!(world.dead(&PULSE).await, [""; 0]);
    let listed = world
        .stage
        .fake
        .calls()
        .iter()
        .filter(|call| *call == "queue.listTaskGroup")
        .count();
    assert!(listed > 1, "the group is read page by page");

    let rev = "a".repeat(40);
    world.add_to(
        RECORDED_GROUP,
        "build-linux64-ccov/opt",
        &env("https://hg.mozilla.org/try", rev.as_str()),
    );
    world.handle(PULSE, world.coverage(), &message).await;
    let payload = json!({ "REPOSITORY": "https://hg.mozilla.org/try", "REVISION": rev });
    let expected = [Trigger::new(bot(), payload, RECORDED_GROUP)];
    assert_eq!(world.take(&HOOKS).await, expected);
    assert_documented("code-coverage", &expected[0]);
}

#[tokio::test]
async fn coverage_is_collected_once_per_group() {
    let world = World::new().await;
    let group = world.decision(&env(CENTRAL, REVISION));
    for chunk in 0..5 {
        world.add_to(
            &group,
            &format!("test-linux64-ccov/opt-mochitest-{chunk}"),
            &env(CENTRAL, REVISION),
        );
    }
    world.add_to(
        &group,
        "build-win64-ccov/debug",
        &env(format!("{CENTRAL}/"), REVISION),
    );
    world.add_to(&group, "build-linux64-ccov/opt", &env(CENTRAL, REVISION));
    world.stage.fake.page_size(2);
    let runner = world.runner();
    for day in 0..3 {
        // A task that is added later resolves the group again.
        let again = recorded(RESOLVED, |body| {
            body["taskGroupId"] = group.as_str().into();
            body["expires"] = format!("2026-12-2{day}T03:48:02.714Z").into();
        });
        world.handle(PULSE, world.coverage(), &again).await;
        world.handle(PULSE, world.coverage(), &again).await;
        runner.step().await.unwrap();
        world.clock.advance(2 * DAY);
    }
    let triggers = world.stage.fake.triggers();
    let payloads: Vec<_> = triggers.iter().map(|trigger| &trigger.payload).collect();
    assert_eq!(
        payloads,
        [&json!({ "REPOSITORY": CENTRAL, "REVISION": REVISION })]
    );
}

#[tokio::test]
async fn coverage_of_other_repositories_is_ignored() {
    let world = World::new().await;
    let hostile = [
        json!(AUTOLAND),
        json!("https://hg.mozilla.org.example.com/try"),
        json!(7),
        json!(["x"]),
        json!(null),
    ];
    for repository in hostile {
        let group = world.decision(&json!({}));
        world.add_to(&group, "build-linux64-ccov/opt", &env(repository, REVISION));
        world
            .handle(PULSE, world.coverage(), &resolved(&group))
            .await;
    }
    let group = world.decision(&json!({}));
    let bare = json!({ "taskGroupId": group, "metadata": metadata("build-linux64-ccov"), "payload": { "env": "none" } });
    world.stage.fake.add_task(bare);
    world
        .handle(PULSE, world.coverage(), &resolved(&group))
        .await;
    assert_eq!(
        (world.depth(&HOOKS).await.ready, world.dead(&PULSE).await),
        (0, Vec::new())
    );
}

#[tokio::test]
async fn coverage_build_without_changeset_becomes_dead_letter() {
    let world = World::new().await;
    for revision in [
        json!(null),
        json!(7),
        json!("tip"),
        json!(format!("{REVISION}0")),
        json!("--config".repeat(5)),
    ] {
        let group = world.decision(&json!({}));
        let task = world.add_to(&group, "build-linux64-ccov/opt", &env(CENTRAL, revision));
        world
            .handle(PULSE, world.coverage(), &resolved(&group))
            .await;
        let reason = world.dead(&PULSE).await.remove(0);
        assert!(
            reason.starts_with(&format!(
                "task {task} of group {group} has no changeset in its GECKO_HEAD_REV"
            )),
            "{reason}"
        );
    }
    assert_eq!(world.depth(&HOOKS).await.ready, 0);
}

#[tokio::test]
async fn unknown_group_becomes_dead_letter() {
    let world = World::new().await;
    world
        .handle(PULSE, world.coverage(), &recorded(RESOLVED, |_| {}))
        .await;
    let reasons = world.dead(&PULSE).await;
    let expected =
        format!("cannot read the tasks of group {RECORDED_GROUP}: taskcluster does not find what");
    assert!(reasons[0].starts_with(&expected), "{reasons:?}");
}

#[tokio::test]
async fn group_with_too_many_pages_becomes_dead_letter() {
    let world = World::new().await;
    let group = world.decision(&json!({}));
    for _ in 0..200 {
        world.add_to(&group, "test", &json!({}));
    }
    world.stage.fake.page_size(1);
    world
        .handle(PULSE, world.coverage(), &resolved(&group))
        .await;
    let reasons = world.dead(&PULSE).await;
    assert!(
        reasons[0].starts_with(&format!("task group {group} has more than 200 pages")),
        "{reasons:?}"
    );
}

#[tokio::test]
async fn landed_push_triggers_hook_of_its_channel_once() {
    let world = World::new().await;
    let hook = HookName::new("project-relman", "code-review-testing");
    let table = [
        (
            Landing::Autoland,
            AUTOLAND,
            "AUTOLAND_TASK_GROUP_ID",
            "autoland_enabled",
        ),
        (
            Landing::MozillaCentral,
            CENTRAL,
            "MOZILLA_CENTRAL_TASK_GROUP_ID",
            "mozilla_central_enabled",
        ),
    ];
    for (landing, repository, variable, setting) in table {
        let group = world.decision(&env(repository, REVISION));
        for every in [Landing::Autoland, Landing::MozillaCentral, landing] {
            world
                .handle(PULSE, world.landed(every), &resolved(&group))
                .await;
        }
        let expected = [Trigger::new(
            hook.clone(),
            json!({ variable: group }),
            &group,
        )];
        assert_eq!(world.take(&HOOKS).await, expected);
        assert_documented(setting, &expected[0]);
    }
}

#[tokio::test]
async fn groups_of_others_are_ignored() {
    let world = World::new().await;
    let without_env = world
        .stage
        .fake
        .add_task(json!({ "payload": { "image": "x" } }));
    let mut groups = vec![without_env, "AAAAAAAAAAAAAAAAAAAAAA".to_owned()];
    for repository in [
        json!("https://hg.mozilla.org/releases/mozilla-beta"),
        json!(7),
        json!({ "a": 1 }),
        json!(null),
    ] {
        groups.push(world.decision(&env(repository, REVISION)));
    }
    for group in groups {
        for landing in [Landing::Autoland, Landing::MozillaCentral] {
            world
                .handle(PULSE, world.landed(landing), &resolved(&group))
                .await;
        }
    }
    assert_eq!(
        (world.depth(&HOOKS).await.ready, world.dead(&PULSE).await),
        (0, Vec::new())
    );
}

#[tokio::test]
async fn message_without_group_becomes_dead_letter_naming_its_route() {
    let world = World::new().await;
    let hostile = [
        json!("../../x"),
        json!(""),
        json!("A".repeat(100_000)),
        json!("EHvlZcWCR6WAZapcRiLoN\n"),
    ];
    let mut messages: Vec<_> = hostile
        .into_iter()
        .map(|id| recorded(RESOLVED, |body| body["taskGroupId"] = id))
        .collect();
    messages.push(recorded(RESOLVED, |body| body["taskGroupId"] = json!(7)));
    messages.push(recorded(RESOLVED, |body| *body = json!([])));
    messages.push(recorded(DEFINED, |_| {}));
    for message in messages {
        let way = format!(
            "the message of {} with routing key {} ",
            message.routing.exchange, message.routing.key
        );
        world.handle(PULSE, world.coverage(), &message).await;
        world
            .handle(PULSE, world.landed(Landing::Autoland), &message)
            .await;
        for reason in &world.dead(&PULSE).await[..2] {
            assert!(reason.starts_with(&way) && reason.len() < 500, "{reason}");
        }
    }
    assert_eq!(world.dead(&PULSE).await.len(), 14);
    assert_eq!(world.stage.fake.calls(), [""; 0], "no call is made");
}

#[tokio::test]
async fn unresponsive_taskcluster_counts_no_attempt() {
    let world = World::new().await;
    let group = world.decision(&env(AUTOLAND, REVISION));
    world.add_to(&group, "build-linux64-ccov/opt", &env(CENTRAL, REVISION));
    let handlers = [
        world.consumer(PULSE, world.coverage()),
        world.consumer(PULSE, world.landed(Landing::Autoland)),
    ];
    for (number, handler) in handlers.iter().enumerate() {
        world
            .stage
            .fake
            .fail_until_mended(testkit::taskcluster::EVERY_CALL, &Fault::Status(503));
        world.send(&PULSE, &resolved(&group)).await;
        for _ in 0..2 * POLICY.attempts {
            assert_eq!(handler.step().await.unwrap(), 1);
            world.clock.advance(LATER);
        }
        world.stage.fake.mend();
        assert_eq!(handler.step().await.unwrap(), 1);
        assert_eq!(world.depth(&HOOKS).await.ready, number + 1);
    }
}

fn gecko() -> PublishedCommits {
    PublishedCommits::new(
        "https://reviewboard-hg.mozilla.org/gecko".to_owned(),
        bot(),
        HOOKS,
    )
}

#[tokio::test]
async fn each_mozreview_commit_is_analysed_once() {
    let world = World::new().await;
    let message = recorded(PUBLISHED, |_| {});
    world.handle(PULSE, gecko(), &message).await;
    // The same series, published again with a commit on top.
    let longer = recorded(PUBLISHED, |body| {
        let commit =
            json!({ "rev": "c".repeat(40), "review_request_id": 4, "diffset_revision": 1 });
        body["payload"]["commits"]
            .as_array_mut()
            .unwrap()
            .push(commit);
    });
    world.handle(PULSE, gecko(), &longer).await;
    let triggers = world.take(&HOOKS).await;
    assert_documented("static-analysis-mozreview", &triggers[0]);
    let payloads: Vec<_> = triggers
        .into_iter()
        .map(|trigger| trigger.payload)
        .collect();
    let expected = [
        (2, REVISION),
        (3, "3a446ae4382006c43cdfa5aa33c494f582736f35"),
        (4, &"c".repeat(40)),
    ];
    let expected = expected.map(|(id, rev)| {
        json!({ "ANALYSIS_SOURCE": "mozreview", "ANALYSIS_ID": id, "MOZREVIEW_REVISION": rev, "MOZREVIEW_DIFFSET": 1 })
    });
    assert_eq!(payloads, expected);
}

#[tokio::test]
async fn commits_for_another_repository_are_ignored() {
    let world = World::new().await;
    let elsewhere = recorded(PUBLISHED, |body| {
        body["payload"] = json!({ "repository_url": "https://reviewboard-hg.mozilla.org/other" });
    });
    world.handle(PULSE, gecko(), &elsewhere).await;
    assert_eq!(
        (world.depth(&HOOKS).await.ready, world.dead(&PULSE).await),
        (0, Vec::new())
    );
}

#[tokio::test]
async fn incomplete_mozreview_message_becomes_dead_letter() {
    let world = World::new().await;
    let without = |path: &'static str| {
        recorded(PUBLISHED, move |body| {
            let (parent, name) = path.rsplit_once('/').unwrap();
            body.pointer_mut(parent)
                .unwrap()
                .as_object_mut()
                .unwrap()
                .remove(name);
        })
    };
    let with = |path: &'static str, value: Value| {
        recorded(PUBLISHED, move |body| {
            *body.pointer_mut(path).unwrap() = value
        })
    };
    let commit = json!({ "rev": REVISION, "review_request_id": 2, "diffset_revision": 1 });
    let messages = [
        without("/payload"),
        without("/payload/repository_url"),
        without("/payload/commits"),
        without("/payload/commits/1/rev"),
        with("/payload/repository_url", json!(7)),
        with("/payload/commits/1/rev", json!("tip")),
        with("/payload/commits/1/review_request_id", json!(-1)),
        with("/payload/commits", json!(vec![commit; 1001])),
        recorded(REVIEWED, |_| {}),
    ];
    for (number, message) in messages.iter().enumerate() {
        world.handle(PULSE, gecko(), message).await;
        let reasons = world.dead(&PULSE).await;
        assert_eq!(reasons.len(), number + 1);
        assert!(
            reasons[0]
                .starts_with("the message of exchange/mozreview/ with routing key mozreview."),
            "{reasons:?}"
        );
    }
    assert_eq!(
        world.depth(&HOOKS).await.ready,
        0,
        "no part of a message is triggered"
    );
}
