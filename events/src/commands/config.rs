//! `events config`

mod harbormaster;
mod lines;
mod online;

use std::sync::Arc;

use runtime::{Clock, SystemClock};

use crate::{
    cli::{Check, Config as ConfigCommand, ConfigAction, Show},
    config::{Config, Faults, RecordsConfig, TelemetryConfig, WebConfig, reference},
    environment,
    features::Notifier,
    role::Role,
    source::{self, Place},
};

/// Runs `events config`.
pub async fn config(ConfigCommand { action }: ConfigCommand) -> anyhow::Result<()> {
    match action {
        ConfigAction::Check(options) => check(options).await,
        ConfigAction::Show(options) => show(options).await,
        ConfigAction::Schema => super::print_pretty(&reference::schema()),
    }
}

/// Runs `events config show`.
async fn show(options: Show) -> anyhow::Result<()> {
    let Show {
        file,
        taskcluster_secret,
    } = options;
    let place = Place::new(file.as_deref(), taskcluster_secret.as_deref()).of_argument();
    let (shown, _) = source::read(place, reference::show).await?;
    shown.lines().try_for_each(crate::print)
}

/// Runs `events config check`.
async fn check(options: Check) -> anyhow::Result<()> {
    let Check {
        file,
        taskcluster_secret,
        role,
        online,
    } = options;
    let place = Place::new(file.as_deref(), taskcluster_secret.as_deref()).of_argument();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    match role {
        Role::Web => {
            let config = with_warnings(source::read(place, WebConfig::parse).await?)?;
            crate::print(&format!("{place} is valid for web"))?;
            if online {
                online::web(&config.redis_namespace, &clock).await
            } else {
                Ok(())
            }
        }
        Role::Notify => {
            let config = with_warnings(source::notifier(place).await?)?;
            let namespace = config.redis_namespace.clone();
            let notifier = Notifier::open(config, &environment::variable, &clock)?
                .ok_or_else(Notifier::nothing)?;
            crate::print(&channels(&notifier)?)?;
            if online {
                online::notifier(&namespace, &notifier, &clock).await
            } else {
                Ok(())
            }
        }
        Role::Telemetry => {
            let settings = TelemetryConfig::read_with_pulse(&environment::with_dotenv()?)?;
            let RecordsConfig {
                redis_namespace, ..
            } = source::records(place).await?;
            crate::print("the environment is valid for telemetry")?;
            if online {
                online::telemetry(&redis_namespace, &settings, &clock).await
            } else {
                Ok(())
            }
        }
        Role::Worker | Role::All => {
            let parse = if role == Role::All {
                Config::parse
            } else {
                Config::parse_worker
            };
            let config = with_warnings(source::read(place, parse).await?)?;
            let names: Vec<&str> = config
                .repositories
                .iter()
                .map(|repository| repository.name.as_str())
                .collect();
            let notifier = Notifier::open((&config).into(), &environment::variable, &clock)?;
            crate::print(&format!(
                "{place} is valid: it has the repositories {}",
                names.join(", ")
            ))?;
            if let Some(notifier) = &notifier {
                crate::print(&channels(notifier)?)?;
            }
            if online {
                online::worker(role, &config, notifier.as_ref(), &clock).await
            } else {
                Ok(())
            }
        }
    }
}

/// Prints the warnings of a configuration, and returns it.
fn with_warnings<T>((config, faults): (T, Faults)) -> anyhow::Result<T> {
    for warning in &faults.warnings {
        crate::print(&format!("warning: {warning}"))?;
    }
    Ok(config)
}

/// The channels of a notifier that can listen, in a line for people.
fn channels(notifier: &Notifier) -> anyhow::Result<String> {
    notifier.subscription()?;
    let channels: Vec<_> = notifier
        .channels
        .iter()
        .map(|channel| channel.name())
        .collect();
    Ok(format!(
        "the notifier is valid: it has the channels {}",
        channels.join(", ")
    ))
}
