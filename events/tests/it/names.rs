//! Names in the configuration that Phabricator knows, or does not.

use crate::world::World;

#[tokio::test]
async fn a_worker_ends_with_all_the_names_that_phabricator_does_not_know() {
    let world = World::with_redis().await;
    world.configure(
        "  user_blacklist: [zoe, nobody]\n  secure_projects: [secure-revision, hidden]\n",
    );
    let mut worker = world.start("worker");
    assert_eq!(worker.ended().await.code(), Some(1));
    worker
        .until_logged(
            "phabricator does not know: user nobody, project hidden; correct the configuration",
        )
        .await;
}

#[tokio::test]
async fn a_worker_without_secure_projects_says_what_that_means() {
    let world = World::with_redis().await;
    world.configure("  secure_projects: []\n");
    let mut worker = world.start("worker");
    worker
        .until_logged("secure_projects is empty: no project makes a revision private, only its view policy does")
        .await;
    worker.stop().await;
}
