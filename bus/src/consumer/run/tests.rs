use std::time::Duration;

use super::*;
use crate::{
    Bus, MemoryBus, QueueAdmin,
    tests::{Done, NOTES, bus_with_note, lose_lease, reserve},
};
use runtime::ManualClock;

/// A bus on which a poison suspect waits.
async fn bus_with_suspect() -> (Arc<ManualClock>, Arc<MemoryBus>) {
    let (clock, bus) = bus_with_note().await;
    for _ in 0..POISON_SUSPECT_DELIVERIES {
        lose_lease(&bus, &clock).await;
    }
    (clock, bus)
}

/// The tasks of a run, one call at a time.
struct Steps<'r, 'c> {
    run: &'r Run<'c>,
    tasks: JoinSet<Ended>,
}

impl Steps<'_, '_> {
    /// Begins a delivery. Returns its end when it was not handled.
    fn begin(&mut self, delivery: Delivery) -> Option<Ended> {
        self.run.add_reserved(std::slice::from_ref(&delivery));
        let ended = self.run.begin(delivery, None, &mut None, &mut self.tasks)?;
        self.run.in_flight.lock().unhandled -= 1;
        Some(ended)
    }

    async fn written(&self, ended: &Ended) {
        let worker = &self.run.consumer.worker;
        worker
            .settle(std::slice::from_ref(ended), &Shutdown::new())
            .await;
    }

    /// Waits for the end of a delivery that was handled, and settles it.
    async fn end(&mut self) {
        let ending = tokio::time::timeout(Duration::from_secs(10), self.tasks.join_next());
        let ended = ending.await.expect("all have left").unwrap().unwrap();
        self.written(&ended).await;
        self.run.in_flight.lock().unhandled -= 1;
        self.run.settled(&[ended]);
    }
}

/// The bus has written a release, and delivers the message again before its consumer knows. The reply to the release must
/// not end the isolation of the new delivery, which would then wait without end and keep its lease.
#[tokio::test]
async fn late_reply_to_a_release_leaves_the_next_delivery_of_its_message_alone() {
    let (clock, bus) = bus_with_suspect().await;
    let consumer = Consumer::new(bus.clone(), clock, NOTES, Done);
    let run = Run::new(&consumer, Shutdown::new());
    let (run, tasks) = (&run, JoinSet::new());
    let mut steps = Steps { run, tasks };

    let other = bus.isolation().begin();
    let released = steps.begin(reserve(&bus).await);
    let released = released.expect("another suspect is alone");
    steps.written(&released).await;
    drop(other);

    run.update_permit(&mut run.in_flight.lock());
    assert!(steps.begin(reserve(&bus).await).is_none());
    // As long as this consumer is reserving, the new delivery waits for it.
    let _ = run.request();
    run.settled(&[released]);
    assert!(bus.isolation().is_wanted());

    run.add_reserved(&[]);
    run.update_permit(&mut run.in_flight.lock());
    steps.end().await;
    assert!(!bus.isolation().is_wanted());
    let depth = bus.depth(&NOTES.spec()).await.unwrap();
    assert_eq!((depth.ready, depth.in_flight, depth.delayed), (0, 0, 0));
}

/// A process that stood still finds the lease of its suspect lost, and is given the message again meanwhile.
#[tokio::test]
async fn suspect_without_a_lease_is_alone_until_it_has_ended() {
    let (clock, bus) = bus_with_suspect().await;
    let consumer = Consumer::new(bus.clone(), clock.clone(), NOTES, Done);
    let run = Run::new(&consumer, Shutdown::new());
    let (run, tasks) = (&run, JoinSet::new());
    let mut steps = Steps { run, tasks };

    let other_consumer = bus.isolation().enter();
    assert!(steps.begin(reserve(&bus).await).is_none());
    clock.advance(2 * NOTES.spec().policy.lease);
    let released = steps.begin(reserve(&bus).await);
    let released = released.expect("the earlier delivery is alone");
    steps.written(&released).await;
    run.settled(&[released]);
    assert!(bus.isolation().is_wanted());

    // The other consumer stays, so only the lost lease ends the delivery.
    steps.end().await;
    assert!(!bus.isolation().is_wanted());
    drop(other_consumer);
}
