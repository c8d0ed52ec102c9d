//! The wiring of commit telemetry, from the environment's settings.

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

/// The prefix of our metrics, as the predecessor had it.
const PREFIX: &str = "commit_telemetry";

/// The clients of hgweb, Bugzilla and the ingestion edge.
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
    Ok(telemetry.with_rules(config.rules))
}

/// The StatsD client, if one is configured and its host can be resolved.
pub(crate) async fn statsd(config: &TelemetryConfig) -> Option<StatsD> {
    let (host, port) = config.statsd.as_ref()?;
    let opened = StatsD::open(host, *port, PREFIX).await;
    opened
        .inspect_err(|error| {
            warn!(host, %error, "cannot use STATSD_HOST {host}; sending no metrics");
        })
        .ok()
}

/// The handler of push messages.
pub(crate) fn push_handler(
    config: &TelemetryConfig,
    telemetry: Telemetry,
    statsd: Option<&StatsD>,
) -> PushHandler {
    let handler = PushHandler::new(telemetry, config.target.url().clone());
    match statsd {
        Some(statsd) => handler.with_statsd(statsd.clone()),
        None => handler,
    }
}

/// The route of push messages from Pulse.
pub(crate) fn hgpushes(pushes: &HgPushesConfig) -> Route {
    Route {
        exchange: pushes.exchange.clone(),
        topics: vec![pushes.topic.clone()],
        queue: PULSE_HGPUSHES,
    }
}

/// The services: the listener, and the consumer of the messages that it stores.
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
