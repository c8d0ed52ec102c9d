#![doc = include_str!("../README.md")]

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
mod leader_lease;
mod ledger;
mod memory;
mod message;
mod metrics;
mod operate;
mod operator;
mod policy;
mod quarantine;
mod queue;
mod redis;
mod retry;
mod transport;
mod worker;

pub use blob::Blob;
pub use body_json::Body;
pub use claim::{Claim, ClaimField, ClaimHandle};
pub use consumer::Consumer;
pub use context::Context;
pub use envelope::{Envelope, Outgoing, Pushed};
pub use error::BusError;
pub use handler::{Cause, Handler, Outcome, Requeue, RequeueReason};
pub use leader_lease::LeaderLease;
pub use ledger::{CompareAndSet, Fact, Field, Ledger, Record};
pub use memory::MemoryBus;
pub use message::{DecodeError, Message};
pub use operate::{
    DeadLetter, Depth, LATE, MessageState, Operate, QueueStatus, Remains, Waiting, Which,
};
pub use operator::{
    ChosenLetters, Contents, KeptLetter, LetterContents, LetterReport, Letters, MessageReport,
    Messages, Operator, OperatorError, QueueReport, Requeued, Usefulness,
};
pub use policy::{Backoff, Bound, Policy, QueueSpec};
pub use quarantine::Quarantine;
pub use queue::{Producer, Queue};
pub use redis::{RedisBus, RedisOptions};
pub use retry::{Retry, Retryable};
pub use transport::{Bus, Ending, Lease, Leased, Reserve, SUSPECT, Settlement};
