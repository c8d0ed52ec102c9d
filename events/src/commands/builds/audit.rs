//! `events builds audit`: one audit, now.

use std::sync::Arc;

use phabricator::Conduit;
use runtime::{Clock, SystemClock};

use super::archive::Archive;
use crate::{
    cli::{Audit, Deployment},
    clients,
    commands::{counted, print_json, table::Table},
    config::Config,
    features, source,
};

/// Runs `events builds audit`.
pub(super) async fn audit(options: Audit, deployment: &Deployment) -> anyhow::Result<()> {
    let (config, _) = source::read(deployment.into(), Config::parse_worker).await?;
    let archive = Archive::at((&config).into())?;
    let phabricator = &config.phabricator;
    let http = http_client::client(clients::REQUEST)?;
    let conduit = Conduit::new(phabricator.url.clone(), phabricator.api_key.clone(), http);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let auditor = features::auditor(&config, &conduit, &archive.bus, &clock);
    let findings = auditor.audit(options.dry_run).await?;
    if deployment.output.json {
        return findings.iter().try_for_each(print_json);
    }
    if findings.is_empty() {
        let unseen = match config.build_plan {
            Some(_) => "",
            None => "; requests that were lost are not checked: set build_plan_phid",
        };
        return crate::print(&format!(
            "every accepted build has ended, or is on its way{unseen}"
        ));
    }
    let headings: &[&str] = match options.dry_run {
        true => &["BUILD", "REVISION ", "DIFF ", "FOUND", "TO DO"],
        false => &["BUILD", "REVISION ", "DIFF ", "FOUND", "DONE"],
    };
    let mut table = Table::new(headings);
    for finding in &findings {
        table.row(vec![
            finding.target.to_string(),
            format!("D{}", finding.revision_id),
            finding.diff_id.to_string(),
            finding.found.clone(),
            finding.action.clone(),
        ]);
    }
    table
        .lines()
        .iter()
        .try_for_each(|line| crate::print(line))?;
    crate::print(&format!("{} found", counted(findings.len(), "build")))
}
