//! The foundation of all crates: time and randomness, shutdown, services, retries, the log of failures, the limiter of log
//! lines, error chains, and the sanitizer of foreign text.
//! Knows nothing of queues, builds or peers.

mod clock;
mod error_chain;
mod failure_log;
mod log_rate_limiter;
mod retry;
pub mod sanitize;
mod service;
mod shutdown;

pub use clock::{Clock, ManualClock, SystemClock};
pub use error_chain::{Chain, chain, error_chain};
pub use failure_log::FailureLog;
pub use log_rate_limiter::LogRateLimiter;
pub use retry::{Attempts, Backoff, Retry, Retryable};
pub use service::{Service, ServiceError, run_services};
pub use shutdown::Shutdown;
