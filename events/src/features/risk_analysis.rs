//! Analysis of the risk of builds, by bugbug.

use ::triggers::RiskAnalysis;
use build::Build;
use bus::Queue;
use tracing::info;

use super::{hooks::HOOKS_COMMUNITY, policies::ELSEWHERE, triggers::Triggers};
use crate::{
    app::{App, queues},
    config::Config,
};

queues! {
    "risk analysis" in [Worker, All];

    /// Public builds whose risk may be analysed.
    BUGBUG: Build = "bugbug", ELSEWHERE;
}

/// The queue that builds are sent to, where it is configured.
pub(super) fn queue(config: &Config) -> Option<Queue<Build>> {
    let users = &config.triggers.risk_analysis_users;
    (!users.is_empty()).then_some(BUGBUG)
}

pub(super) fn install(app: &mut App, triggers: Triggers<'_>) {
    let config = triggers.config;
    let (Some(queue), Some(deployment)) = (queue(config), &config.triggers.bugbug_deployment)
    else {
        return;
    };
    let users = &triggers.names.risk_analysis_users;
    info!("risk analysis: enabled for {} users", users.len());
    let users = users.values().cloned().collect();
    app.consumer(
        queue,
        RiskAnalysis::new(deployment.clone(), users, HOOKS_COMMUNITY),
    );
}
