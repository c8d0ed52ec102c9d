//! What all builds of a repository wait for. It is recorded once, with the build that is first: those behind it are not
//! touched while they wait.

use std::time::Duration;

use bus::{Bus, BusError, Context, RecordStore};
use jiff::Timestamp;

use super::BuildLog;
use crate::{
    Phid,
    record::{BuildRecord, Now, SharedWait, Step, field},
};

/// What the builds of a repository wait for together: one record for each, called by its PHID.
const REPOSITORIES: RecordStore = RecordStore {
    name: "repositories",
    retention: Duration::from_secs(3600),
};

/// How long after its time a shared wait still counts: somebody is about to look again.
const SHARED_WAIT_ENDS: Duration = Duration::from_secs(60);

impl BuildLog {
    /// All builds of the repository wait, for this reason: those that are not first are not touched, and say nothing of it
    /// themselves.
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

    /// Lets each of these builds that waits for its turn behind another one of its repository say what that one waits for.
    pub async fn show_shared_waits(
        &self,
        bus: &dyn Bus,
        builds: &mut [BuildRecord],
        at: Timestamp,
    ) -> Result<(), BusError> {
        let push = self.queues.push.spec().name;
        let mut behind: Vec<(&mut Now, String)> = builds
            .iter_mut()
            .filter_map(|record| {
                let repository = record.request.as_ref()?.repository.to_string();
                let now = record.now.as_mut()?;
                (now.queue == push && now.step == Step::Ready).then_some((now, repository))
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
                now.step = Step::Delayed {
                    until: wait.until,
                    reason: wait.reason.clone(),
                    attempt: 0,
                };
            }
        }
        Ok(())
    }
}
