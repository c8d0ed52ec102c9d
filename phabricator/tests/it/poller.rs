//! Diffs that are found by looking for them.

mod private;
mod processes;

use std::{collections::BTreeSet, time::Duration};

use build::{NewDiff as Found, Phid};
use bus::{LeaderLease, Policy, Queue};
use futures::{future::BoxFuture, poll};
use phabricator::DiffPoller;
use runtime::{Clock, Service, ServiceError, Shutdown, SystemClock};
use testkit::phabricator::{Call, EVERY_METHOD, Fault, NewDiff, NewRevision, RevisionStatus};

use crate::world::{World, capture_logs, conduit};

const FOUND: Queue<Found> = Queue::new("diffs", Policy::DEFAULT);

/// A process that polls for new diffs. It runs while the test waits for something, and dies when it is dropped.
struct Process<'w> {
    world: &'w World,
    running: BoxFuture<'static, Result<(), ServiceError>>,
}

impl<'w> Process<'w> {
    fn start(world: &'w World) -> Self {
        Self::looking_at(world, &[&world.repository])
    }

    fn looking_at(world: &'w World, repositories: &[&Phid]) -> Self {
        Self::stopped_by(world, repositories, Shutdown::new())
    }

    fn stopped_by(world: &'w World, repositories: &[&Phid], shutdown: Shutdown) -> Self {
        let repositories: BTreeSet<Phid> =
            repositories.iter().map(|phid| (*phid).clone()).collect();
        let (conduit, resolver) = (conduit(&world.fake), world.resolver.clone());
        let poller = DiffPoller::new(
            conduit,
            resolver,
            repositories,
            FOUND,
            world.producer(),
            DiffPoller::INTERVAL,
        );
        Self {
            world,
            running: Box::new(poller).run(shutdown),
        }
    }

    /// Starts one, for the first time, and waits until it has begun.
    async fn begin(world: &'w World) -> Self {
        let mut process = Self::start(world);
        process.look().await;
        process
    }

    /// Lets it go on as far as it can without waiting.
    async fn go_on(&mut self) {
        assert!(poll!(&mut self.running).is_pending());
    }

    /// Lets time pass, a beat at a time, until `condition`.
    async fn until(&mut self, condition: impl Fn(&World) -> bool) {
        while !condition(self.world) {
            self.go_on().await;
            SystemClock.sleep(Duration::from_millis(1)).await;
            self.world.clock.advance(LeaderLease::RENEW_INTERVAL);
        }
    }

    /// Waits until it has polled all that there is now: a poll that began before may have missed some of it.
    async fn look(&mut self) {
        let before = looks(self.world);
        // The third begins when the second has ended.
        self.until(|world| looks(world) >= before + 3).await;
    }

    /// Waits until that many diffs were found, of all processes.
    async fn found(&mut self, count: usize) -> Vec<u64> {
        while found(self.world).await.len() < count {
            self.go_on().await;
            SystemClock.sleep(Duration::from_millis(1)).await;
            self.world.clock.advance(LeaderLease::RENEW_INTERVAL);
        }
        found(self.world).await
    }
}

/// How often somebody came to the last part of a look.
fn looks(world: &World) -> usize {
    let is_last = |call: &Call| {
        call.params
            .get("order")
            .is_some_and(|order| order == "updated")
            && call.params["limit"] == 100
            && !call.params.contains_key("after")
    };
    world
        .fake
        .calls()
        .iter()
        .filter(|call| is_last(call))
        .count()
}

/// The numbers of the diffs that were sent, in this order.
async fn found(world: &World) -> Vec<u64> {
    world
        .peek(&FOUND)
        .await
        .iter()
        .map(|diff| diff.id)
        .collect()
}

fn patch() -> NewDiff {
    NewDiff::new("patch")
}

#[tokio::test]
async fn diffs_from_before_the_first_start_are_not_sent() {
    let world = World::new().await;
    let old = world.create("old");
    let mut process = Process::begin(&world).await;
    world.fake.set_status(old.id, RevisionStatus::Accepted);
    let new = world.create("new");
    process.look().await;
    assert_eq!(found(&world).await, [new.diff.id]);
}

#[tokio::test]
async fn first_diff_of_an_empty_phabricator_is_sent() {
    let world = World::new().await;
    let mut process = Process::begin(&world).await;
    let first = world.create("first");
    process.look().await;
    assert_eq!(found(&world).await, [first.diff.id]);
}

#[tokio::test]
async fn each_new_diff_is_sent_once_with_its_names() {
    let world = World::new().await;
    let mut process = Process::begin(&world).await;
    let revision = world.create("one");
    process.look().await;
    let second = world.fake.update_revision(revision.id, patch());
    let third = world.fake.update_revision(revision.id, patch());
    process.look().await;
    let of = |id, phid: &Phid| Found {
        id,
        phid: phid.clone(),
        revision: revision.phid.clone(),
        repository: world.repository.clone(),
    };
    let expected = [
        of(revision.diff.id, &revision.diff.phid),
        of(second.id, &second.phid),
        of(third.id, &third.phid),
    ];
    assert_eq!(world.peek(&FOUND).await, expected);
}

#[tokio::test]
async fn old_diff_is_not_sent_again_after_a_comment() {
    let world = World::new().await;
    let mut process = Process::begin(&world).await;
    let revision = world.create("one");
    process.look().await;
    world.clock.advance(Duration::from_secs(100 * 24 * 3600));
    world.fake.set_status(revision.id, RevisionStatus::Accepted);
    process.look().await;
    assert_eq!(found(&world).await, [revision.diff.id]);
}

#[tokio::test]
async fn many_new_diffs_are_loaded_in_pages() {
    let world = World::new().await;
    let old = world.create("old");
    let mut process = Process::begin(&world).await;
    for number in 0..250 {
        world.create(&format!("new {number}"));
    }
    process.look().await;
    let expected: Vec<u64> = (1..=250).map(|number| old.diff.id + number).collect();
    assert_eq!(found(&world).await, expected);
    let calls = world.fake.calls();
    let pages = calls.iter().filter(|call| {
        call.params
            .get("order")
            .is_some_and(|order| order == "oldest")
    });
    let mut after: Vec<&str> = pages
        .map(|call| call.params["after"].as_str().unwrap())
        .collect();
    after.dedup();
    assert_eq!(after, ["1", "101", "201", "251"]);
}

#[tokio::test]
async fn diffs_of_other_repositories_are_not_sent_even_when_those_are_enabled_later() {
    let world = World::new().await;
    let other = world.fake.add_repository("comm-central");
    let mut process = Process::begin(&world).await;
    let elsewhere =
        world
            .fake
            .create_revision(NewRevision::new("elsewhere", &world.alice, &other, patch()));
    let here = world.create("here");
    process.look().await;
    assert_eq!(found(&world).await, [here.diff.id]);
    drop(process);

    let mut process = Process::looking_at(&world, &[&world.repository, &other]);
    world
        .fake
        .set_status(elsewhere.id, RevisionStatus::Accepted);
    process.look().await;
    let newer = world.fake.update_revision(elsewhere.id, patch());
    process.look().await;
    assert_eq!(found(&world).await, [here.diff.id, newer.id]);
}

#[tokio::test]
async fn object_of_another_type_is_skipped() {
    let world = World::new().await;
    let mut process = Process::begin(&world).await;
    world
        .fake
        .create_revision(world.revision_with("odd", patch().shown_as("CHGS")));
    let diff = world.create("a diff");
    let odd = world
        .fake
        .create_revision(world.revision_with("odd and last", patch().shown_as("CHGS")));
    process.look().await;
    assert_eq!(found(&world).await, [diff.diff.id]);
    let next = world.create("after it");
    assert!(next.diff.id > odd.diff.id);
    process.look().await;
    assert_eq!(found(&world).await, [diff.diff.id, next.diff.id]);
}

#[tokio::test]
async fn search_continues_when_the_diff_at_the_cursor_becomes_private() {
    let world = World::new().await;
    let mut process = Process::begin(&world).await;
    let last = world.create("soon private");
    process.look().await;
    world.fake.set_visible(last.id, false);
    process.look().await;
    for number in 0..120 {
        world.create(&format!("new {number}"));
    }
    process.look().await;
    let expected: Vec<u64> = (0..=120).map(|number| last.diff.id + number).collect();
    assert_eq!(found(&world).await, expected);
}

#[tokio::test]
async fn outage_is_logged_once_and_skips_no_diff() {
    let faults = [
        Fault::Status(503),
        Fault::Cut,
        Fault::Refuse("ERR-INVALID-AUTH"),
        Fault::Refuse("ERR-CONDUIT-CORE"),
    ];
    for fault in faults {
        let (_guard, logs) = capture_logs();
        let world = World::new().await;
        let mut process = Process::begin(&world).await;
        world.fake.fail_until_mended(EVERY_METHOD, &fault);
        let mut expected = Vec::new();
        for _ in 0..3 {
            expected.push(world.create("during the outage").diff.id);
            let before = world.fake.calls().len();
            // More than the tries of one call.
            process
                .until(|world| world.fake.calls().len() > before + 4)
                .await;
        }
        world.fake.mend();
        process.look().await;
        assert_eq!(found(&world).await, expected);
        let text = logs.text();
        let counts = ["cannot poll for new diffs", "can poll for new diffs again"]
            .map(|line| text.matches(line).count());
        assert_eq!(counts, [1, 1], "{fault:?}: {text}");
    }
}

#[tokio::test]
async fn outage_during_a_poll_skips_no_diff() {
    for method in ["differential.diff.search", "differential.revision.search"] {
        let world = World::new().await;
        let mut process = Process::begin(&world).await;
        let private = world.create("private");
        world.fake.set_visible(private.id, false);
        process.look().await;
        world
            .fake
            .fail_until_mended(method, &Fault::Refuse("ERR-CONDUIT-CORE"));
        let public = world.create("public");
        world.fake.set_visible(private.id, true);
        let before = world.fake.calls().len();
        process
            .until(|world| world.fake.calls().len() > before + 4)
            .await;
        world.fake.mend();
        process.look().await;
        let mut sent = found(&world).await;
        sent.sort_unstable();
        assert_eq!(sent, [private.diff.id, public.diff.id], "{method}");
    }
}
