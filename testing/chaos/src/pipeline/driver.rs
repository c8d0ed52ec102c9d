//! Runs a campaign on the pipeline from its first request to its last check.

use std::{
    collections::BTreeMap,
    io::{self, IsTerminal},
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context, bail};
use events::queues::BUILD_PUSH;
use jiff::Timestamp;
use runtime::{Clock, SystemClock};

use super::{
    Pipeline,
    answer::Said,
    author::{self, Published},
    harbormaster::Harbormaster,
    plan::{Fault, Interruption, Kind, Plan, REPOSITORIES, Secrecy},
    report::{Course, Report},
    repository::Content,
    verify::{Entry, Kind as Wrong, Observations, Response, Violation},
    world::{Depths, World},
};
use crate::{
    campaign::{self, Campaign},
    console::{tell, thousandths},
};

const TICK: Duration = Duration::from_millis(10);
/// How often the queues are polled.
const LOOK: Duration = Duration::from_millis(200);
/// How long a fault waits for work that it can strike. Then it strikes whatever is there.
const CHANCE: Duration = Duration::from_secs(10);
/// The least time between two faults.
const APART: Duration = Duration::from_millis(500);
/// How often, after the last fault, builds that wait for another attempt are tried at once: nothing is to be learnt
/// from the longer waits, which take up to 22 minutes.
const HURRY: Duration = Duration::from_secs(10);
/// How long nothing at all may be seen to happen: longer than the checks of a private revision take, with waits of 10
/// to 160 s, which change nothing in how full the queues are.
const STANDSTILL: Duration = Duration::from_secs(400);
/// How long the processes may take to be up at the start.
const START: Duration = Duration::from_secs(60);
/// How often progress is reported, on a terminal and in a log.
const TERMINAL: Duration = Duration::from_secs(1);
const LOG: Duration = Duration::from_secs(10);

/// Runs the campaign that `options` describe, and cleans up after it.
pub async fn run(options: &Pipeline) -> anyhow::Result<Report> {
    let seed = campaign::seed(options.seed);
    let program = program()?;
    let plan = Plan::new(seed, options.builds as usize, options.kills);
    tell(&format!(
        "seed {seed}: {} builds with {}, {} kills",
        options.builds,
        options.vcs.program(),
        options.kills
    ));

    campaign::conduct(async |directory| {
        Ok(Driver::new(
            plan,
            World::start(options.vcs, directory, &program).await?,
            seed,
        ))
    })
    .await
}

/// The program that is put to the test, which is built beside this one.
fn program() -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe()
        .context("cannot find this program")?
        .with_file_name("events");
    if !program.exists() {
        bail!(
            "there is no {}: build it with this program, `cargo build --release -p chaos -p events`",
            program.display()
        );
    }
    Ok(program)
}

/// A build that was asked for.
struct Asked {
    /// Its number in the plan, which a restarted build shares with the new one.
    number: usize,
    published: Published,
    response: Option<Response>,
    /// How many faults there were before.
    faults: u32,
}

struct Driver {
    seed: u64,
    plan: Plan,
    world: World,
    harbormaster: Harbormaster,
    asked: Vec<Asked>,
    /// How many builds of the plan were asked for.
    started: usize,
    /// When which revisions become public.
    reveals: BTreeMap<(Timestamp, u64), Secrecy>,
    /// When which builds, by their place in `asked`, are interrupted.
    interruptions: BTreeMap<(Timestamp, usize), Interruption>,
    repeated: usize,
    /// How many faults and commits of the plan have happened.
    faults: usize,
    commits: usize,
    last_fault: Timestamp,
    begun: Timestamp,
}

impl Driver {
    fn new(plan: Plan, world: World, seed: u64) -> Self {
        let now = SystemClock.now();
        Self {
            seed,
            plan,
            world,
            harbormaster: Harbormaster::default(),
            asked: Vec::new(),
            started: 0,
            reveals: BTreeMap::new(),
            interruptions: BTreeMap::new(),
            repeated: 0,
            faults: 0,
            commits: 0,
            last_fault: now,
            begun: now,
        }
    }
}

impl Campaign for Driver {
    type Report = Report;

    async fn run(&mut self) -> anyhow::Result<Report> {
        self.wait_for_start().await?;
        self.begun = SystemClock.now();
        self.last_fault = self.begun;
        let mut violations = Vec::new();
        match self.drive().await? {
            Some(what) => violations.push(Violation::new(
                Wrong::Unfinished,
                "campaign".to_owned(),
                what,
            )),
            None => self.world.processes.end().await?,
        }
        let seconds = thousandths(SystemClock.now().duration_since(self.begun).as_secs_f64());
        let mut contents: [Vec<&Content>; REPOSITORIES] = Default::default();
        for asked in &self.asked {
            contents[self.plan.builds[asked.number].repository].push(&asked.published.content);
        }
        let observed = Observations {
            builds: self.asked.iter().map(|asked| self.entry(asked)).collect(),
            tries: self.world.tries(contents).await?,
            letters: self.world.letters().await?,
            try_kills: self.world.done.try_program as usize,
        };
        let mut verdict = observed.verify(BUILD_PUSH.spec().name);
        violations.append(&mut self.world.processes.violations);
        violations.append(&mut verdict.violations);
        verdict.violations = violations;
        let course = Course {
            refused: self
                .asked
                .iter()
                .filter(|asked| asked.response != Some(Response::Accepted))
                .count(),
            repeated_requests: self.repeated,
            try_heads: observed.tries.iter().map(|pushed| pushed.heads.len()).sum(),
            cut_off_writes: observed
                .tries
                .iter()
                .map(|pushed| pushed.cut_off_writes)
                .sum(),
            dead_letters: observed.letters.len(),
            vcs: self.world.stage.vcs,
            faults: self.world.done.clone(),
            seed: self.seed,
            seconds,
        };
        Ok(Report::new(self.plan.builds.len(), verdict, course))
    }

    async fn end(self) {
        self.world.end().await;
    }
}

impl Driver {
    async fn wait_for_start(&mut self) -> anyhow::Result<()> {
        let until = SystemClock.now().checked_add(START)?;
        while !self.world.is_whole() {
            if SystemClock.now() > until {
                bail!(
                    "the program was not up within {} s, see its logs",
                    START.as_secs()
                );
            }
            SystemClock.sleep(TICK).await;
            self.world.tend().await?;
        }
        Ok(())
    }

    /// Lets everything happen that is planned until all builds are through, or says why they are not.
    async fn drive(&mut self) -> anyhow::Result<Option<String>> {
        let (mut looked, mut shown, mut hurried, mut news) =
            (self.begun, self.begun, self.begun, self.begun);
        let mut last = (Depths::default(), 0);
        let pause = if io::stderr().is_terminal() {
            TERMINAL
        } else {
            LOG
        };
        loop {
            SystemClock.sleep(TICK).await;
            let now = SystemClock.now();
            self.world.tend().await?;
            self.ask(now)?;
            self.hear()?;
            self.go_on(now).await?;
            self.inject_fault(now).await?;
            if now < looked.checked_add(LOOK)? {
                continue;
            }
            looked = now;
            let ended = self.ended();
            if now >= shown.checked_add(pause)? {
                shown = now;
                self.show(now, ended);
            }
            let depths = self.world.depths().await;
            let state = (depths.unwrap_or_default(), ended);
            if state != last {
                (last, news) = (state, now);
            }
            let all_done = self.started == self.plan.builds.len()
                && self.harbormaster.is_idle()
                && self.reveals.is_empty()
                && self.interruptions.is_empty()
                && self.faults == self.plan.faults.len()
                && self.world.is_whole();
            if let Some(depths) = depths.filter(|_| all_done) {
                if depths.are_empty() {
                    return Ok(None);
                }
                if depths.only_wait() && now >= hurried.checked_add(HURRY)? {
                    hurried = now;
                    self.world.hurry().await?;
                }
            }
            if now >= news.checked_add(STANDSTILL)? {
                return Ok(Some(format!(
                    "nothing happened for {} s: {:?}",
                    STANDSTILL.as_secs(),
                    last.0
                )));
            }
        }
    }

    /// The time at which something is due that has this share of the campaign.
    fn due(&self, share: f64) -> anyhow::Result<Timestamp> {
        Ok(self.begun.checked_add(self.plan.duration.mul_f64(share))?)
    }

    /// Publishes the builds whose time has come, and has Harbormaster ask for them.
    fn ask(&mut self, now: Timestamp) -> anyhow::Result<()> {
        while let Some(build) = self.plan.builds.get(self.started) {
            if now < self.due(build.at)? {
                break;
            }
            let number = self.started;
            self.started += 1;
            let published = author::publish(&self.world.stage, number, build)?;
            match build.kind {
                Kind::PublicLater(how, after) => {
                    let revision = published.variables.revision_id;
                    self.reveals
                        .insert((now.checked_add(after)?, revision), how);
                }
                Kind::Interrupted(how, after) => {
                    let at = (now.checked_add(after)?, self.asked.len());
                    self.interruptions.insert(at, how);
                }
                _ => {}
            }
            self.request(number, published);
        }
        while let Some(entry) = self
            .interruptions
            .first_entry()
            .filter(|entry| entry.key().0 <= now)
        {
            let ((_, place), how) = entry.remove_entry();
            let asked = &self.asked[place];
            let number = asked.number;
            self.world.done.count_interruption(how);
            if let Some(new) = author::interrupt(&self.world.stage, &asked.published, how) {
                self.request(number, new);
            }
        }
        while let Some(entry) = self
            .reveals
            .first_entry()
            .filter(|entry| entry.key().0 <= now)
        {
            let ((_, revision), how) = entry.remove_entry();
            author::set_private(&self.world.stage, revision, how, false);
        }
        Ok(())
    }

    /// Has Harbormaster ask for a build.
    fn request(&mut self, number: usize, published: Published) {
        let place = self.asked.len();
        self.harbormaster
            .ask(self.world.web, place, published.variables.clone());
        self.asked.push(Asked {
            number,
            published,
            response: None,
            faults: self.world.done.all(),
        });
    }

    /// Takes note of the answers to requests.
    fn hear(&mut self) -> anyhow::Result<()> {
        for answer in self.harbormaster.answers()? {
            let asked = &mut self.asked[answer.build];
            asked.response = Some(answer.response);
            let variables = asked.published.variables.clone();
            self.world
                .stage
                .phabricator
                .answered(&variables.target, answer.status);
            let number = asked.number;
            let again = self.plan.builds[number]
                .again
                .filter(|_| answer.response == Response::Accepted);
            if let Some(after) = again {
                self.repeated += 1;
                self.harbormaster
                    .ask_again(self.world.web, after, variables);
            }
        }
        Ok(())
    }

    /// Lets the sources go on.
    async fn go_on(&mut self, now: Timestamp) -> anyhow::Result<()> {
        if let Some((share, repository)) = self.plan.commits.get(self.commits).copied()
            && now >= self.due(share)?
        {
            self.commits += 1;
            self.world.stage.repositories[repository].commit().await?;
        }
        Ok(())
    }

    /// Lets the next fault happen when its time has come and there is something to strike.
    async fn inject_fault(&mut self, now: Timestamp) -> anyhow::Result<()> {
        let Some((share, fault)) = self.plan.faults.get(self.faults).copied() else {
            return Ok(());
        };
        let due = self.due(share)?.max(self.last_fault.checked_add(APART)?);
        if now < due {
            return Ok(());
        }
        let at_work = match fault {
            Fault::StopWeb | Fault::Redis(_) => true,
            // Between a request and its answer.
            Fault::Web => self.asked.iter().any(|asked| asked.response.is_none()),
            // Every other time between an answer and the note that it was given.
            Fault::Worker(_) if self.world.done.worker % 2 == 1 => {
                self.depths().await.show_answers()
            }
            _ => self.depths().await.show_work(),
        };
        let no_chance = now >= due.checked_add(CHANCE)?;
        if !at_work && !no_chance {
            return Ok(());
        }
        let happened = self.world.inject_fault(fault).await?
            || match fault {
                // Nothing of it is there: another process takes its place.
                Fault::Program(number, _) | Fault::Ssh(number) | Fault::Try(number, _)
                    if no_chance =>
                {
                    self.world.inject_fault(Fault::Worker(number)).await?
                }
                _ => false,
            };
        if happened {
            self.faults += 1;
            self.last_fault = SystemClock.now();
        }
        Ok(())
    }

    /// How full the queues are; nothing while Redis is away.
    async fn depths(&self) -> Depths {
        self.world.depths().await.unwrap_or_default()
    }

    fn said(&self, asked: &Asked) -> Said {
        let target = self
            .world
            .stage
            .phabricator
            .target(&asked.published.variables.target);
        let vcs = self.world.stage.vcs;
        target
            .map(|target| Said::on(&target, vcs))
            .unwrap_or_default()
    }

    fn ended(&self) -> usize {
        self.asked
            .iter()
            .filter(|asked| self.said(asked).end().is_ok())
            .count()
    }

    fn entry(&self, asked: &Asked) -> Entry {
        let number = asked.number;
        let (build, variables) = (&self.plan.builds[number], &asked.published.variables);
        Entry {
            name: format!(
                "build {number} (D{}, {}, {:?})",
                variables.revision_id, variables.target, build.kind
            ),
            target: variables.target.to_string(),
            diff: asked.published.diff.to_string(),
            repository: build.repository,
            patches: build.patches,
            truth: asked.published.truth.clone(),
            // One whose answer has not come is as good as one whose answer never comes.
            response: asked.response.unwrap_or(Response::Unclear),
            said: self.said(asked),
            faults: self.world.done.all() - asked.faults,
        }
    }

    fn show(&self, now: Timestamp, ended: usize) {
        tell(&format!(
            "{:>4.0} s  {} of {} asked for, {ended} ended, {} of {} faults",
            now.duration_since(self.begun).as_secs_f64(),
            self.started,
            self.plan.builds.len(),
            self.faults,
            self.plan.faults.len(),
        ));
    }
}
