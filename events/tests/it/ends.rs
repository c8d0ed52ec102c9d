//! Each way in which a build can end, from Harbormaster's request to the unit on its target.

use std::time::Duration;

use build::SkipReason::{Abandoned, Author, Expired, File, Landed, Repository, Superseded};
use runtime::{Clock, SystemClock};
use testkit::phabricator::{NewDiff, NewRevision, RevisionStatus};

use crate::{
    stage::{
        DOCS_URL, Stage, ended_elsewhere, neutral, not_said, patch_failed, private, pushed,
        pushed_with,
    },
    world::World,
};

const DAY_AND_HOUR: Duration = Duration::from_secs(25 * 3600);

async fn stage() -> Stage {
    Stage::new(World::with_redis().await, &[], None).await
}

#[tokio::test]
async fn builds_that_are_ineligible_at_the_start_end_with_their_cause() {
    let world = World::with_redis().await;
    let mallory = world.phabricator.add_user("mallory", "Mallory Example");
    world.configure("  user_blacklist: [mallory]\n  skippable_files: [generated.txt]\n");
    world.configure(&format!("  docs_url: {DOCS_URL}\n"));
    let mut stage = Stage::new(world, &[], None).await;
    let phabricator = &stage.world.phabricator;
    let elsewhere = phabricator.add_repository("elsewhere");
    let old = SystemClock.now() - DAY_AND_HOUR;

    let good = stage.create(stage.revision("good.txt"));
    let wrong = "diff --git a/README.md b/README.md\n--- a/README.md\n+++ b/README.md\n@@ -1,1 +1,1 @@\n-Not there\n+x\n";
    let wrong = stage.world.submit("It does not apply", wrong, None);
    let hostile = stage.create(stage.revision(".hg/hgrc"));
    let skipped = stage.create(NewRevision::new(
        "x",
        &mallory,
        &stage.world.repository,
        stage.diff("by-mallory.txt"),
    ));
    let generated = stage.create(stage.revision("generated.txt"));
    let unsupported = stage.create(NewRevision::new(
        "x",
        &stage.world.author,
        &elsewhere,
        stage.diff("elsewhere.txt"),
    ));
    let expired = stage.diff("old.txt").created_at(old);
    let expired = stage.create(NewRevision::new(
        "x",
        &stage.world.author,
        &stage.world.repository,
        expired,
    ));
    let replaced = stage.create(stage.revision("first.txt"));
    let newer = stage
        .world
        .phabricator
        .update_revision(replaced.id, stage.diff("second.txt"));
    let landed = stage.create(stage.revision("landed.txt"));
    stage
        .world
        .phabricator
        .set_status(landed.id, RevisionStatus::Published);
    let given_up = stage.create(stage.revision("given-up.txt"));
    stage
        .world
        .phabricator
        .set_status(given_up.id, RevisionStatus::Abandoned);
    let on_given_up = stage.create(stage.revision("on-given-up.txt").parent(&given_up.phid));
    let child = stage.create(stage.revision("child.txt").parent(&good.phid));
    let cyclic = stage.create(stage.revision("cyclic.txt"));
    stage
        .world
        .phabricator
        .add_parent(&cyclic.phid, &cyclic.phid);
    let fork = stage.create(
        stage
            .revision("fork.txt")
            .parent(&good.phid)
            .parent(&replaced.phid),
    );
    let mut last = good.clone();
    for number in 0..100 {
        last = stage.create(stage.revision(&number.to_string()).parent(&last.phid));
    }

    let superseded = format!(
        "Superseded: diff {} was replaced by the newer diff {}",
        replaced.diff.id, newer.id
    );
    let builds = [
        (stage.build(&good).await, pushed()),
        (stage.build(&child).await, pushed()),
        (stage.build(&wrong).await, patch_failed("README.md")),
        (stage.build(&hostile).await, patch_failed(".hg/hgrc")),
        (
            stage.build(&skipped).await,
            neutral(Author, "Revisions of this author are not built."),
        ),
        (
            stage.build(&generated).await,
            neutral(File, "The stack changes `generated.txt`"),
        ),
        (
            stage.build(&unsupported).await,
            neutral(Repository, "Unsupported repository: patches for PHID-REPO-"),
        ),
        (
            stage.build(&expired).await,
            neutral(Expired, "Expired: diff "),
        ),
        (
            stage.build(&replaced).await,
            neutral(Superseded, superseded),
        ),
        (stage.build_diff(newer.id).await, pushed()),
        (
            stage.build(&landed).await,
            neutral(Landed, "has landed, there is no patch left to build"),
        ),
        (
            stage.build(&given_up).await,
            neutral(Abandoned, "was abandoned, its patch is not built"),
        ),
        (
            stage.build(&on_given_up).await,
            pushed_with(&format!("D{} was abandoned", given_up.id)),
        ),
        (
            stage.build(&cyclic).await,
            patch_failed("stands on itself through its parents"),
        ),
        (
            stage.build(&fork).await,
            patch_failed("which do not stand on a common revision"),
        ),
        (
            stage.build(&last).await,
            patch_failed("more than 100 patches"),
        ),
    ];
    stage
        .until_all_published(builds.iter().map(|(build, _)| build))
        .await;
    stage.assert_ends(&builds).await;
    stage.stop().await;
}

#[tokio::test]
async fn private_and_late_public_revisions_end_right() {
    let mut stage = stage().await;
    let [late, hidden, parent, late_parent] =
        ["late", "hidden", "parent", "late-parent"].map(|name| stage.create(stage.revision(name)));
    for private in [&late, &hidden, &parent, &late_parent] {
        stage.world.phabricator.set_visible(private.id, false);
    }
    let secure = stage.create(stage.revision("secure").project(&stage.world.secure));
    let child = stage.create(stage.revision("child").parent(&parent.phid));
    let late_child = stage.create(stage.revision("late-child").parent(&late_parent.phid));

    let (late_build, late_child_build) = (stage.build(&late).await, stage.build(&late_child).await);
    for (build, revision) in [(&late_build, &late), (&late_child_build, &late_parent)] {
        stage.until_not_public(build, 2).await;
        stage.world.phabricator.set_visible(revision.id, true);
    }
    let builds = [
        (late_build, pushed()),
        (late_child_build, pushed()),
        (stage.build(&hidden).await, not_said()),
        (stage.build(&secure).await, private()),
        (
            stage.build(&child).await,
            patch_failed("was deleted or is not public"),
        ),
    ];
    stage
        .until_all_published(builds.iter().map(|(build, _)| build))
        .await;
    stage.assert_ends(&builds).await;
    stage.stop().await;
}

/// The stacks are loaded, and nothing of it is on Try yet.
#[tokio::test]
async fn builds_that_change_while_they_wait_end_right() {
    let mut stage = stage().await;
    stage.pause_push(true).await;
    let [good, replaced, landed, secured, hidden, parent] =
        ["good", "replaced", "landed", "secured", "hidden", "parent"]
            .map(|name| stage.create(stage.revision(name)));
    let [abandoned, aborted, restarted] =
        ["abandoned", "aborted", "restarted"].map(|name| stage.create(stage.revision(name)));
    let child = stage.create(stage.revision("child").parent(&parent.phid));
    let wrong = NewDiff::new("no patch at all").base(&stage.world.repositories.base);
    let wrong = stage.create(NewRevision::new(
        "x",
        &stage.world.author,
        &stage.world.repository,
        wrong,
    ));
    let mut builds = Vec::new();
    for revision in [
        &good, &replaced, &landed, &secured, &hidden, &child, &wrong, &abandoned, &aborted,
        &restarted,
    ] {
        builds.push(stage.build(revision).await);
    }
    stage.until_waiting_for_push(builds.len()).await;

    let phabricator = &stage.world.phabricator;
    let newer = phabricator.update_revision(replaced.id, stage.diff("newer"));
    phabricator.set_status(landed.id, RevisionStatus::Published);
    for secured in [&secured, &wrong] {
        phabricator.set_projects(secured.id, std::slice::from_ref(&stage.world.secure));
    }
    phabricator.set_visible(hidden.id, false);
    phabricator.set_projects(parent.id, std::slice::from_ref(&stage.world.secure));
    phabricator.set_status(abandoned.id, RevisionStatus::Abandoned);
    phabricator.abort_build(&builds[8].target);
    let again = phabricator.restart_build(&builds[9].target);
    builds.push(stage.build_diff(newer.id).await);
    builds.push(stage.request(again).await);
    stage.pause_push(false).await;

    let superseded = format!(
        "Superseded: diff {} was replaced by the newer diff {}",
        replaced.diff.id, newer.id
    );
    let endings = [
        pushed(),
        neutral(Superseded, superseded),
        neutral(Landed, "has landed, there is no patch left to build"),
        private(),
        not_said(),
        patch_failed("was deleted or is not public"),
        private(),
        neutral(Abandoned, "was abandoned, its patch is not built"),
        ended_elsewhere(),
        ended_elsewhere(),
        pushed(),
        pushed(),
    ];
    stage.until_all_published(&builds).await;
    let builds: Vec<_> = builds.into_iter().zip(endings).collect();
    stage.assert_ends(&builds).await;
    stage.stop().await;
}
