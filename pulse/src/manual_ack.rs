//! Messages that are acknowledged one by one, once their work is done.
//!
//! A [`Consumer`](crate::Consumer) hands batches to its sink. Here, RabbitMQ keeps each message until it is acknowledged,
//! and delivers it to another consumer when the connection ends before that.

use futures::StreamExt;
use runtime::Clock;

use crate::{
    Delivery, PulseError, Subscription,
    connection::Connection,
    subscription::{DeclareState, Session},
};

/// Receives messages on one connection. What was not acknowledged returns to the queue when this is dropped.
pub struct ManualAckConsumer {
    subscription: Subscription,
    connection: Connection,
    consumer: lapin::Consumer,
}

impl ManualAckConsumer {
    /// Connects, and declares and binds the queue. `clock` draws the name of a temporary queue.
    pub async fn open(subscription: Subscription, clock: &dyn Clock) -> Result<Self, PulseError> {
        let Session {
            connection,
            consumer,
            ..
        } = subscription
            .open(clock, &mut DeclareState::default(), true)
            .await?;
        Ok(Self {
            connection,
            consumer,
            subscription,
        })
    }

    /// Waits for the next message. Cancelling the wait loses no message.
    pub async fn next(&mut self) -> Result<Delivery, PulseError> {
        self.receive().await.unwrap_or_else(|| {
            Err(PulseError::Missing {
                doing: format!("take messages from {}", self.subscription.name()),
                reply: "the queue was deleted".to_owned(),
            })
        })
    }

    /// The next message; `None` when the queue was deleted, or after an error.
    pub(crate) async fn receive(&mut self) -> Option<Result<Delivery, PulseError>> {
        let delivery = self.consumer.next().await?;
        Some(
            delivery
                .map(Delivery::from)
                .map_err(self.subscription.broken()),
        )
    }

    /// Returns what was not acknowledged to the queue, and closes the connection.
    pub async fn close(self) {
        self.connection.close().await;
    }
}
