//! The record of each ref that gets heads of builds: the heads that were pushed to it.
//!
//! A ref of a Git repository is replaced or deleted only while it has a head of ours, so the worker has to know these. A
//! head is recorded before it is pushed: a worker that dies after a push has left no head that the next one takes for
//! somebody else's. A record is kept for twice the retention of the ref, and for [`AT_LEAST`].
//!
//! Each repository has an index of its records, the ref that was pushed to last first. A push writes the record and its
//! place in the index in one step. A record leaves the index when its ref is gone, or when it expires.
//!
//! A deletion claims the ref before it begins. So no build pushes to a ref that is being deleted, and nobody deletes a ref
//! that a build has begun to push to: both change one field by compare-and-set.

use std::{collections::HashSet, sync::Arc, time::Duration};

use build::{Build, Phid};
use bus::{Bus, BusError, CompareAndSet, Context, Field, Record, RecordStore, RecordUpdate};
use jiff::Timestamp;
use runtime::{error_chain, sanitize::one_line};
use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::{GitSettings, RepositorySettings, WorkerError, outcome::NotPushed, revision::Revision};

/// The shortest time from the last push to a ref until its record expires.
const AT_LEAST: Duration = Duration::from_secs(90 * 24 * 3600);

/// The most heads of a ref that may be replaced. A build that is restarted pushes another head at most.
const HEADS: usize = 32;

/// The time after which a claimed deletion has ended, even if its process died. It is longer than the commands of one
/// deletion may take.
const CLAIM: Duration = Duration::from_secs(15 * 60);

/// The time until the retry of a build whose ref is being deleted.
const DELETED_SOON: Duration = Duration::from_secs(20);

/// The most attempts to begin a push while others change the same record.
const RACES: usize = 10;

/// The number of records that are read at once.
const PAGE: usize = 200;

/// The longest error of a deletion that is kept, in bytes.
const LONGEST_ERROR: usize = 1000;

const STATE: Field<RefState> = Field::new("state");

/// A head that a worker began to push to a ref.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct PushedHead {
    /// The commit.
    head: String,
    /// The build.
    target: Phid,
    /// The time at which the push began.
    at: Timestamp,
}

/// The state of a ref.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct RefState {
    /// The revision of its builds.
    revision_id: u64,
    /// The time of the last push.
    pushed_at: Timestamp,
    /// The time at which a process claimed its deletion.
    deleting: Option<Timestamp>,
    /// The last deletion that the destination refused.
    failed: Option<FailedDeletion>,
}

/// A deletion that the destination refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedDeletion {
    /// The time of the attempt.
    pub at: Timestamp,
    /// The error.
    pub error: String,
}

/// A ref that heads were pushed to, as its record has it.
#[derive(Debug, Clone)]
pub(super) struct PushedRef {
    pub(super) reference: String,
    pub(super) revision_id: u64,
    /// The time of the last push.
    pub(super) pushed_at: Timestamp,
    /// The heads, each once, the newest first.
    pub(super) heads: Vec<Revision>,
    /// The targets of the builds.
    pub(super) targets: Vec<Phid>,
    pub(super) failed: Option<FailedDeletion>,
    id: String,
    state: RefState,
}

/// Records that `head` is about to be pushed to the ref of a build. Returns the heads that were pushed there before, each
/// once, the newest first. `head` itself may be one of them.
///
/// Returns `None`, and records nothing, when a newer build has begun to push another head since this one did: its head
/// stays. So does that of a restarted build when the first one is delivered again, because its worker died.
pub(crate) async fn begin(
    cx: &Context,
    repository: &RepositorySettings,
    git: &GitSettings,
    build: &Build,
    head: &Revision,
) -> Result<Option<Vec<Revision>>, NotPushed> {
    let (store, reference) = (store(git), git.reference(build));
    let id = id(repository, &reference);
    let target = &build.request.target;
    for _ in 0..RACES {
        let record = cx.recorded(&store, &id).await.map_err(WorkerError::from)?;
        let before = heads_of(&id, &record)?;
        if is_overtaken(&before, target, head) {
            return Ok(None);
        }
        let state = state_of(&id, &record)?;
        let now = cx.clock().now();
        if state.as_ref().is_some_and(|state| state.is_claimed(now)) {
            return Err(NotPushed::Defer {
                after: DELETED_SOON,
                reason: format!("{reference} of an earlier build is being deleted"),
            });
        }
        let new = RefState {
            revision_id: build.request.revision_id,
            pushed_at: now,
            deleting: None,
            failed: None,
        };
        // The ref gets the first place of the index.
        let mut updates = vec![
            store.remove_from_index(&id, repository.name.clone()),
            store.add_to_index(&id, repository.name.clone()),
        ];
        if before
            .last()
            .is_none_or(|last| last.head != head.id || last.target != *target)
        {
            let pushed = PushedHead {
                head: head.id.clone(),
                target: target.clone(),
                at: now,
            };
            updates.push(store.add(&id, &pushed).map_err(WorkerError::from)?);
        }
        let change = store
            .compare_and_set(&id, STATE, state.as_ref(), Some(&new))
            .map_err(WorkerError::from)?;
        if cx
            .compare_and_set(change, updates)
            .await
            .map_err(WorkerError::from)?
        {
            return Ok(Some(newest(before)));
        }
    }
    Err(NotPushed::Defer {
        after: DELETED_SOON,
        reason: format!("others push to {reference}"),
    })
}

/// Whether another build has begun to push another head after this build began to push.
fn is_overtaken(before: &[PushedHead], target: &Phid, head: &Revision) -> bool {
    before
        .last()
        .is_some_and(|last| last.target != *target && last.head != head.id)
        && before.iter().any(|pushed| pushed.target == *target)
}

/// The records of a repository's refs, on a bus.
pub(super) struct Records<'a> {
    bus: &'a Arc<dyn Bus>,
    store: RecordStore,
    repository: &'a str,
}

impl<'a> Records<'a> {
    pub(super) fn new(
        bus: &'a Arc<dyn Bus>,
        repository: &'a RepositorySettings,
        git: &GitSettings,
    ) -> Self {
        Self {
            bus,
            store: store(git),
            repository: &repository.name,
        }
    }

    /// All refs, the one that was pushed to last first.
    pub(super) async fn list(&self) -> Result<Vec<PushedRef>, WorkerError> {
        let mut refs = Vec::new();
        let mut known = HashSet::new();
        for page in 0.. {
            let part = page * PAGE..(page + 1) * PAGE;
            let listed = self.bus.indexed(&self.store, self.repository, part).await?;
            let is_last = listed.len() < PAGE;
            // A ref that is pushed to meanwhile moves the others to the next page.
            let ids = listed.into_iter().map(|(id, _)| id);
            let ids: Vec<String> = ids.filter(|id| known.insert(id.clone())).collect();
            let records = self.bus.records(&self.store, &ids).await?;
            for (id, record) in ids.into_iter().zip(records) {
                match PushedRef::read(id, &record) {
                    Ok(one) => refs.extend(one),
                    // The others are readable.
                    Err(error) => warn!(
                        repository = self.repository,
                        error = error_chain(&error),
                        "cannot read the record of a ref; leaving the ref as it is"
                    ),
                }
            }
            if is_last {
                break;
            }
        }
        Ok(refs)
    }

    /// Claims the deletion of a ref; `None` if a build has begun to push to it, or another process deletes it.
    pub(super) async fn claim(
        &self,
        one: &PushedRef,
        now: Timestamp,
    ) -> Result<Option<Claimed>, WorkerError> {
        if one.state.is_claimed(now) {
            return Ok(None);
        }
        let state = RefState {
            deleting: Some(now),
            ..one.state.clone()
        };
        let change = self.change(one, &one.state, Some(&state))?;
        let claimed = self.bus.compare_and_set(change, Vec::new()).await?;
        Ok(claimed.then_some(Claimed(state)))
    }

    /// Forgets a ref that is gone, or not ours any more.
    pub(super) async fn forget(&self, one: &PushedRef, claim: Claimed) -> Result<(), WorkerError> {
        let updates = vec![
            self.store.erase(&one.id),
            self.store
                .remove_from_index(&one.id, self.repository.to_owned()),
        ];
        self.end(one, &claim.0, None, updates).await
    }

    /// Ends the claim of a ref that is still there; `failed` is the refusal of the destination.
    pub(super) async fn keep(
        &self,
        one: &PushedRef,
        claim: Claimed,
        failed: Option<FailedDeletion>,
    ) -> Result<(), WorkerError> {
        let state = RefState {
            failed: failed.or_else(|| one.failed.clone()),
            ..one.state.clone()
        };
        self.end(one, &claim.0, Some(&state), Vec::new()).await
    }

    /// After a claim that has expired, the ref may be a build's again: then nothing is changed.
    async fn end(
        &self,
        one: &PushedRef,
        from: &RefState,
        to: Option<&RefState>,
        updates: Vec<RecordUpdate>,
    ) -> Result<(), WorkerError> {
        let change = self.change(one, from, to)?;
        self.bus.compare_and_set(change, updates).await?;
        Ok(())
    }

    fn change(
        &self,
        one: &PushedRef,
        from: &RefState,
        to: Option<&RefState>,
    ) -> Result<CompareAndSet, BusError> {
        self.store.compare_and_set(&one.id, STATE, Some(from), to)
    }
}

/// The claim of a deletion.
pub(super) struct Claimed(RefState);

impl FailedDeletion {
    pub(super) fn new(at: Timestamp, error: &WorkerError) -> Self {
        Self {
            at,
            error: one_line(&error_chain(error), LONGEST_ERROR),
        }
    }
}

impl RefState {
    fn is_claimed(&self, now: Timestamp) -> bool {
        self.deleting
            .is_some_and(|since| now.duration_since(since).unsigned_abs() < CLAIM)
    }
}

impl PushedRef {
    /// `None` when the record has expired.
    fn read(id: String, record: &Record) -> Result<Option<Self>, WorkerError> {
        let (Some(state), Some((_, reference))) = (state_of(&id, record)?, id.split_once(' '))
        else {
            return Ok(None);
        };
        let pushed = heads_of(&id, record)?;
        Ok(Some(Self {
            reference: reference.to_owned(),
            revision_id: state.revision_id,
            pushed_at: state.pushed_at,
            targets: pushed.iter().map(|one| one.target.clone()).collect(),
            heads: newest(pushed),
            failed: state.failed.clone(),
            id,
            state,
        }))
    }
}

fn newest(pushed: Vec<PushedHead>) -> Vec<Revision> {
    let mut known = HashSet::new();
    pushed
        .into_iter()
        .rev()
        .map(|pushed| pushed.head)
        .filter(|head| known.insert(head.clone()))
        .take(HEADS)
        .map(|id| Revision { id })
        .collect()
}

fn heads_of(id: &str, record: &Record) -> Result<Vec<PushedHead>, WorkerError> {
    record.events().map_err(|source| unreadable(id, source))
}

fn state_of(id: &str, record: &Record) -> Result<Option<RefState>, WorkerError> {
    record.field(STATE).map_err(|source| unreadable(id, source))
}

fn unreadable(id: &str, source: bus::DecodeError) -> WorkerError {
    let record = id.to_owned();
    BusError::Record { record, source }.into()
}

/// The id of a record. No name of a repository has a space.
fn id(repository: &RepositorySettings, reference: &str) -> String {
    format!("{} {reference}", repository.name)
}

fn store(git: &GitSettings) -> RecordStore {
    RecordStore {
        name: "pushed_refs",
        retention: git.ref_retention.saturating_mul(2).max(AT_LEAST),
    }
}
