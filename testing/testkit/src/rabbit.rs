//! A real RabbitMQ with PulseGuardian's rules.

mod definitions;
mod process;
mod server;

pub use self::server::RabbitServer;
