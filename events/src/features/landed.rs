//! Triggers code review for what landed on autoland and mozilla-central.

use pulse::PulseMessage;
use runtime::ServiceError;
use tracing::info;
use triggers::{Landing, PostLandingReview};

use super::{
    hooks::{Deployment, HOOKS},
    policies::FROM_PULSE,
    triggers::GROUPS,
};
use crate::{
    app::{App, queues},
    config::TriggersConfig,
    fan_out::{FanOut, every},
};

queues! {
    "landed" in [Worker, All];

    /// Task groups of what landed.
    PULSE_LANDED: PulseMessage = "pulse:landed", FROM_PULSE;
}

/// Groups of the repositories of products.
const LEVEL_3: &str = "#.gecko-level-3.#";

pub(super) fn install(
    app: &mut App,
    config: &TriggersConfig,
    firefox: &Deployment,
) -> Result<(), ServiceError> {
    let landings = [
        (config.autoland, Landing::Autoland),
        (config.mozilla_central, Landing::MozillaCentral),
    ];
    let enabled = landings.into_iter().filter(|(enabled, _)| *enabled);
    let handlers: Vec<_> = enabled
        .map(|(_, landing)| {
            info!(
                "code review: triggering code-review-{} for {landing:?}",
                config.channel
            );
            let client = firefox.client.clone();
            (
                every(),
                PostLandingReview::new(client, landing, &config.channel, HOOKS),
            )
        })
        .collect();
    if !handlers.is_empty() {
        app.route(GROUPS, &[LEVEL_3.parse()?], PULSE_LANDED);
    }
    FanOut::install(app, PULSE_LANDED, handlers);
    Ok(())
}
