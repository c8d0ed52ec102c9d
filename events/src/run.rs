//! `events run` and `events notify`, and whatever else goes on: one process, from its start to its end.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use bus::{Bus, Clock, MemoryBus, RedisBus, RedisOptions, Shutdown, Subsystem, SystemClock, run_subsystems};
use tracing::{info, warn};

use crate::{
    cli::{Notify, Run},
    config::TelemetryConfig,
    environment, queues,
    redis_check::RedisCheck,
    role::Role,
    signals, source,
    topology::{self, Notifier, Worker},
};

/// Runs until a signal, or until something fails for good.
pub async fn run(options: Run) -> anyhow::Result<()> {
    let dyno = environment::variable("DYNO");
    let role = Role::named(options.role, dyno.as_deref())?;
    if role == Role::Telemetry {
        return telemetry(options, dyno.as_deref()).await;
    }
    let (config, faults) = source::load(&options.source).await?;
    for warning in &faults.warnings {
        warn!("configuration: {warning}");
    }
    let redis = environment::redis(config.redis_namespace.clone(), waiters())?;
    role.check(dyno.as_deref(), redis.is_some())?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);

    let mut subsystems: Vec<Box<dyn Subsystem>> = Vec::new();
    let bus = bus(redis, &clock, &mut subsystems)?;
    if role != Role::Worker {
        let address = SocketAddr::new(options.bind, options.port);
        subsystems.push(Box::new(topology::web(&config, bus.clone(), clock.clone(), address).await?));
    }
    if role != Role::Web {
        // It needs no Phabricator, and so does not wait for it.
        if let Some(notifier) = Notifier::open((&config).into(), &environment::variable, &clock)? {
            subsystems.extend(notifier.subsystems(&bus, &clock)?);
        }
        subsystems.push(Box::new(Worker { config, bus, clock: clock.clone() }));
    }
    until_a_signal(subsystems, options.grace, clock).await
}

/// Runs the notifier alone.
pub async fn notify(options: Notify) -> anyhow::Result<()> {
    let (config, faults) = source::notifier(&options.deployment).await?;
    for warning in &faults.warnings {
        warn!("configuration: {warning}");
    }
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let redis = environment::redis(config.redis_namespace.clone(), waiters())?;
    let notifier = Notifier::open(config, &environment::variable, &clock)?.ok_or_else(Notifier::nothing)?;
    let mut subsystems: Vec<Box<dyn Subsystem>> = Vec::new();
    let bus = bus(redis, &clock, &mut subsystems)?;
    subsystems.extend(notifier.subsystems(&bus, &clock)?);
    until_a_signal(subsystems, options.grace, clock).await
}

/// Runs commit telemetry alone. A configuration is only asked for what comes before all keys in Redis.
async fn telemetry(options: Run, dyno: Option<&str>) -> anyhow::Result<()> {
    let settings = TelemetryConfig::read_with_pulse(&environment::with_dotenv()?)?;
    let namespace = source::redis_namespace(&options.source).await?;
    let redis = environment::redis(namespace, waiters())?;
    Role::Telemetry.check(dyno, redis.is_some())?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let mut subsystems: Vec<Box<dyn Subsystem>> = Vec::new();
    let bus = bus(redis, &clock, &mut subsystems)?;
    subsystems.extend(topology::telemetry::subsystems(settings, &bus, &clock).await?);
    until_a_signal(subsystems, options.grace, clock).await
}

/// How many wait for something in Redis at once: one for each queue, and one who asks whether it is there.
fn waiters() -> usize {
    queues::all().len() + 1
}

/// The bus that the environment names, or one in memory.
fn bus(
    redis: Option<RedisOptions>,
    clock: &Arc<dyn Clock>,
    subsystems: &mut Vec<Box<dyn Subsystem>>,
) -> anyhow::Result<Arc<dyn Bus>> {
    let Some(redis) = redis else {
        warn!("no REDIS_URL: queues are in memory, and what waits in them ends with this process");
        return Ok(Arc::new(MemoryBus::new(clock.clone())));
    };
    let bus = Arc::new(RedisBus::new(&redis, clock.as_ref())?);
    subsystems.push(Box::new(RedisCheck { bus: bus.clone(), clock: clock.clone() }));
    Ok(bus)
}

/// Runs these parts until a signal, or until one of them ends; `grace` seconds are for what is in flight then.
pub(crate) async fn until_a_signal(
    subsystems: Vec<Box<dyn Subsystem>>,
    grace: u64,
    clock: Arc<dyn Clock>,
) -> anyhow::Result<()> {
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
    signals::watch(shutdown.clone(), Duration::from_secs(grace), clock).context("cannot watch for signals")?;
    run_subsystems(subsystems, shutdown).await.map_err(anyhow::Error::from_boxed)?;
    info!("stopped");
    Ok(())
}
