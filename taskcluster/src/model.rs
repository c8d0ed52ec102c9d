//! Tasks as the queue service describes them, in its responses and in its Pulse messages.
//!
//! Shapes: the queue's schemas `task.json`, `task-status.json` and `task-*-message.json`, version 1.

mod definition;
mod message;
mod status;

pub use definition::{TaskDefinition, TaskMetadata};
pub use message::{GroupResolvedMessage, MessageTask, TaskMessage};
pub use status::{Run, TaskState, TaskStatus};
