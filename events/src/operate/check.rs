//! `events check-config`

use std::{fmt::Display, sync::Arc};

use anyhow::bail;
use bus::{Bus, Clock, RedisBus, SystemClock, error_chain};
use phabricator::Conduit;

use crate::{
    cli::CheckConfig,
    config::Config,
    environment, source,
    topology::{self, Deployment, Notifier},
};

/// Runs `events check-config`.
pub async fn check_config(options: CheckConfig) -> anyhow::Result<()> {
    let CheckConfig { file, taskcluster_secret, online } = options;
    let (config, faults) = source::read(file.as_deref(), taskcluster_secret.as_deref()).await?;
    for warning in &faults.warnings {
        crate::print(&format!("warning: {warning}"))?;
    }
    let names: Vec<&str> = config.repositories.iter().map(|repository| repository.name.as_str()).collect();
    let place = match (&taskcluster_secret, &file) {
        (None, Some(file)) => file.display().to_string(),
        (secret, _) => format!("the secret {}", secret.as_deref().unwrap_or_default()),
    };
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let notifier = Notifier::open((&config).into(), &environment::variable, &clock)?;
    crate::print(&format!("{place} is right: it has the repositories {}", names.join(", ")))?;
    if let Some(notifier) = notifier {
        let channels: Vec<_> = notifier.channels.iter().map(|channel| channel.name()).collect();
        crate::print(&format!("the notifier is right: it has the channels {}", channels.join(", ")))?;
    }
    if online { services(&config, &clock).await } else { Ok(()) }
}

/// Asks each service, and says of each what it says.
async fn services(config: &Config, clock: &Arc<dyn Clock>) -> anyhow::Result<()> {
    let mut failed = false;
    let mut say = |service: &dyn Display, answer: anyhow::Result<String>| {
        let line = match answer {
            Ok(answer) => format!("ok      {service}: {answer}"),
            Err(error) => {
                failed = true;
                let error: &(dyn std::error::Error + Send + Sync) = error.as_ref();
                format!("FAILED  {service}: {}", error_chain(error))
            }
        };
        crate::print(&line)
    };
    say(&"redis", redis(config, clock).await)?;
    say(&format!("phabricator {}", place(&config.phabricator.url)), phabricator(config).await)?;
    if let Some(url) = &config.treestatus_url {
        say(&format!("tree status {}", place(url)), http(url).await)?;
    }
    if let Some(lando) = &config.lando {
        say(&format!("lando {}", place(&lando.url)), http(&lando.url).await)?;
    }
    let triggers = &config.triggers;
    match Deployment::all(triggers, clock) {
        Ok((firefox, community)) => {
            for Deployment { name, client, .. } in firefox.into_iter().chain(community) {
                let answer = client.ping().await.map(|()| "it answers, and accepts the credentials".to_owned());
                say(&format!("the Taskcluster of {name} {}", place(client.root())), answer.map_err(Into::into))?;
            }
        }
        Err(error) => say(&"taskcluster", Err(error))?,
    }
    for user in triggers.pulse.iter().chain(&triggers.community_pulse) {
        let answer = async {
            pulse::check(&topology::pulse(user)?).await?;
            Ok(format!("it lets {} in", user.user))
        };
        say(&format!("pulse {}", place(&user.url)), answer.await)?;
    }
    if failed {
        bail!("not every service answers as it should");
    }
    Ok(())
}

/// An address without what may be a secret in it.
fn place(url: &url::Url) -> &str {
    &url[url::Position::BeforeHost..url::Position::BeforePath]
}

async fn redis(config: &Config, clock: &Arc<dyn Clock>) -> anyhow::Result<String> {
    match environment::redis(config.redis_namespace.clone(), 1)? {
        None => Ok("no REDIS_URL, queues would be in memory".to_owned()),
        Some(options) => {
            RedisBus::new(&options, clock.as_ref())?.ping().await?;
            Ok("it answers".to_owned())
        }
    }
}

async fn phabricator(config: &Config) -> anyhow::Result<String> {
    let phabricator = &config.phabricator;
    let http = observe::http::client(topology::REQUEST)?;
    let conduit = Conduit::new(phabricator.url.clone(), phabricator.api_key.clone(), http);
    let unknown = topology::unknown_names(config, &conduit).await?;
    if !unknown.is_empty() {
        bail!("it does not know: {}; correct the configuration, or let our user see them", unknown.join(", "));
    }
    Ok("it accepts the token, and knows every name".to_owned())
}

/// Whether anybody answers, whatever it is.
async fn http(url: &url::Url) -> anyhow::Result<String> {
    let response = observe::http::client(topology::REQUEST)?.get(url.clone()).send().await;
    let status = response.map_err(reqwest::Error::without_url)?.status();
    if status.is_server_error() {
        bail!("it answers with http status {status}");
    }
    Ok(format!("it answers, with http status {}", status.as_u16()))
}
