//! Encoding of values.

use std::cell::RefCell;

use crate::BusError;

thread_local! {
    /// The buffer in which values are encoded first: so each result is allocated once, in its size.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The maximum size of a buffer that a thread keeps, in bytes.
const KEPT: usize = 64 * 1024;

/// Encodes a value as MessagePack with named fields. `queue` is the queue or store that the error names.
pub(crate) fn encode<T: serde::Serialize>(
    queue: &'static str,
    value: &T,
) -> Result<Vec<u8>, BusError> {
    SCRATCH.with_borrow_mut(|scratch| {
        scratch.clear();
        let written = rmp_serde::encode::write_named(scratch, value);
        // A large result is not copied.
        let encoded = if scratch.len() > KEPT {
            std::mem::take(scratch)
        } else {
            scratch.clone()
        };
        written
            .map(|()| encoded)
            .map_err(|source| BusError::Encode { queue, source })
    })
}
