//! The operator's actions on the queues of a deployment, by queue name. The command line and the API both call these.

mod dead_letters;
mod error;
mod report;

use std::sync::Arc;

use async_trait::async_trait;
use serde::Deserialize;
use uuid::Uuid;

pub use self::{
    dead_letters::{DeadLetterFilter, KeptDeadLetter, Requeued, SelectedDeadLetters},
    error::AdminError,
    report::{Contents, DeadLetterContents, DeadLetterReport, MessageReport, QueueReport},
};
use crate::{Bus, BusError, Envelope, MessageSelector, MessageState, QueueSpec};

/// The Jaro-Winkler similarity (0 to 1) from which on an unknown name gets a suggestion.
const MIN_SIMILARITY: f64 = 0.7;

/// Administers the queues of a deployment.
#[derive(Clone)]
pub struct Admin {
    bus: Arc<dyn Bus>,
    queues: Arc<[QueueSpec]>,
    usefulness: Option<Arc<dyn Usefulness>>,
}

/// Decides whether the handling of a message has an effect.
#[async_trait]
pub trait Usefulness: Send + Sync + 'static {
    /// Why the handling of this message of `queue` has no effect, and what to do instead. `None` when it has one.
    async fn useless(
        &self,
        queue: &QueueSpec,
        message: &Envelope,
    ) -> Result<Option<String>, BusError>;
}

/// An operator's choice of messages: one or all, and not both.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Messages {
    /// The only message.
    pub id: Option<Uuid>,
    /// Every message that is in a fitting state.
    pub all: bool,
}

impl Messages {
    fn selector(self) -> Result<MessageSelector, AdminError> {
        match (self.id, self.all) {
            (Some(id), false) => Ok(MessageSelector::One(id)),
            (None, true) => Ok(MessageSelector::All),
            _ => Err(AdminError::Unclear("messages: name either an id or all")),
        }
    }
}

impl Admin {
    /// Administers `queues`, which are on `bus`. Reports keep their order.
    pub fn new(bus: Arc<dyn Bus>, queues: &[QueueSpec]) -> Self {
        Self {
            bus,
            queues: queues.into(),
            usefulness: None,
        }
    }

    /// Has [`Admin::requeue`] and [`Admin::requeue_dead`] leave messages whose handling has no effect.
    #[must_use]
    pub fn with_usefulness(self, usefulness: Arc<dyn Usefulness>) -> Self {
        Self {
            usefulness: Some(usefulness),
            ..self
        }
    }

    async fn useless(
        &self,
        queue: &QueueSpec,
        message: &Envelope,
    ) -> Result<Option<String>, BusError> {
        match &self.usefulness {
            Some(usefulness) => usefulness.useless(queue, message).await,
            None => Ok(None),
        }
    }

    /// The state of each queue, in the order that [`Admin::new`] was given.
    pub async fn queues(&self) -> Result<Vec<QueueReport>, AdminError> {
        let mut reports = Vec::with_capacity(self.queues.len());
        for queue in self.queues.iter() {
            reports.push(self.report(queue).await?);
        }
        Ok(reports)
    }

    /// The state of one queue.
    pub async fn queue(&self, name: &str) -> Result<QueueReport, AdminError> {
        self.report(self.find(name)?).await
    }

    /// The first `limit` messages of a queue, without their bodies.
    pub async fn messages(
        &self,
        queue: &str,
        limit: usize,
    ) -> Result<Vec<MessageReport>, AdminError> {
        let queue = self.find(queue)?;
        let found = self.bus.peek(queue, limit).await?;
        Ok(found
            .iter()
            .map(|message| {
                MessageReport::new(queue, message, Contents::without_body(&message.envelope))
            })
            .collect())
    }

    /// One message of a queue, with its body.
    pub async fn message(&self, queue: &str, id: Uuid) -> Result<MessageReport, AdminError> {
        let queue = self.find(queue)?;
        let found = self.bus.message(queue, id).await?;
        let message = found.ok_or(AdminError::NoMessage {
            queue: queue.name,
            id,
            required: "",
        })?;
        Ok(MessageReport::new(
            queue,
            &message,
            Contents::whole(&message.envelope),
        ))
    }

    /// Makes delayed messages ready now. Returns their number.
    ///
    /// [`AdminError::Useless`] when one message is named and its handling has no effect.
    pub async fn requeue(&self, queue: &str, messages: Messages) -> Result<usize, AdminError> {
        let queue = self.find(queue)?;
        let which = messages.selector()?;
        if let MessageSelector::One(id) = which
            && let Some(message) = self.bus.message(queue, id).await?
            && let Some(why) = self.useless(queue, &message.envelope).await?
        {
            return Err(AdminError::Useless {
                queue: queue.name,
                id,
                why,
            });
        }
        one_or_error(
            queue,
            which,
            self.bus.requeue(queue, which).await?,
            " that is delayed",
        )
    }

    /// Drops messages that are ready or delayed. Returns their number.
    pub async fn drop_waiting(&self, queue: &str, messages: Messages) -> Result<usize, AdminError> {
        let queue = self.find(queue)?;
        let which = messages.selector()?;
        one_or_error(
            queue,
            which,
            self.bus.drop_waiting(queue, which).await?,
            " that is ready or delayed",
        )
    }

    /// The number of messages that [`Admin::drop_waiting`] would drop now.
    pub async fn count_waiting(
        &self,
        queue: &str,
        messages: Messages,
    ) -> Result<usize, AdminError> {
        let queue = self.find(queue)?;
        match messages.selector()? {
            MessageSelector::All => {
                let depth = self.bus.depth(queue).await?;
                Ok(depth.ready + depth.delayed)
            }
            MessageSelector::One(id) => {
                let found = self.bus.message(queue, id).await?;
                let droppable =
                    found.filter(|found| !matches!(found.state, MessageState::InFlight { .. }));
                one_or_error(
                    queue,
                    MessageSelector::One(id),
                    usize::from(droppable.is_some()),
                    " that is ready or delayed",
                )
            }
        }
    }

    /// Pauses or resumes a queue. Returns its new state.
    pub async fn set_paused(&self, queue: &str, paused: bool) -> Result<QueueReport, AdminError> {
        let queue = self.find(queue)?;
        self.bus.set_paused(queue, paused).await?;
        self.report(queue).await
    }

    async fn report(&self, queue: &QueueSpec) -> Result<QueueReport, AdminError> {
        Ok(QueueReport::new(queue, self.bus.status(queue).await?))
    }

    /// The queue `name`, or all queues.
    fn scope(&self, name: Option<&str>) -> Result<&[QueueSpec], AdminError> {
        match name {
            Some(name) => Ok(std::slice::from_ref(self.find(name)?)),
            None => Ok(&self.queues),
        }
    }

    fn find(&self, name: &str) -> Result<&QueueSpec, AdminError> {
        self.queues
            .iter()
            .find(|queue| queue.name == name)
            .ok_or_else(|| {
                let known: Vec<_> = self.queues.iter().map(|queue| queue.name).collect();
                let near = known
                    .iter()
                    .map(|known| (strsim::jaro_winkler(name, known), *known));
                let near = near
                    .max_by(|a, b| a.0.total_cmp(&b.0))
                    .filter(|(score, _)| *score > MIN_SIMILARITY);
                AdminError::UnknownQueue {
                    name: name.to_owned(),
                    near: near.map(|(_, known)| known),
                    known,
                }
            })
    }
}

/// The number of changed messages. [`AdminError::NoMessage`] when one message was named and none was changed.
fn one_or_error(
    queue: &QueueSpec,
    which: MessageSelector,
    count: usize,
    required: &'static str,
) -> Result<usize, AdminError> {
    match which {
        MessageSelector::One(id) if count == 0 => Err(AdminError::NoMessage {
            queue: queue.name,
            id,
            required,
        }),
        _ => Ok(count),
    }
}
