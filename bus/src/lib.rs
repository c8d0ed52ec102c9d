#![doc = include_str!("../README.md")]

mod admin;
mod blob;
mod body_json;
mod claim;
mod consumer;
mod context;
mod dyn_handler;
mod encoding;
mod envelope;
mod error;
mod handler;
mod isolation;
mod leader_lease;
mod memory;
mod message;
mod metrics;
mod policy;
mod queue;
mod queue_admin;
mod records;
mod redis;
#[cfg(test)]
mod tests;
mod transport;
mod worker;

pub use admin::{
    Admin, AdminError, Contents, DeadLetterContents, DeadLetterFilter, DeadLetterReport,
    KeptDeadLetter, MessageReport, Messages, QueueReport, Requeued, SelectedDeadLetters,
    Usefulness,
};
pub use blob::Blob;
pub use body_json::Body;
pub use claim::{Claim, ClaimField, ClaimHandle};
pub use consumer::Consumer;
pub use context::Context;
pub use envelope::{EnqueueOutcome, Envelope, Outgoing};
pub use error::BusError;
pub use handler::{Cause, Handler, Outcome, Requeue, RequeueReason};
pub use isolation::Isolation;
pub use leader_lease::LeaderLease;
pub use memory::MemoryBus;
pub use message::{DecodeError, Message};
pub use policy::{Bound, Policy, QueueSpec};
pub use queue::{Producer, Queue};
pub use queue_admin::{
    DeadLetter, DeadLetterPayload, Depth, LATE, MessageSelector, MessageState, QueueAdmin,
    QueueStatus, QueuedMessage,
};
pub use records::{CompareAndSet, Field, Record, RecordStore, RecordUpdate};
pub use redis::{RedisBus, RedisOptions};
pub use runtime::{Backoff, Retry, Retryable};
pub use transport::{
    Bus, Delivery, Lease, POISON_SUSPECT_DELIVERIES, Reserve, SettleRequest, Settlement,
};
