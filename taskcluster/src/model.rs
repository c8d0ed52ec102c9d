//! Tasks as the queue describes them, in its answers and in its Pulse messages.
//!
//! Shapes: the queue's schemas `task.json`, `task-status.json` and `task-*-message.json`, version 1.

mod definition;
mod hook;
mod message;
mod status;

pub use definition::{TaskDefinition, TaskMetadata};
pub use hook::{HookName, Trigger, Watched};
pub use message::{GroupResolvedMessage, MessageTask, TaskMessage};
pub use status::{Run, TaskState, TaskStatus};
