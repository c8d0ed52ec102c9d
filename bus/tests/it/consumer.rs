//! The consumer: how a delivery ends when its handler succeeds, fails, panics, dies, or has to stop.

mod dead_letters;
mod running;

use std::{collections::HashMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use bus::{
    Backoff, Bus, BusError, Cause, Consumer, Context, Handler, Outcome, Policy, Queue, RecordStore,
    Requeue, Retry, Retryable,
};
use parking_lot::Mutex;
use runtime::{Service, Shutdown};
use tokio::{sync::Semaphore, task::JoinHandle};

use crate::{
    on_both,
    world::{Note, OUT, POLICY, World, note},
};

on_both!(
    outputs_arrive_when_the_handler_succeeds,
    deduplicated_outputs_arrive_once_within_the_window,
    error_decides_between_retry_defer_and_dead_letter,
    panic_is_an_attempt_and_the_dead_letter_handler_sends,
    record_updates_are_kept_however_the_delivery_ends,
);

const QUICK: Policy = Policy {
    backoff: Backoff {
        first: Duration::from_millis(20),
        factor: 1,
        cap: Duration::from_millis(20),
    },
    concurrency: 4,
    ..POLICY
};

const WORK: Queue<Note> = Queue::new("work", QUICK);

#[derive(Debug, thiserror::Error)]
#[error("error {text}")]
struct ScriptedError {
    text: String,
}

impl Retryable for ScriptedError {
    fn retry(&self) -> Retry {
        match self.text.as_str() {
            "defer" => Retry::Defer(Duration::from_millis(20)),
            "dead" => Retry::Never,
            "after" => Retry::After(Duration::from_millis(30)),
            _ => Retry::Backoff,
        }
    }
}

/// Ends as its message says, and counts how often it ran.
#[derive(Default, Clone)]
struct ScriptedHandler {
    seen: Arc<Mutex<HashMap<String, u32>>>,
    /// What "hold…" messages wait for.
    gate: Arc<Gate>,
    events: Arc<Mutex<Vec<String>>>,
}

struct Gate(Semaphore);

impl Default for Gate {
    fn default() -> Self {
        Self(Semaphore::new(0))
    }
}

impl ScriptedHandler {
    fn seen(&self, text: &str) -> u32 {
        self.seen.lock().get(text).copied().unwrap_or(0)
    }

    fn event(&self, text: &str) {
        self.events.lock().push(text.to_owned());
    }

    fn events(&self) -> Vec<String> {
        self.events.lock().clone()
    }

    fn open(&self) {
        self.gate.0.add_permits(1000);
    }
}

#[async_trait]
impl Handler<Note> for ScriptedHandler {
    type Error = ScriptedError;

    async fn handle(&self, message: Note, cx: &Context) -> Result<Outcome, ScriptedError> {
        *self.seen.lock().entry(message.text.clone()).or_default() += 1;
        let error = || ScriptedError {
            text: message.text.clone(),
        };
        cx.send(&OUT, &note(&format!("{} {}", message.text, cx.attempt())))
            .map_err(|_| error())?;
        match message.text.as_str() {
            "panic" => panic!("on request"),
            "once" if cx.attempt() > 1 => Ok(Outcome::Done),
            "ok" => Ok(Outcome::Done),
            "later" => Ok(Outcome::defer(
                Duration::from_millis(20),
                "its time has not come",
            )),
            "speechless" => {
                return Err(ScriptedError {
                    text: "dead".to_owned(),
                });
            }
            "wind down" => {
                cx.cancelled().await;
                self.event("children reaped");
                Err(error())
            }
            text if text.starts_with("hold") || text.starts_with('h') => {
                self.gate.0.acquire().await.map_err(|_| error())?.forget();
                Ok(Outcome::Done)
            }
            text if text.starts_with("quick") => Ok(Outcome::Done),
            _ => Err(error()),
        }
    }

    async fn on_dead_letter(
        &self,
        message: Note,
        cause: Cause<'_, ScriptedError>,
        cx: &Context,
    ) -> Result<(), ScriptedError> {
        if message.text == "speechless" && self.seen("speechless") < 3 {
            return Err(ScriptedError {
                text: "nothing".to_owned(),
            });
        }
        cx.send(&OUT, &note(&format!("gave up {}: {cause}", message.text)))
            .map_err(|_| ScriptedError {
                text: message.text.clone(),
            })
    }

    async fn close(&self) {
        self.event("closed");
    }
}

impl World {
    fn consumer(&self, queue: Queue<Note>, handler: &ScriptedHandler) -> Consumer {
        Consumer::new(self.bus.clone(), self.clock.clone(), queue, handler.clone())
    }

    fn run(
        &self,
        queue: Queue<Note>,
        handler: &ScriptedHandler,
        shutdown: &Shutdown,
    ) -> JoinHandle<()> {
        let consumer = Box::new(self.consumer(queue, handler));
        let shutdown = shutdown.clone();
        tokio::spawn(async move { consumer.run(shutdown).await.unwrap() })
    }
}

async fn outputs_arrive_when_the_handler_succeeds(world: World) {
    let handler = ScriptedHandler::default();
    world.send(&WORK, "ok").await;
    assert_eq!(world.consumer(WORK, &handler).step().await.unwrap(), 1);
    assert_eq!(world.texts(&OUT).await, ["ok 1"]);
    assert_eq!(world.depth(&WORK).await, (0, 0, 0, 0));
}

/// Sends its message on, once for each text.
struct Once;

const KEYED: Queue<Note> = Queue::new(
    "keyed",
    Policy {
        dedup_window: Duration::from_millis(400),
        ..POLICY
    },
);

#[async_trait]
impl Handler<Note> for Once {
    type Error = BusError;

    async fn handle(&self, message: Note, cx: &Context) -> Result<Outcome, BusError> {
        cx.send_deduplicated(&KEYED, &message, &message.text)?;
        Ok(Outcome::Done)
    }
}

async fn deduplicated_outputs_arrive_once_within_the_window(world: World) {
    let consumer = || Consumer::new(world.bus.clone(), world.clock.clone(), WORK, Once);
    let (one, other) = (consumer(), consumer());
    for text in ["a", "a", "b"] {
        world.send(&WORK, text).await;
    }
    assert_eq!(one.step().await.unwrap(), 3);
    world.send(&WORK, "a").await;
    assert_eq!(other.step().await.unwrap(), 1);
    assert_eq!(world.texts(&KEYED).await, ["a", "b"]);
    assert_eq!(
        world.depth(&WORK).await,
        (0, 0, 0, 0),
        "what was sent before is handled all the same"
    );
    world.pass(Duration::from_millis(400)).await;
    world.send(&WORK, "a").await;
    assert_eq!(one.step().await.unwrap(), 1);
    assert_eq!(world.texts(&KEYED).await, ["a", "b", "a"]);
}

async fn error_decides_between_retry_defer_and_dead_letter(world: World) {
    let handler = ScriptedHandler::default();
    for text in ["once", "retry", "after", "defer", "later", "dead"] {
        world.send(&WORK, text).await;
    }
    let consumer = world.consumer(WORK, &handler);
    for _ in 0..6 {
        while consumer.step().await.unwrap() > 0 {}
        world.pass(Duration::from_millis(50)).await;
    }
    assert_eq!((handler.seen("once"), handler.seen("dead")), (2, 1));
    assert_eq!(
        (handler.seen("retry"), handler.seen("after")),
        (3, 3),
        "as many attempts as the policy gives"
    );
    assert!(
        handler.seen("defer") > 3 && handler.seen("later") > 3,
        "a deferral costs no attempt"
    );
    let mut sent = world.texts(&OUT).await;
    sent.sort();
    assert_eq!(
        sent,
        [
            "gave up after: error after",
            "gave up dead: error dead",
            "gave up retry: error retry",
            "once 2",
        ],
        "failed attempts send nothing"
    );
    let letters = world.bus.dead(&WORK.spec(), "", 10).await.unwrap();
    let mut kept: Vec<_> = letters
        .iter()
        .map(|letter| (letter.reason.as_str(), letter.attempts))
        .collect();
    kept.sort_unstable();
    assert_eq!(
        kept,
        [("error after", 3), ("error dead", 1), ("error retry", 3)]
    );
}

async fn panic_is_an_attempt_and_the_dead_letter_handler_sends(world: World) {
    let handler = ScriptedHandler::default();
    world.send(&WORK, "panic").await;
    world.send(&WORK, "ok").await;
    let consumer = world.consumer(WORK, &handler);
    for _ in 0..3 {
        consumer.step().await.unwrap();
        world.pass(Duration::from_millis(30)).await;
    }
    assert_eq!(handler.seen("panic"), 3);
    assert_eq!(
        world.texts(&OUT).await,
        ["ok 1", "gave up panic: panicked: on request"]
    );
    assert_eq!(world.depth(&WORK).await, (0, 0, 0, 1));
}

#[tokio::test]
async fn service_that_fails_stops_the_others_and_is_named() {
    struct Faulty;
    #[async_trait]
    impl Service for Faulty {
        fn name(&self) -> &str {
            "faulty"
        }
        async fn run(self: Box<Self>, _: Shutdown) -> Result<(), runtime::ServiceError> {
            Err(Box::new(ScriptedError {
                text: "no".to_owned(),
            }))
        }
    }
    let world = World::memory().await;
    let handler = ScriptedHandler::default();
    let bus: Arc<dyn Bus> = world.bus.clone();
    let consumer = Consumer::new(bus, Arc::new(runtime::SystemClock), WORK, handler);
    let ended =
        runtime::run_services(vec![Box::new(consumer), Box::new(Faulty)], Shutdown::new()).await;
    assert_eq!(ended.unwrap_err().to_string(), "faulty stopped: error no");
}

const HISTORIES: RecordStore = RecordStore {
    name: "histories",
    retention: Duration::from_secs(3600),
};

/// Records its begin, and how its delivery ends.
struct RecordingHandler(ScriptedHandler);

#[async_trait]
impl Handler<Note> for RecordingHandler {
    type Error = ScriptedError;

    async fn handle(&self, message: Note, cx: &Context) -> Result<Outcome, ScriptedError> {
        let text = message.text.clone();
        cx.record_now(vec![HISTORIES.add(&text, &"begun").unwrap()])
            .await
            .unwrap();
        let begun = cx.recorded(&HISTORIES, &text).await.unwrap();
        assert!(!begun.is_empty(), "what is recorded now is there at once");
        cx.record(HISTORIES.add(&text, &"handled").unwrap());
        self.0.handle(message, cx).await
    }

    async fn on_dead_letter(
        &self,
        message: Note,
        cause: Cause<'_, ScriptedError>,
        cx: &Context,
    ) -> Result<(), ScriptedError> {
        cx.record(
            HISTORIES
                .add(&message.text, &format!("given up: {cause}"))
                .unwrap(),
        );
        Ok(())
    }

    async fn on_requeue(
        &self,
        message: Note,
        Requeue { why, after }: Requeue<'_, ScriptedError>,
        cx: &Context,
    ) -> Result<(), ScriptedError> {
        let how = if why.is_attempt() {
            "failed"
        } else {
            "not yet"
        };
        cx.record(
            HISTORIES
                .add(
                    &message.text,
                    &format!("{how}, {} ms: {why}", after.as_millis()),
                )
                .unwrap(),
        );
        assert_ne!(message.text, "after", "a panic here changes nothing");
        Ok(())
    }
}

async fn record_updates_are_kept_however_the_delivery_ends(world: World) {
    let consumer = Consumer::new(
        world.bus.clone(),
        world.clock.clone(),
        WORK,
        RecordingHandler(ScriptedHandler::default()),
    );
    for text in ["ok", "defer", "later", "dead", "after"] {
        world.send(&WORK, text).await;
        consumer.step().await.unwrap();
        world.drop_waiting(&WORK, bus::MessageSelector::All).await;
    }
    let history = async |id: &str| {
        let record = world
            .other
            .records(&HISTORIES, &[id.to_owned()])
            .await
            .unwrap()
            .pop()
            .unwrap();
        record.events::<String>().unwrap()
    };
    assert_eq!(history("ok").await, ["begun", "handled"]);
    assert_eq!(
        history("defer").await,
        ["begun", "handled", "not yet, 20 ms: error defer"]
    );
    assert_eq!(
        history("later").await,
        ["begun", "handled", "not yet, 20 ms: its time has not come"]
    );
    assert_eq!(
        history("dead").await,
        ["begun", "handled", "given up: error dead"]
    );
    assert_eq!(
        history("after").await,
        ["begun", "handled", "failed, 30 ms: error after"]
    );
}
