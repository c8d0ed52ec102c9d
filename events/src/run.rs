//! `events run` and `events notify`, and whatever else goes on: one process, from its start to its end.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use bus::{Bus, MemoryBus, RedisBus, RedisOptions};
use runtime::{Clock, Service, Shutdown, SystemClock, run_services};
use secrecy::{ExposeSecret as _, SecretString};
use tracing::{info, warn};

use crate::{
    cli::{Notify, Run},
    config::{Config, Faults, TelemetryConfig, Variables, WebConfig},
    environment, queues,
    redis_check::RedisCheck,
    resident,
    role::Role,
    signals,
    source::{self, Place},
    topology::{self, Notifier, Worker},
};

/// How many threads run the tasks of a process; `None` leaves it to the number of processors.
///
/// A web process does little else than to hand requests to Redis, and a second thread costs it more than it gives: the two
/// wake each other for each request. See docs/performance.md. `TOKIO_WORKER_THREADS` overrules it.
pub fn threads(options: &Run) -> Option<usize> {
    let dyno = environment::variable("DYNO");
    let role = Role::named(options.role, dyno.as_deref());
    let chosen = environment::variable("TOKIO_WORKER_THREADS").is_some();
    (role == Ok(Role::Web) && !chosen).then_some(1)
}

/// Runs until a signal, or until something fails permanently.
pub async fn run(options: Run) -> anyhow::Result<()> {
    let dyno = environment::variable("DYNO");
    let dyno = dyno.as_deref();
    match Role::named(options.role, dyno)? {
        Role::Telemetry => telemetry(options, dyno).await,
        Role::Notify => notifier((&options.source).into(), options.grace, dyno).await,
        Role::Web => {
            let config = warned(source::web(&options.source).await?);
            let mut process = Process::new(
                Role::Web,
                dyno,
                config.redis_namespace.clone(),
                config.sentry_dsn.as_ref(),
            )?;
            process.web(&config, &options).await?;
            process.run(options.grace).await
        }
        Role::Worker => {
            let config = warned(source::worker(&options.source).await?);
            let mut process = Process::new(
                Role::Worker,
                dyno,
                config.redis_namespace.clone(),
                config.sentry_dsn.as_ref(),
            )?;
            process.worker(config)?;
            process.run(options.grace).await
        }
        Role::All => {
            let config = warned(source::all(&options.source).await?);
            let mut process = Process::new(
                Role::All,
                dyno,
                config.redis_namespace.clone(),
                config.sentry_dsn.as_ref(),
            )?;
            process.web(&(&config).into(), &options).await?;
            process.worker(config)?;
            process.run(options.grace).await
        }
    }
}

/// Runs the notifier alone.
pub async fn notify(options: Notify) -> anyhow::Result<()> {
    let dyno = environment::variable("DYNO");
    notifier((&options.deployment).into(), options.grace, dyno.as_deref()).await
}

async fn notifier(place: Place<'_>, grace: u64, dyno: Option<&str>) -> anyhow::Result<()> {
    let config = warned(source::notifier(place).await?);
    let mut process = Process::new(
        Role::Notify,
        dyno,
        config.redis_namespace.clone(),
        config.sentry_dsn.as_ref(),
    )?;
    let notifier = Notifier::open(config, &environment::variable, &process.clock)?
        .ok_or_else(Notifier::nothing)?;
    process
        .services
        .extend(notifier.services(&process.bus, &process.clock)?);
    process.run(grace).await
}

/// Runs commit telemetry alone. Of a configuration it reads only the namespace of Redis and `SENTRY_DSN`.
async fn telemetry(options: Run, dyno: Option<&str>) -> anyhow::Result<()> {
    let variables = environment::with_dotenv()?;
    let settings = TelemetryConfig::read_with_pulse(&variables)?;
    let mut records = source::records((&options.source).into()).await?;
    records.sentry_dsn = variables("SENTRY_DSN")
        .map(SecretString::from)
        .or(records.sentry_dsn);
    let mut process = Process::new(
        Role::Telemetry,
        dyno,
        records.redis_namespace,
        records.sentry_dsn.as_ref(),
    )?;
    process
        .services
        .extend(topology::telemetry::services(settings, &process.bus, &process.clock).await?);
    process.run(options.grace).await
}

/// The configuration, after its warnings were logged.
fn warned<T>((config, faults): (T, Faults)) -> T {
    for warning in &faults.warnings {
        warn!("configuration: {warning}");
    }
    config
}

/// Reports errors to Sentry from now on, where its DSN is set. The variables win.
pub(crate) fn report_errors(variables: Variables<'_>, documented: Option<&SecretString>) {
    let dsn = variables("SENTRY_DSN").map(SecretString::from);
    let Some(dsn) = dsn.as_ref().or(documented) else {
        return;
    };
    match observe::sentry::start(dsn.expose_secret()) {
        Ok(()) => info!("errors are reported to sentry"),
        Err(error) => warn!("errors are not reported to sentry: {error}"),
    }
}

/// A process while its parts are put together.
struct Process {
    services: Vec<Box<dyn Service>>,
    bus: Arc<dyn Bus>,
    clock: Arc<dyn Clock>,
}

impl Process {
    /// Begins with the bus of `role`, and with reports of errors.
    fn new(
        role: Role,
        dyno: Option<&str>,
        namespace: String,
        sentry_dsn: Option<&SecretString>,
    ) -> anyhow::Result<Self> {
        report_errors(&environment::variable, sentry_dsn);
        let redis = environment::redis(namespace, waiters())?;
        role.check(dyno, redis.is_some())?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let mut services: Vec<Box<dyn Service>> = Vec::new();
        let bus = bus(redis, &clock, &mut services)?;
        Ok(Self {
            services,
            bus,
            clock,
        })
    }

    /// Adds the web server.
    async fn web(&mut self, config: &WebConfig, options: &Run) -> anyhow::Result<()> {
        let address = SocketAddr::new(options.bind, options.port);
        let server = topology::web(
            config,
            Arc::clone(&self.bus),
            Arc::clone(&self.clock),
            address,
        )
        .await?;
        self.services.push(Box::new(server));
        Ok(())
    }

    /// Adds the worker, and the notifier where channels are enabled: that needs no Phabricator, and so does not wait
    /// for it.
    fn worker(&mut self, config: Config) -> anyhow::Result<()> {
        if let Some(notifier) =
            Notifier::open((&config).into(), &environment::variable, &self.clock)?
        {
            self.services
                .extend(notifier.services(&self.bus, &self.clock)?);
        }
        let (bus, clock) = (Arc::clone(&self.bus), Arc::clone(&self.clock));
        self.services.push(Box::new(Worker { config, bus, clock }));
        Ok(())
    }

    async fn run(self, grace: u64) -> anyhow::Result<()> {
        until_a_signal(self.services, grace, self.clock).await
    }
}

/// How many wait for something in Redis at once: one for each queue, and one who asks whether it is there.
fn waiters() -> usize {
    queues::all().len() + 1
}

/// The bus that the environment names, or one in memory.
fn bus(
    redis: Option<RedisOptions>,
    clock: &Arc<dyn Clock>,
    services: &mut Vec<Box<dyn Service>>,
) -> anyhow::Result<Arc<dyn Bus>> {
    let Some(redis) = redis else {
        warn!("no REDIS_URL: queues are in memory, and what waits in them ends with this process");
        return Ok(Arc::new(MemoryBus::new(clock.clone())));
    };
    let bus = Arc::new(RedisBus::new(&redis, clock.as_ref())?);
    services.push(Box::new(RedisCheck {
        bus: bus.clone(),
        clock: clock.clone(),
    }));
    Ok(bus)
}

/// Runs these parts until a signal, or until one of them ends; `grace` seconds are for what is in flight then.
pub(crate) async fn until_a_signal(
    services: Vec<Box<dyn Service>>,
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
    let unmapping = Arc::clone(&clock);
    tokio::spawn(async move {
        loop {
            unmapping.sleep(resident::PERIOD).await;
            resident::unmap_code();
        }
    });
    let names: Vec<&str> = services.iter().map(|service| service.name()).collect();
    info!("starting {}", names.join(", "));

    let shutdown = Shutdown::new();
    signals::watch(shutdown.clone(), Duration::from_secs(grace), clock)
        .context("cannot watch for signals")?;
    run_services(services, shutdown)
        .await
        .map_err(anyhow::Error::from_boxed)?;
    info!("stopped");
    Ok(())
}
