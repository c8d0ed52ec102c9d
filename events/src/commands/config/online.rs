//! Checks the services that a role needs, one after the other, and continues after a failure.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use anyhow::bail;
use bus::{Bus, RedisBus};
use http_client::Limits;
use notify::Checked;
use phabricator::Conduit;
use pulse::PulseSettings;
use runtime::{Clock, error_chain};
use worker::probe::Probe;

use super::{harbormaster, lines::Lines};
use crate::{
    clients,
    commands::repositories::settings as repositories_settings,
    config::{Config, HgPushesConfig, TelemetryConfig},
    environment,
    features::{self, Deployment, Notifier},
    role::Role,
};

/// The deadline of one request. It is short, because an operator waits.
const REQUEST: Duration = Duration::from_secs(15);

/// Checks the services that the web server needs.
pub(super) async fn web(namespace: &str, clock: &Arc<dyn Clock>) -> anyhow::Result<()> {
    let mut lines = Lines::default();
    lines.report(&"redis", redis(Role::Web, namespace, clock).await)?;
    lines.end()
}

/// Checks the services that the notifier needs.
pub(super) async fn notifier(
    namespace: &str,
    notifier: &Notifier,
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<()> {
    let mut lines = Lines::default();
    lines.report(&"redis", redis(Role::Notify, namespace, clock).await)?;
    let client = &notifier.taskcluster;
    lines.report(
        &format!("taskcluster {}", place(client.root())),
        http(client.root()).await,
    )?;
    let (settings, _) = notifier.subscription()?;
    pulse("", settings, &mut lines).await?;
    channels(notifier, &mut lines).await?;
    lines.end()
}

/// Checks the services that commit telemetry needs.
pub(super) async fn telemetry(
    namespace: &str,
    (config, pushes): &(TelemetryConfig, HgPushesConfig),
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<()> {
    let mut lines = Lines::default();
    lines.report(&"redis", redis(Role::Telemetry, namespace, clock).await)?;
    pulse("", &pushes.pulse, &mut lines).await?;
    for (name, url) in [
        ("repository", config.target.url()),
        ("bugzilla", &config.bugzilla),
        ("pings", &config.edge.base),
    ] {
        lines.report(&format!("{name} {}", place(url)), http(url).await)?;
    }
    lines.end()
}

/// Checks the services that builds and triggers need, for a worker in this role.
pub(super) async fn worker(
    role: Role,
    config: &Config,
    notifier: Option<&Notifier>,
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<()> {
    let mut lines = Lines::default();
    lines.report(&"redis", redis(role, &config.redis_namespace, clock).await)?;
    phabricator(config, &mut lines).await?;
    repositories(config, &mut lines).await?;
    if let Some(url) = &config.treestatus_url {
        lines.report(&format!("tree status {}", place(url)), http(url).await)?;
    }
    if let Some(lando) = &config.lando {
        lines.report(
            &format!("lando {}", place(&lando.url)),
            http(&lando.url).await,
        )?;
    }
    let triggers = &config.triggers;
    match Deployment::all(triggers, clock) {
        Ok((firefox, community)) => {
            if let (None, Some(fault)) = (&firefox, features::without_taskcluster(triggers)) {
                lines.failed(&"taskcluster", &fault)?;
            }
            for Deployment { name, client, .. } in firefox.into_iter().chain(community) {
                let answer = client
                    .ping()
                    .await
                    .map(|()| "it answers, and accepts the credentials".to_owned());
                lines.report(
                    &format!("the Taskcluster of {name} {}", place(client.root())),
                    answer.map_err(Into::into),
                )?;
            }
        }
        Err(error) => lines.report(&"taskcluster", Err(error))?,
    }
    // Triggers use the keys alone. The environment may override them for the notifier, and then nothing else may use them.
    let is_used = notifier.is_none() || features::has_triggers(triggers);
    let keys = triggers.pulse.iter().filter(|_| is_used);
    for user in keys.chain(&triggers.community_pulse) {
        pulse("", &clients::pulse(user)?, &mut lines).await?;
    }
    if let Some(notifier) = notifier {
        let (settings, _) = notifier.subscription()?;
        pulse(" of the notifier", settings, &mut lines).await?;
        channels(notifier, &mut lines).await?;
    }
    lines.end()
}

/// The host and port of an address, without the parts that may contain a secret.
fn place(url: &url::Url) -> &str {
    &url[url::Position::BeforeHost..url::Position::BeforePath]
}

async fn redis(role: Role, namespace: &str, clock: &Arc<dyn Clock>) -> anyhow::Result<String> {
    match environment::redis(namespace.to_owned(), 1)? {
        None => {
            role.check(environment::variable("DYNO").as_deref(), false)?;
            Ok(
                "REDIS_URL is not set: queues are in memory, and are lost with the process"
                    .to_owned(),
            )
        }
        Some(options) => {
            let bus = RedisBus::new(&options, clock.as_ref())?;
            bus.ping().await?;
            let warnings = bus.check().await?;
            // A server whose memory is full answers, and stores nothing.
            bus.probe_write().await?;
            let warnings: String = warnings
                .iter()
                .map(|warning| format!("; {warning}"))
                .collect();
            Ok(format!(
                "it answers, its settings keep messages, and a record was stored and removed{warnings}"
            ))
        }
    }
}

async fn phabricator(config: &Config, lines: &mut Lines) -> anyhow::Result<()> {
    let phabricator = &config.phabricator;
    let http = http_client::client(REQUEST)?;
    let conduit = Conduit::new(phabricator.url.clone(), phabricator.api_key.clone(), http);
    let subject = format!("phabricator {}", place(&phabricator.url));
    match conduit.whoami().await {
        Ok(user) => lines.ok(
            &subject,
            &format!("user.whoami accepts the token, our user is {user}"),
        )?,
        Err(error) => {
            lines.report(&subject, Err(error.into()))?;
            return lines.warning(
                &"names, publish, build plan and rights",
                "were not checked, since the call before failed",
            );
        }
    }
    let names = match features::unknown_names(config, &conduit).await {
        Ok(unknown) if unknown.is_empty() => {
            Ok("it knows every configured name, and our user sees them".to_owned())
        }
        Ok(unknown) => Err(anyhow::anyhow!(
            "it does not know: {}; correct the configuration, or let our user see them",
            unknown.join(", ")
        )),
        Err(error) => Err(error.into()),
    };
    lines.report(&"names on phabricator", names)?;
    if config.secure_projects.is_empty() {
        lines.warning(
            &"secure_projects",
            "is empty: no project makes a revision private",
        )?;
    }
    harbormaster::check(config, &conduit, lines).await
}

/// Checks the source, the Try, the key and the known hosts of each repository, and the directory of the clones.
async fn repositories(config: &Config, lines: &mut Lines) -> anyhow::Result<()> {
    let settings = repositories_settings(&config.into())?;
    // Repositories share files, such as the directory of clones.
    let mut checked = BTreeSet::new();
    for repository in &settings.repositories {
        for Probe {
            what,
            how,
            result,
            warning,
        } in features::backend_of(repository)
            .vcs()
            .probe(&settings, repository)
            .await
        {
            // A failure may have another cause in each.
            if !checked.insert(what.clone()) && result.is_ok() {
                continue;
            }
            match result {
                Ok(found) => lines.ok(&what, &format!("{found} ({how})"))?,
                Err(error) => lines.failed(&what, &format!("{} ({how})", error_chain(&error)))?,
            }
            if let Some(warning) = warning {
                lines.warning(&what, &warning)?;
            }
        }
        if let Some(result) = worker::lando::probe(repository).await {
            let subject = format!("lando, to which {} is submitted", repository.name);
            lines.report(&subject, result.map_err(Into::into))?;
        }
        if let Some(url) = &repository.base_mapping {
            let subject = format!("the base mapping of {} {}", repository.name, place(url));
            lines.report(&subject, base_mapping(url).await)?;
        }
    }
    Ok(())
}

/// Checks that a service maps commits, by the hash of none.
async fn base_mapping(url: &url::Url) -> anyhow::Result<String> {
    let address = format!("{}/{}", url.as_str().trim_end_matches('/'), "0".repeat(40));
    let request = http_client::client(REQUEST)?.get(address);
    let response = http_client::send(request, Limits::body(64 << 10)).await?;
    let answer: serde_json::Value = response.json().unwrap_or_default();
    if answer.get("error").is_none() {
        bail!(
            "it answers with http status {}, and not as Lando does for an unknown commit; correct `base_mapping.url`, such as \
             https://lando.example.com/api/git2hg/firefox",
            response.status.as_u16()
        );
    }
    Ok("it answers, as Lando does for an unknown commit".to_owned())
}

/// Checks a user on Pulse. `owner` follows the address of the server.
async fn pulse(owner: &str, settings: &PulseSettings, lines: &mut Lines) -> anyhow::Result<()> {
    let answer = pulse::check(settings).await;
    let answer = answer.map(|()| format!("it accepts the user {}", settings.user));
    lines.report(
        &format!("pulse {}{owner}", settings.address),
        answer.map_err(Into::into),
    )
}

/// Checks each channel. Nothing is sent to anybody.
async fn channels(notifier: &Notifier, lines: &mut Lines) -> anyhow::Result<()> {
    for channel in notifier.channels.iter() {
        let subject = format!("channel {}", channel.name());
        match channel.check().await {
            Ok(Checked { found, by_hand }) => {
                if let Some(found) = found {
                    lines.ok(&subject, &found)?;
                }
                if let Some(by_hand) = by_hand {
                    let how = "nothing was sent: `events notify replay TASK STATUS` sends the notifications of a task";
                    lines.by_hand(&subject, &format!("{by_hand}; {how}"))?;
                }
            }
            Err(error) => lines.report(&subject, Err(error.into()))?,
        }
    }
    Ok(())
}

/// Checks that a server answers, with any status below 500.
async fn http(url: &url::Url) -> anyhow::Result<String> {
    let request = http_client::client(REQUEST)?.get(url.clone());
    // The body is not read.
    let status = http_client::open(request, Limits::body(0)).await?.status();
    if status.is_server_error() {
        bail!("it answers with http status {status}");
    }
    Ok(format!("it answers, with http status {}", status.as_u16()))
}
