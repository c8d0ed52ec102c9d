//! What is triggered on Taskcluster, as it is configured: who listens, polls, triggers, watches and reports.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use build::{NewDiff, Phid};
use bus::{Bus, Consumer, Producer, Queue, RecordStore};
use phabricator::{Conduit, ConduitError, DiffPoller, NameResolver, TestResultPublisher};
use pulse::{Listener, PulseMessage, PulseSettings, Route, Topic};
use runtime::{Clock, Service, ServiceError, error_chain};
use taskcluster::{Taskcluster, TaskclusterError};
use tokio::time::timeout;
use tracing::{info, warn};
use triggers::{
    CoverageBuilds, DiffAnalysis, HookName, HookRunner, HookTask, Landing, Mailer,
    PostLandingReview, PublishedCommits, ReportScope, Reporter, RiskAnalysis, SelectionQueues,
    SelectionResultHandler, SelectionStart, TaskWatcher, TestResultHandler, Trigger,
};

use super::{build_log, services};
use crate::{
    config::{Config, HookConfig, HookSource, TestSelectionConfig, TriggersConfig},
    each::{Each, Wanted},
    queues::{
        BUGBUG, BUGBUG_TRY_PUSH, BUILD_PUBLISH_TESTS, DIFFS, HOOK_TASKS, HOOK_TASKS_COMMUNITY,
        HOOKS, HOOKS_COMMUNITY, MAILS, PULSE_COVERAGE, PULSE_LANDED, PULSE_MOZREVIEW,
        PULSE_SELECTED, PULSE_TESTS,
    },
};

const GROUPS: &str = "exchange/taskcluster-queue/v1/task-group-resolved";
const COMPLETED: &str = "exchange/taskcluster-queue/v1/task-completed";
/// The ends of tasks.
const ENDS: [&str; 3] = [
    COMPLETED,
    "exchange/taskcluster-queue/v1/task-failed",
    "exchange/taskcluster-queue/v1/task-exception",
];
const MOZREVIEW: &str = "exchange/mozreview/";
/// Groups of the repositories of products, and those of Try.
const LEVEL_3: &str = "#.gecko-level-3.#";
const LEVEL_1: &str = "#.gecko-level-1.#";
const SELECTED: &str = "route.project.bugbug.test_select";

/// How long outcomes of tasks are kept. A report is made more often.
const RETENTION: Duration = Duration::from_secs(30 * 24 * 3600);

/// How long the start waits for the word of a Taskcluster.
const CHECK: Duration = Duration::from_secs(10);

/// What the configured names mean on Phabricator.
#[derive(Default)]
pub(super) struct Names {
    repositories: BTreeMap<String, Phid>,
    users: BTreeMap<String, Phid>,
}

impl Names {
    pub(super) async fn load(
        conduit: &Conduit,
        config: &TriggersConfig,
    ) -> Result<Self, ConduitError> {
        let repositories: Vec<String> = config
            .hooks
            .iter()
            .flat_map(repositories)
            .cloned()
            .collect();
        let repositories = conduit.repositories(&repositories).await?;
        let users = conduit.users(&config.risk_analysis_users).await?;
        Ok(Self {
            repositories,
            users,
        })
    }

    /// The configured names that mean nothing.
    pub(super) fn unknown(&self, config: &TriggersConfig) -> Vec<String> {
        let of_hooks = config
            .hooks
            .iter()
            .flat_map(|hook| repositories(hook).iter().map(move |name| (hook, name)));
        let unknown = of_hooks.filter(|(_, name)| !self.repositories.contains_key(*name));
        let users = config
            .risk_analysis_users
            .iter()
            .filter(|name| !self.users.contains_key(*name));
        unknown
            .map(|(hook, name)| format!("repository {name} of the hook {}/{}", hook.group, hook.id))
            .chain(users.map(|name| format!("user {name} of risk_analysis_users")))
            .collect()
    }

    fn of(&self, names: &[String]) -> BTreeSet<Phid> {
        names
            .iter()
            .filter_map(|name| self.repositories.get(name))
            .cloned()
            .collect()
    }
}

fn repositories(hook: &HookConfig) -> &[String] {
    match &hook.source {
        HookSource::Phabricator { repositories, .. } => repositories,
        HookSource::Mozreview { .. } | HookSource::CodeCoverage { .. } => &[],
    }
}

/// What the parts have in common.
pub(super) struct Triggers<'a> {
    pub(super) config: &'a Config,
    pub(super) conduit: &'a Conduit,
    pub(super) resolver: &'a NameResolver,
    pub(super) names: &'a Names,
    pub(super) bus: &'a Arc<dyn Bus>,
    pub(super) clock: &'a Arc<dyn Clock>,
}

/// A Taskcluster, and the queues and records of its tasks.
#[derive(Clone)]
pub(crate) struct Deployment {
    /// What people call it.
    pub(crate) name: &'static str,
    pub(crate) client: Taskcluster,
    /// The same under its public address, and for what is open to all.
    pub(crate) public: Taskcluster,
    hooks: Queue<Trigger>,
    hook_tasks: Queue<HookTask>,
    pub(crate) tasks: RecordStore,
}

impl Deployment {
    /// The deployments that the configuration and the environment name: that of Firefox, and the community's.
    pub(crate) fn all(
        config: &TriggersConfig,
        clock: &Arc<dyn Clock>,
    ) -> anyhow::Result<(Option<Self>, Option<Self>)> {
        let firefox =
            services::firefox(config.taskcluster.as_ref(), clock)?.map(|(client, public)| Self {
                name: "Firefox",
                client,
                public,
                hooks: HOOKS,
                hook_tasks: HOOK_TASKS,
                tasks: RecordStore {
                    name: "tasks",
                    retention: RETENTION,
                },
            });
        let community = config.community.as_ref();
        let community = community
            .map(|community| services::configured(community, clock))
            .transpose()?;
        let community = community.map(|(client, public)| Self {
            name: "the community",
            client,
            public,
            hooks: HOOKS_COMMUNITY,
            hook_tasks: HOOK_TASKS_COMMUNITY,
            tasks: RecordStore {
                name: "tasks:community",
                retention: RETENTION,
            },
        });
        Ok((firefox, community))
    }

    /// Credentials that are refused stop the start; a Taskcluster that is away does not.
    async fn check(&self, for_what: &str) -> Result<(), ServiceError> {
        match timeout(CHECK, self.client.ping()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(
                error @ (TaskclusterError::Credentials { .. } | TaskclusterError::Unsigned { .. }),
            )) => Err(format!(
                "{for_what} cannot work on the Taskcluster of {}: {error}",
                self.name
            )
            .into()),
            Ok(Err(error)) => {
                warn!(
                    error = error_chain(&error),
                    "the Taskcluster of {} cannot be asked yet", self.name
                );
                Ok(())
            }
            Err(_) => {
                warn!("the Taskcluster of {} does not answer yet", self.name);
                Ok(())
            }
        }
    }

    /// What reports on its tasks.
    pub(crate) fn reporter(&self, config: &TriggersConfig, producer: Producer) -> Reporter {
        let scope = ReportScope {
            name: self.name.to_owned(),
            root: self.public.root().clone(),
        };
        Reporter::new(
            scope,
            self.tasks,
            MAILS,
            config.admins.clone(),
            producer,
            config.monitoring_period,
        )
    }
}

impl Triggers<'_> {
    /// Everything that is configured, each with a line that says so.
    pub(super) async fn services(&self) -> Result<Vec<Box<dyn Service>>, ServiceError> {
        let config = &self.config.triggers;
        let mut services: Vec<Box<dyn Service>> = Vec::new();
        let Some(what) = first_need(config) else {
            return Ok(services);
        };
        let (firefox, community) = Deployment::all(config, self.clock)?;
        let Some(firefox) = firefox else {
            return Err(format!(
                "{what} needs Taskcluster: set taskcluster with client_id and access_token, or TASKCLUSTER_CLIENT_ID and \
                 TASKCLUSTER_ACCESS_TOKEN, or TASKCLUSTER_PROXY_URL"
            )
            .into());
        };
        firefox.check(&what).await?;
        self.deployment(&firefox, &mut services);
        if let Some(community) = &community {
            if let Some(what) = need_of_community(config) {
                community.check(what).await?;
            }
            // Also while nothing is triggered there any more: tasks of before may not have ended.
            self.deployment(community, &mut services);
        }
        services.push(self.consumer(MAILS, Mailer::new(firefox.client.clone())));
        let mut routes = self.hooks(&firefox, &mut services)?;
        routes.extend(self.landed(&firefox, &mut services)?);
        if let (Some(deployment), Some(_)) = (&config.bugbug_deployment, &community)
            && !config.risk_analysis_users.is_empty()
        {
            info!(
                "risk analysis: for what {} people write or review",
                self.names.users.len()
            );
            let users = self.names.users.values().cloned().collect();
            services.push(self.consumer(
                BUGBUG,
                RiskAnalysis::new(deployment.clone(), users, HOOKS_COMMUNITY),
            ));
        }
        if let (Some(selection), Some(deployment), Some(community)) = (
            &config.test_selection,
            &config.bugbug_deployment,
            &community,
        ) {
            routes.extend(self.selection(
                selection,
                deployment,
                &firefox,
                community,
                &mut services,
            )?);
        }
        if let Some(pulse) = &config.pulse
            && !routes.is_empty()
        {
            services.push(self.listener(services::pulse(pulse)?, "events", routes)?);
        }
        Ok(services)
    }

    fn producer(&self) -> Producer {
        Producer::new(Arc::clone(self.bus), Arc::clone(self.clock))
    }

    fn consumer<M: bus::Message, H: bus::Handler<M>>(
        &self,
        queue: Queue<M>,
        handler: H,
    ) -> Box<dyn Service> {
        Box::new(Consumer::new(
            Arc::clone(self.bus),
            Arc::clone(self.clock),
            queue,
            handler,
        ))
    }

    fn listener(
        &self,
        settings: PulseSettings,
        owner: &str,
        routes: Vec<Route>,
    ) -> Result<Box<dyn Service>, ServiceError> {
        let exchanges: BTreeSet<&str> =
            routes.iter().map(|route| route.exchange.as_str()).collect();
        let exchanges = Vec::from_iter(exchanges).join(", ");
        info!(
            "pulse: listening as {} on {} to {exchanges}",
            settings.user, settings.address
        );
        // Deployments may share a user.
        let name = format!("{owner}-{}", self.config.triggers.channel);
        Ok(Box::new(Listener::new(
            settings,
            &name,
            routes,
            self.producer(),
        )?))
    }

    /// Triggers hooks of a deployment, watches their tasks, and reports.
    fn deployment(&self, deployment: &Deployment, services: &mut Vec<Box<dyn Service>>) {
        let Deployment {
            name,
            client,
            hooks,
            hook_tasks,
            tasks,
            ..
        } = deployment;
        let config = &self.config.triggers;
        info!(
            "taskcluster: triggering and watching on that of {name}, {}",
            client.root().host_str().unwrap_or_default()
        );
        services.push(self.consumer(*hooks, HookRunner::new(client.clone(), hooks, *hook_tasks)));
        services.push(self.consumer(
            *hook_tasks,
            TaskWatcher::new(client.clone(), *hook_tasks, *tasks),
        ));
        if config.admins.is_empty() {
            warn!("admins is empty: nobody is sent a report on tasks");
        } else {
            services.push(Box::new(deployment.reporter(config, self.producer())));
        }
    }

    /// The hooks of the configuration. Returns what they want from Pulse.
    fn hooks(
        &self,
        firefox: &Deployment,
        services: &mut Vec<Box<dyn Service>>,
    ) -> Result<Vec<Route>, ServiceError> {
        let (mut routes, mut coverage, mut commits, mut diffs) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let (mut watched, mut every) = (BTreeSet::new(), None);
        for HookConfig { group, id, source } in &self.config.triggers.hooks {
            let hook = HookName::new(group, id);
            match source {
                HookSource::CodeCoverage { topic } => {
                    info!("code coverage: triggering {hook} for {topic}");
                    let topic: Topic = topic.parse()?;
                    routes.push(route(GROUPS, std::slice::from_ref(&topic), PULSE_COVERAGE));
                    let wanted: Wanted<PulseMessage> = Box::new(move |message| {
                        message.routing.keys().any(|key| topic.matches(key))
                    });
                    coverage.push((
                        wanted,
                        CoverageBuilds::new(firefox.client.clone(), hook, HOOKS),
                    ));
                }
                HookSource::Mozreview { repository_url } => {
                    info!("mozreview: triggering {hook} for commits of {repository_url}");
                    routes.push(route(
                        MOZREVIEW,
                        &["mozreview.commits.published".parse()?],
                        PULSE_MOZREVIEW,
                    ));
                    let all: Wanted<PulseMessage> = Box::new(|_| true);
                    commits.push((
                        all,
                        PublishedCommits::new(repository_url.clone(), hook, HOOKS),
                    ));
                }
                HookSource::Phabricator {
                    repositories,
                    interval,
                } => {
                    info!(
                        "phabricator: triggering {hook} for new diffs of {}",
                        repositories.join(", ")
                    );
                    let of_hook = self.names.of(repositories);
                    watched.extend(of_hook.clone());
                    every = Some(every.map_or(*interval, |every| interval.min(&every).to_owned()));
                    let wanted: Wanted<NewDiff> =
                        Box::new(move |diff| of_hook.contains(&diff.repository));
                    diffs.push((wanted, DiffAnalysis::new(hook, HOOKS)));
                }
            }
        }
        if !coverage.is_empty() {
            services.push(self.consumer(PULSE_COVERAGE, Each(coverage)));
        }
        if !commits.is_empty() {
            services.push(self.consumer(PULSE_MOZREVIEW, Each(commits)));
        }
        if let Some(every) = every {
            services.push(self.consumer(DIFFS, Each(diffs)));
            let (conduit, resolver) = (self.conduit.clone(), self.resolver.clone());
            services.push(Box::new(DiffPoller::new(
                conduit,
                resolver,
                watched,
                DIFFS,
                self.producer(),
                every,
            )));
        }
        Ok(routes)
    }

    /// Code review of what landed.
    fn landed(
        &self,
        firefox: &Deployment,
        services: &mut Vec<Box<dyn Service>>,
    ) -> Result<Vec<Route>, ServiceError> {
        let config = &self.config.triggers;
        let landings = [
            (config.autoland, Landing::Autoland),
            (config.mozilla_central, Landing::MozillaCentral),
        ];
        let reviews: Vec<_> = landings
            .into_iter()
            .filter(|(on, _)| *on)
            .map(|(_, landing)| {
                info!(
                    "code review: triggering code-review-{} for {landing:?}",
                    config.channel
                );
                let all: Wanted<PulseMessage> = Box::new(|_| true);
                (
                    all,
                    PostLandingReview::new(firefox.client.clone(), landing, &config.channel, HOOKS),
                )
            })
            .collect();
        if reviews.is_empty() {
            return Ok(Vec::new());
        }
        services.push(self.consumer(PULSE_LANDED, Each(reviews)));
        Ok(vec![route(GROUPS, &[LEVEL_3.parse()?], PULSE_LANDED)])
    }

    /// Test selection. It listens to the community's Pulse by itself.
    fn selection(
        &self,
        selection: &TestSelectionConfig,
        deployment: &str,
        firefox: &Deployment,
        community: &Deployment,
        services: &mut Vec<Box<dyn Service>>,
    ) -> Result<Vec<Route>, ServiceError> {
        info!(
            "test selection: for {:.0} % of pushes",
            100.0 * selection.share
        );
        let start = SelectionStart::new(
            selection.share,
            deployment.to_owned(),
            firefox.public.clone(),
            HOOKS_COMMUNITY,
        );
        let queues = SelectionQueues {
            hooks: HOOKS,
            mails: MAILS,
        };
        let (of_community, of_firefox) = (community.client.clone(), firefox.client.clone());
        let end = SelectionResultHandler::new(
            deployment.to_owned(),
            of_community,
            of_firefox,
            queues,
            selection.notify.clone(),
        );
        let publish = self.config.phabricator.publish;
        let publisher = TestResultPublisher::new(
            self.conduit.clone(),
            publish,
            build_log(self.config.build_retention),
        );
        services.push(self.consumer(BUGBUG_TRY_PUSH, start));
        services.push(self.consumer(PULSE_SELECTED, end));
        services.push(self.consumer(
            PULSE_TESTS,
            TestResultHandler::new(firefox.client.clone(), BUILD_PUBLISH_TESTS),
        ));
        services.push(self.consumer(BUILD_PUBLISH_TESTS, publisher));
        if let Some(pulse) = &self.config.triggers.community_pulse {
            let routes = vec![route(COMPLETED, &[SELECTED.parse()?], PULSE_SELECTED)];
            services.push(self.listener(services::pulse(pulse)?, "events-community", routes)?);
        }
        let topic: Topic = LEVEL_1.parse()?;
        Ok(ENDS
            .map(|exchange| route(exchange, std::slice::from_ref(&topic), PULSE_TESTS))
            .into())
    }
}

/// Something that is configured and needs Taskcluster.
fn first_need(config: &TriggersConfig) -> Option<String> {
    let hook = config
        .hooks
        .first()
        .map(|hook| format!("the hook {}/{}", hook.group, hook.id));
    let landings = [
        (config.autoland, "autoland_enabled"),
        (config.mozilla_central, "mozilla_central_enabled"),
    ];
    let landing = landings.iter().find(|(on, _)| *on).map(|(_, key)| *key);
    hook.or_else(|| {
        landing
            .or_else(|| need_of_community(config))
            .map(str::to_owned)
    })
}

/// Something that needs that of the community, too.
fn need_of_community(config: &TriggersConfig) -> Option<&'static str> {
    let selection = config
        .test_selection
        .as_ref()
        .map(|_| "test_selection_enabled");
    selection.or_else(|| (!config.risk_analysis_users.is_empty()).then_some("risk_analysis_users"))
}

fn route(exchange: &str, topics: &[Topic], queue: Queue<PulseMessage>) -> Route {
    Route {
        exchange: exchange.to_owned(),
        topics: topics.to_vec(),
        queue,
    }
}
