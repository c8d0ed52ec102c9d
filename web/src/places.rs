//! Who may be connected: so many of one client, and so many in all.
//!
//! A place is taken either by a connection that we answer on, which takes as long as we let it, or by one that *waits
//! for its client*: it is idle, or its request comes slowly, or not at all. Only clients can make the latter many, so
//! they are what the limits are about: beyond a limit, the connection that has waited for its client the longest
//! is closed for the new one. Refusing the new one instead would cost builds, since Harbormaster never repeats a
//! request: whoever holds connections open, perhaps through the proxy that Harbormaster's requests come through too,
//! would keep it out. So he keeps out only himself: a request that is sent at once is answered at once, and does not wait.
//!
//! When every place is answered on, new connections wait in the system's queue of connections, which costs nothing
//! here. Answers take seconds at most, and Harbormaster waits for a minute.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::{Mutex, MutexGuard};

use tokio::sync::Notify;

use crate::client::Client;

/// The places of a server.
pub(crate) struct Places {
    /// The most connections of one client that wait for it.
    per_client: usize,
    shared: Arc<Shared>,
}

struct Shared {
    /// The most connections.
    total: usize,
    taken: Mutex<Taken>,
    /// A place became free, or may be made free.
    change: Notify,
}

#[derive(Default)]
struct Taken {
    /// Grows with everything that happens.
    tick: u64,
    places: BTreeMap<u64, Occupant>,
}

struct Occupant {
    client: Client,
    /// Since which tick it waits for its client, if it does.
    waits_since: Option<u64>,
    leave: Arc<Notify>,
}

/// A connection's place. It is free again when this is dropped.
pub(crate) struct Place {
    number: u64,
    leave: Arc<Notify>,
    shared: Arc<Shared>,
}

impl Shared {
    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock()
    }
}

impl Taken {
    fn tick(&mut self) -> u64 {
        self.tick += 1;
        self.tick
    }

    /// Closes the connection, of those of `client` or of all, that has waited the longest. `false` when none waits.
    fn make_way(&mut self, client: Option<Client>) -> bool {
        let eligible = self
            .places
            .iter()
            .filter(|(_, it)| client.is_none_or(|client| client == it.client));
        let waiting = eligible.filter_map(|(number, it)| Some((it.waits_since?, *number)));
        let Some((_, number)) = waiting.min() else {
            return false;
        };
        if let Some(occupant) = self.places.remove(&number) {
            occupant.leave.notify_one();
        }
        true
    }
}

impl Places {
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

    /// A place for a connection of `client`, as soon as there is one.
    pub(crate) async fn take(&self, client: Client) -> Place {
        loop {
            let change = self.shared.change.notified();
            if let Some(place) = self.try_take(client) {
                return place;
            }
            change.await;
        }
    }

    fn try_take(&self, client: Client) -> Option<Place> {
        let mut taken = self.shared.taken();
        let waiting = taken
            .places
            .values()
            .filter(|it| it.client == client && it.waits_since.is_some());
        if waiting.count() >= self.per_client {
            taken.make_way(Some(client));
        }
        if taken.places.len() >= self.shared.total && !taken.make_way(None) {
            return None;
        }
        let (number, leave) = (taken.tick(), Arc::new(Notify::new()));
        taken.places.insert(
            number,
            Occupant {
                client,
                waits_since: Some(number),
                leave: leave.clone(),
            },
        );
        Some(Place {
            number,
            leave,
            shared: self.shared.clone(),
        })
    }
}

impl Place {
    /// Resolves when the connection is to be closed for another one.
    pub(crate) async fn lost(&self) {
        self.leave.notified().await;
    }

    /// A whole request is there, and is being answered: it does not wait for its client any more. `false` when the
    /// place is lost already.
    pub(crate) fn answers(&self) -> bool {
        let mut taken = self.shared.taken();
        taken
            .places
            .get_mut(&self.number)
            .map(|it| it.waits_since = None)
            .is_some()
    }

    /// The answer is there, and the next request is waited for.
    pub(crate) fn answered(&self) {
        let mut taken = self.shared.taken();
        let now = taken.tick();
        if let Some(occupant) = taken.places.get_mut(&self.number) {
            occupant.waits_since = Some(now);
        }
        self.shared.change.notify_one();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.taken().places.remove(&self.number);
        self.shared.change.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn client(number: u8) -> Client {
        Client::from(IpAddr::from([192, 0, 2, number]))
    }

    fn is_lost(place: &Place) -> bool {
        !place.shared.taken().places.contains_key(&place.number)
    }

    #[test]
    fn beyond_its_limit_a_client_loses_what_waited_the_longest_for_it() {
        let places = Places::new(3, 100);
        let other = places.try_take(client(2)).unwrap();
        let all: Vec<_> = (0..3)
            .map(|_| places.try_take(client(1)).unwrap())
            .collect();
        assert!(all[0].answers());
        all[0].answered();
        assert!(
            all[2].answers(),
            "this one does not wait, so the limit is not reached"
        );
        let fourth = places.try_take(client(1)).unwrap();
        assert!(!all.iter().any(is_lost));
        let _fifth = places.try_take(client(1)).unwrap();
        assert_eq!(
            [&all[0], &all[1], &all[2], &fourth, &other].map(is_lost),
            [false, true, false, false, false]
        );
        assert!(!all[1].answers(), "its request comes too late");
    }

    #[test]
    fn when_all_is_full_whoever_waited_the_longest_makes_way_and_answers_never_do() {
        let places = Places::new(100, 3);
        let all: Vec<_> = (0..3)
            .map(|number| places.try_take(client(number)).unwrap())
            .collect();
        assert!(all[0].answers());
        let fourth = places.try_take(client(9)).unwrap();
        assert_eq!(
            [&all[0], &all[1], &all[2], &fourth].map(is_lost),
            [false, true, false, false]
        );
        assert!(all[2].answers() && fourth.answers());
        assert!(places.try_take(client(9)).is_none());
        all[2].answered();
        assert!(places.try_take(client(9)).is_some());
        assert!(is_lost(&all[2]));
    }

    #[tokio::test]
    async fn a_connection_waits_for_a_place_while_every_other_is_answered_on() {
        let places = Places::new(1, 1);
        let first = places.take(client(1)).await;
        assert!(first.answers());
        let second = async {
            let second = places.take(client(2)).await;
            assert!(second.answers());
            second
        };
        let ends = async { drop(first) };
        // Polled in this order.
        let (second, ()) = tokio::join!(second, ends);
        let third = places.take(client(3));
        let (third, ()) = tokio::join!(third, async { second.answered() });
        second.lost().await;
        assert!(third.answers());
    }
}
