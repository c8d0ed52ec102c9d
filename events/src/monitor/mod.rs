//! `events monitor`: builds and tests of interest on standard output, handed to a command, and on a page.

mod exec;
mod latest;
mod line;
mod page;

use std::{
    io::{self, Write},
    net::SocketAddr,
    sync::Arc,
};

use anyhow::Context as _;
use async_trait::async_trait;
use bus::{Shutdown, Subsystem, SubsystemError, SystemClock};
use pulse::{
    PulseSettings,
    monitor::{BuildMonitor, BuildMonitorBuilder, Event, Source},
};
use web::WebServer;

use self::latest::Latest;
use crate::{
    cli::{Format, Monitor, Origin},
    run, source, topology,
};

/// Seconds that commands and open pages are given after SIGTERM.
const GRACE: u64 = 20;

/// Runs until a signal, or until nobody reads what is printed.
pub async fn monitor(options: Monitor) -> anyhow::Result<()> {
    let user = source::pulse_user(options.config.as_deref(), options.taskcluster_secret.as_deref()).await?;
    let settings = topology::pulse(&user)?;
    // Later, an outage is waited for; at the start, somebody looks.
    pulse::check(&settings).await?;
    let latest = options.serve.map(|_| Arc::new(Latest::default()));
    let mut subsystems: Vec<Box<dyn Subsystem>> = Vec::new();
    if let Some((port, latest)) = options.serve.zip(latest.clone()) {
        let routes = page::routes(latest)?;
        subsystems.push(Box::new(WebServer::with_routes(SocketAddr::new(options.bind, port), routes).await?));
    }
    let builder = builder(&options);
    subsystems.push(Box::new(Watch { builder, settings, latest, format: options.format, exec: options.exec }));
    run::until_a_signal(subsystems, GRACE, Arc::new(SystemClock)).await
}

fn builder(options: &Monitor) -> BuildMonitorBuilder {
    let source = match options.source {
        Origin::Buildbot => Source::buildbot(),
        Origin::Treeherder => Source::treeherder(),
    };
    let source = options.exchange.iter().fold(source, |source, exchange| source.on(exchange));
    let mut builder = BuildMonitor::builder()
        .source(source)
        .platforms(&options.platforms)
        .build_types(&options.build_types)
        .tests(&options.tests)
        .products(&options.products)
        .any_build_tags(options.tags.iter().map(|tags| tags.split(',')))
        .mobile(options.mobile)
        .talos(options.talos);
    if options.trees.iter().any(|tree| tree == "*") {
        builder = builder.trees([""; 0]);
    } else if !options.trees.is_empty() {
        builder = builder.trees(&options.trees);
    }
    match &options.label {
        Some(label) => builder.label(label),
        None => builder,
    }
}

/// The monitor as a part of the process.
struct Watch {
    builder: BuildMonitorBuilder,
    settings: PulseSettings,
    latest: Option<Arc<Latest>>,
    format: Format,
    exec: Option<String>,
}

#[async_trait]
impl Subsystem for Watch {
    fn name(&self) -> &str {
        "the build monitor"
    }

    async fn run(self: Box<Self>, shutdown: Shutdown) -> Result<(), SubsystemError> {
        let Self { builder, settings, latest, format, exec } = *self;
        let teller = Arc::new(Teller { latest, format, exec, shutdown: shutdown.clone() });
        let (builds, tests) = (Arc::clone(&teller), teller);
        let monitor = builder
            .on_build(move |build| Arc::clone(&builds).tell(Event::Build(build)))
            .on_test(move |test| Arc::clone(&tests).tell(Event::Test(test)))
            .start(settings)?;
        shutdown.stopping().await;
        monitor.stop();
        tokio::select! {
            () = monitor.join() => {}
            () = shutdown.cancelled() => {}
        }
        Ok(())
    }
}

/// Tells of events.
struct Teller {
    latest: Option<Arc<Latest>>,
    format: Format,
    exec: Option<String>,
    shutdown: Shutdown,
}

impl Teller {
    async fn tell(self: Arc<Self>, event: Event) -> anyhow::Result<()> {
        if let (Some(latest), Event::Build(build)) = (&self.latest, &event) {
            latest.note(build);
        }
        let line = match self.format {
            Format::Text => line::text(&event),
            Format::Json => line::json(&event)?,
        };
        match writeln!(io::stdout().lock(), "{line}") {
            // Whoever reads has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.shutdown.stop();
                return Ok(());
            }
            written => written.context("cannot print an event")?,
        }
        match &self.exec {
            Some(command) => exec::run(command, &event).await,
            None => Ok(()),
        }
    }
}
