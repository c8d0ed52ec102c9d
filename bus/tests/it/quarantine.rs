//! A message that may kill its process is kept apart from everything else.

use std::sync::Arc;

use async_trait::async_trait;
use bus::{BusError, Consumer, Context, Handler, Queue, Reserve, Shutdown, Subsystem};
use tokio::sync::{Notify, mpsc};

use crate::{
    on_both,
    world::{LEASE, NOTES, Note, POLICY, World, text},
};

on_both!(a_suspect_is_reserved_alone, a_suspect_is_handled_alone_in_its_process);

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
    assert!(world.bus.reserve(&NOTES.spec(), Reserve::now(10)).await.unwrap().is_empty());
}

/// Says when it begins, and ends when it is told to.
#[derive(Clone)]
struct Told {
    begun: mpsc::UnboundedSender<String>,
    end: Arc<Notify>,
}

#[async_trait]
impl Handler<Note> for Told {
    type Error = BusError;

    async fn handle(&self, message: Note, _: &Context) -> Result<(), BusError> {
        let _ = self.begun.send(message.text);
        self.end.notified().await;
        Ok(())
    }
}

/// Gives whatever could begin the time to do so: less than a lease, so that none is lost.
async fn nothing_begins(world: &World, begins: &mut mpsc::UnboundedReceiver<String>) {
    for _ in 0..20 {
        world.pass(LEASE / 40).await;
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        assert!(begins.try_recv().is_err(), "something began beside it");
    }
}

async fn a_suspect_is_handled_alone_in_its_process(world: World) {
    world.send(&NOTES, "suspect").await;
    die_twice(&world, &NOTES).await;
    let (begun, mut begins) = mpsc::unbounded_channel();
    let handler = Told { begun, end: Arc::default() };
    let shutdown = Shutdown::new();
    let run = |queue| {
        let consumer = Consumer::new(world.bus.clone(), world.clock.clone(), queue, handler.clone());
        tokio::spawn(Box::new(consumer).run(shutdown.clone()))
    };
    world.send(&OTHERS, "first").await;
    let others = run(OTHERS);
    assert_eq!(begins.recv().await.unwrap(), "first");

    let notes = run(NOTES);
    let attempts = || async { world.bus.peek(&NOTES.spec(), 1).await.unwrap()[0].attempts };
    world.until("the suspect to be taken", || async { attempts().await == 3 }).await;
    nothing_begins(&world, &mut begins).await;
    handler.end.notify_one();
    assert_eq!(begins.recv().await.unwrap(), "suspect");
    world.send(&OTHERS, "second").await;
    world.send(&NOTES, "third").await;
    nothing_begins(&world, &mut begins).await;
    handler.end.notify_one();
    let mut next = [begins.recv().await.unwrap(), begins.recv().await.unwrap()];
    next.sort();
    assert_eq!(next, ["second", "third"], "all go on");
    handler.end.notify_one();
    handler.end.notify_one();
    let drained = || async { world.depth(&OTHERS).await == (0, 0, 0, 0) && world.depth(&NOTES).await == (0, 0, 0, 0) };
    world.until("everything to be done", drained).await;
    shutdown.stop();
    for running in [others, notes] {
        running.await.unwrap().unwrap();
    }
}

/// Only a clock that is moved by hand can pass a lease before its renewal.
#[tokio::test]
async fn a_quarantine_that_comes_to_nothing_lets_the_others_go_on_beside_their_work() {
    let world = World::memory().await;
    world.send(&NOTES, "suspect").await;
    die_twice(&world, &NOTES).await;
    let (begun, mut begins) = mpsc::unbounded_channel();
    let handler = Told { begun, end: Arc::default() };
    let shutdown = Shutdown::new();
    let run = |queue| {
        let consumer = Consumer::new(world.bus.clone(), world.clock.clone(), queue, handler.clone());
        tokio::spawn(Box::new(consumer).run(shutdown.clone()))
    };
    world.send(&OTHERS, "long").await;
    let others = run(OTHERS);
    assert_eq!(begins.recv().await.unwrap(), "long");
    let notes = run(NOTES);
    let attempts = || async { world.bus.peek(&NOTES.spec(), 1).await.unwrap()[0].attempts };
    world.until("the suspect to be taken", || async { attempts().await == 3 }).await;
    nothing_begins(&world, &mut begins).await;

    // Another process takes it before this one renews its lease, and settles it; the long work keeps its own.
    let long = world.bus.peek(&OTHERS.spec(), 1).await.unwrap()[0].attempts;
    world.pass(LEASE).await;
    let stolen = world.take(&NOTES).await;
    world.bus.settle(&stolen.lease, &bus::Settlement::Done { emit: Vec::new() }).await.unwrap();
    world.send(&OTHERS, "next").await;
    let next = async {
        loop {
            world.hasten(LEASE / 10);
            tokio::select! {
                begun = begins.recv() => return begun.unwrap(),
                () = tokio::task::yield_now() => {}
            }
        }
    };
    assert_eq!((next.await.as_str(), long), ("next", 1), "beside the long work");
    shutdown.cancel();
    world.until("both to end", || async { others.is_finished() && notes.is_finished() }).await;
}
