//! One look at Phabricator: what is new, and what became public.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bus::{BusError, Producer, Queue, RecordUpdate};
use jiff::Timestamp;
use thiserror::Error;
use tracing::info;

use super::place::{Place, is_remembered, sees, were_seen};
use crate::{
    Conduit, ConduitError, Directory,
    api::{Listed, ListedFields, Object, PAGE, RevisionInfo},
};
use build::{NewDiff, Phid};

/// How long a change of a revision may take to show after the time that it bears: a transaction is dated before it is
/// committed, and the server may be several machines.
const MARGIN: Duration = Duration::from_secs(600);

/// Why a look came to no end. The next one goes on where it stopped.
#[derive(Debug, Error)]
pub(super) enum PollError {
    /// Phabricator cannot be asked.
    #[error(transparent)]
    Conduit(#[from] ConduitError),
    /// The place cannot be read, or what was found cannot be stored.
    #[error(transparent)]
    Bus(#[from] BusError),
}

pub(super) struct Rounds {
    pub(super) conduit: Conduit,
    pub(super) directory: Directory,
    pub(super) repositories: BTreeSet<Phid>,
    pub(super) queue: Queue<NewDiff>,
    pub(super) producer: Producer,
}

/// A diff that is shown, and belongs to a revision.
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

impl Rounds {
    /// Looks once.
    pub(super) async fn round(&self) -> Result<(), PollError> {
        let Some(place) = Place::read(self.producer.bus().as_ref()).await? else {
            return self.begin().await;
        };
        if self.follow(place).await? {
            self.reconcile(place).await?;
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
        let place = Place {
            start: newest,
            cursor: newest,
            reconciled: changed,
        };
        self.producer
            .bus()
            .push_with(Vec::new(), place.begins()?)
            .await?;
        info!("diffs are taken from number {} on", newest + 1);
        Ok(())
    }

    /// Takes what comes after the cursor, page by page. Returns `false` when another poller moved the cursor.
    async fn follow(&self, mut place: Place) -> Result<bool, PollError> {
        loop {
            let page = self.conduit.diffs_after(place.cursor).await?;
            let Some(last) = page.last().map(|listed| listed.id) else {
                return Ok(true);
            };
            let mut diffs: Vec<Candidate> = page.into_iter().filter_map(Candidate::new).collect();
            let revisions: BTreeSet<Phid> =
                diffs.iter().map(|diff| diff.revision.clone()).collect();
            let revisions: Vec<Phid> = revisions.into_iter().collect();
            let public = self.public(self.conduit.revisions(&revisions).await?);
            diffs.retain(|diff| public.contains_key(&diff.revision));
            self.take(diffs, vec![place.moves_to(last)?]).await?;
            place.cursor = last;
            let stored = Place::read(self.producer.bus().as_ref()).await?;
            if stored.map(|stored| stored.cursor) != Some(last) {
                return Ok(false);
            }
        }
    }

    /// Takes the current diff of each revision that changed and is public, if it was never seen.
    async fn reconcile(&self, place: Place) -> Result<(), PollError> {
        let before = Timestamp::from_second(place.reconciled).unwrap_or(Timestamp::MIN);
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
                diff.id > place.start
                    && is_remembered(diff.created_at, now)
                    && public.contains_key(&diff.revision)
            });
            diffs.sort_unstable_by_key(|diff| diff.id);
            self.take(diffs, Vec::new()).await?;
        }
        if let Some(changed) = changed.filter(|changed| *changed > place.reconciled) {
            self.producer
                .bus()
                .push_with(Vec::new(), vec![place.reconciled_to(changed)?])
                .await?;
        }
        Ok(())
    }

    /// Those of the revisions that may be spoken of, each with its current diff.
    fn public(&self, revisions: Vec<RevisionInfo>) -> BTreeMap<Phid, Phid> {
        let public = self.directory.privacy().public(revisions);
        public
            .into_iter()
            .map(|revision| (revision.phid, revision.fields.diff))
            .collect()
    }

    /// Sends those of `diffs` that were never seen and are of an enabled repository, and remembers all of them, together
    /// with `updates`, in one step.
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
            updates.push(sees(&diff.phid, now)?);
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
    use crate::DirectoryNames;
    use testkit::phabricator::{FakePhabricator, NewDiff as Patch, NewRevision};

    const FOUND: Queue<NewDiff> = Queue::new("diffs", Policy::DEFAULT);

    #[tokio::test]
    async fn of_two_rounds_at_once_neither_repeats_what_the_other_sent_or_moves_the_cursor_back() {
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
            let http = observe::http::client(Duration::from_secs(10)).unwrap();
            let conduit = Conduit::new(fake.url().clone(), fake.token(), http);
            let names = DirectoryNames {
                skipped_authors: Vec::new(),
                secure_projects: Vec::new(),
            };
            let directory = Directory::load(&conduit, names).await.unwrap();
            let rounds = || Rounds {
                conduit: conduit.clone(),
                directory: directory.clone(),
                repositories: BTreeSet::from([repository.clone()]),
                queue: FOUND,
                producer: Producer::new(bus.clone(), clock.clone()),
            };
            let (slow, quick) = (rounds(), rounds());
            slow.round().await.unwrap();

            create();
            let mut held = fake.hold_next(method);
            let overtake = async {
                held.acted().await;
                create();
                quick.round().await.unwrap();
                held.release();
            };
            let (late, ()) = join!(slow.round(), overtake);
            late.unwrap();

            let waiting = bus.peek(&FOUND.spec(), 10).await.unwrap();
            assert_eq!(waiting.len(), 2, "{method}");
            let place = Place::read(bus.as_ref()).await.unwrap();
            assert_eq!(
                place,
                Some(Place {
                    start: 0,
                    cursor: 2,
                    reconciled: 0
                }),
                "{method}"
            );
            // One of the late round, which stops when it finds the cursor moved, and two of the other, the last one empty.
            let followed = fake
                .calls()
                .into_iter()
                .filter(|call| call.params.get("order").is_some_and(|o| o == "oldest"));
            assert_eq!(followed.count(), 3, "{method}");
        }
    }
}
