//! Builds: from Harbormaster's request to the answer on its target.

use std::{collections::BTreeMap, io, path::absolute, sync::Arc, time::Duration};

use build::eligibility::Rules;
use build::{Build, BuildLog, BuildQueues, BuildRequest, BuildUpdateMessage, Phid};
use bus::{Backoff, Bus, Policy, Producer};
use phabricator::{
    Auditor, Conduit, Eligibility, Publisher, ViewPolicies, Workflow, WorkflowSettings,
};
use runtime::Clock;
use tracing::{info, warn};
use worker::{Backend, Limits, RefPruner, RepositorySettings, Settings, Size, VcsSettings, Worker};
use worker_git::Git;
use worker_hg::Mercurial;

use super::{
    lando,
    names::Names,
    policies::{OUTSIDE, PUBLISHING},
    risk_analysis, test_selection,
};
use crate::{
    app::{App, queues},
    config::{Config, MercurialConfig},
    environment,
};

queues! {
    "builds" in [Worker, All];

    /// Requests of Harbormaster, until the revision is public. Phabricator may be away for five hours. A bound keeps a flood
    /// from filling Redis: beyond it the web server responds with 503.
    BUILD_LOAD: BuildRequest = "build:load" tracks builds, Policy {
        max_depth: Some(100_000),
        max_bytes: Some(64 << 20),
        backoff: OUTSIDE,
        attempts: 300,
        ..Policy::DEFAULT
    };

    /// Public builds whose stacks are known, to be applied and pushed: one after another for each repository. Their patches
    /// are loaded by the worker that applies them. The waits are 6 s, 36 s, 3.6 min and 21.6 min.
    BUILD_PUSH: Build = "build:push" by (|build| build.request.repository.to_string()) tracks builds, Policy {
        attempts: 5,
        // Beyond it the workflow loads no more stacks.
        max_bytes: Some(64 << 20),
        // Partitions keep it to one build for each repository; one that waits for its clone must not hold up another.
        concurrency: 64,
        backoff: Backoff {
            first: Duration::from_secs(6),
            factor: 6,
            cap: Duration::from_secs(1296),
        },
        ..Policy::DEFAULT
    };

    /// Updates to publish on build targets. Messages may overtake each other: the first that ends a target ends it, and
    /// Harbormaster ignores a `work` that comes later.
    BUILD_PUBLISH: BuildUpdateMessage = "build:publish" tracks builds, PUBLISHING;
}

/// The queues of builds, for whoever sends to them.
pub const BUILD_QUEUES: BuildQueues = BuildQueues::new(BUILD_LOAD, BUILD_PUSH, BUILD_PUBLISH);

/// The log of builds, with records that are kept for this long, as this process writes them.
pub(crate) fn build_log(retention: Duration) -> BuildLog {
    BuildLog::new(retention, &environment::process(), BUILD_QUEUES)
}

/// Installs workflow, worker, publisher and auditor.
pub(super) fn install(
    app: &mut App,
    config: &Config,
    conduit: &Conduit,
    names: &Names,
) -> anyhow::Result<()> {
    warn_of_gaps(config);
    let repositories: Vec<_> = names.repositories.keys().map(String::as_str).collect();
    info!(
        "working on {} repositories: {}",
        repositories.len(),
        repositories.join(", ")
    );
    let queues = BuildQueues {
        risk: risk_analysis::queue(config),
        selection: test_selection::queue(config),
        ..BUILD_QUEUES
    };
    let log = BuildLog::new(config.build_retention, &environment::process(), queues);
    let settings = worker_settings(&config.into(), &names.repositories)?;
    let built = settings.repositories.iter();
    let rules = Rules {
        expiry: config.build_expiry,
        repositories: built
            .map(|repository| (repository.phid.clone(), repository.vcs.kind()))
            .collect(),
    };
    let eligibility = Eligibility::new(conduit.clone(), names.resolver.clone(), rules);
    let pruner = RefPruner::new(
        settings.clone(),
        backend_of,
        log.clone(),
        Arc::new(conduit.clone()),
        app.bus.clone(),
        app.clock.clone(),
        "refs",
    );
    let worker = Worker::new(
        settings,
        backend_of,
        log.clone(),
        Arc::new(eligibility.clone()),
        Arc::new(conduit.clone()),
        app.clock.clone(),
    )?;
    let slots = worker.clone_slots();
    let workflow = Workflow::new(eligibility, WorkflowSettings::default(), log.clone());
    let publisher = Publisher::new(conduit.clone(), config.phabricator.publish, log)
        .with_docs_url(config.docs_url.clone())
        .with_lando(lando::warnings(config));
    app.service(worker.clone_manager());
    if pruner.has_repositories() {
        app.service(pruner);
    }
    app.service(names.resolver.refresher(conduit.clone(), app.clock.clone()));
    app.consumer_with(BUILD_LOAD, workflow, |consumer| {
        consumer.with_room_in(BUILD_PUSH.spec())
    });
    app.consumer_with(BUILD_PUSH, worker.handler(), |consumer| {
        consumer.with_partitions(slots)
    });
    app.consumer(BUILD_PUBLISH, publisher);
    app.service(auditor(config, conduit, &app.bus, &app.clock));
    Ok(())
}

fn warn_of_gaps(config: &Config) {
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
}

/// The auditor of a deployment.
pub(crate) fn auditor(
    config: &Config,
    conduit: &Conduit,
    bus: &Arc<dyn Bus>,
    clock: &Arc<dyn Clock>,
) -> Auditor {
    Auditor::new(
        conduit.clone(),
        build_log(config.build_retention),
        super::of_builds(),
        Producer::new(bus.clone(), clock.clone()),
        config.build_plan.clone(),
        config.build_expiry,
    )
}

/// The version control of a repository, and the destination of its heads.
pub(crate) fn backend_of(repository: &RepositorySettings) -> Backend {
    match repository.vcs {
        VcsSettings::Mercurial => Backend::new(Arc::new(Mercurial::new())),
        VcsSettings::Git(_) => Backend::new(Arc::new(Git::new())),
    }
}

/// The settings of the worker, for the repositories with these names on Phabricator. Fails when a path is
/// relative and the process has no working directory.
pub(crate) fn worker_settings(
    config: &MercurialConfig,
    names: &BTreeMap<String, Phid>,
) -> io::Result<Settings> {
    let repositories = config.repositories.iter().filter_map(|repository| {
        let phid = names.get(&repository.name)?.clone();
        Some(RepositorySettings {
            vcs: repository.vcs.clone(),
            lando: repository.lando.clone(),
            try_name: repository.try_name.clone(),
            mode: repository.try_mode.clone(),
            jobs_url: repository.jobs_url.clone(),
            default_revision: repository.default_revision.clone(),
            use_latest_revision: repository.use_latest_revision,
            base_mapping: repository.base_mapping.clone(),
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
