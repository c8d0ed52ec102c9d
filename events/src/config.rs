//! The configuration: the YAML document that operators of the original have already, with the sections `common` and
//! `events`, where `events` overrides `common`. `docs/configuration.md` lists the keys.

mod fault;
mod notify;
pub mod pulse;
mod reader;
mod repository;
mod telemetry;
#[cfg(test)]
mod tests;
mod triggers;

use std::{
    cell::RefCell,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use phabricator::model::Phid;
use saphyr::{LoadableYamlNode, MarkedYaml};
use secrecy::{ExposeSecret, SecretString};
use thiserror::Error;
use url::Url;
use worker_hg::Size;

use self::reader::{FromYaml, Section};
pub use self::{
    fault::{Fault, Faults},
    notify::{NotifierConfig, NotifyConfig, Values},
    pulse::Variables,
    repository::RepositoryConfig,
    telemetry::{HgPushesConfig, TelemetryConfig, TelemetryFaults},
    triggers::{FIREFOX, HookConfig, HookSource, PulseConfig, TaskclusterConfig, TestSelectionConfig, TriggersConfig},
};

/// Everything that a deployment sets. Not to be shown: addresses may hold passwords.
#[derive(Clone)]
pub struct Config {
    /// Where Phabricator is.
    pub phabricator: PhabricatorConfig,
    /// Where Lando is.
    pub lando: Option<LandoConfig>,
    /// The repositories that are built.
    pub repositories: Vec<RepositoryConfig>,
    /// Authors whose diffs are not built, by username.
    pub skipped_authors: Vec<String>,
    /// The projects whose revisions are private, by slug.
    pub secure_projects: Vec<String>,
    /// A diff that touches one of these files is not built.
    pub skippable_files: Vec<String>,
    /// A diff that is older is not built any more.
    pub build_expiry: Duration,
    /// The build plan that calls us, by its PHID: the audit looks for builds of it whose request never came.
    pub build_plan: Option<Phid>,
    /// How long what is known of a build is kept after its last change.
    pub build_retention: Duration,
    /// What Harbormaster must know to be heard.
    pub webhook_secret: Option<SecretString>,
    /// What a client of the API must know. Without it there is no API.
    pub api_token: Option<SecretString>,
    /// Where clones are kept.
    pub clones_dir: PathBuf,
    /// How much they may take on the disk.
    pub clones_budget: Option<Size>,
    /// The service that says which trees are closed.
    pub treestatus_url: Option<Url>,
    /// The host keys of the servers that are pushed to, in the form of ssh.
    pub known_hosts: Option<PathBuf>,
    /// Where the jobs of a push are shown.
    pub treeherder_url: String,
    /// Comes before all keys in Redis.
    pub redis_namespace: String,
    /// What is triggered on Taskcluster, and by what.
    pub triggers: TriggersConfig,
    /// Who is told of tasks, and how.
    pub notify: NotifyConfig,
}

/// Where Phabricator is.
#[derive(Clone)]
pub struct PhabricatorConfig {
    /// Its base url.
    pub url: Url,
    /// The Conduit token of our user.
    pub api_key: SecretString,
    /// Whether anything is written to it.
    pub publish: bool,
}

/// Where Lando is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LandoConfig {
    /// The base url of its API.
    pub url: Url,
    /// Whether warnings are shown there.
    pub publish: bool,
    /// Whether that a build failed by our fault is one.
    pub publish_failure: bool,
}

/// Why there is no configuration.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// It is not right.
    #[error("the configuration {} cannot be used:\n{faults}", path.display())]
    Faulty {
        /// The file.
        path: PathBuf,
        /// Everything that is wrong.
        faults: Faults,
    },
}

/// Keys of the original that nothing reads yet: operators may hand us their file as it is.
const NOT_YET: &[&str] = &["SENTRY_DSN"];

/// What comes before all keys in Redis, where nothing else is set.
const REDIS_NAMESPACE: &str = "events";

/// A secret with fewer characters can be guessed.
const SHORT: usize = 16;

impl Config {
    /// A configuration with the usual values for everything that has one.
    pub fn new(phabricator: PhabricatorConfig, repositories: Vec<RepositoryConfig>) -> Self {
        Self {
            phabricator,
            lando: None,
            repositories,
            skipped_authors: Vec::new(),
            secure_projects: vec!["secure-revision".to_owned()],
            skippable_files: Vec::new(),
            build_expiry: Duration::from_secs(24 * 3600),
            build_plan: None,
            build_retention: Duration::from_secs(30 * 24 * 3600),
            webhook_secret: None,
            api_token: None,
            clones_dir: PathBuf::from("clones"),
            clones_budget: None,
            treestatus_url: None,
            known_hosts: None,
            treeherder_url: "https://treeherder.mozilla.org".to_owned(),
            redis_namespace: REDIS_NAMESPACE.to_owned(),
            triggers: TriggersConfig::default(),
            notify: NotifyConfig::default(),
        }
    }

    /// Reads the file at `path`. Warnings come with the configuration.
    pub fn load(path: &Path) -> Result<(Self, Faults), ConfigError> {
        load(path, Self::parse)
    }

    /// Reads a document, and finds everything that is wrong with it. `None` exactly when there is an error.
    pub fn parse(text: &str) -> (Option<Self>, Faults) {
        parse(text, read)
    }
}

/// Reads the file at `path` with `parse`.
fn load<T>(path: &Path, parse: fn(&str) -> (Option<T>, Faults)) -> Result<(T, Faults), ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    let (config, faults) = parse(&text);
    match config {
        Some(config) => Ok((config, faults)),
        None => Err(ConfigError::Faulty { path: path.to_owned(), faults }),
    }
}

/// Has `read` read the keys of a document: those of its section `events`, and what `common` has beside them.
fn parse<T>(text: &str, read: fn(&Section<'_>) -> Option<T>) -> (Option<T>, Faults) {
    let faults = RefCell::new(Faults::default());
    let config = match MarkedYaml::load_from_str(text) {
        Ok(documents) if documents.len() > 1 => {
            let line = documents[1].span.start.line();
            let message = "there is a second document, expected one".to_owned();
            faults.borrow_mut().errors.push(Fault { path: "document".to_owned(), line, message });
            None
        }
        Ok(documents) => documents.first().map_or_else(
            || {
                let message = "the document is empty, expected the sections common and events".to_owned();
                faults.borrow_mut().errors.push(Fault { path: "document".to_owned(), line: 1, message });
                None
            },
            |document| read(&keys(document, &faults)?),
        ),
        Err(error) => {
            let (line, message) = (error.marker().line(), format!("not YAML: {}", error.info()));
            faults.borrow_mut().errors.push(Fault { path: "document".to_owned(), line, message });
            None
        }
    };
    let mut faults = faults.into_inner();
    faults.sort();
    (config.filter(|_| faults.errors.is_empty()), faults)
}

fn keys<'a>(document: &'a MarkedYaml<'a>, faults: &'a RefCell<Faults>) -> Option<Section<'a>> {
    let sections = Section::new("", document.span.start.line(), document, faults)?;
    let common = sections.optional_section("common");
    let events = sections.optional_section("events");
    sections.warn_of_unknown();
    match (events, common) {
        (Some(events), common) => Some(events.over(common)),
        (None, Some(common)) => Some(common),
        (None, None) => {
            sections.reject("events", "a map with our settings");
            None
        }
    }
}

fn read(keys: &Section<'_>) -> Option<Config> {
    let phabricator = keys.section("PHABRICATOR").and_then(|section| {
        let config = (section.required("url"), section.required("api_key"), section.optional("publish"));
        section.warn_of_unknown();
        Some(PhabricatorConfig { url: config.0?, api_key: config.1?, publish: config.2.unwrap_or(false) })
    });
    let lando = keys.optional_section("LANDO").and_then(|section| {
        let config = (section.required("url"), section.optional("publish"), section.optional("publish_failure"));
        section.warn_of_unknown();
        let (publish, publish_failure) = (config.1.unwrap_or(false), config.2.unwrap_or(false));
        Some(LandoConfig { url: config.0?, publish, publish_failure })
    });
    let ssh_key: Option<SecretString> = keys.optional("ssh_key");
    let sections = keys.sections("repositories");
    let count = sections.len();
    let repositories: Vec<_> =
        sections.iter().filter_map(|section| repository::read(section, ssh_key.as_ref())).collect();
    for (at, section) in sections.iter().enumerate() {
        let name: Option<String> = section.optional("name");
        if name.is_some() && sections[..at].iter().any(|earlier| earlier.optional::<String>("name") == name) {
            section.reject("name", "is the name of an earlier repository too");
        }
    }
    // Everything is read before anything is given up for a fault, so that all faults are found.
    let skipped_authors = keys.optional("user_blacklist");
    let secure_projects = keys.optional("secure_projects");
    let skippable_files = keys.optional("skippable_files");
    let build_expiry = keys.optional("build_expiry");
    let build_plan = keys.optional::<PlanPhid>("build_plan_phid");
    let build_retention = keys.optional("build_retention");
    let webhook_secret = keys.optional("webhook_secret");
    let api_token = keys.optional("api_token");
    let clones_dir = keys.optional("clones_dir");
    let clones_budget = keys.optional("clones_budget");
    let treestatus_url = keys.optional("treestatus_url");
    let known_hosts = keys.optional("known_hosts");
    let treeherder_url: Option<Url> = keys.optional("treeherder_url");
    let redis_namespace = redis_namespace(keys);
    let triggers = triggers::read(keys);
    let notify = notify::read(keys);
    match webhook_secret.as_ref().map(|secret: &SecretString| secret.expose_secret().chars().count()) {
        None => keys.advise("webhook_secret", "is not set: whoever reaches the port can start builds"),
        Some(..SHORT) => keys.advise("webhook_secret", "is shorter than 16 characters: it can be guessed"),
        Some(_) => {}
    }
    keys.ignored(NOT_YET, "is known, but nothing reads it yet");
    keys.warn_of_unknown();
    let usual = Config::new(phabricator?, Some(repositories).filter(|read| read.len() == count)?);
    Some(Config {
        skipped_authors: skipped_authors.unwrap_or(usual.skipped_authors),
        secure_projects: secure_projects.unwrap_or(usual.secure_projects),
        skippable_files: skippable_files.unwrap_or(usual.skippable_files),
        build_expiry: build_expiry.unwrap_or(usual.build_expiry),
        build_plan: build_plan.map(|PlanPhid(phid)| phid),
        build_retention: build_retention.unwrap_or(usual.build_retention),
        webhook_secret,
        api_token,
        clones_dir: clones_dir.unwrap_or(usual.clones_dir),
        clones_budget,
        treestatus_url,
        known_hosts,
        treeherder_url: treeherder_url.map_or(usual.treeherder_url, String::from),
        redis_namespace: redis_namespace.unwrap_or(usual.redis_namespace),
        phabricator: usual.phabricator,
        lando,
        triggers,
        notify,
        repositories: usual.repositories,
    })
}

fn redis_namespace(keys: &Section<'_>) -> Option<String> {
    let namespace: Option<String> = keys.optional("redis_namespace");
    if namespace.as_ref().is_some_and(|namespace| namespace.contains(['{', '}'])) {
        keys.reject("redis_namespace", "expected a text without braces: it becomes a hash tag");
    }
    namespace
}

/// The PHID of a build plan.
struct PlanPhid(Phid);

impl FromYaml for PlanPhid {
    const EXPECTED: &'static str = "the PHID of a build plan, PHID-HMCP-…";
    fn from_yaml(node: &MarkedYaml<'_>) -> Option<Self> {
        Phid::parse_as("HMCP", node.data.as_str()?).ok().map(Self)
    }
}
