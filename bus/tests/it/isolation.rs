//! A message that may kill its process is kept apart from everything else.

use std::sync::Arc;

use async_trait::async_trait;
use bus::{BusError, Consumer, Context, Handler, Outcome, Queue};
use runtime::{Service, ServiceError, Shutdown};
use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinHandle,
};

use crate::{
    on_both,
    world::{LEASE, NOTES, Note, POLICY, World, done, texts},
};

on_both!(
    poison_suspect_is_reserved_alone,
    poison_suspect_is_handled_alone_in_its_process
);

const OTHERS: Queue<Note> = Queue::new("others", POLICY);

/// Makes a suspect of what waits in a queue: reserves it twice without settling.
async fn die_twice(world: &World, queue: &Queue<Note>) {
    for _ in 0..2 {
        assert!(!world.reserve_up_to(queue, 10).await.is_empty());
        world.pass(LEASE).await;
    }
}

async fn poison_suspect_is_reserved_alone(world: World) {
    world.send(&NOTES, "a").await;
    world.send(&NOTES, "b").await;
    die_twice(&world, &NOTES).await;
    world.send(&NOTES, "innocent").await;
    for expected in [["a"], ["b"], ["innocent"]] {
        let deliveries = world.reserve_up_to(&NOTES, 10).await;
        assert_eq!(texts(&deliveries), expected);
    }
    assert!(world.reserve_up_to(&NOTES, 10).await.is_empty());
}

/// Reports its begin, and ends on request.
#[derive(Clone)]
struct GatedHandler {
    begun: mpsc::UnboundedSender<String>,
    /// Each permit ends one handler. A permit that is added before its handler waits is kept.
    end: Arc<Semaphore>,
}

#[async_trait]
impl Handler<Note> for GatedHandler {
    type Error = BusError;

    async fn handle(&self, message: Note, _: &Context) -> Result<Outcome, BusError> {
        let _ = self.begun.send(message.text);
        self.end
            .acquire()
            .await
            .expect("it is never closed")
            .forget();
        Ok(Outcome::Done)
    }
}

/// Two consumers of one process, whose handlers end on request.
struct Stage {
    handler: GatedHandler,
    begins: mpsc::UnboundedReceiver<String>,
    shutdown: Shutdown,
}

impl Stage {
    fn new() -> Self {
        let (begun, begins) = mpsc::unbounded_channel();
        Self {
            handler: GatedHandler {
                begun,
                end: Arc::new(Semaphore::new(0)),
            },
            begins,
            shutdown: Shutdown::new(),
        }
    }

    fn run(&self, world: &World, queue: Queue<Note>) -> JoinHandle<Result<(), ServiceError>> {
        let consumer = Consumer::new(
            world.bus.clone(),
            world.clock.clone(),
            queue,
            self.handler.clone(),
        );
        tokio::spawn(Box::new(consumer).run(self.shutdown.clone()))
    }

    async fn next(&mut self) -> String {
        self.begins.recv().await.unwrap()
    }

    fn end_one(&self) {
        self.handler.end.add_permits(1);
    }

    /// Gives whatever could begin the time to do so: less than a lease, so that none is lost.
    async fn nothing_begins(&mut self, world: &World) {
        for _ in 0..20 {
            world.pass(LEASE / 40).await;
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
            assert!(self.begins.try_recv().is_err(), "something began beside it");
        }
    }
}

/// Waits for the third delivery of the poison suspect.
async fn suspect_is_reserved(world: &World) {
    let attempts = || async { world.bus.peek(&NOTES.spec(), 1).await.unwrap()[0].attempts };
    world
        .until("the suspect to be reserved", || async {
            attempts().await == 3
        })
        .await;
}

async fn poison_suspect_is_handled_alone_in_its_process(world: World) {
    world.send(&NOTES, "suspect").await;
    die_twice(&world, &NOTES).await;
    let mut stage = Stage::new();
    world.send(&OTHERS, "first").await;
    let others = stage.run(&world, OTHERS);
    assert_eq!(stage.next().await, "first");

    let notes = stage.run(&world, NOTES);
    suspect_is_reserved(&world).await;
    stage.nothing_begins(&world).await;
    stage.end_one();
    assert_eq!(stage.next().await, "suspect");
    world.send(&OTHERS, "second").await;
    world.send(&NOTES, "third").await;
    stage.nothing_begins(&world).await;
    stage.end_one();
    let mut next = [stage.next().await, stage.next().await];
    next.sort();
    assert_eq!(next, ["second", "third"], "all go on");
    stage.end_one();
    stage.end_one();
    let drained = || async {
        world.depth(&OTHERS).await == (0, 0, 0, 0) && world.depth(&NOTES).await == (0, 0, 0, 0)
    };
    world.until("everything to be done", drained).await;
    stage.shutdown.stop();
    for running in [others, notes] {
        running.await.unwrap().unwrap();
    }
}

/// Only a clock that is moved by hand can pass a lease before its renewal.
#[tokio::test]
async fn poison_suspect_whose_lease_is_lost_lets_the_others_go_on() {
    let world = World::memory().await;
    world.send(&NOTES, "suspect").await;
    die_twice(&world, &NOTES).await;
    let mut stage = Stage::new();
    world.send(&OTHERS, "long").await;
    let others = stage.run(&world, OTHERS);
    assert_eq!(stage.next().await, "long");
    let notes = stage.run(&world, NOTES);
    suspect_is_reserved(&world).await;
    stage.nothing_begins(&world).await;

    // Another process reserves it before this one renews its lease, and settles it; the long work keeps its own.
    world.pass(LEASE).await;
    let stolen = world.reserve(&NOTES).await;
    world.bus.settle(&stolen.lease, &done()).await.unwrap();
    world.send(&OTHERS, "next").await;
    let next = loop {
        world.advance_manual(LEASE / 10);
        tokio::select! {
            begun = stage.next() => break begun,
            () = tokio::task::yield_now() => {}
        }
    };
    assert_eq!(next, "next", "beside the long work");
    stage.shutdown.cancel();
    world
        .until("both to end", || async {
            others.is_finished() && notes.is_finished()
        })
        .await;
}
