//! Publishes to Pulse.

use std::{collections::HashMap, sync::Arc, time::Duration};

use lapin::{
    BasicProperties, Channel, Confirmation,
    options::{BasicPublishOptions, ConfirmSelectOptions},
};
use runtime::Clock;
use tokio::{sync::Mutex, time::timeout};

use crate::{
    PulseError, PulseMessage, PulseSettings, Routing,
    connection::{Connection, short, silent},
    message::headers,
};

/// The time limit for storing a message. RabbitMQ stores none while it is short of memory or disk.
const CONFIRM: Duration = Duration::from_secs(30);

/// Publishes messages. It connects at its first use, and again after the connection was lost.
pub struct Publisher {
    settings: PulseSettings,
    clock: Arc<dyn Clock>,
    current: Mutex<Option<Arc<Open>>>,
}

/// A connection, with one channel for each exchange: a refusal closes only the channel of its exchange.
struct Open {
    connection: Connection,
    channels: Mutex<HashMap<String, Channel>>,
}

impl Publisher {
    /// A publisher that sends as the user of `settings`. `clock` dates the messages.
    pub fn new(settings: PulseSettings, clock: Arc<dyn Clock>) -> Self {
        Self {
            settings,
            clock,
            current: Mutex::default(),
        }
    }

    /// Publishes one message. After `Ok`, RabbitMQ has stored it in every queue that is bound to it. After an error it may
    /// have stored it all the same.
    ///
    /// A missing exchange is declared if it is one of the user's own.
    pub async fn publish(&self, message: &PulseMessage) -> Result<(), PulseError> {
        let open = self.open().await?;
        let exchange = &message.routing.exchange;
        let publishing = timeout(CONFIRM, self.publish_on(&open, message));
        let published = publishing.await.unwrap_or_else(|_| {
            Err(silent(
                &self.settings,
                &format!("publish to {exchange}"),
                CONFIRM,
            ))
        });
        if published.is_err() {
            let mut current = self.current.lock().await;
            // Other publications may still use the connection, and finish on it.
            current.take_if(|current| Arc::ptr_eq(current, &open));
        }
        published
    }

    async fn open(&self) -> Result<Arc<Open>, PulseError> {
        let mut current = self.current.lock().await;
        if let Some(open) = current.as_ref().filter(|open| open.connection.is_open()) {
            return Ok(Arc::clone(open));
        }
        let connection = Connection::open(&self.settings, "publisher").await?;
        let open = Arc::new(Open {
            connection,
            channels: Mutex::default(),
        });
        Ok(Arc::clone(current.insert(open)))
    }

    async fn publish_on(&self, open: &Open, message: &PulseMessage) -> Result<(), PulseError> {
        let Routing {
            exchange,
            key,
            other_routes,
        } = &message.routing;
        let channel = open.channel(exchange).await?;
        let properties = BasicProperties::default()
            .with_content_type("application/json".into())
            .with_delivery_mode(PERSISTENT)
            .with_timestamp(u64::try_from(self.clock.now().as_second()).unwrap_or_default())
            .with_headers(headers(other_routes));
        let (name, key) = (
            short("the exchange", exchange)?,
            short("the routing key", key)?,
        );
        let confirmed = async {
            channel
                .basic_publish(
                    name,
                    key,
                    BasicPublishOptions::default(),
                    &message.body,
                    properties,
                )
                .await?
                .await
        };
        match confirmed.await.map_err(PulseError::doing(
            &self.settings,
            format!("publish to {exchange}"),
        ))? {
            Confirmation::Ack(_) => Ok(()),
            Confirmation::Nack(_) | Confirmation::NotRequested => Err(PulseError::NotStored {
                exchange: exchange.clone(),
            }),
        }
    }
}

/// The delivery mode of a message that outlives the server.
const PERSISTENT: u8 = 2;

impl Open {
    /// The channel for an exchange. It finds or declares the exchange first.
    async fn channel(&self, exchange: &str) -> Result<Channel, PulseError> {
        let mut channels = self.channels.lock().await;
        if let Some(channel) = channels.get(exchange) {
            return Ok(channel.clone());
        }
        let channel = self.connection.channel().await?;
        self.connection.find_exchange(&channel, exchange).await?;
        let confirming = channel
            .confirm_select(ConfirmSelectOptions::default())
            .await;
        confirming.map_err(PulseError::doing(
            self.connection.settings(),
            format!("publish to {exchange}"),
        ))?;
        channels.insert(exchange.to_owned(), channel.clone());
        Ok(channel)
    }
}
