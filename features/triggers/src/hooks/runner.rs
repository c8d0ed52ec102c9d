//! Triggers hooks.
//!
//! # Triggered once, if that can be known
//!
//! Taskcluster has no deduplication key for triggers, and no call that finds the task of a payload. So the runner claims a
//! trigger first ([`bus::Claim`]), and records its result afterwards:
//!
//! * A delivery that finds the result does not trigger the hook. It sends the task to the watcher. This happens when an
//!   earlier delivery lost its lease or its process after recording, and when a source repeats a trigger within
//!   [`RETENTION`].
//! * A delivery that finds the claim of another one waits until the claim expires, and then triggers the hook, perhaps for
//!   the second time. An analysis that runs twice wastes a machine's time; one that does not run is missed.
//! * A failed call releases its claim, so that the next attempt need not wait. If only the response was lost, the call
//!   created a task all the same, and the next attempt creates another, for the same reason.
//!
//! The runner records the result as soon as it has it, or as soon as the bus responds again. A hook runs twice only if a
//! process dies between Taskcluster's response and this record, if the response is lost, or if Redis loses the claim before
//! this record, and another delivery claims the trigger meanwhile. The task of a lost response is not watched.

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
use crate::{HookTask, Trigger};

/// How long the results of triggers are kept.
const RETENTION: Duration = Duration::from_secs(30 * 24 * 3600);
/// The claim of a trigger. It outlasts the longest call: four tries of 30 s, and the waits between them.
const RUN: ClaimField = ClaimField::new("run", Duration::from_secs(180));

/// Handles `hooks` or `hooks:community`: triggers hooks, and sends their tasks to the watcher.
pub struct HookRunner {
    taskcluster: Taskcluster,
    store: RecordStore,
    tasks: Queue<HookTask>,
}

/// The result of a trigger.
#[derive(Debug, Serialize, Deserialize)]
struct Triggered {
    at: Timestamp,
    /// The task that the hook created, if any.
    task_id: Option<String>,
}

impl HookRunner {
    /// Triggers the hooks in `hooks` on `taskcluster`, and sends their tasks to `tasks`. The record store of the results has
    /// the name of the queue `hooks`.
    pub fn new(taskcluster: Taskcluster, hooks: &Queue<Trigger>, tasks: Queue<HookTask>) -> Self {
        Self {
            taskcluster,
            store: RecordStore {
                name: hooks.spec().name,
                retention: RETENTION,
            },
            tasks,
        }
    }

    fn watch(
        &self,
        trigger: &Trigger,
        task_id: String,
        triggered_at: Timestamp,
        cx: &Context,
    ) -> Result<(), BusError> {
        let watched = HookTask {
            task_id,
            hook: trigger.hook.clone(),
            triggered_at,
            retried: 0,
        };
        cx.send_deduplicated(&self.tasks, &watched, &watched.task_id)
    }

    /// Triggers the hook under the claim of this delivery.
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
            warn!(%hook, key, error, "cannot record the triggered hook; retrying with the settlement");
        }
        match &triggered.task_id {
            Some(task) => info!(step = "triggered", %hook, key, task, "hook triggered"),
            None => {
                info!(step = "triggered", %hook, key, "hook triggered; its template created no task")
            }
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
                let reason = format!("another delivery is triggering hook {hook}");
                return Ok(Outcome::defer(look_again, reason));
            }
            Claim::Done(triggered) => {
                debug!(%hook, key, "already triggered");
                triggered
            }
        };
        if let Some(task_id) = task_id {
            self.watch(&trigger, task_id, at, cx)?;
        }
        Ok(Outcome::Done)
    }
}
