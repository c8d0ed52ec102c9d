//! Wrong secrets, counted by client.
//!
//! A client that sent too many gets 429, but the right secret is accepted from anywhere, at any time: behind a
//! proxy all clients have one address, and whoever guesses would lock Harbormaster out, which never repeats a
//! request. So this keeps the log and the answers honest; what keeps guesses from being right is a secret that is long.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;

use jiff::Timestamp;
use runtime::Clock;
use tracing::warn;

use crate::client::Client;

/// How many wrong secrets a minute a client may send.
const MAX_WRONG: u32 = 10;
/// The most clients that are counted. When there are more, the others' first guess is one too many.
const MAX_CLIENTS: usize = 4096;
const MINUTE: Duration = Duration::from_secs(60);

/// The guesses of this minute.
pub(crate) struct Guesses {
    clock: Arc<dyn Clock>,
    minute: Mutex<Minute>,
}

struct Minute {
    began: Timestamp,
    wrong: HashMap<Client, u32>,
}

impl Guesses {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        let began = clock.now();
        Self {
            clock,
            minute: Mutex::new(Minute {
                began,
                wrong: HashMap::new(),
            }),
        }
    }

    /// Counts a wrong secret that was sent to `path`. Says how many seconds a client that sent too many is to wait.
    pub(crate) fn count(&self, client: Client, path: &str) -> Option<u64> {
        let now = self.clock.now();
        let mut minute = self.minute.lock();
        let mut passed = now.duration_since(minute.began).unsigned_abs();
        if passed >= MINUTE {
            *minute = Minute {
                began: now,
                wrong: HashMap::new(),
            };
            passed = Duration::ZERO;
        }
        let wait = (MINUTE - passed).as_secs().max(1);
        let is_full = minute.wrong.len() >= MAX_CLIENTS;
        let wrong = match minute.wrong.get_mut(&client) {
            Some(wrong) => wrong,
            None if is_full => return Some(wait),
            None => minute.wrong.entry(client).or_insert(0),
        };
        *wrong = wrong.saturating_add(1);
        match *wrong {
            ..MAX_WRONG => warn!(?client, path, "a request without the secret was refused"),
            MAX_WRONG => warn!(
                ?client,
                path, "a request without the secret was refused, further ones are not logged"
            ),
            _ => return Some(wait),
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use runtime::ManualClock;

    use super::*;

    #[test]
    fn ten_a_minute_are_refused_and_then_told_to_wait_each_client_for_itself() {
        let clock = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
        let guesses = Guesses::new(clock.clone());
        let client = |number: u8| Client::from(IpAddr::from([192, 0, 2, number]));
        clock.advance(Duration::from_secs(15));
        for _ in 0..10 {
            assert_eq!(guesses.count(client(1), "/"), None);
        }
        assert_eq!(guesses.count(client(1), "/"), Some(45));
        assert_eq!(guesses.count(client(2), "/"), None);
        clock.advance(Duration::from_secs(45));
        assert_eq!(guesses.count(client(1), "/"), None);
    }

    #[test]
    fn the_clients_that_are_counted_are_bounded() {
        let guesses = Guesses::new(Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH)));
        let client = |number: u32| Client::from(IpAddr::from(number.to_be_bytes()));
        for number in 0..10_000 {
            let told = guesses.count(client(number), "/").is_some();
            assert_eq!(told, number >= 4096, "{number}");
        }
        assert_eq!(guesses.minute.lock().wrong.len(), 4096);
        assert_eq!(
            guesses.count(client(0), "/"),
            None,
            "who is counted goes on being counted"
        );
    }
}
