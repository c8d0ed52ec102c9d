//! What everyone needs to be seen and to reach others: logs, metrics, StatsD, the HTTP client and the
//! sanitizer of foreign text.

pub mod http;
pub mod log;
pub mod metrics;
pub mod sanitize;
pub mod statsd;
pub mod testing;
