//! The runner triggers a hook once for a key, through outages and deaths of workers.

use std::{future::poll_fn, pin::pin, sync::Arc, task::Poll, time::Duration};

use bus::{BusError, RedisBus};
use runtime::{Clock, SystemClock};
use secrecy::SecretString;
use serde_json::json;
use taskcluster::Credentials;
use tempfile::TempDir;
use testkit::{RedisServer, capture_logs, taskcluster::Fault};
use tokio::task::yield_now;
use triggers::HookTask;

use super::world::{DAY, HOOK_TASKS, HOOKS, LATER, POLICY, World, bot, trigger};
use crate::stage::client_credentials;

/// Runs a step until Taskcluster has triggered the hook. The step has not received the response yet.
async fn run_until_triggered(
    world: &World,
    mut step: std::pin::Pin<&mut impl Future<Output = Result<usize, BusError>>>,
) {
    let before = world.triggered();
    poll_fn(|cx| {
        if world.triggered() > before {
            return Poll::Ready(());
        }
        assert!(
            step.as_mut().poll(cx).is_pending(),
            "the step ended before the hook was triggered"
        );
        Poll::Pending
    })
    .await;
    yield_now().await;
}

#[tokio::test]
async fn hook_is_triggered_and_its_task_watched() {
    let world = World::new().await;
    world.send(&HOOKS, &trigger("a")).await;
    world.runner().step().await.unwrap();
    let triggers = world.stage.fake.triggers();
    let [fired] = &triggers[..] else {
        panic!("{triggers:?}")
    };
    assert_eq!(
        (&fired.group, &fired.hook, &fired.payload),
        (&bot().group, &bot().id, &json!({ "ANALYSIS_ID": "a" }))
    );
    let task_id = fired.task_id.clone().unwrap();
    let expected = HookTask {
        task_id,
        hook: bot(),
        triggered_at: world.clock.now(),
        retried: 0,
    };
    assert_eq!(world.take(&HOOK_TASKS).await, [expected]);
    assert_eq!(world.depth(&HOOKS).await.unfinished(), 0);
}

#[tokio::test]
async fn hook_without_task_leaves_nothing_to_watch() {
    let world = World::new().await;
    world.stage.fake.add_hook(&bot().group, &bot().id, None);
    for _ in 0..2 {
        world.send(&HOOKS, &trigger("a")).await;
        world.runner().step().await.unwrap();
    }
    assert_eq!(world.triggered(), 1);
    assert_eq!(world.depth(&HOOK_TASKS).await.ready, 0);
    assert_eq!(world.depth(&HOOKS).await, bus::Depth::default());
}

#[tokio::test]
async fn duplicate_trigger_is_dropped_within_the_window() {
    let world = World::new().await;
    for pause in [Duration::ZERO, LATER, 10 * DAY] {
        world.clock.advance(pause);
        world.send(&HOOKS, &trigger("a")).await;
        world.runner().step().await.unwrap();
    }
    assert_eq!(world.triggered(), 1);
    world.send(&HOOKS, &trigger("b")).await;
    world.runner().step().await.unwrap();
    assert_eq!(world.triggered(), 2, "another key is triggered");
}

#[tokio::test]
async fn concurrent_instances_trigger_once() {
    let world = World::new().await;
    let (one, other) = (world.runner(), world.runner());
    world.send(&HOOKS, &trigger("a")).await;
    let mut working = pin!(one.step());
    run_until_triggered(&world, working.as_mut()).await;
    world.send(&HOOKS, &trigger("a")).await;
    assert_eq!(other.step().await.unwrap(), 1);
    assert_eq!(
        world.depth(&HOOKS).await.delayed,
        1,
        "it waits for the result of the other one"
    );
    working.await.unwrap();
    world.clock.advance(LATER);
    assert_eq!(other.step().await.unwrap(), 1);
    assert_eq!(
        (world.triggered(), world.take(&HOOK_TASKS).await.len()),
        (1, 1)
    );
    assert_eq!(world.depth(&HOOKS).await, bus::Depth::default());
}

#[tokio::test]
async fn lease_lost_during_call_hands_task_to_next_worker() {
    let world = World::new().await;
    let (slow, next) = (world.runner(), world.runner());
    world.send(&HOOKS, &trigger("a")).await;
    let mut working = pin!(slow.step());
    run_until_triggered(&world, working.as_mut()).await;
    world.clock.advance(POLICY.lease);
    assert_eq!(
        next.step().await.unwrap(),
        1,
        "the next worker has the message"
    );
    working.await.unwrap();
    assert_eq!(
        world.depth(&HOOK_TASKS).await.ready,
        0,
        "the slow worker has lost its lease"
    );
    world.clock.advance(LATER);
    assert_eq!(next.step().await.unwrap(), 1);
    let task_id = world.stage.fake.triggers()[0].task_id.clone().unwrap();
    let watched: Vec<_> = world
        .take(&HOOK_TASKS)
        .await
        .into_iter()
        .map(|watched| watched.task_id)
        .collect();
    assert_eq!((world.triggered(), watched), (1, vec![task_id]));
}

#[tokio::test]
async fn hook_is_triggered_again_after_claim_of_dead_worker_expires() {
    let world = World::new().await;
    world.send(&HOOKS, &trigger("a")).await;
    {
        let worker = world.runner();
        run_until_triggered(&world, pin!(worker.step())).await;
    }
    world.clock.advance(POLICY.lease);
    let next = world.runner();
    assert_eq!(next.step().await.unwrap(), 1);
    assert_eq!(
        (world.triggered(), world.depth(&HOOKS).await.delayed),
        (1, 1),
        "the claim has not expired"
    );
    world.clock.advance(LATER);
    assert_eq!(next.step().await.unwrap(), 1);
    let triggers = world.stage.fake.triggers();
    assert_eq!(
        triggers.len(),
        2,
        "nobody knows whether the first call arrived"
    );
    let watched: Vec<_> = world
        .take(&HOOK_TASKS)
        .await
        .into_iter()
        .map(|watched| Some(watched.task_id))
        .collect();
    assert_eq!(watched, [triggers[1].task_id.clone()]);
}

#[tokio::test]
async fn outage_counts_no_attempt() {
    let world = World::new().await;
    let runner = world.runner();
    let faults = [
        Fault::Status(500),
        Fault::Status(503),
        Fault::TooManyRequests {
            retry_after: Some(LATER),
        },
    ];
    for (number, fault) in faults.iter().enumerate() {
        world
            .stage
            .fake
            .fail_until_mended("hooks.triggerHook", fault);
        world.send(&HOOKS, &trigger(&format!("{fault:?}"))).await;
        for _ in 0..2 * POLICY.attempts {
            assert_eq!(runner.step().await.unwrap(), 1, "{fault:?}");
            assert_eq!(world.depth(&HOOKS).await.delayed, 1, "{fault:?}");
            world.clock.advance(LATER);
        }
        world.stage.fake.mend();
        assert_eq!(runner.step().await.unwrap(), 1, "{fault:?}");
        assert_eq!(
            (world.triggered(), world.take(&HOOK_TASKS).await.len()),
            (number + 1, 1),
            "{fault:?}"
        );
    }
    assert_eq!(world.depth(&HOOKS).await, bus::Depth::default());
}

#[tokio::test]
async fn failed_call_releases_its_claim() {
    let (_guard, log) = capture_logs();
    let world = World::new().await;
    let runner = world.runner();
    world.send(&HOOKS, &trigger("a")).await;
    world.stage.fake.go_down().await.unwrap();
    for _ in 0..=POLICY.attempts {
        assert_eq!(runner.step().await.unwrap(), 1);
        world.clock.advance(Duration::from_secs(30));
    }
    world.stage.fake.come_up().unwrap();
    assert_eq!(runner.step().await.unwrap(), 1);
    assert_eq!(
        (world.triggered(), world.take(&HOOK_TASKS).await.len()),
        (1, 1)
    );
    let logged =
        ["taskcluster does not answer", "taskcluster answers again"].map(|text| log.count(text));
    assert_eq!(logged, [1, 1], "{}", log.text());
}

#[tokio::test]
async fn wrong_credentials_defer_the_trigger() {
    let world = World::new().await;
    world.send(&HOOKS, &trigger("a")).await;
    let wrong = Credentials {
        client_id: "project/releng/unknown".to_owned(),
        access_token: SecretString::from("no-such-token"),
        certificate: None,
    };
    let runner = world.runner_with(wrong);
    for _ in 0..2 * POLICY.attempts {
        assert_eq!(runner.step().await.unwrap(), 1);
        world.clock.advance(LATER);
    }
    assert_eq!(
        (world.triggered(), world.dead(&HOOKS).await),
        (0, Vec::new())
    );
    world.runner().step().await.unwrap();
    assert_eq!(
        (world.triggered(), world.take(&HOOK_TASKS).await.len()),
        (1, 1)
    );
}

#[tokio::test]
async fn unknown_hook_becomes_dead_letter_and_can_be_requeued() {
    let world = World::new().await;
    let mut lost = trigger("a");
    lost.hook.id = "nope/bot".to_owned();
    world.send(&HOOKS, &lost).await;
    world.runner().step().await.unwrap();
    let reasons = world.dead(&HOOKS).await;
    assert!(
        reasons[0].starts_with(
            "cannot trigger hook project-releng/nope/bot: taskcluster does not find what"
        ),
        "{reasons:?}"
    );

    world
        .stage
        .fake
        .add_hook(&lost.hook.group, &lost.hook.id, None);
    let letter = world
        .bus
        .dead(&HOOKS.spec(), "", 1)
        .await
        .unwrap()
        .remove(0);
    world
        .bus
        .requeue_dead(&HOOKS.spec(), &[letter.id])
        .await
        .unwrap();
    world.runner().step().await.unwrap();
    assert_eq!(
        (world.triggered(), world.dead(&HOOKS).await),
        (1, Vec::new())
    );
}

#[tokio::test]
async fn payload_refused_by_hook_becomes_dead_letter() {
    let world = World::new().await;
    let schema =
        json!({ "type": "object", "properties": { "ANALYSIS_ID": { "type": "integer" } } });
    world
        .stage
        .fake
        .add_hook_with_schema(&bot().group, &bot().id, None, schema);
    world.send(&HOOKS, &trigger("a")).await;
    world.runner().step().await.unwrap();
    let reasons = world.dead(&HOOKS).await;
    assert!(
        reasons[0].contains("/bot: taskcluster refused hooks.triggerHook as invalid: InputError"),
        "{reasons:?}"
    );
    assert!(
        reasons[0].contains("ANALYSIS_ID must be integer"),
        "{reasons:?}"
    );
    assert_eq!(world.triggered(), 0);
}

#[tokio::test]
async fn missing_scope_defers_the_trigger_and_is_logged_once() {
    let (_guard, log) = capture_logs();
    let world = World::new().await;
    world.send(&HOOKS, &trigger("a")).await;
    let runner = world.runner_with(client_credentials(
        world
            .stage
            .fake
            .temporary_credentials(&["queue:get-artifact:*"]),
    ));
    for _ in 0..3 {
        assert_eq!(runner.step().await.unwrap(), 1);
        world.clock.advance(LATER);
    }
    let scope = format!("hooks:trigger-hook:{}", bot());
    assert_eq!(
        (log.count("client lacks scopes"), log.count(&scope)),
        (1, 1),
        "{}",
        log.text()
    );
    world.runner().step().await.unwrap();
    assert_eq!(
        (world.triggered(), world.dead(&HOOKS).await),
        (1, Vec::new())
    );
}

#[tokio::test]
async fn trigger_is_recorded_after_bus_outage() {
    let directory = TempDir::new().unwrap();
    let (_guard, log) = capture_logs();
    let mut server = RedisServer::start(directory.path()).await.unwrap();
    let world =
        World::on(|_| Arc::new(RedisBus::new(&server.options(), &SystemClock).unwrap())).await;
    world.send(&HOOKS, &trigger("a")).await;
    let runner = world.runner();
    let mut working = pin!(runner.step());
    run_until_triggered(&world, working.as_mut()).await;
    // Not killed: Redis delays writes to its file while the disk syncs it, so a kill may lose the reservation and the claim,
    // although it confirmed them. Without the reservation the settlement is refused.
    server.stop_gently().await.unwrap();
    poll_fn(|cx| {
        assert!(
            working.as_mut().poll(cx).is_pending(),
            "settled without a bus"
        );
        if log.count("cannot record the result of a claim; retrying") > 0 {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
    server.restart().await.unwrap();
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(working.await.unwrap(), 1);
    assert_eq!(world.take(&HOOK_TASKS).await.len(), 1);

    world.send(&HOOKS, &trigger("a")).await;
    assert_eq!(runner.step().await.unwrap(), 1);
    assert_eq!(world.triggered(), 1, "the result is recorded");
}
