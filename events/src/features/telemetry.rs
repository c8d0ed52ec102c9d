//! Commit telemetry, as the environment configures it.

use std::{sync::Arc, time::Duration};

use bus::{Backoff, Policy};
use commit_telemetry::{Bugzilla, Edge, Hgweb, PushHandler, Telemetry};
use observe::statsd::StatsD;
use pulse::{PulseMessage, Route};
use runtime::Clock;
use tracing::warn;

use super::policies::FROM_PULSE;
use crate::{
    app::{App, queues, route},
    clients::REQUEST,
    config::{HgPushesConfig, TelemetryConfig},
};

queues! {
    "commit telemetry" in [Telemetry];

    /// Pushes to Mercurial's repositories, whose changesets get pings. A push that fails for reasons of its own is retried
    /// for an hour.
    PULSE_HGPUSHES: PulseMessage = "pulse:hgpushes", Policy {
        attempts: 10,
        concurrency: 4,
        backoff: Backoff {
            first: Duration::from_secs(5),
            factor: 3,
            cap: Duration::from_secs(900),
        },
        ..FROM_PULSE
    };
}

/// The prefix of the names of our counters, which the predecessor had too.
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
    let topic = std::slice::from_ref(&pushes.topic);
    route(&pushes.exchange, topic, PULSE_HGPUSHES)
}

/// Installs the listener, and the consumer of the pushes that it stored.
pub(crate) async fn install(
    app: &mut App,
    (config, pushes): (TelemetryConfig, HgPushesConfig),
) -> anyhow::Result<()> {
    let statsd = statsd(&config).await;
    let telemetry = telemetry(&config, &app.clock)?;
    app.consumer(
        PULSE_HGPUSHES,
        push_handler(&config, telemetry, statsd.as_ref()),
    );
    let routes = vec![hgpushes(&pushes)];
    app.listen_to(pushes.pulse, &pushes.queue, routes)?;
    Ok(())
}
