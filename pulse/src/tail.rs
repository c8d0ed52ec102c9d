//! What an exchange carries, for people.

use futures::{Stream, StreamExt};
use lapin::{Consumer, options::BasicAckOptions};
use runtime::Clock;

use crate::{
    PulseError, PulseMessage, PulseSettings, Topic,
    connection::Connection,
    subscription::{Lifetime, Subscription},
};

/// How many messages RabbitMQ sends before their acknowledgements.
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
    let queue = settings.queue(&format!("tail-{:016x}", clock.random()));
    let doing = format!("look at the messages of {exchange}");
    let queue = (queue.as_str(), Lifetime::Connection);
    let subscription =
        Subscription::open(settings, queue, (exchange, topics), PREFETCH, &doing).await?;
    let state = (subscription, doing);
    Ok(futures::stream::unfold(
        state,
        |(mut subscription, doing)| async move {
            let next = next(&mut subscription.consumer).await?;
            let next = next.map_err(PulseError::doing(
                subscription.connection.settings(),
                &*doing,
            ));
            Some((next, (subscription, doing)))
        },
    ))
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
