//! Everything that runs during a campaign on the pipeline: the stage, Redis, and the program's processes.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use build::{Build, BuildRequest, BuildUpdateMessage, Phid};
use bus::{DeadLetterPayload, Depth, Message, MessageSelector, QueueAdmin, RedisBus, RedisOptions};
use events::queues::{BUILD_LOAD, BUILD_PUBLISH, BUILD_PUSH};
use nix::unistd::Pid;
use runtime::{Clock, SystemClock};

use super::{
    child_processes,
    plan::{Fault, REPOSITORIES, WORKERS},
    processes::{Launch, Processes, Role},
    report::Faults,
    repository::Content,
    stage::{Stage, clones},
    vcs::Vcs,
    verify::{Letter, Try},
};
use crate::redis::Redis;

/// The parts of a campaign.
pub struct World {
    /// All that is outside the program.
    pub stage: Stage,
    /// The program's processes.
    pub processes: Processes,
    /// Where the web server listens.
    pub web: SocketAddr,
    /// What was done so far.
    pub done: Faults,
    directory: PathBuf,
    redis: Redis,
    bus: RedisBus,
}

impl World {
    /// Starts everything in `directory`, with `program` as the program.
    pub async fn start(vcs: Vcs, directory: &Path, program: &Path) -> anyhow::Result<Self> {
        let stage = Stage::set_up(vcs, directory).await?;
        stage.configure(directory)?;
        let home = directory.join("redis");
        fs::create_dir(&home).with_context(|| format!("cannot make {}", home.display()))?;
        let redis = Redis::start(&home).await?;
        // It keeps its port, as a server does behind its load balancer.
        let web =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
        let web = web.context("cannot find a port")?;
        let launch = Launch {
            program: program.to_owned(),
            directory: directory.to_owned(),
            redis: redis.url().to_owned(),
            web,
        };
        let options = RedisOptions {
            url: redis.url().into(),
            namespace: "events".to_owned(),
            ca: None,
            waiters: 1,
        };
        Ok(Self {
            bus: RedisBus::new(&options, &SystemClock)?,
            processes: Processes::start(launch)?,
            directory: directory.to_owned(),
            done: Faults::default(),
            stage,
            web,
            redis,
        })
    }

    /// Whether nothing is broken at the moment.
    pub fn is_whole(&self) -> bool {
        self.redis.is_up() && self.processes.all_up()
    }

    /// Lets `fault` happen. `false` when that is not possible now: there is no push that could be struck, say.
    pub async fn inject_fault(&mut self, fault: Fault) -> anyhow::Result<bool> {
        let vcs = self.stage.vcs;
        let happened = match fault {
            Fault::Web => self.processes.kill(Role::Web)?,
            Fault::Worker(number) => self.processes.kill(Role::Worker(number))?,
            Fault::StopWeb => self.processes.terminate(Role::Web)?,
            Fault::StopWorker(number) => self.processes.terminate(Role::Worker(number))?,
            Fault::Program(worker, after) => {
                let clones = clones(&self.directory, worker);
                let find = || child_processes::of_worker(&clones, vcs.program());
                kill_later(find, after).await
            }
            Fault::Ssh(worker) => child_processes::kill_all(&child_processes::of_worker(
                &clones(&self.directory, worker),
                "ssh",
            )),
            Fault::Try(number, after) => {
                let repository = &self.stage.repositories[number];
                let find = || child_processes::servers_of(vcs, repository.try_repository());
                let struck = kill_later(find, after).await;
                if struck {
                    repository.recover_try().await?;
                }
                struck
            }
            Fault::Redis(away) => self.redis.restart(away, false),
        };
        if happened {
            self.done.count(fault);
        }
        Ok(happened)
    }

    /// Starts again what died.
    pub async fn tend(&mut self) -> anyhow::Result<()> {
        self.redis.tend().await?;
        self.processes.tend()
    }

    /// How full the queues are, in the order in which a build passes them, so that none is overlooked on its way.
    /// `None` while Redis is away.
    pub async fn depths(&self) -> Option<Depths> {
        if !self.redis.is_up() {
            return None;
        }
        Some(Depths {
            load: self.bus.depth(&BUILD_LOAD.spec()).await.ok()?,
            push: self.bus.depth(&BUILD_PUSH.spec()).await.ok()?,
            publish: self.bus.depth(&BUILD_PUBLISH.spec()).await.ok()?,
        })
    }

    /// Has the builds that wait for another attempt tried now, as an operator does after an outage.
    pub async fn hurry(&self) -> anyhow::Result<()> {
        self.bus
            .requeue(&BUILD_PUSH.spec(), MessageSelector::All)
            .await?;
        Ok(())
    }

    /// The dead letters of all queues, and which builds they are about.
    pub async fn letters(&self) -> anyhow::Result<Vec<Letter>> {
        let mut letters = Vec::new();
        for spec in events::queues::all() {
            for letter in self
                .bus
                .dead(&spec, "", self.bus.depth(&spec).await?.dead)
                .await?
            {
                let remains = self
                    .bus
                    .dead_letter(&spec, &letter.id)
                    .await?
                    .map(|(_, remains)| remains);
                letters.push(Letter {
                    queue: spec.name,
                    target: remains
                        .and_then(|remains| target(spec.name, &remains))
                        .map(String::from),
                    attempts: letter.attempts,
                    reason: letter.reason,
                });
            }
        }
        Ok(letters)
    }

    /// What is on each Try. `builds` are those of each repository.
    pub async fn tries(&self, builds: [Vec<&Content>; REPOSITORIES]) -> anyhow::Result<Vec<Try>> {
        let mut tries = Vec::new();
        for (repository, builds) in self.stage.repositories.iter().zip(builds) {
            tries.push(repository.pushed(&builds).await?);
        }
        Ok(tries)
    }

    /// Ends all processes, at once and in any state.
    pub async fn end(mut self) {
        self.processes.kill_all().await;
        let _ = self.redis.settle().await;
        drop(self.redis);
        let vcs = self.stage.vcs;
        self.stage.end().await;
        // What the killed ones left: connections of ssh wait for two minutes.
        for clones in (0..WORKERS).map(|number| clones(&self.directory, number)) {
            for name in [vcs.program(), "ssh"] {
                child_processes::kill_all(&child_processes::of_worker(&clones, name));
            }
        }
    }
}

/// Kills the processes that are there a while after one was seen; `false` when that reached nobody.
async fn kill_later(find: impl Fn() -> Vec<Pid>, after: Duration) -> bool {
    if find().is_empty() {
        return false;
    }
    SystemClock.sleep(after).await;
    child_processes::kill_all(&find())
}

/// How full the queues are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Depths {
    load: Depth,
    push: Depth,
    publish: Depth,
}

impl Depths {
    /// Whether nothing is left but dead letters.
    pub fn are_empty(&self) -> bool {
        [self.load, self.push, self.publish]
            .iter()
            .all(|depth| depth.unfinished() == 0)
    }

    /// Whether a worker has a build in its hands.
    pub fn show_work(&self) -> bool {
        self.push.in_flight > 0
    }

    /// Whether a worker has an answer in its hands.
    pub fn show_answers(&self) -> bool {
        self.publish.in_flight > 0
    }

    /// Whether builds wait for another attempt and none is under way.
    pub fn only_wait(&self) -> bool {
        self.push.delayed > 0 && self.push.ready + self.push.in_flight == 0
    }
}

/// The target of the build that a dead letter is about.
fn target(queue: &str, remains: &DeadLetterPayload) -> Option<Phid> {
    let DeadLetterPayload::Message(envelope) = remains else {
        return None;
    };
    let (version, body) = (envelope.version, &envelope.body);
    let request = |request: BuildRequest| request.target;
    match queue {
        _ if queue == BUILD_LOAD.spec().name => {
            BuildRequest::decode(version, body).ok().map(request)
        }
        _ if queue == BUILD_PUSH.spec().name => Build::decode(version, body)
            .ok()
            .map(|it| request(it.request)),
        _ if queue == BUILD_PUBLISH.spec().name => BuildUpdateMessage::decode(version, body)
            .ok()
            .map(|it| request(it.request)),
        _ => None,
    }
}
