//! A queue on one exchange, and its messages, for as long as one connection lasts.

use lapin::{
    Channel, Consumer,
    options::{BasicConsumeOptions, BasicQosOptions, QueueBindOptions, QueueDeclareOptions},
    types::FieldTable,
};

use crate::{
    PulseError, PulseSettings, Topic,
    connection::{Connection, short},
};

/// How long a queue lives when nobody listens to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lifetime {
    /// It ends with the connection. Nobody else may use it.
    Connection,
    /// It gathers messages until somebody listens again, also over a restart of the server.
    Durable,
}

/// A queue that is listened to. What comes has to be acknowledged. Ends with this value.
pub(crate) struct Subscription {
    pub(crate) connection: Connection,
    pub(crate) channel: Channel,
    pub(crate) consumer: Consumer,
}

impl Subscription {
    /// Makes the queue with the full name `queue`, binds it to `exchange` for `topics`, and has messages sent, at most
    /// `prefetch` that are not acknowledged. `doing` says in errors what all of it is for.
    pub(crate) async fn open(
        settings: &PulseSettings,
        (queue, lifetime): (&str, Lifetime),
        (exchange, topics): (&str, &[Topic]),
        prefetch: u16,
        doing: &str,
    ) -> Result<Self, PulseError> {
        let failed = || PulseError::doing(settings, doing);
        let connection = Connection::open(settings, queue).await?;
        let channel = connection.channel().await?;
        connection.find_exchange(&channel, exchange).await?;
        let (queue, source) = (short("the queue", queue)?, short("the exchange", exchange)?);
        let passing = lifetime == Lifetime::Connection;
        let options = QueueDeclareOptions {
            durable: !passing,
            exclusive: passing,
            auto_delete: passing,
            ..QueueDeclareOptions::default()
        };
        channel
            .queue_declare(queue.clone(), options, FieldTable::default())
            .await
            .map_err(failed())?;
        for topic in topics {
            let key = short("the topic", topic.as_str())?;
            let options = QueueBindOptions::default();
            let bound = channel
                .queue_bind(
                    queue.clone(),
                    source.clone(),
                    key,
                    options,
                    FieldTable::default(),
                )
                .await;
            bound.map_err(failed())?;
        }
        channel
            .basic_qos(prefetch, BasicQosOptions::default())
            .await
            .map_err(failed())?;
        let (any, options) = (short("the tag", "")?, BasicConsumeOptions::default());
        let consumer = channel
            .basic_consume(queue, any, options, FieldTable::default())
            .await
            .map_err(failed())?;
        Ok(Self {
            connection,
            channel,
            consumer,
        })
    }
}
