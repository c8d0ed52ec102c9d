//! Whether a build is (still) to be built.

use build::{Build, BuildOutcome, BuildUpdate, Phid, PushGuard, SkipReason};
use testkit::phabricator::{EVERY_METHOD, Fault, NewDiff, RevisionStatus};

use runtime::Clock;
use serde_json::{Map, Value, json};

use crate::world::{World, conduit};

/// A build of a stack of two that is loaded: D2 on D1.
async fn loaded() -> (World, Build) {
    let world = World::new().await;
    let parent = world.create("parent");
    let top = world
        .fake
        .create_revision(world.revision("top").parent(&parent.phid));
    world.build(&top).await;
    world.work().await;
    let build = world.builds().await.remove(0);
    (world, build)
}

fn skipped(reason: SkipReason) -> Option<BuildOutcome> {
    Some(BuildOutcome::Skipped(reason))
}

/// How a build ends by what the gate finds before its push.
async fn ask(world: &World, build: &Build) -> Result<Option<BuildUpdate>, build::PushGuardError> {
    let found = world.eligibility().check(build, world.clock.now()).await?;
    Ok(found.map(|found| found.update(build.vcs)))
}

/// How the build ends that `change` came between.
async fn end_after(change: impl FnOnce(&World)) -> Option<BuildUpdate> {
    let (world, build) = loaded().await;
    change(&world);
    ask(&world, &build).await.unwrap()
}

#[tokio::test]
async fn unchanged_build_is_eligible() {
    assert_eq!(end_after(|_| {}).await, None);
    let below = end_after(|world| {
        world
            .fake
            .update_revision(1, NewDiff::new("a newer patch of the parent"));
        world.fake.set_status(1, RevisionStatus::Published);
    });
    assert_eq!(
        below.await,
        None,
        "what is below was public when the stack was loaded, and is"
    );
}

#[tokio::test]
async fn newer_diff_or_landing_ends_the_build() {
    let end = end_after(|world| _ = world.fake.update_revision(2, NewDiff::new("newer")))
        .await
        .unwrap();
    assert_eq!(end.outcome(), skipped(SkipReason::Superseded));
    assert!(
        format!("{end:?}").contains("diff 2 was replaced by the newer diff 3"),
        "{end:?}"
    );
    let end = end_after(|world| world.fake.set_status(2, RevisionStatus::Published))
        .await
        .unwrap();
    assert_eq!(end.outcome(), skipped(SkipReason::Landed));
}

#[tokio::test]
async fn revision_that_became_private_ends_as_private_and_a_parent_is_not_named() {
    let ways: [fn(&World, u64); 3] = [
        |world, id| {
            world
                .fake
                .set_projects(id, std::slice::from_ref(&world.secure))
        },
        |world, id| world.fake.set_visible(id, false),
        |world, id| {
            world
                .fake
                .set_view_policy(id, "PHID-PROJ-tqu3hlbr7eoh6nowuays")
        },
    ];
    for (id, hide) in [1, 2]
        .into_iter()
        .flat_map(|id| ways.map(|hide| (id, hide)))
    {
        let end = end_after(|world| hide(world, id));
        let end = end.await.unwrap();
        if id == 2 {
            assert_eq!(end, BuildUpdate::Private);
        } else {
            let BuildUpdate::PatchFailed(failure) = end else {
                panic!("{end:?}")
            };
            let said =
                "The stack of D2 cannot be loaded: a parent of D2 was deleted or is not public.";
            assert_eq!(failure.summary, said);
        }
    }
}

#[tokio::test]
async fn reason_has_the_same_text_at_both_checks() {
    let expired = "Expired: diff 2 was made 25 hours ago, and diffs older than 24 hours are not built. \
                   Submit it again to have it built.";
    let end = end_after(|world| world.advance(25 * 3600)).await;
    assert_eq!(
        end,
        Some(BuildUpdate::skipped(SkipReason::Expired, expired))
    );

    let (world, build) = loaded().await;
    let world = world.without_repositories();
    let end = ask(&world, &build).await.unwrap().unwrap();
    assert_eq!(end.outcome(), skipped(SkipReason::Repository));
}

/// A build does not end while its eligibility is unknown.
#[tokio::test]
async fn check_fails_while_phabricator_is_down_or_rejects_the_token() {
    let (world, build) = loaded().await;
    for fault in [
        Fault::Status(500),
        Fault::Status(503),
        Fault::Cut,
        Fault::Refuse("ERR-INVALID-AUTH"),
        Fault::Refuse("ERR-CONDUIT-CORE"),
    ] {
        world.fake.fail_until_mended(EVERY_METHOD, &fault);
        // The waits within a call are short, and real: while nothing can succeed they are skipped.
        tokio::time::pause();
        assert!(ask(&world, &build).await.is_err(), "{fault:?}");
        tokio::time::resume();
        world.fake.mend();
        assert_eq!(ask(&world, &build).await.unwrap(), None, "after {fault:?}");
    }
    world.fake.go_down().await.unwrap();
    tokio::time::pause();
    assert!(ask(&world, &build).await.is_err());
    tokio::time::resume();
    world.fake.come_up().unwrap();
    assert_eq!(ask(&world, &build).await.unwrap(), None);
}

/// What a person does to a build in Harbormaster, and what its end says then.
const ENDINGS: [(Hand, &str); 3] = [
    (Hand::Aborts, "The build target is aborted in Harbormaster."),
    (Hand::Passes, "The build target is passed in Harbormaster."),
    (Hand::Restarts, "The build was restarted in Harbormaster."),
];

#[derive(Clone, Copy)]
enum Hand {
    Aborts,
    Passes,
    Restarts,
}

impl Hand {
    async fn acts(self, world: &World, target: &Phid) {
        match self {
            Self::Aborts => world.fake.abort_build(target),
            Self::Restarts => _ = world.fake.restart_build(target),
            Self::Passes => {
                let params = json!({ "receiver": target, "type": "pass" });
                let params: Map<String, Value> = serde_json::from_value(params).unwrap();
                let _: Value = conduit(&world.fake)
                    .call("harbormaster.sendmessage", params)
                    .await
                    .unwrap();
            }
        }
    }
}

#[tokio::test]
async fn build_that_ended_in_harbormaster_after_its_stack_was_loaded_is_not_pushed() {
    for (hand, text) in ENDINGS {
        let (world, build) = loaded().await;
        hand.acts(&world, &build.request.target).await;
        let end = ask(&world, &build).await.unwrap();
        assert_eq!(
            end,
            Some(BuildUpdate::skipped(SkipReason::EndedElsewhere, text))
        );
    }
}

#[tokio::test]
async fn build_that_ended_in_harbormaster_before_its_stack_is_loaded_is_closed_without_an_answer() {
    for (hand, text) in ENDINGS {
        let world = World::new().await;
        let request = world.build(&world.create("patch")).await;
        hand.acts(&world, &request.target).await;
        let before = world.target(&request);
        world.work().await;
        assert_eq!(world.builds().await, [], "{text}");
        assert_eq!(world.tell().await, 1);
        let after = world.target(&request);
        assert_eq!(
            (after.units, after.messages),
            (before.units, before.messages)
        );
        let record = world.record(&request).await;
        assert_eq!(record.outcome(), skipped(SkipReason::EndedElsewhere));
        assert!(record.published_at.is_some());
        assert_eq!(world.open().await, []);
    }
}

#[tokio::test]
async fn build_of_an_abandoned_revision_ends_before_and_after_its_stack_is_loaded() {
    let end = end_after(|world| world.fake.set_status(2, RevisionStatus::Abandoned))
        .await
        .unwrap();
    assert_eq!(end.outcome(), skipped(SkipReason::Abandoned));

    let world = World::new().await;
    let revision = world.create("given up");
    world
        .fake
        .set_status(revision.id, RevisionStatus::Abandoned);
    let request = world.build(&revision).await;
    world.work().await;
    assert_eq!(world.builds().await, []);
    world.tell().await;
    let units = world.target(&request).units;
    assert_eq!(units.len(), 1, "{units:?}");
    assert!(
        format!("{:?}", units[0]).contains("D1 was abandoned, its patch is not built."),
        "{units:?}"
    );
}
