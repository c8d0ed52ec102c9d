//! `events builds`

pub(super) mod archive;
mod audit;
mod cancel;
mod list;
mod restart;
mod retry;
mod show;
mod text;

use build::Phid;
use serde_json::json;

use super::print_json;
use crate::cli::{BuildAction, Builds, Deployment};

/// Runs `events builds`.
pub async fn builds(Builds { deployment, action }: Builds) -> anyhow::Result<()> {
    match action {
        BuildAction::List(options) => list::list(options, &deployment).await,
        BuildAction::Show(options) => show::show(options, &deployment).await,
        BuildAction::Retry(options) => retry::retry(options, &deployment).await,
        BuildAction::Cancel(options) => cancel::cancel(options, &deployment).await,
        BuildAction::Restart(options) => restart::restart(options, &deployment).await,
        BuildAction::Audit(options) => audit::audit(options, &deployment).await,
    }
}

/// Prints the action that a command took on a build.
fn report(deployment: &Deployment, target: &Phid, action: &str) -> anyhow::Result<()> {
    if deployment.output.json {
        return print_json(&json!({"target": target, "action": action}));
    }
    crate::print(&format!("{target}: {action}"))
}
