//! The keys of the Mercurial worker.

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use schemars::JsonSchema;
use serde::Deserialize;
use url::Url;
use worker::Size;

use super::{
    Config, Faults, RepositoryConfig,
    repository::RepositoryKeys,
    schema::Keys,
    values::{List, Secret, Text, Written},
};

pub(super) const BUILD_EXPIRY: Duration = Duration::from_secs(24 * 3600);
pub(super) const TREEHERDER: &str = "https://treeherder.mozilla.org";

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

/// The keys of the Mercurial worker.
#[derive(Default, Deserialize, JsonSchema)]
pub(super) struct MercurialKeys {
    /// The repositories that are built.
    #[schemars(required, extend("minItems" = 1))]
    repositories: Option<List<RepositoryKeys>>,
    /// The private key itself (not a path) of repositories without one.
    ssh_key: Option<Secret>,
    /// A diff that touches one of these paths is not built.
    skippable_files: Option<List<Text>>,
    /// The greatest age of a diff that is built.
    #[schemars(extend("default" = "24h"))]
    build_expiry: Option<Written<Duration>>,
    /// The directory of the clones, which are kept between starts.
    #[schemars(extend("default" = "clones"))]
    clones_dir: Option<Written<PathBuf>>,
    /// The most disk space for [the clones](../operate/operating.md#clones): a number with its unit, `200GB` or
    /// `500 MiB`.
    clones_budget: Option<Written<Size>>,
    /// The most bytes of files that [the patches of a stack](../use/patches.md#limits) may make, all together.
    #[schemars(extend("default" = "256MB"))]
    max_stack_size: Option<Written<Size>>,
    /// The most processor time for applying the patches of a build.
    #[schemars(extend("default" = "60s"))]
    max_apply_time: Option<Written<Duration>>,
    /// The most processor time for the builds of [one author](../use/patches.md#time-of-an-author) in ten minutes; further
    /// builds are deferred.
    #[schemars(extend("default" = "2m"))]
    max_author_time: Option<Written<Duration>>,
    /// The service that reports [closed trees](../design/worker.md#closed-trees); the worker requests `/trees/<try_name>`.
    /// Without it all trees count as open.
    treestatus_url: Option<Written<Url>>,
    /// A file with the host keys of the servers: ssh trusts these and no others. Without this key it trusts its usual files,
    /// `~/.ssh/known_hosts` of the worker's user and `/etc/ssh/ssh_known_hosts`. The file names a host with another port than
    /// 22 as `[host]:2222`, as `ssh-keyscan -p 2222 host` prints it.
    known_hosts: Option<Written<PathBuf>>,
    /// The Treeherder that shows the jobs of a push.
    #[schemars(extend("default" = TREEHERDER))]
    treeherder_url: Option<Written<Url>>,
}

/// Reads the keys. `None` when a repository is faulty.
pub(super) fn read(keys: &Keys<'_>) -> Option<MercurialConfig> {
    let read: MercurialKeys = keys.read();
    let ssh_key = read.ssh_key.map(|key| key.0);
    let at = keys.at("").child("repositories");
    let (mut repositories, mut names, mut is_faulty) = (Vec::new(), BTreeSet::new(), false);
    for (index, repository) in read.repositories.into_iter().flat_map(List::items) {
        let at = at.child(&index.to_string());
        if repository
            .name()
            .is_some_and(|name| !names.insert(name.to_owned()))
        {
            at.reject("name", "is the name of an earlier repository too");
        }
        match repository.read(&at, ssh_key.as_ref()) {
            Some(repository) => repositories.push(repository),
            None => is_faulty = true,
        }
    }
    let config = MercurialConfig {
        repositories,
        skippable_files: read.skippable_files.map(List::values).unwrap_or_default(),
        build_expiry: read.build_expiry.map_or(BUILD_EXPIRY, |value| value.0),
        clones_dir: read
            .clones_dir
            .map_or_else(|| PathBuf::from("clones"), |value| value.0),
        clones_budget: read.clones_budget.map(|value| value.0),
        max_stack_size: read.max_stack_size.map_or(MAX_STACK_SIZE, |value| value.0),
        max_apply_time: read.max_apply_time.map_or(MAX_APPLY_TIME, |value| value.0),
        max_author_time: read
            .max_author_time
            .map_or(MAX_AUTHOR_TIME, |value| value.0),
        treestatus_url: read.treestatus_url.map(|value| value.0),
        known_hosts: read.known_hosts.map(|value| value.0),
        treeherder_url: read
            .treeherder_url
            .map_or_else(|| TREEHERDER.to_owned(), |value| value.0.into()),
    };
    Some(config).filter(|_| !is_faulty)
}
