//! Runs a campaign from its first push to its last check.

use std::{
    collections::HashMap,
    io::{self, IsTerminal},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use anyhow::{Context, bail};
use bus::{Bus, QueueAdmin, Reserve, Settlement};
use jiff::Timestamp;
use runtime::{Clock, SystemClock};
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::{
    campaign::{self, Campaign},
    chain::{DEAD_LETTER_NOTES, DeadLetterNote, Step},
    cli::Options,
    console::{tell, thousandths},
    plan::Plan,
    producer::{self, Progress, Sent},
    report::Report,
    side_effects::{CHUNK, Event},
    verify::{Kind, Observations, Remains, Violation},
    world::World,
};

const TICK: Duration = Duration::from_millis(20);
/// How often the log is read.
const LOOK: Duration = Duration::from_millis(200);
/// The least time between two faults, so that each one meets work.
const APART: Duration = Duration::from_millis(200);
/// How long nothing at all may happen before the campaign is given up.
const STANDSTILL: Duration = Duration::from_secs(60);
/// How long the queues may take to run empty.
const DRAIN: Duration = Duration::from_secs(180);

/// Runs the campaign that `options` describe, and cleans up after it.
pub async fn run(options: &Options) -> anyhow::Result<Report> {
    let seed = campaign::seed(options.seed);
    let program = std::env::current_exe().context("cannot find this program")?;
    let plan = Arc::new(Plan::new(seed, options.messages, options.kills));
    tell(&format!(
        "seed {seed}: {} messages, {} kills",
        options.messages, options.kills
    ));

    campaign::conduct(async |directory| {
        let world = World::start(directory, &program, options.kill_redis).await?;
        Ok(Driver::new(plan, world, seed, options.kill_redis))
    })
    .await
}

struct Driver {
    seed: u64,
    losses_are_expected: bool,
    plan: Arc<Plan>,
    world: World,
    observed: Observations,
    progress: Arc<Progress>,
    /// How many faults have happened.
    faults: usize,
    last_fault: Timestamp,
    /// When a worker last did something.
    last_news: Timestamp,
    begun: Timestamp,
}

impl Driver {
    fn new(plan: Arc<Plan>, world: World, seed: u64, losses_are_expected: bool) -> Self {
        let now = SystemClock.now();
        let observed = Observations::new(&plan.messages);
        let progress = Arc::default();
        Self {
            seed,
            losses_are_expected,
            plan,
            world,
            observed,
            progress,
            faults: 0,
            last_fault: now,
            last_news: now,
            begun: now,
        }
    }
}

impl Campaign for Driver {
    type Report = Report;

    async fn run(&mut self) -> anyhow::Result<Report> {
        let bus = self.world.producer_bus()?;
        let mut producing = tokio::spawn(producer::produce(
            bus,
            self.plan.clone(),
            self.progress.clone(),
        ));
        let mut violations = Vec::new();
        let unfinished = self.drive(&mut producing).await?;
        if let Some(what) = unfinished {
            let what = format!("{what}: {}", self.standing().await);
            violations.push(Violation::new(
                Kind::Unfinished,
                "campaign".to_owned(),
                what,
            ));
            self.world.workers.kill_all().await;
        } else {
            self.world.workers.end().await?;
        }
        let sent = if producing.is_finished() {
            producing.await.context("the producer panicked")??
        } else {
            producing.abort();
            Sent::default()
        };
        while self.read().await? {}
        let remains = self.remains(sent.envelopes).await?;
        let (found, dead_letters) = self.observed.check(&remains);
        violations.append(&mut self.world.workers.violations);
        violations.extend(found);
        let count = |kind| campaign::count(&violations, kind);
        let faults = self.world.done.clone();
        let longest = self
            .observed
            .redelivery
            .longest(&self.world.redis.downtimes);
        Ok(Report {
            messages: self.plan.messages.len(),
            kills: faults.sigkill + faults.sigterm + faults.sigstop,
            lost: count(Kind::Lost),
            duplicate_effects: count(Kind::DuplicateEffect),
            duplicate_messages: count(Kind::DuplicateMessage),
            dead: remains.letters.len(),
            max_redelivery_s: thousandths(longest.as_secs_f64()),
            redelivered: self.observed.redelivery.count(),
            repeated: self.observed.repeated(),
            refused_effects: self.observed.refused,
            failed_pushes: sent.failed,
            repeated_pushes: sent.repeated,
            restarts: self.world.workers.restarts(),
            aborted: self.world.workers.aborted,
            faults,
            dead_letters,
            seed: self.seed,
            seconds: thousandths(SystemClock.now().duration_since(self.begun).as_secs_f64()),
            violations,
            losses_are_expected: self.losses_are_expected,
        })
    }

    async fn end(self) {
        self.world.end().await;
    }
}

impl Driver {
    /// Lets faults happen until all messages are through, or says why they are not.
    async fn drive(
        &mut self,
        producing: &mut JoinHandle<Result<Sent, bus::BusError>>,
    ) -> anyhow::Result<Option<String>> {
        let mut looked = self.begun;
        let mut shown = self.begun;
        let mut drained_by = None;
        loop {
            SystemClock.sleep(TICK).await;
            let now = SystemClock.now();
            self.world.tend().await?;
            self.inject_fault(now)?;
            if now < looked.checked_add(LOOK)? {
                continue;
            }
            looked = now;
            while self.read().await? {}
            if now >= shown.checked_add(Duration::from_secs(1))? {
                shown = now;
                self.show(now);
            }
            let all_done = producing.is_finished() && self.faults == self.plan.faults.len();
            if all_done && self.world.is_whole() && self.is_empty().await {
                return Ok(None);
            }
            if all_done && now >= *drained_by.get_or_insert(now.checked_add(DRAIN)?) {
                return Ok(Some(format!(
                    "the queues are not empty {} s after the last fault",
                    DRAIN.as_secs()
                )));
            }
            if now >= self.last_news.checked_add(STANDSTILL)? {
                return Ok(Some(format!(
                    "no worker did anything for {} s",
                    STANDSTILL.as_secs()
                )));
            }
        }
    }

    /// Lets the next fault happen when its place has come.
    fn inject_fault(&mut self, now: Timestamp) -> anyhow::Result<()> {
        let Some((share, fault)) = self.plan.faults.get(self.faults).copied() else {
            return Ok(());
        };
        let pushed =
            self.progress.pushed.load(Ordering::Relaxed) as f64 / self.plan.messages.len() as f64;
        if pushed >= share
            && now >= self.last_fault.checked_add(APART)?
            && self.world.inject_fault(fault)?
        {
            self.faults += 1;
            self.last_fault = now;
        }
        Ok(())
    }

    /// Records what is new in the log; `true` when there is more.
    async fn read(&mut self) -> anyhow::Result<bool> {
        let news = self.world.outside.take().await?;
        for (at, entry) in &news {
            if entry.event == Event::Ready {
                self.world.workers.ready(entry.worker);
            } else {
                self.last_news = *at;
            }
            self.observed.record(*at, entry, &self.world.workers.deaths);
        }
        self.progress
            .finished
            .store(self.observed.finished, Ordering::Relaxed);
        Ok(news.len() == CHUNK)
    }

    /// Whether no queue holds anything but dead letters.
    async fn is_empty(&self) -> bool {
        for step in Step::ALL {
            match self.world.bus.depth(&step.queue().spec()).await {
                Ok(depth) if depth.ready + depth.in_flight + depth.delayed == 0 => {}
                _ => return false,
            }
        }
        true
    }

    /// The messages of each queue and the state of each worker, for a campaign that does not end.
    async fn standing(&self) -> String {
        let mut parts = Vec::new();
        for step in Step::ALL {
            parts.push(match self.world.bus.depth(&step.queue().spec()).await {
                Ok(depth) => format!(
                    "{step} has {} ready, {} in flight, {} delayed",
                    depth.ready, depth.in_flight, depth.delayed
                ),
                Err(error) => format!("{step}: {error}"),
            });
        }
        parts.push(self.world.workers.states());
        parts.join("; ")
    }

    async fn remains(&self, envelopes: HashMap<Uuid, u32>) -> anyhow::Result<Remains> {
        let bus = &self.world.bus;
        let mut remains = Remains {
            envelopes,
            ..Remains::default()
        };
        for step in Step::ALL {
            let spec = step.queue().spec();
            let count = bus.depth(&spec).await?.dead;
            let letters = bus.dead(&spec, "", count).await?;
            if letters.len() != count {
                bail!(
                    "{step} has {count} dead letters and shows {}",
                    letters.len()
                );
            }
            remains
                .letters
                .extend(letters.into_iter().map(|letter| (step, letter)));
        }
        loop {
            let deliveries = bus
                .reserve(&DEAD_LETTER_NOTES.spec(), Reserve::now(100))
                .await?;
            if deliveries.is_empty() {
                return Ok(remains);
            }
            for word in deliveries {
                let envelope = &word.envelope;
                remains
                    .dead_letter_notes
                    .push(<DeadLetterNote as bus::Message>::decode(
                        envelope.version,
                        &envelope.body,
                    )?);
                bus.settle(&word.lease, &Settlement::Done { emit: Vec::new() })
                    .await?;
            }
        }
    }

    fn show(&self, now: Timestamp) {
        if !io::stderr().is_terminal() {
            return;
        }
        let pushed = self.progress.pushed.load(Ordering::Relaxed);
        tell(&format!(
            "{:>4.0} s  {pushed} pushed, {} through, {} of {} faults, {} steps repeated",
            now.duration_since(self.begun).as_secs_f64(),
            self.observed.finished,
            self.faults,
            self.plan.faults.len(),
            self.observed.repeated(),
        ));
    }
}
