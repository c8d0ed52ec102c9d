//! Pulse, Mozilla's message bus: a RabbitMQ whose users may read every exchange and own only their queues.
//!
//! A [`Listener`] moves what its [`Route`]s ask for from one durable Pulse queue to queues of the bus, as
//! [`PulseMessage`]s. It never waits for those who handle them, since a Pulse queue that grows over 8,000 messages is
//! deleted. An [`Inbox`] is for who works without a bus. A [`Publisher`] sends, [`tail()`] shows what an exchange carries.
//! The [`monitor`] tells of builds and tests that have finished, without a bus.
//!
//! This crate knows neither Taskcluster nor Phabricator.

mod connection;
mod drain;
mod error;
mod inbox;
mod listener;
mod message;
mod meters;
pub mod monitor;
mod outage;
mod publisher;
mod queue;
mod route;
mod settings;
mod subscription;
mod tail;
mod topic;

pub use error::PulseError;
pub use inbox::{Inbox, Taken};
pub use listener::Listener;
pub use message::{PulseMessage, Routing, UnreadableBody};
pub use publisher::Publisher;
pub use route::Route;
pub use settings::{Address, AddressError, PulseSettings};
pub use tail::{check, tail};
pub use topic::Topic;
