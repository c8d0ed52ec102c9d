//! A destination on this machine: what is the same for all servers.

use build::{BuildUpdate, Ineligible, VersionControl};

use worlds::Answer;

use super::{REF, assert_barred};
use crate::world::{World, phid};

#[tokio::test]
async fn head_of_somebody_else_is_not_replaced() {
    let mut world = World::new();
    world.start_ready().await;
    let other = world.destination.strange_commit(REF);
    assert_barred(
        world.is_barred().await,
        "The branch of this build at try has commits of somebody else.",
        &other,
    );
    assert_eq!(world.destination.rev(REF), other);
    world.destination.git(&["update-ref", "-d", REF]);
    world.lands(&world.destination).await;
    world.stop().await;
}

#[tokio::test]
async fn restarted_build_replaces_its_head_alone() {
    let mut world = World::new();
    world.repository().use_latest_revision = true;
    world.start_ready().await;
    let mut build = world.simple_build(7);
    let mut restart = async |world: &World, target: &str| {
        // On a newer base, so its head is another.
        world.source.write("later.txt", target.as_bytes());
        world.source.commit("later");
        build.request.target = phid(target);
        let head = world.pushed(&build).await.revision;
        assert_eq!(world.destination.rev(REF), head);
        head
    };
    let first = restart(&world, "PHID-HMBT-1").await;
    let second = restart(&world, "PHID-HMBT-2").await;
    assert_ne!(first, second);
    // Somebody put the first one back, or deleted the ref.
    world.destination.git(&["update-ref", REF, &first]);
    restart(&world, "PHID-HMBT-3").await;
    world.destination.git(&["update-ref", "-d", REF]);
    restart(&world, "PHID-HMBT-4").await;
    let other = world.destination.strange_commit(REF);
    assert_barred(
        world.is_barred().await,
        "The branch of this build at try has commits of somebody else.",
        &other,
    );
    assert_eq!(world.destination.rev(REF), other);
    world.stop().await;
}

#[tokio::test]
async fn repeated_build_leaves_the_head_of_a_newer_one() {
    let mut world = World::new();
    world.repository().use_latest_revision = true;
    world.start_ready().await;
    let first = world.simple_build(7);
    let old = world.pushed(&first).await.revision;
    world.die_before_the_end_is_recorded(&first).await;
    // It is restarted meanwhile, on a newer base.
    world.source.write("later.txt", b"later");
    world.source.commit("later");
    let mut second = first.clone();
    second.request.target = phid("PHID-HMBT-8");
    let new = world.pushed(&second).await.revision;
    assert_ne!(old, new);
    for over in [None, Some(Ineligible::Restarted)] {
        let end = over.clone().unwrap_or(Ineligible::Overtaken { diff: 1007 });
        world
            .phabricator
            .say(over.map_or(Answer::Wanted, Answer::Over));
        assert_eq!(world.build(&first).await, end.update(VersionControl::Git));
        assert_eq!(world.destination.rev(REF), new);
        world.die_before_the_end_is_recorded(&first).await;
    }
    // The newer one can be repeated, and so can one with the same head.
    world.phabricator.say(Answer::Wanted);
    for target in ["PHID-HMBT-8", "PHID-HMBT-9", "PHID-HMBT-8"] {
        second.request.target = phid(target);
        world.die_before_the_end_is_recorded(&second).await;
        assert_eq!(world.pushed(&second).await.revision, new);
    }
    assert_eq!(world.destination.rev(REF), new);
    world.stop().await;
}

#[tokio::test]
async fn hook_that_declines_is_asked_again() {
    let mut world = World::new();
    world.start_ready().await;
    for (hook, reason) in [
        ("pre-receive", "pre-receive hook declined"),
        ("update", "hook declined"),
    ] {
        let script = "echo CLOSED TREE; echo 'fatal: Permission denied (publickey)' >&2; exit 1";
        world.destination.hook(hook, script);
        let words = world.fails(3).await;
        assert!(
            words.starts_with(
                "push to try was refused by a hook there: remote: CLOSED TREE; \
                 remote: fatal: Permission denied (publickey)"
            ) && words.ends_with(reason),
            "{words}"
        );
        world.destination.unhook();
    }
    assert_eq!(world.destination.branches(), [""; 0]);
    world.lands(&world.destination).await;
    world.stop().await;
}

#[tokio::test]
async fn author_reads_the_words_of_a_hook_where_that_is_configured() {
    let mut world = World::new();
    world.git_settings().hook_rejects_patches = true;
    world.start_ready().await;
    world.destination.hook(
        "pre-receive",
        "echo Do not touch third_party/; echo Ask the build team; exit 1",
    );
    let failure = world.patch_failed(&world.simple_build(7)).await;
    assert_eq!(failure.summary, "The stack of D7 is refused by try.");
    assert_eq!(
        failure.details,
        "Do not touch third_party/\nAsk the build team"
    );
    world.stop().await;
}

#[tokio::test]
async fn protected_branch_and_quota_are_for_operators() {
    let mut world = World::new();
    // Whatever a hook says otherwise.
    world.git_settings().hook_rejects_patches = true;
    world.start_ready().await;
    let gitlab = "GitLab: You are not allowed to push code to protected branches on this project.";
    world
        .destination
        .hook("pre-receive", &format!("echo '{gitlab}' >&2; exit 1"));
    let protected = "The branch of this build is protected at try.";
    assert_barred(world.is_barred().await, protected, gitlab);
    world.destination.unhook();

    let hide = ["config", "receive.hideRefs", "refs/heads/phabricator"];
    world.destination.git(&hide);
    let hidden = "deny updating a hidden ref";
    assert_barred(world.is_barred().await, protected, hidden);
    world
        .destination
        .git(&["config", "--unset", "receive.hideRefs"]);

    let limit = ["config", "receive.maxInputSize", "10"];
    world.destination.git(&limit);
    assert_barred(
        world.is_barred().await,
        "The push is too large for try, or our quota there is used up.",
        "pack exceeds maximum allowed size",
    );
    world
        .destination
        .git(&["config", "--unset", "receive.maxInputSize"]);
    world.lands(&world.destination).await;
    world.stop().await;
}

/// A file of refs cannot be a folder too.
#[tokio::test]
async fn ref_that_is_a_folder_of_the_head_s_ref_is_for_operators() {
    let mut world = World::new();
    // Also where hooks are for authors.
    world.git_settings().hook_rejects_patches = true;
    world.start_ready().await;
    let in_the_way = "The branch of this build cannot be made at try: another one is in its way.";
    let below = format!("{REF}/other");
    for other in [
        "refs/heads/phabricator",
        "refs/heads/phabricator/D7",
        &below,
    ] {
        let head = world.destination.strange_commit(other);
        let (summary, words) = world.is_barred().await;
        assert_eq!(summary, in_the_way, "{words}");
        for part in [
            format!("'{other}' exists; cannot create '{REF}'"),
            "delete the ref that exists there, or configure another `ref`".to_owned(),
        ] {
            assert!(words.contains(&part), "{words}");
        }
        assert_eq!(world.destination.rev(other), head, "it stays as it is");
        world.destination.git(&["update-ref", "-d", other]);
    }
    world.lands(&world.destination).await;
    world.stop().await;
}

#[tokio::test]
async fn push_options_reach_the_hooks() {
    let mut world = World::new();
    world.git_settings().push_options =
        vec!["ci.variable=A=b c".to_owned(), "--not-an-option".to_owned()];
    world.start_ready().await;
    let build = world.simple_build(7);
    // Not before the server takes them.
    let BuildUpdate::InfraFailed(failure) = world.build(&build).await else {
        panic!("it takes none");
    };
    assert!(
        failure.details.contains("receive.advertisePushOptions"),
        "{failure:?}"
    );
    world
        .destination
        .git(&["config", "receive.advertisePushOptions", "true"]);
    let seen = world.path("options");
    world.destination.hook(
        "pre-receive",
        &format!(
            "echo \"$GIT_PUSH_OPTION_COUNT|$GIT_PUSH_OPTION_0|$GIT_PUSH_OPTION_1\" > {}",
            seen.display()
        ),
    );
    world.lands(&world.destination).await;
    let options = std::fs::read_to_string(seen).unwrap();
    assert_eq!(options, "2|ci.variable=A=b c|--not-an-option\n");
    world.stop().await;
}
