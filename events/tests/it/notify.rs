//! What happens to tasks reaches people: the program on a real RabbitMQ and a real Redis.

mod settings;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;

use axum::{Router, body::Bytes, extract::State, http::HeaderMap};
use bus::{QueueAdmin, RedisBus, RedisOptions};
use events::queues::{NOTIFY, PULSE_NOTIFY};
use nix::sys::signal::Signal;
use notify::Status;
use pulse::{PulseMessage, PulseSettings, Routing};
use runtime::{Clock, SystemClock};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::{RabbitServer, RedisServer, taskcluster::FakeTaskcluster, taskcluster::TaskState};
use tokio::{net::TcpListener, process::Command};

use crate::world::{Process, pulse_url, until};

/// How long anything may take before the test gives up on it.
const PATIENCE: Duration = Duration::from_secs(180);

/// Whoever wants to know of tasks.
#[derive(Default)]
struct Receiver {
    got: Mutex<Vec<(String, Value)>>,
    silent: AtomicBool,
}

impl Receiver {
    async fn start() -> (Arc<Self>, String) {
        let receiver = Arc::new(Self::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let routes = Router::new()
            .fallback(receive)
            .with_state(Arc::clone(&receiver));
        tokio::spawn(async move { axum::serve(listener, routes).await });
        (receiver, url)
    }

    /// What was sent, by what it is.
    fn deliveries(&self) -> Vec<String> {
        self.got
            .lock()
            .iter()
            .map(|(delivery, _)| delivery.clone())
            .collect()
    }
}

async fn receive(State(receiver): State<Arc<Receiver>>, headers: HeaderMap, body: Bytes) {
    let delivery = headers["x-events-delivery"].to_str().unwrap().to_owned();
    receiver
        .got
        .lock()
        .push((delivery, serde_json::from_slice(&body).unwrap()));
    if receiver.silent.load(Ordering::SeqCst) {
        std::future::pending::<()>().await;
    }
}

struct World {
    directory: TempDir,
    taskcluster: FakeTaskcluster,
    rabbit: RabbitServer,
    redis: RedisServer,
    receiver: Arc<Receiver>,
}

impl World {
    async fn new() -> Self {
        let rabbit = RabbitServer::share().await.unwrap();
        let directory = tempfile::tempdir().unwrap();
        for status in Status::ALL {
            rabbit.declare_exchange(&status.exchange()).await.unwrap();
        }
        let place = directory.path().join("redis");
        std::fs::create_dir(&place).unwrap();
        let redis = RedisServer::start(place).await.unwrap();
        let taskcluster = FakeTaskcluster::start(Arc::new(SystemClock)).await.unwrap();
        let (receiver, url) = Receiver::start().await;
        let world = Self {
            directory,
            taskcluster,
            rabbit,
            redis,
            receiver,
        };
        let settings = world.rabbit.settings();
        let config = format!(
            "events:\n  pulse_url: \"{}\"\n  pulse_user: {}\n  pulse_password: \"{}\"\n  notify:\n    \
             services: [webhook]\n    webhook: {{url: \"{url}\", secret: \"0123456789abcdef\"}}\n",
            pulse_url(&settings),
            settings.user,
            settings.password.expose_secret()
        );
        std::fs::write(world.config(), config).unwrap();
        world
    }

    fn config(&self) -> String {
        self.directory
            .path()
            .join("config.yml")
            .to_str()
            .unwrap()
            .to_owned()
    }

    /// A task whose failure is to be notified with this.
    fn task(&self, section: &Value) -> String {
        let metadata = json!({ "name": "build", "description": "x", "owner": "a@example.com", "source": "https://example.com" });
        let task = self
            .taskcluster
            .add_task(json!({ "metadata": metadata, "extra": { "notification": { "task-failed": section } } }));
        self.taskcluster.move_on(&task, TaskState::Failed);
        task
    }

    async fn fails(&self, task: &str) {
        let body = json!({
            "status": {
                "taskId": task, "taskGroupId": task, "schedulerId": "-", "state": "failed", "runs": [],
                "deadline": "2026-11-22T00:00:00.000Z", "expires": "2026-11-23T00:00:00.000Z",
            },
            "runId": 0,
            "version": 1,
        });
        let key = format!("primary.{task}.0.w.w.p.t.s.{task}._");
        let routing = Routing {
            exchange: Status::TaskFailed.exchange(),
            key,
            other_routes: Vec::new(),
        };
        let message = PulseMessage {
            routing,
            body: body.to_string().into_bytes().into(),
        };
        self.rabbit.publish(&message).await.unwrap();
    }

    fn environment(&self) -> Vec<(String, String)> {
        vec![
            (
                "TASKCLUSTER_ROOT_URL".to_owned(),
                self.taskcluster.root().to_string(),
            ),
            ("REDIS_URL".to_owned(), self.redis.url()),
        ]
    }

    fn start(&self, environment: &[(&str, &str)]) -> Process {
        let own = self.environment();
        let own = own
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()));
        let environment: Vec<_> = own.chain(environment.iter().copied()).collect();
        Process::start(
            &["notify", "--config", &self.config(), "--grace", "1"],
            &environment,
        )
    }

    /// Runs the command to its end: whether it went well, what it printed, and what it complained of.
    async fn notify(&self, arguments: &[&str]) -> (bool, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_events"));
        command
            .arg("notify")
            .args(arguments)
            .args(["--config", &self.config()])
            .env_clear();
        let output = command.envs(self.environment()).output().await.unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (
            output.status.success(),
            text(output.stdout),
            text(output.stderr),
        )
    }

    fn bus(&self) -> RedisBus {
        let options = RedisOptions {
            url: self.redis.url().into(),
            namespace: "events".to_owned(),
            ca: None,
            waiters: 1,
        };
        RedisBus::new(&options, &SystemClock).unwrap()
    }

    /// Waits until nothing of it waits anywhere.
    async fn at_rest(&self, process: &Process) {
        let (bus, begun) = (self.bus(), SystemClock.now());
        loop {
            let mut under_way = 0;
            for queue in [PULSE_NOTIFY.spec(), NOTIFY.spec()] {
                let depth = bus.depth(&queue).await.unwrap();
                assert_eq!(
                    depth.dead,
                    0,
                    "a dead letter in {}:\n{}",
                    queue.name,
                    process.log()
                );
                under_way += depth.unfinished();
            }
            if under_way == 0
                && self
                    .rabbit
                    .depth("queue/pulseuser/notify-development")
                    .await
                    .unwrap()
                    == Some(0)
            {
                return;
            }
            let waited = SystemClock.now().duration_since(begun).unsigned_abs();
            assert!(
                waited < PATIENCE,
                "it does not come to rest:\n{}",
                process.log()
            );
            SystemClock.sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test]
async fn each_task_is_sent_once_although_the_notifier_is_killed_while_it_sends() {
    let world = World::new().await;
    let section = json!({ "plugins": ["webhook"], "subject": "it failed" });
    let tasks: Vec<_> = (0..20).map(|_| world.task(&section)).collect();
    let mut notifier = world.start(&[]);
    notifier.until_logged("listening to pulse").await;
    for task in &tasks[..10] {
        world.fails(task).await;
    }
    world.at_rest(&notifier).await;
    until("the first of them to be told of", &notifier, || {
        world.receiver.deliveries().len() >= 10
    })
    .await;

    // It dies before it hears that these were taken.
    world.receiver.silent.store(true, Ordering::SeqCst);
    for task in &tasks[10..] {
        world.fails(task).await;
    }
    until("others to be told of", &notifier, || {
        world.receiver.deliveries().len() > 10
    })
    .await;
    notifier.signal(Signal::SIGKILL);
    notifier.ended().await;
    world.receiver.silent.store(false, Ordering::SeqCst);
    let mut notifier = world.start(&[]);
    notifier.until_logged("listening to pulse").await;
    for task in &tasks {
        world.fails(task).await;
    }
    world.at_rest(&notifier).await;

    let mut deliveries: BTreeMap<String, usize> = BTreeMap::new();
    world
        .receiver
        .deliveries()
        .into_iter()
        .for_each(|delivery| *deliveries.entry(delivery).or_default() += 1);
    let times = |task: &String| {
        deliveries
            .get(&format!("{task}/0/task-failed/webhook"))
            .copied()
            .unwrap_or(0)
    };
    assert!(
        tasks[..10].iter().all(|task| times(task) == 1),
        "what the receiver acknowledged is not sent again: {deliveries:?}"
    );
    assert!(
        tasks[10..]
            .iter()
            .all(|task| (1..=2).contains(&times(task))),
        "the rest is: {deliveries:?}"
    );
    // Those that were on their way when it died: as many as one channel sends at once.
    let repeated = tasks.iter().filter(|task| times(task) == 2).count();
    assert!((1..=4).contains(&repeated), "{deliveries:?}");
    assert_eq!(deliveries.len(), tasks.len(), "{deliveries:?}");
    assert!(
        world
            .receiver
            .got
            .lock()
            .iter()
            .all(|(_, body)| body["subject"] == "it failed")
    );
    notifier.stop().await;
}

#[tokio::test]
async fn replay_previews_and_repeats_the_notifications_of_one_task() {
    let world = World::new().await;
    let task =
        world.task(&json!({ "plugins": ["webhook"], "subject": "<b>", "message": "m\u{1b}[2J" }));
    let arguments = ["replay", &task, "task-failed"];
    let (well, out, _) = world
        .notify(&[&arguments[..], &["--dry-run"]].concat())
        .await;
    assert!(
        well && out.contains("webhook: task")
            && out.contains("subject: <b>")
            && !out.contains('\u{1b}'),
        "{out}"
    );
    assert_eq!(world.receiver.deliveries(), Vec::<String>::new());
    for count in 1..=2 {
        let (well, out, err) = world.notify(&arguments).await;
        assert!(well && out == "webhook to 127.0.0.1: sent\n", "{out}{err}");
        assert_eq!(world.receiver.deliveries().len(), count);
    }
    for (arguments, expected) in [
        (&["replay", task.as_str()][..], "<STATUS>"),
        (
            &["replay", &task, "failed"],
            "expected one of task-defined, task-pending",
        ),
        (
            &["replay", "bGmvC3EFTSWLcp5Kb5E12A", "task-failed"],
            "bGmvC3EFTSWLcp5Kb5E12A",
        ),
        (
            &["--dry-run", "muted"],
            "--dry-run cannot be used before an action",
        ),
    ] {
        let (well, _, err) = world.notify(arguments).await;
        assert!(!well && err.contains(expected), "{arguments:?}: {err}");
    }
    let malformed = world.task(&json!({ "plugins": ["webhook"], "emails": "a@b.c" }));
    for more in [&[][..], &["--dry-run"], &["--dry-run", "--json"]] {
        let arguments = [&["replay", &malformed, "task-failed"], more].concat();
        let (well, out, err) = world.notify(&arguments).await;
        assert!(!well && !out.contains("has no section"), "{out}");
        let fault = "invalid notification section at extra.notification.task-failed";
        assert!(err.contains(fault), "{err}");
    }
    let unknown = world.task(&json!({ "plugins": ["webhook", "elsewhere"], "ids": ["nobody"] }));
    for more in [&[][..], &["--dry-run"]] {
        let arguments = [&["replay", &unknown, "task-failed"], more].concat();
        let (well, out, err) = world.notify(&arguments).await;
        assert!(!well && out.contains("webhook"), "{out}{err}");
        assert!(
            err.contains("ignoring identity nobody: it is not in the identities file")
                && err.ends_with(&format!(
                    "1 recipient of task {unknown} was ignored; see above\n"
                )),
            "{err}"
        );
    }
    let elsewhere = world.task(&json!({ "plugins": ["webhook", "elsewhere"] }));
    let (well, out, err) = world.notify(&["replay", &elsewhere, "task-failed"]).await;
    assert!(
        well && out.contains("sent") && err.contains("ignoring channel elsewhere"),
        "{out}{err}"
    );
    let (well, out, _) = world.notify(&["replay", &task, "task-running"]).await;
    assert!(well && out.contains("nothing would be sent"), "{out}");
    let (well, out, _) = world.notify(&["muted"]).await;
    assert!(well && out == "no recipient is muted\n", "{out}");
}

#[tokio::test]
async fn dry_run_previews_messages_of_pulse_and_leaves_them_to_others() {
    let world = World::new().await;
    let task = world.task(&json!({ "plugins": ["webhook"], "subject": "it failed" }));
    let mut notifier = world.start(&[]);
    notifier.until_logged("listening to pulse").await;
    let mut command = Command::new(env!("CARGO_BIN_EXE_events"));
    command
        .args(["notify", "--dry-run", "--json", "--config", &world.config()])
        .env_clear()
        .kill_on_drop(true);
    let mut looking = command
        .envs(world.environment())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(
        looking.stdout.take().unwrap(),
    ));
    // What is published before the queue is bound is not shown.
    let line = loop {
        world.fails(&task).await;
        match tokio::time::timeout(Duration::from_millis(100), lines.next_line()).await {
            Ok(line) => break line.unwrap().unwrap(),
            Err(_) => continue,
        }
    };
    let shown: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(
        (&shown["task"], &shown["recipients"]),
        (&json!(task), &json!(["127.0.0.1"]))
    );
    world.at_rest(&notifier).await;
    until("the webhook", &notifier, || {
        world.receiver.deliveries().len() == 1
    })
    .await;
    notifier.stop().await;
}
