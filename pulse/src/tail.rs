//! The messages of an exchange, for people.

use futures::{Stream, stream};
use runtime::Clock;

use crate::{
    Binding, ManualAckConsumer, PulseError, PulseMessage, PulseSettings, Subscription, Topic,
};

/// How many messages RabbitMQ sends before their acknowledgements.
const PREFETCH: u16 = 100;

/// Streams the messages of `exchange` whose routing key matches one of `topics`, from now on, until the connection is
/// lost.
///
/// Its queue is `queue/<user>/tail-<random>`, which RabbitMQ deletes when the stream is dropped, so nobody else misses a
/// message.
pub async fn tail(
    settings: &PulseSettings,
    exchange: &str,
    topics: &[Topic],
    clock: &dyn Clock,
) -> Result<impl Stream<Item = Result<PulseMessage, PulseError>> + use<>, PulseError> {
    let binding = Binding {
        exchange: exchange.to_owned(),
        topics: topics.to_vec(),
    };
    let subscription = Subscription::temporary(settings.clone(), "tail", vec![binding])?;
    let consumer = ManualAckConsumer::open(subscription.prefetch(PREFETCH), clock).await?;
    Ok(stream::unfold(consumer, async |mut consumer| {
        let message = match consumer.receive().await? {
            Ok(delivery) => {
                // When the acknowledgement is lost, so is the connection, and the next step returns that error.
                delivery.acknowledge().await;
                Ok(delivery.message)
            }
            Err(error) => Err(error),
        };
        Some((message, consumer))
    }))
}
