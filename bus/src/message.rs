//! What may travel through a queue.

use serde::{Serialize, de::DeserializeOwned};
use thiserror::Error;
use tracing::Span;

use crate::blob::{self, Blob};

/// A typed, versioned message.
///
/// Bodies are MessagePack with named fields, so a field may be added (with `#[serde(default)]`) without a new
/// version. A change that old bytes do not survive takes a new [`Message::VERSION`] and a [`Message::decode`] that
/// still reads the old one.
pub trait Message: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The version that is written.
    const VERSION: u16;

    /// Reads a body that was written as `version`.
    fn decode(version: u16, body: &Blob) -> Result<Self, DecodeError> {
        if version != Self::VERSION {
            return Err(DecodeError::Version {
                found: version,
                known: Self::VERSION,
            });
        }
        blob::decode(body).map_err(DecodeError::Body)
    }

    /// Records what this message is about in the span of its delivery, so that each log line of the delivery shows it.
    /// The span has the empty fields `build` and `task`.
    fn describe(&self, _span: &Span) {}
}

/// Why a body could not be read. Such a message becomes a dead letter as it is.
#[derive(Debug, Error)]
pub enum DecodeError {
    /// Written by a release that this one does not know.
    #[error("unknown message version {found}, this release reads version {known}")]
    Version {
        /// The version that the message carries.
        found: u16,
        /// The version that this release writes.
        known: u16,
    },
    /// The bytes are not what the type says.
    #[error("undecodable message body")]
    Body(#[source] rmp_serde::decode::Error),
}
