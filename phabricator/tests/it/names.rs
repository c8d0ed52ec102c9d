//! Configured names: looked up at the start, and again every hour.

use std::{pin::Pin, time::Duration};

use build::{Phid, Report};
use futures::poll;
use phabricator::{Directory, DirectoryNames};
use runtime::{Clock, Service, ServiceError, Shutdown, SystemClock};
use testkit::phabricator::{Fault, NewDiff, NewRevision};

use crate::world::{Logs, World, capture_logs, conduit, fake};

/// A directory's keeper that runs as long as the test waits for what it does.
struct Keeper<'w> {
    world: &'w World,
    logs: Logs,
    running: Pin<Box<dyn Future<Output = Result<(), ServiceError>> + 'w>>,
}

impl<'w> Keeper<'w> {
    fn start(world: &'w World, logs: Logs) -> Self {
        let keeper = Box::new(
            world
                .directory
                .keeper(conduit(&world.fake), world.clock.clone()),
        );
        Self {
            world,
            logs,
            running: Box::pin(keeper.run(Shutdown::new())),
        }
    }

    /// How often it has looked the names up: it asks for the project last.
    fn looks(&self) -> usize {
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

    /// Lets the first hour pass, and waits until this was logged. Names are looked up when it is over, and not before.
    async fn first_hour(&mut self, logged: &str) {
        assert!(poll!(&mut self.running).is_pending());
        let before = self.looks();
        self.world.advance(3599);
        assert!(poll!(&mut self.running).is_pending());
        assert_eq!(self.looks(), before);
        self.world.advance(1);
        self.until(|keeper| keeper.logs.text().contains(logged))
            .await;
    }

    /// Lets time pass until the names are looked up once more, the looks before that having ended.
    async fn look_again(&mut self) {
        let before = self.looks();
        self.until(|keeper| {
            keeper.world.advance(60);
            keeper.looks() > before
        })
        .await;
    }
}

/// The outcome of a build of a revision by `author`.
async fn report_on(world: &World, author: &Phid, title: &str) -> Report {
    let new = NewRevision::new(title, author, &world.repository, NewDiff::new("patch"));
    world.build(&world.fake.create_revision(new)).await;
    world.work().await;
    world.reports().await.pop().unwrap()
}

#[tokio::test]
async fn names_that_mean_nothing_are_told_all_at_once() {
    let fake = fake().await;
    fake.add_user("alice", "Alice Example");
    fake.add_project("hidden");
    let names = DirectoryNames {
        skipped_authors: ["bob", "Alice", "carol"].map(str::to_owned).to_vec(),
        secure_projects: ["secure-revision", "hidden"].map(str::to_owned).to_vec(),
    };
    let directory = Directory::load(&conduit(&fake), names).await.unwrap();
    assert_eq!(
        directory.unknown(),
        ["user bob", "user carol", "project secure-revision"]
    );
}

#[tokio::test]
async fn a_user_who_takes_over_a_name_is_skipped_within_the_hour() {
    let (_guard, logs) = capture_logs();
    let world = World::skipping("alice").await;
    let mut keeper = Keeper::start(&world, logs);
    world.fake.rename_user(&world.alice, "alice-the-first");
    let second = world.fake.add_user("alice", "Alice Second");
    assert_eq!(
        report_on(&world, &second, "too early").await,
        Report::Working
    );

    keeper
        .first_hour(&format!("user alice is now {second}"))
        .await;

    assert!(matches!(
        report_on(&world, &second, "skipped").await,
        Report::Neutral(_)
    ));
    assert_eq!(
        report_on(&world, &world.alice, "not skipped any more").await,
        Report::Working
    );
}

#[tokio::test]
async fn a_user_who_was_renamed_stays_skipped_and_that_is_logged_once() {
    let (_guard, logs) = capture_logs();
    let world = World::skipping("alice").await;
    let mut keeper = Keeper::start(&world, logs.clone());
    world.fake.rename_user(&world.alice, "robert");

    keeper.first_hour("does not know user alice any more").await;
    keeper.look_again().await;
    keeper.look_again().await;
    assert!(matches!(
        report_on(&world, &world.alice, "by robert").await,
        Report::Neutral(_)
    ));
    assert_eq!(
        logs.text().matches("any more").count(),
        1,
        "{}",
        logs.text()
    );
}

#[tokio::test]
async fn a_revision_stays_private_when_our_user_loses_sight_of_its_project() {
    let (_guard, logs) = capture_logs();
    let world = World::new().await;
    let mut keeper = Keeper::start(&world, logs.clone());
    world.fake.remove_project(&world.secure);

    keeper
        .first_hour("does not know project secure-revision any more")
        .await;

    let revision = world
        .fake
        .create_revision(world.revision("private").project(&world.secure));
    world.build(&revision).await;
    world.work().await;
    assert!(world.reports().await.is_empty());
    assert_eq!(world.requests().await.delayed, 1, "it is looked at again");
}

#[tokio::test]
async fn a_secure_project_that_takes_over_the_slug_hides_its_revisions_within_the_hour() {
    let (_guard, logs) = capture_logs();
    let world = World::new().await;
    let mut keeper = Keeper::start(&world, logs);
    world.fake.remove_project(&world.secure);
    let new = world.fake.add_project("secure-revision");

    keeper
        .first_hour(&format!("project secure-revision is now {new}"))
        .await;

    let revision = world
        .fake
        .create_revision(world.revision("private").project(&new));
    world.build(&revision).await;
    world.work().await;
    assert!(world.reports().await.is_empty());
}

#[tokio::test]
async fn names_stay_as_they_were_while_phabricator_does_not_tell_and_that_is_logged_once() {
    let (_guard, logs) = capture_logs();
    let world = World::skipping("alice").await;
    let mut keeper = Keeper::start(&world, logs.clone());
    world
        .fake
        .fail_next("project.search", 2, &Fault::Refuse("ERR-CONDUIT-CORE"));

    keeper
        .first_hour("does not tell what the configured names are")
        .await;
    assert!(matches!(
        report_on(&world, &world.alice, "skipped").await,
        Report::Neutral(_)
    ));
    keeper.look_again().await;
    keeper.look_again().await;
    keeper
        .until(|keeper| {
            keeper
                .logs
                .text()
                .contains("phabricator tells what the configured names are again")
        })
        .await;
    assert_eq!(
        logs.text().matches("does not tell").count(),
        1,
        "{}",
        logs.text()
    );
}
