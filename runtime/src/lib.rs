//! The foundation of all crates: time and randomness, shutdown, services, error chains, and the sanitizer of foreign text.
//! Knows nothing of queues, builds or peers.

mod clock;
mod error_chain;
pub mod sanitize;
mod service;
mod shutdown;

pub use clock::{Clock, ManualClock, SystemClock};
pub use error_chain::{Chain, chain, error_chain};
pub use service::{Service, ServiceError, run_services};
pub use shutdown::Shutdown;
