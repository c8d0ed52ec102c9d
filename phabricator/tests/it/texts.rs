//! Every text that this crate can put on a build target, as its author reads it. The golden files are in `snapshots`.

use std::time::Duration;

use build::{
    BaseChoice, BaseReason, BuildRequest, BuildUpdate, PatchSource, PatchSourceError, Phid, Pushed,
    VersionControl, eligibility::Rules,
};
use phabricator::answer;
use testkit::phabricator::{Fault, NewDiff, RevisionStatus};

use crate::world::{World, conduit, start};

/// The answers of `cases` under their names.
fn golden(cases: &[(&str, BuildUpdate)]) -> String {
    let target = Phid::parse("PHID-HMBT-00000000000000000001").unwrap();
    let text = |(case, update): &(&str, BuildUpdate)| {
        let answers = answer(&target, update);
        let answers: Vec<String> = answers.iter().map(ToString::to_string).collect();
        format!("======== {case}\n\n{}\n", answers.join("\n\n"))
    };
    cases.iter().map(text).collect::<Vec<_>>().join("\n")
}

/// The end of the build that is asked for in a world of its own.
async fn end(prepare: impl AsyncFnOnce(&World) -> BuildRequest) -> BuildUpdate {
    end_in(World::new().await, prepare).await
}

async fn end_in(world: World, prepare: impl AsyncFnOnce(&World) -> BuildRequest) -> BuildUpdate {
    let request = prepare(&world).await;
    world.accept(&request).await;
    // The checks of a private revision, or the second attempt.
    for wait in [0, 70, 70, 80, 160] {
        world.advance(wait);
        world.work().await;
    }
    let updates = world.updates().await;
    assert_eq!(updates.len(), 1, "{updates:?}");
    updates[0].clone()
}

/// What an author reads when the patches of a stack cannot be loaded.
async fn not_loaded(
    world: World,
    prepare: impl AsyncFnOnce(&World) -> BuildRequest,
) -> BuildUpdate {
    let request = prepare(&world).await;
    world.accept(&request).await;
    world.work().await;
    let build = world.builds().await.remove(0);
    let directory = tempfile::tempdir().unwrap();
    match conduit(&world.fake).load(&build, directory.path()).await {
        Err(PatchSourceError::Refused(failure)) => BuildUpdate::PatchFailed(*failure),
        other => panic!("{other:?}"),
    }
}

fn pushed(
    vcs: VersionControl,
    base: BaseChoice,
    revisions: Vec<u64>,
    landed: Vec<u64>,
) -> BuildUpdate {
    let (reference, jobs_url) = match vcs {
        VersionControl::Mercurial => (
            None,
            "https://treeherder.example/#/jobs?repo=try&revision=aaaa",
        ),
        VersionControl::Git => (
            Some("refs/heads/phabricator/D8/21"),
            "https://git.example.com/-/pipelines?ref=phabricator/D8/21",
        ),
    };
    BuildUpdate::Pushed(Box::new(Pushed {
        vcs,
        revision: "a".repeat(40),
        reference: reference.map(str::to_owned),
        jobs_url: Some(jobs_url.to_owned()),
        on_treeherder: vcs == VersionControl::Mercurial,
        job_url: None,
        patches: revisions.len(),
        revisions,
        landed,
        abandoned: Vec::new(),
        base,
        seconds: 12.5,
    }))
}

#[test]
fn applied_patches_and_their_base() {
    insta::assert_snapshot!(applied(VersionControl::Mercurial));
}

#[test]
fn applied_patches_and_their_base_in_git() {
    insta::assert_snapshot!(applied(VersionControl::Git));
}

/// The answers of pushes.
fn applied(vcs: VersionControl) -> String {
    let pushed = |base, revisions, landed| pushed(vcs, base, revisions, landed);
    let base = |reason, instead_of: Option<&str>| BaseChoice {
        used: "b".repeat(40),
        instead_of: instead_of.map(str::to_owned),
        reason,
        tried: None,
    };
    let unknown = "1234567890".repeat(4);
    let named = || base(BaseReason::Named, None);
    let on_abandoned = |abandoned: Vec<u64>| {
        let BuildUpdate::Pushed(pushed) = pushed(named(), vec![7, 8, 9], vec![]) else {
            unreachable!()
        };
        BuildUpdate::Pushed(Box::new(Pushed {
            abandoned,
            ..*pushed
        }))
    };
    golden(&[
        ("the work has begun", BuildUpdate::Working),
        (
            "the base that the stack names",
            pushed(named(), vec![7], vec![]),
        ),
        ("a stack", pushed(named(), vec![7, 8, 9], vec![])),
        ("a long stack", pushed(named(), (1..=100).collect(), vec![])),
        ("on a landed revision", pushed(named(), vec![7], vec![5])),
        ("on landed revisions", pushed(named(), vec![7], vec![4, 5])),
        ("on an abandoned revision", on_abandoned(vec![7])),
        ("on abandoned revisions", on_abandoned(vec![7, 8])),
        (
            "a base that is named in another version control",
            pushed(base(BaseReason::Mapped, Some(&unknown)), vec![7], vec![]),
        ),
        (
            "an unknown base",
            pushed(base(BaseReason::Unknown, Some(&unknown)), vec![7], vec![5]),
        ),
        (
            "a base that is no hash",
            pushed(
                base(BaseReason::NotAHash, Some("refs/heads/main")),
                vec![7, 8],
                vec![],
            ),
        ),
        (
            "a hostile base",
            pushed(
                base(BaseReason::NotAHash, Some("`{F1}` @alice\n= head")),
                vec![7],
                vec![],
            ),
        ),
        (
            "a base of an upper patch",
            pushed(
                base(BaseReason::NewestNamed, Some(&unknown)),
                vec![7, 8],
                vec![],
            ),
        ),
        (
            "an unknown base, by date",
            pushed(base(BaseReason::ByDate, Some(&unknown)), vec![7], vec![]),
        ),
        (
            "no base, by date",
            pushed(base(BaseReason::ByDate, None), vec![7], vec![]),
        ),
        (
            "an unknown base, by date in vain",
            pushed(
                BaseChoice {
                    tried: Some("c".repeat(40)),
                    ..base(BaseReason::Unknown, Some(&unknown))
                },
                vec![7],
                vec![],
            ),
        ),
        (
            "no base",
            pushed(base(BaseReason::Unnamed, None), vec![7], vec![]),
        ),
        (
            "always the latest",
            pushed(base(BaseReason::Latest, Some(&unknown)), vec![7], vec![]),
        ),
        (
            "always the latest, no base",
            pushed(base(BaseReason::Latest, None), vec![7], vec![]),
        ),
    ])
}

#[tokio::test]
async fn builds_that_end_before_their_stack_is_loaded() {
    let expired = end(async |world| {
        let diff = NewDiff::new("patch").created_at(start() - Duration::from_secs(30 * 3600));
        world.request(
            world
                .fake
                .create_revision(world.revision_with("old", diff))
                .diff
                .id,
        )
    });
    let superseded = end(async |world| {
        let revision = world.create("changed");
        world
            .fake
            .update_revision(revision.id, NewDiff::new("better"));
        world.request(revision.diff.id)
    });
    let landed = end(async |world| {
        let revision = world.create("landed");
        world
            .fake
            .set_status(revision.id, RevisionStatus::Published);
        world.request(revision.diff.id)
    });
    let elsewhere = end(async |world| {
        let other = world.fake.add_repository("elsewhere");
        let new = testkit::phabricator::NewRevision::new(
            "x",
            &world.alice,
            &other,
            NewDiff::new("patch"),
        );
        world.request(world.fake.create_revision(new).diff.id)
    });
    let private = end(async |world| {
        let revision = world.create("hidden");
        world.fake.set_visible(revision.id, false);
        world.request(revision.diff.id)
    });
    let contradiction = end(async |world| {
        let (first, second) = (world.create("first"), world.create("second"));
        BuildRequest {
            diff_id: second.diff.id,
            ..world.request(first.diff.id)
        }
    });
    let no_diff = end(async |world| BuildRequest {
        diff_id: 99,
        ..world.request(world.create("first").diff.id)
    });
    let unreadable = end(async |world| {
        world.fake.fail_next(
            "differential.diff.search",
            2,
            &Fault::Refuse("ERR-CONDUIT-CORE"),
        );
        world.request(world.create("unlucky").diff.id)
    });
    let author = {
        let world = World::skipping("alice").await;
        world.build(&world.create("skipped")).await;
        world.work().await;
        world.updates().await.remove(0)
    };
    let texts = golden(&[
        ("expired", expired.await),
        ("superseded", superseded.await),
        ("landed", landed.await),
        ("a repository that is not built", elsewhere.await),
        ("an author who is skipped", author),
        ("private", private.await),
        ("a request for another revision's diff", contradiction.await),
        ("a request for no diff", no_diff.await),
        ("phabricator is down", unreadable.await),
    ]);
    insta::assert_snapshot!(texts);
}

async fn on_a_private_parent(world: &World) -> BuildRequest {
    let parent = world.create("private");
    let child = world
        .fake
        .create_revision(world.revision("child").parent(&parent.phid));
    let top = world
        .fake
        .create_revision(world.revision("top").parent(&child.phid));
    world.fake.set_visible(parent.id, false);
    world.request(top.diff.id)
}

async fn on_a_cycle(world: &World) -> BuildRequest {
    let bottom = world.create("bottom");
    let top = world
        .fake
        .create_revision(world.revision("top").parent(&bottom.phid));
    world.fake.add_parent(&bottom.phid, &top.phid);
    world.request(top.diff.id)
}

async fn without_a_patch(world: &World) -> BuildRequest {
    let bottom = world.create("bottom");
    let top = world
        .fake
        .create_revision(world.revision("top").parent(&bottom.phid));
    world.fake.fail_next(
        "differential.getrawdiff",
        1,
        &Fault::Refuse("ERR_NOT_FOUND"),
    );
    world.request(top.diff.id)
}

#[tokio::test]
async fn stacks_that_are_refused_in_git() {
    let git = async || {
        let of_git = |rules: &mut Rules| {
            for vcs in rules.repositories.values_mut() {
                *vcs = VersionControl::Git;
            }
        };
        World::with(|settings| of_git(&mut settings.rules), true).await
    };
    let texts = golden(&[
        (
            "a parent that is not public",
            end_in(git().await, on_a_private_parent).await,
        ),
        ("a cycle", end_in(git().await, on_a_cycle).await),
        (
            "a patch that is not there",
            not_loaded(git().await, without_a_patch).await,
        ),
    ]);
    insta::assert_snapshot!(texts);
}

#[tokio::test]
async fn stacks_that_are_refused() {
    let hidden = end(on_a_private_parent);
    let cycle = end(on_a_cycle);
    let fork = end(async |world| {
        let (left, right) = (world.create("left"), world.create("right"));
        let top = world
            .fake
            .create_revision(world.revision("top").parent(&left.phid).parent(&right.phid));
        world.request(top.diff.id)
    });
    let too_many = end(async |world| {
        let mut last = world.create("1");
        for number in 2..=101 {
            last = world
                .fake
                .create_revision(world.revision(&number.to_string()).parent(&last.phid));
        }
        world.request(last.diff.id)
    });
    let no_patch = not_loaded(World::new().await, without_a_patch);
    let too_large = not_loaded(World::new().await, async |world| {
        let half = || NewDiff::new("x".repeat(33 << 20));
        let bottom = world
            .fake
            .create_revision(world.revision_with("bottom", half()));
        let top = world
            .fake
            .create_revision(world.revision_with("top", half()).parent(&bottom.phid));
        world.request(top.diff.id)
    });
    let texts = golden(&[
        ("a parent that is not public", hidden.await),
        ("a cycle", cycle.await),
        ("parents that do not meet", fork.await),
        ("more than a hundred patches", too_many.await),
        ("a patch that is not there", no_patch.await),
        ("patches that are too large", too_large.await),
    ]);
    insta::assert_snapshot!(texts);
}
