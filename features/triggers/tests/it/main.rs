//! Triggers against fakes of Taskcluster and Phabricator, on a bus.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod docs;
mod hook_tasks;
mod hooks;
mod selection;
mod stage;
