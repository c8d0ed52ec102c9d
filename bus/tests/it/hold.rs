//! A partition that is held: what its messages wait for concerns all of them.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;

use async_trait::async_trait;
use bus::{
    BusError, Consumer, Context, Field, Handler, Outcome, Policy, Queue, RecordStore, Requeue,
    Retry, Retryable,
};
use runtime::{Service, Shutdown};

use crate::{
    on_both,
    world::{Note, OUT, PARTITIONED, World, done},
};

on_both!(
    held_partition_keeps_its_order_and_the_others_flow,
    held_partition_goes_on_by_itself,
    partition_of_a_message_that_meets_an_outage_is_held,
    message_of_a_queue_without_partitions_is_deferred,
    nothing_is_reserved_while_the_next_queue_is_full,
);

const HOUR: Duration = Duration::from_secs(3600);
const SHORT: Duration = Duration::from_millis(20);
const RECORDS: RecordStore = RecordStore {
    name: "held",
    retention: HOUR,
};
const REASON: Field<String> = Field::new("reason");

#[derive(Clone, Copy, PartialEq)]
enum Tree {
    Open,
    Closed(Duration),
    Away,
}

#[derive(Debug, thiserror::Error)]
#[error("the peer is away")]
struct Away;

impl Retryable for Away {
    fn retry(&self) -> Retry {
        Retry::Hold(HOUR)
    }
}

/// What begins with `c` waits while the tree is closed.
#[derive(Clone)]
struct TreeHandler {
    tree: Arc<Mutex<Tree>>,
    seen: Arc<Mutex<Vec<String>>>,
    done: Arc<Mutex<Vec<(String, u32)>>>,
}

impl TreeHandler {
    fn new(tree: Tree) -> Self {
        Self {
            tree: Arc::new(Mutex::new(tree)),
            seen: Arc::default(),
            done: Arc::default(),
        }
    }

    fn set(&self, tree: Tree) {
        *self.tree.lock() = tree;
    }

    fn seen(&self) -> Vec<String> {
        self.seen.lock().clone()
    }

    fn done(&self) -> Vec<String> {
        let done = self.done.lock();
        done.iter().map(|(text, _)| text.clone()).collect()
    }
}

#[async_trait]
impl Handler<Note> for TreeHandler {
    type Error = Away;

    async fn handle(&self, message: Note, cx: &Context) -> Result<Outcome, Away> {
        self.seen.lock().push(message.text.clone());
        let tree = *self.tree.lock();
        match tree {
            Tree::Closed(after) if message.text.starts_with('c') => {
                Ok(Outcome::hold(after, "the tree is closed"))
            }
            Tree::Away if message.text.starts_with('c') => Err(Away),
            _ => {
                self.done.lock().push((message.text, cx.attempt()));
                Ok(Outcome::Done)
            }
        }
    }

    async fn on_requeue(
        &self,
        message: Note,
        requeue: Requeue<'_, Away>,
        cx: &Context,
    ) -> Result<(), Away> {
        let why = requeue.why.to_string();
        cx.record(RECORDS.set(&message.text, REASON, &why).map_err(|_| Away)?);
        Ok(())
    }
}

fn consumer(world: &World, queue: Queue<Note>, handler: &TreeHandler) -> Consumer {
    Consumer::new(
        world.bus.clone(),
        world.clock.clone(),
        queue,
        handler.clone(),
    )
}

async fn all(consumer: &Consumer) -> Result<(), BusError> {
    while consumer.step().await? > 0 {}
    Ok(())
}

async fn reason(world: &World, text: &str) -> Option<String> {
    let found = world.bus.records(&RECORDS, &[text.to_owned()]).await;
    found.unwrap()[0].field(REASON).unwrap()
}

async fn held_partition_keeps_its_order_and_the_others_flow(world: World) {
    let handler = TreeHandler::new(Tree::Closed(HOUR));
    for text in ["c1", "c2", "c3", "o1", "o2"] {
        world.send(&PARTITIONED, text).await;
    }
    all(&consumer(&world, PARTITIONED, &handler)).await.unwrap();
    assert_eq!(handler.done(), ["o1", "o2"]);
    let of_partition = |text: &String| text.starts_with('c');
    assert_eq!(
        handler.seen().into_iter().filter(of_partition).count(),
        1,
        "one asks for all"
    );
    assert_eq!(
        (reason(&world, "c1").await, reason(&world, "c2").await),
        (Some("the tree is closed".to_owned()), None)
    );
    assert_eq!(world.depth(&PARTITIONED).await.2, 0, "none is delayed");

    // Another process holds nothing.
    handler.set(Tree::Open);
    all(&consumer(&world, PARTITIONED, &handler)).await.unwrap();
    assert_eq!(handler.done()[2..], ["c1", "c2", "c3"]);
    let attempts = handler.done.lock().clone();
    assert!(attempts.iter().all(|(_, attempt)| *attempt == 1));
}

async fn held_partition_goes_on_by_itself(world: World) {
    let handler = TreeHandler::new(Tree::Closed(SHORT));
    for text in ["c1", "c2"] {
        world.send(&PARTITIONED, text).await;
    }
    let shutdown = Shutdown::new();
    let running =
        tokio::spawn(Box::new(consumer(&world, PARTITIONED, &handler)).run(shutdown.clone()));
    world
        .until("the partition to be tried three times", || async {
            handler.seen().len() >= 3
        })
        .await;
    assert!(handler.seen().iter().all(|text| text == "c1"));
    handler.set(Tree::Open);
    world
        .until("both to be done", || async { handler.done().len() == 2 })
        .await;
    assert_eq!(handler.done(), ["c1", "c2"]);
    shutdown.stop();
    running.await.unwrap().unwrap();
}

async fn partition_of_a_message_that_meets_an_outage_is_held(world: World) {
    let handler = TreeHandler::new(Tree::Away);
    for text in ["c1", "c2", "o1"] {
        world.send(&PARTITIONED, text).await;
    }
    all(&consumer(&world, PARTITIONED, &handler)).await.unwrap();
    assert_eq!(handler.done(), ["o1"]);
    let (ready, in_flight, delayed, dead) = world.depth(&PARTITIONED).await;
    assert_eq!(
        (ready, in_flight, delayed, dead),
        (1, 0, 1, 0),
        "the next one goes first then"
    );
    assert_eq!(
        reason(&world, "c1").await,
        Some("the peer is away".to_owned())
    );
}

async fn message_of_a_queue_without_partitions_is_deferred(world: World) {
    let handler = TreeHandler::new(Tree::Closed(HOUR));
    world.send(&OUT, "c1").await;
    world.send(&OUT, "o1").await;
    all(&consumer(&world, OUT, &handler)).await.unwrap();
    assert_eq!(handler.done(), ["o1"]);
    assert_eq!(world.depth(&OUT).await, (0, 0, 1, 0));
}

async fn nothing_is_reserved_while_the_next_queue_is_full(world: World) {
    const NEXT: Queue<Note> = Queue::new(
        "next",
        Policy {
            max_depth: Some(1),
            ..Policy::DEFAULT
        },
    );
    let handler = TreeHandler::new(Tree::Open);
    world.send(&OUT, "o1").await;
    world.send(&NEXT, "full").await;
    let consumer = consumer(&world, OUT, &handler).with_room_in(NEXT.spec());
    all(&consumer).await.unwrap();
    assert_eq!(world.depth(&OUT).await, (1, 0, 0, 0));
    let delivery = world.reserve(&NEXT).await;
    let done = done();
    world.bus.settle(&delivery.lease, &done).await.unwrap();
    all(&consumer).await.unwrap();
    assert_eq!(handler.done(), ["o1"]);
}
