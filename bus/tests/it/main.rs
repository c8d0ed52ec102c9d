//! What the bus promises, on both backends.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

mod bounds;
mod claim;
mod consumer;
mod contract;
mod example;
mod hold;
mod leader_lease;
mod ledger;
mod model;
mod operate;
mod operator;
mod quarantine;
mod redis_only;
mod servers;
mod span;
mod world;
mod wrong_type;
