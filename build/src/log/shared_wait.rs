//! Waits that all builds of a repository share, such as a closed tree. The first build of the repository records the wait;
//! the builds behind it are not delivered meanwhile.

use std::time::Duration;

use bus::{Bus, BusError, Context, RecordStore};
use jiff::Timestamp;

use super::BuildLog;
use crate::{
    Phid,
    record::{BuildLocation, BuildRecord, QueueState, SharedWait, field},
};

/// The shared waits: one record for each repository, named by its PHID.
const REPOSITORIES: RecordStore = RecordStore {
    name: "repositories",
    retention: Duration::from_secs(3600),
};

/// The time for which a shared wait counts beyond its end: the next check is under way.
const SHARED_WAIT_ENDS: Duration = Duration::from_secs(60);

impl BuildLog {
    /// Records that all builds of the repository wait `after` from now, for this reason.
    pub fn hold(
        &self,
        cx: &Context,
        repository: &Phid,
        after: Duration,
        reason: &str,
    ) -> Result<(), BusError> {
        let until = cx.clock().now().saturating_add(after);
        let wait = SharedWait {
            until: until.unwrap_or(Timestamp::MAX),
            reason: reason.to_owned(),
        };
        cx.record(REPOSITORIES.set(repository.as_str(), field::SHARED_WAIT, &wait)?);
        Ok(())
    }

    /// Puts the shared wait of its repository into each of these records whose build waits for its turn to be pushed.
    pub async fn show_shared_waits(
        &self,
        bus: &dyn Bus,
        builds: &mut [BuildRecord],
        at: Timestamp,
    ) -> Result<(), BusError> {
        let push = self.queues.push.spec().name;
        let mut behind: Vec<(&mut BuildLocation, String)> = builds
            .iter_mut()
            .filter_map(|record| {
                let repository = record.request.as_ref()?.repository.to_string();
                let now = record.now.as_mut()?;
                (now.queue == push && now.step == QueueState::Ready).then_some((now, repository))
            })
            .collect();
        let mut repositories: Vec<String> = behind.iter().map(|(_, id)| id.clone()).collect();
        repositories.sort_unstable();
        repositories.dedup();
        if repositories.is_empty() {
            return Ok(());
        }
        let found = bus.records(&REPOSITORIES, &repositories).await?;
        for (repository, record) in repositories.iter().zip(found) {
            // What another release wrote is not shown.
            let Ok(Some(wait)) = record.field(field::SHARED_WAIT) else {
                continue;
            };
            if wait.until.saturating_add(SHARED_WAIT_ENDS).unwrap_or(at) <= at {
                continue;
            }
            let waiting = behind.iter_mut().filter(|(_, id)| id == repository);
            for (now, _) in waiting {
                now.step = QueueState::Delayed {
                    until: wait.until,
                    reason: wait.reason.clone(),
                    attempt: 0,
                };
            }
        }
        Ok(())
    }
}
