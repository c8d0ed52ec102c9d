//! Recipients: muted, unreachable, none.

use super::*;

#[tokio::test]
async fn muted_recipient_can_be_unmuted() {
    let world = World::new().await;
    let bounce = || ChannelError::HardBounce {
        channel: "post",
        recipient: ANN.to_owned(),
        problem: "550 unknown".to_owned(),
    };
    world.post.fail_next(bounce());
    world
        .happens(&world.task(section(&[ANN])), Status::TaskFailed)
        .await;
    world
        .happens(&world.task(section(&[ANN])), Status::TaskFailed)
        .await;
    assert_eq!(world.post.sent(), [], "muted");
    let now = world.clock.now();
    assert!(
        !notify::unmute(&*world.bus, "post", BOB, now).await.unwrap(),
        "nobody muted him"
    );
    assert!(notify::unmute(&*world.bus, "post", ANN, now).await.unwrap());
    assert_eq!(muted(&*world.bus, now).await.unwrap(), []);
    world
        .happens(&world.task(section(&[ANN])), Status::TaskFailed)
        .await;
    assert_eq!(world.post.sent(), sent(&[ANN]));
}

#[tokio::test]
async fn unreachable_recipient_is_muted_for_a_day_and_listed() {
    let world = World::new().await;
    let problem = "550 no such user".to_owned();
    world.post.fail_next(ChannelError::HardBounce {
        channel: "post",
        recipient: ANN.to_owned(),
        problem,
    });
    world
        .happens(&world.task(section(&[ANN, BOB])), Status::TaskFailed)
        .await;
    assert_eq!(world.post.sent(), sent(&[BOB]));
    let dead = world.dead(&NOTIFICATIONS).await;
    assert!(
        dead[0].contains("muted for a day: 550 no such user"),
        "{dead:?}"
    );
    let listed = muted(
        world.bus.as_ref(),
        runtime::Clock::now(world.clock.as_ref()),
    )
    .await
    .unwrap();
    assert_eq!(
        (
            listed.len(),
            listed[0].recipient.as_str(),
            listed[0].channel.as_str()
        ),
        (1, ANN, "post")
    );

    world.pass(3600).await;
    world
        .happens(&world.task(section(&[ANN, BOB])), Status::TaskFailed)
        .await;
    assert_eq!(world.post.sent(), sent(&[BOB, BOB]));

    world.pass(24 * 3600).await;
    world
        .happens(&world.task(section(&[ANN])), Status::TaskFailed)
        .await;
    assert_eq!(world.post.sent(), sent(&[BOB, BOB, ANN]));
    assert_eq!(
        muted(
            world.bus.as_ref(),
            runtime::Clock::now(world.clock.as_ref())
        )
        .await
        .unwrap(),
        []
    );
}

#[tokio::test]
async fn task_without_recipients_is_settled() {
    let world = World::new().await;
    world
        .happens(&world.task(section(&[])), Status::TaskFailed)
        .await;
    assert_eq!(
        (world.post.sent(), world.depth(&NOTIFICATIONS).await),
        (Vec::new(), Depth::default())
    );
}
