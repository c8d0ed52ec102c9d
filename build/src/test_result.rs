//! The result of a test that ran for a build.

use bus::Message;
use serde::{Deserialize, Serialize};
use tracing::{Span, field::display};

use super::Phid;

/// A test that ran on Try for a build, to be published on its target; travels in `build:publish-tests`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestResult {
    /// The target of the build that was pushed.
    pub target: Phid,
    /// The test's name, such as `test-linux1804-64-qr/opt-xpcshell-1`. Hostile: pushes name their tests.
    pub label: String,
    /// The result of this run.
    pub outcome: TestOutcome,
    /// Text for the author that leads to more, in remarkup of our own words.
    pub link: Option<String>,
    /// The task that ran it. With the run it names the result.
    pub task_id: String,
    /// The number of the task's run, from 0.
    pub run: u32,
}

impl Message for TestResult {
    const VERSION: u16 = 1;

    fn describe(&self, span: &Span) {
        span.record("build", display(&self.target));
    }
}

/// The result of a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TestOutcome {
    /// It passed.
    Pass,
    /// It failed, or was ended from outside.
    Fail,
}
