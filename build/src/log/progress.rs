//! The steps of a build before its end: its revision's visibility, its stack, its waits, its base and its push.

use std::{error::Error, time::Duration};

use bus::{BusError, Context, Requeue};
use jiff::Timestamp;
use tracing::info;

use super::{BuildLog, BuildQueues};
use crate::{
    BaseChoice, Blocker, Build, BuildRequest, BuildState, BuildUpdate, BuildUpdateMessage,
    NotPublic, Phid,
    record::{BuildEventKind, BuildLocation, QueueState, field},
};

/// The shortest wait that is logged.
const LONG_WAIT: Duration = Duration::from_secs(60);

impl BuildLog {
    /// Records at once that a worker begins with the build, which came from `queue`.
    pub async fn mark_started(
        &self,
        cx: &Context,
        request: &BuildRequest,
        queue: &str,
    ) -> Result<(), BusError> {
        let step = QueueState::Working {
            attempt: cx.attempt(),
            process: self.process.to_string(),
        };
        let now = BuildLocation {
            queue: queue.to_owned(),
            since: cx.clock().now(),
            step,
        };
        let id = request.target.as_str();
        let mut changes = vec![self.store.set(id, field::NOW, &now)?];
        if queue == self.queues.load.spec().name {
            changes.extend(self.index_updates(request));
        }
        cx.record_now(changes).await
    }

    /// Records that check `check` of `checks` found the build's revision not public.
    pub fn record_not_public(
        &self,
        cx: &Context,
        target: &Phid,
        check: u32,
        checks: u32,
        why: NotPublic,
    ) -> Result<(), BusError> {
        self.note(
            cx,
            target,
            BuildEventKind::NotPublicYet { check, checks, why },
        )
    }

    /// Records the loaded stack. Sends the build on to be pushed (and to the risk analysis, where that is configured), and
    /// `work` to its target.
    pub fn mark_loaded(&self, cx: &Context, build: &Build) -> Result<(), BusError> {
        let BuildQueues {
            push,
            publish,
            risk,
            ..
        } = &self.queues;
        let target = &build.request.target;
        self.note(
            cx,
            target,
            BuildEventKind::Loaded {
                revisions: build.revisions(),
                landed: build.landed.clone(),
                base: build.named_base(),
            },
        )?;
        cx.record(self.ready(target, cx.clock().now(), push.spec().name)?);
        cx.send(push, build)?;
        if let Some(risk) = risk {
            cx.send(risk, build)?;
        }
        let working = BuildUpdateMessage {
            request: build.request.clone(),
            update: BuildUpdate::Working,
        };
        cx.send(publish, &working)
    }

    /// Records that the build waits in `queue` for `after`. The caller has recorded the event that explains it.
    pub fn defer(
        &self,
        cx: &Context,
        target: &Phid,
        queue: &str,
        after: Duration,
        reason: &str,
    ) -> Result<(), BusError> {
        self.delayed(cx, target, queue, after, reason, 0)
    }

    /// The same, after `attempt` failed attempts.
    fn delayed(
        &self,
        cx: &Context,
        target: &Phid,
        queue: &str,
        after: Duration,
        reason: &str,
        attempt: u32,
    ) -> Result<(), BusError> {
        let now = cx.clock().now();
        let until = now.checked_add(after).unwrap_or(Timestamp::MAX);
        let step = QueueState::Delayed {
            until,
            reason: reason.to_owned(),
            attempt,
        };
        cx.record(self.store.set(
            target.as_str(),
            field::NOW,
            &BuildLocation {
                queue: queue.to_owned(),
                since: now,
                step,
            },
        )?);
        Ok(())
    }

    /// Records that the build's message returns to `queue`. Repeats of one reason are one event. A wait for one reason that
    /// exceeds a minute is logged once; the consumer logs failed attempts.
    pub async fn record_requeue<E: Error>(
        &self,
        cx: &Context,
        target: &Phid,
        queue: &str,
        requeue: &Requeue<'_, E>,
        blocker: Option<Blocker>,
    ) -> Result<(), BusError> {
        let reason = &requeue.why.to_string();
        let is_attempt = requeue.why.is_attempt();
        let known = self.read(cx, target).await?;
        let same = known.events.last().filter(|event| match &event.kind {
            BuildEventKind::Failed {
                queue: at,
                reason: before,
                ..
            }
            | BuildEventKind::Deferred {
                queue: at,
                reason: before,
                ..
            } => at == queue && before == reason,
            _ => false,
        });
        let now = cx.clock().now();
        let since = same.map_or(now, |event| event.at);
        let waited = Duration::try_from(now.duration_since(since)).unwrap_or_default();
        let is_long = !is_attempt && waited + requeue.after >= LONG_WAIT;
        // The record knows whether this wait was logged: a late delivery could miss a moment by the clock.
        if is_long && known.wait_logged != Some(since) {
            info!(
                state = BuildState::Deferred.name(),
                reason, "build deferred: {reason}"
            );
            cx.record(
                self.store
                    .set(target.as_str(), field::WAIT_LOGGED, &since)?,
            );
        }
        if same.is_none() {
            let queue = queue.to_owned();
            let reason = reason.clone();
            let kind = if is_attempt {
                BuildEventKind::Failed {
                    queue,
                    attempt: cx.attempt(),
                    reason,
                }
            } else {
                BuildEventKind::Deferred {
                    queue,
                    reason,
                    blocker,
                }
            };
            cx.record(self.event(target, now, kind)?);
        }
        let attempt = if is_attempt { cx.attempt() } else { 0 };
        self.delayed(cx, target, queue, requeue.after, reason, attempt)
    }

    /// Chooses the base of the build, unless one was chosen before. Returns the base that stands. It is written before the
    /// first commit is made on it, so a build that is delivered again gives the same commits, on any machine.
    pub async fn choose_base(
        &self,
        cx: &Context,
        target: &Phid,
        choice: &BaseChoice,
    ) -> Result<BaseChoice, BusError> {
        self.set_base(cx, target, None, choice).await
    }

    /// Chooses another base after the stack did not apply on `tried`. Returns the base that stands.
    pub async fn choose_base_instead(
        &self,
        cx: &Context,
        target: &Phid,
        tried: &BaseChoice,
        choice: &BaseChoice,
    ) -> Result<BaseChoice, BusError> {
        self.set_base(cx, target, Some(tried), choice).await
    }

    async fn set_base(
        &self,
        cx: &Context,
        target: &Phid,
        before: Option<&BaseChoice>,
        choice: &BaseChoice,
    ) -> Result<BaseChoice, BusError> {
        let chosen = self.event(
            target,
            cx.clock().now(),
            BuildEventKind::BaseChosen(choice.clone()),
        )?;
        let change =
            self.store
                .compare_and_set(target.as_str(), field::BASE, before, Some(choice))?;
        let stands = match cx.compare_and_set(change, vec![chosen]).await? {
            true => None,
            false => self.read(cx, target).await?.base,
        };
        Ok(stands.unwrap_or_else(|| choice.clone()))
    }

    /// Records at once that the push begins: from here on the head may be at its destination. Returns whether a push had begun
    /// before, and was not refused. Of two deliveries at once, one alone gets `false`.
    pub async fn mark_pushing(&self, cx: &Context, target: &Phid) -> Result<bool, BusError> {
        // The field is missing before the first push, and `false` after a refused one.
        for before in [None, Some(&false)] {
            let begins =
                self.store
                    .compare_and_set(target.as_str(), field::PUSHING, before, Some(&true))?;
            if cx.compare_and_set(begins, Vec::new()).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Records that the push was refused: nothing is at the destination.
    pub fn clear_pushing(&self, cx: &Context, target: &Phid) -> Result<(), BusError> {
        cx.record(self.store.set(target.as_str(), field::PUSHING, &false)?);
        Ok(())
    }
}
