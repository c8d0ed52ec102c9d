//! Selection of tests for pushes to Try, by bugbug, and their results on build targets.

use ::triggers::{SelectionQueues, SelectionResultHandler, SelectionStart, TestResultHandler};
use build::{BuildUpdateMessage, TestResult};
use bus::{Policy, Queue};
use phabricator::TestResultPublisher;
use pulse::{PulseMessage, Topic};
use runtime::ServiceError;
use tracing::info;

use super::{
    build_log,
    hooks::{Deployment, HOOKS, HOOKS_COMMUNITY, MAILS},
    policies::{ELSEWHERE, FROM_PULSE, PUBLISHING},
    triggers::{COMPLETED, Triggers, pulse_queue},
};
use crate::{
    app::{App, queues, route},
    clients,
    config::Config,
};

queues! {
    "test selection" in [Worker, All];

    /// Pushes to Try, whose tests may be selected.
    BUGBUG_TRY_PUSH: BuildUpdateMessage = "bugbug:try_push", ELSEWHERE;
    /// Selections of tests that have ended.
    PULSE_SELECTED: PulseMessage = "pulse:bugbug_test_select", FROM_PULSE;
    /// Tasks on Try that have ended: many, and nearly none of them ours.
    PULSE_TESTS: PulseMessage = "pulse:tests", Policy { concurrency: 64, ..FROM_PULSE };
    /// Results of selected tests, to be published on build targets.
    BUILD_PUBLISH_TESTS: TestResult = "build:publish-tests", PUBLISHING;
}

/// The ends of tasks.
const ENDS: [&str; 3] = [
    COMPLETED,
    "exchange/taskcluster-queue/v1/task-failed",
    "exchange/taskcluster-queue/v1/task-exception",
];
/// Tasks of Try.
const LEVEL_1: &str = "#.gecko-level-1.#";
const SELECTED: &str = "route.project.bugbug.test_select";

/// The queue that pushes are sent to, where it is configured.
pub(super) fn queue(config: &Config) -> Option<Queue<BuildUpdateMessage>> {
    let selection = config.triggers.test_selection.as_ref();
    selection.map(|_| BUGBUG_TRY_PUSH)
}

/// Installs the feature. It has a listener of its own, to the community's Pulse.
pub(super) fn install(
    app: &mut App,
    triggers: Triggers<'_>,
    firefox: &Deployment,
    community: &Deployment,
) -> Result<(), ServiceError> {
    let config = &triggers.config.triggers;
    let (Some(selection), Some(deployment)) = (&config.test_selection, &config.bugbug_deployment)
    else {
        return Ok(());
    };
    info!(
        "test selection: for {:.0} % of pushes",
        100.0 * selection.share
    );
    let start = SelectionStart::new(
        selection.share,
        deployment.clone(),
        firefox.public.clone(),
        HOOKS_COMMUNITY,
    );
    let queues = SelectionQueues {
        hooks: HOOKS,
        mails: MAILS,
    };
    let end = SelectionResultHandler::new(
        deployment.clone(),
        community.client.clone(),
        firefox.client.clone(),
        queues,
        selection.notify.clone(),
    );
    let publisher = TestResultPublisher::new(
        triggers.conduit.clone(),
        triggers.config.phabricator.publish,
        build_log(triggers.config.build_retention),
    );
    app.consumer(BUGBUG_TRY_PUSH, start);
    app.consumer(PULSE_SELECTED, end);
    let tests = TestResultHandler::new(firefox.client.clone(), BUILD_PUBLISH_TESTS);
    app.consumer(PULSE_TESTS, tests);
    app.consumer(BUILD_PUBLISH_TESTS, publisher);
    if let Some(pulse) = &config.community_pulse {
        let routes = vec![route(COMPLETED, &[SELECTED.parse()?], PULSE_SELECTED)];
        let queue = pulse_queue(config, "events-community");
        app.listen_to(clients::pulse(pulse)?, &queue, routes)?;
    }
    let topic: Topic = LEVEL_1.parse()?;
    for exchange in ENDS {
        app.route(exchange, std::slice::from_ref(&topic), PULSE_TESTS);
    }
    Ok(())
}
