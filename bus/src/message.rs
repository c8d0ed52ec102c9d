//! Messages of queues.

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
    /// The version of the bodies that this release encodes.
    const VERSION: u16;

    /// Decodes a body that was encoded as `version`.
    fn decode(version: u16, body: &Blob) -> Result<Self, DecodeError> {
        if version != Self::VERSION {
            return Err(DecodeError::Version {
                found: version,
                known: Self::VERSION,
            });
        }
        blob::decode(body).map_err(DecodeError::Body)
    }

    /// Records the subject of this message in the span of its delivery, so that each log line of the delivery shows it.
    /// The span has the empty fields `build` and `task`.
    fn describe(&self, _span: &Span) {}
}

/// The failure to decode a body. Its message becomes a dead letter with its bytes.
#[derive(Debug, Error)]
pub enum DecodeError {
    /// The body has a version that this release cannot decode.
    #[error("unknown message version {found}, this release reads version {known}")]
    Version {
        /// The version that the message carries.
        found: u16,
        /// The version that this release encodes.
        known: u16,
    },
    /// The bytes do not fit the type.
    #[error("undecodable message body")]
    Body(#[source] rmp_serde::decode::Error),
}
