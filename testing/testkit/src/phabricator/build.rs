//! Builds: how they start, how their targets come to an end, and how people abort and restart them.

use jiff::Timestamp;

use super::{
    BuildVariables, FakePhabricator, Target, TargetStatus,
    plans::Plan,
    state::{Build, State, Stop},
};
use build::Phid;

/// The build plan that is there from the start.
pub(super) const PLAN: &str = "PHID-HMCP-00000000000000000000";

impl FakePhabricator {
    /// The build plan of [`FakePhabricator::start_build`].
    #[expect(clippy::expect_used, reason = "its form is fixed")]
    pub fn build_plan(&self) -> Phid {
        Phid::parse(PLAN).expect("a PHID")
    }

    /// Adds a build plan.
    pub fn add_build_plan(&self) -> Phid {
        let mut state = self.state();
        let phid = state.new_phid("HMCP");
        state.plans.push(Plan::new(phid.clone()));
        phid
    }

    /// Starts a build of a diff: its target is `Building` until [`FakePhabricator::answered`].
    ///
    /// # Panics
    /// When there is no such diff, or it belongs to no revision.
    pub fn start_build(&self, diff_id: u64) -> BuildVariables {
        self.start_build_of_plan(&self.build_plan(), diff_id)
    }

    /// [`FakePhabricator::start_build`] for another build plan.
    ///
    /// # Panics
    /// When there is no such diff, or it belongs to no revision.
    #[expect(
        clippy::panic,
        reason = "whoever names a diff that was never created has a fault in the test"
    )]
    pub fn start_build_of_plan(&self, plan: &Phid, diff_id: u64) -> BuildVariables {
        match self.state().start_build(plan, diff_id) {
            Some(variables) => variables,
            None => panic!("there is no diff {diff_id} of a revision"),
        }
    }

    /// Restarts the build of a target, as somebody with a mouse: there is a new target, for which Harbormaster sends a
    /// new request. The old one takes no more notice of messages, and goes on waiting if it waited.
    ///
    /// # Panics
    /// When there is no such target.
    #[expect(
        clippy::panic,
        reason = "whoever names a target that was never created has a fault in the test"
    )]
    pub fn restart_build(&self, target: &Phid) -> BuildVariables {
        let mut state = self.state();
        let variables = state
            .target(target)
            .map(|target| target.build.clone())
            .and_then(|build| state.restart(&build));
        match variables {
            Some(variables) => variables,
            None => panic!("there is no target {target}"),
        }
    }

    /// The requests of targets that Harbormaster made and nobody answered yet, the oldest first.
    pub fn unanswered(&self) -> Vec<BuildVariables> {
        let state = self.state();
        let building = state
            .targets
            .iter()
            .filter(|target| target.status == TargetStatus::Building);
        building
            .filter_map(|target| state.variables(target))
            .collect()
    }

    /// Aborts the build of a target. The target takes no more notice of messages, and goes on waiting if it waited.
    ///
    /// # Panics
    /// When there is no such target.
    #[expect(
        clippy::panic,
        reason = "whoever names a target that was never created has a fault in the test"
    )]
    pub fn abort_build(&self, target: &Phid) {
        let mut state = self.state();
        match state.target(target).map(|target| target.build.clone()) {
            Some(build) => state.stop(&build, Stop::Aborted),
            None => panic!("there is no target {target}"),
        }
    }

    /// Tells the target what its request was answered: 2xx lets it wait for a message (those that came before
    /// count), anything else fails it.
    pub fn answered(&self, target: &Phid, status: u16) {
        let mut state = self.state();
        let now = state.clock.now();
        let Some(known) = state.target_mut(target) else {
            return;
        };
        if known.status != TargetStatus::Building {
            return;
        }
        if (200..300).contains(&status) {
            known.status = TargetStatus::Waiting;
            state.act_on_messages(target);
        } else {
            known.end(TargetStatus::Failed, now);
        }
    }

    /// Lets messages wait from now on, as the real one does for some seconds: they are accepted, and have no effect
    /// before [`FakePhabricator::act_on_messages`]. Units are there at once.
    pub fn hold_messages(&self) {
        self.state().messages_held = true;
    }

    /// Acts on the messages that wait, and on later ones at once.
    pub fn act_on_messages(&self) {
        let mut state = self.state();
        state.messages_held = false;
        let targets: Vec<Phid> = state
            .targets
            .iter()
            .map(|target| target.phid.clone())
            .collect();
        for target in targets {
            state.act_on_messages(&target);
        }
    }

    /// A build target as it is now.
    pub fn target(&self, phid: &Phid) -> Option<Target> {
        self.state().target(phid).cloned()
    }
}

impl State {
    fn target(&self, phid: &Phid) -> Option<&Target> {
        self.targets.iter().find(|target| target.phid == *phid)
    }

    fn target_mut(&mut self, phid: &Phid) -> Option<&mut Target> {
        self.targets.iter_mut().find(|target| target.phid == *phid)
    }

    pub(super) fn build(&self, phid: &Phid) -> Option<&Build> {
        self.builds.iter().find(|build| build.phid == *phid)
    }

    fn build_mut(&mut self, phid: &Phid) -> Option<&mut Build> {
        self.builds.iter_mut().find(|build| build.phid == *phid)
    }

    /// The target of a build's newest run.
    pub(super) fn newest_target(&self, build: &Build) -> Option<&Target> {
        self.targets
            .iter()
            .find(|target| target.build == build.phid && target.generation == build.generation)
    }

    /// Whether a build has come to an end.
    pub(super) fn is_complete(&self, build: &Build) -> bool {
        let ended = |target: &Target| {
            !matches!(
                target.status,
                TargetStatus::Building | TargetStatus::Waiting
            )
        };
        build.stopped == Some(Stop::Aborted) || self.newest_target(build).is_some_and(ended)
    }

    /// Whether a build has failed or was aborted.
    pub(super) fn has_failed(&self, build: &Build) -> bool {
        let failed =
            |target: &Target| matches!(target.status, TargetStatus::Failed | TargetStatus::Aborted);
        build.stopped == Some(Stop::Aborted) || self.newest_target(build).is_some_and(failed)
    }

    fn start_build(&mut self, plan: &Phid, diff_id: u64) -> Option<BuildVariables> {
        let now = self.clock.now();
        let (phid, buildable) = (self.new_phid("HMBD"), self.new_phid("HMBB"));
        let build = Build {
            id: self.builds.len() as u64 + 1,
            phid: phid.clone(),
            buildable,
            plan: plan.clone(),
            diff_id,
            generation: 1,
            stopped: None,
            created_at: now,
            modified_at: now,
        };
        self.builds.push(build);
        self.start_target(&phid, 1, diff_id)
    }

    pub(super) fn restart(&mut self, build: &Phid) -> Option<BuildVariables> {
        self.drop_request(build);
        let now = self.clock.now();
        let known = self.build_mut(build)?;
        known.generation += 1;
        known.stopped = None;
        known.modified_at = now;
        let (generation, diff_id) = (known.generation, known.diff_id);
        self.start_target(build, generation, diff_id)
    }

    pub(super) fn stop(&mut self, build: &Phid, why: Stop) {
        if why == Stop::Aborted {
            self.drop_request(build);
        }
        let now = self.clock.now();
        if let Some(build) = self.build_mut(build) {
            build.stopped = Some(why);
            build.modified_at = now;
        }
    }

    pub(super) fn resume(&mut self, build: &Phid) {
        let Some(known) = self
            .build_mut(build)
            .filter(|build| build.stopped == Some(Stop::Paused))
        else {
            return;
        };
        known.stopped = None;
        let target = self
            .build(build)
            .and_then(|build| self.newest_target(build))
            .map(|target| target.phid.clone());
        if let Some(target) = target {
            self.act_on_messages(&target);
        }
    }

    /// The request of a build that is on its way is given up.
    fn drop_request(&mut self, build: &Phid) {
        let now = self.clock.now();
        for target in self
            .targets
            .iter_mut()
            .filter(|target| target.build == *build)
        {
            if target.status == TargetStatus::Building {
                target.end(TargetStatus::Aborted, now);
            }
        }
    }

    fn start_target(
        &mut self,
        build: &Phid,
        generation: u64,
        diff_id: u64,
    ) -> Option<BuildVariables> {
        let phid = self.new_phid(Phid::TARGET);
        let target = Target {
            id: self.targets.len() as u64 + 1,
            phid,
            build: build.clone(),
            generation,
            diff_id,
            status: TargetStatus::Building,
            messages: Vec::new(),
            units: Vec::new(),
            artifacts: Vec::new(),
            started_at: self.clock.now(),
            completed_at: None,
        };
        let variables = self.variables(&target)?;
        self.targets.push(target);
        Some(variables)
    }

    /// What Harbormaster sends for a target.
    fn variables(&self, target: &Target) -> Option<BuildVariables> {
        let diff = self.diffs.iter().find(|diff| diff.id == target.diff_id)?;
        let revision = self.revision(diff.revision.as_ref()?)?;
        Some(BuildVariables {
            diff_id: target.diff_id,
            repository: revision.repository.clone(),
            revision_id: revision.id,
            target: target.phid.clone(),
        })
    }

    /// The first message that ends a target does. None does while its request is on the way, nor when its build was
    /// stopped or restarted.
    pub(super) fn act_on_messages(&mut self, phid: &Phid) {
        let now = self.clock.now();
        let Some(target) = self
            .target(phid)
            .filter(|target| target.status == TargetStatus::Waiting)
        else {
            return;
        };
        let current =
            |build: &Build| build.generation == target.generation && build.stopped.is_none();
        if self.messages_held || !self.build(&target.build).is_some_and(current) {
            return;
        }
        let end = target.messages.iter().find_map(|kind| match kind.as_str() {
            "pass" => Some(TargetStatus::Passed),
            "fail" => Some(TargetStatus::Failed),
            _ => None,
        });
        let build = target.build.clone();
        if let (Some(end), Some(target)) = (end, self.target_mut(phid)) {
            target.end(end, now);
            if let Some(build) = self.build_mut(&build) {
                build.modified_at = now;
            }
        }
    }
}

impl Target {
    fn end(&mut self, status: TargetStatus, now: Timestamp) {
        self.status = status;
        self.completed_at = Some(now);
    }
}
