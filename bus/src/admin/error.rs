//! The failures of an operator's actions.

use thiserror::Error;
use uuid::Uuid;

use crate::BusError;

/// The reason why an operator's action did nothing.
#[derive(Debug, Error)]
pub enum AdminError {
    /// The deployment has no queue of that name.
    #[error(
        "there is no queue {name:?}{}; the queues are {}",
        near.map(|near| format!(", did you mean {near}?")).unwrap_or_default(),
        known.join(", ")
    )]
    UnknownQueue {
        /// As the operator wrote it.
        name: String,
        /// The most similar name, when it is similar enough.
        near: Option<&'static str>,
        /// The names of all queues.
        known: Vec<&'static str>,
    },
    /// The queue does not have the message, or has it in another state than the action needs.
    #[error("queue {queue} has no message {id}{required}")]
    NoMessage {
        /// The name of the queue.
        queue: &'static str,
        /// The id of the message.
        id: Uuid,
        /// The state that the action needs, as the end of a sentence.
        required: &'static str,
    },
    /// None of the queues has these dead letters.
    #[error("there is no dead letter {}", ids.join(", nor "))]
    NoDeadLetters {
        /// The missing ids.
        ids: Vec<String>,
    },
    /// The handling of the message has no effect.
    #[error("message {id} of queue {queue} was not requeued: {why}")]
    Useless {
        /// The name of the queue.
        queue: &'static str,
        /// The id of the message.
        id: Uuid,
        /// The cause, and what to do instead.
        why: String,
    },
    /// The request selects nothing, or selects in two ways.
    #[error("cannot select {0}")]
    Unclear(&'static str),
    /// A criterion is empty, and so would select everything.
    #[error("the {0} is empty: name one, or select all")]
    Empty(&'static str),
    /// This release cannot read the messages of these dead letters.
    #[error(
        "cannot requeue {}: this release cannot read the message; show its bytes with `events dead-letters show`, or drop it",
        ids.join(", ")
    )]
    Unreadable {
        /// The ids of the dead letters.
        ids: Vec<String>,
    },
    /// The bus failed.
    #[error(transparent)]
    Bus(#[from] BusError),
}
