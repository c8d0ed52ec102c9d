//! What an operator does with the queues of a deployment, by name: the one place behind the command line and the API.

mod report;

use std::{cmp::Reverse, collections::HashSet, sync::Arc};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use uuid::Uuid;

pub use self::report::{
    Contents, DeadLetterContents, DeadLetterReport, MessageReport, QueueReport,
};
use crate::{
    Bus, BusError, DeadLetter, DeadLetterPayload, Envelope, MessageSelector, MessageState,
    QueueSpec,
};

/// How like a queue's name a word must be to be taken for a slip of the pen.
const ALIKE: f64 = 0.7;

/// The queues of a deployment, and the bus they are on.
#[derive(Clone)]
pub struct Admin {
    bus: Arc<dyn Bus>,
    queues: Arc<[QueueSpec]>,
    usefulness: Option<Arc<dyn Usefulness>>,
}

/// Knows which messages would be handled without any effect.
#[async_trait]
pub trait Usefulness: Send + Sync + 'static {
    /// Why handling this message of `queue` would do nothing, and what would; `None` when it would do something.
    async fn useless(
        &self,
        queue: &QueueSpec,
        message: &Envelope,
    ) -> Result<Option<String>, BusError>;
}

/// The outcome of [`Admin::requeue_dead`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Requeued {
    /// How many letters went back into their queues.
    pub requeued: usize,
    /// DeadLetterFilter that stay, since handling them would do nothing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub kept: Vec<KeptDeadLetter>,
    /// DeadLetterFilter that stay, since they hold no message that this release can read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unreadable: Vec<String>,
}

/// A dead letter that was not requeued.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeptDeadLetter {
    /// Its queue.
    pub queue: &'static str,
    /// Its id.
    pub id: String,
    /// Why handling it would do nothing, and what would.
    pub why: String,
}

/// Why an operator's wish was not done.
#[derive(Debug, Error)]
pub enum AdminError {
    /// No queue has that name.
    #[error(
        "there is no queue {name:?}{}; the queues are {}",
        near.map(|near| format!(", did you mean {near}?")).unwrap_or_default(),
        known.join(", ")
    )]
    UnknownQueue {
        /// The name.
        name: String,
        /// The one that is most like it.
        near: Option<&'static str>,
        /// All of them.
        known: Vec<&'static str>,
    },
    /// The message is not there, or not in a state in which this can be done to it.
    #[error("queue {queue} has no message {id}{that}")]
    NoMessage {
        /// The queue.
        queue: &'static str,
        /// The message.
        id: Uuid,
        /// What it would have to be.
        that: &'static str,
    },
    /// No queue that was looked at has these dead letters. Nothing was done.
    #[error("there is no dead letter {}", ids.join(", nor "))]
    NoDeadLetters {
        /// The ids.
        ids: Vec<String>,
    },
    /// Handling the message would do nothing. It was left as it is.
    #[error("message {id} of queue {queue} was not requeued: {why}")]
    Useless {
        /// The queue.
        queue: &'static str,
        /// The message.
        id: Uuid,
        /// Why, and what would do something.
        why: String,
    },
    /// It was not said, or said twice, what is meant.
    #[error("which {0}")]
    Unclear(&'static str),
    /// A choice is empty, and so would mean everything.
    #[error("the {0} is empty: name one, or say all")]
    Empty(&'static str),
    /// These dead letters hold no message that this release can read. Nothing was done.
    #[error(
        "cannot requeue {}: no message that this release can read; look at the bytes with `events dead show`, or drop it",
        ids.join(", ")
    )]
    Unreadable {
        /// The letters.
        ids: Vec<String>,
    },
    /// The bus failed.
    #[error(transparent)]
    Bus(#[from] BusError),
}

/// The messages of a queue that an operator means.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Messages {
    /// One.
    pub id: Option<Uuid>,
    /// All.
    pub all: bool,
}

impl Messages {
    fn which(self) -> Result<MessageSelector, AdminError> {
        match (self.id, self.all) {
            (Some(id), false) => Ok(MessageSelector::One(id)),
            (None, true) => Ok(MessageSelector::All),
            _ => Err(AdminError::Unclear("messages? name either an id or all")),
        }
    }
}

/// The dead letters that an operator means.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DeadLetterFilter {
    /// Of this queue only.
    pub queue: Option<String>,
    /// These.
    pub ids: Vec<String>,
    /// Those whose reason contains this.
    pub reason: Option<String>,
    /// All.
    pub all: bool,
}

/// The dead letters that were found for [`DeadLetterFilter`], the oldest of each queue first.
#[derive(Debug)]
pub struct SelectedDeadLetters {
    letters: Vec<(QueueSpec, Vec<DeadLetter>)>,
    /// Whether each one was named.
    named: bool,
}

impl SelectedDeadLetters {
    /// How many they are.
    pub fn count(&self) -> usize {
        self.letters.iter().map(|(_, letters)| letters.len()).sum()
    }
}

impl Admin {
    /// An operator of `queues` on `bus`.
    pub fn new(bus: Arc<dyn Bus>, queues: &[QueueSpec]) -> Self {
        Self {
            bus,
            queues: queues.into(),
            usefulness: None,
        }
    }

    /// Requeues nothing that would be handled without any effect.
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

    /// How each queue is doing, in the order of the pipeline.
    pub async fn queues(&self) -> Result<Vec<QueueReport>, AdminError> {
        let mut reports = Vec::with_capacity(self.queues.len());
        for queue in self.queues.iter() {
            reports.push(self.report(queue).await?);
        }
        Ok(reports)
    }

    /// How one queue is doing.
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
            .map(|waiting| {
                MessageReport::new(queue, waiting, Contents::without_body(&waiting.envelope))
            })
            .collect())
    }

    /// One message of a queue, with its body.
    pub async fn message(&self, queue: &str, id: Uuid) -> Result<MessageReport, AdminError> {
        let queue = self.find(queue)?;
        let found = self.bus.message(queue, id).await?;
        let waiting = found.ok_or(AdminError::NoMessage {
            queue: queue.name,
            id,
            that: "",
        })?;
        Ok(MessageReport::new(
            queue,
            &waiting,
            Contents::whole(&waiting.envelope),
        ))
    }

    /// Makes delayed messages ready now. Returns how many.
    pub async fn requeue(&self, queue: &str, messages: Messages) -> Result<usize, AdminError> {
        let (queue, which) = (self.find(queue)?, messages.which()?);
        if let MessageSelector::One(id) = which
            && let Some(waiting) = self.bus.message(queue, id).await?
            && let Some(why) = self.useless(queue, &waiting.envelope).await?
        {
            return Err(AdminError::Useless {
                queue: queue.name,
                id,
                why,
            });
        }
        done(
            queue,
            which,
            self.bus.requeue(queue, which).await?,
            " that is delayed",
        )
    }

    /// Throws away messages that no worker holds. Returns how many.
    pub async fn drop_waiting(&self, queue: &str, messages: Messages) -> Result<usize, AdminError> {
        let (queue, which) = (self.find(queue)?, messages.which()?);
        done(
            queue,
            which,
            self.bus.drop_waiting(queue, which).await?,
            " that is ready or delayed",
        )
    }

    /// How many messages [`Admin::drop_waiting`] would throw away now.
    pub async fn count_waiting(
        &self,
        queue: &str,
        messages: Messages,
    ) -> Result<usize, AdminError> {
        let queue = self.find(queue)?;
        match messages.which()? {
            MessageSelector::All => {
                let depth = self.bus.depth(queue).await?;
                Ok(depth.ready + depth.delayed)
            }
            MessageSelector::One(id) => {
                let found = self.bus.message(queue, id).await?;
                let free =
                    found.filter(|found| !matches!(found.state, MessageState::InFlight { .. }));
                done(
                    queue,
                    MessageSelector::One(id),
                    usize::from(free.is_some()),
                    " that is ready or delayed",
                )
            }
        }
    }

    /// Stops or resumes a queue, and reports how it is doing.
    pub async fn set_paused(&self, queue: &str, paused: bool) -> Result<QueueReport, AdminError> {
        let queue = self.find(queue)?;
        self.bus.set_paused(queue, paused).await?;
        self.report(queue).await
    }

    /// The newest `limit` dead letters of one queue or all, whose reason contains `reason`.
    pub async fn dead(
        &self,
        queue: Option<&str>,
        reason: &str,
        limit: usize,
    ) -> Result<Vec<DeadLetterReport>, AdminError> {
        let mut reports = Vec::new();
        for queue in self.scope(queue)? {
            let letters = self.bus.dead(queue, reason, limit).await?;
            reports.extend(letters.into_iter().map(|letter| DeadLetterReport {
                queue: queue.name,
                letter,
            }));
        }
        reports.sort_by_key(|report| Reverse(report.letter.died_at));
        reports.truncate(limit);
        Ok(reports)
    }

    /// A dead letter, of one queue or whichever has it, with what it holds.
    pub async fn dead_letter(
        &self,
        queue: Option<&str>,
        id: &str,
    ) -> Result<DeadLetterContents, AdminError> {
        for queue in self.scope(queue)? {
            if let Some((letter, remains)) = self.bus.dead_letter(queue, id).await? {
                let contents = match remains {
                    DeadLetterPayload::Message(envelope) => Contents::whole(&envelope),
                    DeadLetterPayload::Unreadable(bytes) => Contents::unreadable(&bytes),
                };
                return Ok(DeadLetterContents {
                    report: DeadLetterReport {
                        queue: queue.name,
                        letter,
                    },
                    contents,
                });
            }
        }
        Err(AdminError::NoDeadLetters {
            ids: vec![id.to_owned()],
        })
    }

    /// Finds the dead letters that are meant: all of them, or none when one that is named is not there.
    pub async fn choose(
        &self,
        letters: &DeadLetterFilter,
    ) -> Result<SelectedDeadLetters, AdminError> {
        let DeadLetterFilter {
            queue,
            ids,
            reason,
            all,
        } = letters;
        if reason.as_ref().is_some_and(String::is_empty) {
            return Err(AdminError::Empty("reason"));
        }
        if [!ids.is_empty(), reason.is_some(), *all]
            .into_iter()
            .filter(|chosen| *chosen)
            .count()
            != 1
        {
            return Err(AdminError::Unclear(
                "dead letters? name either their ids, or a reason, or all",
            ));
        }
        let wanted: HashSet<&str> = ids.iter().map(String::as_str).collect();
        let mut missing = wanted.clone();
        let mut chosen = Vec::new();
        for queue in self.scope(queue.as_deref())? {
            let found = self
                .bus
                .dead(queue, reason.as_deref().unwrap_or_default(), usize::MAX)
                .await?;
            let found = found.into_iter().rev();
            let found: Vec<DeadLetter> = found
                .filter(|letter| wanted.is_empty() || wanted.contains(letter.id.as_str()))
                .collect();
            for letter in &found {
                missing.remove(letter.id.as_str());
            }
            chosen.push((*queue, found));
        }
        if missing.is_empty() {
            return Ok(SelectedDeadLetters {
                letters: chosen,
                named: !ids.is_empty(),
            });
        }
        let mut ids: Vec<_> = missing.into_iter().map(str::to_owned).collect();
        ids.sort();
        Err(AdminError::NoDeadLetters { ids })
    }

    /// Puts dead letters back into their queues. Those that would be handled without any effect stay, and those that hold
    /// no message, which would only die once more. Nothing is done when one of the latter was named.
    pub async fn requeue_dead(&self, chosen: &SelectedDeadLetters) -> Result<Requeued, AdminError> {
        let (mut outcome, mut useful) = (Requeued::default(), Vec::new());
        for (queue, letters) in &chosen.letters {
            let mut ids = Vec::with_capacity(letters.len());
            for letter in letters {
                let id = letter.id.clone();
                // Another release may have written what this one cannot read.
                let must_be_read = letter.unreadable || self.usefulness.is_some();
                let found = if must_be_read {
                    self.bus.dead_letter(queue, &id).await?
                } else {
                    None
                };
                match found {
                    Some((_, DeadLetterPayload::Unreadable(_))) => outcome.unreadable.push(id),
                    Some((_, DeadLetterPayload::Message(envelope))) => {
                        match self.useless(queue, &envelope).await? {
                            Some(why) => outcome.kept.push(KeptDeadLetter {
                                queue: queue.name,
                                id,
                                why,
                            }),
                            None => ids.push(id),
                        }
                    }
                    None => ids.push(id),
                }
            }
            useful.push((queue, ids));
        }
        if chosen.named && !outcome.unreadable.is_empty() {
            return Err(AdminError::Unreadable {
                ids: outcome.unreadable,
            });
        }
        for (queue, ids) in useful {
            outcome.requeued += self.bus.requeue_dead(queue, &ids).await?;
        }
        Ok(outcome)
    }

    /// Throws dead letters away. Returns how many were still there.
    pub async fn drop_dead(&self, chosen: &SelectedDeadLetters) -> Result<usize, AdminError> {
        let mut count = 0;
        for (queue, letters) in &chosen.letters {
            let ids: Vec<String> = letters.iter().map(|letter| letter.id.clone()).collect();
            count += self.bus.drop_dead(queue, &ids).await?;
        }
        Ok(count)
    }

    async fn report(&self, queue: &QueueSpec) -> Result<QueueReport, AdminError> {
        Ok(QueueReport::new(queue, self.bus.status(queue).await?))
    }

    /// The queues that are meant: the one that is named, or all.
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
                    .filter(|(score, _)| *score > ALIKE);
                AdminError::UnknownQueue {
                    name: name.to_owned(),
                    near: near.map(|(_, known)| known),
                    known,
                }
            })
    }
}

/// That nothing was done to a message that was named is an error.
fn done(
    queue: &QueueSpec,
    which: MessageSelector,
    count: usize,
    that: &'static str,
) -> Result<usize, AdminError> {
    match which {
        MessageSelector::One(id) if count == 0 => Err(AdminError::NoMessage {
            queue: queue.name,
            id,
            that,
        }),
        _ => Ok(count),
    }
}
