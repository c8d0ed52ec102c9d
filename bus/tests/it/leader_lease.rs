//! Of several processes one holds a lease. They meet on the bus, and have clocks of their own.

use std::{sync::Arc, time::Duration};

use bus::{Bus, LeaderLease};
use runtime::ManualClock;

use crate::{on_both, world::World};

on_both!(
    one_of_two_is_leader_and_stays_it,
    leader_that_dies_is_replaced_within_thirty_seconds,
    leader_that_was_replaced_notices_at_its_next_renewal,
    leader_that_releases_is_replaced_at_once,
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

    async fn renew(&mut self) -> bool {
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

async fn one_of_two_is_leader_and_stays_it(world: World) {
    let (mut first, mut second) = two(&world);
    for _ in 0..20 {
        assert_eq!((first.renew().await, second.renew().await), (true, false));
    }
    first.lease.release().await.unwrap();
    let (first, second) = futures::join!(first.lease.try_acquire(), second.lease.try_acquire());
    assert_eq!(
        u8::from(first.unwrap()) + u8::from(second.unwrap()),
        1,
        "of two who come at once one has it"
    );
}

async fn leader_that_dies_is_replaced_within_thirty_seconds(world: World) {
    let (mut first, mut second) = two(&world);
    assert_eq!((first.renew().await, second.renew().await), (true, false));
    // It died right after a renewal that the other had not read.
    assert!(first.renew().await);
    let mut waited = Duration::ZERO;
    while !second.renew().await {
        waited += LeaderLease::RENEW_INTERVAL;
        assert!(waited < Duration::from_secs(30), "nobody follows");
    }
    assert!(
        waited >= Duration::from_secs(10),
        "two renewals that come late are no death"
    );
}

async fn leader_that_was_replaced_notices_at_its_next_renewal(world: World) {
    let (mut first, mut second) = two(&world);
    assert!(first.renew().await);
    while !second.renew().await {}
    first.clock.advance(Duration::from_secs(3600));
    assert_eq!((first.renew().await, second.renew().await), (false, true));
}

async fn leader_that_releases_is_replaced_at_once(world: World) {
    let (mut first, mut second) = two(&world);
    assert_eq!((first.renew().await, second.renew().await), (true, false));
    second.lease.release().await.unwrap();
    assert!(first.renew().await, "it is not another's to leave");
    first.lease.release().await.unwrap();
    assert!(second.renew().await);
}

async fn leases_with_other_names_are_free(world: World) {
    let (mut first, second) = two(&world);
    assert!(first.renew().await);
    assert!(
        LeaderLease::new(world.other.clone(), second.clock.clone(), "reporter")
            .try_acquire()
            .await
            .unwrap()
    );
}
