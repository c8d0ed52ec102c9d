//! The only place that wires: who reads which queue, and who sends where.

mod notify;
mod services;
pub(crate) mod telemetry;
mod triggers;

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    path::{PathBuf, absolute},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use build::{BuildLog, BuildQueues, Phid, eligibility::Rules};
use bus::{Backoff, Bus, Consumer, Producer};
use phabricator::{
    Auditor, Conduit, ConfiguredNames, Eligibility, Lando, LandoWarnings, NameResolver, Publisher,
    ViewPolicies, Workflow, WorkflowSettings,
};
use runtime::{Clock, Service, ServiceError, Shutdown, run_services};
use tracing::{info, warn};
use web::{Version, WebServer, WebSettings};
use worker::{Limits, RepositorySettings, Settings, Size};
use worker_hg::Mercurial;

use crate::{
    config::{Config, MercurialConfig, WebConfig},
    ended, environment,
    queues::{
        self, BUGBUG, BUGBUG_TRY_PUSH, BUILD_LOAD, BUILD_PUBLISH, BUILD_PUSH, BUILD_QUEUES, LANDO,
    },
};

pub(crate) use notify::Notifier;
pub(crate) use services::{firefox, pulse};
pub(crate) use triggers::Deployment;

/// The longest that one HTTP request to a service may take. A raw diff can be large.
pub(crate) const REQUEST: Duration = Duration::from_secs(60);

/// The longest that one HTTP request to Lando may take.
const LANDO_REQUEST: Duration = Duration::from_secs(20);

/// The waits while Phabricator does not answer at the start.
const AWAY: Backoff = Backoff {
    first: Duration::from_secs(1),
    factor: 2,
    cap: Duration::from_secs(60),
};

/// The web server: Harbormaster's requests go to `build:load`, and operators reach every queue.
pub async fn web(
    config: &WebConfig,
    bus: Arc<dyn Bus>,
    clock: Arc<dyn Clock>,
    address: SocketAddr,
) -> anyhow::Result<WebServer> {
    let version = Version::load(std::env::var_os("VERSION_PATH").map(PathBuf::from))?;
    let settings = WebSettings {
        admin: ended::admin(bus.clone(), build_log(config.build_retention)),
        pages: config.pages.clone(),
        api_token: config.api_token.clone(),
        producer: Producer::new(bus, clock),
        log: build_log(config.build_retention),
        secret: config.webhook_secret.clone(),
        version,
    };
    Ok(WebServer::bind(address, settings).await?)
}

/// Everything behind the web server. It begins by asking Phabricator who the configured names are, and keeps asking
/// while Phabricator is away: what is accepted meanwhile waits on the bus.
pub struct Worker {
    /// What operators decided.
    pub config: Config,
    /// The bus.
    pub bus: Arc<dyn Bus>,
    /// Time and randomness.
    pub clock: Arc<dyn Clock>,
}

/// What the configured names mean on Phabricator.
struct Names {
    repositories: BTreeMap<String, Phid>,
    resolver: NameResolver,
    triggers: triggers::Names,
}

impl Names {
    /// The configured names that mean nothing.
    fn unknown(&self, config: &Config) -> Vec<String> {
        let repositories = config
            .repositories
            .iter()
            .map(|repository| &repository.name);
        let repositories = repositories.filter(|name| !self.repositories.contains_key(*name));
        repositories
            .map(|name| format!("repository {name}"))
            .chain(self.resolver.unknown())
            .chain(self.triggers.unknown(&config.triggers))
            .collect()
    }
}

#[async_trait]
impl Service for Worker {
    fn name(&self) -> &str {
        "worker"
    }

    async fn run(self: Box<Self>, shutdown: Shutdown) -> Result<(), ServiceError> {
        let http = http_client::client(REQUEST)?;
        let conduit = Conduit::new(
            self.config.phabricator.url.clone(),
            self.config.phabricator.api_key.clone(),
            http,
        );
        let Some(names) = self.resolve(&conduit, &shutdown).await? else {
            return Ok(());
        };
        let triggers = triggers::Triggers {
            config: &self.config,
            conduit: &conduit,
            resolver: &names.resolver,
            names: &names.triggers,
            bus: &self.bus,
            clock: &self.clock,
        };
        let triggers = tokio::select! {
            triggers = triggers.services() => triggers?,
            () = shutdown.stopping() => return Ok(()),
        };
        let mut services = self.services(&conduit, names)?;
        services.extend(triggers);
        run_services(services, shutdown).await
    }
}

impl Names {
    /// Asks Phabricator. A token that is not accepted is named as that.
    async fn load(conduit: &Conduit, config: &Config) -> Result<Self, phabricator::ConduitError> {
        conduit.check().await?;
        let wanted: Vec<String> = config
            .repositories
            .iter()
            .map(|repository| repository.name.clone())
            .collect();
        let repositories = conduit.repositories(&wanted).await?;
        let names = ConfiguredNames {
            skipped_authors: config.skipped_authors.clone(),
            secure_projects: config.secure_projects.clone(),
        };
        let resolver = NameResolver::load(conduit, names)
            .await?
            .with_view_policies(config.view_policies.clone());
        let triggers = triggers::Names::load(conduit, &config.triggers).await?;
        Ok(Self {
            repositories,
            resolver,
            triggers,
        })
    }
}

/// The configured names that mean nothing on Phabricator.
pub(crate) async fn unknown_names(
    config: &Config,
    conduit: &Conduit,
) -> Result<Vec<String>, phabricator::ConduitError> {
    Ok(Names::load(conduit, config).await?.unknown(config))
}

impl Worker {
    /// `None` when the process is to stop first. A name that Phabricator does not know is an error.
    async fn resolve(
        &self,
        conduit: &Conduit,
        shutdown: &Shutdown,
    ) -> Result<Option<Names>, ServiceError> {
        let config = &self.config;
        for attempt in 1.. {
            let answer = tokio::select! {
                answer = Names::load(conduit, config) => answer,
                () = shutdown.stopping() => return Ok(None),
            };
            match answer {
                Ok(names) => {
                    let unknown = names.unknown(config);
                    if unknown.is_empty() {
                        return Ok(Some(names));
                    }
                    let unknown = unknown.join(", ");
                    return Err(format!(
                        "phabricator does not know: {unknown}; correct the configuration, or let our user see them"
                    )
                    .into());
                }
                Err(error) => {
                    if attempt == 1 {
                        let error: &dyn std::error::Error = &error;
                        warn!(
                            error,
                            "phabricator does not resolve the configured names; retrying"
                        );
                    }
                    tokio::select! {
                        () = self.clock.sleep(AWAY.after(attempt, self.clock.as_ref())) => {}
                        () = shutdown.stopping() => return Ok(None),
                    }
                }
            }
        }
        Ok(None)
    }

    fn services(
        &self,
        conduit: &Conduit,
        names: Names,
    ) -> Result<Vec<Box<dyn Service>>, ServiceError> {
        let Self { config, bus, clock } = self;
        let risk = !config.triggers.risk_analysis_users.is_empty();
        let queues = BuildQueues {
            risk: risk.then_some(BUGBUG),
            selection: config
                .triggers
                .test_selection
                .as_ref()
                .map(|_| BUGBUG_TRY_PUSH),
            ..BUILD_QUEUES
        };
        let log = BuildLog::new(config.build_retention, &environment::process(), queues);
        let rules = Rules {
            expiry: config.build_expiry,
            repositories: names.repositories.values().cloned().collect(),
        };
        let eligibility = Eligibility::new(conduit.clone(), names.resolver.clone(), rules);
        let guard = Arc::new(eligibility.clone());
        let settings = worker(&config.into(), &names.repositories)?;
        let mercurial = Arc::new(Mercurial::new());
        let patches = Arc::new(conduit.clone());
        let worker = worker::Worker::new(
            settings,
            mercurial,
            log.clone(),
            guard,
            patches,
            clock.clone(),
        )?;
        let slots = worker.clone_slots();
        let workflow = Workflow::new(eligibility, WorkflowSettings::default(), log.clone());
        let lando = config.lando.as_ref().filter(|lando| lando.publish);
        let warnings = lando.map(|lando| LandoWarnings {
            queue: LANDO,
            failures: lando.publish_failure,
        });
        let publisher = Publisher::new(conduit.clone(), config.phabricator.publish, log)
            .with_pages(config.pages.clone())
            .with_lando(warnings);
        if config.secure_projects.is_empty() {
            warn!(
                "secure_projects is empty: no project makes a revision private, only its view policy does"
            );
        }
        if config.view_policies == ViewPolicies::Any {
            warn!(
                "restricted_revisions is build: revisions with a restricted view policy are pushed when our user sees them"
            );
        }
        info!(
            "working on {} repositories: {}",
            names.repositories.len(),
            names
                .repositories
                .keys()
                .cloned()
                .collect::<Vec<_>>()
                .join(", ")
        );
        let mut services: Vec<Box<dyn Service>> = vec![
            Box::new(worker.clone_manager()),
            Box::new(names.resolver.refresher(conduit.clone(), clock.clone())),
            Box::new(
                Consumer::new(bus.clone(), clock.clone(), BUILD_LOAD, workflow)
                    .with_room_in(BUILD_PUSH.spec()),
            ),
            Box::new(
                Consumer::new(bus.clone(), clock.clone(), BUILD_PUSH, worker.handler())
                    .with_partitions(slots),
            ),
            Box::new(Consumer::new(
                bus.clone(),
                clock.clone(),
                BUILD_PUBLISH,
                publisher,
            )),
            Box::new(auditor(config, conduit, bus, clock)),
        ];
        if let Some(lando) = lando {
            let http = http_client::client(LANDO_REQUEST)?;
            let lando = Lando::new(lando.url.clone(), config.phabricator.api_key.clone(), http);
            services.push(Box::new(Consumer::new(
                bus.clone(),
                clock.clone(),
                LANDO,
                lando,
            )));
        }
        Ok(services)
    }
}

/// The log of builds, with records that are kept for this long, as this process writes them.
pub(crate) fn build_log(retention: Duration) -> BuildLog {
    BuildLog::new(retention, &environment::process(), BUILD_QUEUES)
}

/// The auditor of a deployment.
pub(crate) fn auditor(
    config: &Config,
    conduit: &Conduit,
    bus: &Arc<dyn Bus>,
    clock: &Arc<dyn Clock>,
) -> Auditor {
    let producer = Producer::new(bus.clone(), clock.clone());
    let plan = config.build_plan.clone();
    Auditor::new(
        conduit.clone(),
        build_log(config.build_retention),
        queues::of_builds(),
        producer,
        plan,
        config.build_expiry,
    )
}

/// The settings of the worker, for the repositories with these names on Phabricator. Fails when a path is
/// relative and the process is nowhere.
pub(crate) fn worker(
    config: &MercurialConfig,
    names: &BTreeMap<String, Phid>,
) -> io::Result<Settings> {
    let repositories = config.repositories.iter().filter_map(|repository| {
        let phid = names.get(&repository.name)?.clone();
        Some(RepositorySettings {
            try_name: repository.try_name.clone(),
            mode: repository.try_mode.clone(),
            default_revision: repository.default_revision.clone(),
            use_latest_revision: repository.use_latest_revision,
            ssh_user: repository.ssh_user.clone(),
            ssh_key: repository.ssh_key.clone(),
            clone_slots: repository.clone_slots,
            ..RepositorySettings::new(phid, &repository.name, &repository.url, &repository.try_url)
        })
    });
    // Programs that work on these run elsewhere.
    let known_hosts = config.known_hosts.as_deref().map(absolute).transpose()?;
    Ok(Settings {
        treeherder_url: config.treeherder_url.clone(),
        skippable_files: config.skippable_files.iter().cloned().collect(),
        build_expiry: config.build_expiry,
        known_hosts,
        tree_status: config.treestatus_url.clone(),
        disk_budget: config.clones_budget.map(|Size(bytes)| bytes),
        limits: Limits {
            stack_bytes: config.max_stack_size.0,
            apply_time: config.max_apply_time,
            author_time: config.max_author_time,
            ..Limits::default()
        },
        ..Settings::new(repositories.collect(), absolute(&config.clones_dir)?)
    })
}
