//! Processes that die, stop, or replace each other.

use super::*;

#[tokio::test]
async fn crash_at_a_call_loses_and_repeats_no_diff() {
    let world = World::new().await;
    drop(Process::begin(&world).await);
    let mut expected = Vec::new();
    for call in 0..12 {
        expected
            .extend([world.create("one"), world.create("two")].map(|revision| revision.diff.id));
        let hidden = world.create("private");
        world.fake.set_visible(hidden.id, false);
        // It dies in the last of these calls, which Phabricator has answered.
        let mut process = Process::start(&world);
        for _ in 0..=call {
            let before = world.fake.calls().len();
            process
                .until(|world| world.fake.calls().len() > before)
                .await;
        }
        drop(process);
        world.fake.set_visible(hidden.id, true);
        expected.push(hidden.diff.id);
    }
    Process::start(&world).look().await;
    let mut sent = found(&world).await;
    sent.sort_unstable();
    assert_eq!(sent, expected);
}

#[tokio::test]
async fn crash_at_any_point_loses_and_repeats_no_diff() {
    let world = World::new().await;
    drop(Process::begin(&world).await);
    let mut expected = Vec::new();
    for steps in 0..60 {
        expected.push(world.create("one").diff.id);
        let mut process = Process::start(&world);
        for _ in 0..steps {
            process.go_on().await;
            tokio::task::yield_now().await;
            world.clock.advance(LeaderLease::RENEW_INTERVAL);
        }
    }
    Process::start(&world).look().await;
    let mut sent = found(&world).await;
    sent.sort_unstable();
    assert_eq!(sent, expected);
}

#[tokio::test]
async fn one_of_two_processes_polls_and_the_other_takes_over_within_thirty_seconds() {
    let (_guard, logs) = capture_logs();
    let world = World::new().await;
    let mut first = Process::begin(&world).await;
    let mut second = Process::start(&world);
    let began = looks(&world);
    while looks(&world) < began + 3 {
        first.go_on().await;
        second.go_on().await;
        SystemClock.sleep(Duration::from_millis(1)).await;
        world.clock.advance(LeaderLease::RENEW_INTERVAL);
    }
    let starts = || {
        logs.text()
            .matches("this process polls for new diffs")
            .count()
    };
    assert_eq!(starts(), 1);

    drop(first);
    let died = world.clock.now();
    let revision = world.create("after its death");
    while starts() == 1 {
        second.go_on().await;
        world.clock.advance(LeaderLease::RENEW_INTERVAL);
    }
    assert!(
        world.clock.now().duration_since(died).as_secs() <= 30,
        "nobody follows"
    );
    assert_eq!(second.found(1).await, [revision.diff.id]);
}

#[tokio::test]
async fn suspended_process_stops_polling_after_another_took_over() {
    let (_guard, logs) = capture_logs();
    let world = World::new().await;
    let mut stopped = Process::begin(&world).await;
    let mut fresh = Process::start(&world);
    let revision = world.create("meanwhile");
    assert_eq!(fresh.found(1).await, [revision.diff.id]);
    while !logs.text().contains("stopped polling for new diffs") {
        stopped.go_on().await;
    }
    fresh.look().await;
    assert_eq!(found(&world).await, [revision.diff.id]);
}

#[tokio::test]
async fn lease_is_taken_over_at_once_after_a_shutdown() {
    let world = World::new().await;
    let shutdown = Shutdown::new();
    let mut first = Process::stopped_by(&world, &[&world.repository], shutdown.clone());
    first.look().await;
    shutdown.stop();
    first.running.await.unwrap();
    let calls = world.fake.calls().len();
    let mut second = Process::start(&world);
    while world.fake.calls().len() == calls {
        second.go_on().await;
        SystemClock.sleep(Duration::from_millis(1)).await;
    }
}
