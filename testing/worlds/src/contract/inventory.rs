//! What operators see of the clones, and have done with them.

use std::{fs, os::unix::fs::symlink, sync::Arc, time::Duration};

use runtime::{Clock, SystemClock};
use worker::{
    CloneReport, CloneState, Inventory, MaintenanceResult, Outcome, Progress, Requests, Settings,
    Task, WorkerError, maintain,
};

use crate::{Repository, Side, World, change, copy_directory, living_in_group, until};

impl<S: Side> World<S> {
    fn inventory(&self) -> Inventory {
        Inventory::new(&self.settings)
    }

    /// Directories with their states.
    fn states(&self) -> Vec<(String, CloneState)> {
        states(&self.inventory().list().unwrap())
    }

    fn tip(&self) -> String {
        self.source.newest()[..12].to_owned()
    }

    fn new_changeset(&self, line: &str) {
        // The source's working copy is its newest changeset.
        self.source.put("news.txt", line.as_bytes());
        self.source.commit_all(line);
    }

    fn submit(&self, task: Task) -> String {
        Requests::new(&self.settings.clones_dir, "central")
            .submit(task, &SystemClock.new_id().to_string())
            .unwrap()
    }

    fn progress(&self, id: &str) -> Progress {
        Requests::new(&self.settings.clones_dir, "central")
            .progress(id)
            .unwrap()
    }

    /// Waits until a request has its answer.
    async fn answer(&self, id: &str) -> Outcome {
        for _ in 0..18_000 {
            if let Progress::Done(outcome) = self.progress(id) {
                return outcome;
            }
            self.clock.advance(Duration::from_secs(1));
            SystemClock.sleep(Duration::from_millis(10)).await;
        }
        panic!("no answer");
    }

    /// A whole clone of the source under this name, as a worker would have made it.
    async fn plant(&self, name: &str) {
        let mut settings = self.settings.clone();
        settings.clones_dir = self.path("planted");
        settings.repositories[0].clone_slots = 1;
        self.maintain_with(settings, Task::Pull).await.unwrap();
        fs::create_dir_all(&self.settings.clones_dir).unwrap();
        let clone = self.clone_called(name);
        copy_directory(&self.path("planted/central"), clone.path());
    }

    async fn maintain(&self, task: Task) -> Result<Outcome, WorkerError> {
        self.maintain_with(self.settings.clone(), task).await
    }

    async fn maintain_with(&self, settings: Settings, task: Task) -> Result<Outcome, WorkerError> {
        let backend = self.side.backend();
        let clock = Arc::new(SystemClock);
        maintain(settings, |_: &_| backend.clone(), "central", task, clock).await
    }

    fn maintained(&self, clone: &str, new_changesets: Option<u64>) -> MaintenanceResult {
        MaintenanceResult {
            clone: clone.to_owned(),
            tip: self.tip(),
            new_changesets,
        }
    }
}

fn states(reports: &[CloneReport]) -> Vec<(String, CloneState)> {
    reports
        .iter()
        .map(|report| (report.directory.clone(), report.state))
        .collect()
}

fn named(states: &[(&str, CloneState)]) -> Vec<(String, CloneState)> {
    states
        .iter()
        .map(|(name, state)| ((*name).to_owned(), *state))
        .collect()
}

pub async fn clone_is_listed_with_its_state_its_size_its_tip_and_its_last_pull<S: Side>() {
    let mut world = World::<S>::new();
    assert_eq!(world.states(), named(&[("central", CloneState::Missing)]));
    assert!(!world.settings.clones_dir.exists(), "looking makes nothing");
    world.start_ready().await;
    assert_eq!(world.states(), named(&[("central", CloneState::InUse)]));
    world.stop().await;
    let report = world.inventory().list().unwrap().remove(0);
    assert_eq!(
        (report.state, report.in_use, report.slot),
        (CloneState::Ready, false, 1)
    );
    assert_eq!(report.tip, Some(world.tip()));
    let du = std::process::Command::new("du")
        .args(["-s", "-B1"])
        .arg(world.own_clone().path())
        .output()
        .unwrap()
        .stdout;
    let du = String::from_utf8(du).unwrap();
    assert_eq!(
        report.bytes.to_string(),
        du.split_whitespace().next().unwrap()
    );
    let marked = fs::metadata(world.own_clone().path().join("source-tip"))
        .unwrap()
        .modified()
        .unwrap();
    assert_eq!(
        report.last_pull.map(std::time::SystemTime::from),
        Some(marked)
    );
}

pub async fn every_kind_of_directory_has_its_state_and_what_is_not_ours_is_not_listed<S: Side>() {
    let mut world = World::<S>::new();
    world.repository().clone_slots = 2;
    let clones = world.settings.clones_dir.clone();
    world.plant("central").await;
    world.plant("central@2").await;
    fs::remove_file(clones.join("central@2/source-tip")).unwrap();
    world.plant("central@3").await;
    world.plant("old").await;
    world.plant("mine").await;
    fs::remove_file(clones.join("mine/source-tip")).unwrap();
    for ours in [
        ".central.cloning",
        ".central.quarantined",
        ".old.removing",
        ".ssh",
    ] {
        fs::create_dir(clones.join(ours)).unwrap();
    }
    for other in ["notes", "with\nnewline", "-x", "old@1"] {
        fs::create_dir(clones.join(other)).unwrap();
    }
    fs::write(clones.join("file"), "x").unwrap();
    symlink("/", clones.join("root")).unwrap();
    symlink(clones.join("old"), clones.join("link")).unwrap();
    symlink("/", clones.join(".link.quarantined")).unwrap();
    let expected = [
        ("central", CloneState::Ready),
        (".central.cloning", CloneState::Interrupted),
        (".central.quarantined", CloneState::Quarantined),
        ("central@2", CloneState::Damaged),
        ("central@3", CloneState::NotConfigured),
        ("old", CloneState::NotConfigured),
        (".old.removing", CloneState::Interrupted),
    ];
    assert_eq!(world.states(), named(&expected));

    let inventory = world.inventory();
    let removable = inventory.removable().unwrap();
    assert_eq!(removable.len(), 5);
    for report in &removable {
        assert!(inventory.remove(report).unwrap(), "{report:?}");
        assert!(!inventory.remove(report).unwrap(), "it is gone: {report:?}");
    }
    assert_eq!(
        world.states(),
        named(&[
            ("central", CloneState::Ready),
            ("central@2", CloneState::Damaged)
        ])
    );
    for other in [
        "notes",
        "with\nnewline",
        "-x",
        "old@1",
        "file",
        "root",
        "link",
        ".link.quarantined",
        "mine",
        ".ssh",
    ] {
        assert!(fs::symlink_metadata(clones.join(other)).is_ok(), "{other}");
    }
}

pub async fn clone_in_use_is_not_removed<S: Side>() {
    let mut world = World::<S>::new();
    world.start_ready().await;
    let removable_before = world.inventory();
    // Another configuration, while the worker still runs with the old one.
    let mut other = world.settings.clone();
    other.repositories[0].name = "renamed".to_owned();
    let inventory = Inventory::new(&other);
    let report = inventory.not_configured().unwrap().remove(0);
    assert_eq!(
        (report.directory.as_str(), report.in_use),
        ("central", true)
    );
    assert!(inventory.removable().unwrap().is_empty());
    assert!(!inventory.remove(&report).unwrap());
    world.stop().await;
    assert!(
        !removable_before.remove(&report).unwrap(),
        "it is configured there"
    );
    assert!(inventory.remove(&report).unwrap());
    assert!(!world.own_clone().path().exists());
}

pub async fn clone_that_is_elsewhere_is_named_and_not_followed<S: Side>() {
    let world = World::<S>::new();
    fs::create_dir(&world.settings.clones_dir).unwrap();
    symlink("/", world.own_clone().path()).unwrap();
    let report = world.inventory().list().unwrap().remove(0);
    assert_eq!((report.state, report.bytes), (CloneState::Unreadable, 0));
    let fault = report.fault.unwrap();
    assert!(
        fault.contains("clones/central is a symbolic link"),
        "{fault}"
    );
    assert!(world.inventory().removable().unwrap().is_empty());
}

pub async fn without_a_worker_the_clones_are_made_pulled_and_cloned_again<S: Side>() {
    let mut world = World::<S>::new();
    world.repository().clone_slots = 2;
    let outcome = world.maintain(Task::Pull).await.unwrap();
    let both = |new| {
        vec![
            world.maintained("central", new),
            world.maintained("central@2", new),
        ]
    };
    assert_eq!(
        outcome,
        Outcome {
            done: both(Some(0)),
            error: None
        }
    );
    world.new_changeset("one");
    let outcome = world.maintain(Task::Pull).await.unwrap();
    let both = |new| {
        vec![
            world.maintained("central", new),
            world.maintained("central@2", new),
        ]
    };
    assert_eq!(
        outcome,
        Outcome {
            done: both(Some(1)),
            error: None
        }
    );
    let first = world.own_clone();
    fs::write(first.path().join("old"), "").unwrap();
    world.new_changeset("two");
    let outcome = world.maintain(Task::Reclone).await.unwrap();
    let both = |new| {
        vec![
            world.maintained("central", new),
            world.maintained("central@2", new),
        ]
    };
    assert_eq!(
        outcome,
        Outcome {
            done: both(None),
            error: None
        }
    );
    assert!(!first.path().join("old").exists());
    assert_eq!(
        world.states(),
        named(&[
            ("central", CloneState::Ready),
            ("central@2", CloneState::Ready)
        ])
    );
}

pub async fn missing_source_is_reported_and_the_old_clone_stays<S: Side>() {
    let world = World::<S>::new();
    world.maintain(Task::Pull).await.unwrap();
    let away = world.path("away");
    fs::rename(world.source.path(), &away).unwrap();
    for task in [Task::Pull, Task::Reclone] {
        let outcome = world.maintain(task).await.unwrap();
        assert!(outcome.done.is_empty());
        let error = outcome.error.unwrap();
        assert!(error.contains("central"), "{error}");
    }
    fs::rename(&away, world.source.path()).unwrap();
    assert_eq!(world.states(), named(&[("central", CloneState::Ready)]));
}

pub async fn worker_pulls_and_clones_again_when_it_is_asked<S: Side>() {
    let mut world = World::<S>::new();
    world.repository().clone_slots = 2;
    world.start_ready().await;
    assert!(matches!(
        world.maintain(Task::Pull).await,
        Err(WorkerError::InUse { .. })
    ));
    world.new_changeset("one");
    let outcome = world.answer(&world.submit(Task::Pull)).await;
    let both = |new| {
        vec![
            world.maintained("central", new),
            world.maintained("central@2", new),
        ]
    };
    assert_eq!(
        (outcome.error, outcome.done[0].clone()),
        (None, both(Some(1))[0].clone())
    );
    fs::write(world.own_clone().path().join("old"), "").unwrap();
    world.new_changeset("two");
    let outcome = world.answer(&world.submit(Task::Reclone)).await;
    let both = |new| {
        vec![
            world.maintained("central", new),
            world.maintained("central@2", new),
        ]
    };
    assert_eq!(
        outcome,
        Outcome {
            done: both(None),
            error: None
        }
    );
    assert!(!world.own_clone().path().join("old").exists());
    let build = world.build_of(vec![world.patch(1, change("line 5", "line five"))]);
    assert_eq!(world.pushed(&build).await.base.used, world.source.newest());
    world.stop().await;
}

pub async fn builds_go_on_while_a_repository_is_cloned_again_and_what_a_dead_worker_left_is_done_by_the_next<
    S: Side,
>() {
    let mut world = World::<S>::new();
    world.start_ready().await;
    world.pushed(&world.simple_build(1)).await;
    world.stop().await;
    let note = world.path("hanging");
    world.side.hang_transfers(&world.source, &note);
    world.start_ready().await;
    let id = world.submit(Task::Reclone);
    for _ in 0..18_000 {
        if note.exists() {
            break;
        }
        world.clock.advance(Duration::from_secs(1));
        SystemClock.sleep(Duration::from_millis(10)).await;
    }
    assert!(note.exists(), "the new clone is begun");
    world.pushed(&world.simple_build(2)).await;
    assert_eq!(world.progress(&id), Progress::Pending);
    world.stop().await;
    assert_eq!(living_in_group(&note), Vec::<String>::new());
    assert_eq!(
        world.progress(&id),
        Progress::Pending,
        "the request outlives the worker"
    );
    world.side.let_transfers_end(&world.source);
    let old = world.own_clone().path().join("old");
    fs::write(&old, "").unwrap();
    world.start();
    let outcome = world.answer(&id).await;
    assert_eq!(
        outcome,
        Outcome {
            done: vec![world.maintained("central", None)],
            error: None
        }
    );
    assert!(!old.exists());
    world.pushed(&world.simple_build(3)).await;
    world.stop().await;
    assert_eq!(world.states(), named(&[("central", CloneState::Ready)]));
}

pub async fn beyond_the_budget_what_nobody_needs_goes_and_no_further_slot_is_made<S: Side>() {
    let mut world = World::<S>::new();
    world.has_clone = false;
    world.repository().clone_slots = 2;
    world.plant("central").await;
    world.plant("old").await;
    let size = world.inventory().list().unwrap()[0].bytes;
    // Room for one and a half: the old one has to go, and still there is no room for the second slot.
    world.settings.disk_budget = Some(size * 3 / 2);
    world.start();
    until("the old clone to go", || {
        !world.settings.clones_dir.join("old").exists()
    })
    .await;
    world.pushed(&world.simple_build(1)).await;
    world.pushed(&world.simple_build(2)).await;
    world.stop().await;
    assert_eq!(
        world.states(),
        named(&[
            ("central", CloneState::Ready),
            ("central@2", CloneState::Missing)
        ])
    );

    world.plant("old").await;
    world.settings.disk_budget = Some(size * 3);
    world.start();
    let second = world.settings.clones_dir.join("central@2/source-tip");
    until("the second slot", || second.exists()).await;
    world.stop().await;
}

pub async fn first_clone_is_made_whatever_the_budget_is<S: Side>() {
    let mut world = World::<S>::new();
    world.has_clone = false;
    world.settings.disk_budget = Some(1);
    world.plant("old").await;
    world.start_ready().await;
    world.pushed(&world.simple_build(1)).await;
    assert!(!world.settings.clones_dir.join("old").exists());
    world.stop().await;
}
