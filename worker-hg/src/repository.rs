//! One repository: its lanes, and the builds on them.

use std::{sync::Arc, time::Duration};

use build::{BaseChoice, BaseReason, Build};
use futures::future::join_all;
use runtime::{Clock, Shutdown, error_chain};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, info, warn};

use crate::{
    HgError, RepositorySettings, Settings, address,
    apply::{self, Failure},
    base,
    desk::Desk,
    error::{CLOSED_PAUSE, NOT_READY_PAUSE},
    lane::{Lane, Ready, Site},
    outcome,
    patch::Scanned,
    pool::{Pool, Taken},
    probe,
    push::Try,
    request::{Outcome, Requests, Task, Upkept},
    room::FullDisk,
    session::Session,
    tree_status::{TreeStatus, Verdict},
    upkeep::Order,
    work::{self, Work},
};

/// How long a lane that is being tidied up is waited for at the end of the process.
const LAST: Duration = Duration::from_secs(2);

/// How often requests of operators are looked for, and how often when that failed.
const LOOK: Duration = Duration::from_secs(1);
const LOOK_AFTER_FAILURE: Duration = Duration::from_secs(60);

/// A repository that builds may be for.
pub(crate) struct Repository {
    all: Arc<Settings>,
    settings: RepositorySettings,
    tree_status: Arc<TreeStatus>,
    outage: Arc<FullDisk>,
    lanes: Vec<Lane>,
    pool: Arc<Pool<Ready>>,
    /// What is done on a lane after its build was answered.
    afterwards: TaskTracker,
    closing: CancellationToken,
}

/// A head that is on Try.
#[derive(Debug)]
pub(crate) struct Landed {
    pub(crate) head: String,
    pub(crate) base: BaseChoice,
}

impl Repository {
    pub(crate) fn new(
        all: Arc<Settings>,
        settings: RepositorySettings,
        tree_status: Arc<TreeStatus>,
        outage: Arc<FullDisk>,
    ) -> Self {
        let lanes = (0..settings.lanes)
            .map(|number| Lane::new(&settings, number))
            .collect();
        let (afterwards, closing) = (TaskTracker::new(), CancellationToken::new());
        Self {
            all,
            settings,
            tree_status,
            outage,
            lanes,
            pool: Pool::new(),
            afterwards,
            closing,
        }
    }

    /// Waits for a clone to build on, for a while; says whether there is one.
    pub(crate) async fn is_ready(&self) -> bool {
        self.pool.has_any(self.all.limits.ready).await
    }

    pub(crate) fn settings(&self) -> &RepositorySettings {
        &self.settings
    }

    /// Prepares the clones, each on its own, and does what operators ask for. Ends with `shutdown`; dropping what runs
    /// then kills and reaps it.
    pub(crate) async fn keep(&self, clock: &dyn Clock, shutdown: &Shutdown) {
        tokio::select! {
            () = shutdown.stopping() => {}
            () = self.keep_lanes(clock) => {}
            () = self.answer_requests(clock) => {}
            () = self.warn_of_branches() => {}
        }
    }

    /// Warns once, when there is a clone, if nothing says on which of several branches builds without a base belong.
    async fn warn_of_branches(&self) {
        if self.settings.default_revision == probe::UNSET {
            // It holds no clone: builds need not wait for this.
            while !self.pool.has_any(LAST).await {}
            let clone = self.all.clones_dir.join(&self.settings.name);
            if let Some(branches) = probe::branches(&self.all.hg, &clone).await
                && let Some(warning) = probe::ambiguous(&self.settings, &branches)
            {
                warn!(repository = self.settings.name, "{warning}");
            }
        }
        std::future::pending().await
    }

    /// Prepares the clones, each on its own, for ever.
    pub(crate) async fn keep_lanes(&self, clock: &dyn Clock) {
        let site = Site {
            all: &self.all,
            repository: &self.settings,
            pool: &self.pool,
            outage: &self.outage,
            clock,
        };
        join_all(self.lanes.iter().map(|lane| lane.keep(site))).await;
    }

    /// Has a task done on one lane after another, by what runs in [`Self::keep_lanes`]. Ends with the first failure.
    pub(crate) async fn maintain(
        &self,
        task: Task,
        clock: &dyn Clock,
    ) -> (Vec<Upkept>, Result<(), HgError>) {
        let mut done = Vec::new();
        for lane in &self.lanes {
            let (order, answer) = Order::new(task, clock);
            // Neither fails while the lane is kept.
            let _ = lane.orders.send(order).await;
            match answer.await.unwrap_or(Err(HgError::Cancelled)) {
                Ok(upkept) => done.push(upkept),
                Err(error) => return (done, Err(error)),
            }
        }
        (done, Ok(()))
    }

    async fn answer_requests(&self, clock: &dyn Clock) {
        let name = &self.settings.name;
        let requests = Requests::new(&self.all.clones_dir, name);
        loop {
            let mut pause = LOOK;
            let answered = match requests.find() {
                Ok(None) => Ok(()),
                Ok(Some(request)) => {
                    let task = request.task.name();
                    info!(repository = name, "an operator asks for a {task} of {name}");
                    let (done, result) = self.maintain(request.task, clock).await;
                    let error = result.err().map(|error| error_chain(&error));
                    match &error {
                        None => info!(repository = name, "the {task} of {name} is done"),
                        Some(error) => {
                            warn!(repository = name, error, "the {task} of {name} failed")
                        }
                    }
                    requests.answer(&request, Outcome { done, error })
                }
                Err(error) => Err(error),
            };
            if let Err(error) = answered {
                warn!(
                    repository = name,
                    error = error_chain(&error),
                    "cannot serve requests"
                );
                pause = LOOK_AFTER_FAILURE;
            }
            clock.sleep(pause).await;
        }
    }

    /// Applies a build's stack and pushes the head. Dropping this in the middle kills and reaps what runs; what it left
    /// in the clone is taken away before the next build.
    ///
    /// What it leaves when it ends is taken away after that: the author need not wait for it.
    pub(crate) async fn build(
        &self,
        build: &Build,
        scanned: &[Scanned],
        desk: Desk<'_>,
    ) -> Result<Landed, Failure> {
        // A build that was here before is known to apply; while the tree is closed nothing else is to be found out.
        if desk.record.base.is_some()
            && let Verdict::Closed(reason) = self.look_at_tree().await
        {
            return Err(still_wanted(desk, build)
                .await?
                .unwrap_or_else(|| self.tree_closed(&reason)));
        }
        // One that has begun to push is finished.
        let (author, allowed) = (&build.revision.author, self.all.limits.author);
        if !desk.record.pushing
            && let Some(after) = work::exceeded(desk.cx, author, allowed).await?
        {
            let reason = format!(
                "builds of this author have used {} s of processor time within ten minutes (`max_author_time`): builds \
                 of other authors go first",
                allowed.as_secs()
            );
            return Err(still_wanted(desk, build)
                .await?
                .unwrap_or(Failure::NotYet { after, reason }));
        }
        let Some(mut lane) = self.pool.take(self.all.limits.ready).await else {
            let not_ready = match self.outage.words() {
                Some(words) => Failure::Ours(HgError::DiskFull {
                    doing: format!("prepare the clone of {}", self.settings.name),
                    words,
                }),
                None => Failure::NotYet {
                    after: NOT_READY_PAUSE,
                    reason: format!("the clone of {} is not ready yet", self.settings.name),
                },
            };
            return Err(still_wanted(desk, build).await?.unwrap_or(not_ready));
        };
        let mut session = None;
        let mut result = self
            .build_on(&mut lane, &mut session, build, scanned, desk)
            .await;
        if let Err(Failure::Ours(error)) = &result
            && let Some(reason) = damage(error)
        {
            lane.clone.condemn()?;
            result = Err(HgError::Damaged {
                repository: self.settings.name.clone(),
                reason,
            }
            .into());
        }
        if matches!(&result, Err(Failure::Ours(error)) if error.is_of_mercurial()) {
            // A server that has failed may hold locks, and remember what was rolled back.
            lane.clone.close().await;
        }
        if let Err(Failure::Ours(HgError::Damaged { .. })) = &result {
            if let Some(lost) = lane.discard() {
                self.lanes
                    .get(lost.lane)
                    .inspect(|lane| lane.lost.notify_one());
            }
        } else {
            self.tidy_afterwards(lane, session);
        }
        let clock = desk.cx.clock().as_ref();
        match result {
            Err(Failure::Ours(error @ HgError::DiskFull { .. })) => {
                self.outage.begins(&error, &self.all, clock);
                Err(still_wanted(desk, build).await?.unwrap_or(error.into()))
            }
            Err(Failure::Ours(error)) => Err(error.into()),
            result => {
                self.outage.ends(&self.all, clock);
                result
            }
        }
    }

    async fn build_on(
        &self,
        Ready { clone, ssh, .. }: &mut Ready,
        session: &mut Option<Session>,
        build: &Build,
        scanned: &[Scanned],
        desk: Desk<'_>,
    ) -> Result<Landed, Failure> {
        clone.tidy().await.map_err(|error| self.judged(error))?;
        let url = address::plain(&self.settings.try_url);
        let target = Try {
            url: &url,
            name: &self.settings.try_name,
            ssh,
        };
        *session = Session::open(ssh, target.url).unwrap_or_else(|error| {
            warn!(
                repository = self.settings.name,
                error = error_chain(&error),
                "cannot open a session in advance"
            );
            None
        });
        let mut work = Work::new(&self.all.limits);
        let applying = async {
            let mut base = base::choose(clone, build, &self.settings, desk).await?;
            let (mode, author) = (&self.settings.mode, &self.all.default_author);
            let head =
                match apply::apply(clone, build, scanned, &base, mode, author, &mut work).await {
                    Err(Failure::Patch(fault)) if base.choice.reason == BaseReason::ByDate => {
                        clone.tidy().await?;
                        let newest =
                            base::newest_instead(clone, build, &self.settings, desk, &base.choice)
                                .await?;
                        base = newest.ok_or(Failure::Patch(fault))?;
                        apply::apply(clone, build, scanned, &base, mode, author, &mut work)
                            .await?
                            .node
                    }
                    applied => applied?.node,
                };
            let patches = build.stack.len();
            let text = format!(
                "applied a stack of {patches} patches on {:.12} as {head:.12}",
                base.choice.used
            );
            // One that waits is applied again each time.
            if desk.record.base.is_none() {
                info!(step = "applied", "{text}");
            } else {
                debug!(step = "applied", "{text}");
            }
            Ok::<_, Failure>((base.choice, head))
        };
        let (applied, verdict, looked) =
            futures::join!(applying, self.look_at_tree(), desk.look_again(build));
        let recorded = work::record(desk.cx, &build.revision.author, work.used()).await;
        // What is wrong on our side comes first, since the clone may be damaged; then what may not be spoken of.
        let applied = match applied {
            Err(Failure::Ours(error)) => return Err(error.into()),
            applied => applied,
        };
        recorded?;
        if let Some(unwanted) = looked? {
            return Err(Failure::Unwanted(unwanted));
        }
        // A patch that does not apply fails even while the tree is closed.
        let (base, head) = applied?;
        if let Verdict::Closed(reason) = verdict {
            info!(step = "deferred", "{} is closed: {reason}", target.name);
            return Err(self.tree_closed(&reason));
        }
        desk.pushes(build).await?;
        match target.push(clone, &head, session).await {
            Err(HgError::Refused { doing, words }) => {
                desk.pushed_nothing(build)?;
                match self.tree_status.look_again(target.name).await {
                    Verdict::Closed(reason) => return Err(self.tree_closed(&reason)),
                    Verdict::Open => return Err(HgError::Refused { doing, words }.into()),
                }
            }
            pushed => pushed?,
        }
        info!(step = "pushed", "pushed {head} to {}", target.name);
        Ok(Landed { head, base })
    }

    async fn look_at_tree(&self) -> Verdict {
        self.tree_status.look(&self.settings.try_name).await
    }

    /// A clone that cannot even be tidied up has to be cloned again.
    fn judged(&self, error: HgError) -> HgError {
        if error.is_damage() {
            HgError::Damaged {
                repository: self.settings.name.clone(),
                reason: error_chain(&error),
            }
        } else {
            error
        }
    }

    fn tree_closed(&self, reason: &str) -> Failure {
        Failure::NotYet {
            after: CLOSED_PAUSE,
            reason: format!("{} is closed: {reason}", self.settings.try_name),
        }
    }

    /// Why the tree is closed, if it is.
    pub(crate) async fn tree_is_closed(&self) -> Option<String> {
        match self.look_at_tree().await {
            Verdict::Closed(reason) => Some(reason),
            Verdict::Open => None,
        }
    }

    fn tidy_afterwards(&self, mut lane: Taken<Ready>, session: Option<Session>) {
        let (name, closing) = (self.settings.name.clone(), self.closing.clone());
        let tidying = async move {
            let closing = async {
                if let Some(session) = session {
                    session.close().await;
                }
            };
            let ((), tidied) = futures::join!(closing, lane.clone.tidy());
            // The build has its result; the next one tidies first, and fails if that cannot be done.
            if let Err(error) = tidied
                && !matches!(error, HgError::DiskFull { .. })
            {
                warn!(
                    repository = name,
                    error = error_chain(&error),
                    "cannot tidy up after a build"
                );
            }
        };
        self.afterwards.spawn(async move {
            tokio::select! {
                () = tidying => {}
                () = closing.cancelled() => {}
            }
        });
    }

    /// Ends the command servers and lets go of the clones and keys.
    pub(crate) async fn close(&self) {
        self.closing.cancel();
        self.afterwards.close();
        let _ = tokio::time::timeout(LAST, self.afterwards.wait()).await;
        let closing = self.pool.empty().into_iter().map(|mut lane| async move {
            lane.clone.close().await;
            lane.ssh.hang_up().await;
        });
        join_all(closing).await;
    }
}

/// The end of a build that has to wait and is not wanted any more: its author need not wait as well.
async fn still_wanted(desk: Desk<'_>, build: &Build) -> Result<Option<Failure>, Failure> {
    Ok(desk.look_again(build).await?.map(Failure::Unwanted))
}

/// What an error says about the clone, if it says that the clone has lost data.
fn damage(error: &HgError) -> Option<String> {
    match error {
        HgError::Damaged { reason, .. } => Some(reason.clone()),
        HgError::Command { words, .. } if outcome::is_corruption(words) => Some(words.clone()),
        _ => None,
    }
}
