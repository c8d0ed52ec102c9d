//! Tasks of hooks are watched until they end, and reported.

use std::{sync::Arc, time::Duration};

use bus::{Backoff, Consumer, Depth, MemoryBus, Policy, Producer, Queue, QueueAdmin, RecordStore};
use jiff::Timestamp;
use runtime::{Clock, ManualClock, Service, Shutdown};
use serde_json::{Map, Value, json};
use taskcluster::{Email, Taskcluster};
use testkit::taskcluster::{EVERY_CALL, FakeTaskcluster, Fault, TaskState};
use triggers::{HookName, HookTask, Mailer, Report, ReportScope, Reporter, TaskWatcher};

use crate::stage::{Hurried, NOW, client_credentials, credentials, http};

const POLICY: Policy = Policy {
    attempts: 3,
    backoff: Backoff {
        first: Duration::from_secs(1),
        factor: 2,
        cap: Duration::from_secs(60),
    },
    ..Policy::DEFAULT
};
const HOOK_TASKS: Queue<HookTask> = Queue::new("hook-tasks", POLICY);
const MAILS: Queue<Email> = Queue::new("mails", POLICY);
const TASKS: RecordStore = RecordStore {
    name: "tasks",
    retention: Duration::from_secs(30 * 24 * 3600),
};
const PERIOD: Duration = Duration::from_secs(7 * 3600);

struct World {
    fake: FakeTaskcluster,
    clock: Arc<ManualClock>,
    bus: Arc<MemoryBus>,
    watcher: Consumer,
    mailer: Consumer,
}

impl World {
    async fn new() -> Self {
        let clock = Arc::new(ManualClock::new(NOW.parse().unwrap()));
        let fake = FakeTaskcluster::start(clock.clone()).await.unwrap();
        let hurried = Arc::new(Hurried(clock.clone()));
        let client = Taskcluster::new(
            fake.root().clone(),
            Some(credentials(&fake)),
            http(),
            hurried,
        );
        let bus = Arc::new(MemoryBus::new(clock.clone()));
        let watcher = TaskWatcher::new(client.clone(), HOOK_TASKS, TASKS);
        let watcher = Consumer::new(bus.clone(), clock.clone(), HOOK_TASKS, watcher);
        let mailer = Consumer::new(bus.clone(), clock.clone(), MAILS, Mailer::new(client));
        Self {
            fake,
            clock,
            bus,
            watcher,
            mailer,
        }
    }

    fn producer(&self) -> Producer {
        Producer::new(self.bus.clone(), self.clock.clone())
    }

    fn reporter(&self) -> Reporter {
        let scope = ReportScope {
            name: "Firefox".to_owned(),
            root: self.fake.root().clone(),
        };
        let addresses = vec!["ann@example.com".to_owned(), "bob@example.com".to_owned()];
        Reporter::new(scope, TASKS, MAILS, addresses, self.producer(), PERIOD)
    }

    /// Creates a task of the hook `id`, and sends it to the watcher.
    async fn watch(&self, id: &str) -> String {
        let fields = json!({
            "metadata": { "name": id, "description": "A task", "owner": "ann@example.com", "source": "https://x.example" },
            "retries": 2,
        });
        let task_id = self.fake.add_task(fields);
        self.watch_task(id, &task_id).await;
        task_id
    }

    async fn watch_task(&self, id: &str, task_id: &str) {
        let hook = HookName::new("project-releng", id);
        let triggered_at = self.clock.now();
        let watched = HookTask {
            task_id: task_id.to_owned(),
            hook,
            triggered_at,
            retried: 0,
        };
        self.producer().send(&HOOK_TASKS, &watched).await.unwrap();
    }

    /// Polls all tasks that are due; returns their number.
    async fn poll(&self) -> usize {
        let mut polled = 0;
        loop {
            match self.watcher.step().await.unwrap() {
                0 => {
                    self.watched().await;
                    return polled;
                }
                some => polled += some,
            }
        }
    }

    async fn pass(&self, seconds: u64) -> usize {
        self.clock.advance(Duration::from_secs(seconds));
        self.poll().await
    }

    async fn watched(&self) -> Depth {
        let dead = self.bus.dead(&HOOK_TASKS.spec(), "", 10).await.unwrap();
        assert_eq!(dead, [], "no message becomes a dead letter");
        self.bus.depth(&HOOK_TASKS.spec()).await.unwrap()
    }

    /// Asserts that there are `tasks` tasks, that the report has all of them as exceptions, `retried` of them with a
    /// successor, and that none is watched.
    async fn assert_exceptions(&self, tasks: usize, retried: usize) {
        assert_eq!(
            (self.fake.task_ids().len(), self.watched().await),
            (tasks, Depth::default())
        );
        let text = self.report().await.text;
        assert!(
            text.contains(&format!("* exception: 100.0 % ({tasks} of {tasks})"))
                && text.matches(", retried as").count() == retried,
            "{text}"
        );
    }

    async fn mail(&self) {
        while self.mailer.step().await.unwrap() > 0 {}
    }

    async fn report(&self) -> Report {
        self.reporter().preview().await.unwrap()
    }
}

#[tokio::test]
async fn task_is_polled_until_it_ends() {
    let world = World::new().await;
    let task = world.watch("bot").await;
    assert_eq!(world.poll().await, 1);
    let mut polls = 0;
    for _ in 0..(8 * 60) {
        polls += world.pass(60).await;
    }
    assert!((15..40).contains(&polls), "{polls} polls in eight hours");
    world.fake.move_on(&task, TaskState::Completed);
    world.pass(1800).await;
    assert_eq!(
        (world.watched().await, world.report().await.tasks()),
        (Depth::default(), 1)
    );
}

#[tokio::test]
async fn lost_task_is_recreated_until_retries_are_used_up() {
    let world = World::new().await;
    let first = world.watch("bot").await;
    for retries in [1, 0] {
        let before = world.fake.task_ids();
        world
            .fake
            .move_on(before.last().unwrap(), TaskState::Exception);
        world.pass(1800).await;
        let made = world.fake.task_ids();
        assert_eq!(made.len(), before.len() + 1);
        let [old, new] =
            [before.last(), made.last()].map(|id| world.fake.task(id.unwrap()).unwrap());
        assert_eq!(new["retries"], retries);
        assert_eq!(new["payload"], old["payload"]);
        assert_eq!(new["taskGroupId"], first.as_str());
        let time = |task: &Map<String, Value>, key: &str| -> Timestamp {
            task[key].as_str().unwrap().parse().unwrap()
        };
        for key in ["deadline", "expires"] {
            assert_eq!(
                time(&new, key).duration_since(time(&new, "created")),
                time(&old, key).duration_since(time(&old, "created")),
                "{key} moves with the task"
            );
        }
        assert!(time(&new, "created") > time(&old, "created"));
    }
    let last = world.fake.task_ids().pop().unwrap();
    world.fake.move_on(&last, TaskState::Exception);
    world.pass(1800).await;
    world.assert_exceptions(3, 2).await;
}

#[tokio::test]
async fn worker_death_during_recreation_creates_one_task() {
    let world = World::new().await;
    let task = world.watch("bot").await;
    world.fake.move_on(&task, TaskState::Exception);
    // The responses of all tries of the attempt are lost.
    world
        .fake
        .fail_next("queue.createTask", 4, &Fault::CutAfter);
    world.poll().await;
    assert_eq!(world.watched().await.delayed, 1, "the creation is retried");
    world.pass(60).await;
    assert_eq!(world.fake.task_ids().len(), 2);
    assert_eq!(
        (
            world.watched().await.unfinished(),
            world.watched().await.dead
        ),
        (1, 0),
        "its successor is watched"
    );
}

#[tokio::test]
async fn cancelled_task_is_not_recreated() {
    let world = World::new().await;
    let task = world.watch("bot").await;
    world.fake.cancel(&task);
    world.poll().await;
    world.assert_exceptions(1, 0).await;
}

#[tokio::test]
async fn expired_task_is_no_longer_polled() {
    let world = World::new().await;
    let task = world.watch("bot").await;
    world.fake.forget(&task);
    world.poll().await;
    assert_eq!(world.watched().await, Depth::default());
    assert!(world.report().await.text.contains("expired: 100.0 %"));
}

#[tokio::test]
async fn outage_of_hours_counts_no_attempt() {
    let world = World::new().await;
    let task = world.watch("bot").await;
    for fault in [
        Fault::Status(503),
        Fault::TooManyRequests { retry_after: None },
        Fault::Cut,
    ] {
        world.fake.fail_until_mended(EVERY_CALL, &fault);
        for _ in 0..60 {
            world.pass(120).await;
        }
        world.fake.mend();
    }
    world.fake.move_on(&task, TaskState::Completed);
    world.pass(1800).await;
    assert_eq!(
        (world.watched().await, world.report().await.tasks()),
        (Depth::default(), 1)
    );
}

#[tokio::test]
async fn each_task_is_in_one_report_to_every_admin() {
    let world = World::new().await;
    let (good, bad) = (world.watch("bot").await, world.watch("bot").await);
    world.fake.move_on(&good, TaskState::Completed);
    world.fake.move_on(&bad, TaskState::Failed);
    world.poll().await;
    assert_eq!(world.reporter().send().await.unwrap().tasks(), 2);
    world.mail().await;
    let mails = world.fake.mails();
    let mut to: Vec<_> = mails.iter().map(|mail| mail.address.as_str()).collect();
    to.sort_unstable();
    assert_eq!(to, ["ann@example.com", "bob@example.com"]);
    let link = format!("[{bad}]({}tasks/{bad})", world.fake.root());
    for mail in &mails {
        assert!(
            mail.content.contains(&link) && !mail.content.contains(&format!("[{good}]")),
            "{}",
            mail.content
        );
        assert_eq!(mail.template, "fullscreen");
    }
    assert_eq!(world.reporter().send().await.unwrap().tasks(), 0);
    world.mail().await;
    assert_eq!(world.fake.mails().len(), 2, "an empty report is not mailed");
}

/// A trigger that is repeated days later sends its task again.
#[tokio::test]
async fn reported_task_is_in_no_second_report() {
    let world = World::new().await;
    let (failed, lost) = (world.watch("bot").await, world.watch("bot").await);
    world.fake.move_on(&failed, TaskState::Failed);
    world.fake.move_on(&lost, TaskState::Exception);
    world.poll().await;
    assert_eq!(world.reporter().send().await.unwrap().tasks(), 2);
    let before = (world.watched().await, world.fake.calls().len());
    for task in [&failed, &lost] {
        world.watch_task("bot", task).await;
    }
    assert_eq!(world.poll().await, 2);
    assert_eq!(
        (world.watched().await, world.fake.calls().len()),
        before,
        "no call is made, and nothing more is watched"
    );
    assert_eq!(world.report().await.tasks(), 0);
}

#[tokio::test]
async fn task_without_scope_to_recreate_is_reported_without_successor() {
    let world = World::new().await;
    let task = world.watch("bot").await;
    world.fake.move_on(&task, TaskState::Exception);
    let scopes = world
        .fake
        .temporary_credentials(&["queue:status:*", "queue:get-task:*"]);
    let scopes = client_credentials(scopes);
    let hurried = Arc::new(Hurried(world.clock.clone()));
    let client = Taskcluster::new(world.fake.root().clone(), Some(scopes), http(), hurried);
    let watcher = TaskWatcher::new(client, HOOK_TASKS, TASKS);
    Consumer::new(world.bus.clone(), world.clock.clone(), HOOK_TASKS, watcher)
        .step()
        .await
        .unwrap();
    world.assert_exceptions(1, 0).await;
}

#[tokio::test]
async fn unrecreatable_task_becomes_dead_letter_naming_it() {
    let world = World::new().await;
    let task = world.watch("bot").await;
    world.fake.move_on(&task, TaskState::Exception);
    world
        .fake
        .fail_until_mended("queue.task", &Fault::Status(404));
    for _ in 0..3 {
        world.clock.advance(Duration::from_secs(60));
        world.watcher.step().await.unwrap();
    }
    let dead = world.bus.dead(&HOOK_TASKS.spec(), "", 10).await.unwrap();
    assert!(
        dead[0].reason.starts_with(&format!(
            "cannot watch task {task} of hook project-releng/bot: "
        )),
        "{dead:?}"
    );
}

#[tokio::test]
async fn concurrent_reporters_send_one_report() {
    let world = World::new().await;
    let bad = world.watch("bot").await;
    world.fake.move_on(&bad, TaskState::Failed);
    world.poll().await;
    let (first, second) = (world.reporter(), world.reporter());
    let (first, second) = futures::join!(first.send(), second.send());
    assert!(first.is_ok() && second.is_ok());
    world.mail().await;
    assert_eq!(world.fake.mails().len(), 2);
}

#[tokio::test]
async fn report_omits_hooks_whose_tasks_all_completed() {
    let world = World::new().await;
    let task = world.watch("bot").await;
    world.fake.move_on(&task, TaskState::Completed);
    world.poll().await;
    world.reporter().send().await.unwrap();
    world.mail().await;
    assert!(world.fake.mails().is_empty());
    assert_eq!(
        world.report().await.tasks(),
        0,
        "the result is marked as reported"
    );
}

/// The original made its report and never sent it.
#[tokio::test]
async fn one_of_two_instances_mails_report_each_period() {
    let world = World::new().await;
    let bad = world.watch("bot").await;
    world.fake.move_on(&bad, TaskState::Failed);
    world.poll().await;
    let shutdowns = [Shutdown::new(), Shutdown::new()];
    let run = |shutdown: &Shutdown| {
        let (reporter, shutdown) = (Box::new(world.reporter()), shutdown.clone());
        tokio::spawn(async move { reporter.run(shutdown).await.unwrap() })
    };
    let running = [run(&shutdowns[0]), run(&shutdowns[1])];
    let begun = world.clock.now();
    while world.bus.depth(&MAILS.spec()).await.unwrap().ready < 2 {
        world.clock.advance(Duration::from_secs(1));
        tokio::task::yield_now().await;
        assert!(
            world.clock.now().duration_since(begun).unsigned_abs() < 2 * PERIOD,
            "no report in two periods"
        );
    }
    shutdowns.iter().for_each(Shutdown::stop);
    for process in running {
        process.await.unwrap();
    }
    world.mail().await;
    let mails = world.fake.mails();
    assert_eq!(mails.len(), 2);
    assert!(mails[0].content.contains(&bad));
}

#[tokio::test]
async fn denied_address_does_not_block_other_recipients() {
    let world = World::new().await;
    world.fake.denylist("ann@example.com");
    let bad = world.watch("bot").await;
    world.fake.move_on(&bad, TaskState::Failed);
    world.poll().await;
    world.reporter().send().await.unwrap();
    world.mail().await;
    let depth = world.bus.depth(&MAILS.spec()).await.unwrap();
    assert_eq!((world.fake.mails().len(), depth), (1, Depth::default()));
}
