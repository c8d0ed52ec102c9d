//! The monitor against a real RabbitMQ with PulseGuardian's rules.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

mod events;
mod failures;
mod world;
