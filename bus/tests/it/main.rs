//! What the bus promises, on both backends.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

mod admin;
mod bounds;
mod claim;
mod consumer;
mod contract;
mod example;
mod hold;
mod isolation;
mod leader_lease;
mod model;
mod outages;
mod partitions;
mod queue_admin;
mod records;
mod redis_only;
mod redis_world;
mod servers;
mod span;
mod waiting;
mod world;
mod wrong_type;
