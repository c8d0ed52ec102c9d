//! A Taskcluster, a bus, and channels that write down what they are to send.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;

use async_trait::async_trait;
use bus::{Backoff, Consumer, Depth, MemoryBus, Message, Policy, Producer, Queue, QueueAdmin};
use http_client::{HttpError, Limits, Response};
use jiff::Timestamp;
use notify::{
    Channel, ChannelError, Channels, Digest, Dispatcher, Identities, Notification, Sender, Status,
    Templates,
};
use pulse::{PulseMessage, Routing};
use runtime::{Clock, ManualClock, Service, Shutdown, SystemClock};
use serde::Deserialize;
use serde_json::{Value, json};
use taskcluster::{Credentials, Taskcluster};
use testkit::taskcluster::FakeTaskcluster;
use tokio::task::JoinHandle;
use url::Url;

pub(crate) use testkit::capture_logs;

pub(crate) const NOW: &str = "2026-11-21T02:48:05.000Z";
pub(crate) const ROOT: &str = "https://taskcluster.example/";

const POLICY: Policy = Policy {
    attempts: 5,
    backoff: Backoff {
        first: Duration::from_secs(2),
        factor: 3,
        cap: Duration::from_secs(600),
    },
    ..Policy::DEFAULT
};
pub(crate) const TASKS: Queue<PulseMessage> = Queue::new("pulse:tasks", POLICY);
pub(crate) const NOTIFICATIONS: Queue<Notification> = Queue::with_partitions(
    "notify",
    Policy {
        concurrency: 128,
        partition_concurrency: 1,
        ..POLICY
    },
    Notification::partition,
);
pub(crate) const DIGESTS: Queue<Digest> = Queue::new("notify:digests", POLICY);

/// How many a minute are sent to one recipient.
pub(crate) const LIMIT: u32 = 3;

/// A clock that is moved by hand, and on which the waits within a call are over at once.
#[derive(Debug)]
pub(crate) struct Hurried(pub(crate) Arc<ManualClock>);

#[async_trait]
impl Clock for Hurried {
    fn now(&self) -> Timestamp {
        self.0.now()
    }

    async fn sleep(&self, _: Duration) {}

    fn random(&self) -> u64 {
        self.0.random()
    }
}

/// Everything that was sent, and what is to go wrong next.
#[derive(Default)]
pub(crate) struct Paper {
    sent: Mutex<Vec<(String, Notification)>>,
    faults: Mutex<VecDeque<ChannelError>>,
    stuck: AtomicBool,
}

impl Paper {
    /// The recipient and the subject of each notification that was sent, in order.
    pub(crate) fn sent(&self) -> Vec<(String, String)> {
        self.sent
            .lock()
            .iter()
            .map(|(to, one)| (to.clone(), one.subject.clone()))
            .collect()
    }

    pub(crate) fn last(&self) -> Notification {
        self.sent.lock().last().unwrap().1.clone()
    }

    /// From now on nothing comes of a sending, not even an error.
    pub(crate) fn get_stuck(&self) {
        self.stuck.store(true, Ordering::SeqCst);
    }

    pub(crate) fn fail_next(&self, error: ChannelError) {
        self.faults.lock().push_back(error);
    }
}

/// A channel that writes on paper: to addresses, or, where machines read it, to one tray.
struct Writer {
    name: &'static str,
    people: bool,
    addresses: bool,
    paper: Arc<Paper>,
}

#[async_trait]
impl Channel for Writer {
    fn name(&self) -> &'static str {
        self.name
    }

    fn recipients(&self, notification: &Notification) -> Vec<String> {
        if self.addresses {
            notification.to.emails.clone()
        } else {
            vec!["tray".to_owned()]
        }
    }

    fn is_read_by_people(&self) -> bool {
        self.people
    }

    async fn send(&self, notification: &Notification, recipient: &str) -> Result<(), ChannelError> {
        if self.paper.stuck.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        if let Some(fault) = self.paper.faults.lock().pop_front() {
            return Err(fault);
        }
        self.paper
            .sent
            .lock()
            .push((recipient.to_owned(), notification.clone()));
        Ok(())
    }
}

pub(crate) struct World {
    pub(crate) fake: FakeTaskcluster,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) bus: Arc<MemoryBus>,
    /// What `post` sends to people, and `robot` to machines.
    pub(crate) post: Arc<Paper>,
    pub(crate) robot: Arc<Paper>,
    /// What `fax` sends to machines that have addresses.
    pub(crate) fax: Arc<Paper>,
    pub(crate) channels: Arc<Channels>,
    dispatcher: Consumer,
    sender: Consumer,
    digests: Consumer,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with_identities("").await
    }

    pub(crate) async fn with_identities(identities: &str) -> Self {
        let papers: [Arc<Paper>; 3] = Default::default();
        let writer = |name, people, addresses, paper: &Arc<Paper>| -> Box<dyn Channel> {
            Box::new(Writer {
                name,
                people,
                addresses,
                paper: paper.clone(),
            })
        };
        let [post, robot, fax] = &papers;
        let channels = Channels::new(vec![
            writer("post", true, true, post),
            writer("robot", false, false, robot),
            writer("fax", false, true, fax),
        ]);
        Self::begin(identities, channels, papers).await
    }

    /// Sends over `channels`, and writes nothing on paper.
    pub(crate) async fn over(channels: Channels) -> Self {
        Self::begin("", channels, Default::default()).await
    }

    async fn begin(
        identities: &str,
        channels: Channels,
        [post, robot, fax]: [Arc<Paper>; 3],
    ) -> Self {
        let clock = Arc::new(ManualClock::new(NOW.parse().unwrap()));
        let fake = FakeTaskcluster::start(clock.clone()).await.unwrap();
        let bus = Arc::new(MemoryBus::new(clock.clone()));
        let channels = Arc::new(channels);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), identities).unwrap();
        let identities = Identities::load(file.path()).unwrap();
        let templates = Arc::new(Templates::ours().unwrap());
        let client = client(&fake, &clock);
        let root: Url = ROOT.parse().unwrap();
        let dispatcher = Dispatcher::new(
            client,
            root,
            channels.clone(),
            identities,
            templates.clone(),
            NOTIFICATIONS,
        );
        let sender = Sender::new(channels.clone(), templates, NOTIFICATIONS, DIGESTS, LIMIT);
        let dispatcher = Consumer::new(bus.clone(), clock.clone(), TASKS, dispatcher);
        let digests = Consumer::new(bus.clone(), clock.clone(), DIGESTS, sender.clone());
        let sender = Consumer::new(bus.clone(), clock.clone(), NOTIFICATIONS, sender);
        Self {
            fake,
            clock,
            bus,
            post,
            robot,
            fax,
            channels,
            dispatcher,
            sender,
            digests,
        }
    }

    /// A task with this `extra`.
    pub(crate) fn task(&self, extra: Value) -> String {
        self.fake
            .add_task(json!({ "metadata": metadata("build-linux64/opt"), "extra": extra }))
    }

    /// Pulse says that something happened to a task, and whatever is ready is done.
    pub(crate) async fn happens(&self, task: &str, status: Status) {
        self.says(&message(task, status, |_| {})).await;
    }

    pub(crate) async fn says(&self, message: &PulseMessage) {
        self.send(&TASKS, message).await;
        self.work().await;
    }

    pub(crate) async fn send<M: Message>(&self, queue: &Queue<M>, message: &M) {
        Producer::new(self.bus.clone(), self.clock.clone())
            .send(queue, message)
            .await
            .unwrap();
    }

    /// A process that sends, until it is aborted.
    pub(crate) fn process(&self) -> JoinHandle<()> {
        let templates = Arc::new(Templates::ours().unwrap());
        let sender = Sender::new(
            self.channels.clone(),
            templates,
            NOTIFICATIONS,
            DIGESTS,
            LIMIT,
        );
        let consumer = Consumer::new(
            self.bus.clone(),
            Arc::new(SystemClock),
            NOTIFICATIONS,
            sender,
        );
        tokio::spawn(async move { Box::new(consumer).run(Shutdown::new()).await.unwrap() })
    }

    /// Only dispatches the messages of Pulse, and sends nothing.
    pub(crate) async fn dispatch(&self) {
        while self.dispatcher.step().await.unwrap() > 0 {}
    }

    /// Does everything that is ready.
    pub(crate) async fn work(&self) {
        loop {
            let dispatched = self.dispatcher.step().await.unwrap();
            let sent = self.sender.step().await.unwrap();
            let told = self.digests.step().await.unwrap();
            if dispatched + sent + told == 0 {
                return;
            }
        }
    }

    pub(crate) async fn pass(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
        self.work().await;
    }

    pub(crate) async fn depth<M: Message>(&self, queue: &Queue<M>) -> Depth {
        self.bus.depth(&queue.spec()).await.unwrap()
    }

    /// What waits in a queue, oldest first.
    pub(crate) async fn peek<M: Message>(&self, queue: &Queue<M>) -> Vec<M> {
        let found = self.bus.peek(&queue.spec(), 1000).await.unwrap();
        found
            .iter()
            .map(|waiting| M::decode(waiting.envelope.version, &waiting.envelope.body).unwrap())
            .collect()
    }

    /// Why messages of a queue became dead letters.
    pub(crate) async fn dead<M: Message>(&self, queue: &Queue<M>) -> Vec<String> {
        self.bus
            .dead(&queue.spec(), "", 100)
            .await
            .unwrap()
            .into_iter()
            .map(|letter| letter.reason)
            .collect()
    }
}

pub(crate) fn client(fake: &FakeTaskcluster, clock: &Arc<ManualClock>) -> Taskcluster {
    Taskcluster::new(
        fake.root().clone(),
        Some(credentials(fake)),
        http(),
        Arc::new(Hurried(clock.clone())),
    )
}

/// Credentials that may do everything.
pub(crate) fn credentials(fake: &FakeTaskcluster) -> Credentials {
    let shown = fake.credentials();
    Credentials {
        client_id: shown.client_id,
        access_token: shown.access_token,
        certificate: shown.certificate,
    }
}

pub(crate) fn http() -> reqwest::Client {
    http_client::client(Duration::from_secs(10)).unwrap()
}

/// Sends a request as it is and reads the whole response.
pub(crate) async fn response_to(request: reqwest::RequestBuilder) -> Result<Response, HttpError> {
    http_client::send(request, Limits::body(usize::MAX)).await
}

/// What people read of a task with this name.
pub(crate) fn metadata(name: &str) -> Value {
    json!({ "name": name, "description": "a test task", "owner": "dev@example.com", "source": "https://example.com" })
}

/// A message as it was recorded.
#[derive(Deserialize)]
struct Recorded {
    exchange: String,
    #[serde(rename = "routingKey")]
    key: String,
    body: Value,
}

/// What Pulse says when `status` happens to `task`, changed by `change`.
pub(crate) fn message(task: &str, status: Status, change: impl FnOnce(&mut Value)) -> PulseMessage {
    let text = match status {
        Status::TaskDefined => include_str!("../fixtures/pulse/task-defined.json"),
        Status::TaskPending => include_str!("../fixtures/pulse/task-pending.json"),
        Status::TaskRunning => include_str!("../fixtures/pulse/task-running.json"),
        Status::ArtifactCreated => include_str!("../fixtures/pulse/artifact-created.json"),
        Status::TaskCompleted => include_str!("../fixtures/pulse/task-completed.json"),
        Status::TaskFailed => include_str!("../fixtures/pulse/task-failed.json"),
        Status::TaskException => include_str!("../fixtures/pulse/task-exception.json"),
    };
    let Recorded {
        exchange,
        key,
        mut body,
    } = serde_json::from_str(text).unwrap();
    body["status"]["taskId"] = task.into();
    body["status"]["taskGroupId"] = task.into();
    change(&mut body);
    let routing = Routing {
        exchange,
        key,
        other_routes: Vec::new(),
    };
    PulseMessage {
        routing,
        body: body.to_string().into_bytes().into(),
    }
}
