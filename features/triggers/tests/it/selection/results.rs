//! Results of selected tests.

use super::*;

#[tokio::test]
async fn tasks_of_other_pushes_make_no_call() {
    let (world, build, decision) = selected().await;
    let before = world.firefox.calls().len();
    world
        .end_task(&ended("Aq", "another-group", "completed", a_test("a")))
        .await;
    world
        .end_task(&ended("Aq", "another-group", "completed", None))
        .await;
    world
        .end_task(&ended(
            "Aq",
            &decision,
            "completed",
            Some(json!({ "kind": "build" })),
        ))
        .await;
    world
        .end_task(&ended("Aq", &decision, "running", a_test("a")))
        .await;
    assert_eq!(world.firefox.calls().len(), before);
    assert!(world.units(&build).is_empty() && world.dead(&TASKS).await.is_empty());
}

#[tokio::test]
async fn task_is_requested_when_message_lacks_it() {
    let (world, build, decision) = selected().await;
    let metadata = json!({ "name": "test by name", "description": "", "owner": "dev@example.com", "source": "https://x/" });
    let tasks = [
        json!({ "taskGroupId": decision, "tags": { "kind": "test", "label": "test by label" } }),
        json!({ "taskGroupId": decision, "tags": { "kind": "test" }, "metadata": metadata }),
        json!({ "taskGroupId": decision, "tags": { "kind": "build" } }),
    ];
    for task in tasks {
        let task = world.firefox.add_task(task);
        world
            .end_task(&ended(&task, &decision, "completed", None))
            .await;
    }
    let units = world.units(&build);
    assert_eq!(
        units
            .iter()
            .map(|unit| unit[0].as_str())
            .collect::<Vec<_>>(),
        ["test by label", "test by name"]
    );
}

#[tokio::test]
async fn duplicate_or_late_result_is_not_published() {
    let (world, build, decision) = selected().await;
    for _ in 0..2 {
        world
            .end_task(&ended("Aq", &decision, "failed", a_test("a")))
            .await;
    }
    world.clock.advance(SEVEN_HOURS);
    world
        .end_task(&ended("Bq", &decision, "failed", a_test("b")))
        .await;
    assert_eq!(world.units(&build).len(), 1);
}

#[tokio::test]
async fn malformed_message_becomes_dead_letter() {
    let world = World::new().await;
    let mut message = ended("Aq", "group", "completed", None);
    message.body = b"{}".to_vec().into();
    world.end_task(&message).await;
    let dead = world.dead(&TASKS).await;
    assert!(
        dead[0].contains(
            "exchange/taskcluster-queue/v1/task-completed with routing key primary.Aq.0."
        ),
        "{dead:?}"
    );
}
