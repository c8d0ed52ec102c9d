//! The crate against a real RabbitMQ with PulseGuardian's rules, forwarding to a bus in memory and on a real Redis.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

mod docs;
mod forwarding;
mod manual_ack;
mod outages;
mod permissions;
mod publishing;
mod routing;
mod tailing;
mod tls;
mod world;
