//! The commands beside those that serve: one module for each group.

mod builds;
mod config;
mod dead_letters;
mod documentation;
mod notify;
mod pulse;
mod queues;
mod refs;
mod report;
mod repositories;
mod table;
mod telemetry;
mod terminal;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use anyhow::bail;
use bus::{Admin, RedisBus};
use runtime::SystemClock;
use runtime::sanitize;
use serde::Serialize;

pub use self::{
    builds::builds,
    config::config,
    dead_letters::dead_letters,
    documentation::{completions, man},
    notify::notify,
    pulse::pulse,
    queues::queues,
    refs::refs,
    report::report,
    repositories::repositories,
    telemetry::telemetry,
};
use crate::{cli::Deployment, environment, features, source};

/// The administration of the deployment that the options and the environment name.
async fn admin(deployment: &Deployment) -> anyhow::Result<Admin> {
    let records = source::records(deployment.into()).await?;
    let log = features::build_log(records.build_retention);
    let Some(options) = environment::redis(records.redis_namespace, 1)? else {
        bail!(
            "cannot find the queues: REDIS_URL is not set, and a process without it keeps its queues in its own memory; set \
             REDIS_URL to the redis of the deployment, or use the API of the process (/api/v1/queues)"
        );
    };
    let bus = RedisBus::new(&options, &SystemClock)?;
    Ok(features::admin(Arc::new(bus), log))
}

fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    print_json_to_reader(value).map(drop)
}

/// As [`print_json`]; returns whether the reader is still there.
fn print_json_to_reader(value: &impl Serialize) -> anyhow::Result<bool> {
    crate::print_to_reader(&sanitize::json(&serde_json::to_string(value)?))
}

/// Prints an object on several lines.
fn print_pretty(value: &impl Serialize) -> anyhow::Result<()> {
    crate::print(&sanitize::json(&serde_json::to_string_pretty(value)?))
}

/// "1 message", "2 messages".
fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
