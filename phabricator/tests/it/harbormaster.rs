//! What the fake's Harbormaster does with builds, as the real one was seen to do.

use build::Phid;
use phabricator::BuildOfTarget;
use serde_json::{Map, Value, json};
use testkit::phabricator::{Target, TargetStatus};

use crate::world::{World, conduit};

/// A build, its target, and a Conduit to tell it things.
struct Build {
    world: World,
    target: Phid,
}

impl Build {
    /// Its request is on the way.
    async fn started() -> Self {
        let world = World::new().await;
        let revision = world.create("x");
        let target = world.fake.start_build(revision.diff.id).target;
        Self { world, target }
    }

    /// It waits.
    async fn waiting() -> Self {
        let build = Self::started().await;
        build.world.fake.answered(&build.target, 200);
        build
    }

    async fn tell(&self, receiver: &Phid, kind: &str) {
        self.call(
            "harbormaster.sendmessage",
            json!({ "receiver": receiver, "type": kind }),
        )
        .await;
    }

    async fn call(&self, method: &'static str, params: Value) -> Value {
        let params: Map<String, Value> = serde_json::from_value(params).unwrap();
        conduit(&self.world.fake)
            .call(method, params)
            .await
            .unwrap()
    }

    fn target(&self, target: &Phid) -> Target {
        self.world.fake.target(target).unwrap()
    }

    fn status(&self) -> TargetStatus {
        self.target(&self.target).status
    }

    async fn build_status(&self) -> Value {
        let build = self.target(&self.target).build;
        let found = self
            .call(
                "harbormaster.build.search",
                json!({ "constraints": { "phids": [build] } }),
            )
            .await;
        found["data"][0]["fields"]["buildStatus"]["value"].clone()
    }
}

#[tokio::test]
async fn restart_makes_a_new_target_and_leaves_the_old_one_waiting() {
    let build = Build::waiting().await;
    let again = build.world.fake.restart_build(&build.target).target;
    let (old, new) = (build.target(&build.target), build.target(&again));
    assert_eq!((old.generation, new.generation), (1, 2));
    assert_eq!(old.build, new.build);
    assert_eq!(
        (old.status, new.status),
        (TargetStatus::Waiting, TargetStatus::Building)
    );

    build.tell(&build.target, "pass").await;
    assert_eq!(build.status(), TargetStatus::Waiting);
    assert_eq!(build.build_status().await, "building");
    build.world.fake.answered(&again, 200);
    build.tell(&again, "fail").await;
    assert_eq!(build.target(&again).status, TargetStatus::Failed);
    assert_eq!(build.build_status().await, "failed");
    assert_eq!(build.status(), TargetStatus::Waiting);
}

#[tokio::test]
async fn target_of_an_aborted_build_ignores_messages() {
    let build = Build::waiting().await;
    build.world.fake.abort_build(&build.target);
    build.tell(&build.target, "pass").await;
    assert_eq!(build.status(), TargetStatus::Waiting);
    assert_eq!(build.build_status().await, "aborted");
}

#[tokio::test]
async fn request_in_transit_is_dropped_with_its_build() {
    for restart in [false, true] {
        let build = Build::started().await;
        match restart {
            false => build.world.fake.abort_build(&build.target),
            true => drop(build.world.fake.restart_build(&build.target)),
        }
        assert_eq!(build.status(), TargetStatus::Aborted);
        build.world.fake.answered(&build.target, 200);
        assert_eq!(build.status(), TargetStatus::Aborted);
    }
}

#[tokio::test]
async fn messages_that_are_held_act_later_and_the_first_counts() {
    let build = Build::waiting().await;
    build.world.fake.hold_messages();
    let unit = json!([{ "name": "general", "result": "fail" }]);
    build
        .call(
            "harbormaster.sendmessage",
            json!({ "receiver": build.target, "type": "fail", "unit": unit }),
        )
        .await;
    build.tell(&build.target, "pass").await;
    assert_eq!(
        (build.status(), build.target(&build.target).units.len()),
        (TargetStatus::Waiting, 1)
    );
    build.world.fake.act_on_messages();
    assert_eq!(build.status(), TargetStatus::Failed);

    let next = build.world.fake.restart_build(&build.target).target;
    build.world.fake.answered(&next, 200);
    build.tell(&next, "pass").await;
    assert_eq!(build.target(&next).status, TargetStatus::Passed);
}

#[tokio::test]
async fn messages_that_are_held_do_not_act_when_the_request_is_answered() {
    let build = Build::started().await;
    build.world.fake.hold_messages();
    build.tell(&build.target, "pass").await;
    build.world.fake.answered(&build.target, 200);
    assert_eq!(build.status(), TargetStatus::Waiting);
    build.world.fake.act_on_messages();
    assert_eq!(build.status(), TargetStatus::Passed);
}

#[tokio::test]
async fn build_is_paused_resumed_and_restarted_by_message() {
    let build = Build::waiting().await;
    let phid = build.target(&build.target).build;
    build.tell(&phid, "pause").await;
    assert_eq!(build.build_status().await, "paused");
    build.tell(&build.target, "pass").await;
    assert_eq!(build.status(), TargetStatus::Waiting);
    build.tell(&phid, "resume").await;
    assert_eq!(build.status(), TargetStatus::Passed);
    assert_eq!(build.build_status().await, "passed");

    build.tell(&phid, "restart").await;
    let found = build
        .call(
            "harbormaster.target.search",
            json!({ "constraints": { "buildPHIDs": [phid] } }),
        )
        .await;
    assert_eq!(found["data"].as_array().unwrap().len(), 2);
    assert_eq!(
        found["data"][0]["fields"]["status"]["value"],
        "target/building"
    );
}

#[tokio::test]
async fn build_that_was_restarted_resumes_with_its_new_target() {
    let build = Build::waiting().await;
    let phid = build.target(&build.target).build;
    let again = build.world.fake.restart_build(&build.target).target;
    build.world.fake.answered(&again, 200);
    build.tell(&phid, "pause").await;
    build.tell(&again, "pass").await;
    build.tell(&phid, "resume").await;
    assert_eq!(
        (build.target(&again).status, build.status()),
        (TargetStatus::Passed, TargetStatus::Waiting)
    );
}

#[tokio::test]
async fn message_with_one_bad_unit_is_refused() {
    let build = Build::waiting().await;
    let units = json!([{ "name": "good", "result": "pass" }, { "name": "bad" }]);
    let params = json!({ "receiver": build.target, "type": "fail", "unit": units });
    let params: Map<String, Value> = serde_json::from_value(params).unwrap();
    conduit(&build.world.fake)
        .call::<Value>("harbormaster.sendmessage", params)
        .await
        .unwrap_err();
    assert_eq!(
        (build.status(), build.target(&build.target).units.len()),
        (TargetStatus::Waiting, 0)
    );
}

#[tokio::test]
async fn build_is_restarted_by_the_phid_of_its_target() {
    let build = Build::waiting().await;
    build.tell(&build.target, "fail").await;
    let conduit = conduit(&build.world.fake);
    let targets = [build.target.clone()];
    let found = conduit.builds_of(&targets).await.unwrap();
    let own = build.target(&build.target).build;
    assert_eq!(
        found,
        [BuildOfTarget {
            target: build.target.clone(),
            build: own.clone(),
            restarted: false
        }]
    );
    conduit.restart(&own).await.unwrap();
    assert!(conduit.builds_of(&targets).await.unwrap()[0].restarted);
    let requests = build.world.fake.unanswered();
    assert_eq!(requests.len(), 1);
    assert_eq!(build.target(&requests[0].target).generation, 2);
}

#[tokio::test]
async fn restart_of_a_hidden_plan_is_refused_with_the_reason() {
    let build = Build::waiting().await;
    let fake = &build.world.fake;
    fake.edit_build_plan(&fake.build_plan(), |plan| plan.is_visible = false);
    let error = conduit(&build.world.fake)
        .restart(&build.target(&build.target).build)
        .await
        .unwrap_err();
    assert!(error.had_no_effect());
    assert!(
        error
            .to_string()
            .contains("You do not have permission to view this object"),
        "{error}"
    );
    assert!(build.world.fake.unanswered().is_empty());
}
