//! The long-running commands, such as `events run` and `events notify`: one process from its start to its end.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use bus::{MemoryBus, RedisBus, RedisOptions};
use runtime::{Clock, Service, Shutdown, SystemClock, run_services};
use secrecy::{ExposeSecret as _, SecretString};
use tracing::{info, warn};

use crate::{
    app::App,
    cli::{Notify, Run},
    config::{Config, Faults, TelemetryConfig, Variables, WebConfig},
    environment,
    features::{self, Notifier, Pipeline},
    redis_check::RedisCheck,
    resident,
    role::Role,
    signals,
    source::{self, Place},
};

/// The number of threads that run the tasks of a process; `None` for that of the processors.
///
/// A web process does little but send requests to Redis. A second thread costs it more than it gives: the two wake each other
/// for each request. See docs/design/performance.md. `TOKIO_WORKER_THREADS` overrides it.
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
    let role = Role::named(options.role, dyno)?;
    match role {
        Role::Telemetry => telemetry(options, dyno).await,
        Role::Notify => notifier((&options.source).into(), options.grace, dyno).await,
        Role::Web => {
            let config = warned(source::web(&options.source).await?);
            let (namespace, dsn) = (config.redis_namespace.clone(), config.sentry_dsn.as_ref());
            let mut process = Process::new(role, dyno, namespace, dsn)?;
            process.web(&config, &options).await?;
            process.run(options.grace).await
        }
        Role::Worker | Role::All => {
            let config = match role {
                Role::All => source::all(&options.source).await?,
                _ => source::worker(&options.source).await?,
            };
            let config = warned(config);
            let (namespace, dsn) = (config.redis_namespace.clone(), config.sentry_dsn.as_ref());
            let mut process = Process::new(role, dyno, namespace, dsn)?;
            if role == Role::All {
                process.web(&(&config).into(), &options).await?;
            }
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
    let (namespace, dsn) = (config.redis_namespace.clone(), config.sentry_dsn.as_ref());
    let mut process = Process::new(Role::Notify, dyno, namespace, dsn)?;
    Notifier::open(config, &environment::variable, &process.app.clock)?
        .ok_or_else(Notifier::nothing)?
        .install(&mut process.app)?;
    process.run(grace).await
}

/// Runs commit telemetry alone. Of a configuration it reads only the namespace of Redis and `SENTRY_DSN`.
async fn telemetry(options: Run, dyno: Option<&str>) -> anyhow::Result<()> {
    let variables = environment::with_dotenv()?;
    let settings = TelemetryConfig::read_with_pulse(&variables)?;
    let records = source::records((&options.source).into()).await?;
    let dsn = variables("SENTRY_DSN").map(SecretString::from);
    let dsn = dsn.or(records.sentry_dsn);
    let mut process = Process::new(Role::Telemetry, dyno, records.redis_namespace, dsn.as_ref())?;
    features::telemetry::install(&mut process.app, settings).await?;
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

/// A process while features are installed.
struct Process {
    app: App,
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
        let redis = environment::redis(namespace, waiters(role))?;
        role.check(dyno, redis.is_some())?;
        Ok(Self { app: app(redis)? })
    }

    /// Adds the web server.
    async fn web(&mut self, config: &WebConfig, options: &Run) -> anyhow::Result<()> {
        let address = SocketAddr::new(options.bind, options.port);
        let (bus, clock) = (self.app.bus.clone(), self.app.clock.clone());
        let server = features::web(config, bus, clock, address).await?;
        self.app.service(server);
        Ok(())
    }

    /// Adds the notifier where channels are enabled, and the pipeline. The notifier needs no Phabricator, and so does not
    /// wait for it.
    fn worker(&mut self, config: Config) -> anyhow::Result<()> {
        let notifier = Notifier::open((&config).into(), &environment::variable, &self.app.clock)?;
        if let Some(notifier) = notifier {
            notifier.install(&mut self.app)?;
        }
        let (bus, clock) = (self.app.bus.clone(), self.app.clock.clone());
        self.app.service(Pipeline { config, bus, clock });
        Ok(())
    }

    async fn run(self, grace: u64) -> anyhow::Result<()> {
        let clock = self.app.clock.clone();
        run_until_signal(self.app.into_services(), grace, clock).await
    }
}

/// The number of connections that may wait in Redis at once: one for each queue that the role works on, and one for the
/// check at the start.
fn waiters(role: Role) -> usize {
    features::of_role(role).len() + 1
}

/// An application on the bus that the environment names, or on one in memory.
fn app(redis: Option<RedisOptions>) -> anyhow::Result<App> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let Some(redis) = redis else {
        warn!(
            "REDIS_URL is not set: queues are in memory, and their messages are lost when this process ends"
        );
        let bus = Arc::new(MemoryBus::new(clock.clone()));
        return Ok(App::new(bus, clock));
    };
    let bus = Arc::new(RedisBus::new(&redis, clock.as_ref())?);
    let mut app = App::new(bus.clone(), clock.clone());
    app.service(RedisCheck { bus, clock });
    Ok(app)
}

/// Runs `services` until a signal, or until one of them fails. What is in flight then has `grace` seconds.
pub(crate) async fn run_until_signal(
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
