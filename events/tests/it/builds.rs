//! Builds, from the request to the answer.

use testkit::{
    RedisServer,
    phabricator::{TargetStatus, harbormaster_request},
};

use crate::world::{Process, World, until};

#[tokio::test]
async fn one_process_builds_a_stack() {
    let world = World::alone().await;
    let mut all = world.start("all");
    let web = all.address().await;
    let build = world.submit_stack();
    assert_eq!(world.request(web, &build).await, 200);
    let link = world.until_pushed(&build, &all).await;
    world.assert_pushed_once(&build, &link).await;

    assert_eq!(
        world.on_try("docs/greeting.txt").await.unwrap(),
        "Grüße aus Köln\nこんにちは\n🦊\n"
    );
    assert!(
        world
            .on_try("src/motor.rs")
            .await
            .unwrap()
            .contains("seventh_step()")
    );
    assert!(
        world.on_try("src/engine.rs").await.is_err(),
        "it was renamed"
    );
    let config = world.on_try("try_task_config.json").await.unwrap();
    assert!(
        config.contains(&format!("\"phabricator_diff\": \"{}\"", build.target)),
        "{config}"
    );

    all.until_logged("pushed, with the link").await;
    let log = all.log();
    let steps = [
        "state=\"accepted\"",
        "state=\"loading\"",
        "state=\"applying\"",
        "state=\"pushing\"",
        "outcome=\"pushed\"",
        "state=\"published\"",
    ];
    let missing: Vec<_> = steps.iter().filter(|step| !log.contains(**step)).collect();
    assert!(missing.is_empty(), "{missing:?} in\n{log}");
    all.stop().await;
    assert_eq!(world.processes(), Vec::<String>::new());
}

#[tokio::test]
async fn web_and_worker_apart_build_a_stack_and_a_repeated_request_is_built_once() {
    let world = World::with_redis().await;
    let (mut web, mut worker) = (world.start("web"), world.start("worker"));
    let address = web.address().await;
    let build = world.submit_stack();
    assert_eq!(world.request(address, &build).await, 200);
    assert_eq!(world.request(address, &build).await, 200);
    let link = world.until_pushed(&build, &worker).await;
    worker.until_logged("pushed, with the link").await;
    world.assert_pushed_once(&build, &link).await;
    assert_eq!(worker.log().matches("outcome=\"pushed\"").count(), 1);
    web.stop().await;
    worker.stop().await;
}

#[tokio::test]
async fn a_stack_that_does_not_apply_is_the_patchs_fault_and_the_next_build_is_not_held_up() {
    let world = World::alone().await;
    let all = world.start("all");
    let web = all.address().await;
    let patch = "diff --git a/README.md b/README.md\n--- a/README.md\n+++ b/README.md\n@@ -1,1 +1,1 @@\n-Not there\n+New\n";
    let bad = world.submit("It does not apply", patch, None);
    let bad = world.phabricator.start_build(bad.diff.id);
    world.request(web, &bad).await;
    let good = world.submit_stack();
    world.request(web, &good).await;
    let link = world.until_pushed(&good, &all).await;
    world.assert_pushed_once(&good, &link).await;

    until("the answer on the bad build", &all, || {
        world.target(&bad).status == TargetStatus::Failed
    })
    .await;
    let target = world.target(&bad);
    assert_eq!(target.units.len(), 1);
    let (name, result) = (&target.units[0]["name"], &target.units[0]["result"]);
    assert_eq!(
        (name.as_str(), result.as_str()),
        (Some("mercurial"), Some("fail"))
    );
    let details = target.units[0]["details"].as_str().unwrap();
    assert!(
        details.contains("D1") && details.contains("README.md"),
        "{details}"
    );
}

#[tokio::test]
async fn a_worker_that_finds_waiting_builds_does_them() {
    let world = World::with_redis().await;
    let mut web = world.start("web");
    let build = world.submit_stack();
    assert_eq!(world.request(web.address().await, &build).await, 200);
    web.signal(nix::sys::signal::Signal::SIGKILL);
    web.ended().await;
    let worker = world.start("worker");
    let link = world.until_pushed(&build, &worker).await;
    world.assert_pushed_once(&build, &link).await;
}

#[tokio::test]
async fn while_redis_is_away_nothing_is_accepted_and_work_goes_on_when_it_is_back() {
    let mut world = World::with_redis().await;
    world.redis.as_mut().unwrap().stop().unwrap();
    let (web, worker) = (world.start("web"), world.start("worker"));
    let address = web.address().await;
    let build = world.submit_stack();
    let (status, _) = harbormaster_request(address, &build, None).await.unwrap();
    assert_eq!(status, 503);
    web.until_logged("redis does not answer").await;

    // A request that meets a restart waits for its end.
    let second = build.clone();
    let waiting = tokio::spawn(async move {
        harbormaster_request(address, &second, None)
            .await
            .unwrap()
            .0
    });
    world.redis.as_mut().unwrap().restart().await.unwrap();
    assert_eq!(waiting.await.unwrap(), 200);
    let link = world.until_pushed(&build, &worker).await;
    world.assert_pushed_once(&build, &link).await;
}

#[tokio::test]
async fn a_redis_that_would_lose_messages_is_refused() {
    let world = World::with_redis().await;
    let server: &RedisServer = world.redis.as_ref().unwrap();
    let set = std::process::Command::new("redis-cli")
        .args(["-s", server.url().trim_start_matches("redis+unix://")])
        .args(["config", "set", "maxmemory-policy", "allkeys-lru"])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&set.stdout).trim(), "OK");
    let mut worker: Process = world.start("worker");
    assert_eq!(worker.ended().await.code(), Some(1));
    worker.until_logged("set it to noeviction").await;
}
