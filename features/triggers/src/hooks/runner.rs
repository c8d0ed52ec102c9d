//! Triggers hooks.
//!
//! # Triggered once, if that can be known
//!
//! Taskcluster knows no key by which it would refuse to do the same again, and nothing finds the task that a payload led
//! to. So a trigger is claimed before, as [`bus::Claim`] has it, and its result is recorded afterwards:
//!
//! * A delivery that finds the result triggers nothing, and hands the task to monitoring. So it goes when the one before
//!   it lost its lease or its life after that was written, and when the same is asked for again, for [`RETENTION`].
//! * A delivery that finds another one's claim waits until the claim's time is over, and then triggers the hook, perhaps
//!   for a second time. An analysis that runs twice wastes a machine's time, and one that does not run at all is missed by
//!   somebody.
//! * A call that failed releases its claim, so that the next attempt need not wait. It may have made a task all the
//!   same, if its answer was lost; the next one makes another then, for the same reason.
//!
//! The result is recorded as soon as it is known, or with the settlement, if the bus did not answer just then. What is
//! left to a second run is a process that dies between Taskcluster's answer and that, or an answer that is
//! lost. The task of a lost answer is not watched.

use std::time::Duration;

use async_trait::async_trait;
use bus::{
    BusError, Claim, ClaimField, ClaimHandle, Context, Handler, Outcome, Queue, RecordStore,
};
use jiff::Timestamp;
use runtime::error_chain;
use serde::{Deserialize, Serialize};
use taskcluster::Taskcluster;
use tracing::{debug, info, warn};

use super::HookError;
use crate::{Trigger, Watched};

/// How long it is remembered what was triggered.
const RETENTION: Duration = Duration::from_secs(30 * 24 * 3600);
/// The claim of a trigger. A call takes four tries of 30 s at the longest, and the waits between them.
const RUN: ClaimField = ClaimField::new("run", Duration::from_secs(180));

/// Handles `hooks`, or `hooks:community`: triggers, and has the tasks watched.
pub struct HookRunner {
    taskcluster: Taskcluster,
    store: RecordStore,
    monitoring: Queue<Watched>,
}

/// The result of a trigger.
#[derive(Debug, Serialize, Deserialize)]
struct Triggered {
    at: Timestamp,
    /// The task that it made, if any.
    task_id: Option<String>,
}

impl HookRunner {
    /// Triggers what comes in `hooks` on `taskcluster`, and sends the tasks to `monitoring`. What was triggered is
    /// recorded under the name of `hooks`.
    pub fn new(
        taskcluster: Taskcluster,
        hooks: &Queue<Trigger>,
        monitoring: Queue<Watched>,
    ) -> Self {
        Self {
            taskcluster,
            store: RecordStore {
                name: hooks.spec().name,
                retention: RETENTION,
            },
            monitoring,
        }
    }

    fn watch(
        &self,
        trigger: &Trigger,
        task_id: String,
        triggered_at: Timestamp,
        cx: &Context,
    ) -> Result<(), BusError> {
        let watched = Watched {
            task_id,
            hook: trigger.hook.clone(),
            triggered_at,
            retried: 0,
        };
        cx.send_deduplicated(&self.monitoring, &watched, &watched.task_id)
    }

    /// Triggers it, by this delivery alone.
    async fn run(
        &self,
        Trigger { hook, payload, key }: &Trigger,
        claim: ClaimHandle,
        cx: &Context,
    ) -> Result<Triggered, HookError> {
        let task_id = match self
            .taskcluster
            .trigger_hook(&hook.group, &hook.id, payload)
            .await
        {
            Ok(task_id) => task_id,
            Err(source) => {
                claim.release(cx);
                return Err(HookError::Trigger {
                    hook: hook.clone(),
                    source,
                });
            }
        };
        let at = cx.clock().now();
        let triggered = Triggered { at, task_id };
        if let Err(error) = claim.complete_now(cx, &triggered).await {
            let error = error_chain(&error);
            warn!(%hook, key, error, "cannot record what was triggered; retrying");
        }
        match &triggered.task_id {
            Some(task) => info!(step = "triggered", %hook, key, task, "triggered"),
            None => info!(step = "triggered", %hook, key, "triggered, its template made no task"),
        }
        Ok(triggered)
    }
}

#[async_trait]
impl Handler<Trigger> for HookRunner {
    type Error = HookError;

    async fn handle(&self, trigger: Trigger, cx: &Context) -> Result<Outcome, HookError> {
        let Trigger { hook, key, .. } = &trigger;
        let Triggered { at, task_id } = match cx.claim(&self.store, key, RUN).await? {
            Claim::Acquired(claim) => self.run(&trigger, claim, cx).await?,
            Claim::Held { look_again, .. } => {
                let reason = format!(
                    "another delivery is about to trigger hook {hook}: waiting for its result"
                );
                return Ok(Outcome::defer(look_again, reason));
            }
            Claim::Done(triggered) => {
                debug!(%hook, key, "triggered before");
                triggered
            }
        };
        if let Some(task_id) = task_id {
            self.watch(&trigger, task_id, at, cx)?;
        }
        Ok(Outcome::Done)
    }
}
