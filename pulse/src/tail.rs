//! What an exchange carries, for people.

use bus::Clock;
use futures::{Stream, StreamExt};
use lapin::{
    Consumer,
    options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions, QueueBindOptions, QueueDeclareOptions},
    types::FieldTable,
};

use crate::{
    PulseError, PulseMessage, PulseSettings, Topic,
    connection::{Connection, short},
};

/// How many messages RabbitMQ sends ahead of whoever looks at them.
const PREFETCH: u16 = 100;

/// Shows the messages of `exchange` whose routing key fits one of `topics`, from now on, until the connection is lost.
///
/// It has a queue of its own, `queue/<user>/tail-<random>`, which RabbitMQ deletes when this ends, so nobody else misses a
/// message.
pub async fn tail(
    settings: &PulseSettings,
    exchange: &str,
    topics: &[Topic],
    clock: &dyn Clock,
) -> Result<impl Stream<Item = Result<PulseMessage, PulseError>> + use<>, PulseError> {
    let name = settings.queue(&format!("tail-{:016x}", clock.random()));
    let doing = format!("look at the messages of {exchange}");
    let failed = || PulseError::doing(settings, &*doing);
    let connection = Connection::open(settings, &name).await?;
    let channel = connection.channel().await?;
    connection.find_exchange(&channel, exchange).await?;
    let (queue, source) = (short("the queue", &name)?, short("the exchange", exchange)?);
    let own = QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(queue.clone(), own, FieldTable::default()).await.map_err(failed())?;
    for topic in topics {
        let key = short("the topic", topic.as_str())?;
        let options = QueueBindOptions::default();
        let bound = channel.queue_bind(queue.clone(), source.clone(), key, options, FieldTable::default()).await;
        bound.map_err(failed())?;
    }
    channel.basic_qos(PREFETCH, BasicQosOptions::default()).await.map_err(failed())?;
    let (any, options) = (short("the tag", "")?, BasicConsumeOptions::default());
    let consumer = channel.basic_consume(queue, any, options, FieldTable::default()).await.map_err(failed())?;
    let state = (connection, consumer, doing);
    Ok(futures::stream::unfold(state, |(connection, mut consumer, doing)| async move {
        let next = next(&mut consumer).await?;
        let next = next.map_err(PulseError::doing(connection.settings(), &*doing));
        Some((next, (connection, consumer, doing)))
    }))
}

/// Whether the server can be reached and lets the user in.
pub async fn check(settings: &PulseSettings) -> Result<(), PulseError> {
    let connection = Connection::open(settings, "a check").await?;
    connection.channel().await.map(|_| ())
}

async fn next(consumer: &mut Consumer) -> Option<lapin::Result<PulseMessage>> {
    let delivery = consumer.next().await?;
    let taken = async {
        let delivery = delivery?;
        delivery.ack(BasicAckOptions::default()).await?;
        Ok(PulseMessage::from(delivery))
    };
    Some(taken.await)
}
