//! One task is looked at again, for an operator.

use notify::{Dispatcher, Identities, Status, Templates, preview, replayed};
use serde_json::json;
use std::sync::Arc;
use taskcluster::model::TaskState;

use crate::world::{NOTIFICATIONS, ROOT, World, client};

#[tokio::test]
async fn a_dry_run_tells_what_would_be_sent_and_sends_nothing() {
    let world = World::new().await;
    let section = json!({ "plugins": ["post", "robot"], "emails": ["ann@example.com", "bob@example.com"] });
    let task = world.task(json!({ "notification": { "task-failed": section } }));
    world.fake.move_on(&task, TaskState::Failed);
    let client = client(&world.fake, &world.clock);
    let message = replayed(&client, &task, Status::TaskFailed, None).await.unwrap();
    let templates = Arc::new(Templates::ours().unwrap());
    let (root, channels) = (ROOT.parse().unwrap(), world.channels.clone());
    let dispatcher = Dispatcher::new(client, root, channels, Identities::default(), templates, NOTIFICATIONS);
    let plan = dispatcher.plan(&message, bus::Clock::now(world.clock.as_ref())).await.unwrap();
    let text = preview(&world.channels, &plan).replace(&task, "<task>");
    insta::assert_snapshot!(text);
    assert!(world.post.sent().is_empty() && world.robot.sent().is_empty());
    assert_eq!(preview(&world.channels, &[]), "nothing would be sent: the task asks for nothing on an open channel\n");
}

#[tokio::test]
async fn every_status_can_be_replayed() {
    let world = World::new().await;
    for status in Status::ALL {
        let section = json!({ "plugins": ["robot"], "subject": status.name() });
        let task = world.task(json!({ "notification": { status.name(): section } }));
        let client = client(&world.fake, &world.clock);
        let message = replayed(&client, &task, status, None).await.unwrap();
        world.says(&message).await;
        assert_eq!(world.robot.sent().last().unwrap().1, status.name());
    }
}
