//! The records of the builds of a deployment.

use std::{cmp::Reverse, sync::Arc};

use anyhow::{Context as _, bail};
use build::{BuildLog, BuildRecord, BuildRequest, BuildState, OPEN, Phid};
use bus::{Bus, Producer, RedisBus};
use runtime::{Clock, SystemClock};

use crate::{
    cli::{BuildSelector, Deployment},
    config::RecordsConfig,
    environment, features, source,
};

/// The number of records that are read at once.
const PAGE: usize = 200;

/// The records of a deployment.
pub(in crate::commands) struct Archive {
    pub(in crate::commands) records: RecordsConfig,
    pub(in crate::commands) bus: Arc<dyn Bus>,
    pub(in crate::commands) log: BuildLog,
}

impl Archive {
    /// The records of the deployment that the options name.
    pub(in crate::commands) async fn open(deployment: &Deployment) -> anyhow::Result<Self> {
        Self::at(source::records(deployment.into()).await?)
    }

    /// The records of the deployment with this configuration.
    pub(in crate::commands) fn at(records: RecordsConfig) -> anyhow::Result<Self> {
        let Some(options) = environment::redis(records.redis_namespace.clone(), 1)? else {
            bail!(
                "cannot find the builds: REDIS_URL is not set, and a process without it keeps its builds in its own \
                 memory; set REDIS_URL to the redis of the deployment"
            );
        };
        let log = features::build_log(records.build_retention);
        Ok(Self {
            bus: Arc::new(RedisBus::new(&options, &SystemClock)?),
            records,
            log,
        })
    }

    /// The builds that match `selector`, the newest first. Fails when there is none.
    pub(in crate::commands) async fn find(
        &self,
        selector: &BuildSelector,
    ) -> anyhow::Result<Vec<(BuildRequest, BuildRecord)>> {
        let mut found = Vec::new();
        if let Some(index) = selector.index() {
            found = self.accepted(|build| selector.matches(build)).await?;
            for page in 0.. {
                let (builds, last) = self.page(&index, page).await?;
                let selected = builds
                    .into_iter()
                    .filter(|(build, _)| selector.matches(build));
                add_new(&mut found, selected.collect());
                if last || found.len() >= PAGE {
                    break;
                }
            }
        } else if let BuildSelector::Target(target) = selector {
            found = self.read(std::slice::from_ref(target)).await?;
        }
        newest_first(&mut found);
        if found.is_empty() {
            let days = self.records.build_retention.as_secs() / 86_400;
            bail!(
                "no build of {selector} is known: none was accepted, or its last event is more than {days} days ago"
            );
        }
        Ok(found)
    }

    async fn read(&self, targets: &[Phid]) -> anyhow::Result<Vec<(BuildRequest, BuildRecord)>> {
        let bus = self.bus.as_ref();
        let mut records = self.log.find(bus, targets).await?;
        let now = SystemClock.now();
        self.log.show_shared_waits(bus, &mut records, now).await?;
        Ok(records
            .into_iter()
            .filter_map(|record| Some((record.request.clone()?, record)))
            .collect())
    }

    /// The builds in state `accepted`, the newest first. They are in the index [`OPEN`] alone.
    pub(in crate::commands) async fn accepted(
        &self,
        wanted: impl Fn(&BuildRequest) -> bool,
    ) -> anyhow::Result<Vec<(BuildRequest, BuildRecord)>> {
        let mut found = Vec::new();
        for page in 0.. {
            let (builds, last) = self.page(OPEN, page).await?;
            found.extend(builds.into_iter().filter(|(request, record)| {
                record.state() == BuildState::Accepted && record.end.is_none() && wanted(request)
            }));
            if last {
                break;
            }
        }
        Ok(found)
    }

    /// A page of the builds of an index, the newest first, and whether it is the last.
    pub(in crate::commands) async fn page(
        &self,
        index: &str,
        page: usize,
    ) -> anyhow::Result<(Vec<(BuildRequest, BuildRecord)>, bool)> {
        let targets = self
            .log
            .indexed(self.bus.as_ref(), index, page * PAGE..(page + 1) * PAGE)
            .await?;
        let mut builds = self.read(&targets).await?;
        newest_first(&mut builds);
        Ok((builds, targets.len() < PAGE))
    }

    /// The newest build that matches `selector`.
    pub(in crate::commands) async fn newest(
        &self,
        selector: &BuildSelector,
    ) -> anyhow::Result<(BuildRequest, BuildRecord)> {
        self.find(selector)
            .await?
            .into_iter()
            .next()
            .context("no build is known")
    }

    /// A producer for the queues of the deployment.
    pub(in crate::commands) fn producer(&self) -> Producer {
        Producer::new(Arc::clone(&self.bus), Arc::new(SystemClock))
    }
}

/// Sorts by the time of acceptance. An index has the order in which workers began the builds, which is another one when
/// they begin several at once.
fn newest_first(builds: &mut [(BuildRequest, BuildRecord)]) {
    builds.sort_by_key(|(request, _)| Reverse(request.accepted_at));
}

/// Adds the builds that `found` lacks: a build is in both lists when a worker began it between the two reads.
pub(super) fn add_new(
    found: &mut Vec<(BuildRequest, BuildRecord)>,
    more: Vec<(BuildRequest, BuildRecord)>,
) {
    for (request, record) in more {
        if !found
            .iter()
            .any(|(known, _)| known.target == request.target)
        {
            found.push((request, record));
        }
    }
}
