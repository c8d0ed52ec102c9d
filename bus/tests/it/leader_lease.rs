//! Of several processes one holds a lease. They meet on the bus, and have clocks of their own.

use std::{sync::Arc, time::Duration};

use bus::{Bus, LeaderLease};
use runtime::ManualClock;

use crate::{on_both, world::World};

on_both!(
    one_of_two_holds_the_lease_and_keeps_it,
    a_holder_that_dies_is_followed_within_thirty_seconds,
    a_holder_that_was_stopped_for_long_notices_at_its_next_beat,
    a_holder_that_leaves_is_followed_at_once,
    leases_with_other_names_are_free,
);

struct Process {
    clock: Arc<ManualClock>,
    lease: LeaderLease,
}

impl Process {
    fn new(bus: &Arc<dyn Bus>, now: &str) -> Self {
        let clock = Arc::new(ManualClock::new(now.parse().unwrap()));
        Self {
            lease: LeaderLease::new(bus.clone(), clock.clone(), "poller"),
            clock,
        }
    }

    async fn beat(&mut self) -> bool {
        self.clock.advance(LeaderLease::RENEW_INTERVAL);
        self.lease.try_acquire().await.unwrap()
    }
}

/// Two processes whose clocks are years apart.
fn two(world: &World) -> (Process, Process) {
    (
        Process::new(&world.bus, "2026-11-21T12:00:00Z"),
        Process::new(&world.other, "1999-12-31T23:59:59Z"),
    )
}

async fn one_of_two_holds_the_lease_and_keeps_it(world: World) {
    let (mut first, mut second) = two(&world);
    for _ in 0..20 {
        assert_eq!((first.beat().await, second.beat().await), (true, false));
    }
    first.lease.release().await.unwrap();
    let (first, second) = futures::join!(first.lease.try_acquire(), second.lease.try_acquire());
    assert_eq!(
        u8::from(first.unwrap()) + u8::from(second.unwrap()),
        1,
        "of two who come at once one has it"
    );
}

async fn a_holder_that_dies_is_followed_within_thirty_seconds(world: World) {
    let (mut first, mut second) = two(&world);
    assert_eq!((first.beat().await, second.beat().await), (true, false));
    // It died right after a beat that nobody had seen yet.
    assert!(first.beat().await);
    let mut waited = Duration::ZERO;
    while !second.beat().await {
        waited += LeaderLease::RENEW_INTERVAL;
        assert!(waited < Duration::from_secs(30), "nobody follows");
    }
    assert!(
        waited >= Duration::from_secs(10),
        "two beats that come late are no death"
    );
}

async fn a_holder_that_was_stopped_for_long_notices_at_its_next_beat(world: World) {
    let (mut first, mut second) = two(&world);
    assert!(first.beat().await);
    while !second.beat().await {}
    first.clock.advance(Duration::from_secs(3600));
    assert_eq!((first.beat().await, second.beat().await), (false, true));
}

async fn a_holder_that_leaves_is_followed_at_once(world: World) {
    let (mut first, mut second) = two(&world);
    assert_eq!((first.beat().await, second.beat().await), (true, false));
    second.lease.release().await.unwrap();
    assert!(first.beat().await, "it is not another's to leave");
    first.lease.release().await.unwrap();
    assert!(second.beat().await);
}

async fn leases_with_other_names_are_free(world: World) {
    let (mut first, second) = two(&world);
    assert!(first.beat().await);
    assert!(
        LeaderLease::new(world.other.clone(), second.clock.clone(), "reporter")
            .try_acquire()
            .await
            .unwrap()
    );
}
