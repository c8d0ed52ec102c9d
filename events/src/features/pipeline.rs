//! Everything that a worker runs for builds and triggers, once Phabricator knows the configured names.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bus::{Backoff, Bus};
use phabricator::Conduit;
use runtime::{Clock, Service, ServiceError, Shutdown, run_services};
use tracing::warn;

use super::{
    builds, lando,
    names::Names,
    triggers::{self, Triggers},
};
use crate::{app::App, clients::REQUEST, config::Config};

/// The waits while Phabricator does not respond at the start.
const AWAY: Backoff = Backoff {
    first: Duration::from_secs(1),
    factor: 2,
    cap: Duration::from_secs(60),
};

/// Builds and triggers. It begins by resolving the configured names, and retries while Phabricator is away: what is
/// accepted meanwhile waits on the bus.
pub struct Pipeline {
    /// The configuration of a worker.
    pub config: Config,
    /// The bus with its queues.
    pub bus: Arc<dyn Bus>,
    /// Time and randomness.
    pub clock: Arc<dyn Clock>,
}

#[async_trait]
impl Service for Pipeline {
    fn name(&self) -> &str {
        "worker"
    }

    async fn run(self: Box<Self>, shutdown: Shutdown) -> Result<(), ServiceError> {
        let Self { config, bus, clock } = *self;
        let http = http_client::client(REQUEST)?;
        let phabricator = &config.phabricator;
        let conduit = Conduit::new(phabricator.url.clone(), phabricator.api_key.clone(), http);
        let app = tokio::select! {
            app = install(&config, App::new(bus, clock), &conduit) => app?,
            () = shutdown.stopping() => return Ok(()),
        };
        run_services(app.into_services(), shutdown).await
    }
}

/// Installs builds and triggers on `app`, once Phabricator responds.
pub(super) async fn install(
    config: &Config,
    mut app: App,
    conduit: &Conduit,
) -> Result<App, ServiceError> {
    let names = resolve(config, conduit, app.clock.as_ref()).await?;
    builds::install(&mut app, config, conduit, &names)?;
    lando::install(&mut app, config)?;
    let triggers = Triggers {
        config,
        conduit,
        names: &names,
    };
    triggers::install(&mut app, triggers).await?;
    Ok(app)
}

/// The configured names. One that Phabricator does not know is an error.
async fn resolve(
    config: &Config,
    conduit: &Conduit,
    clock: &dyn Clock,
) -> Result<Names, ServiceError> {
    let mut attempt = 1;
    let names = loop {
        match Names::load(conduit, config).await {
            Ok(names) => break names,
            Err(error) => {
                if attempt == 1 {
                    let error: &dyn std::error::Error = &error;
                    warn!(
                        error,
                        "phabricator does not resolve the configured names; retrying"
                    );
                }
            }
        }
        clock.sleep(AWAY.after(attempt, clock)).await;
        attempt += 1;
    };
    let unknown = names.unknown(config);
    if unknown.is_empty() {
        return Ok(names);
    }
    let unknown = unknown.join(", ");
    Err(format!(
        "phabricator does not know: {unknown}; correct the configuration, or let our user see them"
    )
    .into())
}
