//! Answers that wait while Phabricator is down, or rejects the token.

use testkit::phabricator::EVERY_METHOD;

use super::*;

#[tokio::test]
async fn answer_waits_while_phabricator_is_down() {
    let world = World::new().await;
    let request = world.request(world.create("revision").diff.id);
    world
        .fake
        .fail_next("harbormaster.createartifact", 3, &Fault::Status(503));
    world.publish(&request, &pushed(None)).await;
    assert!(world.target(&request).artifacts.is_empty());
    assert_eq!(world.results().await.delayed, 1);
}

/// However long that takes, the operators read it in the log, and no build fails for it.
#[tokio::test]
async fn answers_and_builds_are_deferred_while_the_token_is_rejected() {
    let (_guard, logs) = capture_logs();
    let world = World::new().await;
    let request = world.request(world.create("revision").diff.id);
    world
        .fake
        .fail_until_mended(EVERY_METHOD, &Fault::Refuse("ERR-INVALID-AUTH"));
    world.publish(&request, &patch_failed()).await;
    world.build(&world.create("another")).await;
    world.work().await;
    for _ in 0..100 {
        world.advance(1800);
        assert_eq!((world.work().await, world.tell().await), (1, 1));
    }
    assert_eq!(
        (
            world.requests().await.unfinished(),
            world.results().await.unfinished()
        ),
        (1, 1)
    );
    assert_eq!(
        logs.text()
            .matches("does not accept the api token: builds are deferred")
            .count(),
        1,
        "{}",
        logs.text()
    );
    world.fake.mend();
    world.advance(60);
    world.tell().await;
    world.work().await;
    assert_eq!(world.target(&request).status, TargetStatus::Failed);
    assert_eq!(
        world.updates().await.len(),
        1,
        "the build is checked again, and has expired by now"
    );
    assert!(
        logs.text().contains("accepts the api token again"),
        "{}",
        logs.text()
    );
}
