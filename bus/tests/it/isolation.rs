//! A message that may kill its process is kept apart from everything else.

use std::sync::Arc;

use async_trait::async_trait;
use bus::{BusError, Consumer, Context, Handler, Outcome, Queue, Reserve, Settlement};
use runtime::{Service, ServiceError, Shutdown};
use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinHandle,
};

use crate::{
    on_both,
    world::{LEASE, NOTES, Note, POLICY, World, text},
};

on_both!(
    a_suspect_is_reserved_alone,
    a_suspect_is_handled_alone_in_its_process
);

const OTHERS: Queue<Note> = Queue::new("others", POLICY);

/// Makes a suspect of what waits in a queue: takes it twice without settling.
async fn die_twice(world: &World, queue: &Queue<Note>) {
    for _ in 0..2 {
        assert!(!world.take_all(queue, 10).await.is_empty());
        world.pass(LEASE).await;
    }
}

async fn a_suspect_is_reserved_alone(world: World) {
    world.send(&NOTES, "a").await;
    world.send(&NOTES, "b").await;
    die_twice(&world, &NOTES).await;
    world.send(&NOTES, "innocent").await;
    for expected in [["a"], ["b"], ["innocent"]] {
        let taken = world.take_all(&NOTES, 10).await;
        assert_eq!(taken.iter().map(text).collect::<Vec<_>>(), expected);
    }
    assert!(
        world
            .bus
            .reserve(&NOTES.spec(), Reserve::now(10))
            .await
            .unwrap()
            .is_empty()
    );
}

/// Reports its begin, and ends on command.
#[derive(Clone)]
struct Told {
    begun: mpsc::UnboundedSender<String>,
    /// Each permit ends one handler. A permit that is added before its handler waits is kept.
    end: Arc<Semaphore>,
}

#[async_trait]
impl Handler<Note> for Told {
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

/// Two consumers of one process, whose handlers end when they are told to.
struct Stage {
    handler: Told,
    begins: mpsc::UnboundedReceiver<String>,
    shutdown: Shutdown,
}

impl Stage {
    fn new() -> Self {
        let (begun, begins) = mpsc::unbounded_channel();
        Self {
            handler: Told {
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

/// The third time that the suspect is taken.
async fn suspect_is_taken(world: &World) {
    let attempts = || async { world.bus.peek(&NOTES.spec(), 1).await.unwrap()[0].attempts };
    world
        .until("the suspect to be taken", || async {
            attempts().await == 3
        })
        .await;
}

async fn a_suspect_is_handled_alone_in_its_process(world: World) {
    world.send(&NOTES, "suspect").await;
    die_twice(&world, &NOTES).await;
    let mut stage = Stage::new();
    world.send(&OTHERS, "first").await;
    let others = stage.run(&world, OTHERS);
    assert_eq!(stage.next().await, "first");

    let notes = stage.run(&world, NOTES);
    suspect_is_taken(&world).await;
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
async fn a_isolation_that_comes_to_nothing_lets_the_others_go_on_beside_their_work() {
    let world = World::memory().await;
    world.send(&NOTES, "suspect").await;
    die_twice(&world, &NOTES).await;
    let mut stage = Stage::new();
    world.send(&OTHERS, "long").await;
    let others = stage.run(&world, OTHERS);
    assert_eq!(stage.next().await, "long");
    let notes = stage.run(&world, NOTES);
    suspect_is_taken(&world).await;
    stage.nothing_begins(&world).await;

    // Another process takes it before this one renews its lease, and settles it; the long work keeps its own.
    world.pass(LEASE).await;
    let stolen = world.take(&NOTES).await;
    world
        .bus
        .settle(&stolen.lease, &Settlement::Done { emit: Vec::new() })
        .await
        .unwrap();
    world.send(&OTHERS, "next").await;
    let next = loop {
        world.hasten(LEASE / 10);
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
