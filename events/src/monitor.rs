//! `events monitor`: builds and tests of interest on standard output, as the input of a command, and on a page.

use std::{net::SocketAddr, sync::Arc};

use build_monitor::{
    BuildMonitor, BuildMonitorBuilder, Command, Latest, MonitorService, Source, page,
};
use runtime::{Service, SystemClock};
use web::WebServer;

use crate::{
    cli::{Format, Mobile, Monitor, Origin},
    clients,
    environment::SECRETS,
    run,
    source::{self, Place},
};

/// Seconds that commands and open pages are given after SIGTERM.
const GRACE: u64 = 20;

/// Runs until a signal, or until nobody reads what is printed.
pub async fn monitor(options: Monitor) -> anyhow::Result<()> {
    let place = Place::new(
        options.config.as_deref(),
        options.taskcluster_secret.as_deref(),
    );
    let user = source::pulse_user(place).await?;
    let settings = clients::pulse(&user)?;
    // At the start, an outage ends the command; later, the monitor waits for its end. It finds all other faults itself.
    pulse::check(&settings).await?;
    let latest = options.serve.map(|_| Arc::new(Latest::default()));
    let mut services: Vec<Box<dyn Service>> = Vec::new();
    if let Some((port, latest)) = options.serve.zip(latest.clone()) {
        let address = SocketAddr::new(options.bind, port);
        let server = WebServer::with_routes(address, page::routes(latest)?).await?;
        services.push(Box::new(server));
    }
    services.push(Box::new(MonitorService {
        builder: builder(&options),
        settings,
        latest,
        format: match options.format {
            Format::Text => build_monitor::Format::Text,
            Format::Json => build_monitor::Format::Json,
        },
        command: options.exec.map(|shell| Command {
            shell,
            hidden: SECRETS,
        }),
    }));
    run::run_until_signal(services, GRACE, Arc::new(SystemClock)).await
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
