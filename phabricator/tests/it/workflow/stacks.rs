//! Stacks: parents, their order, and their limits.

use super::*;

#[tokio::test]
async fn a_longer_way_to_a_parent_leaves_no_choice() {
    let world = World::new().await;
    let p1 = world.create("p1");
    let p2 = world
        .fake
        .create_revision(world.revision("p2").parent(&p1.phid));
    let p3 = world
        .fake
        .create_revision(world.revision("p3").parent(&p2.phid));
    let top = world
        .fake
        .create_revision(world.revision("top").parent(&p1.phid).parent(&p3.phid));
    world
        .fake
        .update_revision(p2.id, NewDiff::new("newest patch of p2"));
    world.build(&top).await;
    world.work().await;
    assert_eq!(only_stack(&world).await, [p1.id, p2.id, p3.id, top.id]);
    let build = world.builds().await.remove(0);
    let contents = world.contents(&build).await;
    let contents: Vec<Vec<u8>> = contents
        .iter()
        .map(|content| content.bytes.to_vec())
        .collect();
    assert_eq!(
        contents,
        [
            &b"patch of p1"[..],
            b"newest patch of p2",
            b"patch of p3",
            b"patch of top"
        ]
    );
}

#[tokio::test]
async fn a_diamond_is_applied_bottom_up_the_smaller_number_first() {
    let world = World::new().await;
    let bottom = world.create("bottom");
    let right = world
        .fake
        .create_revision(world.revision("right").parent(&bottom.phid));
    let left = world
        .fake
        .create_revision(world.revision("left").parent(&bottom.phid));
    // In whatever order Phabricator names the parents.
    for parents in [[&left, &right], [&right, &left]] {
        let new = parents.iter().fold(world.revision("top"), |new, parent| {
            new.parent(&parent.phid)
        });
        let top = world.fake.create_revision(new);
        world.build(&top).await;
        world.work().await;
        let builds = world.builds().await;
        let stack: Vec<u64> = builds
            .last()
            .unwrap()
            .stack
            .iter()
            .map(|patch| patch.revision_id)
            .collect();
        assert_eq!(stack, [bottom.id, right.id, left.id, top.id]);
    }
}

#[tokio::test]
async fn parents_on_different_landed_revisions_meet_on_the_base() {
    let world = World::new().await;
    let (one, other) = (world.create("landed"), world.create("landed elsewhere"));
    let private = world
        .fake
        .create_revision(world.revision("landed in private").project(&world.secure));
    let left = world
        .fake
        .create_revision(world.revision("left").parent(&one.phid));
    let right = world.fake.create_revision(
        world
            .revision("right")
            .parent(&other.phid)
            .parent(&private.phid),
    );
    let top = world
        .fake
        .create_revision(world.revision("top").parent(&left.phid).parent(&right.phid));
    for landed in [&one, &other, &private] {
        world.fake.set_status(landed.id, RevisionStatus::Published);
    }
    world.build(&top).await;
    world.work().await;
    assert_eq!(only_stack(&world).await, [left.id, right.id, top.id]);
    assert_eq!(
        world.builds().await[0].landed,
        [one.id, other.id],
        "and the private one is not named"
    );
}

#[tokio::test]
async fn parent_of_another_repository_is_named_and_nothing_is_applied() {
    let world = World::new().await;
    let elsewhere = world.fake.add_repository("comm-central");
    let diff = NewDiff::new("patch of the other").base("a".repeat(40));
    let bottom =
        world
            .fake
            .create_revision(NewRevision::new("bottom", &world.alice, &elsewhere, diff));
    let middle = world
        .fake
        .create_revision(world.revision("middle").parent(&bottom.phid));
    let top = world
        .fake
        .create_revision(world.revision("top").parent(&middle.phid));
    world.build(&top).await;
    world.work().await;
    let reports = world.reports().await;
    let [Report::PatchFailed(failure)] = reports.as_slice() else {
        panic!("{reports:?}")
    };
    assert_eq!(
        failure.summary,
        "The stack of D3 cannot be built: D1, on which it stands, is for the repository comm-central."
    );
    assert!(world.builds().await.is_empty());

    // What has landed there is not applied here.
    world.fake.set_status(bottom.id, RevisionStatus::Published);
    let again = world
        .fake
        .create_revision(world.revision("again").parent(&middle.phid));
    world.build(&again).await;
    world.work().await;
    let stack: Vec<u64> = world.builds().await[0]
        .stack
        .iter()
        .map(|patch| patch.revision_id)
        .collect();
    assert_eq!(stack, [middle.id, again.id]);
}

#[tokio::test]
async fn what_has_landed_is_left_out_with_all_below_and_what_was_abandoned_is_not() {
    let world = World::new().await;
    let bottom = world.create("bottom");
    let landed = world
        .fake
        .create_revision(world.revision("landed").parent(&bottom.phid));
    let abandoned = world
        .fake
        .create_revision(world.revision("abandoned").parent(&landed.phid));
    let top = world
        .fake
        .create_revision(world.revision("top").parent(&abandoned.phid));
    world.fake.set_status(landed.id, RevisionStatus::Published);
    world
        .fake
        .set_status(abandoned.id, RevisionStatus::Abandoned);
    world.build(&top).await;
    world.work().await;
    let builds = world.builds().await;
    let stack: Vec<_> = builds[0]
        .stack
        .iter()
        .map(|patch| (patch.revision_id, patch.abandoned))
        .collect();
    assert_eq!(stack, [(abandoned.id, true), (top.id, false)]);
    assert_eq!(world.builds().await[0].landed, [landed.id]);
}

#[tokio::test]
async fn two_parents_that_do_not_meet_are_the_authors_to_sort_out() {
    let world = World::new().await;
    let (left, right) = (world.create("left"), world.create("right"));
    let top = world
        .fake
        .create_revision(world.revision("top").parent(&left.phid).parent(&right.phid));
    world.build(&top).await;
    world.work().await;
    let summary = only_failure(&world).await;
    assert_eq!(
        summary,
        "The stack of D3 cannot be ordered: D3 has the parents D1 and D2, which do not stand on a common revision."
    );
}

#[tokio::test]
async fn a_cycle_ends_in_a_failure() {
    let world = World::new().await;
    let bottom = world.create("bottom");
    let middle = world
        .fake
        .create_revision(world.revision("middle").parent(&bottom.phid));
    let top = world
        .fake
        .create_revision(world.revision("top").parent(&middle.phid));
    world.fake.add_parent(&bottom.phid, &top.phid);
    world.build(&top).await;
    world.work().await;
    let summary = only_failure(&world).await;
    assert_eq!(
        summary,
        "The stack of D3 cannot be ordered: D1 stands on itself through its parents."
    );
}

#[tokio::test]
async fn a_parent_that_becomes_public_after_its_child_is_waited_for() {
    let world = World::new().await;
    let parent = world.create("published a moment later");
    let top = world
        .fake
        .create_revision(world.revision("top").parent(&parent.phid));
    world.fake.set_visible(parent.id, false);
    world.build(&top).await;
    world.work().await;
    assert!(world.reports().await.is_empty());
    world.fake.set_visible(parent.id, true);
    world.advance(20);
    world.work().await;
    assert_eq!(only_stack(&world).await, [1, 2]);
}

#[tokio::test]
async fn a_parent_that_stays_private_fails_the_build_and_nothing_is_said_about_it() {
    let (_guard, logs) = capture_logs();
    for hide_by_project in [false, true] {
        let world = World::new().await;
        let parent = world.create("the private parent");
        let top = world
            .fake
            .create_revision(world.revision("top").parent(&parent.phid));
        if hide_by_project {
            world
                .fake
                .set_projects(parent.id, std::slice::from_ref(&world.secure));
        } else {
            world.fake.set_visible(parent.id, false);
        }
        world.build(&top).await;
        world.work().await;
        for wait in [20, 40, 80, 160] {
            assert!(world.reports().await.is_empty());
            world.advance(wait);
            world.work().await;
        }
        let summary = only_failure(&world).await;
        assert_eq!(
            summary,
            "The stack of D2 cannot be loaded: a parent of D2 was deleted or is not public."
        );
        let said = format!("{:?}{}", world.reports().await, logs.text());
        for private in ["private parent", "D1", parent.phid.as_str()] {
            assert!(!said.contains(private), "{private:?} in {said}");
        }
    }
}

#[tokio::test]
async fn a_hundred_patches_are_built_and_a_hundred_and_one_are_not() {
    let world = World::new().await;
    let mut last = world.create("1");
    for number in 2..=101 {
        last = world
            .fake
            .create_revision(world.revision(&number.to_string()).parent(&last.phid));
        if number == 100 {
            world.build(&last).await;
            world.work().await;
            assert_eq!(only_stack(&world).await, (1..=100).collect::<Vec<_>>());
        }
    }
    world.build(&last).await;
    world.work().await;
    let reports = world.reports().await;
    let Some(Report::PatchFailed(failure)) = reports.last() else {
        panic!("{reports:?}")
    };
    assert_eq!(
        failure.summary,
        "The stack of D101 has more than 100 patches that have not landed, or as many links between them."
    );
}

#[tokio::test]
async fn a_stack_whose_edges_the_server_does_not_all_name_is_not_built_in_part() {
    let world = World::new().await;
    // Each of twenty stands on all before it: one order, but 171 edges between the first nineteen.
    let mut all: Vec<CreatedRevision> = Vec::new();
    for number in 0..20 {
        let new = world.revision(&number.to_string());
        all.push(
            world
                .fake
                .create_revision(all.iter().fold(new, |new, below| new.parent(&below.phid))),
        );
    }
    world.build(&all[19]).await;
    world.work().await;
    let summary = only_failure(&world).await;
    assert!(
        summary.starts_with("The stack of D20 has more than 100 patches"),
        "{summary}"
    );
}
