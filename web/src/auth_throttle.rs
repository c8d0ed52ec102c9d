//! Counts wrong secrets by client, and logs them.
//!
//! A client that sent too many gets 429, but the right secret is accepted from any client at any time. Behind a proxy all
//! clients share one address, and a lock-out would hit Harbormaster too, which never repeats a request. So the throttle
//! bounds the log; only a long secret protects against guessing.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;

use jiff::Timestamp;
use runtime::Clock;
use tracing::warn;

use crate::client::ClientAddr;

/// The number of wrong secrets in a minute from which on a client gets 429.
const MAX_WRONG: u32 = 10;
/// The most clients that are counted. Beyond that, each other client is throttled at its first wrong secret.
const MAX_CLIENTS: usize = 4096;
const MINUTE: Duration = Duration::from_secs(60);

/// The counts of the current minute.
pub(crate) struct AuthThrottle {
    clock: Arc<dyn Clock>,
    minute: Mutex<Minute>,
}

struct Minute {
    began: Timestamp,
    wrong: HashMap<ClientAddr, u32>,
}

impl AuthThrottle {
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

    /// Counts a wrong secret that `client` sent to `path`. Returns the seconds to wait for a client that sent too many.
    pub(crate) fn count(&self, client: ClientAddr, path: &str) -> Option<u64> {
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
            ..MAX_WRONG => warn!(?client, path, "refused a request without the secret"),
            MAX_WRONG => warn!(
                ?client,
                path,
                "refused a request without the secret; further ones of this minute are not logged"
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
    fn client_is_throttled_after_ten_wrong_secrets_in_a_minute() {
        let clock = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
        let throttle = AuthThrottle::new(clock.clone());
        let client = |number: u8| ClientAddr::from(IpAddr::from([192, 0, 2, number]));
        clock.advance(Duration::from_secs(15));
        for _ in 0..10 {
            assert_eq!(throttle.count(client(1), "/"), None);
        }
        assert_eq!(throttle.count(client(1), "/"), Some(45));
        assert_eq!(throttle.count(client(2), "/"), None);
        clock.advance(Duration::from_secs(45));
        assert_eq!(throttle.count(client(1), "/"), None);
    }

    #[test]
    fn number_of_counted_clients_is_bounded() {
        let throttle = AuthThrottle::new(Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH)));
        let client = |number: u32| ClientAddr::from(IpAddr::from(number.to_be_bytes()));
        for number in 0..10_000 {
            let throttled = throttle.count(client(number), "/").is_some();
            assert_eq!(throttled, number >= 4096, "{number}");
        }
        assert_eq!(throttle.minute.lock().wrong.len(), 4096);
        assert_eq!(
            throttle.count(client(0), "/"),
            None,
            "a counted client stays counted"
        );
    }
}
