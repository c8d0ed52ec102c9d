//! Verifies secrets that clients send, and logs the wrong ones.

use std::sync::Arc;

use parking_lot::Mutex;
use runtime::{Clock, LogRateLimiter};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tracing::warn;

use crate::client::ClientAddr;

/// Whether `offered` is `secret`. The time of the comparison depends on neither.
pub(crate) fn verify(secret: &SecretString, offered: &[u8]) -> bool {
    // Digests have one length, so that not even the secret's length can be timed.
    Sha256::digest(secret.expose_secret().as_bytes())
        .ct_eq(&Sha256::digest(offered))
        .into()
}

/// Logs requests that were refused for their secret: one line a minute at most, with the number since the last line.
///
/// No client is locked out. Behind a proxy all clients share one address, and a lock-out would hit Harbormaster too, which
/// never repeats a request. So only a long secret protects against guessing.
pub(crate) struct RefusalLog {
    clock: Arc<dyn Clock>,
    limiter: Mutex<LogRateLimiter>,
}

impl RefusalLog {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            limiter: Mutex::default(),
        }
    }

    /// Records a refused request of `client` to a route.
    pub(crate) fn record(&self, client: ClientAddr, route: &str) {
        let logged = self.limiter.lock().count(self.clock.now());
        if let Some(count) = logged {
            warn!(
                count,
                ?client,
                route,
                "refused a request without the secret"
            );
        }
    }
}
