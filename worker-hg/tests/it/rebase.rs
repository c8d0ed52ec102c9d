//! The commands with which authors rebase their stacks.

use std::process::Command;

use crate::world::{Repo, World, add, change};

/// An author has D7, D8 and an unrelated D70 in a clone, and what the answer says puts D7 and D8 on the base.
#[tokio::test]
async fn commands_that_an_author_is_given_rebase_the_stack() {
    let mut world = World::new();
    world.source.hg(&["clone", "--quiet", ".", "../author"]);
    let author = Repo {
        path: world.path("author"),
    };
    let message = |id| {
        format!(
            "Bug {id}\n\nDifferential Revision: https://phabricator.example.org/D{id}\n\nD7 follows"
        )
    };
    for (file, id) in [("unrelated", 70), ("seven", 7), ("eight", 8)] {
        author.write(file, b"x");
        author.commit(&message(id));
    }
    world.source.write("hello.txt", b"all different\n");
    let newest = world.source.commit("later");
    world.start();
    let mut stack = vec![
        world.patch(7, change("line 5", "five")),
        world.patch(8, add("eight", "x")),
    ];
    stack[0].diff.base = Some("0123456789".repeat(4));
    let failure = world.patch_failed(&world.build_of(stack)).await;
    assert_eq!(
        failure.summary,
        "D8 cannot be built. It stands on D7, and the patch of D7 does not apply."
    );
    let (with_commits, without) = failure.commands.split_once("\n\n").unwrap();
    assert!(
        without.contains(&format!(
            "\nmoz-phab patch D8 --apply-to {newest}\nmoz-phab submit"
        )),
        "{without}"
    );
    let (rebase, submit) = with_commits.rsplit_once('\n').unwrap();
    assert_eq!(submit, "moz-phab submit");
    author.configure("[extensions]\nrebase =\n");
    let done = Command::new("sh")
        .args(["-e", "-c", rebase])
        .current_dir(&author.path)
        .env("HGRCPATH", "")
        .env("HGPLAIN", "1")
        .output()
        .unwrap();
    assert!(
        done.status.success(),
        "{rebase}: {}",
        String::from_utf8_lossy(&done.stderr)
    );
    let above = author.log(
        &format!("descendants({newest}) and not {newest}"),
        "{files} ",
    );
    assert_eq!(
        above, "seven eight ",
        "and the unrelated one stays where it was"
    );
    world.stop().await;
}
