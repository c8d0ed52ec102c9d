//! Commit telemetry, as the environment sets it up.

use std::sync::Arc;

use bus::{Bus, Consumer, Producer};
use commit_telemetry::{Bugzilla, Edge, Hgweb, PushHandler, Telemetry};
use observe::statsd::StatsD;
use pulse::{Listener, Route};
use runtime::{Clock, Service};
use tracing::{info, warn};

use super::REQUEST;
use crate::{
    config::{HgPushesConfig, TelemetryConfig},
    queues::PULSE_HGPUSHES,
};

/// What comes before the names of our counters, as it always did.
const PREFIX: &str = "commit_telemetry";

/// The servers that are asked, and the one that gets the pings.
pub(crate) fn telemetry(
    config: &TelemetryConfig,
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<Telemetry> {
    let http = http_client::client(REQUEST)?;
    let telemetry = Telemetry::new(
        Hgweb::new(http.clone(), Arc::clone(clock)),
        Bugzilla::new(config.bugzilla.clone(), http.clone(), Arc::clone(clock)),
        Edge::new(&config.edge, http, Arc::clone(clock))?,
    );
    Ok(telemetry.classified_by(config.rules))
}

/// The server that counts, if there is one.
pub(crate) async fn statsd(config: &TelemetryConfig) -> Option<StatsD> {
    let (host, port) = config.statsd.as_ref()?;
    let opened = StatsD::open(host, *port, PREFIX).await;
    // Nobody's work depends on being counted.
    opened
        .inspect_err(|error| {
            warn!("nothing is counted: STATSD_HOST {host} cannot be used: {error}")
        })
        .ok()
}

/// What makes pings of messages.
pub(crate) fn push_handler(
    config: &TelemetryConfig,
    telemetry: Telemetry,
    statsd: Option<&StatsD>,
) -> PushHandler {
    let handler = PushHandler::new(telemetry, config.target.url().clone());
    match statsd {
        Some(statsd) => handler.counted_by(statsd.clone()),
        None => handler,
    }
}

/// The route of pushes from Pulse.
pub(crate) fn hgpushes(pushes: &HgPushesConfig) -> Route {
    Route {
        exchange: pushes.exchange.clone(),
        topics: vec![pushes.topic.clone()],
        queue: PULSE_HGPUSHES,
    }
}

/// The services: the listener, and the consumer of the pushes that it stored.
pub(crate) async fn services(
    (config, pushes): (TelemetryConfig, HgPushesConfig),
    bus: &Arc<dyn Bus>,
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<Vec<Box<dyn Service>>> {
    info!(
        "telemetry: as {} on {}",
        pushes.pulse.user, pushes.pulse.address
    );
    let producer = Producer::new(Arc::clone(bus), Arc::clone(clock));
    let listener = Listener::new(
        pushes.pulse.clone(),
        &pushes.queue,
        vec![hgpushes(&pushes)],
        producer,
    )?;
    let statsd = statsd(&config).await;
    let handler = push_handler(&config, telemetry(&config, clock)?, statsd.as_ref());
    let consumer = Consumer::new(Arc::clone(bus), Arc::clone(clock), PULSE_HGPUSHES, handler);
    Ok(vec![Box::new(listener), Box::new(consumer)])
}
