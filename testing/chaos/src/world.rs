//! Everything that runs during a campaign: two Redis servers, the links, the workers.

use std::{fs, path::Path, sync::Arc, time::Duration};

use anyhow::Context;
use bus::RedisBus;
use jiff::Timestamp;
use runtime::{Clock, SystemClock};
use testkit::RedisServer;

use crate::{
    chain,
    plan::{Fault, LINKS, WORKERS},
    proxy::{Link, Weather},
    redis::Redis,
    report::Faults,
    side_effects::SideEffects,
    workers::{Launch, Workers},
};

/// The parts of a campaign.
pub struct World {
    /// The worker processes.
    pub workers: Workers,
    /// What handlers do outside the bus.
    pub outside: SideEffects,
    /// The driver's own way to the bus, past all links.
    pub bus: Arc<RedisBus>,
    /// The Redis that the bus is on.
    pub redis: Redis,
    /// What was done so far.
    pub done: Faults,
    links: Vec<Link>,
    /// When each link's weather clears.
    clears: Vec<Option<Timestamp>>,
    kill_redis: bool,
    _outside_server: RedisServer,
}

impl World {
    /// Starts everything in `directory`, with `program` as the worker.
    pub async fn start(directory: &Path, program: &Path, kill_redis: bool) -> anyhow::Result<Self> {
        let at = |name: &str| -> anyhow::Result<_> {
            let path = directory.join(name);
            fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
            Ok(path)
        };
        let (redis, outside) = (at("redis")?, at("outside")?);
        let server = Redis::start(&redis).await?;
        let outside_server = RedisServer::start(outside)
            .await
            .context("cannot start a redis")?;
        let mut links = Vec::new();
        for _ in 0..LINKS {
            links.push(
                Link::open(redis.join("redis.sock"))
                    .await
                    .context("cannot open a link")?,
            );
        }
        let launch = Launch {
            program: program.to_owned(),
            directory: directory.to_owned(),
            outside: outside_server.url(),
            buses: links.iter().take(WORKERS).map(Link::url).collect(),
        };
        Ok(Self {
            workers: Workers::start(launch)?,
            outside: SideEffects::connect(&outside_server.url()).await?,
            bus: Arc::new(RedisBus::new(&chain::options(server.url()), &SystemClock)?),
            redis: server,
            done: Faults::default(),
            clears: vec![None; links.len()],
            links,
            kill_redis,
            _outside_server: outside_server,
        })
    }

    /// A bus for the producer, through its link.
    pub fn producer_bus(&self) -> anyhow::Result<RedisBus> {
        Ok(RedisBus::new(
            &chain::options(&self.links[WORKERS].url()),
            &SystemClock,
        )?)
    }

    /// Whether nothing is broken at the moment.
    pub fn is_whole(&self) -> bool {
        self.redis.is_up() && self.clears.iter().all(Option::is_none) && self.workers.all_up()
    }

    /// Lets `fault` happen. `false` when that is not possible now: nobody is left to be killed, say.
    pub fn inject_fault(&mut self, fault: Fault) -> anyhow::Result<bool> {
        let (happened, count) = match fault {
            Fault::Kill(worker) => (self.workers.kill(worker)?, &mut self.done.sigkill),
            Fault::Terminate(worker) => (self.workers.terminate(worker)?, &mut self.done.sigterm),
            Fault::Stop(worker, during) => {
                (self.workers.stop(worker, during)?, &mut self.done.sigstop)
            }
            Fault::Redis(away) => (
                self.redis.restart(away, self.kill_redis),
                &mut self.done.redis_restarts,
            ),
            Fault::Cut(link) => {
                self.links[link].cut();
                (true, &mut self.done.cut)
            }
            Fault::Mute(link, during) => (
                self.cloud(link, Weather::Mute, during)?,
                &mut self.done.muted,
            ),
            Fault::Slow(link, by, during) => (
                self.cloud(link, Weather::Slow(by), during)?,
                &mut self.done.slowed,
            ),
            Fault::Hole(link, during) => (
                self.cloud(link, Weather::Hole, during)?,
                &mut self.done.black_holed,
            ),
        };
        *count += u32::from(happened);
        Ok(happened)
    }

    fn cloud(&mut self, link: usize, weather: Weather, during: Duration) -> anyhow::Result<bool> {
        self.links[link].set(weather);
        self.clears[link] = Some(SystemClock.now().checked_add(during)?);
        Ok(true)
    }

    /// Ends what has lasted long enough, and starts again what died.
    pub async fn tend(&mut self) -> anyhow::Result<()> {
        let now = SystemClock.now();
        for (link, clears) in self.links.iter().zip(&mut self.clears) {
            if clears.is_some_and(|at| now >= at) {
                link.set(Weather::Clear);
                *clears = None;
            }
        }
        self.redis.tend().await?;
        self.workers.tend()
    }

    /// Ends all processes, at once and in any state.
    pub async fn end(mut self) {
        self.workers.kill_all().await;
        let _ = self.redis.settle().await;
    }
}
