//! `events telemetry`: pings of the pushes in the queue, of one changeset, or of a range of a pushlog.

mod backfill;
mod checkpoint;
mod console;
mod dead_letters;
mod queue;
mod state;

use std::sync::Arc;

use commit_telemetry::Rules;
use runtime::{Clock, SystemClock};

use self::console::Console;
use crate::{
    cli::{DumpTelemetry, Telemetry, TelemetryAction},
    config::{HgPushesConfig, TelemetryConfig, Variables},
    environment,
    features::telemetry as wiring,
    run,
};

/// The grace period after a signal, in seconds.
const GRACE: u64 = 20;

/// Runs `events telemetry`.
pub async fn telemetry(options: Telemetry) -> anyhow::Result<()> {
    let console = Console::new(options.debug)?;
    let variables = environment::with_dotenv()?;
    run::report_errors(&variables, None);
    let settings = Settings {
        variables: &variables,
        classic: options.classic,
    };
    match options.action {
        TelemetryAction::ProcessQueueMessages(options) => {
            queue::process(&options, &settings, &console).await
        }
        TelemetryAction::DumpTelemetry(options) => dump(options, &settings).await,
        TelemetryAction::BackfillPushlog(options) => {
            backfill::backfill(&options, &settings, &console).await
        }
    }
}

/// The sources of a command's settings.
struct Settings<'a> {
    variables: Variables<'a>,
    classic: bool,
}

impl Settings<'_> {
    fn read(&self) -> anyhow::Result<TelemetryConfig> {
        Ok(self.with_option(TelemetryConfig::read(self.variables)?))
    }

    fn read_with_pulse(&self) -> anyhow::Result<(TelemetryConfig, HgPushesConfig)> {
        let (config, pushes) = TelemetryConfig::read_with_pulse(self.variables)?;
        Ok((self.with_option(config), pushes))
    }

    fn with_option(&self, mut config: TelemetryConfig) -> TelemetryConfig {
        if self.classic {
            config.rules = Rules::Classic;
        }
        config
    }
}

/// Prints the ping of a changeset.
async fn dump(options: DumpTelemetry, settings: &Settings<'_>) -> anyhow::Result<()> {
    let config = settings.read()?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let repository = options.target_repo.unwrap_or_else(|| config.target.clone());
    let ping = wiring::telemetry(&config, &clock)?
        .ping_for(&repository, &options.node)
        .await?;
    super::print_pretty(&ping)
}
