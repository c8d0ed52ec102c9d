//! Triggers hooks for new diffs on Phabricator.

use std::collections::BTreeSet;

use build::NewDiff;
use phabricator::DiffPoller;
use tracing::info;
use triggers::{DiffAnalysis, HookName};

use super::{hooks::HOOKS, policies::ELSEWHERE, triggers::Triggers};
use crate::{
    app::{App, queues},
    config::{HookConfig, HookSource},
    fan_out::{FanOut, Wanted},
};

queues! {
    "new diffs" in [Worker, All];

    /// Diffs that were just published, for the hooks that analyse them.
    DIFFS: NewDiff = "diffs", ELSEWHERE;
}

/// The names of the repositories whose diffs trigger this hook.
pub(super) fn repositories(hook: &HookConfig) -> &[String] {
    match &hook.source {
        HookSource::Phabricator { repositories, .. } => repositories,
        HookSource::Mozreview { .. } | HookSource::CodeCoverage { .. } => &[],
    }
}

/// One poller requests the diffs of all hooks, at the shortest of their intervals.
pub(super) fn install(app: &mut App, triggers: Triggers<'_>) {
    let mut handlers = Vec::new();
    let mut polled = BTreeSet::new();
    let mut shortest = None;
    for hook in &triggers.config.triggers.hooks {
        let HookSource::Phabricator {
            repositories,
            interval,
        } = &hook.source
        else {
            continue;
        };
        let name = HookName::new(&hook.group, &hook.id);
        info!(
            "phabricator: triggering {name} for new diffs of {}",
            repositories.join(", ")
        );
        let repositories = triggers.names.hook_repositories(repositories);
        polled.extend(repositories.clone());
        shortest = Some(shortest.map_or(*interval, |shortest| *interval.min(&shortest)));
        let wanted: Wanted<NewDiff> = Box::new(move |diff| repositories.contains(&diff.repository));
        handlers.push((wanted, DiffAnalysis::new(name, HOOKS)));
    }
    FanOut::install(app, DIFFS, handlers);
    if let Some(interval) = shortest {
        app.service(DiffPoller::new(
            triggers.conduit.clone(),
            triggers.names.resolver.clone(),
            polled,
            DIFFS,
            app.producer(),
            interval,
        ));
    }
}
