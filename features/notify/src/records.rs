//! The names and the retention of the notifier's records.

use std::time::Duration;

use bus::{BusError, DecodeError};
use sha2::{Digest as _, Sha256};

/// The time for which a notification is not sent a second time, and a recipient stays muted.
pub(crate) const DAY: Duration = Duration::from_secs(24 * 3600);

/// The id of a record: a hash, so that it is short however long the parts are, and reveals no address.
pub(crate) fn hash_id(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.len().to_be_bytes());
        hash.update(part);
    }
    hash.finalize()[..16]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

pub(crate) fn unreadable(id: &str) -> impl Fn(DecodeError) -> BusError {
    move |source| BusError::Record {
        record: id.to_owned(),
        source,
    }
}
