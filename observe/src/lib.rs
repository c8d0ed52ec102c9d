//! What everyone needs to be seen and to reach others: logs, metrics, StatsD, Sentry, the HTTP
//! clients and the sanitizer of foreign text.

pub mod http;
pub mod log;
pub mod metrics;
pub mod sanitize;
pub mod sentry;
pub mod statsd;
pub mod testing;
