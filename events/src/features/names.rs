//! The names of the configuration, as Phabricator knows them.

use std::collections::{BTreeMap, BTreeSet};

use build::Phid;
use phabricator::{Conduit, ConduitError, ConfiguredNames, NameResolver};

use super::new_diffs;
use crate::config::{Config, HookConfig};

/// The names of the configuration that Phabricator knows, with their PHIDs.
pub(super) struct Names {
    /// The repositories of builds.
    pub(super) repositories: BTreeMap<String, Phid>,
    /// Skipped authors and secure projects.
    pub(super) resolver: NameResolver,
    hook_repositories: BTreeMap<String, Phid>,
    /// The users whose revisions have their risk analysed.
    pub(super) risk_analysis_users: BTreeMap<String, Phid>,
}

impl Names {
    /// Requests all names from Phabricator. A refused token is an error of its own.
    pub(super) async fn load(conduit: &Conduit, config: &Config) -> Result<Self, ConduitError> {
        conduit.check().await?;
        let wanted = config.repositories.iter();
        let wanted: Vec<String> = wanted.map(|repository| repository.name.clone()).collect();
        let repositories = conduit.repositories(&wanted).await?;
        let names = ConfiguredNames {
            skipped_authors: config.skipped_authors.clone(),
            secure_projects: config.secure_projects.clone(),
        };
        let resolver = NameResolver::load(conduit, names)
            .await?
            .with_view_policies(config.view_policies.clone());
        let wanted: Vec<String> = of_hooks(config).map(|(_, name)| name.clone()).collect();
        let hook_repositories = conduit.repositories(&wanted).await?;
        let risk_analysis_users = conduit.users(&config.triggers.risk_analysis_users).await?;
        Ok(Self {
            repositories,
            resolver,
            hook_repositories,
            risk_analysis_users,
        })
    }

    /// The configured names that Phabricator does not know, each with its place in the configuration.
    pub(super) fn unknown(&self, config: &Config) -> Vec<String> {
        let repositories = config
            .repositories
            .iter()
            .map(|repository| &repository.name)
            .filter(|name| !self.repositories.contains_key(*name))
            .map(|name| format!("repository {name}"));
        let of_hooks = of_hooks(config)
            .filter(|(_, name)| !self.hook_repositories.contains_key(*name))
            .map(|(hook, name)| {
                format!("repository {name} of the hook {}/{}", hook.group, hook.id)
            });
        let users = config
            .triggers
            .risk_analysis_users
            .iter()
            .filter(|name| !self.risk_analysis_users.contains_key(*name))
            .map(|name| format!("user {name} of risk_analysis_users"));
        repositories
            .chain(self.resolver.unknown())
            .chain(of_hooks)
            .chain(users)
            .collect()
    }

    /// The PHIDs of a hook's repositories.
    pub(super) fn hook_repositories(&self, names: &[String]) -> BTreeSet<Phid> {
        let known = names
            .iter()
            .filter_map(|name| self.hook_repositories.get(name));
        known.cloned().collect()
    }
}

/// Each hook for new diffs with each of its repositories.
fn of_hooks(config: &Config) -> impl Iterator<Item = (&HookConfig, &String)> {
    let hooks = config.triggers.hooks.iter();
    hooks.flat_map(|hook| {
        new_diffs::repositories(hook)
            .iter()
            .map(move |name| (hook, name))
    })
}

/// The configured names that Phabricator does not know.
pub(crate) async fn unknown_names(
    config: &Config,
    conduit: &Conduit,
) -> Result<Vec<String>, ConduitError> {
    Ok(Names::load(conduit, config).await?.unknown(config))
}
