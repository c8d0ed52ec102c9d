//! Builds from end to end.

use crate::world::{World, add, change};

const REF: &str = "phabricator/D";

#[tokio::test]
async fn one_patch_is_one_commit_on_its_base() {
    let mut world = World::new();
    let base = world.source.tip();
    world.start_ready().await;
    let patch = world.patch(7, change("line 5", "line five"));
    let pushed = world.pushed(&world.build_of(vec![patch])).await;
    assert_eq!(
        world.destination.rev(&format!("{REF}7/1007")),
        pushed.revision
    );
    let log = world
        .destination
        .log(&base, &pushed.revision, "%an <%ae> %aI|%cn <%ce> %cI|%B");
    assert_eq!(
        log,
        "Ada <ada@example.org> 2026-11-21T11:00:00Z|Bot <bot@example.org> 2026-11-21T11:00:00Z|\
         Bug 7 - Do it\n\n\
         Differential Revision: https://phabricator.example.org/D7\n\
         Differential Diff: PHID-DIFF-7"
    );
    let content = world
        .destination
        .git(&["show", &format!("{}:hello.txt", pushed.revision)]);
    assert!(content.contains("line 4\nline five\nline 6"), "{content}");
    world.destination.git(&["fsck", "--strict"]);
    assert!(
        !world.own_clone().has(&pushed.revision),
        "the clone never has a commit of a build"
    );
    world.stop().await;
}

#[tokio::test]
async fn head_of_a_stack_has_the_tree_of_its_author() {
    let mut world = World::new();
    world.start_ready().await;
    let base = world.source.tip();
    // The author's commits, of which the source knows nothing.
    world.source.git(&["checkout", "--quiet", "--detach"]);
    let (source, mut diffs) = (&world.source, Vec::new());
    source.write("hello.txt", world_text(5).as_bytes());
    source.write("new/a.txt", b"one\ntwo");
    diffs.push(source.diff());
    source.commit("first");
    source.git(&["mv", "dir/sub/file.txt", "moved.txt"]);
    source.write("data.bin", &[0, 1, 2, 255].repeat(300));
    diffs.push(source.diff());
    source.commit("second");
    source.git(&["rm", "--quiet", "script.sh"]);
    source.write("hello.txt", world_text(9).as_bytes());
    diffs.push(source.diff());
    let author = source.commit("third");
    source.git(&["checkout", "--quiet", "main"]);
    assert_eq!(source.tip(), base);

    let stack = diffs
        .into_iter()
        .zip(1..)
        .map(|(diff, number)| world.patch(number, diff));
    let build = world.build_of(stack.collect());
    let pushed = world.pushed(&build).await;
    let tree = |repo: &crate::world::Repo, commit: &str| repo.rev(&format!("{commit}^{{tree}}"));
    assert_eq!(
        tree(&world.destination, &pushed.revision),
        tree(&world.source, &author)
    );
    let subjects = world.destination.log(&base, &pushed.revision, "%s");
    assert_eq!(subjects, "Bug 3 - Do it\nBug 2 - Do it\nBug 1 - Do it");
    world.destination.git(&["fsck", "--strict"]);

    // A worker that died before it said so: the same build makes the same head.
    world.die_before_the_end_is_recorded(&build).await;
    let again = world.pushed(&build).await;
    assert_eq!(again.revision, pushed.revision);
    world.stop().await;
}

fn world_text(changed: u32) -> String {
    (1..=20)
        .map(|n| format!("line {n}{}\n", if n == changed { " changed" } else { "" }))
        .collect()
}

#[tokio::test]
async fn patch_that_does_not_fit_is_its_authors_matter() {
    let mut world = World::new();
    world.start_ready().await;
    let stack = vec![
        world.patch(1, add("a", "a")),
        world.patch(2, change("line V", "line five")),
    ];
    let build = world.build_of(stack);
    let failure = world.patch_failed(&build).await;
    assert!(failure.details.contains("hello.txt"), "{failure:?}");
    assert!(
        failure.commands.contains("git fetch\ngit rebase "),
        "{failure:?}"
    );
    assert_eq!(world.destination.branches(), [""; 0]);
    world.stop().await;
}
