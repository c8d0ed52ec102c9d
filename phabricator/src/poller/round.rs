//! One poll of Phabricator: the new diffs, and the diffs that became public.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bus::{BusError, Producer, Queue, RecordUpdate};
use jiff::Timestamp;
use thiserror::Error;
use tracing::info;

use super::cursor::{PollCursor, is_remembered, mark_seen, were_seen};
use crate::{
    Conduit, ConduitError, NameResolver,
    api::{Listed, ListedFields, Object, PAGE, RevisionInfo},
};
use build::{NewDiff, Phid};

/// The longest delay between the date of a revision's change and its appearance: a transaction is dated before it is
/// committed, and the server may be several machines.
const MARGIN: Duration = Duration::from_secs(600);

/// The cause for which a poll was not completed. The next poll continues where it stopped.
#[derive(Debug, Error)]
pub(super) enum PollError {
    /// A call to Phabricator failed.
    #[error(transparent)]
    Conduit(#[from] ConduitError),
    /// The position cannot be read, or the diffs cannot be stored.
    #[error(transparent)]
    Bus(#[from] BusError),
}

pub(super) struct PollRun {
    pub(super) conduit: Conduit,
    pub(super) resolver: NameResolver,
    pub(super) repositories: BTreeSet<Phid>,
    pub(super) queue: Queue<NewDiff>,
    pub(super) producer: Producer,
}

/// A visible diff that belongs to a revision.
struct Candidate {
    id: u64,
    phid: Phid,
    revision: Phid,
    repository: Option<Phid>,
    created_at: Timestamp,
}

impl Candidate {
    fn new(listed: Listed) -> Option<Self> {
        let Object::Diff { phid, fields } = listed.object else {
            return None;
        };
        let ListedFields {
            revision,
            repository,
            created_at,
        } = fields;
        Some(Self {
            id: listed.id,
            phid,
            revision: revision?,
            repository,
            created_at,
        })
    }
}

impl PollRun {
    /// Polls once.
    pub(super) async fn poll_once(&self) -> Result<(), PollError> {
        let Some(position) = PollCursor::read(self.producer.bus().as_ref()).await? else {
            return self.begin().await;
        };
        if self.follow(position).await? {
            self.reconcile(position).await?;
        }
        Ok(())
    }

    async fn begin(&self) -> Result<(), PollError> {
        let changed = self
            .conduit
            .last_change()
            .await?
            .map_or(0, Timestamp::as_second);
        let newest = self.conduit.newest_diff().await?;
        let position = PollCursor {
            start: newest,
            cursor: newest,
            reconciled: changed,
        };
        self.producer
            .bus()
            .push_with(Vec::new(), position.start()?)
            .await?;
        info!("first start: taking diffs from number {} on", newest + 1);
        Ok(())
    }

    /// Takes the diffs after the cursor, page by page. Returns `false` when another process moved the cursor.
    async fn follow(&self, mut position: PollCursor) -> Result<bool, PollError> {
        loop {
            let page = self.conduit.diffs_after(position.cursor).await?;
            let Some(last) = page.last().map(|listed| listed.id) else {
                return Ok(true);
            };
            let mut diffs: Vec<Candidate> = page.into_iter().filter_map(Candidate::new).collect();
            let revisions: BTreeSet<Phid> =
                diffs.iter().map(|diff| diff.revision.clone()).collect();
            let revisions: Vec<Phid> = revisions.into_iter().collect();
            let public = self.public(self.conduit.revisions(&revisions).await?);
            diffs.retain(|diff| public.contains_key(&diff.revision));
            self.take(diffs, vec![position.advance_to(last)?]).await?;
            position.cursor = last;
            let stored = PollCursor::read(self.producer.bus().as_ref()).await?;
            if stored.map(|stored| stored.cursor) != Some(last) {
                return Ok(false);
            }
        }
    }

    /// Takes the current diff of each public revision that changed, if that diff was never seen.
    async fn reconcile(&self, position: PollCursor) -> Result<(), PollError> {
        let before = Timestamp::from_second(position.reconciled).unwrap_or(Timestamp::MIN);
        let revisions = self
            .conduit
            .revisions_since(before.checked_sub(MARGIN).unwrap_or(Timestamp::MIN))
            .await?;
        let changed = revisions
            .iter()
            .map(|revision| revision.fields.modified_at.as_second())
            .max();
        let public = self.public(revisions);
        let current: Vec<&Phid> = public.values().collect();
        let seen = were_seen(self.producer.bus().as_ref(), &current).await?;
        let unseen: Vec<&Phid> = current
            .into_iter()
            .zip(seen)
            .filter(|(_, seen)| !seen)
            .map(|(diff, _)| diff)
            .collect();
        let now = self.producer.clock().now();
        for chunk in unseen.chunks(PAGE) {
            let listed = self.conduit.listed_diffs(chunk).await?;
            let mut diffs: Vec<Candidate> = listed.into_iter().filter_map(Candidate::new).collect();
            diffs.retain(|diff| {
                diff.id > position.start
                    && is_remembered(diff.created_at, now)
                    && public.contains_key(&diff.revision)
            });
            diffs.sort_unstable_by_key(|diff| diff.id);
            self.take(diffs, Vec::new()).await?;
        }
        if let Some(changed) = changed.filter(|changed| *changed > position.reconciled) {
            self.producer
                .bus()
                .push_with(Vec::new(), vec![position.reconciled_to(changed)?])
                .await?;
        }
        Ok(())
    }

    /// The public ones of these revisions, each with its current diff.
    fn public(&self, revisions: Vec<RevisionInfo>) -> BTreeMap<Phid, Phid> {
        let public = self.resolver.privacy().public(revisions);
        public
            .into_iter()
            .map(|revision| (revision.phid, revision.fields.diff))
            .collect()
    }

    /// Sends those of `diffs` that were never seen and belong to an enabled repository. Marks all of them as seen and writes
    /// `updates`, in the same step.
    async fn take(
        &self,
        diffs: Vec<Candidate>,
        mut updates: Vec<RecordUpdate>,
    ) -> Result<(), PollError> {
        let (bus, clock) = (self.producer.bus(), self.producer.clock());
        let seen = were_seen(
            bus.as_ref(),
            &diffs.iter().map(|diff| &diff.phid).collect::<Vec<_>>(),
        )
        .await?;
        let now = clock.now();
        let (mut messages, mut ages) = (Vec::new(), Vec::new());
        for diff in diffs
            .into_iter()
            .zip(seen)
            .filter(|(_, seen)| !seen)
            .map(|(diff, _)| diff)
        {
            updates.push(mark_seen(&diff.phid, now)?);
            metrics::counter!("diff_poller_seen_total").increment(1);
            let Some(repository) = diff
                .repository
                .filter(|repository| self.repositories.contains(repository))
            else {
                continue;
            };
            let key = diff.phid.to_string();
            let new = NewDiff {
                phid: diff.phid,
                id: diff.id,
                revision: diff.revision,
                repository,
            };
            let mut message = self.queue.pack(&new, clock.as_ref())?;
            message.key = Some(key);
            messages.push(message);
            ages.push(now.duration_since(diff.created_at).as_secs_f64());
        }
        if messages.is_empty() && updates.is_empty() {
            return Ok(());
        }
        let pushed = bus.push_with(messages, updates).await?;
        metrics::counter!("diff_poller_sent_total").increment(pushed.inserted as u64);
        for age in ages {
            metrics::histogram!("diff_poller_lag_seconds").record(age);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bus::{Bus, MemoryBus, Policy};
    use futures::join;
    use runtime::ManualClock;

    use super::*;
    use crate::ConfiguredNames;
    use testkit::phabricator::{FakePhabricator, NewDiff as Patch, NewRevision};

    const FOUND: Queue<NewDiff> = Queue::new("diffs", Policy::DEFAULT);

    #[tokio::test]
    async fn concurrent_polls_send_each_diff_once_and_never_move_the_cursor_back() {
        for method in ["differential.diff.search", "differential.revision.search"] {
            let clock = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
            let bus: Arc<dyn Bus> = Arc::new(MemoryBus::new(clock.clone()));
            let fake = FakePhabricator::start(clock.clone()).await.unwrap();
            let (alice, repository) = (
                fake.add_user("alice", "Alice"),
                fake.add_repository("central"),
            );
            let create = || {
                fake.create_revision(NewRevision::new(
                    "one",
                    &alice,
                    &repository,
                    Patch::new("patch"),
                ))
            };
            let http = http_client::client(Duration::from_secs(10)).unwrap();
            let conduit = Conduit::new(fake.url().clone(), fake.token(), http);
            let names = ConfiguredNames {
                skipped_authors: Vec::new(),
                secure_projects: Vec::new(),
            };
            let resolver = NameResolver::load(&conduit, names).await.unwrap();
            let run = || PollRun {
                conduit: conduit.clone(),
                resolver: resolver.clone(),
                repositories: BTreeSet::from([repository.clone()]),
                queue: FOUND,
                producer: Producer::new(bus.clone(), clock.clone()),
            };
            let (slow, quick) = (run(), run());
            slow.poll_once().await.unwrap();

            create();
            let mut held = fake.hold_next(method);
            let overtake = async {
                held.acted().await;
                create();
                quick.poll_once().await.unwrap();
                held.release();
            };
            let (late, ()) = join!(slow.poll_once(), overtake);
            late.unwrap();

            let waiting = bus.peek(&FOUND.spec(), 10).await.unwrap();
            assert_eq!(waiting.len(), 2, "{method}");
            let position = PollCursor::read(bus.as_ref()).await.unwrap();
            assert_eq!(
                position,
                Some(PollCursor {
                    start: 0,
                    cursor: 2,
                    reconciled: 0
                }),
                "{method}"
            );
            // One call of the late poll, which stops when it finds the cursor moved, and two of the other, the last one empty.
            let followed = fake
                .calls()
                .into_iter()
                .filter(|call| call.params.get("order").is_some_and(|o| o == "oldest"));
            assert_eq!(followed.count(), 3, "{method}");
        }
    }
}
