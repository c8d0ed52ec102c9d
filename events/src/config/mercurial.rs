//! The keys of the Mercurial worker.

use std::{path::PathBuf, time::Duration};

use secrecy::SecretString;
use url::Url;
use worker::Size;

use super::{Config, Faults, RepositoryConfig, reader::Section, repository};

pub(super) const MAX_STACK_SIZE: Size = Size(256_000_000);
pub(super) const MAX_APPLY_TIME: Duration = Duration::from_secs(60);
pub(super) const MAX_AUTHOR_TIME: Duration = Duration::from_secs(120);

/// The repositories that are built, and how. It is all that commands on clones need.
#[derive(Clone)]
pub struct MercurialConfig {
    /// The repositories that are built.
    pub repositories: Vec<RepositoryConfig>,
    /// A diff that touches one of these files is not built.
    pub skippable_files: Vec<String>,
    /// A diff that is older is not built any more.
    pub build_expiry: Duration,
    /// Where clones are kept.
    pub clones_dir: PathBuf,
    /// How much they may take on the disk.
    pub clones_budget: Option<Size>,
    /// The most bytes of files that the patches of one stack may make.
    pub max_stack_size: Size,
    /// The processor time for applying the patches of one build.
    pub max_apply_time: Duration,
    /// The processor time for applying the patches of one author within ten minutes.
    pub max_author_time: Duration,
    /// The service that says which trees are closed.
    pub treestatus_url: Option<Url>,
    /// The host keys of the servers that are pushed to, in the form of ssh.
    pub known_hosts: Option<PathBuf>,
    /// Where the jobs of a push are shown.
    pub treeherder_url: String,
}

impl MercurialConfig {
    /// Reads these keys of a document, and ignores the others.
    pub fn parse(text: &str) -> (Option<Self>, Faults) {
        super::parse(text, read)
    }
}

impl From<&Config> for MercurialConfig {
    fn from(config: &Config) -> Self {
        Self {
            repositories: config.repositories.clone(),
            skippable_files: config.skippable_files.clone(),
            build_expiry: config.build_expiry,
            clones_dir: config.clones_dir.clone(),
            clones_budget: config.clones_budget,
            max_stack_size: config.max_stack_size,
            max_apply_time: config.max_apply_time,
            max_author_time: config.max_author_time,
            treestatus_url: config.treestatus_url.clone(),
            known_hosts: config.known_hosts.clone(),
            treeherder_url: config.treeherder_url.clone(),
        }
    }
}

/// Reads the keys. `None` when a repository is faulty.
pub(super) fn read(keys: &Section<'_>) -> Option<MercurialConfig> {
    let ssh_key: Option<SecretString> = keys.optional("ssh_key");
    let sections = keys.sections("repositories");
    let count = sections.len();
    let repositories: Vec<_> = sections
        .iter()
        .filter_map(|section| repository::read(section, ssh_key.as_ref()))
        .collect();
    for (at, section) in sections.iter().enumerate() {
        let name: Option<String> = section.optional("name");
        if name.is_some()
            && sections[..at]
                .iter()
                .any(|earlier| earlier.optional::<String>("name") == name)
        {
            section.reject("name", "is the name of an earlier repository too");
        }
    }
    let treeherder_url: Option<Url> = keys.optional("treeherder_url");
    let config = MercurialConfig {
        repositories,
        skippable_files: keys.optional("skippable_files").unwrap_or_default(),
        build_expiry: keys
            .optional("build_expiry")
            .unwrap_or(Duration::from_secs(24 * 3600)),
        clones_dir: keys
            .optional("clones_dir")
            .unwrap_or_else(|| PathBuf::from("clones")),
        clones_budget: keys.optional("clones_budget"),
        max_stack_size: keys.optional("max_stack_size").unwrap_or(MAX_STACK_SIZE),
        max_apply_time: keys.optional("max_apply_time").unwrap_or(MAX_APPLY_TIME),
        max_author_time: keys.optional("max_author_time").unwrap_or(MAX_AUTHOR_TIME),
        treestatus_url: keys.optional("treestatus_url"),
        known_hosts: keys.optional("known_hosts"),
        treeherder_url: treeherder_url
            .map_or_else(|| "https://treeherder.mozilla.org".to_owned(), String::from),
    };
    Some(config).filter(|config| config.repositories.len() == count)
}
