//! Limits the number of connections: for each client, and in all.
//!
//! A connection either *responds* or *waits for its client*: it is idle, or its request arrives slowly or not at all. We
//! bound the time of a response, but clients decide how long connections wait. So the limits evict waiting connections:
//! beyond a limit, the one that has waited longest is closed for the new one. Refusing the new one instead would cost
//! builds, since Harbormaster never repeats a request: a client that holds connections open, perhaps through the same proxy
//! as Harbormaster, would keep Harbormaster out. With eviction such a client harms itself alone: a request that arrives at
//! once does not wait, and gets its response.
//!
//! When all connections respond, new ones wait in the system's backlog, which costs nothing here. Responses take seconds at
//! most, and Harbormaster waits for a minute.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::{Mutex, MutexGuard};

use tokio::sync::Notify;

use crate::client::ClientAddr;

/// The connection slots of a server.
pub(crate) struct ConnectionLimit {
    /// The most connections of one client that wait for it.
    per_client: usize,
    shared: Arc<Shared>,
}

struct Shared {
    /// The most connections.
    total: usize,
    taken: Mutex<Slots>,
    /// Notified when a slot is free, or can be evicted.
    change: Notify,
}

#[derive(Default)]
struct Slots {
    /// A counter that orders the events.
    tick: u64,
    slots: BTreeMap<u64, Occupant>,
}

struct Occupant {
    client: ClientAddr,
    /// The tick from which on it waits for its client; `None` while it responds.
    waits_since: Option<u64>,
    leave: Arc<Notify>,
}

/// The slot of a connection, which is free again when this is dropped.
pub(crate) struct ConnectionSlot {
    number: u64,
    leave: Arc<Notify>,
    shared: Arc<Shared>,
}

impl Shared {
    fn taken(&self) -> MutexGuard<'_, Slots> {
        self.taken.lock()
    }
}

impl Slots {
    fn tick(&mut self) -> u64 {
        self.tick += 1;
        self.tick
    }

    /// Evicts the connection that has waited longest, of `client` or of all. `false` when none waits.
    fn evict(&mut self, client: Option<ClientAddr>) -> bool {
        let eligible = self
            .slots
            .iter()
            .filter(|(_, it)| client.is_none_or(|client| client == it.client));
        let waiting = eligible.filter_map(|(number, it)| Some((it.waits_since?, *number)));
        let Some((_, number)) = waiting.min() else {
            return false;
        };
        if let Some(occupant) = self.slots.remove(&number) {
            occupant.leave.notify_one();
        }
        true
    }
}

impl ConnectionLimit {
    pub(crate) fn new(per_client: usize, total: usize) -> Self {
        Self {
            per_client,
            shared: Arc::new(Shared {
                total,
                taken: Mutex::default(),
                change: Notify::new(),
            }),
        }
    }

    /// Waits for a slot for a connection of `client`.
    pub(crate) async fn acquire(&self, client: ClientAddr) -> ConnectionSlot {
        loop {
            let change = self.shared.change.notified();
            if let Some(slot) = self.try_acquire(client) {
                return slot;
            }
            change.await;
        }
    }

    fn try_acquire(&self, client: ClientAddr) -> Option<ConnectionSlot> {
        let mut taken = self.shared.taken();
        let waiting = taken
            .slots
            .values()
            .filter(|it| it.client == client && it.waits_since.is_some());
        if waiting.count() >= self.per_client {
            taken.evict(Some(client));
        }
        if taken.slots.len() >= self.shared.total && !taken.evict(None) {
            return None;
        }
        let (number, leave) = (taken.tick(), Arc::new(Notify::new()));
        taken.slots.insert(
            number,
            Occupant {
                client,
                waits_since: Some(number),
                leave: leave.clone(),
            },
        );
        Some(ConnectionSlot {
            number,
            leave,
            shared: self.shared.clone(),
        })
    }
}

impl ConnectionSlot {
    /// Resolves when the connection must be closed for another one.
    pub(crate) async fn evicted(&self) {
        self.leave.notified().await;
    }

    /// Marks the connection as responding: a whole request has arrived. `false` when the slot is evicted already.
    pub(crate) fn begin_response(&self) -> bool {
        let mut taken = self.shared.taken();
        taken
            .slots
            .get_mut(&self.number)
            .map(|it| it.waits_since = None)
            .is_some()
    }

    /// Marks the connection as waiting for the next request of its client.
    pub(crate) fn finish_response(&self) {
        let mut taken = self.shared.taken();
        let now = taken.tick();
        if let Some(occupant) = taken.slots.get_mut(&self.number) {
            occupant.waits_since = Some(now);
        }
        self.shared.change.notify_one();
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        self.shared.taken().slots.remove(&self.number);
        self.shared.change.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn client(number: u8) -> ClientAddr {
        ClientAddr::from(IpAddr::from([192, 0, 2, number]))
    }

    fn is_evicted(slot: &ConnectionSlot) -> bool {
        !slot.shared.taken().slots.contains_key(&slot.number)
    }

    #[test]
    fn client_beyond_its_limit_loses_its_longest_waiting_connection() {
        let limit = ConnectionLimit::new(3, 100);
        let other = limit.try_acquire(client(2)).unwrap();
        let all: Vec<_> = (0..3)
            .map(|_| limit.try_acquire(client(1)).unwrap())
            .collect();
        assert!(all[0].begin_response());
        all[0].finish_response();
        assert!(
            all[2].begin_response(),
            "this one does not wait, so the limit is not reached"
        );
        let fourth = limit.try_acquire(client(1)).unwrap();
        assert!(!all.iter().any(is_evicted));
        let _fifth = limit.try_acquire(client(1)).unwrap();
        assert_eq!(
            [&all[0], &all[1], &all[2], &fourth, &other].map(is_evicted),
            [false, true, false, false, false]
        );
        assert!(!all[1].begin_response(), "its request arrives too late");
    }

    #[test]
    fn full_server_evicts_the_longest_waiting_connection_and_no_responding_one() {
        let limit = ConnectionLimit::new(100, 3);
        let all: Vec<_> = (0..3)
            .map(|number| limit.try_acquire(client(number)).unwrap())
            .collect();
        assert!(all[0].begin_response());
        let fourth = limit.try_acquire(client(9)).unwrap();
        assert_eq!(
            [&all[0], &all[1], &all[2], &fourth].map(is_evicted),
            [false, true, false, false]
        );
        assert!(all[2].begin_response() && fourth.begin_response());
        assert!(limit.try_acquire(client(9)).is_none());
        all[2].finish_response();
        assert!(limit.try_acquire(client(9)).is_some());
        assert!(is_evicted(&all[2]));
    }

    #[tokio::test]
    async fn connection_waits_for_a_slot_while_all_others_respond() {
        let limit = ConnectionLimit::new(1, 1);
        let first = limit.acquire(client(1)).await;
        assert!(first.begin_response());
        let second = async {
            let second = limit.acquire(client(2)).await;
            assert!(second.begin_response());
            second
        };
        let ends = async { drop(first) };
        // Polled in this order.
        let (second, ()) = tokio::join!(second, ends);
        let third = limit.acquire(client(3));
        let (third, ()) = tokio::join!(third, async { second.finish_response() });
        second.evicted().await;
        assert!(third.begin_response());
    }
}
