//! What only the base shows to be hostile: the patches themselves name nothing that is refused.

use crate::world::{World, add};

/// The words of a patch that must be refused, against a base on the tip of the source.
async fn refused(world: &World, number: u64, diff: String) -> String {
    let failure = world
        .patch_failed(&world.build_of(vec![world.patch(number, diff)]))
        .await;
    format!("{failure:?}")
}

#[tokio::test]
async fn other_spelling_of_a_file_or_directory_of_the_base_is_refused() {
    let mut world = World::new();
    world.start_ready().await;
    for (number, path, other) in [
        (1, "HELLO.txt", "hello.txt"),
        (2, "dir/SUB/new.txt", "dir/sub"),
        (3, "Dir", "dir"),
    ] {
        let words = refused(&world, number, add(path, "x")).await;
        assert!(words.contains(path) && words.contains(other), "{words}");
        assert!(!words.contains("went wrong"), "{words}");
    }
    let pushed = world.pushed(&world.simple_build(4)).await;
    assert!(world.destination.has(&pushed.revision));
    world.stop().await;
}

#[tokio::test]
async fn submodule_is_changed_only_where_that_is_allowed() {
    let mut world = World::new();
    let links = ["1", "2"].map(|digit| digit.repeat(40));
    let entry = format!("160000,{},sub", links[0]);
    world
        .source
        .git(&["update-index", "--add", "--cacheinfo", &entry]);
    let tree = world.source.git(&["write-tree"]);
    let tip = world.source.tip();
    let commit = world
        .source
        .git(&["commit-tree", "-p", &tip, "-m", "a submodule", &tree]);
    world.source.git(&["reset", "--quiet", "--hard", &commit]);
    world.start_ready().await;
    // Phabricator writes no mode here.
    let diff = format!(
        "diff --git a/sub b/sub\n--- a/sub\n+++ b/sub\n@@ -1 +1 @@\n-Subproject commit {}\n+Subproject commit {}\n",
        links[0], links[1]
    );
    let words = refused(&world, 1, diff.clone()).await;
    assert!(words.contains("sub: it is a submodule"), "{words}");
    world.stop().await;

    world.git_settings().submodules = true;
    world.start_ready().await;
    let build = world.build_of(vec![world.patch(2, diff)]);
    let pushed = world.pushed(&build).await;
    let name = format!("{}:sub", pushed.revision);
    assert_eq!(world.destination.git(&["rev-parse", &name]), links[1]);
    world.stop().await;
}

#[tokio::test]
async fn gitmodules_of_the_base_is_checked_as_a_whole() {
    let mut world = World::new();
    world.git_settings().submodules = true;
    // The address is on the last line; the hunk does not show what it is.
    let modules = "[submodule \"x\"]\n\tpath = x\n\turl = \\\n\\\nhttps://x\n";
    world.source.write(".gitmodules", modules.as_bytes());
    world.source.commit("a submodule");
    world.start_ready().await;
    let change = |hunk: &str| {
        format!(
            "diff --git a/.gitmodules b/.gitmodules\n--- a/.gitmodules\n+++ b/.gitmodules\n{hunk}"
        )
    };
    let hunk = "@@ -4,2 +4,2 @@\n \\\n-https://x\n+--upload-pack=touch\n";
    let words = refused(&world, 1, change(hunk)).await;
    assert!(words.contains(".gitmodules: the file would"), "{words}");
    let hunk = "@@ -4,2 +4,2 @@\n \\\n-https://x\n+https://y\n";
    let build = world.build_of(vec![world.patch(2, change(hunk))]);
    world.pushed(&build).await;
    world.stop().await;
}
