//! Stacks: parents, their order, and their limits.

use super::*;

impl World {
    /// Creates a revision that stands on `parents`.
    fn child(&self, title: &str, parents: &[&CreatedRevision]) -> CreatedRevision {
        let new = parents
            .iter()
            .fold(self.revision(title), |new, parent| new.parent(&parent.phid));
        self.fake.create_revision(new)
    }

    /// Asks for a build of `revision`, and lets the workflow handle it.
    async fn build_and_work(&self, revision: &CreatedRevision) {
        self.build(revision).await;
        self.work().await;
    }
}

#[tokio::test]
async fn longer_path_to_a_parent_decides_the_order() {
    let world = World::new().await;
    let p1 = world.create("p1");
    let p2 = world.child("p2", &[&p1]);
    let p3 = world.child("p3", &[&p2]);
    let top = world.child("top", &[&p1, &p3]);
    world
        .fake
        .update_revision(p2.id, NewDiff::new("newest patch of p2"));
    world.build_and_work(&top).await;
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
async fn diamond_is_applied_from_its_base_by_smaller_number() {
    let world = World::new().await;
    let bottom = world.create("bottom");
    let right = world.child("right", &[&bottom]);
    let left = world.child("left", &[&bottom]);
    // In whatever order Phabricator names the parents.
    for parents in [[&left, &right], [&right, &left]] {
        let top = world.child("top", &parents);
        world.build_and_work(&top).await;
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
    let left = world.child("left", &[&one]);
    let right = world.child("right", &[&other, &private]);
    let top = world.child("top", &[&left, &right]);
    for landed in [&one, &other, &private] {
        world.fake.set_status(landed.id, RevisionStatus::Published);
    }
    world.build_and_work(&top).await;
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
    let middle = world.child("middle", &[&bottom]);
    let top = world.child("top", &[&middle]);
    world.build_and_work(&top).await;
    let updates = world.updates().await;
    let [BuildUpdate::PatchFailed(failure)] = updates.as_slice() else {
        panic!("{updates:?}")
    };
    assert_eq!(
        failure.summary,
        "The stack of D3 cannot be built: D1, on which it stands, is for the repository comm-central."
    );
    assert!(world.builds().await.is_empty());

    // What has landed there is not applied here.
    world.fake.set_status(bottom.id, RevisionStatus::Published);
    let again = world.child("again", &[&middle]);
    world.build_and_work(&again).await;
    let stack: Vec<u64> = world.builds().await[0]
        .stack
        .iter()
        .map(|patch| patch.revision_id)
        .collect();
    assert_eq!(stack, [middle.id, again.id]);
}

#[tokio::test]
async fn landed_parent_is_left_out_with_its_parents_and_an_abandoned_one_is_kept() {
    let world = World::new().await;
    let bottom = world.create("bottom");
    let landed = world.child("landed", &[&bottom]);
    let abandoned = world.child("abandoned", &[&landed]);
    let top = world.child("top", &[&abandoned]);
    world.fake.set_status(landed.id, RevisionStatus::Published);
    world
        .fake
        .set_status(abandoned.id, RevisionStatus::Abandoned);
    world.build_and_work(&top).await;
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
async fn parents_that_do_not_meet_fail_the_build() {
    let world = World::new().await;
    let (left, right) = (world.create("left"), world.create("right"));
    let top = world.child("top", &[&left, &right]);
    world.build_and_work(&top).await;
    let summary = only_failure(&world).await;
    assert_eq!(
        summary,
        "The stack of D3 cannot be ordered: D3 has the parents D1 and D2, which do not stand on a common revision."
    );
}

#[tokio::test]
async fn cycle_of_parents_fails_the_build() {
    let world = World::new().await;
    let bottom = world.create("bottom");
    let middle = world.child("middle", &[&bottom]);
    let top = world.child("top", &[&middle]);
    world.fake.add_parent(&bottom.phid, &top.phid);
    world.build_and_work(&top).await;
    let summary = only_failure(&world).await;
    assert_eq!(
        summary,
        "The stack of D3 cannot be ordered: D1 stands on itself through its parents."
    );
}

#[tokio::test]
async fn build_waits_for_a_parent_that_becomes_public_after_its_child() {
    let world = World::new().await;
    let parent = world.create("published a moment later");
    let top = world.child("top", &[&parent]);
    world.fake.set_visible(parent.id, false);
    world.build_and_work(&top).await;
    assert!(world.updates().await.is_empty());
    world.fake.set_visible(parent.id, true);
    world.advance(20);
    world.work().await;
    assert_eq!(only_stack(&world).await, [1, 2]);
}

#[tokio::test]
async fn private_parent_fails_the_build_and_is_not_named() {
    let (_guard, logs) = capture_logs();
    for hide_by_project in [false, true] {
        let world = World::new().await;
        let parent = world.create("the private parent");
        let top = world.child("top", &[&parent]);
        if hide_by_project {
            world
                .fake
                .set_projects(parent.id, std::slice::from_ref(&world.secure));
        } else {
            world.fake.set_visible(parent.id, false);
        }
        world.build_and_work(&top).await;
        for wait in [20, 40, 80, 160] {
            assert!(world.updates().await.is_empty());
            world.advance(wait);
            world.work().await;
        }
        let summary = only_failure(&world).await;
        assert_eq!(
            summary,
            "The stack of D2 cannot be loaded: a parent of D2 was deleted or is not public."
        );
        let said = format!("{:?}{}", world.updates().await, logs.text());
        for private in ["private parent", "D1", parent.phid.as_str()] {
            assert!(!said.contains(private), "{private:?} in {said}");
        }
    }
}

#[tokio::test]
async fn stack_of_more_than_100_patches_fails_the_build() {
    let world = World::new().await;
    let mut last = world.create("1");
    for number in 2..=101 {
        last = world.child(&number.to_string(), &[&last]);
        if number == 100 {
            world.build_and_work(&last).await;
            assert_eq!(only_stack(&world).await, (1..=100).collect::<Vec<_>>());
        }
    }
    world.build_and_work(&last).await;
    let updates = world.updates().await;
    let Some(BuildUpdate::PatchFailed(failure)) = updates.last() else {
        panic!("{updates:?}")
    };
    assert_eq!(
        failure.summary,
        "The stack of D101 has more than 100 patches that have not landed, or as many links between them."
    );
}

#[tokio::test]
async fn stack_with_more_edges_than_one_search_returns_fails_the_build() {
    let world = World::new().await;
    // Each of twenty stands on all before it: one order, but 171 edges between the first nineteen.
    let mut all: Vec<CreatedRevision> = Vec::new();
    for number in 0..20 {
        let next = world.child(&number.to_string(), &all.iter().collect::<Vec<_>>());
        all.push(next);
    }
    world.build_and_work(&all[19]).await;
    let summary = only_failure(&world).await;
    assert!(
        summary.starts_with("The stack of D20 has more than 100 patches"),
        "{summary}"
    );
}
