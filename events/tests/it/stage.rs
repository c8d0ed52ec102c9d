//! A deployment that runs, as tests of the ends of builds need it: they look at Redis beside the processes.

use std::{net::SocketAddr, time::Duration};

use build::{BuildEventKind, BuildLog, BuildOutcome, BuildRecord, Event, SkipReason};
use bus::{MessageSelector, QueueAdmin, RedisBus};
use events::queues::{self, BUILD_LOAD, BUILD_PUBLISH, BUILD_PUSH};
use runtime::{Clock, SystemClock};
use testkit::phabricator::{
    BuildVariables, CreatedRevision, NewDiff, NewRevision, TargetStatus, harbormaster_request,
};

use crate::world::{Process, World};

/// How long anything may take before the test gives up on it.
const PATIENCE: Duration = Duration::from_secs(180);
/// How long messages may take to leave the queues. An answer may be claimed by another delivery, which lost its lease
/// on a busy machine: then it is retried for two minutes before it is settled.
const SETTLED: Duration = Duration::from_secs(180);

pub struct Stage {
    pub world: World,
    pub web: Process,
    pub worker: Process,
    bus: RedisBus,
    address: SocketAddr,
    secret: Option<&'static str>,
}

impl Stage {
    /// A web and a worker on `world`, with all that these lines of the configuration and of the environment say.
    /// Harbormaster knows `secret`.
    pub async fn new(
        world: World,
        environment: &[(&str, &str)],
        secret: Option<&'static str>,
    ) -> Self {
        let (web, worker) = (
            world.start_with("web", environment),
            world.start_with("worker", environment),
        );
        let address = web.address().await;
        Self {
            bus: world.bus(),
            world,
            web,
            worker,
            address,
            secret,
        }
    }

    /// A revision to be created, whose patch adds this file.
    pub fn revision(&self, file: &str) -> NewRevision {
        NewRevision::new(
            file,
            &self.world.author,
            &self.world.repository,
            self.diff(file),
        )
    }

    /// A diff that adds a file.
    pub fn diff(&self, file: &str) -> NewDiff {
        NewDiff::new(adds(file)).base(&self.world.repositories.base)
    }

    pub fn create(&self, new: NewRevision) -> CreatedRevision {
        self.world.phabricator.create_revision(new)
    }

    /// Starts the build of a revision's first diff.
    pub async fn build(&self, revision: &CreatedRevision) -> BuildVariables {
        self.build_diff(revision.diff.id).await
    }

    pub async fn build_diff(&self, diff: u64) -> BuildVariables {
        let build = self.world.phabricator.start_build(diff);
        self.request(build).await
    }

    /// Sends Harbormaster's request for a build, which is accepted.
    pub async fn request(&self, build: BuildVariables) -> BuildVariables {
        let credentials = self.secret.map(|secret| ("harbormaster", secret));
        let (status, body) = harbormaster_request(self.address, &build, credentials)
            .await
            .unwrap();
        self.world.phabricator.answered(&build.target, status);
        // Everybody who sees the build reads the body in its log: it has what Harbormaster sent, and no more.
        let follow = "Its operators follow it with `events builds show`, and its outcome will be shown on this build.";
        let queued = format!(
            "Build queued: {}, diff {} of D{}.\n{follow}\n",
            build.target, build.diff_id, build.revision_id
        );
        assert_eq!((status, body), (200, queued));
        build
    }

    /// Whether builds link to the documentation.
    fn has_docs(&self) -> bool {
        std::fs::read_to_string(self.world.path("config.yml"))
            .unwrap()
            .contains(DOCS_URL)
    }

    pub async fn record(&self, build: &BuildVariables) -> BuildRecord {
        let log = BuildLog::new(Duration::from_secs(3600), "a test", queues::BUILD_QUEUES);
        log.find(&self.bus, std::slice::from_ref(&build.target))
            .await
            .unwrap()
            .remove(0)
    }

    /// Stops or resumes the pushing of builds.
    pub async fn pause_push(&self, paused: bool) {
        self.bus
            .set_paused(&BUILD_PUSH.spec(), paused)
            .await
            .unwrap();
    }

    /// Waits until this many builds are loaded and wait to be pushed.
    pub async fn until_waiting_for_push(&self, count: usize) {
        self.until("the builds to wait for their push", async || {
            self.bus.depth(&BUILD_PUSH.spec()).await.unwrap().ready == count
                // That they are being built is published by then: on a target that is hidden later it could not be.
                && self.bus.depth(&BUILD_PUBLISH.spec()).await.unwrap().unfinished() == 0
        })
        .await;
    }

    /// Waits until the workflow has found a revision not public, `looks` times.
    pub async fn until_not_public(&self, build: &BuildVariables, looks: usize) {
        self.until("the revision to be checked", async || {
            self.look_again_now().await;
            let hidden =
                |event: &&Event| matches!(&event.kind, BuildEventKind::NotPublicYet { .. });
            self.record(build)
                .await
                .events
                .iter()
                .filter(hidden)
                .count()
                >= looks
        })
        .await;
    }

    /// Waits until a step of a build has failed, and is deferred.
    pub async fn until_failed_once(&self, build: &BuildVariables) {
        self.until("a step to fail", async || {
            let record = self.record(build).await;
            record
                .events
                .iter()
                .any(|event| matches!(event.kind, BuildEventKind::Failed { .. }))
                && self.bus.depth(&BUILD_PUSH.spec()).await.unwrap().delayed == 1
        })
        .await;
    }

    /// Has what was deferred done now, not in some minutes.
    async fn look_again_now(&self) {
        for queue in [BUILD_LOAD.spec(), BUILD_PUSH.spec()] {
            self.bus
                .requeue(&queue, MessageSelector::All)
                .await
                .unwrap();
        }
    }

    /// Waits until the ends of all builds are published and all queues are empty.
    pub async fn until_all_published(&self, builds: impl IntoIterator<Item = &BuildVariables>) {
        for build in builds {
            self.until("the end of a build", async || {
                self.look_again_now().await;
                self.record(build).await.published_at.is_some()
            })
            .await;
        }
        for queue in queues::all() {
            let empty = async || self.bus.depth(&queue).await.unwrap().unfinished() == 0;
            self.within(SETTLED, &format!("queue {} to be empty", queue.name), empty)
                .await;
            assert_eq!(
                self.bus.depth(&queue).await.unwrap().dead,
                0,
                "{}",
                queue.name
            );
        }
    }

    /// Exactly these ends were said, and what is on Try is what was pushed.
    pub async fn assert_ends(&self, expected: &[(BuildVariables, Ending)]) {
        let mut links = Vec::new();
        for (build, ending) in expected {
            let (target, record) = (self.world.target(build), self.record(build).await);
            let about = format!("{ending:?}: {target:?} {record:?}");
            assert_eq!(record.outcome(), Some(ending.outcome), "{about}");
            let ends: Vec<_> = target
                .messages
                .iter()
                .filter(|message| *message != "work")
                .collect();
            let Some((name, result, text)) = &ending.unit else {
                assert!(
                    ends.is_empty() && target.units.is_empty() && target.artifacts.is_empty(),
                    "{about}"
                );
                continue;
            };
            assert_eq!(target.units.len(), 1, "{about}");
            let unit = |key: &str| target.units[0][key].as_str().unwrap();
            assert_eq!((unit("name"), unit("result")), (*name, *result), "{about}");
            assert!(unit("details").contains(text.as_str()), "{about}");
            let (message, status) = match *result {
                "fail" | "broken" => (Some("fail"), TargetStatus::Failed),
                "skip" => (Some("pass"), TargetStatus::Passed),
                _ => (None, TargetStatus::Waiting),
            };
            assert_eq!(ends, Vec::from_iter(&message), "{about}");
            assert_eq!(target.status, status, "{about}");
            let of_key = |key: &str| -> Vec<String> {
                let found = target
                    .artifacts
                    .iter()
                    .filter(|artifact| artifact.key == key);
                found
                    .map(|artifact| artifact.data["uri"].as_str().unwrap().to_owned())
                    .collect()
            };
            links.extend(of_key("treeherder"));
            let explained = self.has_docs() && ending.outcome != BuildOutcome::Pushed;
            let why: Vec<&str> = explained.then_some(DOCS_URL).into_iter().collect();
            assert_eq!(of_key("code-review-why"), why, "{about}");
        }
        let link = |head| format!("https://treeherder.mozilla.org/#/jobs?repo=try&revision={head}");
        let mut pushed: Vec<String> = self
            .world
            .repositories
            .try_heads()
            .await
            .unwrap()
            .iter()
            .map(link)
            .collect();
        pushed.sort();
        links.sort();
        assert_eq!(links, pushed, "a link for each head on Try");
        assert_eq!(
            pushed.len(),
            expected
                .iter()
                .filter(|(_, ending)| ending.outcome == BuildOutcome::Pushed)
                .count()
        );
    }

    /// Ends the processes.
    pub async fn stop(&mut self) {
        self.web.stop().await;
        self.worker.stop().await;
    }

    async fn until(&self, what: &str, condition: impl AsyncFn() -> bool) {
        self.within(PATIENCE, what, condition).await;
    }

    async fn within(&self, patience: Duration, what: &str, condition: impl AsyncFn() -> bool) {
        let begun = SystemClock.now();
        while !condition().await {
            let waited = SystemClock.now().duration_since(begun);
            assert!(
                waited.unsigned_abs() < patience,
                "waited in vain for {what}:\n{}",
                self.worker.log()
            );
            SystemClock.sleep(Duration::from_millis(20)).await;
        }
    }
}

/// The page that explains how builds end, when the deployment has one.
pub const DOCS_URL: &str = "https://docs.example.com/builds";

/// How a build is to have ended.
#[derive(Debug)]
pub struct Ending {
    outcome: BuildOutcome,
    /// Name, result, and a part of the text.
    unit: Option<(&'static str, &'static str, String)>,
}

pub fn pushed() -> Ending {
    pushed_with("applied on changeset")
}

/// Pushed, with a unit that has this text.
pub fn pushed_with(text: &str) -> Ending {
    Ending {
        outcome: BuildOutcome::Pushed,
        unit: Some(("mercurial", "pass", text.to_owned())),
    }
}

pub fn patch_failed(text: impl Into<String>) -> Ending {
    Ending {
        outcome: BuildOutcome::PatchFailed,
        unit: Some(("mercurial", "fail", text.into())),
    }
}

pub fn neutral(reason: SkipReason, text: impl Into<String>) -> Ending {
    skipped(BuildOutcome::Skipped(reason), text)
}

fn skipped(outcome: BuildOutcome, text: impl Into<String>) -> Ending {
    Ending {
        outcome,
        unit: Some(("general", "skip", text.into())),
    }
}

pub fn private() -> Ending {
    skipped(
        BuildOutcome::Private,
        "This is a private revision, it is not built.",
    )
}

/// Somebody ended the target in Harbormaster, or restarted its build.
pub fn ended_elsewhere() -> Ending {
    Ending {
        outcome: BuildOutcome::Skipped(SkipReason::EndedElsewhere),
        unit: None,
    }
}

/// The target is as private as the revision.
pub fn not_said() -> Ending {
    Ending {
        outcome: BuildOutcome::Private,
        unit: None,
    }
}

/// A patch that adds a file.
pub fn adds(file: &str) -> String {
    format!(
        "diff --git a/{file} b/{file}\nnew file mode 100644\n--- /dev/null\n+++ b/{file}\n@@ -0,0 +1,1 @@\n+{file}\n"
    )
}
