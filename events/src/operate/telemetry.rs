//! `events telemetry`: pings of pushes, from the queue, of one changeset, or of a part of a pushlog.

mod backfill;
mod console;
mod queue;
mod stopped;

use std::sync::Arc;

use bus::{Clock, SystemClock};

use self::console::Console;
use crate::{
    cli::{DumpTelemetry, Telemetry, TelemetryAction},
    config::TelemetryConfig,
    environment,
    topology::telemetry as wiring,
};

/// How long what is in flight is given after a signal, in seconds.
const GRACE: u64 = 20;

/// Runs `events telemetry`.
pub async fn telemetry(options: Telemetry) -> anyhow::Result<()> {
    let console = Console::new(options.debug)?;
    match options.action {
        TelemetryAction::ProcessQueueMessages(options) => queue::process(&options, &console).await,
        TelemetryAction::DumpTelemetry(options) => dump(options).await,
        TelemetryAction::BackfillPushlog(options) => backfill::backfill(&options, &console).await,
    }
}

/// Prints the ping of a changeset.
async fn dump(options: DumpTelemetry) -> anyhow::Result<()> {
    let config = TelemetryConfig::read(&environment::with_dotenv()?)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let repository = options.target_repo.unwrap_or_else(|| config.target.clone());
    let ping = wiring::telemetry(&config, &clock)?.ping_for(&repository, &options.node).await?;
    super::print_pretty(&ping)
}
