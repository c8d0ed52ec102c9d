//! What everyone needs to be seen and to reach others: logs, metrics, StatsD, Sentry, and
//! the HTTP clients.

pub mod http;
pub mod log;
pub mod metrics;
pub mod sentry;
pub mod statsd;
