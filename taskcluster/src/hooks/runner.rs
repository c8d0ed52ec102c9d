//! Triggers hooks.
//!
//! # Triggered once, if that can be known
//!
//! Taskcluster knows no key by which it would refuse to do the same again, and nothing finds the task that a payload led
//! to. So the record of a trigger says beforehand that a delivery is about to do it, and afterwards what came of it:
//!
//! * A delivery that finds what came of it triggers nothing, and hands the task to monitoring. So it goes when the one
//!   before it lost its lease or its life after that was written, and when the same is asked for again, for [`RETENTION`].
//! * A delivery that finds another one about to do it cannot know whether that one got through, or is still at it. So it
//!   looks again until [`UNSETTLED`] is over, and then triggers the hook, perhaps for a second time. An analysis that
//!   runs twice wastes a machine's time, and one that does not run at all is missed by somebody.
//! * A call that failed takes the note back, so that the next attempt need not wait. It may have made a task all the
//!   same, if its answer was lost; the next one makes another then, for the same reason.
//!
//! What came of it is written as soon as it is known, and again with the settlement, for a bus that did not answer just
//! then. What is left to a second run is a process that dies between Taskcluster's answer and that, or an answer that is
//! lost. The task of a lost answer is not watched.

use std::time::Duration;

use async_trait::async_trait;
use bus::{BusError, Context, Fact, Handler, Ledger, Outcome, Queue};
use jiff::Timestamp;
use runtime::error_chain;
use serde::{Deserialize, Serialize};
use tracing::{debug, info, warn};
use uuid::Uuid;

use super::HookError;
use crate::{
    Taskcluster,
    model::{HookName, Trigger, Watched},
};

/// How long it is remembered what was triggered.
const RETENTION: Duration = Duration::from_secs(30 * 24 * 3600);
/// How long a call may take at the longest: four tries of 30 s, and the waits between them.
const UNSETTLED: Duration = Duration::from_secs(180);
/// How long to wait before looking again at what another delivery is about to do.
const LOOK: Duration = Duration::from_secs(5);
/// The slot of a record.
const RUN: &str = "run";

/// Handles `hooks`, or `hooks:community`: triggers, and has the tasks watched.
pub struct HookRunner {
    taskcluster: Taskcluster,
    ledger: Ledger,
    monitoring: Queue<Watched>,
}

/// How far a trigger is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Run {
    /// A delivery is about to do it.
    About { at: Timestamp, by: Uuid },
    /// It is done, and made this task, if any.
    Done {
        at: Timestamp,
        task_id: Option<String>,
    },
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
            ledger: Ledger {
                name: hooks.spec().name,
                retention: RETENTION,
            },
            monitoring,
        }
    }

    async fn read(&self, trigger: &Trigger, cx: &Context) -> Result<Option<Run>, HookError> {
        let record = cx.recorded(&self.ledger, &trigger.key).await?;
        record.slot(RUN).map_err(|source| HookError::Record {
            hook: trigger.hook.clone(),
            source,
        })
    }

    fn moves(
        &self,
        trigger: &Trigger,
        from: Option<&Run>,
        to: Option<&Run>,
    ) -> Result<Fact, BusError> {
        self.ledger.swap(&trigger.key, RUN, from, to)
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
        cx.send_once(&self.monitoring, &watched, &watched.task_id)
    }

    /// Waits for what another delivery does.
    fn unsettled(hook: &HookName) -> Outcome {
        let reason =
            format!("another delivery is about to trigger hook {hook}: waiting for its result");
        Outcome::defer(LOOK, reason)
    }

    /// Triggers it, by this delivery alone.
    async fn run(
        &self,
        trigger: &Trigger,
        before: Option<&Run>,
        cx: &Context,
    ) -> Result<Outcome, HookError> {
        let Trigger { hook, payload, key } = trigger;
        let mine = Run::About {
            at: cx.clock().now(),
            by: cx.clock().new_id(),
        };
        cx.record_now(vec![self.moves(trigger, before, Some(&mine))?])
            .await?;
        if self.read(trigger, cx).await?.as_ref() != Some(&mine) {
            return Ok(Self::unsettled(hook));
        }
        let task_id = match self
            .taskcluster
            .trigger_hook(&hook.group, &hook.id, payload)
            .await
        {
            Ok(task_id) => task_id,
            Err(source) => {
                cx.record(self.moves(trigger, Some(&mine), None)?);
                return Err(HookError::Trigger {
                    hook: hook.clone(),
                    source,
                });
            }
        };
        let at = cx.clock().now();
        let done = self.moves(
            trigger,
            Some(&mine),
            Some(&Run::Done {
                at,
                task_id: task_id.clone(),
            }),
        )?;
        if let Err(error) = cx.record_now(vec![done.clone()]).await {
            let error = error_chain(&error);
            warn!(%hook, key, error, "cannot record what was triggered; retrying");
        }
        cx.record(done);
        let Some(task_id) = task_id else {
            info!(step = "triggered", %hook, key, "triggered, its template made no task");
            return Ok(Outcome::Done);
        };
        info!(step = "triggered", %hook, key, task = task_id, "triggered");
        self.watch(trigger, task_id, at, cx)?;
        Ok(Outcome::Done)
    }
}

#[async_trait]
impl Handler<Trigger> for HookRunner {
    type Error = HookError;

    async fn handle(&self, trigger: Trigger, cx: &Context) -> Result<Outcome, HookError> {
        match self.read(&trigger, cx).await? {
            Some(Run::Done { at, task_id }) => {
                debug!(hook = %trigger.hook, key = trigger.key, "triggered before");
                if let Some(task_id) = task_id {
                    self.watch(&trigger, task_id, at, cx)?;
                }
                Ok(Outcome::Done)
            }
            Some(Run::About { at, .. })
                if cx.clock().now().duration_since(at).unsigned_abs() < UNSETTLED =>
            {
                Ok(Self::unsettled(&trigger.hook))
            }
            before => self.run(&trigger, before.as_ref(), cx).await,
        }
    }
}
