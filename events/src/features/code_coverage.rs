//! Triggers hooks for task groups with builds for code coverage.

use bus::Policy;
use pulse::{PulseMessage, Topic};
use runtime::ServiceError;
use tracing::info;
use triggers::{CoverageBuilds, HookName};

use super::{
    hooks::{Deployment, HOOKS},
    policies::FROM_PULSE,
    triggers::GROUPS,
};
use crate::{
    app::{App, queues},
    config::{HookSource, TriggersConfig},
    fan_out::{FanOut, Wanted},
};

queues! {
    "code coverage" in [Worker, All];

    /// Groups that may have builds for code coverage. Groups can have thousands of tasks, and all are read.
    PULSE_COVERAGE: PulseMessage = "pulse:code-coverage", Policy { concurrency: 2, ..FROM_PULSE };
}

pub(super) fn install(
    app: &mut App,
    config: &TriggersConfig,
    firefox: &Deployment,
) -> Result<(), ServiceError> {
    let mut handlers = Vec::new();
    for hook in &config.hooks {
        let HookSource::CodeCoverage { topic } = &hook.source else {
            continue;
        };
        let name = HookName::new(&hook.group, &hook.id);
        info!("code coverage: triggering {name} for {topic}");
        let topic: Topic = topic.parse()?;
        app.route(GROUPS, std::slice::from_ref(&topic), PULSE_COVERAGE);
        let wanted: Wanted<PulseMessage> =
            Box::new(move |message| message.routing.keys().any(|key| topic.matches(key)));
        handlers.push((
            wanted,
            CoverageBuilds::new(firefox.client.clone(), name, HOOKS),
        ));
    }
    FanOut::install(app, PULSE_COVERAGE, handlers);
    Ok(())
}
