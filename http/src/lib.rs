//! Outbound HTTP: the clients of all crates, and what guards each call.
//!
//! A call is [`send`] for a response that fits into memory, or [`open`] for one that is read as it arrives. Both apply
//! [`Limits`], and no error holds the address, which may contain a secret. Within a call, [`runtime::Attempts`] tries again
//! with [`HttpError::pause`]; [`runtime::FailureLog`] logs an outage once.

mod client;
mod error;
mod headers;
mod public;
mod redact;
mod response;

pub use client::{ClientError, client};
pub use error::HttpError;
pub use headers::retry_after;
pub use public::{Networks, NoNetwork, NotPublic, PublicClient, is_public, public_client};
pub use redact::redact;
pub use response::{Incoming, Limits, Response, open, send};
