//! One hand-over of a message by RabbitMQ.

use jiff::Timestamp;
use lapin::{Acker, options::BasicAckOptions};

use crate::PulseMessage;

/// A message, and the right to acknowledge it. RabbitMQ delivers it again when the connection ends before that.
pub struct Delivery {
    /// The message.
    pub message: PulseMessage,
    /// The time of publication, where the message has it.
    pub published: Option<Timestamp>,
    /// Whether it was delivered before, and not acknowledged.
    pub redelivered: bool,
    acker: Acker,
}

impl Delivery {
    /// Removes the message from the queue. False when the connection that brought it is lost: then RabbitMQ delivers it
    /// again.
    pub async fn acknowledge(&self) -> bool {
        self.send_acknowledgement(false).await
    }

    /// The same for this message and all that the connection brought before it.
    pub async fn acknowledge_through(&self) -> bool {
        self.send_acknowledgement(true).await
    }

    async fn send_acknowledgement(&self, multiple: bool) -> bool {
        let sent = self.acker.ack(BasicAckOptions { multiple }).await;
        sent.unwrap_or(false)
    }
}

impl From<lapin::message::Delivery> for Delivery {
    fn from(delivery: lapin::message::Delivery) -> Self {
        let published = delivery
            .properties
            .timestamp()
            .and_then(|seconds| Timestamp::from_second(i64::try_from(seconds).ok()?).ok());
        Self {
            published,
            redelivered: delivery.redelivered,
            acker: delivery.acker.clone(),
            message: delivery.into(),
        }
    }
}
