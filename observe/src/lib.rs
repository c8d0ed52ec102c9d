//! What everyone needs to be seen and to reach others: logs, metrics and the HTTP client.

pub mod http;
pub mod log;
pub mod metrics;
pub mod testing;
