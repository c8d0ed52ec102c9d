//! A queue on Pulse with its bindings: how it is declared, bound, measured and consumed.

use std::collections::HashSet;

use lapin::{
    options::{BasicConsumeOptions, BasicQosOptions, QueueBindOptions, QueueDeclareOptions},
    types::FieldTable,
};
use runtime::{Clock, error_chain};
use tracing::{error, info, warn};

use crate::{
    PulseError, PulseSettings, Topic,
    connection::{Connection, short},
    error::check_name,
};

/// How many messages RabbitMQ sends ahead of their acknowledgements by default.
const PREFETCH: u16 = 200;

/// A queue of our user, and the exchanges that it is bound to.
#[derive(Debug, Clone)]
pub struct Subscription {
    settings: PulseSettings,
    /// The full name; for a temporary queue, what its random names begin with.
    name: String,
    lifetime: Lifetime,
    bindings: Vec<Binding>,
    prefetch: u16,
    allows_unbound: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lifetime {
    /// It ends with the connection, and nobody else may consume it.
    Connection,
    /// It keeps messages until somebody consumes it, also over a restart of the server.
    Durable,
}

/// The messages of one exchange whose routing key matches one of the topics.
#[derive(Debug, Clone)]
pub struct Binding {
    /// The full name (`exchange/…`).
    pub exchange: String,
    /// One match is enough.
    pub topics: Vec<Topic>,
}

/// What earlier declarations found, so that each change is logged once.
#[derive(Debug, Default)]
pub(crate) struct DeclareState {
    /// The queue existed: when it is missing after that, somebody deleted it.
    existed: bool,
    /// Exchanges that could not be bound.
    unbound: HashSet<String>,
}

/// A queue that is consumed. Everything that was not acknowledged returns to the queue when this is dropped.
pub(crate) struct Session<'a> {
    pub(crate) connection: Connection,
    pub(crate) consumer: lapin::Consumer,
    /// The full name, with the random part of a temporary queue.
    pub(crate) queue: String,
    /// Bindings to try again later.
    pub(crate) unbound: Vec<&'a Binding>,
}

struct Refused<'a> {
    binding: &'a Binding,
    error: PulseError,
}

impl Subscription {
    /// The durable queue `queue/<user>/<name>`, which is declared when it is missing. It keeps messages while nobody
    /// consumes it, until PulseGuardian deletes it at 8,000.
    ///
    /// [`PulseError::Unusable`] when AMQP cannot carry a name.
    pub fn durable(
        settings: PulseSettings,
        name: &str,
        bindings: Vec<Binding>,
    ) -> Result<Self, PulseError> {
        Self::new(settings, name, Lifetime::Durable, bindings)
    }

    /// A queue `queue/<user>/<prefix>-<random>` for each connection. Messages that are published without a connection
    /// are missed.
    ///
    /// [`PulseError::Unusable`] when AMQP cannot carry a name.
    pub fn temporary(
        settings: PulseSettings,
        prefix: &str,
        bindings: Vec<Binding>,
    ) -> Result<Self, PulseError> {
        Self::new(settings, prefix, Lifetime::Connection, bindings)
    }

    fn new(
        settings: PulseSettings,
        name: &str,
        lifetime: Lifetime,
        bindings: Vec<Binding>,
    ) -> Result<Self, PulseError> {
        let name = settings.queue(name);
        check_name("the queue", &name)?;
        for binding in &bindings {
            check_name("the exchange", &binding.exchange)?;
        }
        Ok(Self {
            settings,
            name,
            lifetime,
            bindings,
            prefetch: PREFETCH,
            allows_unbound: false,
        })
    }

    /// How many messages RabbitMQ sends ahead of their acknowledgements; 0 for all that there are.
    #[must_use]
    pub fn prefetch(mut self, messages: u16) -> Self {
        self.prefetch = messages;
        self
    }

    /// Consumes while some exchanges cannot be bound: they are logged and tried again, and the others are served.
    #[must_use]
    pub fn allow_unbound(mut self) -> Self {
        self.allows_unbound = true;
        self
    }

    /// The full name, without the random part of a temporary queue.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The most messages that are received and not acknowledged.
    pub(crate) fn limit(&self) -> usize {
        match self.prefetch {
            0 => usize::MAX,
            messages => messages.into(),
        }
    }

    /// The exchanges, for the log.
    pub(crate) fn exchanges(&self) -> String {
        let exchanges: Vec<_> = self
            .bindings
            .iter()
            .map(|binding| binding.exchange.as_str())
            .collect();
        exchanges.join(", ")
    }

    /// Logs the deletion of a temporary queue. That of a durable one is logged when it is declared again, since most are
    /// deleted without a session.
    pub(crate) fn log_deletion(&self) {
        if self.lifetime == Lifetime::Connection {
            warn!(
                queue = self.name,
                "the temporary pulse queue was deleted, and its messages are lost; declaring another one"
            );
        }
    }

    /// The error of a failure to receive messages.
    pub(crate) fn broken(&self) -> impl FnOnce(lapin::Error) -> PulseError {
        PulseError::doing(&self.settings, format!("take messages from {}", self.name))
    }

    /// Connects, declares and binds the queue, and begins to consume it. A binding that is refused is an error unless
    /// the subscription [allows that](Self::allow_unbound); with `is_first`, one of them must succeed all the same.
    pub(crate) async fn open(
        &self,
        clock: &dyn Clock,
        state: &mut DeclareState,
        is_first: bool,
    ) -> Result<Session<'_>, PulseError> {
        let queue = match self.lifetime {
            Lifetime::Durable => self.name.clone(),
            // Another one for each connection: RabbitMQ may not know yet that the last one is lost.
            Lifetime::Connection => format!("{}-{:016x}", self.name, clock.random()),
        };
        let connection = Connection::open(&self.settings, &queue).await?;
        if !self.allows_unbound {
            self.find_exchanges(&connection).await?;
        }
        self.declare(&connection, &queue, state).await?;
        let mut refused = self
            .bind(&connection, &queue, &self.bindings, state)
            .await?;
        let none_is_bound = refused.len() == self.bindings.len();
        if let Some(last) = refused.pop_if(|_| !self.allows_unbound || (is_first && none_is_bound))
        {
            return Err(last.error);
        }
        let unbound = report(&queue, refused, state);
        let consumer = self.consume(&connection, &queue).await?;
        Ok(Session {
            connection,
            consumer,
            queue,
            unbound,
        })
    }

    /// Finds the exchanges before the queue is declared: with a wrong name, a durable queue would be left behind.
    async fn find_exchanges(&self, connection: &Connection) -> Result<(), PulseError> {
        let channel = connection.channel().await?;
        for binding in &self.bindings {
            connection
                .find_exchange(&channel, &binding.exchange)
                .await?;
        }
        Ok(())
    }

    async fn declare(
        &self,
        connection: &Connection,
        queue: &str,
        state: &mut DeclareState,
    ) -> Result<(), PulseError> {
        let durable = self.lifetime == Lifetime::Durable;
        if durable && self.depth(connection, queue).await?.is_none() {
            // PulseGuardian deletes a queue that has grown too long, most likely while nobody consumed it.
            if state.existed {
                error!(
                    queue,
                    "the pulse queue was deleted, and its messages are lost; declaring it again. PulseGuardian deletes \
                     a queue with more than 8000 messages and writes to its owner"
                );
            } else {
                warn!(
                    queue,
                    "the pulse queue does not exist and is declared: earlier messages are not in it. Unless it is new, \
                     it was deleted"
                );
            }
        }
        let options = QueueDeclareOptions {
            durable,
            exclusive: !durable,
            auto_delete: !durable,
            ..QueueDeclareOptions::default()
        };
        let channel = connection.channel().await?;
        let declared = channel
            .queue_declare(short("the queue", queue)?, options, FieldTable::default())
            .await;
        declared.map_err(PulseError::doing(
            &self.settings,
            format!("declare the queue {queue}"),
        ))?;
        state.existed = true;
        Ok(())
    }

    /// The number of messages that wait in the queue; `None` when it does not exist.
    pub(crate) async fn depth(
        &self,
        connection: &Connection,
        queue: &str,
    ) -> Result<Option<u32>, PulseError> {
        let options = QueueDeclareOptions {
            passive: true,
            ..QueueDeclareOptions::default()
        };
        let channel = connection.channel().await?;
        let found = channel
            .queue_declare(short("the queue", queue)?, options, FieldTable::default())
            .await;
        match found.map_err(PulseError::doing(
            &self.settings,
            format!("measure the queue {queue}"),
        )) {
            Ok(queue) => Ok(Some(queue.message_count())),
            Err(PulseError::Missing { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Tries bindings again, and returns those that are still refused.
    pub(crate) async fn retry_bindings<'a>(
        &self,
        connection: &Connection,
        queue: &str,
        unbound: Vec<&'a Binding>,
        state: &mut DeclareState,
    ) -> Result<Vec<&'a Binding>, PulseError> {
        let refused = self.bind(connection, queue, unbound, state).await?;
        Ok(report(queue, refused, state))
    }

    async fn bind<'a>(
        &self,
        connection: &Connection,
        queue: &str,
        bindings: impl IntoIterator<Item = &'a Binding>,
        state: &mut DeclareState,
    ) -> Result<Vec<Refused<'a>>, PulseError> {
        let mut refused = Vec::new();
        for binding in bindings {
            match self.bind_one(connection, queue, binding).await {
                Ok(()) => {
                    if state.unbound.remove(&binding.exchange) {
                        info!(
                            queue,
                            exchange = binding.exchange,
                            "the pulse queue is bound to the exchange now"
                        );
                    }
                }
                Err(error) if error.is_about_a_name() => refused.push(Refused { binding, error }),
                Err(error) => return Err(error),
            }
        }
        Ok(refused)
    }

    async fn bind_one(
        &self,
        connection: &Connection,
        queue: &str,
        Binding { exchange, topics }: &Binding,
    ) -> Result<(), PulseError> {
        // A channel for each: RabbitMQ closes the channel on which it refuses something.
        let channel = connection.channel().await?;
        connection.find_exchange(&channel, exchange).await?;
        let name = short("the queue", queue)?;
        let source = short("the exchange", exchange)?;
        for topic in topics {
            let key = short("the topic", topic.as_str())?;
            let (options, none) = (QueueBindOptions::default(), FieldTable::default());
            let bound = channel
                .queue_bind(name.clone(), source.clone(), key, options, none)
                .await;
            bound.map_err(PulseError::doing(
                &self.settings,
                format!("bind {queue} to {exchange}"),
            ))?;
        }
        Ok(())
    }

    async fn consume(
        &self,
        connection: &Connection,
        queue: &str,
    ) -> Result<lapin::Consumer, PulseError> {
        let channel = connection.channel().await?;
        let limited = channel
            .basic_qos(self.prefetch, BasicQosOptions::default())
            .await;
        limited.map_err(self.broken())?;
        let queue = short("the queue", queue)?;
        let tag = short("the tag", "")?;
        let (options, none) = (BasicConsumeOptions::default(), FieldTable::default());
        let consumer = channel.basic_consume(queue, tag, options, none).await;
        consumer.map_err(self.broken())
    }
}

/// Logs each exchange that cannot be bound once, and returns its binding.
fn report<'a>(
    queue: &str,
    refused: Vec<Refused<'a>>,
    state: &mut DeclareState,
) -> Vec<&'a Binding> {
    let mut unbound = Vec::new();
    for Refused { binding, error } in refused {
        let exchange = &binding.exchange;
        if state.unbound.insert(exchange.clone()) {
            let error = error_chain(&error);
            error!(
                queue,
                exchange,
                error,
                "cannot bind to exchange {exchange}; other exchanges are unaffected"
            );
        }
        unbound.push(binding);
    }
    unbound
}
