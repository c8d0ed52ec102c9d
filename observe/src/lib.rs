//! Logs, metrics, StatsD, Sentry, and the HTTP clients of all crates.

pub mod http;
pub mod log;
pub mod metrics;
pub mod sentry;
pub mod statsd;
