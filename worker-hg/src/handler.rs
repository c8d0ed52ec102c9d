//! A build, from top to bottom: validate → clone → base → apply → gate → push → outcome.

use std::{collections::HashMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use build::{
    BaseChoice, BaseReason, Build, BuildLog, BuildRecord, Ineligible, Neutral, PatchContent,
    PatchSource, PatchSourceError, Phid, PushGuard, Pushed, Report, What, eligibility,
};
use bus::{Cause, Context, Handler, Outcome, Requeue, Retry, Retryable};
use futures::future::join_all;
use jiff::Timestamp;
use runtime::{Clock, error_chain};
use tracing::{debug, error, info, warn};

use crate::{
    HgError, Settings, address,
    apply::{self, Failure, Patches},
    base::{self, RecordedBase},
    blame,
    clone::HgClone,
    fault::PatchFault,
    lane::Ready,
    made,
    patch::{self, Budget, Refusal, Scanned},
    push::Try,
    repository::Repository,
    session::Session,
    text,
    tree_status::Verdict,
    work::{self, Work},
};

/// Applies stacks and pushes them; see [`crate::Mercurial::handler`].
pub struct HgHandler {
    pub(crate) settings: Arc<Settings>,
    pub(crate) repositories: Arc<HashMap<Phid, Repository>>,
    pub(crate) log: BuildLog,
    pub(crate) guard: Arc<dyn PushGuard>,
    pub(crate) patches: Arc<dyn PatchSource>,
}

#[async_trait]
impl Handler<Build> for HgHandler {
    type Error = HgError;

    async fn handle(&self, build: Build, cx: &Context) -> Result<Outcome, HgError> {
        let target = &build.request.target;
        let record = self.log.read(cx, target).await?;
        if record.end.is_some() {
            debug!("its end is decided already");
            return Ok(Outcome::Done);
        }
        self.log.begin(cx, &build.request, self.queue()).await?;
        let delivery = Delivery {
            worker: self,
            cx,
            build: &build,
            record: &record,
            started: cx.clock().now(),
        };
        tokio::select! {
            ended = async { delivery.settle(delivery.run().await).await } => ended,
            // What was running is killed and reaped with the future that ran it.
            () = cx.cancelled() => Err(HgError::Cancelled),
        }
    }

    async fn on_dead_letter(
        &self,
        build: Build,
        cause: Cause<'_, HgError>,
        cx: &Context,
    ) -> Result<(), HgError> {
        let request = build.request;
        let record = self.log.read(cx, &request.target).await?;
        if record.end.is_some() {
            return Ok(());
        }
        let seconds = seconds_since(request.accepted_at, cx.clock().as_ref());
        let repository = self
            .repositories
            .get(&request.repository)
            .map(Repository::settings);
        let blame = blame::given_up(&cause, repository, cx.attempt(), seconds);
        info!(
            outcome = "infra_failed",
            "we are to blame: {}", blame.summary
        );
        let report = Report::InfrastructureFailed(blame);
        Ok(self.log.finish(cx, &request, &record, report)?)
    }

    async fn on_requeue(
        &self,
        build: Build,
        requeue: Requeue<'_, HgError>,
        cx: &Context,
    ) -> Result<(), HgError> {
        let blocker = requeue.why.error().and_then(HgError::blocker);
        let target = &build.request.target;
        Ok(self
            .log
            .requeued(cx, target, self.queue(), &requeue, blocker)
            .await?)
    }

    async fn close(&self) {
        join_all(self.repositories.values().map(Repository::close)).await;
    }
}

impl HgHandler {
    fn queue(&self) -> &'static str {
        self.log.queues().push.spec().name
    }

    fn skippable(&self, path: &[u8]) -> Option<&str> {
        let path = std::str::from_utf8(path).ok()?;
        self.settings.skippable_files.get(path).map(String::as_str)
    }
}

/// A head that is on Try.
#[derive(Debug)]
struct PushedHead {
    repository: Arc<str>,
    head: String,
    base: BaseChoice,
}

/// One delivery of a build.
struct Delivery<'a> {
    worker: &'a HgHandler,
    cx: &'a Context,
    build: &'a Build,
    /// What earlier deliveries did.
    record: &'a BuildRecord,
    started: Timestamp,
}

impl Delivery<'_> {
    /// Pushes the build's head. Dropping this in the middle kills and reaps what runs; what it left in the clone is taken
    /// away before the next build.
    async fn run(&self) -> Result<PushedHead, Failure> {
        let repository = self.validate().await?;
        self.wait_for_tree_and_author(repository).await?;
        self.on_clone(repository).await
    }

    // ---- validate

    /// The build's repository, if the build may go on as far as that can be told without Phabricator and a clone.
    async fn validate(&self) -> Result<&Repository, Failure> {
        let Build {
            request,
            diff,
            stack,
            ..
        } = self.build;
        let settings = &self.worker.settings;
        let Some(repository) = self.worker.repositories.get(&request.repository) else {
            let unsupported = Ineligible::Repository(request.repository.clone());
            return self.refuse(Failure::Ineligible(unsupported)).await;
        };
        if stack.is_empty() {
            let revision = request.revision_id;
            let landed = Ineligible::Landed { revision };
            return self.refuse(Failure::Ineligible(landed)).await;
        }
        let allowed = settings.build_expiry;
        if let Some(expired) = eligibility::expired(diff.id, diff.created_at, allowed, self.started)
            && (!self.record.pushing || !repository.is_ready().await)
        {
            return self.refuse(Failure::Ineligible(expired)).await;
        }
        let longest = settings.limits.stack;
        if stack.len() > longest {
            let fault = PatchFault::too_long(self.build, longest);
            return self.refuse(Failure::Patch(fault)).await;
        }
        Ok(repository)
    }

    async fn wait_for_tree_and_author(&self, repository: &Repository) -> Result<(), Failure> {
        // A build that was here before is known to apply; while the tree is closed nothing else is to be found out.
        if self.record.base.is_some()
            && let Verdict::Closed(reason) = repository.look_at_tree().await
        {
            return self.wait(repository.tree_closed(&reason)).await;
        }
        // One that has begun to push is finished.
        let allowed = self.worker.settings.limits.author;
        let author = &self.build.revision.author;
        if !self.record.pushing
            && let Some(after) = work::exceeded(self.cx, author, allowed).await?
        {
            let reason = format!(
                "builds of this author have used {} s of processor time within ten minutes (`max_author_time`): builds \
                 of other authors go first",
                allowed.as_secs()
            );
            return self.wait(Failure::Defer { after, reason }).await;
        }
        Ok(())
    }

    // ---- clone

    /// Does the rest on a clone that nobody else has meanwhile. What is left there is taken away after that: the author
    /// need not wait for it.
    async fn on_clone(&self, repository: &Repository) -> Result<PushedHead, Failure> {
        let mut slot = match repository.take_clone().await {
            Ok(slot) => slot,
            Err(not_ready) => return self.wait(not_ready).await,
        };
        let mut session = None;
        let pushed = self.push_from(repository, &mut slot, &mut session).await;
        let clock = self.cx.clock().as_ref();
        match repository.give_back(slot, session, pushed, clock).await {
            Err(full @ Failure::Ours(HgError::DiskFull { .. })) => self.wait(full).await,
            pushed => pushed,
        }
    }

    async fn push_from(
        &self,
        repository: &Repository,
        Ready { clone, ssh, .. }: &mut Ready,
        session: &mut Option<Session>,
    ) -> Result<PushedHead, Failure> {
        let settings = repository.settings();
        clone
            .tidy()
            .await
            .map_err(|error| repository.judged(error))?;
        let patches = self.load().await?;
        let url = address::plain(&settings.try_url);
        let target = Try {
            url: &url,
            name: &settings.try_name,
            ssh,
        };
        *session = Session::open(ssh, target.url).unwrap_or_else(|error| {
            warn!(
                repository = settings.name,
                error = error_chain(&error),
                "cannot open a session in advance"
            );
            None
        });
        let mut work = Work::new(&self.worker.settings.limits);
        let (applied, tree, gate) = futures::join!(
            self.apply(repository, clone, &patches, &mut work),
            repository.look_at_tree(),
            self.gate()
        );
        let author = &self.build.revision.author;
        let recorded = work::record(self.cx, author, work.used()).await;
        // What is wrong on our side comes first, since the clone may be damaged; then what may not be shown.
        let applied = match applied {
            Err(Failure::Ours(error)) => return Err(error.into()),
            applied => applied,
        };
        recorded?;
        gate?;
        // A patch that does not apply fails even while the tree is closed.
        let (base, head) = applied?;
        if let Verdict::Closed(reason) = tree {
            info!(state = "deferred", "{} is closed: {reason}", target.name);
            return Err(repository.tree_closed(&reason));
        }
        self.push(repository, &target, clone, &head, session)
            .await?;
        Ok(PushedHead {
            repository: settings.try_name.as_str().into(),
            head,
            base,
        })
    }

    /// Loads and reads the patches, and refuses what must not be given to Mercurial.
    async fn load(&self) -> Result<Patches, Failure> {
        let contents = match self.worker.patches.load(self.build).await {
            Ok(contents) if contents.len() == self.build.stack.len() => contents,
            Ok(contents) => {
                let (found, wanted) = (contents.len(), self.build.stack.len());
                let unclear = format!("{found} of {wanted} patches were found").into();
                return Err(HgError::from(PatchSourceError::Unclear(unclear)).into());
            }
            Err(PatchSourceError::Refused(failure)) => {
                let fault = PatchFault::not_loaded(*failure);
                return self.refuse(Failure::Patch(fault)).await;
            }
            Err(away) => return Err(HgError::from(away).into()),
        };
        let limits = self.worker.settings.limits.clone();
        // On a thread of its own: large ones take a while.
        let reading = move || {
            let read = scan(&contents, &limits);
            (contents, read)
        };
        let (contents, read) = tokio::task::spawn_blocking(reading)
            .await
            .map_err(|error| HgError::io("read the patches")(error.into()))?;
        let scanned = match read {
            Ok(scanned) => scanned,
            Err(unfit) => {
                let fault = unfit.fault(self.build);
                return self.refuse(Failure::Patch(fault)).await;
            }
        };
        let skippable = scanned
            .iter()
            .flat_map(Scanned::touched)
            .find_map(|path| self.worker.skippable(path));
        if let Some(path) = skippable {
            let skipped = Ineligible::File(path.to_owned());
            return self.refuse(Failure::Ineligible(skipped)).await;
        }
        Ok(Patches { contents, scanned })
    }

    // ---- base, apply

    /// Makes the changesets; returns the base and the head.
    async fn apply(
        &self,
        repository: &Repository,
        clone: &mut HgClone,
        patches: &Patches,
        work: &mut Work,
    ) -> Result<(BaseChoice, String), Failure> {
        let settings = repository.settings();
        let author = &self.worker.settings.default_author;
        let (build, mode) = (self.build, &settings.mode);
        let recorded = RecordedBase {
            cx: self.cx,
            log: &self.worker.log,
            target: &build.request.target,
            before: self.record.base.as_ref(),
        };
        let mut base = base::choose(clone, build, settings, recorded).await?;
        let head = match apply::apply(clone, build, patches, &base, mode, author, work).await {
            Err(Failure::Patch(fault)) if base.choice.reason == BaseReason::ByDate => {
                clone.tidy().await?;
                let newest =
                    base::newest_instead(clone, build, settings, recorded, &base.choice).await?;
                base = newest.ok_or(Failure::Patch(fault))?;
                apply::apply(clone, build, patches, &base, mode, author, work).await?
            }
            applied => applied?,
        };
        let head = head.node;
        let patches = build.stack.len();
        let text = format!(
            "applied a stack of {patches} patches on {:.12} as {head:.12}",
            base.choice.used
        );
        // One that waits is applied again each time.
        if self.record.base.is_none() {
            info!(state = "pushing", "{text}");
        } else {
            debug!(state = "pushing", "{text}");
        }
        Ok((base.choice, head))
    }

    // ---- gate

    /// Fails when the build is not to be pushed any more.
    async fn gate(&self) -> Result<(), Failure> {
        let now = self.cx.clock().now();
        let (found, record) = futures::join!(
            self.worker.guard.check(self.build, now),
            self.worker.log.read(self.cx, &self.build.request.target)
        );
        let record = record.map_err(HgError::from)?;
        if record.end.is_some() {
            return Err(Failure::Decided);
        }
        // Once its head may be on Try, a build is finished: else a head would be there of which its author knows nothing.
        // Another delivery may have begun to push since this one began.
        match found.map_err(HgError::from)? {
            Some(over) if !record.pushing || matches!(over, Ineligible::Private(_)) => {
                Err(Failure::Ineligible(over))
            }
            _ => Ok(()),
        }
    }

    /// Ends a build that has to wait if it is not to be built any more: its author need not wait as well.
    async fn wait<T>(&self, failure: Failure) -> Result<T, Failure> {
        self.gate().await?;
        Err(failure)
    }

    /// Ends a build without a push. It may be private by now, and then even the name of a file is too much; what overtook
    /// it comes before what is wrong with its patch.
    async fn refuse<T>(&self, failure: Failure) -> Result<T, Failure> {
        Err(match self.gate().await {
            Ok(()) => failure,
            Err(Failure::Ineligible(over))
                if !matches!(over, Ineligible::Private(_))
                    && !matches!(failure, Failure::Patch(_)) =>
            {
                failure
            }
            Err(stronger) => stronger,
        })
    }

    // ---- push

    async fn push(
        &self,
        repository: &Repository,
        target: &Try<'_>,
        clone: &mut HgClone,
        head: &str,
        session: &mut Option<Session>,
    ) -> Result<(), Failure> {
        let (log, build) = (&self.worker.log, &self.build.request.target);
        log.mark_pushing(self.cx, build)
            .await
            .map_err(HgError::from)?;
        match target.push(clone, head, session).await {
            Err(HgError::Refused { doing, words }) => {
                log.clear_pushing(self.cx, build).map_err(HgError::from)?;
                return Err(match repository.look_at_tree_again().await {
                    Verdict::Closed(reason) => repository.tree_closed(&reason),
                    Verdict::Open => HgError::Refused { doing, words }.into(),
                });
            }
            pushed => pushed?,
        }
        info!(outcome = "pushed", "pushed {head} to {}", target.name);
        Ok(())
    }

    // ---- outcome

    async fn settle(&self, pushed: Result<PushedHead, Failure>) -> Result<Outcome, HgError> {
        let clock = self.cx.clock().as_ref();
        let report = match pushed {
            Ok(pushed) => self.pushed(pushed),
            Err(Failure::Patch(fault)) => fault.report(seconds_since(self.started, clock)),
            Err(Failure::Ineligible(over)) => self.ineligible(&over).await,
            Err(Failure::Decided) => {
                info!("not pushed: its end was decided meanwhile");
                return Ok(Outcome::Done);
            }
            Err(Failure::Defer { after, reason }) => return Ok(Outcome::defer(after, reason)),
            Err(Failure::Hold { after, reason }) => {
                self.share_wait(after, &reason)?;
                return Ok(Outcome::hold(after, reason));
            }
            Err(Failure::Ours(error)) => {
                // A failure is recorded in Mercurial's words, which name files. Of a build that has to wait that was
                // asked already.
                match error.retry() {
                    Retry::Hold(after) => {
                        // What a full disk could not hold may be private.
                        let reason = match &error {
                            HgError::DiskFull { .. } => "our disk is full".to_owned(),
                            error => error_chain(error),
                        };
                        self.share_wait(after, &reason)?;
                        return Err(error);
                    }
                    Retry::Defer(_) => return Err(error),
                    Retry::Backoff | Retry::After(_) | Retry::Never => {}
                }
                match self.worker.guard.check(self.build, clock.now()).await {
                    Ok(Some(private @ Ineligible::Private(_))) => private.report(),
                    _ => return Err(error),
                }
            }
        };
        match &report {
            Report::Neutral(neutral) => {
                info!(outcome = "skipped", "nothing to push: {}", neutral.text);
            }
            Report::Withheld => {
                info!(outcome = "private", "the revision is not public any more")
            }
            Report::PatchFailed(failure) => {
                info!(
                    outcome = "patch_failed",
                    "the patch is to blame: {}", failure.summary
                );
            }
            Report::InfrastructureFailed(blame) => {
                error!(
                    outcome = "infra_failed",
                    "we are to blame: {}", blame.summary
                );
            }
            Report::Working | Report::Pushed(_) => {}
        }
        let log = &self.worker.log;
        log.finish(self.cx, &self.build.request, self.record, report)?;
        Ok(Outcome::Done)
    }

    /// Records what all builds of the repository wait for.
    fn share_wait(&self, after: Duration, reason: &str) -> Result<(), HgError> {
        let repository = &self.build.request.repository;
        let log = &self.worker.log;
        Ok(log.hold(self.cx, repository, after, reason)?)
    }

    fn pushed(&self, pushed: PushedHead) -> Report {
        let PushedHead {
            repository,
            head,
            base,
        } = pushed;
        let treeherder = self.worker.settings.treeherder_url.trim_end_matches('/');
        Report::Pushed(Box::new(Pushed {
            treeherder_url: format!("{treeherder}/#/jobs?repo={repository}&revision={head}"),
            revision: head,
            patches: self.build.stack.len(),
            revisions: self.build.revisions(),
            abandoned: self.build.abandoned_below(),
            landed: self.build.landed.clone(),
            base,
            seconds: seconds_since(self.started, self.cx.clock().as_ref()),
        }))
    }

    /// How a build ends that is not to be built any more. One that has expired says what it waited for.
    async fn ineligible(&self, over: &Ineligible) -> Report {
        let request = &self.build.request;
        let (Ineligible::Expired { allowed, .. }, Some(repository)) =
            (over, self.worker.repositories.get(&request.repository))
        else {
            return over.report();
        };
        let hours = allowed.as_secs() / 3600;
        let seconds = seconds_since(request.accepted_at, self.cx.clock().as_ref());
        let events = self.record.events.iter().rev();
        let mut waits = events.filter_map(|event| match &event.what {
            What::Parked { blocker, .. } => Some(*blocker),
            What::Failed { .. } => Some(None),
            _ => None,
        });
        if !self.record.pushing
            && let Some(blocker) = waits.next().flatten()
        {
            let blame = blame::waited(blocker, repository.settings(), hours, seconds);
            return Report::InfrastructureFailed(blame);
        }
        if !repository.is_ready().await {
            let blame = blame::never_ready(repository.settings(), hours, seconds);
            return Report::InfrastructureFailed(blame);
        }
        let mut report = over.report();
        if let Report::Neutral(Neutral { text, .. }) = &mut report
            && let Verdict::Closed(reason) = repository.look_at_tree().await
        {
            // Whoever closes a tree writes what they like.
            let reason = text::path(reason.as_bytes()).replace('`', "'");
            let tree = &repository.settings().try_name;
            text.push_str(&format!(
                " The build waited for {tree}, which is closed: `{reason}`."
            ));
        }
        report
    }
}

/// Why a stack must not be given to Mercurial.
enum Unfit {
    /// The patch at this place.
    Refused(usize, Refusal),
    /// The files that it makes are too large.
    TooMuch(made::TooMuch),
}

impl Unfit {
    fn fault(&self, build: &Build) -> PatchFault {
        match self {
            Self::Refused(place, refusal) => {
                PatchFault::refused(build, &build.stack[*place], refusal)
            }
            Self::TooMuch(too_much) => PatchFault::makes_too_much(build, too_much),
        }
    }
}

fn scan(contents: &[PatchContent], limits: &crate::Limits) -> Result<Vec<Scanned>, Unfit> {
    let mut budget = Budget::new(limits);
    let scanned = contents.iter().enumerate().map(|(place, content)| {
        patch::scan_next(&content.bytes, limits, &mut budget)
            .map_err(|refusal| Unfit::Refused(place, refusal))
    });
    let scanned = scanned.collect::<Result<Vec<_>, _>>()?;
    // Without the base, and so before it is known.
    made::check(&scanned, &made::Sizes::new(), limits.made).map_err(Unfit::TooMuch)?;
    Ok(scanned)
}

fn seconds_since(start: Timestamp, clock: &dyn Clock) -> f64 {
    clock.now().duration_since(start).as_secs_f64()
}
