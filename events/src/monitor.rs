//! `events monitor`: builds and tests of interest on standard output, handed to a command, and on a page.

mod commands;
mod exec;
mod latest;
mod line;
mod outlet;
mod output;
mod page;

use std::{future::ready, io, net::SocketAddr, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::future::OptionFuture;
use pulse::{
    PulseSettings,
    monitor::{BuildMonitor, BuildMonitorBuilder, Event, Source},
};
use runtime::{Service, ServiceError, Shutdown, SystemClock};
use tokio::time::timeout;
use web::WebServer;

use self::{latest::Latest, outlet::Outlet};
use crate::{
    cli::{Format, Mobile, Monitor, Origin},
    run,
    source::{self, Place},
    topology,
};

/// Seconds that commands and open pages are given after SIGTERM.
const GRACE: u64 = 20;

/// How long the end waits for who reads the output: a pipe may be full, and its reader asleep.
const LAST_LINES: Duration = Duration::from_secs(2);

/// Runs until a signal, or until nobody reads what is printed.
pub async fn monitor(options: Monitor) -> anyhow::Result<()> {
    let place = Place::new(
        options.config.as_deref(),
        options.taskcluster_secret.as_deref(),
    );
    let user = source::pulse_user(place).await?;
    let settings = topology::pulse(&user)?;
    // Later, an outage is waited for; at the start, somebody looks. The monitor itself finds what else is wrong.
    pulse::check(&settings).await?;
    let latest = options.serve.map(|_| Arc::new(Latest::default()));
    let mut services: Vec<Box<dyn Service>> = Vec::new();
    if let Some((port, latest)) = options.serve.zip(latest.clone()) {
        let routes = page::routes(latest)?;
        services.push(Box::new(
            WebServer::with_routes(SocketAddr::new(options.bind, port), routes).await?,
        ));
    }
    let builder = builder(&options);
    services.push(Box::new(Watch {
        builder,
        settings,
        latest,
        format: options.format,
        exec: options.exec,
    }));
    run::until_a_signal(services, GRACE, Arc::new(SystemClock)).await
}

fn builder(options: &Monitor) -> BuildMonitorBuilder {
    let source = match options.source {
        Origin::Buildbot => Source::buildbot(),
        Origin::Treeherder => Source::treeherder(),
    };
    let source = options
        .exchange
        .iter()
        .fold(source, |source, exchange| source.on(exchange));
    let mut builder = BuildMonitor::builder()
        .source(source)
        .platforms(&options.platforms)
        .build_types(&options.build_types)
        .tests(&options.tests)
        .products(&options.products)
        .any_build_tags(options.tags.iter().map(|tags| tags.split(',')))
        .mobile(match options.mobile {
            Mobile::False => Some(false),
            Mobile::True => Some(true),
            Mobile::Any => None,
        })
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
impl Service for Watch {
    fn name(&self) -> &str {
        "the build monitor"
    }

    async fn run(self: Box<Self>, shutdown: Shutdown) -> Result<(), ServiceError> {
        let Self {
            builder,
            settings,
            latest,
            format,
            exec,
        } = *self;
        let (lines, printed) = output::start(io::stdout(), shutdown.clone())?;
        let (commands, running) = exec
            .as_deref()
            .map(|command| {
                let (outlet, events) = commands::outlet();
                (outlet, commands::run(command, events))
            })
            .unzip();
        let teller = Arc::new(Teller {
            latest,
            format,
            lines,
            commands,
        });
        let (builds, tests) = (Arc::clone(&teller), teller);
        let mut monitor = builder
            .on_build(move |build| ready(builds.tell(Event::Build(build))))
            .on_test(move |test| ready(tests.tell(Event::Test(test))))
            .start(settings)?;
        let telling = async {
            // With its handlers the teller is gone, and so the ends of what it hands things to are reached.
            tokio::select! {
                () = shutdown.stopping() => {}
                ended = monitor.join() => return ended,
            }
            monitor.stop();
            monitor.join().await
        };
        let all = async {
            let (told, _) = tokio::join!(telling, OptionFuture::from(running));
            // Its error says that the thread has ended.
            let _ = timeout(LAST_LINES, printed).await;
            told
        };
        tokio::select! {
            told = all => Ok(told?),
            () = shutdown.cancelled() => Ok(()),
        }
    }
}

/// Tells of events, and waits for nobody.
struct Teller {
    latest: Option<Arc<Latest>>,
    format: Format,
    lines: Outlet<String>,
    commands: Option<Outlet<Event>>,
}

impl Teller {
    fn tell(&self, event: Event) -> serde_json::Result<()> {
        if let (Some(latest), Event::Build(build)) = (&self.latest, &event) {
            latest.note(build);
        }
        let line = match self.format {
            Format::Text => line::text(&event),
            Format::Json => line::json(&event)?,
        };
        self.lines.offer(line, event.key());
        if let Some(commands) = &self.commands {
            let key = event.key().to_owned();
            commands.offer(event, &key);
        }
        Ok(())
    }
}
