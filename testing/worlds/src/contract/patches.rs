//! The contents of patches are loaded by the worker that applies them.

use std::time::Duration;

use build::{BuildEventKind, BuildUpdate, Ineligible, NotPublic, QueueState};

use super::TreeService;
use crate::{Answer, Repository, Side, World};

const MINUTE: Duration = Duration::from_secs(60);

/// The build waits, however long, and no attempt is counted.
pub async fn outage_between_load_and_push_parks_the_build<S: Side>() {
    let mut world = World::<S>::new();
    world.start_ready().await;
    let heads = world.destination.pushed().len();
    world.contents.go_away(true);
    let builds = [1, 2, 3].map(|number| world.simple_build(number));
    for build in &builds {
        world.send(build).await;
    }
    world.pass(60 * MINUTE).await;
    assert_eq!(
        (world.waiting().await, world.destination.pushed().len()),
        (3, heads)
    );
    let waits = |event: &build::Event| match &event.kind {
        BuildEventKind::Deferred { reason, .. } => reason.contains("phabricator is away"),
        BuildEventKind::Failed { .. } => panic!("an attempt is counted: {event:?}"),
        _ => false,
    };
    let record = world.record(&builds[0]).await;
    assert_eq!(record.events.iter().filter(|event| waits(event)).count(), 1);
    world.contents.go_away(false);
    for _ in &builds {
        let update = world.next_update().await.update;
        assert!(matches!(update, BuildUpdate::Pushed(_)), "{update:?}");
    }
    world.stop().await;
}

/// A build in front of a closed tree needs its patches once.
pub async fn patches_are_not_loaded_again_while_the_tree_is_closed<S: Side>() {
    let mut world = World::<S>::new();
    let service = TreeService::start().await;
    world.settings.tree_status = Some(service.url());
    service.say("try", "closed", "Bug 1 - infra");
    world.start_ready().await;
    let builds = [1, 2, 3].map(|number| world.simple_build(number));
    for build in &builds {
        world.accept(build).await;
    }
    world.pass(60 * MINUTE).await;
    assert_eq!((world.waiting().await, world.contents.loads()), (3, 1));
    for record in world.shown(&builds).await {
        let Some(QueueState::Delayed { reason, .. }) = record.now.map(|now| now.step) else {
            panic!("each says what it waits for, those behind the first one, too")
        };
        assert_eq!(reason, "try is closed: Bug 1 - infra");
    }
    service.say("try", "open", "");
    for number in 1..=3 {
        let message = world.next_update().await;
        assert_eq!(message.request.revision_id, number, "in their order");
        assert!(matches!(message.update, BuildUpdate::Pushed(_)));
    }
    world.stop().await;
}

pub async fn patch_that_is_gone_is_reported_unless_its_revision_is_private<S: Side>() {
    let mut world = World::<S>::new();
    world.start_ready().await;
    let build = world.simple_build(1);
    world.contents.forget(&build);
    let failure = world.patch_failed(&build).await;
    assert_eq!(failure.summary, "A patch cannot be read.");
    let private = world.simple_build(2);
    world.contents.forget(&private);
    let over = Ineligible::Private(NotPublic::Restricted);
    world.phabricator.say(Answer::Over(over));
    assert_eq!(world.build(&private).await, BuildUpdate::Private);
    world.stop().await;
}
