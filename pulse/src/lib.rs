//! Pulse, Mozilla's message bus: a RabbitMQ whose users may read every exchange and own only their queues.
//!
//! A [`Consumer`] hands the messages of a [`Subscription`] to a [`Sink`], and reconnects after every outage. A [`Listener`]
//! is the consumer whose sink stores messages on the bus, as its [`Route`]s say. It never waits for handlers, since
//! PulseGuardian deletes a queue with more than 8,000 messages. A [`ManualAckConsumer`] leaves messages in the queue until
//! their work is done, and ends with its connection; [`Sessions`] has the wait before the next one. [`tail()`] shows the
//! messages of an exchange, and a [`Publisher`] sends.
//!
//! This crate knows neither Taskcluster nor Phabricator.

mod connection;
mod consumer;
mod delivery;
mod error;
mod forwarder;
mod manual_ack;
mod message;
mod meters;
mod outage;
mod publisher;
mod route;
mod sessions;
mod settings;
mod subscription;
mod tail;
mod topic;

pub use connection::check;
pub use consumer::{Consumer, Flow, Sink};
pub use delivery::Delivery;
pub use error::PulseError;
pub use forwarder::{Forwarder, Listener};
pub use manual_ack::ManualAckConsumer;
pub use message::{PulseMessage, Routing, UnreadableBody};
pub use publisher::Publisher;
pub use route::Route;
pub use sessions::{Begin, Sessions};
pub use settings::{Address, AddressError, PulseSettings};
pub use subscription::{Binding, Subscription};
pub use tail::tail;
pub use topic::Topic;
