//! Values as bytes.

use std::cell::RefCell;

use crate::BusError;

thread_local! {
    /// Where values are encoded, so that their own memory is taken once and in the right size.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The most scratch memory that a thread keeps, in bytes.
const KEPT: usize = 64 * 1024;

/// MessagePack with named fields.
pub(crate) fn encode<T: serde::Serialize>(
    queue: &'static str,
    value: &T,
) -> Result<Vec<u8>, BusError> {
    SCRATCH.with_borrow_mut(|scratch| {
        scratch.clear();
        let written = rmp_serde::encode::write_named(scratch, value);
        // A large one is not copied.
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
