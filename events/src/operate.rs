//! What operators do with a deployment that runs.

mod audit;
mod builds;
mod check;
mod dead;
mod maintenance;
mod notify;
mod pulse;
mod queues;
mod report;
mod repos;
mod restart;
mod table;
mod telemetry;
mod terminal;
mod why;

use std::sync::Arc;

use anyhow::bail;
use bus::{Admin, RedisBus};
use runtime::SystemClock;
use runtime::sanitize;
use serde::Serialize;

pub use self::{
    audit::audit,
    builds::{builds, cancel, retry},
    check::check_config,
    dead::dead,
    notify::notify,
    pulse::pulse,
    queues::queues,
    report::report,
    repos::repos,
    telemetry::telemetry,
    why::why,
};
use crate::{cli::Deployment, environment, features, source};

/// The administration of the deployment that the options and the environment name.
async fn admin(deployment: &Deployment) -> anyhow::Result<Admin> {
    let records = source::records(deployment.into()).await?;
    let log = features::build_log(records.build_retention);
    let Some(options) = environment::redis(records.redis_namespace, 1)? else {
        bail!(
            "no REDIS_URL: queues in memory belong to the process that runs them; ask its API (/api/v1/queues), or set \
             REDIS_URL to the redis of the deployment"
        );
    };
    let bus = RedisBus::new(&options, &SystemClock)?;
    Ok(features::admin(Arc::new(bus), log))
}

fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    crate::print(&sanitize::json(&serde_json::to_string(value)?))
}

/// An object over several lines.
fn print_pretty(value: &impl Serialize) -> anyhow::Result<()> {
    crate::print(&sanitize::json(&serde_json::to_string_pretty(value)?))
}

/// "1 message", "2 messages".
fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
