//! What everyone needs to be seen and to reach others: logs and the HTTP client.

pub mod http;
pub mod log;
