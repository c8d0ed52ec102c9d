//! Triggers hooks for commits that are published on MozReview.

use pulse::PulseMessage;
use runtime::ServiceError;
use tracing::info;
use triggers::{HookName, PublishedCommits};

use super::{hooks::HOOKS, policies::FROM_PULSE};
use crate::{
    app::{App, queues},
    config::{HookSource, TriggersConfig},
    fan_out::{FanOut, every},
};

queues! {
    "mozreview" in [Worker, All];

    /// Commits on MozReview.
    PULSE_MOZREVIEW: PulseMessage = "pulse:mozreview", FROM_PULSE;
}

const EXCHANGE: &str = "exchange/mozreview/";

pub(super) fn install(app: &mut App, config: &TriggersConfig) -> Result<(), ServiceError> {
    let mut handlers = Vec::new();
    for hook in &config.hooks {
        let HookSource::Mozreview { repository_url } = &hook.source else {
            continue;
        };
        let name = HookName::new(&hook.group, &hook.id);
        info!("mozreview: triggering {name} for commits of {repository_url}");
        app.route(
            EXCHANGE,
            &["mozreview.commits.published".parse()?],
            PULSE_MOZREVIEW,
        );
        handlers.push((
            every(),
            PublishedCommits::new(repository_url.clone(), name, HOOKS),
        ));
    }
    FanOut::install(app, PULSE_MOZREVIEW, handlers);
    Ok(())
}
