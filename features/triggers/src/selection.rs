//! Test selection: from a push to Try to the results of the tests that bugbug selected for it.
//!
//! 1. [`SelectionStart`] receives a push, triggers bugbug's hook for a share of them, and records the push.
//! 2. Some minutes later bugbug's task ends. [`SelectionResultHandler`] reads the selected tests, and adds them to the push
//!    through the action that the push's decision task offers for it.
//! 3. [`TestResultHandler`] receives all tasks on Try that end, and publishes the results of tests of recorded pushes.
//!
//! # Repeated messages
//!
//! A handler sends and records in one step, so a message that is repeated later finds its step done. Two that are handled at
//! the same time may both send, without harm: a hook is triggered once for the key of its trigger, the mail service drops a
//! mail that it sent shortly before, and a result is published once.
//!
//! # Trust
//!
//! Whoever may push to Try decides what its decision task offers. So an action is hostile input: a schema, a template and
//! the name of a hook. Our credentials may trigger hooks that a pusher may not. Therefore the decision task itself must have
//! the scope for the hook, as Taskcluster's specification of actions demands. The schema and the template must stay within
//! limits under which their evaluation ends soon (`action_limits.rs`).

mod action;
mod action_limits;
mod error;
mod result_handler;
mod start;
mod store;
mod test_results;

pub use action::ActionError;
pub use error::SelectionError;
pub use result_handler::{SelectionQueues, SelectionResultHandler};
pub use start::SelectionStart;
pub use test_results::TestResultHandler;
