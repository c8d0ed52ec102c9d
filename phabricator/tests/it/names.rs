//! Configured names: looked up at the start, and again every hour.

use std::{pin::Pin, time::Duration};

use build::{BuildUpdate, Phid};
use futures::poll;
use phabricator::{ConfiguredNames, NameResolver};
use runtime::{Clock, Service, ServiceError, Shutdown, SystemClock};
use testkit::phabricator::{Fault, NewDiff, NewRevision};

use crate::world::{Logs, World, capture_logs, conduit, fake};

/// A refresher that runs as long as the test waits for its effects.
struct RunningRefresher<'w> {
    world: &'w World,
    logs: Logs,
    running: Pin<Box<dyn Future<Output = Result<(), ServiceError>> + 'w>>,
}

impl<'w> RunningRefresher<'w> {
    fn start(world: &'w World, logs: Logs) -> Self {
        let refresher = Box::new(
            world
                .resolver
                .refresher(conduit(&world.fake), world.clock.clone()),
        );
        Self {
            world,
            logs,
            running: Box::pin(refresher.run(Shutdown::new())),
        }
    }

    /// The number of refreshes: each one searches for the project last.
    fn refreshes(&self) -> usize {
        self.world
            .fake
            .calls()
            .iter()
            .filter(|call| call.method == "project.search")
            .count()
    }

    async fn until(&mut self, condition: impl Fn(&Self) -> bool) {
        while !condition(self) {
            assert!(poll!(&mut self.running).is_pending());
            SystemClock.sleep(Duration::from_millis(1)).await;
        }
    }

    /// Lets the first hour pass, and waits for a log line. The refresh follows the hour, and does not come before.
    async fn first_hour(&mut self, logged: &str) {
        assert!(poll!(&mut self.running).is_pending());
        let before = self.refreshes();
        self.world.advance(3599);
        assert!(poll!(&mut self.running).is_pending());
        assert_eq!(self.refreshes(), before);
        self.world.advance(1);
        self.until(|refresher| refresher.logs.text().contains(logged))
            .await;
    }

    /// Lets time pass until the next refresh has begun, and so the one before has ended.
    async fn next_refresh(&mut self) {
        let before = self.refreshes();
        self.until(|refresher| {
            refresher.world.advance(60);
            refresher.refreshes() > before
        })
        .await;
    }
}

/// The outcome of a build of a revision by `author`.
async fn report_on(world: &World, author: &Phid, title: &str) -> BuildUpdate {
    let new = NewRevision::new(title, author, &world.repository, NewDiff::new("patch"));
    world.build(&world.fake.create_revision(new)).await;
    world.work().await;
    world.updates().await.pop().unwrap()
}

#[tokio::test]
async fn unknown_names_are_reported_all_at_once() {
    let fake = fake().await;
    fake.add_user("alice", "Alice Example");
    fake.add_project("hidden");
    let names = ConfiguredNames {
        skipped_authors: ["bob", "Alice", "carol"].map(str::to_owned).to_vec(),
        secure_projects: ["secure-revision", "hidden"].map(str::to_owned).to_vec(),
    };
    let resolver = NameResolver::load(&conduit(&fake), names).await.unwrap();
    assert_eq!(
        resolver.unknown(),
        ["user bob", "user carol", "project secure-revision"]
    );
}

#[tokio::test]
async fn new_user_with_a_skipped_name_is_skipped_within_the_hour() {
    let (_guard, logs) = capture_logs();
    let world = World::skipping("alice").await;
    let mut refresher = RunningRefresher::start(&world, logs);
    world.fake.rename_user(&world.alice, "alice-the-first");
    let second = world.fake.add_user("alice", "Alice Second");
    assert_eq!(
        report_on(&world, &second, "too early").await,
        BuildUpdate::Working
    );

    refresher
        .first_hour(&format!("resolved user alice to {second}"))
        .await;

    assert!(matches!(
        report_on(&world, &second, "skipped").await,
        BuildUpdate::Skipped(_)
    ));
    assert_eq!(
        report_on(&world, &world.alice, "not skipped any more").await,
        BuildUpdate::Working
    );
}

#[tokio::test]
async fn renamed_user_stays_skipped_and_that_is_logged_once() {
    let (_guard, logs) = capture_logs();
    let world = World::skipping("alice").await;
    let mut refresher = RunningRefresher::start(&world, logs.clone());
    world.fake.rename_user(&world.alice, "robert");

    refresher
        .first_hour("does not know user alice any more")
        .await;
    refresher.next_refresh().await;
    refresher.next_refresh().await;
    assert!(matches!(
        report_on(&world, &world.alice, "by robert").await,
        BuildUpdate::Skipped(_)
    ));
    assert_eq!(
        logs.text().matches("any more").count(),
        1,
        "{}",
        logs.text()
    );
}

#[tokio::test]
async fn revision_stays_private_when_our_user_does_not_see_its_project_any_more() {
    let (_guard, logs) = capture_logs();
    let world = World::new().await;
    let mut refresher = RunningRefresher::start(&world, logs.clone());
    world.fake.remove_project(&world.secure);

    refresher
        .first_hour("does not know project secure-revision any more")
        .await;

    let revision = world
        .fake
        .create_revision(world.revision("private").project(&world.secure));
    world.build(&revision).await;
    world.work().await;
    assert!(world.updates().await.is_empty());
    assert_eq!(world.requests().await.delayed, 1, "it is checked again");
}

#[tokio::test]
async fn new_project_with_the_slug_of_a_secure_one_hides_its_revisions_within_the_hour() {
    let (_guard, logs) = capture_logs();
    let world = World::new().await;
    let mut refresher = RunningRefresher::start(&world, logs);
    world.fake.remove_project(&world.secure);
    let new = world.fake.add_project("secure-revision");

    refresher
        .first_hour(&format!("resolved project secure-revision to {new}"))
        .await;

    let revision = world
        .fake
        .create_revision(world.revision("private").project(&new));
    world.build(&revision).await;
    world.work().await;
    assert!(world.updates().await.is_empty());
}

#[tokio::test]
async fn names_are_kept_while_phabricator_is_down_and_that_is_logged_once() {
    let (_guard, logs) = capture_logs();
    let world = World::skipping("alice").await;
    let mut refresher = RunningRefresher::start(&world, logs.clone());
    world
        .fake
        .fail_next("project.search", 2, &Fault::Refuse("ERR-CONDUIT-CORE"));

    refresher
        .first_hour("cannot refresh the configured names")
        .await;
    assert!(matches!(
        report_on(&world, &world.alice, "skipped").await,
        BuildUpdate::Skipped(_)
    ));
    refresher.next_refresh().await;
    refresher.next_refresh().await;
    refresher
        .until(|refresher| {
            refresher
                .logs
                .text()
                .contains("refreshed the configured names from phabricator again")
        })
        .await;
    assert_eq!(
        logs.text().matches("cannot refresh").count(),
        1,
        "{}",
        logs.text()
    );
}
