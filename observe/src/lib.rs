//! Logs, metrics, StatsD and Sentry.

pub mod log;
pub mod metrics;
pub mod sentry;
pub mod statsd;
