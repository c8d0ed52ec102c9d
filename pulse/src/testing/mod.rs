//! A real RabbitMQ for tests: a child process with PulseGuardian's rules, which ends with its value.

mod definitions;
mod server;

pub use server::RabbitServer;
