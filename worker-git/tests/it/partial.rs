//! Clones without the contents of files.

use crate::world::{World, add, change};

#[tokio::test]
async fn partial_clone_fetches_the_files_of_a_stack() {
    let mut world = World::new();
    world.git_settings().partial = true;
    // The destination shares the history, as a copy of the source does.
    world
        .source
        .git(&["push", "--quiet", &world.destination.url(), "main"]);
    world.start_ready().await;
    let clone = world.own_clone();
    let (touched, other) = (
        world.source.rev("HEAD:hello.txt"),
        world.source.rev("HEAD:script.sh"),
    );
    assert!(!clone.has(&touched), "contents are not cloned");
    let stack = vec![
        world.patch(1, change("line 5", "line five")),
        world.patch(2, add("new", "x")),
    ];
    let pushed = world.pushed(&world.build_of(stack)).await;
    let content = world
        .destination
        .git(&["show", &format!("{}:hello.txt", pushed.revision)]);
    assert!(content.contains("line five"), "{content}");
    assert!(clone.has(&touched));
    assert!(!clone.has(&other), "other files are not fetched");
    world.stop().await;
}

#[tokio::test]
async fn partial_clone_pushes_to_a_destination_without_the_history() {
    let mut world = World::new();
    world.git_settings().partial = true;
    world.start_ready().await;
    let patch = world.patch(1, change("line 5", "line five"));
    let pushed = world.pushed(&world.build_of(vec![patch])).await;
    world.destination.git(&["fsck", "--strict"]);
    assert_eq!(
        world
            .destination
            .git(&["show", &format!("{}:script.sh", pushed.revision)]),
        "#!/bin/sh"
    );
    world.stop().await;
}
