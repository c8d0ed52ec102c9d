//! Hooks of Taskcluster: triggers them, watches their tasks, and reports on both by mail.

use std::{sync::Arc, time::Duration};

use ::triggers::{HookRunner, HookTask, Mailer, ReportScope, Reporter, TaskWatcher, Trigger};
use bus::{Producer, Queue, RecordStore};
use runtime::{Clock, ServiceError, error_chain};
use taskcluster::{Email, Taskcluster, TaskclusterError};
use tokio::time::timeout;
use tracing::{info, warn};

use super::policies::ELSEWHERE;
use crate::{
    app::{App, queues},
    clients,
    config::TriggersConfig,
};

queues! {
    "hooks" in [Worker, All];

    /// Hooks to trigger.
    HOOKS: Trigger = "hooks", ELSEWHERE;
    /// Hooks to trigger on the community's Taskcluster.
    HOOKS_COMMUNITY: Trigger = "hooks:community", ELSEWHERE;
    /// Tasks of hooks, until they end.
    HOOK_TASKS: HookTask = "hook-tasks", ELSEWHERE;
    /// The same on the community's Taskcluster.
    HOOK_TASKS_COMMUNITY: HookTask = "hook-tasks:community", ELSEWHERE;
    /// Mails, one for each address.
    MAILS: Email = "mails", ELSEWHERE;
}

/// The retention of outcomes of tasks. A report is made more often.
const RETENTION: Duration = Duration::from_secs(30 * 24 * 3600);

/// The longest that the start waits for the response of a Taskcluster.
const CHECK: Duration = Duration::from_secs(10);

/// A Taskcluster, and the queues and records of its tasks.
#[derive(Clone)]
pub(crate) struct Deployment {
    /// The name in logs and reports.
    pub(crate) name: &'static str,
    pub(crate) client: Taskcluster,
    /// The same under its public address, for what is public.
    pub(crate) public: Taskcluster,
    hooks: Queue<Trigger>,
    hook_tasks: Queue<HookTask>,
    tasks: RecordStore,
}

impl Deployment {
    /// The deployments that the configuration and the environment name: that of Firefox, and the community's.
    pub(crate) fn all(
        config: &TriggersConfig,
        clock: &Arc<dyn Clock>,
    ) -> anyhow::Result<(Option<Self>, Option<Self>)> {
        let firefox =
            clients::firefox(config.taskcluster.as_ref(), clock)?.map(|(client, public)| Self {
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
            .map(|community| clients::configured(community, clock))
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

    /// Credentials that are refused stop the start; a Taskcluster that is away does not. `needed_by` is what works there.
    pub(super) async fn check(&self, needed_by: &str) -> Result<(), ServiceError> {
        match timeout(CHECK, self.client.ping()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(
                error @ (TaskclusterError::Credentials { .. } | TaskclusterError::Unsigned { .. }),
            )) => Err(format!(
                "{needed_by} cannot work on the Taskcluster of {}: {error}",
                self.name
            )
            .into()),
            Ok(Err(error)) => {
                warn!(
                    error = error_chain(&error),
                    "the Taskcluster of {} cannot be reached; its messages are deferred until it can",
                    self.name
                );
                Ok(())
            }
            Err(_) => {
                warn!(
                    "the Taskcluster of {} does not respond; its messages are deferred until it does",
                    self.name
                );
                Ok(())
            }
        }
    }

    /// The reporter on its tasks.
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

    /// Installs what triggers its hooks, watches their tasks, and reports.
    fn install(&self, app: &mut App, config: &TriggersConfig) {
        let client = &self.client;
        info!(
            "taskcluster: triggering hooks and watching their tasks on that of {}, {}",
            self.name,
            client.root().host_str().unwrap_or_default()
        );
        app.consumer(
            self.hooks,
            HookRunner::new(client.clone(), &self.hooks, self.hook_tasks),
        );
        app.consumer(
            self.hook_tasks,
            TaskWatcher::new(client.clone(), self.hook_tasks, self.tasks),
        );
        if config.admins.is_empty() {
            warn!("admins is empty: reports on tasks are sent to nobody");
        } else {
            let producer = app.producer();
            app.service(self.reporter(config, producer));
        }
    }
}

/// Installs both deployments, and mails. That of the community also while nothing is triggered there any more: tasks of
/// before may not have ended.
pub(super) fn install(
    app: &mut App,
    config: &TriggersConfig,
    firefox: &Deployment,
    community: Option<&Deployment>,
) {
    firefox.install(app, config);
    if let Some(community) = community {
        community.install(app, config);
    }
    app.consumer(MAILS, Mailer::new(firefox.client.clone()));
}
