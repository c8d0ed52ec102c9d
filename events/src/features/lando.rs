//! Warnings that Lando shows.

use std::time::Duration;

use bus::Policy;
use phabricator::{Lando, LandoWarning, LandoWarnings};

use super::policies::OUTSIDE;
use crate::{
    app::{App, queues},
    config::{Config, LandoConfig},
};

queues! {
    "lando" in [Worker, All];

    /// Warnings to show on Lando. One that comes late is worth little: after two minutes it is a dead letter.
    LANDO: LandoWarning = "lando" tracks builds, Policy { backoff: OUTSIDE, attempts: 5, ..Policy::DEFAULT };
}

/// The longest that one HTTP request to Lando may take.
const REQUEST: Duration = Duration::from_secs(20);

/// The configuration, if warnings are published.
fn enabled(config: &Config) -> Option<&LandoConfig> {
    config.lando.as_ref().filter(|lando| lando.publish)
}

/// The warnings that the publisher of builds sends.
pub(super) fn warnings(config: &Config) -> Option<LandoWarnings> {
    enabled(config).map(|lando| LandoWarnings {
        queue: LANDO,
        failures: lando.publish_failure,
    })
}

pub(super) fn install(app: &mut App, config: &Config) -> anyhow::Result<()> {
    if let Some(lando) = enabled(config) {
        let http = http_client::client(REQUEST)?;
        let api_key = config.phabricator.api_key.clone();
        app.consumer(LANDO, Lando::new(lando.url.clone(), api_key, http));
    }
    Ok(())
}
