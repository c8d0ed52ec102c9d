//! A RabbitMQ, a bus, and a listener between them.

use std::{
    collections::BTreeMap,
    io::Write,
    sync::{Arc, OnceLock},
    time::Duration,
};

use parking_lot::Mutex;

use bus::{Bus, MemoryBus, Message, Policy, Producer, Queue, RedisBus, Reserve, Settlement};
use futures::{StreamExt, stream};
use pulse::{Listener, PulseMessage, PulseSettings, Route, Routing};
use runtime::{Clock, Service, ServiceError, Shutdown, SystemClock};
use tempfile::TempDir;
use testkit::{RabbitServer, RedisServer};
use tokio::task::JoinHandle;

pub const TASKS: Queue<PulseMessage> = Queue::new("tasks", Policy::DEFAULT);
pub const OTHERS: Queue<PulseMessage> = Queue::new("others", Policy::DEFAULT);
/// An exchange of another user.
pub const EXCHANGE: &str = "exchange/taskcluster-queue/v1/task-completed";

/// A RabbitMQ with [`EXCHANGE`].
pub struct World {
    pub rabbit: RabbitServer,
}

impl World {
    /// On a server that can be killed and restarted.
    pub async fn lend() -> Self {
        Self::of(RabbitServer::lend().await.unwrap()).await
    }

    /// On a server that other tests use too.
    pub async fn share() -> Self {
        Self::of(RabbitServer::share().await.unwrap()).await
    }

    pub async fn of(rabbit: RabbitServer) -> Self {
        // Also for a test that only reads logs at its end: it may be the only one of its process.
        keep_logs();
        rabbit.declare_exchange(EXCHANGE).await.unwrap();
        Self { rabbit }
    }

    /// Listens to [`EXCHANGE`] with a queue of this name, for everything.
    pub fn listen(&self, name: &str, bus: &Arc<dyn Bus>) -> Listening {
        listen(
            self.rabbit.settings(),
            name,
            vec![route(EXCHANGE, &["#"], TASKS)],
            bus,
        )
    }

    /// Publishes messages with the bodies `prefix 0`, `prefix 1`, …
    pub async fn publish(&self, prefix: &str, count: usize) {
        let publish = async |number| {
            let message = message(EXCHANGE, "primary.a", &format!("{prefix} {number}"));
            self.rabbit.publish(&message).await.unwrap();
        };
        stream::iter(0..count)
            .map(publish)
            .buffer_unordered(100)
            .collect::<Vec<()>>()
            .await;
    }

    /// Waits until a queue of the user holds `expected` messages that no consumer has.
    pub async fn until_depth(&self, name: &str, expected: u32) {
        let queue = queue_name(name);
        until(
            &format!("{expected} messages to be in {queue}"),
            async || self.rabbit.depth(&queue).await.ok() == Some(Some(expected)),
        )
        .await;
    }
}

/// What [`World::publish`] published.
pub fn bodies(prefix: &str, count: usize) -> Vec<String> {
    let mut bodies: Vec<String> = (0..count)
        .map(|number| format!("{prefix} {number}"))
        .collect();
    bodies.sort();
    bodies
}

pub fn queue_name(name: &str) -> String {
    format!("queue/pulseuser/{name}")
}

pub fn message(exchange: &str, key: &str, body: &str) -> PulseMessage {
    let routing = Routing {
        exchange: exchange.to_owned(),
        key: key.to_owned(),
        other_routes: Vec::new(),
    };
    PulseMessage {
        routing,
        body: body.as_bytes().to_vec().into(),
    }
}

pub fn route(exchange: &str, topics: &[&str], queue: Queue<PulseMessage>) -> Route {
    let topics = topics.iter().map(|topic| topic.parse().unwrap()).collect();
    Route {
        exchange: exchange.to_owned(),
        topics,
        queue,
    }
}

pub fn memory() -> Arc<dyn Bus> {
    Arc::new(MemoryBus::new(Arc::new(SystemClock)))
}

pub async fn redis() -> (Arc<dyn Bus>, RedisServer, TempDir) {
    let directory = TempDir::new().unwrap();
    let server = RedisServer::start(directory.path()).await.unwrap();
    (
        Arc::new(RedisBus::new(&server.options(), &SystemClock).unwrap()),
        server,
        directory,
    )
}

/// A listener that runs.
pub struct Listening {
    name: String,
    /// How often listeners to this queue had begun before, and had begun again.
    before: (usize, usize),
    shutdown: Shutdown,
    running: JoinHandle<Result<(), ServiceError>>,
}

pub fn listen(
    settings: PulseSettings,
    name: &str,
    routes: Vec<Route>,
    bus: &Arc<dyn Bus>,
) -> Listening {
    listen_by(Arc::new(SystemClock), settings, name, routes, bus)
}

pub fn listen_by(
    clock: Arc<dyn Clock>,
    settings: PulseSettings,
    name: &str,
    routes: Vec<Route>,
    bus: &Arc<dyn Bus>,
) -> Listening {
    logs();
    let producer = Producer::new(Arc::clone(bus), clock);
    let listener = Box::new(Listener::new(settings, name, routes, producer).unwrap());
    let (name, before, shutdown) = (name.to_owned(), begun(name), Shutdown::new());
    let running = listener.run(shutdown.clone());
    Listening {
        name,
        before,
        shutdown,
        running: tokio::spawn(running),
    }
}

fn begun(name: &str) -> (usize, usize) {
    let again = counted(name)
        .get("pulse_reconnects_total")
        .copied()
        .unwrap_or_default();
    (
        logged_lines(name, &["INFO", "listening to pulse"]),
        again as usize,
    )
}

impl Listening {
    /// Waits until it listens; from then on it misses nothing.
    pub async fn ready(self) -> Self {
        self.until_ready(1).await;
        self
    }

    /// Waits until it listens for the `times`-th time.
    pub async fn until_ready(&self, times: usize) {
        // When it begins again soon, only the counter says so.
        let (begins, again) = self.before;
        let listens = |now: (usize, usize)| now.0 > begins && now.1 >= again + times - 1;
        until("the listener to listen", async || {
            listens(begun(&self.name))
        })
        .await;
    }

    pub async fn stop(self) {
        self.shutdown.stop();
        self.running.await.unwrap().unwrap();
    }

    /// The error with which it ends by itself.
    pub async fn fault(self) -> String {
        self.running.await.unwrap().unwrap_err().to_string()
    }
}

pub async fn depth(bus: &Arc<dyn Bus>, queue: Queue<PulseMessage>) -> usize {
    bus.depth(&queue.spec())
        .await
        .map_or(0, |depth| depth.unfinished())
}

pub async fn until_stored(bus: &Arc<dyn Bus>, queue: Queue<PulseMessage>, count: usize) {
    until(&format!("{count} messages to be stored"), async || {
        depth(bus, queue).await >= count
    })
    .await;
}

/// Takes all that is in a queue of the bus.
pub async fn take(bus: &Arc<dyn Bus>, queue: Queue<PulseMessage>) -> Vec<PulseMessage> {
    let mut messages = Vec::new();
    loop {
        let taken = bus.reserve(&queue.spec(), Reserve::now(500)).await.unwrap();
        if taken.is_empty() {
            return messages;
        }
        for delivery in taken {
            messages.push(
                PulseMessage::decode(delivery.envelope.version, &delivery.envelope.body).unwrap(),
            );
            bus.settle(&delivery.lease, &Settlement::Done { emit: Vec::new() })
                .await
                .unwrap();
        }
    }
}

/// The bodies of all that is in a queue of the bus, sorted.
pub async fn take_bodies(bus: &Arc<dyn Bus>) -> Vec<String> {
    let taken = take(bus, TASKS).await;
    let mut bodies: Vec<_> = taken
        .iter()
        .map(|message| String::from_utf8_lossy(&message.body).into_owned())
        .collect();
    bodies.sort();
    bodies
}

/// Waits until `condition` holds.
pub async fn until(what: &str, condition: impl AsyncFn() -> bool) {
    for _ in 0..18_000 {
        if condition().await {
            return;
        }
        SystemClock.sleep(Duration::from_millis(10)).await;
    }
    panic!("waited in vain for {what}; logged:\n{}", logged());
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What this process has logged and counted, from the first call on.
fn logs() -> &'static Lines {
    static LINES: OnceLock<Lines> = OnceLock::new();
    LINES.get_or_init(|| {
        observe::metrics::install();
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(move || writer.clone());
        subscriber
            .with_max_level(tracing_subscriber::filter::LevelFilter::INFO)
            .init();
        lines
    })
}

/// Keeps what this process logs and counts from now on.
pub fn keep_logs() {
    logs();
}

pub fn logged() -> String {
    String::from_utf8(logs().0.lock().clone()).unwrap()
}

/// How many lines about this queue hold all of `parts`.
pub fn logged_lines(name: &str, parts: &[&str]) -> usize {
    let (lines, queue) = (logged(), format!("queue=\"{}\"", queue_name(name)));
    lines
        .lines()
        .filter(|line| line.contains(&queue) && parts.iter().all(|part| line.contains(part)))
        .count()
}

/// Waits until one more line about this queue holds all of `parts` than before: `times` in all.
pub async fn until_logged(name: &str, parts: &[&str], times: usize) {
    until(
        &format!("{parts:?} to be logged about {name}"),
        async || logged_lines(name, parts) == times,
    )
    .await;
}

/// The meters of one Pulse queue, by name and labels.
pub fn counted(name: &str) -> BTreeMap<String, f64> {
    let label = format!("queue=\"{}\"", queue_name(name));
    let text = observe::metrics::render();
    let lines = text
        .lines()
        .filter(|line| line.contains(&label))
        .filter_map(|line| line.rsplit_once(' '));
    let plain = |name: &str| name.replace(&label, "").replace(['{', '}', ',', '"'], "");
    lines
        .map(|(name, value)| (plain(name), value.parse().unwrap()))
        .collect()
}

/// A message as the fixtures have it.
pub fn recorded(text: &str) -> PulseMessage {
    let recorded: serde_json::Value = serde_json::from_str(text).unwrap();
    let other_routes =
        serde_json::from_value(recorded["properties"]["headers"]["CC"].clone()).unwrap();
    let word = |name: &str| recorded[name].as_str().unwrap().to_owned();
    let routing = Routing {
        exchange: word("exchange"),
        key: word("routingKey"),
        other_routes,
    };
    PulseMessage {
        routing,
        body: recorded["body"].to_string().into_bytes().into(),
    }
}

/// A connection without anything of this crate.
pub async fn connect(settings: &PulseSettings) -> lapin::Connection {
    use secrecy::ExposeSecret;
    let mut uri: lapin::uri::AMQPUri = settings.address.to_string().parse().unwrap();
    uri.vhost.clone_from(&settings.vhost);
    uri.authority.userinfo.username = settings.user.clone();
    uri.authority.userinfo.password = settings.password.expose_secret().to_owned();
    lapin::Connection::connect_uri(uri, lapin::ConnectionProperties::default())
        .await
        .unwrap()
}
