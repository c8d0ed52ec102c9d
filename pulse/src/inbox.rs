//! Messages for somebody who is done with each only later.
//!
//! A [`Listener`](crate::Listener) acknowledges what the bus has stored. Here is no bus: RabbitMQ keeps a message until
//! whoever took it says that it is done with, and gives it to the next one if that is never said.

use futures::StreamExt;
use lapin::{Acker, Consumer, options::BasicAckOptions};

use crate::{
    PulseError, PulseMessage, PulseSettings, Route,
    connection::Connection,
    queue::{Known, PulseQueue},
};

/// Takes messages from one durable queue. What was not acknowledged goes back to the queue when this ends.
pub struct Inbox {
    connection: Connection,
    consumer: Consumer,
    doing: String,
}

/// A message, and the right to say that it is done with.
pub struct Taken {
    /// The message.
    pub message: PulseMessage,
    /// Whether it was taken before, and not acknowledged.
    pub redelivered: bool,
    acker: Acker,
}

impl Inbox {
    /// Takes from `queue/<user>/<name>`, which is made when it is missing, and is bound for `route`. RabbitMQ sends up
    /// to `ahead` messages before their acknowledgements; 0: all that there are.
    pub async fn open(
        settings: PulseSettings,
        name: &str,
        route: Route,
        ahead: u16,
    ) -> Result<Self, PulseError> {
        let queue = PulseQueue::new(settings, name, vec![route])?;
        let connection = Connection::open(&queue.settings, &queue.name).await?;
        queue.declare(&connection, &mut Known::default()).await?;
        for route in &queue.routes {
            queue.bind_route(&connection, route).await?;
        }
        let (_, consumer) = queue.consume(&connection, ahead).await?;
        Ok(Self {
            connection,
            consumer,
            doing: format!("take messages from {}", queue.name),
        })
    }

    /// Waits for the next message. No message is lost when this is given up.
    pub async fn next(&mut self) -> Result<Taken, PulseError> {
        let settings = self.connection.settings();
        let gone = || PulseError::Missing {
            doing: self.doing.clone(),
            reply: "the queue was deleted".to_owned(),
        };
        let delivery = self.consumer.next().await.ok_or_else(gone)?;
        let delivery = delivery.map_err(PulseError::doing(settings, &*self.doing))?;
        let (acker, redelivered) = (delivery.acker.clone(), delivery.redelivered);
        Ok(Taken {
            message: delivery.into(),
            redelivered,
            acker,
        })
    }

    /// Gives back what was not acknowledged, and says goodbye.
    pub async fn close(self) {
        self.connection.close().await;
    }
}

impl Taken {
    /// Says that the message is done with. False when the connection on which it came is gone: then RabbitMQ gives it to
    /// somebody again.
    pub async fn acknowledge(self) -> bool {
        self.acker
            .ack(BasicAckOptions::default())
            .await
            .unwrap_or(false)
    }
}
