//! Says on a build target how a test of its push ended.
//!
//! # Said once
//!
//! As with other units (see `publisher.rs`), the server appends one each time it is sent, and nothing lists them. Before a
//! result is sent, it is claimed, for as long as the claim is kept. A delivery that finds another one's claim leaves the
//! result alone: it was said, or is being said, or its delivery died on the way, and a test that is shown twice would be
//! worse than one that may be missing. A call that the server surely did not act on releases the claim.
//!
//! Of many failures that is not sure, and in an outage of hours each result would be left alone after its first. So the
//! server is asked for the target before, which may be asked again: only a server that answers is sent the result.
//!
//! The claims are not in the build's record: a push may have thousands of tests, and the record is read for each of them.

use std::{borrow::Cow, time::Duration};

use async_trait::async_trait;
use bus::{Claim, ClaimField, Context, Handler, RecordStore};
use tracing::{debug, info, warn};

use super::{PublishError, text};
use crate::{
    Conduit, ConduitError,
    api::{MessageType, Unit, UnitResult},
};
use build::{BuildLog, BuildRecord, Outcome, Report, TestOutcome, TestResult};

/// Results that were said, by their task and run. A message is not repeated after so long.
const SAID: RecordStore = RecordStore {
    name: "test-results",
    retention: Duration::from_secs(24 * 3600),
};
/// Which delivery says it. It does not run out before the record is forgotten.
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
    /// A publisher which speaks through `conduit`; without `publish` it only logs what it would say.
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

/// Why nothing may be said on the target of this build.
fn silenced(record: &BuildRecord) -> Option<&'static str> {
    match record.end.as_ref().map(|end| &end.outcome) {
        Some(Outcome::Answered(Report::Pushed(_))) => None,
        Some(Outcome::Answered(Report::Withheld)) => Some("its revision is private"),
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
                run, "the result of a test is not said: {reason}"
            );
            return Ok(bus::Outcome::Done);
        }
        if !self.publish {
            info!(
                task = task_id,
                run, "publishing is switched off, the result of a test is not said"
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
        let Claim::Acquired(claim) = cx.claim::<()>(&SAID, &id(&result), CLAIM).await? else {
            debug!(
                task = task_id,
                run, "the result of a test was said before, or is being said"
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
                run, "said on the build target how a test ended"
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
        run, "the result of a test is not said: its build target is not visible"
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
    fn a_label_that_the_server_could_not_store_is_cut() {
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
