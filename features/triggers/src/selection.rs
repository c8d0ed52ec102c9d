//! Test selection: from a push to Try to the results of the tests that bugbug selected for it.
//!
//! 1. [`SelectionStart`] hears of a push, triggers bugbug's hook for a share of them, and remembers the push.
//! 2. Some minutes later bugbug's task ends. [`SelectionEnd`] reads which tests it selected, and adds them to the push by
//!    the action that the push's decision task offers for that.
//! 3. [`TestEnd`] hears of all tasks on Try that end, and has the results of the tests of such pushes told.
//!
//! # What may come twice
//!
//! What is sent and what is remembered is one step, so a message that is repeated later finds that it is done. Two that are
//! handled at the same moment may both send: a trigger has a key, and its hook is triggered once for it; a mail is dropped
//! by the service that sent the same one before; and a result is sent once, whoever sends it.
//!
//! # What is trusted
//!
//! Whoever may push to Try decides what its decision task offers, so an action is hostile: a schema, a template, and the
//! name of a hook. Our credentials may trigger hooks that a pusher may not. So the decision task itself must have the scope
//! that speaks for the hook, as Taskcluster's specification of actions demands, and the schema and the template must keep
//! within bounds under which they end soon (`action_limits.rs`).

mod action;
mod action_limits;
mod error;
mod result_handler;
mod start;
mod store;
mod test_results;

pub use action::ActionError;
pub use error::SelectionError;
pub use result_handler::{SelectionEnd, SelectionQueues};
pub use start::SelectionStart;
pub use test_results::TestEnd;
