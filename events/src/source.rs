//! Reads the configuration from a file or a secret of Taskcluster.

use std::{fmt, path::Path, sync::Arc};

use anyhow::Context as _;
use runtime::{Clock, SystemClock};
use secrecy::{ExposeSecret as _, SecretString};

use crate::{
    cli::{Deployment, Source},
    clients,
    config::{self, Config, Faults, NotifierConfig, Parse, PulseConfig, RecordsConfig, WebConfig},
    environment,
};

/// The place of a document: a secret of Taskcluster, else a file, else none, where the environment suffices.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    file: Option<&'a Path>,
    secret: Option<&'a str>,
    /// The argument that names a file, for the error when there is none.
    option: &'static str,
}

impl<'a> Place<'a> {
    /// The place that options name. An empty variable names none.
    pub fn new(file: Option<&'a Path>, secret: Option<&'a str>) -> Self {
        let file = file.filter(|file| !file.as_os_str().is_empty());
        Self {
            file,
            secret: secret.filter(|secret| !secret.is_empty()),
            option: "--config FILE",
        }
    }

    /// The place of a command whose file is an argument, and no option.
    pub fn of_argument(self) -> Self {
        Self {
            option: "the argument FILE",
            ..self
        }
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.secret, self.file) {
            (Some(secret), _) => write!(f, "the secret {secret}"),
            (None, Some(file)) => write!(f, "{}", file.display()),
            (None, None) => f.write_str("the environment"),
        }
    }
}

impl<'a> From<&'a Source> for Place<'a> {
    fn from(source: &'a Source) -> Self {
        Self::new(
            source.config.as_deref(),
            source.taskcluster_secret.as_deref(),
        )
    }
}

impl<'a> From<&'a Deployment> for Place<'a> {
    fn from(deployment: &'a Deployment) -> Self {
        Self::new(
            deployment.config.as_deref(),
            deployment.taskcluster_secret.as_deref(),
        )
    }
}

/// Reads the document with `parse`, with warnings. `None` when no document is named.
pub async fn maybe<T>(place: Place<'_>, parse: Parse<T>) -> anyhow::Result<Option<(T, Faults)>> {
    match (place.secret, place.file) {
        (Some(name), _) => Ok(Some(from_secret(name, parse).await?)),
        (None, Some(file)) => Ok(Some(config::load(file, parse)?)),
        (None, None) => Ok(None),
    }
}

/// The same, and an error when no document is named.
pub async fn read<T>(place: Place<'_>, parse: Parse<T>) -> anyhow::Result<(T, Faults)> {
    let read = maybe(place, parse).await?;
    read.with_context(|| {
        format!("name its configuration: a file with {how} or EVENTS_CONFIG, or a secret with --taskcluster-secret NAME", how = place.option)
    })
}

/// The keys of the web server.
pub async fn web(source: &Source) -> anyhow::Result<(WebConfig, Faults)> {
    read(source.into(), WebConfig::parse).await
}

/// The keys of a worker.
pub async fn worker(source: &Source) -> anyhow::Result<(Config, Faults)> {
    read(source.into(), Config::parse_worker).await
}

/// The keys of both.
pub async fn all(source: &Source) -> anyhow::Result<(Config, Faults)> {
    read(source.into(), Config::parse).await
}

/// The keys of the notifier. Without a document the environment configures it.
pub async fn notifier(place: Place<'_>) -> anyhow::Result<(NotifierConfig, Faults)> {
    let read = maybe(place, NotifierConfig::parse).await?;
    Ok(read.unwrap_or_else(|| (NotifierConfig::without_document(), Faults::default())))
}

/// The keys of the records of builds, for commands that need no others. Without a document they have their defaults.
pub async fn records(place: Place<'_>) -> anyhow::Result<RecordsConfig> {
    let read = maybe(place, RecordsConfig::parse).await?;
    Ok(read.map(|(records, _)| records).unwrap_or_default())
}

/// Our user on Pulse, from the document and the environment.
pub async fn pulse_user(place: Place<'_>) -> anyhow::Result<PulseConfig> {
    let documented = maybe(place, config::pulse::parse)
        .await?
        .and_then(|(user, _)| user);
    let user = config::pulse::with_environment(documented, &environment::variable)?;
    user.context(
        "no user on Pulse: set PULSE_LOGIN and PULSE_PASSWORD, or pulse_user and pulse_password in --config FILE",
    )
}

async fn from_secret<T>(name: &str, parse: Parse<T>) -> anyhow::Result<(T, Faults)> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let clients = clients::firefox(None, &clock)?;
    let (client, _) = clients.with_context(|| {
        format!("the secret {name} needs TASKCLUSTER_PROXY_URL, or TASKCLUSTER_CLIENT_ID and TASKCLUSTER_ACCESS_TOKEN")
    })?;
    let document = client
        .secret(name)
        .await
        .with_context(|| format!("cannot read the secret {name}"))?;
    // JSON is YAML. It may hold secrets of other roles, so the memory is overwritten at the end.
    let text = SecretString::from(serde_json::to_string_pretty(&document)?);
    let (config, faults) = parse(text.expose_secret());
    match config {
        Some(config) => Ok((config, faults)),
        None => anyhow::bail!("the secret {name} cannot be used as a configuration:\n{faults}"),
    }
}
