//! Watches the tasks that hooks made until they end, and reports on them.
//!
//! A watched task is a message that comes back, at first every minute and then less often the older the task is: there is
//! no list that a restart could lose. Its end is recorded in the same step in which its message is settled. A report takes
//! all ends that were not reported yet; its mails are sent in the same step in which the ends are marked as reported, so
//! that every end is in one report.
//!
//! A task that ended as an *exception* did not fail by itself: its worker vanished, or its deadline passed. Another task
//! is made from its definition, under an id that follows from the first one's: whoever does that a second time, after a
//! crash, finds the task that is there.

mod report;
mod reporter;
mod results;
mod watcher;

pub use report::{Report, ReportScope};
pub use reporter::Reporter;
pub use results::{EndedTask, TaskEnd};
pub use watcher::{Monitor, MonitorError};
