//! From a request to a build, or to the answer that there is none.

mod stacks;

use std::time::Duration;

use build::{
    BuildEventKind, BuildOutcome, BuildRequest, BuildUpdate, NotPublic, QueueState, Source,
};
use phabricator::ViewPolicies;
use runtime::Clock;
use testkit::phabricator::{
    CreatedRevision, EVERY_METHOD, Fault, NewDiff, NewRevision, RevisionStatus,
};

use crate::world::{World, build_log_of, capture_logs, start};

/// The one update there is, when it says that nothing is built.
async fn only_neutral(world: &World) -> String {
    assert!(world.builds().await.is_empty() && world.sent_to_bugbug().await.is_empty());
    match world.updates().await.as_slice() {
        [BuildUpdate::Skipped(skip)] => skip.text.clone(),
        updates => panic!("{updates:?}"),
    }
}

/// The summary of the one update there is, when it blames the patch.
async fn only_failure(world: &World) -> String {
    assert!(world.builds().await.is_empty());
    match world.updates().await.as_slice() {
        [BuildUpdate::PatchFailed(failure)] => {
            assert!(!failure.advice.is_empty());
            failure.summary.clone()
        }
        updates => panic!("{updates:?}"),
    }
}

/// The revisions of the one build there is, in the order of their patches.
async fn only_stack(world: &World) -> Vec<u64> {
    assert_eq!(world.updates().await, [BuildUpdate::Working]);
    let builds = world.builds().await;
    assert_eq!(builds.len(), 1);
    builds[0]
        .stack
        .iter()
        .map(|patch| patch.revision_id)
        .collect()
}

#[tokio::test]
async fn public_revision_is_built_at_once() {
    let world = World::new().await;
    let bob = world.fake.add_user("bob", "Bob Example");
    let diff = NewDiff::new("the patch")
        .base("f7f4")
        .commit("\"Alice Example\" <alice@example.com>", "Bug 1 - message");
    let revision = world
        .fake
        .create_revision(world.revision_with("title", diff).reviewer(&bob));
    let request = world.build(&revision).await;

    assert_eq!(world.work().await, 1);

    assert_eq!(world.updates().await, [BuildUpdate::Working]);
    let builds = world.builds().await;
    let build = &builds[0];
    assert_eq!(&world.sent_to_bugbug().await, &builds);
    assert_eq!(build.request, request);
    assert_eq!(build.revision.url, format!("{}D1", world.fake.url()));
    assert_eq!(
        (build.revision.id, build.revision.phid.clone()),
        (1, revision.phid)
    );
    assert_eq!(
        (
            build.revision.author.clone(),
            build.revision.reviewers.clone()
        ),
        (world.alice.clone(), vec![bob])
    );
    assert_eq!(
        (build.diff.id, build.diff.phid.clone()),
        (revision.diff.id, revision.diff.phid)
    );
    assert_eq!(
        (build.diff.created_at, build.diff.base.as_deref()),
        (start(), Some("f7f4"))
    );
    assert_eq!(build.stack.len(), 1);
    let patch = &build.stack[0];
    assert_eq!((patch.revision_id, &patch.diff), (1, &build.diff));
    assert_eq!(patch.message, None, "the diff has one of its own");
    let content = &world.contents(build).await[0];
    assert_eq!(
        content.author.as_deref(),
        Some("Alice Example <alice@example.com>")
    );
    assert_eq!(
        (content.message.as_str(), &*content.bytes),
        ("Bug 1 - message", b"the patch".as_slice())
    );
}

#[tokio::test]
async fn diff_without_commits_gets_the_title_and_no_author() {
    let world = World::new().await;
    let diff = NewDiff::new("patch").without_commit();
    let revision = world
        .fake
        .create_revision(world.revision_with("Bug 2 - title", diff));
    world.build(&revision).await;
    world.work().await;
    let build = world.builds().await.remove(0);
    assert_eq!(
        build.stack[0].message.as_deref(),
        Some("Bug 2 - title"),
        "a title can be edited, and a build makes the same changesets each time"
    );
    let content = &world.contents(&build).await[0];
    assert_eq!(
        (content.author.as_deref(), content.message.as_str()),
        (None, "Bug 2 - title")
    );
    assert_eq!(build.stack[0].diff.base, None);
}

#[tokio::test]
async fn revision_is_built_when_it_becomes_public() {
    let world = World::new().await;
    let revision = world.create("private at first");
    world.fake.set_visible(revision.id, false);
    world.build(&revision).await;
    assert_eq!(world.work().await, 1);
    for (wait, last) in [(20, false), (40, true)] {
        world.advance(wait - 1);
        assert_eq!(world.work().await, 0, "before {wait} s");
        if last {
            world.fake.set_visible(revision.id, true);
        }
        world.advance(1);
        assert_eq!(world.work().await, 1, "after {wait} s");
    }
    assert_eq!(only_stack(&world).await, [1]);
}

#[tokio::test]
async fn build_ends_as_private_after_five_checks() {
    let (_guard, logs) = capture_logs();
    let world = World::new().await;
    let revision = world.create("the hidden title");
    world.fake.set_visible(revision.id, false);
    world.build(&revision).await;
    assert_eq!(world.work().await, 1);
    for wait in [20, 40, 80, 160] {
        assert!(world.updates().await.is_empty());
        world.advance(wait - 1);
        assert_eq!(world.work().await, 0, "before {wait} s");
        world.advance(1);
        assert_eq!(world.work().await, 1, "after {wait} s");
    }
    assert_eq!(world.updates().await, [BuildUpdate::Private]);
    assert!(world.builds().await.is_empty());
    assert_eq!(world.requests().await, bus::Depth::default());
    assert!(!logs.text().contains("hidden title"), "{}", logs.text());
}

#[tokio::test]
async fn build_of_a_visible_secure_revision_ends_as_private() {
    let (_guard, logs) = capture_logs();
    let world = World::with(|settings| settings.workflow.visibility_checks = 2, true).await;
    let other = world.fake.add_project("other");
    let new = world
        .revision("the secure title")
        .project(&other)
        .project(&world.secure);
    let revision = world.fake.create_revision(new);
    world.build(&revision).await;
    world.work().await;
    world.advance(20);
    world.work().await;
    assert_eq!(world.updates().await, [BuildUpdate::Private]);
    assert!(!logs.text().contains("secure title"), "{}", logs.text());
    assert!(
        logs.text().contains("outcome=\"private\""),
        "{}",
        logs.text()
    );
}

/// A revision that our user sees, for others need not be public.
#[tokio::test]
async fn restricted_view_policy_makes_a_revision_private() {
    for (policies, policy, built) in [
        (None, "public", true),
        (None, "users", true),
        (None, "admin", false),
        (None, "no-one", false),
        (None, "obj.subscriptions.subscribers", false),
        (None, "PHID-PROJ-tqu3hlbr7eoh6nowuays", false),
        (
            Some(ViewPolicies::also(&["PHID-PLCY-staff".to_owned()])),
            "PHID-PLCY-staff",
            true,
        ),
        (
            Some(ViewPolicies::also(&["PHID-PLCY-staff".to_owned()])),
            "PHID-PLCY-others",
            false,
        ),
        (Some(ViewPolicies::Any), "PHID-PLCY-others", true),
    ] {
        let mut world = World::with(|settings| settings.workflow.visibility_checks = 1, true).await;
        if let Some(policies) = policies {
            world = world.with_view_policies(policies);
        }
        let revision = world.create("restricted");
        world.fake.set_view_policy(revision.id, policy);
        world.build(&revision).await;
        world.work().await;
        let expected = if built {
            BuildUpdate::Working
        } else {
            BuildUpdate::Private
        };
        assert_eq!(world.updates().await, [expected], "{policy}");
    }
}

#[tokio::test]
async fn project_with_another_slug_is_not_secure() {
    let world = World::new().await;
    let other = world.fake.add_project("secure-revision-reviewers");
    let revision = world
        .fake
        .create_revision(world.revision("public").project(&other));
    world.build(&revision).await;
    world.work().await;
    assert_eq!(only_stack(&world).await, [1]);
}

#[tokio::test]
async fn expired_diff_is_not_built() {
    for (age, built) in [(24 * 3600, true), (24 * 3600 + 1, false)] {
        let world = World::new().await;
        let created_at = start() - Duration::from_secs(age);
        let diff = NewDiff::new("patch").created_at(created_at);
        let revision = world.fake.create_revision(world.revision_with("old", diff));
        world.build(&revision).await;
        world.work().await;
        if built {
            assert_eq!(only_stack(&world).await, [1]);
        } else {
            let reason = only_neutral(&world).await;
            assert!(
                reason.starts_with("Expired: diff 1 was made 24 hours ago"),
                "{reason}"
            );
        }
    }
}

#[tokio::test]
async fn superseded_diff_is_not_built_and_the_newer_one_is() {
    let world = World::new().await;
    let revision = world.create("changed");
    let newer = world
        .fake
        .update_revision(revision.id, NewDiff::new("better patch"));
    let (old, new) = (world.request(revision.diff.id), world.request(newer.id));
    world.accept(&old).await;
    world.work().await;
    assert_eq!(
        only_neutral(&world).await,
        "Superseded: diff 1 was replaced by the newer diff 2, and only the newest is built."
    );
    world.accept(&new).await;
    world.work().await;
    let build = world.builds().await.remove(0);
    assert_eq!(&*world.contents(&build).await[0].bytes, b"better patch");
}

#[tokio::test]
async fn revision_of_a_skipped_author_is_not_built() {
    let world = World::skipping("alice").await;
    world.build(&world.create("by alice")).await;
    world.work().await;
    assert_eq!(
        only_neutral(&world).await,
        "Revisions of this author are not built."
    );
}

#[tokio::test]
async fn unsupported_repository_is_not_built() {
    let world = World::with(|settings| settings.rules.repositories.clear(), true).await;
    world.build(&world.create("elsewhere")).await;
    world.work().await;
    let reason = only_neutral(&world).await;
    assert!(
        reason.starts_with("Unsupported repository: patches for PHID-REPO-"),
        "{reason}"
    );
}

#[tokio::test]
async fn landed_revision_is_not_built() {
    let world = World::new().await;
    let revision = world.create("landed");
    world
        .fake
        .set_status(revision.id, RevisionStatus::Published);
    world.build(&revision).await;
    world.work().await;
    assert_eq!(
        only_neutral(&world).await,
        "D1 has landed, there is no patch left to build."
    );
}

#[tokio::test]
async fn contradictory_request_fails_without_blaming_the_patch() {
    let world = World::new().await;
    let elsewhere = world.fake.add_repository("elsewhere");
    let (first, second) = (world.create("first"), world.create("second"));
    let good = || world.request(first.diff.id);
    let table = [
        (
            BuildRequest {
                diff_id: 99,
                ..good()
            },
            "there is no diff 99",
        ),
        (
            BuildRequest {
                diff_id: second.diff.id,
                ..good()
            },
            "diff 2 is not one of D1",
        ),
        (
            BuildRequest {
                repository: elsewhere.clone(),
                ..good()
            },
            &*format!("D1 is not for {elsewhere}"),
        ),
    ];
    for (request, _) in &table {
        world.accept(request).await;
        world.work().await;
    }
    let updates = world.updates().await;
    assert_eq!(updates.len(), table.len());
    for (update, (_, expected)) in updates.iter().zip(&table) {
        let BuildUpdate::InfraFailed(failure) = update else {
            panic!("{update:?}")
        };
        assert_eq!(
            failure.summary,
            format!("The build request contradicts itself: {expected}.")
        );
    }
}

#[tokio::test]
async fn build_waits_while_phabricator_is_down() {
    let world = World::new().await;
    let request = world.build(&world.create("patient")).await;
    world.fake.fail_next("edge.search", 3, &Fault::Status(503));
    world.work().await;
    assert!(world.updates().await.is_empty());
    assert_eq!(world.requests().await.delayed, 1);
    world.advance(70);
    world.work().await;
    assert_eq!(only_stack(&world).await, [request.revision_id]);
}

#[tokio::test]
async fn build_that_cannot_be_evaluated_gets_its_answer() {
    let world = World::new().await;
    world.build(&world.create("unlucky")).await;
    world.fake.fail_next(
        "differential.diff.search",
        2,
        &Fault::Refuse("ERR-CONDUIT-CORE"),
    );
    world.work().await;
    world.advance(70);
    world.work().await;
    assert_eq!(world.requests().await.dead, 1);
    let updates = world.updates().await;
    let [BuildUpdate::InfraFailed(failure)] = updates.as_slice() else {
        panic!("{updates:?}")
    };
    assert_eq!(
        failure.summary,
        "The revision and its stack could not be loaded from Phabricator."
    );
    assert_eq!((failure.details.as_str(), failure.seconds), ("", 70.0));
}

#[tokio::test]
async fn record_holds_the_cause_of_privacy() {
    type Hide = fn(&World, u64, u64);
    let hides: [(NotPublic, Hide); 4] = [
        (NotPublic::Revision, |world, _, top| {
            world.fake.set_visible(top, false)
        }),
        (NotPublic::Restricted, |world, _, top| {
            world.fake.set_view_policy(top, "PHID-PROJ-staff")
        }),
        (NotPublic::Restricted, |world, _, top| {
            world
                .fake
                .set_projects(top, std::slice::from_ref(&world.secure))
        }),
        (NotPublic::Parent, |world, parent, _| {
            world.fake.set_visible(parent, false)
        }),
    ];
    for (expected, hide) in hides {
        let world = World::new().await;
        let parent = world.create("parent");
        let top = world
            .fake
            .create_revision(world.revision("top").parent(&parent.phid));
        hide(&world, parent.id, top.id);
        let request = world.build(&top).await;
        world.work().await;
        let record = world.record(&request).await;
        let last = &record.events.last().unwrap().kind;
        assert!(
            matches!(last, BuildEventKind::NotPublicYet { why, .. } if *why == expected),
            "{expected:?}: {record:?}"
        );
        let Some(QueueState::Delayed {
            reason, attempt, ..
        }) = record.now.map(|now| now.step)
        else {
            panic!("{expected:?}")
        };
        assert_eq!((reason.as_str(), attempt), (expected.text(), 0));
    }
}

#[tokio::test]
async fn private_end_keeps_the_accepting_process() {
    for source in [Source::Harbormaster, Source::Audit] {
        let world = World::with(|settings| settings.workflow.visibility_checks = 1, true).await;
        let revision = world.create("hidden");
        world.fake.set_visible(revision.id, false);
        let request = world.request(revision.diff.id);
        let web = build_log_of("the web");
        world.accept_from(&request, source, &web).await;
        world.work().await;
        let record = world.record(&request).await;
        assert_eq!(
            (record.outcome(), record.events.len()),
            (Some(BuildOutcome::Private), 2),
            "{record:?}"
        );
        assert_eq!(
            (record.events[0].process.as_str(), &record.events[0].kind),
            ("the web", &BuildEventKind::Accepted { source })
        );
    }
}

#[tokio::test]
async fn failed_step_records_its_attempt_and_the_next_one() {
    let world = World::new().await;
    let request = world.build(&world.create("revision")).await;
    world.fake.fail_until_mended(EVERY_METHOD, &Fault::Cut);
    world.work().await;
    let record = world.record(&request).await;
    let Some(QueueState::Delayed {
        until,
        reason,
        attempt,
    }) = record.now.map(|now| now.step)
    else {
        panic!("it waits")
    };
    assert!(
        attempt == 1 && until > world.clock.now(),
        "{attempt} {until}"
    );
    assert!(
        reason.contains(
            "no usable response from phabricator to differential.revision.search, 3 tries failed"
        ),
        "{reason}"
    );
}
