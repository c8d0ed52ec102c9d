//! `events run`: one process, from its start to its end.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use bus::{Bus, Clock, MemoryBus, RedisBus, Shutdown, Subsystem, SystemClock, run_subsystems};
use tracing::{info, warn};

use crate::{
    cli::Run,
    environment,
    redis_check::RedisCheck,
    role::Role,
    signals, source,
    topology::{self, Worker},
};

/// One for each queue that may be waited for.
const WAITERS: usize = 24;

/// Runs until a signal, or until something fails for good.
pub async fn run(options: Run) -> anyhow::Result<()> {
    let (config, faults) = source::load(&options.source).await?;
    for warning in &faults.warnings {
        warn!("configuration: {warning}");
    }
    let redis = environment::redis(config.redis_namespace.clone(), WAITERS)?;
    let role = Role::choose(options.role, environment::variable("DYNO").as_deref(), redis.is_some())?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);

    let mut subsystems: Vec<Box<dyn Subsystem>> = Vec::new();
    let bus: Arc<dyn Bus> = match redis {
        Some(redis) => {
            let bus = Arc::new(RedisBus::new(&redis, clock.as_ref())?);
            subsystems.push(Box::new(RedisCheck { bus: bus.clone(), clock: clock.clone() }));
            bus
        }
        None => {
            warn!("no REDIS_URL: queues are in memory, and what waits in them ends with this process");
            Arc::new(MemoryBus::new(clock.clone()))
        }
    };
    if role != Role::Worker {
        let address = SocketAddr::new(options.bind, options.port);
        subsystems.push(Box::new(topology::web(&config, bus.clone(), clock.clone(), address).await?));
    }
    if role != Role::Web {
        subsystems.push(Box::new(Worker { config, bus, clock: clock.clone() }));
    }
    let upkeep = Arc::clone(&clock);
    tokio::spawn(async move {
        loop {
            upkeep.sleep(observe::metrics::UPKEEP).await;
            observe::metrics::upkeep();
        }
    });
    let names: Vec<&str> = subsystems.iter().map(|subsystem| subsystem.name()).collect();
    info!("starting {}", names.join(", "));

    let shutdown = Shutdown::new();
    signals::watch(shutdown.clone(), Duration::from_secs(options.grace), clock).context("cannot watch for signals")?;
    run_subsystems(subsystems, shutdown).await.map_err(anyhow::Error::from_boxed)?;
    info!("stopped");
    Ok(())
}
