//! A claim is made before an effect that has no key of its own: whoever dies or comes at once, the effect is made by one
//! at a time, and not again once it is known to be made.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
    time::Duration,
};

use async_trait::async_trait;
use bus::{
    Bus, BusError, Claim, ClaimField, Consumer, Context, Handler, Outcome, Policy, Queue,
    RecordStore, RedisBus,
};
use jiff::Timestamp;
use parking_lot::Mutex;
use runtime::{ManualClock, SystemClock};
use testkit::capture_logs;
use tokio::sync::{Notify, Semaphore};

use crate::{
    on_both,
    redis_world::RedisWorld,
    world::{LEASE, Note, POLICY, World},
};

on_both!(
    completed_effect_is_not_repeated,
    effect_is_not_repeated_by_a_worker_that_died_before_its_settlement,
    claim_of_a_worker_that_died_is_held_and_then_taken_over,
    released_claim_is_acquired_at_once,
    concurrent_claims_have_one_winner,
    claim_of_an_owner_is_acquired_by_each_of_its_deliveries,
    owner_whose_claim_was_taken_over_can_neither_complete_nor_release_it,
    effect_is_recorded_though_the_bus_has_lost_its_claim,
);

const CALLS: RecordStore = RecordStore {
    name: "calls",
    retention: Duration::from_secs(3600),
};
const FIELD: &str = "call";
/// No claim runs out while a test runs.
const LONG: ClaimField = ClaimField::new(FIELD, Duration::from_secs(1800));
/// Every claim has run out that is older than this.
const SHORT: ClaimField = ClaimField::new(FIELD, Duration::from_millis(1));

const WORK: Queue<Note> = Queue::new(
    "work",
    Policy {
        concurrency: 8,
        ..POLICY
    },
);

/// Makes an effect for each message, and holds it there on request.
#[derive(Clone)]
struct Caller {
    shared: Arc<Shared>,
    field: ClaimField,
    owner: Option<&'static str>,
    then: Then,
}

#[derive(Default)]
struct Shared {
    effects: AtomicUsize,
    /// The outcomes of claims.
    seen: Mutex<Vec<String>>,
    /// An effect was made.
    made: Notify,
    gate: Gate,
}

struct Gate(Semaphore);

impl Default for Gate {
    fn default() -> Self {
        Self(Semaphore::new(0))
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Then {
    Complete,
    /// Completes now and then hangs.
    CompleteAndHang,
    Release,
    /// Hangs until the gate opens, then completes.
    Hang,
    /// Hangs until the gate opens, then releases.
    HangAndRelease,
    /// Hangs until the gate opens, then completes now.
    HangAndCompleteNow,
}

impl Then {
    fn hangs(self) -> bool {
        matches!(
            self,
            Self::Hang | Self::HangAndRelease | Self::HangAndCompleteNow
        )
    }
}

impl Caller {
    fn new() -> Self {
        Self {
            shared: Arc::default(),
            field: LONG,
            owner: None,
            then: Then::Complete,
        }
    }

    fn then(&self, then: Then) -> Self {
        Self {
            then,
            ..self.clone()
        }
    }

    fn with(&self, field: ClaimField) -> Self {
        Self {
            field,
            ..self.clone()
        }
    }

    fn owned_by(&self, owner: &'static str) -> Self {
        Self {
            owner: Some(owner),
            ..self.clone()
        }
    }

    fn effects(&self) -> usize {
        self.shared.effects.load(Ordering::SeqCst)
    }

    fn seen(&self) -> Vec<String> {
        self.shared.seen.lock().clone()
    }

    /// Runs a step until it has made an effect.
    async fn until_made(&self, step: Pin<&mut impl Future<Output = Result<usize, BusError>>>) {
        tokio::select! {
            ended = step => panic!("ended: {ended:?}"),
            () = self.shared.made.notified() => {}
        }
    }

    fn on(&self, world: &World, bus: &Arc<dyn Bus>) -> Consumer {
        Consumer::new(bus.clone(), world.clock.clone(), WORK, self.clone())
    }
}

#[async_trait]
impl Handler<Note> for Caller {
    type Error = BusError;

    async fn handle(&self, message: Note, cx: &Context) -> Result<Outcome, BusError> {
        let seen = |text: &str| self.shared.seen.lock().push(text.to_owned());
        let now = cx.clock().now();
        let claim: Claim<usize> = match self.owner {
            Some(owner) => {
                cx.claim_as(owner, &CALLS, &message.text, self.field)
                    .await?
            }
            None => cx.claim(&CALLS, &message.text, self.field).await?,
        };
        let claim = match claim {
            Claim::Acquired(claim) => claim,
            Claim::Held { until, look_again } => {
                assert!(until > now && look_again <= Duration::from_secs(5));
                seen("held");
                return Ok(Outcome::Done);
            }
            Claim::Done(number) => {
                seen(&format!("effect {number} is done"));
                return Ok(Outcome::Done);
            }
        };
        seen(match claim.is_takeover() {
            true => "taken over",
            false => "acquired",
        });
        let number = self.shared.effects.fetch_add(1, Ordering::SeqCst) + 1;
        self.shared.made.notify_one();
        if self.then.hangs() {
            self.shared.gate.0.acquire().await.unwrap().forget();
        }
        match self.then {
            Then::Complete | Then::Hang => claim.complete(cx, &number)?,
            Then::Release | Then::HangAndRelease => claim.release(cx),
            Then::HangAndCompleteNow => claim.complete_now(cx, &number).await?,
            Then::CompleteAndHang => {
                claim.complete_now(cx, &number).await?;
                std::future::pending().await
            }
        }
        Ok(Outcome::Done)
    }
}

/// Has a worker take a message, make the effect, and die.
async fn die_after_effect(world: &World, caller: &Caller) {
    let worker = caller.on(world, &world.bus);
    let recorded = async {
        caller.shared.made.notified().await;
        if caller.then == Then::CompleteAndHang {
            let is_done = || async {
                let record = world.bus.records(&CALLS, &["a".to_owned()]).await.unwrap();
                caller.field.claimed_at(&record[0]).unwrap().is_none()
            };
            world.until("the effect is recorded as done", is_done).await;
        }
    };
    tokio::select! {
        ended = worker.step() => panic!("ended: {ended:?}"),
        () = recorded => {}
    }
}

async fn step(world: &World, caller: &Caller) {
    let worker = caller.on(world, &world.other);
    assert_eq!(worker.step().await.unwrap(), 1);
}

async fn completed_effect_is_not_repeated(world: World) {
    let caller = Caller::new();
    for field in [LONG, LONG, SHORT] {
        world.send(&WORK, "a").await;
        step(&world, &caller.with(field)).await;
        world.pass(Duration::from_millis(5)).await;
    }
    assert_eq!(
        caller.seen(),
        ["acquired", "effect 1 is done", "effect 1 is done"]
    );
    world.send(&WORK, "b").await;
    step(&world, &caller).await;
    assert_eq!(caller.effects(), 2, "another one is another matter");
}

async fn effect_is_not_repeated_by_a_worker_that_died_before_its_settlement(world: World) {
    let caller = Caller::new();
    world.send(&WORK, "a").await;
    die_after_effect(&world, &caller.then(Then::CompleteAndHang)).await;
    world.pass(LEASE).await;
    step(&world, &caller.with(SHORT)).await;
    assert_eq!(caller.seen(), ["acquired", "effect 1 is done"]);
}

async fn claim_of_a_worker_that_died_is_held_and_then_taken_over(world: World) {
    let caller = Caller::new();
    world.send(&WORK, "a").await;
    die_after_effect(&world, &caller.then(Then::Hang)).await;
    world.pass(LEASE).await;
    step(&world, &caller).await;
    assert_eq!(caller.seen(), ["acquired", "held"]);

    world.send(&WORK, "a").await;
    step(&world, &caller.with(SHORT)).await;
    assert_eq!(caller.seen()[2..], ["taken over"]);
    world.send(&WORK, "a").await;
    step(&world, &caller).await;
    assert_eq!(caller.seen()[3..], ["effect 2 is done"]);
}

async fn released_claim_is_acquired_at_once(world: World) {
    let caller = Caller::new();
    for then in [Then::Release, Then::Release, Then::Complete] {
        world.send(&WORK, "a").await;
        step(&world, &caller.then(then)).await;
    }
    assert_eq!(caller.seen(), ["acquired"; 3]);
}

async fn concurrent_claims_have_one_winner(world: World) {
    let caller = Caller::new().then(Then::Hang);
    for _ in 0..16 {
        world.send(&WORK, "a").await;
    }
    let (one, other) = (
        caller.on(&world, &world.bus),
        caller.on(&world, &world.other),
    );
    let open = async {
        world
            .until("all have claimed", || async { caller.seen().len() == 16 })
            .await;
        caller.shared.gate.0.add_permits(16);
    };
    let (one, other, ()) = tokio::join!(one.step(), other.step(), open);
    assert_eq!(one.unwrap() + other.unwrap(), 16);
    let mut seen = caller.seen();
    seen.sort();
    assert_eq!(
        (seen[0].as_str(), &seen[1..]),
        ("acquired", &["held"; 15].map(String::from)[..])
    );
}

async fn claim_of_an_owner_is_acquired_by_each_of_its_deliveries(world: World) {
    let caller = Caller::new();
    world.send(&WORK, "a").await;
    die_after_effect(&world, &caller.owned_by("me").then(Then::Hang)).await;
    world.pass(LEASE).await;
    step(&world, &caller.owned_by("another")).await;
    for _ in 0..2 {
        world.send(&WORK, "a").await;
        step(&world, &caller.owned_by("me")).await;
    }
    assert_eq!(
        caller.seen(),
        ["acquired", "held", "acquired", "effect 2 is done"]
    );
}

async fn owner_whose_claim_was_taken_over_can_neither_complete_nor_release_it(world: World) {
    for then in [Then::Hang, Then::HangAndRelease] {
        let id = if then == Then::Hang { "a" } else { "b" };
        let caller = Caller::new();
        let slow = caller.then(then).on(&world, &world.bus);
        world.send(&WORK, id).await;
        let mut slow = pin!(slow.step());
        caller.until_made(slow.as_mut()).await;
        world.send(&WORK, id).await;
        world.pass(Duration::from_millis(5)).await;
        step(&world, &caller.with(SHORT)).await;
        caller.shared.gate.0.add_permits(1);
        slow.await.unwrap();
        world.send(&WORK, id).await;
        step(&world, &caller).await;
        assert_eq!(
            caller.seen(),
            ["acquired", "taken over", "effect 2 is done"]
        );
    }
}

async fn effect_is_recorded_though_the_bus_has_lost_its_claim(world: World) {
    for then in [Then::Hang, Then::HangAndCompleteNow] {
        let id = if then == Then::Hang { "a" } else { "b" };
        let caller = Caller::new();
        let worker = caller.then(then).on(&world, &world.bus);
        world.send(&WORK, id).await;
        let mut working = pin!(worker.step());
        caller.until_made(working.as_mut()).await;
        let lost = vec![CALLS.erase(id)];
        world.bus.push_with(Vec::new(), lost).await.unwrap();
        caller.shared.gate.0.add_permits(1);
        working.await.unwrap();
        world.send(&WORK, id).await;
        step(&world, &caller).await;
        assert_eq!(caller.seen(), ["acquired", "effect 1 is done"]);
    }
}

/// Its settlement cannot record the effect: another worker has the message by then.
#[tokio::test]
async fn effect_is_recorded_after_an_outage_in_which_its_lease_was_lost() {
    const BRIEF: Queue<Note> = Queue::new(
        "work",
        Policy {
            lease: Duration::from_millis(1),
            ..POLICY
        },
    );
    let (_guard, log) = capture_logs();
    let mut redis = RedisWorld::start().await;
    let clock = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
    let caller = Caller::new();
    let consumer = |caller: Caller| {
        let bus = RedisBus::new(&redis.server.options(), &SystemClock).unwrap();
        Consumer::new(Arc::new(bus), clock.clone(), BRIEF, caller)
    };
    let (worker, next) = (
        consumer(caller.then(Then::HangAndCompleteNow)),
        consumer(caller.clone()),
    );
    redis.send(&BRIEF, "a").await;
    let mut working = pin!(worker.step());
    caller.until_made(working.as_mut()).await;
    redis.server.stop_gently().await.unwrap();
    caller.shared.gate.0.add_permits(1);
    poll_fn(|cx| {
        assert!(working.as_mut().poll(cx).is_pending(), "it has no bus");
        match log.count("; retrying") {
            0 => Poll::Pending,
            _ => Poll::Ready(()),
        }
    })
    .await;
    redis.server.restart().await.unwrap();
    while next.step().await.unwrap() == 0 {}
    assert_eq!(caller.seen(), ["acquired", "held"]);
    // Both its renewal and its record are due.
    clock.advance(Duration::from_millis(100));
    assert_eq!(working.await.unwrap(), 1);
    // This bus notices at its next command that the server has closed its connection.
    let _: Result<(), BusError> = redis.bus.ping().await;
    redis.send(&BRIEF, "a").await;
    assert_eq!(next.step().await.unwrap(), 1);
    assert_eq!(caller.seen()[2..], ["effect 1 is done"]);
}

/// The wait of a deferred message, on a clock that is moved by hand.
#[tokio::test]
async fn held_claim_is_checked_every_five_seconds_until_it_expires() {
    const FIELD_12S: ClaimField = ClaimField::new(FIELD, Duration::from_secs(12));
    struct Waits(Mutex<Vec<u64>>);
    #[async_trait]
    impl Handler<Note> for Arc<Waits> {
        type Error = BusError;

        async fn handle(&self, message: Note, cx: &Context) -> Result<Outcome, BusError> {
            match cx.claim::<()>(&CALLS, &message.text, FIELD_12S).await? {
                Claim::Held { look_again, .. } => {
                    self.0.lock().push(look_again.as_secs());
                    Ok(Outcome::defer(look_again, "somebody else is at it"))
                }
                Claim::Acquired(_) | Claim::Done(()) => Ok(Outcome::Done),
            }
        }
    }
    let world = World::memory().await;
    let waits = Arc::new(Waits(Mutex::default()));
    let consumer = Consumer::new(
        world.bus.clone(),
        world.clock.clone(),
        WORK,
        Arc::clone(&waits),
    );
    world.send(&WORK, "a").await;
    assert_eq!(consumer.step().await.unwrap(), 1, "it dies with the claim");
    world.send(&WORK, "a").await;
    for wait in [5, 5, 2] {
        assert_eq!(consumer.step().await.unwrap(), 1);
        assert_eq!(waits.0.lock().pop(), Some(wait));
        world.pass(Duration::from_secs(wait)).await;
    }
    assert_eq!(consumer.step().await.unwrap(), 1);
    assert!(waits.0.lock().is_empty(), "acquired");
    assert_eq!(world.depth(&WORK).await, (0, 0, 0, 0));
}
