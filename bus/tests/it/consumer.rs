//! The consumer: how a delivery ends when its handler succeeds, fails, panics, dies, or has to stop.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;

use async_trait::async_trait;
use bus::{
    Backoff, Bus, BusError, Cause, Consumer, Context, Envelope, Handler, Outcome, Outgoing, Policy,
    Queue, RecordStore, Requeue, Retry, Retryable,
};
use runtime::{Service, Shutdown};
use tokio::sync::Semaphore;

use crate::{
    on_both,
    world::{LEASE, Note, OUT, PARTITIONED, POLICY, World, note},
};

on_both!(
    what_a_handler_sends_arrives_when_it_succeeds,
    what_a_handler_sends_once_arrives_once_within_the_window,
    error_decides_between_retry_defer_and_dead_letter,
    panic_is_an_attempt_and_the_dead_letter_handler_sends,
    message_whose_workers_died_is_a_dead_letter_without_another_attempt,
    unsettled_deliveries_are_fewer_than_attempts_where_there_are_many,
    failed_dead_letter_handler_is_called_again_before_the_dead_letter,
    what_cannot_be_read_is_a_dead_letter_and_the_others_flow,
    a_long_handler_keeps_its_lease,
    stopping_waits_for_what_is_in_flight,
    cancelling_gives_back_what_is_in_flight_after_the_handler_wound_down,
    a_slow_partition_does_not_hold_up_another,
    a_partition_with_a_limit_of_its_own_is_worked_on_that_often_at_once,
    what_a_handler_records_is_kept_however_its_step_ends,
    dead_letter_handler_gets_the_typed_cause,
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
#[error("it says {text}")]
struct Said {
    text: String,
}

impl Retryable for Said {
    fn retry(&self) -> Retry {
        match self.text.as_str() {
            "defer" => Retry::Defer(Duration::from_millis(20)),
            "dead" => Retry::Never,
            "after" => Retry::After(Duration::from_millis(30)),
            _ => Retry::Backoff,
        }
    }
}

/// Does what its message says and counts how often.
#[derive(Default, Clone)]
struct Obedient {
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

impl Obedient {
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
impl Handler<Note> for Obedient {
    type Error = Said;

    async fn handle(&self, message: Note, cx: &Context) -> Result<Outcome, Said> {
        *self.seen.lock().entry(message.text.clone()).or_default() += 1;
        let said = || Said {
            text: message.text.clone(),
        };
        cx.send(&OUT, &note(&format!("{} {}", message.text, cx.attempt())))
            .map_err(|_| said())?;
        match message.text.as_str() {
            "panic" => panic!("as told"),
            "once" if cx.attempt() > 1 => Ok(Outcome::Done),
            "ok" => Ok(Outcome::Done),
            "later" => Ok(Outcome::defer(
                Duration::from_millis(20),
                "its time has not come",
            )),
            "speechless" => {
                return Err(Said {
                    text: "dead".to_owned(),
                });
            }
            "wind down" => {
                cx.cancelled().await;
                self.event("children reaped");
                Err(said())
            }
            text if text.starts_with("hold") || text.starts_with('h') => {
                self.gate.0.acquire().await.map_err(|_| said())?.forget();
                Ok(Outcome::Done)
            }
            text if text.starts_with("quick") => Ok(Outcome::Done),
            _ => Err(said()),
        }
    }

    async fn on_dead_letter(
        &self,
        message: Note,
        cause: Cause<'_, Said>,
        cx: &Context,
    ) -> Result<(), Said> {
        if message.text == "speechless" && self.seen("speechless") < 3 {
            return Err(Said {
                text: "nothing".to_owned(),
            });
        }
        cx.send(
            &OUT,
            &note(&format!("last word on {}: {cause}", message.text)),
        )
        .map_err(|_| Said {
            text: message.text.clone(),
        })
    }

    async fn close(&self) {
        self.event("closed");
    }
}

impl World {
    fn consumer(&self, queue: Queue<Note>, handler: &Obedient) -> Consumer {
        Consumer::new(self.bus.clone(), self.clock.clone(), queue, handler.clone())
    }

    fn run(
        &self,
        queue: Queue<Note>,
        handler: &Obedient,
        shutdown: &Shutdown,
    ) -> tokio::task::JoinHandle<()> {
        let consumer = Box::new(self.consumer(queue, handler));
        let shutdown = shutdown.clone();
        tokio::spawn(async move { consumer.run(shutdown).await.unwrap() })
    }
}

async fn what_a_handler_sends_arrives_when_it_succeeds(world: World) {
    let handler = Obedient::default();
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

async fn what_a_handler_sends_once_arrives_once_within_the_window(world: World) {
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
    let handler = Obedient::default();
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
    let mut said = world.texts(&OUT).await;
    said.sort();
    assert_eq!(
        said,
        [
            "last word on after: it says after",
            "last word on dead: it says dead",
            "last word on retry: it says retry",
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
        [
            ("it says after", 3),
            ("it says dead", 1),
            ("it says retry", 3)
        ]
    );
}

async fn panic_is_an_attempt_and_the_dead_letter_handler_sends(world: World) {
    let handler = Obedient::default();
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
        ["ok 1", "last word on panic: panicked: as told"]
    );
    assert_eq!(world.depth(&WORK).await, (0, 0, 0, 1));
}

async fn message_whose_workers_died_is_a_dead_letter_without_another_attempt(world: World) {
    let handler = Obedient::default();
    world.send(&WORK, "ok").await;
    for _ in 0..3 {
        // A worker takes it and is never heard of again.
        world.take(&WORK).await;
        world.pass(LEASE).await;
    }
    world.consumer(WORK, &handler).step().await.unwrap();
    assert_eq!(handler.seen("ok"), 0);
    assert_eq!(
        world.texts(&OUT).await,
        [
            "last word on ok: delivered 3 times in a row and never settled: its worker died, or lost its lease"
        ]
    );
    assert_eq!(world.depth(&WORK).await, (0, 0, 0, 1));
}

async fn unsettled_deliveries_are_fewer_than_attempts_where_there_are_many(world: World) {
    const PATIENT: Queue<Note> = Queue::new(
        "patient",
        Policy {
            attempts: 1000,
            max_unsettled_deliveries: 2,
            ..QUICK
        },
    );
    let handler = Obedient::default();
    world.send(&PATIENT, "retry").await;
    let consumer = world.consumer(PATIENT, &handler);
    for _ in 0..4 {
        assert_eq!(consumer.step().await.unwrap(), 1);
        world.pass(Duration::from_millis(30)).await;
    }
    for _ in 0..2 {
        world.take(&PATIENT).await;
        world.pass(LEASE).await;
    }
    consumer.step().await.unwrap();
    assert_eq!(handler.seen("retry"), 4);
    assert_eq!(world.depth(&PATIENT).await, (0, 0, 0, 1));
    let letter = world
        .bus
        .dead(&PATIENT.spec(), "", 1)
        .await
        .unwrap()
        .remove(0);
    assert!(
        letter.reason.starts_with("delivered 2 times in a row"),
        "{letter:?}"
    );
}

async fn failed_dead_letter_handler_is_called_again_before_the_dead_letter(world: World) {
    let handler = Obedient::default();
    world.send(&WORK, "speechless").await;
    let consumer = world.consumer(WORK, &handler);
    for _ in 0..3 {
        assert!(world.texts(&OUT).await.is_empty());
        assert_eq!(world.depth(&WORK).await.3, 0);
        assert_eq!(consumer.step().await.unwrap(), 1);
        world.pass(Duration::from_millis(30)).await;
    }
    assert_eq!(
        world.texts(&OUT).await,
        ["last word on speechless: it says dead"]
    );
    assert_eq!(world.depth(&WORK).await, (0, 0, 0, 1));
}

/// Only a clock that is moved by hand can pass a lease before its renewal.
#[tokio::test]
async fn a_handler_whose_lease_is_lost_is_cancelled_and_not_heard() {
    let world = World::memory().await;
    let handler = Obedient::default();
    let shutdown = Shutdown::new();
    let running = world.run(WORK, &handler, &shutdown);
    world.send(&WORK, "wind down").await;
    world
        .until("the handler to begin", || async {
            handler.seen("wind down") == 1
        })
        .await;
    world.pass(LEASE).await;
    let taken = world.take(&WORK).await;
    world
        .until("the handler to be cancelled", || async {
            !handler.events().is_empty()
        })
        .await;
    assert_eq!(handler.events(), ["children reaped"]);
    world
        .bus
        .settle(&taken.lease, &bus::Settlement::Release)
        .await
        .unwrap();
    shutdown.cancel();
    world
        .until("the consumer to end", || async { running.is_finished() })
        .await;
}

async fn what_cannot_be_read_is_a_dead_letter_and_the_others_flow(world: World) {
    let handler = Obedient::default();
    let packed = WORK.pack(&note("ok"), world.clock.as_ref()).unwrap();
    for (version, body) in [
        (1, b"\xc1garbage".to_vec().into()),
        (9, packed.envelope.body.clone()),
    ] {
        let id = world.clock.new_id();
        let envelope = Envelope {
            id,
            version,
            body,
            ..packed.envelope.clone()
        };
        world
            .bus
            .push(vec![Outgoing {
                envelope,
                ..packed.clone()
            }])
            .await
            .unwrap();
    }
    world.send(&WORK, "ok").await;
    world.consumer(WORK, &handler).step().await.unwrap();
    assert_eq!(world.texts(&OUT).await, ["ok 1"]);
    let letters = world.bus.dead(&WORK.spec(), "", 10).await.unwrap();
    let reasons: String = letters
        .iter()
        .map(|letter| letter.reason.as_str())
        .collect();
    assert_eq!(letters.len(), 2);
    assert!(
        reasons.contains("unknown message version 9")
            && reasons.contains("undecodable message body"),
        "{reasons}"
    );
}

async fn a_long_handler_keeps_its_lease(world: World) {
    let handler = Obedient::default();
    let shutdown = Shutdown::new();
    let running = world.run(WORK, &handler, &shutdown);
    world.send(&WORK, "hold").await;
    world
        .until("the handler to begin", || async {
            handler.seen("hold") == 1
        })
        .await;
    for _ in 0..8 {
        world.pass(LEASE / 4).await;
        // The renewal runs in a task of its own; let it.
        tokio::task::yield_now().await;
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        assert!(
            world
                .other
                .reserve(&WORK.spec(), bus::Reserve::now(1))
                .await
                .unwrap()
                .is_empty()
        );
    }
    handler.open();
    world
        .until("the message to be done", || async {
            world.depth(&WORK).await == (0, 0, 0, 0)
        })
        .await;
    assert_eq!(world.texts(&OUT).await, ["hold 1"]);
    shutdown.stop();
    running.await.unwrap();
}

async fn stopping_waits_for_what_is_in_flight(world: World) {
    let handler = Obedient::default();
    let shutdown = Shutdown::new();
    let running = world.run(WORK, &handler, &shutdown);
    world.send(&WORK, "hold").await;
    world
        .until("the handler to begin", || async {
            handler.seen("hold") == 1
        })
        .await;
    shutdown.stop();
    world.send(&WORK, "ok").await;
    handler.open();
    running.await.unwrap();
    assert_eq!(world.texts(&OUT).await, ["hold 1"]);
    assert_eq!(
        world.depth(&WORK).await,
        (1, 0, 0, 0),
        "nothing new was taken"
    );
    assert_eq!(handler.events(), ["closed"]);
}

async fn cancelling_gives_back_what_is_in_flight_after_the_handler_wound_down(world: World) {
    let handler = Obedient::default();
    let shutdown = Shutdown::new();
    let running = world.run(WORK, &handler, &shutdown);
    for text in ["wind down", "hold"] {
        world.send(&WORK, text).await;
    }
    world
        .until("both handlers to begin", || async {
            handler.seen("hold") + handler.seen("wind down") == 2
        })
        .await;
    shutdown.cancel();
    world
        .until("the consumer to end", || async { running.is_finished() })
        .await;
    assert_eq!(handler.events(), ["children reaped", "closed"]);
    assert_eq!(world.depth(&WORK).await, (2, 0, 0, 0));
    let again = world.take_all(&WORK, 2).await;
    assert_eq!(
        again
            .iter()
            .map(|leased| leased.attempt)
            .collect::<Vec<_>>(),
        [1, 1]
    );
    assert!(world.texts(&OUT).await.is_empty());
}

async fn a_slow_partition_does_not_hold_up_another(world: World) {
    let handler = Obedient::default();
    let shutdown = Shutdown::new();
    let running = world.run(PARTITIONED, &handler, &shutdown);
    for text in ["h1", "h2", "quick1", "quick2"] {
        world.send(&PARTITIONED, text).await;
    }
    world
        .until("the quick partition to be done", || async {
            handler.seen("quick2") == 1
        })
        .await;
    assert_eq!(
        (handler.seen("h1"), handler.seen("h2")),
        (1, 0),
        "one at a time in a partition"
    );
    handler.open();
    world
        .until("the slow partition to be done", || async {
            world.depth(&PARTITIONED).await == (0, 0, 0, 0)
        })
        .await;
    assert_eq!(handler.seen("h2"), 1);
    shutdown.stop();
    running.await.unwrap();
}

async fn a_partition_with_a_limit_of_its_own_is_worked_on_that_often_at_once(world: World) {
    let handler = Obedient::default();
    let shutdown = Shutdown::new();
    for text in ["h1", "h2", "h3", "slow1", "slow2"] {
        world.send(&PARTITIONED, text).await;
    }
    let consumer = world
        .consumer(PARTITIONED, &handler)
        .with_partitions(HashMap::from([("h".to_owned(), 2)]));
    let running = tokio::spawn(Box::new(consumer).run(shutdown.clone()));
    world
        .until("two of the wide partition", || async {
            handler.seen("h1") + handler.seen("h2") == 2
        })
        .await;
    world
        .until("one of the other partition", || async {
            handler.seen("slow1") > 0
        })
        .await;
    assert_eq!(handler.seen("h3"), 0, "two at a time in that partition");
    handler.open();
    world
        .until("the wide partition to be done", || async {
            handler.seen("h3") == 1
        })
        .await;
    shutdown.stop();
    running.await.unwrap().unwrap();
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
            Err(Box::new(Said {
                text: "no".to_owned(),
            }))
        }
    }
    let world = World::memory().await;
    let handler = Obedient::default();
    let bus: Arc<dyn Bus> = world.bus.clone();
    let consumer = Consumer::new(bus, Arc::new(runtime::SystemClock), WORK, handler);
    let ended =
        runtime::run_services(vec![Box::new(consumer), Box::new(Faulty)], Shutdown::new()).await;
    assert_eq!(ended.unwrap_err().to_string(), "faulty stopped: it says no");
}

const STORIES: RecordStore = RecordStore {
    name: "stories",
    retention: Duration::from_secs(3600),
};

/// Records what it does before it obeys, and what comes of it.
struct Diligent(Obedient);

#[async_trait]
impl Handler<Note> for Diligent {
    type Error = Said;

    async fn handle(&self, message: Note, cx: &Context) -> Result<Outcome, Said> {
        let text = message.text.clone();
        cx.record_now(vec![STORIES.add(&text, &"begun").unwrap()])
            .await
            .unwrap();
        let begun = cx.recorded(&STORIES, &text).await.unwrap();
        assert!(!begun.is_empty(), "what is recorded now is there at once");
        cx.record(STORIES.add(&text, &"handled").unwrap());
        self.0.handle(message, cx).await
    }

    async fn on_dead_letter(
        &self,
        message: Note,
        cause: Cause<'_, Said>,
        cx: &Context,
    ) -> Result<(), Said> {
        cx.record(
            STORIES
                .add(&message.text, &format!("given up: {cause}"))
                .unwrap(),
        );
        Ok(())
    }

    async fn on_requeue(
        &self,
        message: Note,
        Requeue { why, after }: Requeue<'_, Said>,
        cx: &Context,
    ) -> Result<(), Said> {
        let how = if why.is_attempt() {
            "failed"
        } else {
            "not yet"
        };
        cx.record(
            STORIES
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

async fn what_a_handler_records_is_kept_however_its_step_ends(world: World) {
    let consumer = Consumer::new(
        world.bus.clone(),
        world.clock.clone(),
        WORK,
        Diligent(Obedient::default()),
    );
    for text in ["ok", "defer", "later", "dead", "after"] {
        world.send(&WORK, text).await;
        consumer.step().await.unwrap();
        world
            .bus
            .drop_waiting(&WORK.spec(), bus::MessageSelector::All)
            .await
            .unwrap();
    }
    let story = async |id: &str| {
        let record = world
            .other
            .records(&STORIES, &[id.to_owned()])
            .await
            .unwrap()
            .pop()
            .unwrap();
        record.entries::<String>().unwrap()
    };
    assert_eq!(story("ok").await, ["begun", "handled"]);
    assert_eq!(
        story("defer").await,
        ["begun", "handled", "not yet, 20 ms: it says defer"]
    );
    assert_eq!(
        story("later").await,
        ["begun", "handled", "not yet, 20 ms: its time has not come"]
    );
    assert_eq!(
        story("dead").await,
        ["begun", "handled", "given up: it says dead"]
    );
    assert_eq!(
        story("after").await,
        ["begun", "handled", "failed, 30 ms: it says after"]
    );
}

/// Fails as its message says, and keeps the cause that its dead-letter handler got.
#[derive(Clone, Default)]
struct Causes(Arc<Mutex<Vec<String>>>);

#[async_trait]
impl Handler<Note> for Causes {
    type Error = Said;

    async fn handle(&self, message: Note, _: &Context) -> Result<Outcome, Said> {
        assert_ne!(message.text, "panic", "as told");
        Err(Said { text: message.text })
    }

    async fn on_dead_letter(
        &self,
        message: Note,
        cause: Cause<'_, Said>,
        cx: &Context,
    ) -> Result<(), Said> {
        let cause = match cause {
            Cause::Failed(Said { text }) => format!("failed with {text}"),
            Cause::AttemptsExhausted {
                attempts,
                last: Some(Said { text }),
            } => format!("{attempts} attempts, the last with {text}"),
            Cause::AttemptsExhausted {
                attempts,
                last: None,
            } => format!("{attempts} attempts, the last one is not known"),
            Cause::WorkerDied { times } => format!("worker died {times} times"),
            Cause::Panicked(_) => "panicked".to_owned(),
        };
        self.0.lock().push(cause);
        // The first word on this one cannot be sent.
        if message.text == "mute" && cx.attempt() == 3 {
            return Err(Said { text: message.text });
        }
        Ok(())
    }
}

async fn dead_letter_handler_gets_the_typed_cause(world: World) {
    let handler = Causes::default();
    let consumer = Consumer::new(
        world.bus.clone(),
        world.clock.clone(),
        WORK,
        handler.clone(),
    );
    let mut causes = Vec::new();
    for text in ["dead", "retry", "panic", "mute"] {
        world.send(&WORK, text).await;
        for _ in 0..5 {
            while consumer.step().await.unwrap() > 0 {}
            world.pass(Duration::from_millis(50)).await;
        }
        causes.append(&mut handler.0.lock());
    }
    assert_eq!(
        causes,
        [
            "failed with dead",
            "3 attempts, the last with retry",
            "panicked",
            "3 attempts, the last with mute",
            "3 attempts, the last one is not known",
        ]
    );
}
