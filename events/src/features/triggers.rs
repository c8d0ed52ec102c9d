//! The features that trigger hooks on Taskcluster, and what they need in common.

use phabricator::Conduit;
use runtime::ServiceError;

use super::{
    code_coverage, hooks, hooks::Deployment, landed, mozreview, names::Names, new_diffs,
    risk_analysis, test_selection,
};
use crate::{
    app::App,
    clients,
    config::{Config, TriggersConfig},
};

/// Groups of tasks that have ended.
pub(super) const GROUPS: &str = "exchange/taskcluster-queue/v1/task-group-resolved";
/// Tasks that have ended well.
pub(super) const COMPLETED: &str = "exchange/taskcluster-queue/v1/task-completed";

/// What the features have in common.
#[derive(Clone, Copy)]
pub(super) struct Triggers<'a> {
    pub(super) config: &'a Config,
    pub(super) conduit: &'a Conduit,
    pub(super) names: &'a Names,
}

/// Installs every feature that is configured, each with a log line that says so, and one listener for all of them.
pub(super) async fn install(app: &mut App, triggers: Triggers<'_>) -> Result<(), ServiceError> {
    let config = &triggers.config.triggers;
    let Some(needed_by) = needs_firefox(config) else {
        return Ok(());
    };
    let (firefox, community) = Deployment::all(config, &app.clock)?;
    let Some(firefox) = firefox else {
        return Err(missing_taskcluster(&needed_by).into());
    };
    firefox.check(&needed_by).await?;
    if let (Some(community), Some(needed_by)) = (&community, needs_community(config)) {
        community.check(needed_by).await?;
    }
    hooks::install(app, config, &firefox, community.as_ref());
    code_coverage::install(app, config, &firefox)?;
    mozreview::install(app, config)?;
    new_diffs::install(app, triggers);
    landed::install(app, config, &firefox)?;
    if let Some(community) = &community {
        risk_analysis::install(app, triggers);
        test_selection::install(app, triggers, &firefox, community)?;
    }
    if let Some(pulse) = &config.pulse {
        app.listen(clients::pulse(pulse)?, &pulse_queue(config, "events"))?;
    }
    Ok(())
}

/// Whether anything triggers hooks.
pub(crate) fn has_triggers(config: &TriggersConfig) -> bool {
    needs_firefox(config).is_some()
}

/// The fault of a configuration that needs Firefox's Taskcluster, where neither it nor the environment names one.
pub(crate) fn without_taskcluster(config: &TriggersConfig) -> Option<String> {
    needs_firefox(config).map(|needed_by| missing_taskcluster(&needed_by))
}

fn missing_taskcluster(needed_by: &str) -> String {
    format!(
        "{needed_by} needs Taskcluster: set taskcluster with client_id and access_token, or TASKCLUSTER_CLIENT_ID and \
         TASKCLUSTER_ACCESS_TOKEN, or TASKCLUSTER_PROXY_URL"
    )
}

/// The name of one of our queues on Pulse. Deployments may share a user.
pub(super) fn pulse_queue(config: &TriggersConfig, owner: &str) -> String {
    format!("{owner}-{}", config.channel)
}

/// Something in the configuration that needs Firefox's Taskcluster.
fn needs_firefox(config: &TriggersConfig) -> Option<String> {
    let hook = config.hooks.first();
    let key = [
        (config.autoland, "autoland_enabled"),
        (config.mozilla_central, "mozilla_central_enabled"),
    ]
    .into_iter()
    .find_map(|(enabled, key)| enabled.then_some(key));
    hook.map(|hook| format!("the hook {}/{}", hook.group, hook.id))
        .or_else(|| key.or_else(|| needs_community(config)).map(str::to_owned))
}

/// A key of the configuration that needs the community's Taskcluster too.
fn needs_community(config: &TriggersConfig) -> Option<&'static str> {
    [
        (config.test_selection.is_some(), "test_selection_enabled"),
        (
            !config.risk_analysis_users.is_empty(),
            "risk_analysis_users",
        ),
    ]
    .into_iter()
    .find_map(|(enabled, key)| enabled.then_some(key))
}
