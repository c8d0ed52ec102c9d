//! `events report`

use std::sync::Arc;

use anyhow::bail;
use bus::{Bus, Producer};
use jiff::Timestamp;
use runtime::{Clock, SystemClock};
use serde::Serialize;

use super::{builds::archive::Archive, counted, print_json};
use crate::{cli::Report, config::ReportsConfig, features, source};

/// The JSON of a report.
#[derive(Serialize)]
struct Printed<'a> {
    deployment: &'a str,
    tasks: usize,
    period: Option<(Timestamp, Timestamp)>,
    text: &'a str,
    sent: bool,
}

/// Runs `events report`.
pub async fn report(options: Report) -> anyhow::Result<()> {
    let config = source::maybe((&options.deployment).into(), ReportsConfig::parse).await?;
    let ReportsConfig {
        triggers: config,
        records,
    } = config.map(|(config, _)| config).unwrap_or_default();
    let archive = Archive::at(records)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let (firefox, community) = features::Deployment::all(&config, &clock)?;
    let deployments: Vec<_> = firefox.into_iter().chain(community).collect();
    if deployments.is_empty() {
        bail!(
            "cannot make a report: no Taskcluster is configured; set taskcluster or taskcluster_community, or TASKCLUSTER_CLIENT_ID"
        );
    }
    if options.send && config.admins.is_empty() {
        bail!("cannot send a report: admins is empty; set it to the addresses of the admins");
    }
    for deployment in deployments {
        let bus: Arc<dyn Bus> = archive.bus.clone();
        let reporter = deployment.reporter(&config, Producer::new(bus, Arc::clone(&clock)));
        let report = if options.send {
            reporter.send().await?
        } else {
            reporter.preview().await?
        };
        let name = deployment.name;
        let tasks = report.tasks();
        let sent = options.send && !report.text.is_empty();
        if options.deployment.output.json {
            print_json(&Printed {
                deployment: name,
                tasks,
                period: report.period(),
                text: &report.text,
                sent,
            })?;
            continue;
        }
        let all_well = if report.text.is_empty() {
            ", all well, so the report is not mailed"
        } else {
            ""
        };
        crate::print(&format!(
            "{name}: {} since the last report{all_well}",
            counted(tasks, "task")
        ))?;
        if !report.text.is_empty() {
            crate::print(&format!("\n{}", report.text.trim_end()))?;
        }
        if sent {
            crate::print(&format!("queued the mail to {}", config.admins.join(", ")))?;
        }
    }
    Ok(())
}
