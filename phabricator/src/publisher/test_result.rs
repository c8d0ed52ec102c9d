//! Publishes the result of a test on the target of its build.
//!
//! # Published at most once
//!
//! As with other units (see `publisher.rs`), the server appends one each time it is sent, and no call lists them. So a
//! delivery claims a result before it sends it, and the claim does not expire while it is kept. A delivery that finds the
//! claim of another one leaves the result out: that one has sent it, is sending it, or died on the way. A test that is
//! shown twice would be worse than one that may be missing. A call that certainly had no effect releases the claim.
//!
//! After many failures that is uncertain: in an outage of hours, each result would be lost at its first attempt. So the
//! publisher first searches for the target, a call that may be repeated, and sends the result only to a server that
//! responds.
//!
//! The claims are not in the build's record: a push may have thousands of tests, and each of them reads that record.

use std::{borrow::Cow, time::Duration};

use async_trait::async_trait;
use bus::{Claim, ClaimField, Context, Handler, RecordStore};
use tracing::{debug, info, warn};

use super::{PublishError, text};
use crate::{
    Conduit, ConduitError,
    api::{MessageType, Unit, UnitResult},
};
use build::{BuildLog, BuildRecord, BuildUpdate, FinalOutcome, TestOutcome, TestResult};

/// The claims of results, by task and run. Their queue does not deliver a message after the retention.
const CLAIMED: RecordStore = RecordStore {
    name: "test-results",
    retention: Duration::from_secs(24 * 3600),
};
/// The delivery that sends the result. The claim expires with its record.
const CLAIM: ClaimField = ClaimField::new("claim", Duration::MAX);

/// The longest name of a unit, in characters: the server's column ends there.
const MAX_NAME: usize = 255;

/// Handles `build:publish-tests`.
pub struct TestResultPublisher {
    conduit: Conduit,
    publish: bool,
    log: BuildLog,
}

impl TestResultPublisher {
    /// A publisher that calls `conduit`. Without `publish` it only logs.
    pub fn new(conduit: Conduit, publish: bool, log: BuildLog) -> Self {
        Self {
            conduit,
            publish,
            log,
        }
    }
}

fn id(result: &TestResult) -> String {
    format!("{}/{}", result.task_id, result.run)
}

/// The reason for which nothing may be published on the target of this build.
fn silenced(record: &BuildRecord) -> Option<&'static str> {
    match record.end.as_ref().map(|end| &end.outcome) {
        Some(FinalOutcome::Answered(BuildUpdate::Pushed(_))) => None,
        Some(FinalOutcome::Answered(BuildUpdate::Private)) => Some("its revision is private"),
        Some(_) => Some("its build was not pushed"),
        None => Some("nothing is known of its build"),
    }
}

#[async_trait]
impl Handler<TestResult> for TestResultPublisher {
    type Error = PublishError;

    async fn handle(&self, result: TestResult, cx: &Context) -> Result<bus::Outcome, PublishError> {
        let TestResult {
            target,
            task_id,
            run,
            ..
        } = &result;
        let record = self.log.read(cx, target).await?;
        if let Some(reason) = silenced(&record) {
            info!(
                task = task_id,
                run, "skipping the result of a test: {reason}"
            );
            return Ok(bus::Outcome::Done);
        }
        if !self.publish {
            info!(
                task = task_id,
                run, "skipping the result of a test: PHABRICATOR.publish is false"
            );
            return Ok(bus::Outcome::Done);
        }
        if self
            .conduit
            .targets(std::slice::from_ref(target))
            .await?
            .is_empty()
        {
            warn_of_hidden(&result);
            return Ok(bus::Outcome::Done);
        }
        let Claim::Acquired(claim) = cx.claim::<()>(&CLAIMED, &id(&result), CLAIM).await? else {
            debug!(
                task = task_id,
                run, "skipping the result of a test: another delivery has claimed it"
            );
            return Ok(bus::Outcome::Done);
        };
        let sent = self
            .conduit
            .send_message(target, MessageType::Work, &[unit(&result)])
            .await;
        if sent.as_ref().is_err_and(ConduitError::had_no_effect) {
            claim.release(cx);
        }
        if sent? {
            info!(
                task = task_id,
                run, "published the result of a test on the build target"
            );
        } else {
            warn_of_hidden(&result);
        }
        Ok(bus::Outcome::Done)
    }
}

fn warn_of_hidden(TestResult { task_id, run, .. }: &TestResult) {
    warn!(
        task = task_id,
        run, "skipping the result of a test: its build target is not visible"
    );
}

fn unit(result: &TestResult) -> Unit {
    let name: String = result
        .label
        .chars()
        .filter(|c| !c.is_control())
        .take(MAX_NAME)
        .collect();
    let outcome = match result.outcome {
        TestOutcome::Pass => UnitResult::Pass,
        TestOutcome::Fail => UnitResult::Fail,
    };
    text::unit(
        Cow::Owned(name),
        outcome,
        None,
        result.link.clone().unwrap_or_default(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use build::Phid;

    #[test]
    fn label_is_cut_to_the_length_of_the_servers_column() {
        let result = TestResult {
            target: Phid::parse("PHID-HMBT-00000000000000000001").unwrap(),
            label: format!("a\nb\u{7}{}", "ü".repeat(1000)),
            outcome: TestOutcome::Pass,
            link: None,
            task_id: "task".to_owned(),
            run: 0,
        };
        let unit = unit(&result);
        assert!(
            unit.name.starts_with("abü") && unit.name.chars().count() == MAX_NAME,
            "{}",
            unit.name
        );
        assert_eq!((unit.result, unit.details.as_str()), (UnitResult::Pass, ""));
    }
}
