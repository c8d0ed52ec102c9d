//! Watches the tasks that hooks created until they end, and reports on them.
//!
//! A watched task is a message that is deferred until the task ends: at first for a minute, and longer as the task gets
//! older. There is no list that a restart could lose. The watcher records the result of the task in the step that settles
//! the message. A report takes all results that no report had. Its mails are sent in the step that marks these results as
//! reported, so each result is in one report.
//!
//! A task that ends as an *exception* did not fail by itself: its worker vanished, or its deadline passed. The watcher
//! creates another task from its definition. The id of the new task follows from that of the old one, so a delivery after a
//! crash finds the task that an earlier one created.

mod report;
mod reporter;
mod results;
mod watcher;

pub use report::{Report, ReportScope};
pub use reporter::Reporter;
pub use results::{EndedTask, TaskResult};
pub use watcher::{TaskWatcher, WatchError};
