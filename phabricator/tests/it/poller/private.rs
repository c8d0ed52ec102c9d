//! Diffs of revisions that are, or were, private.

use super::*;

#[tokio::test]
async fn invisible_revision_is_sent_when_it_becomes_public() {
    let world = World::new().await;
    let mut process = Process::begin(&world).await;
    let private = world.create("private");
    world.fake.set_visible(private.id, false);
    let public = world.create("public");
    process.look().await;
    assert_eq!(found(&world).await, [public.diff.id]);

    world.clock.advance(Duration::from_secs(30 * 24 * 3600));
    world.fake.set_visible(private.id, true);
    process.look().await;
    assert_eq!(found(&world).await, [public.diff.id, private.diff.id]);
}

#[tokio::test]
async fn secure_revision_is_sent_when_it_leaves_its_project() {
    let (_guard, logs) = capture_logs();
    let world = World::new().await;
    let mut process = Process::begin(&world).await;
    let private = world
        .fake
        .create_revision(world.revision("the secret title").project(&world.secure));
    process.look().await;
    world.fake.set_status(private.id, RevisionStatus::Accepted);
    process.look().await;
    assert!(found(&world).await.is_empty());
    assert!(
        !logs.text().contains(private.diff.phid.as_str()) && !logs.text().contains("secret"),
        "{}",
        logs.text()
    );

    world.fake.set_projects(private.id, &[]);
    process.look().await;
    assert_eq!(found(&world).await, [private.diff.id]);
}

#[tokio::test]
async fn only_the_last_diff_of_a_private_time_is_sent() {
    let world = World::new().await;
    let mut process = Process::begin(&world).await;
    let hidden = world.create("hidden");
    world.fake.set_visible(hidden.id, false);
    let tagged = world
        .fake
        .create_revision(world.revision("tagged").project(&world.secure));
    process.look().await;
    let newest = [hidden.id, tagged.id].map(|id| world.fake.update_revision(id, patch()).id);
    process.look().await;
    assert!(found(&world).await.is_empty());
    world.fake.set_visible(hidden.id, true);
    world.fake.set_projects(tagged.id, &[]);
    process.look().await;
    assert_eq!(found(&world).await, newest);
}

#[tokio::test]
async fn diff_without_a_revision_is_sent_when_it_has_a_public_one() {
    let world = World::new().await;
    let mut process = Process::begin(&world).await;
    let (revision, private) = (world.create("public"), world.create("private"));
    world
        .fake
        .set_projects(private.id, std::slice::from_ref(&world.secure));
    let loose = [(); 3].map(|()| {
        world
            .fake
            .add_diff(&world.alice, Some(&world.repository), patch())
    });
    process.look().await;
    assert_eq!(found(&world).await, [revision.diff.id]);

    world.fake.attach_diff(revision.id, &loose[0]);
    world.fake.attach_diff(private.id, &loose[1]);
    process.look().await;
    assert_eq!(found(&world).await, [revision.diff.id, loose[0].id]);
}

#[tokio::test]
async fn secure_revision_from_before_the_first_start_is_not_sent() {
    let world = World::new().await;
    let private = world
        .fake
        .create_revision(world.revision("old").project(&world.secure));
    let mut process = Process::begin(&world).await;
    world.fake.set_projects(private.id, &[]);
    process.look().await;
    assert!(found(&world).await.is_empty());
}
