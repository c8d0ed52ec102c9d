//! The queue on Pulse: it is declared, bound and measured.

use std::collections::HashSet;

use lapin::{
    Channel, Consumer,
    options::{BasicConsumeOptions, BasicQosOptions, QueueBindOptions, QueueDeclareOptions},
    types::FieldTable,
};
use runtime::error_chain;
use tracing::{error, info, warn};

use crate::{
    PulseError, PulseSettings, Route,
    connection::{Connection, short},
    error::check_name,
};

/// A durable queue, and what it is bound to.
pub(crate) struct PulseQueue {
    pub(crate) settings: PulseSettings,
    /// Its full name.
    pub(crate) name: String,
    pub(crate) routes: Vec<Route>,
}

/// What was found out before, so that it is not said again.
#[derive(Default)]
pub(crate) struct Known {
    /// The queue was there: if it is missing after that, somebody deleted it.
    pub(crate) seen: bool,
    /// Exchanges that were said to be unusable.
    unusable: HashSet<String>,
}

/// A route that cannot be bound.
pub(crate) struct Refused<'a> {
    pub(crate) route: &'a Route,
    pub(crate) error: PulseError,
}

impl PulseQueue {
    /// The queue `queue/<user>/<name>`. [`PulseError::Unusable`] when AMQP cannot carry a name.
    pub(crate) fn new(
        settings: PulseSettings,
        name: &str,
        routes: Vec<Route>,
    ) -> Result<Self, PulseError> {
        let name = settings.queue(name);
        check_name("the queue", &name)?;
        for route in &routes {
            check_name("the exchange", &route.exchange)?;
        }
        Ok(Self {
            settings,
            name,
            routes,
        })
    }

    /// Makes the queue if it is missing.
    pub(crate) async fn declare(
        &self,
        connection: &Connection,
        known: &mut Known,
    ) -> Result<(), PulseError> {
        if self.depth(connection).await?.is_none() {
            // PulseGuardian deletes what has grown too long, most likely while nobody listened.
            if known.seen {
                error!(
                    queue = self.name,
                    "the pulse queue was deleted, and what was in it is lost: it is declared again. PulseGuardian deletes \
                     a queue with more than 8000 messages and writes to its owner"
                );
            } else {
                warn!(
                    queue = self.name,
                    "the pulse queue does not exist and is declared: what was published before is not in it. If it is \
                     not new, it was deleted"
                );
            }
        }
        let options = QueueDeclareOptions {
            durable: true,
            ..QueueDeclareOptions::default()
        };
        let channel = connection.channel().await?;
        let declared = channel
            .queue_declare(
                short("the queue", &self.name)?,
                options,
                FieldTable::default(),
            )
            .await;
        declared.map_err(PulseError::doing(
            &self.settings,
            format!("declare the queue {}", self.name),
        ))?;
        known.seen = true;
        Ok(())
    }

    /// How many messages wait in it; none when it does not exist.
    pub(crate) async fn depth(&self, connection: &Connection) -> Result<Option<u32>, PulseError> {
        let options = QueueDeclareOptions {
            passive: true,
            ..QueueDeclareOptions::default()
        };
        let channel = connection.channel().await?;
        let found = channel
            .queue_declare(
                short("the queue", &self.name)?,
                options,
                FieldTable::default(),
            )
            .await;
        match found.map_err(PulseError::doing(
            &self.settings,
            format!("look at the queue {}", self.name),
        )) {
            Ok(queue) => Ok(Some(queue.message_count())),
            Err(PulseError::Missing { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Binds the queue for `routes`. Returns those that cannot be bound, and why.
    pub(crate) async fn bind<'a>(
        &self,
        connection: &Connection,
        routes: impl IntoIterator<Item = &'a Route>,
        known: &mut Known,
    ) -> Result<Vec<Refused<'a>>, PulseError> {
        let mut refused = Vec::new();
        for route in routes {
            match self.bind_route(connection, route).await {
                Ok(()) => {
                    if known.unusable.remove(&route.exchange) {
                        info!(
                            queue = self.name,
                            exchange = route.exchange,
                            "the pulse queue is bound to it now"
                        );
                    }
                }
                Err(error) if error.is_about_a_name() => refused.push(Refused { route, error }),
                Err(error) => return Err(error),
            }
        }
        Ok(refused)
    }

    /// Logs which routes cannot be bound, each exchange once: a name that is wrong is no reason to listen to nothing.
    pub(crate) fn report<'a>(
        &self,
        refused: Vec<Refused<'a>>,
        known: &mut Known,
    ) -> Vec<&'a Route> {
        let mut unbound = Vec::new();
        for Refused { route, error } in refused {
            if known.unusable.insert(route.exchange.clone()) {
                let error = error_chain(&error);
                error!(
                    queue = self.name,
                    error, "messages of {} do not come, the others do", route.exchange
                );
            }
            unbound.push(route);
        }
        unbound
    }

    pub(crate) async fn bind_route(
        &self,
        connection: &Connection,
        Route {
            exchange, topics, ..
        }: &Route,
    ) -> Result<(), PulseError> {
        // Of its own: a refusal closes it.
        let channel = connection.channel().await?;
        connection.find_exchange(&channel, exchange).await?;
        let (queue, source) = (
            short("the queue", &self.name)?,
            short("the exchange", exchange)?,
        );
        for topic in topics {
            let key = short("the topic", topic.as_str())?;
            let (options, none) = (QueueBindOptions::default(), FieldTable::default());
            let bound = channel
                .queue_bind(queue.clone(), source.clone(), key, options, none)
                .await;
            bound.map_err(PulseError::doing(
                &self.settings,
                format!("bind {} to {exchange}", self.name),
            ))?;
        }
        Ok(())
    }

    /// Begins to take messages. RabbitMQ sends up to `ahead` messages before their acknowledgements.
    pub(crate) async fn consume(
        &self,
        connection: &Connection,
        ahead: u16,
    ) -> Result<(Channel, Consumer), PulseError> {
        let doing = format!("take messages from {}", self.name);
        let channel = connection.channel().await?;
        let limited = channel.basic_qos(ahead, BasicQosOptions::default()).await;
        limited.map_err(PulseError::doing(&self.settings, &*doing))?;
        let (queue, any) = (short("the queue", &self.name)?, short("the tag", "")?);
        let consumer = channel
            .basic_consume(
                queue,
                any,
                BasicConsumeOptions::default(),
                FieldTable::default(),
            )
            .await;
        Ok((
            channel,
            consumer.map_err(PulseError::doing(&self.settings, doing))?,
        ))
    }
}
