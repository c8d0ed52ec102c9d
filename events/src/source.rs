//! Reads the configuration from where it is.

use std::{path::Path, sync::Arc};

use anyhow::Context as _;
use bus::{Clock, SystemClock};

use crate::{
    cli::{Deployment, Source},
    config::{self, Config, Faults, NotifierConfig, PulseConfig},
    environment, topology,
};

/// The configuration with its warnings.
pub async fn load(source: &Source) -> anyhow::Result<(Config, Faults)> {
    read(source.config.as_deref(), source.taskcluster_secret.as_deref()).await
}

/// The configuration in a secret of Taskcluster, or in a file: that may only be the usual one, of the environment.
pub async fn read(file: Option<&Path>, secret: Option<&str>) -> anyhow::Result<(Config, Faults)> {
    match (secret, file) {
        (Some(name), _) => from_secret(name, Config::parse).await,
        (None, Some(file)) => Ok(Config::load(file)?),
        (None, None) => anyhow::bail!("name a configuration with --config FILE or --taskcluster-secret NAME"),
    }
}

/// What the same says to the notifier. It may say nothing: then the environment does.
pub async fn notifier(deployment: &Deployment) -> anyhow::Result<(NotifierConfig, Faults)> {
    match (&deployment.taskcluster_secret, &deployment.config) {
        (Some(name), _) => from_secret(name, NotifierConfig::parse).await,
        (None, Some(file)) => Ok(NotifierConfig::load(file)?),
        (None, None) => Ok((NotifierConfig::without_document(), Faults::default())),
    }
}

/// What comes before all keys in Redis, for who needs nothing else of a configuration.
pub async fn redis_namespace(source: &Source) -> anyhow::Result<String> {
    if source.config.is_none() && source.taskcluster_secret.is_none() {
        return Ok(NotifierConfig::without_document().redis_namespace);
    }
    Ok(load(source).await?.0.redis_namespace)
}

/// Our user on Pulse, by the same and the environment.
pub async fn pulse_user(file: Option<&Path>, secret: Option<&str>) -> anyhow::Result<PulseConfig> {
    let documented = match (secret, file) {
        (Some(name), _) => from_secret(name, config::pulse::parse).await?.0,
        (None, Some(file)) => config::pulse::load(file)?.0,
        (None, None) => None,
    };
    let user = config::pulse::with_environment(documented, &environment::variable)?;
    user.context(
        "no user on Pulse: set PULSE_LOGIN and PULSE_PASSWORD, or pulse_user and pulse_password in --config FILE",
    )
}

async fn from_secret<T>(name: &str, parse: fn(&str) -> (Option<T>, Faults)) -> anyhow::Result<(T, Faults)> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let clients = topology::firefox(None, &clock)?;
    let (client, _) = clients.with_context(|| {
        format!("the secret {name} needs TASKCLUSTER_PROXY_URL, or TASKCLUSTER_CLIENT_ID and TASKCLUSTER_ACCESS_TOKEN")
    })?;
    let document = client.secret(name).await.with_context(|| format!("cannot read the secret {name}"))?;
    // JSON is YAML.
    let (config, faults) = parse(&serde_json::to_string_pretty(&document)?);
    match config {
        Some(config) => Ok((config, faults)),
        None => anyhow::bail!("the secret {name} cannot be used as a configuration:\n{faults}"),
    }
}
