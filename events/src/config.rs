//! The configuration: the YAML document that operators of the original have already, with the sections `common` and
//! `events`, where `events` overrides `common`. `docs/reference/configuration.md` lists the keys.

mod bounds;
mod fault;
mod mercurial;
mod notify;
pub mod pulse;
mod reader;
mod records;
mod repository;
mod secrets;
mod telemetry;
#[cfg(test)]
mod tests;
mod triggers;
mod web;

use std::{
    cell::RefCell,
    fs::File,
    io::{self, Read as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use build::Phid;
use phabricator::{BuildPages, ViewPolicies};
use saphyr::{LoadableYamlNode, MarkedYaml};
use secrecy::{ExposeSecret as _, SecretString};
use thiserror::Error;
use url::Url;
use worker::Size;

use self::reader::{FromYaml, Section};
pub use self::{
    fault::{Fault, Faults},
    mercurial::MercurialConfig,
    notify::{NotifierConfig, NotifyConfig, Values},
    pulse::{PulseConfig, Variables},
    records::{RecordsConfig, ReportsConfig},
    repository::RepositoryConfig,
    telemetry::{HgPushesConfig, TelemetryConfig, TelemetryFaults},
    triggers::{
        FIREFOX, HookConfig, HookSource, TaskclusterConfig, TestSelectionConfig, TriggersConfig,
    },
    web::WebConfig,
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
    /// The view policies of public revisions; one with another policy is private.
    pub view_policies: ViewPolicies,
    /// A diff that touches one of these files is not built.
    pub skippable_files: Vec<String>,
    /// A diff that is older is not built any more.
    pub build_expiry: Duration,
    /// The build plan that calls us, by its PHID: the audit looks for builds of it whose request never came.
    pub build_plan: Option<Phid>,
    /// How long what is known of a build is kept after its last change.
    pub build_retention: Duration,
    /// The secret of the webhook, which Harbormaster sends.
    pub webhook_secret: Option<SecretString>,
    /// Where people read of builds.
    pub pages: BuildPages,
    /// What a client of the API must know. Without it there is no API.
    pub api_token: Option<SecretString>,
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
    /// Comes before all keys in Redis.
    pub redis_namespace: String,
    /// What is triggered on Taskcluster, and by what.
    pub triggers: TriggersConfig,
    /// Notifications about tasks.
    pub notify: NotifyConfig,
    /// Where errors are reported.
    pub sentry_dsn: Option<SecretString>,
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

/// The sections of other programs, with which operators of the original share one document.
const OTHER_PROGRAMS: &[&str] = &["bot", "backend"];

/// What comes before all keys in Redis, where nothing else is set.
const REDIS_NAMESPACE: &str = "events";

impl Config {
    /// A configuration with the usual values for everything that has one.
    pub fn new(phabricator: PhabricatorConfig, repositories: Vec<RepositoryConfig>) -> Self {
        Self {
            phabricator,
            lando: None,
            repositories,
            skipped_authors: Vec::new(),
            secure_projects: vec!["secure-revision".to_owned()],
            view_policies: ViewPolicies::default(),
            skippable_files: Vec::new(),
            build_expiry: Duration::from_secs(24 * 3600),
            build_plan: None,
            build_retention: records::RETENTION,
            webhook_secret: None,
            pages: BuildPages::default(),
            api_token: None,
            clones_dir: PathBuf::from("clones"),
            clones_budget: None,
            max_stack_size: mercurial::MAX_STACK_SIZE,
            max_apply_time: mercurial::MAX_APPLY_TIME,
            max_author_time: mercurial::MAX_AUTHOR_TIME,
            treestatus_url: None,
            known_hosts: None,
            treeherder_url: "https://treeherder.mozilla.org".to_owned(),
            redis_namespace: REDIS_NAMESPACE.to_owned(),
            triggers: TriggersConfig::default(),
            notify: NotifyConfig::default(),
            sentry_dsn: None,
        }
    }

    /// Reads a document, and finds everything that is wrong with it. `None` exactly when there is an error.
    pub fn parse(text: &str) -> (Option<Self>, Faults) {
        parse(text, |keys| {
            let web = web::read(keys);
            let config = read(keys);
            keys.warn_of_unknown();
            config.map(|config| Self {
                webhook_secret: web.webhook_secret,
                api_token: web.api_token,
                ..config
            })
        })
    }

    /// The same for a worker: the secrets of the web server are neither required nor kept.
    pub fn parse_worker(text: &str) -> (Option<Self>, Faults) {
        parse(text, |keys| {
            keys.leave_to_others(web::read);
            let config = read(keys);
            keys.warn_of_unknown();
            config
        })
    }
}

/// What reads a document: the configuration, `None` exactly when there is an error, and what is wrong.
pub type Parse<T> = fn(&str) -> (Option<T>, Faults);

/// Reads the file at `path` with `parse`. A file with secrets that others may read is warned of.
pub fn load<T>(path: &Path, parse: Parse<T>) -> Result<(T, Faults), ConfigError> {
    let read = |source| ConfigError::Read {
        path: path.to_owned(),
        source,
    };
    let mut file = File::open(path).map_err(read)?;
    let mode = file.metadata().map_err(read)?.permissions().mode();
    // What is beyond the bound is not read; `parse` refuses what is there of it.
    let mut bytes = Vec::new();
    file.by_ref()
        .take(bounds::BYTES as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(read)?;
    let text = String::from_utf8(bytes)
        .map_err(|_| read(io::Error::new(io::ErrorKind::InvalidData, "not UTF-8")))?;
    // The text may hold secrets of other roles, and is overwritten when this ends.
    let text = SecretString::from(text);
    let (config, mut faults) = parse(text.expose_secret());
    if faults.secrets && mode & 0o077 != 0 {
        faults.warn_of_mode(mode);
    }
    match config {
        Some(config) => Ok((config, faults)),
        None => Err(ConfigError::Faulty {
            path: path.to_owned(),
            faults,
        }),
    }
}

/// Has `read` read the keys of a document: those of its section `events`, and what `common` has beside them.
fn parse<T>(text: &str, read: impl Fn(&Section<'_>) -> Option<T>) -> (Option<T>, Faults) {
    let faults = RefCell::new(Faults::default());
    let refuse = |line, message: String| {
        faults.borrow_mut().errors.push(Fault {
            path: "document".to_owned(),
            line,
            message,
        });
        None
    };
    let config = match bounds::check(text) {
        Err(bounds::Exceeded { line, message }) => refuse(line, message),
        Ok(()) => match MarkedYaml::load_from_str(text) {
            Ok(documents) if documents.len() > 1 => refuse(
                documents[1].span.start.line(),
                "there is a second document, expected one".to_owned(),
            ),
            Ok(documents) => match documents.first() {
                None => refuse(
                    1,
                    "the document is empty, expected the sections common and events".to_owned(),
                ),
                Some(document) => keys(document, &faults).and_then(|keys| read(&keys)),
            },
            Err(error) => refuse(error.marker().line(), format!("not YAML: {}", error.info())),
        },
    };
    let mut faults = faults.into_inner();
    faults.sort();
    (config.filter(|_| faults.errors.is_empty()), faults)
}

fn keys<'a>(document: &'a MarkedYaml<'a>, faults: &'a RefCell<Faults>) -> Option<Section<'a>> {
    let sections = Section::new("", document.span.start.line(), document, faults)?;
    let common = sections.optional_section("common");
    let events = sections.optional_section("events");
    sections.of_other_programs(OTHER_PROGRAMS);
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

/// The base address of Phabricator. Documents of the original have that of its API, which is below `/api`.
fn without_api(mut url: Url) -> Url {
    if let Some(base) = url.path().trim_end_matches('/').strip_suffix("/api") {
        let base = format!("{base}/");
        url.set_path(&base);
    }
    url
}

/// Reads all keys but those of the web server.
fn read(keys: &Section<'_>) -> Option<Config> {
    let phabricator = keys.section("PHABRICATOR").and_then(|section| {
        let config = (
            section.required("url"),
            section.required("api_key"),
            section.optional("publish"),
        );
        secrets::advise_plain_http(&section, "url", config.0.as_ref(), "the api key");
        section.warn_of_unknown();
        Some(PhabricatorConfig {
            url: without_api(config.0?),
            api_key: config.1?,
            publish: config.2.unwrap_or(false),
        })
    });
    let lando = keys.optional_section("LANDO").and_then(|section| {
        let config = (
            section.required("url"),
            section.optional("publish"),
            section.optional("publish_failure"),
        );
        secrets::advise_plain_http(
            &section,
            "url",
            config.0.as_ref(),
            "the api key of Phabricator",
        );
        section.warn_of_unknown();
        let (publish, publish_failure) = (config.1.unwrap_or(false), config.2.unwrap_or(false));
        Some(LandoConfig {
            url: config.0?,
            publish,
            publish_failure,
        })
    });
    let mercurial = mercurial::read(keys);
    // Everything is read before anything is given up for a fault, so that all faults are found.
    let skipped_authors = keys.optional("user_blacklist");
    let secure_projects = keys.optional("secure_projects");
    let build_plan = keys.optional::<PlanPhid>("build_plan_phid");
    let build_retention = records::retention(keys);
    let view_policies = view_policies(keys);
    let pages = web::pages(keys);
    let redis_namespace = redis_namespace(keys);
    let triggers = triggers::read(keys);
    let notify = notify::read(keys);
    let sentry_dsn = secrets::sentry_dsn(keys);
    keys.ignored(
        &["influxdb"],
        "means nothing here: measurements are at /api/v1/metrics, for Prometheus",
    );
    keys.ignored(
        &["PAPERTRAIL_HOST", "PAPERTRAIL_PORT"],
        "means nothing here: log lines go to standard error",
    );
    let mercurial = mercurial?;
    let usual = Config::new(phabricator?, mercurial.repositories);
    Some(Config {
        skipped_authors: skipped_authors.unwrap_or(usual.skipped_authors),
        secure_projects: secure_projects.unwrap_or(usual.secure_projects),
        skippable_files: mercurial.skippable_files,
        build_expiry: mercurial.build_expiry,
        build_plan: build_plan.map(|PlanPhid(phid)| phid),
        build_retention,
        clones_dir: mercurial.clones_dir,
        clones_budget: mercurial.clones_budget,
        max_stack_size: mercurial.max_stack_size,
        max_apply_time: mercurial.max_apply_time,
        max_author_time: mercurial.max_author_time,
        treestatus_url: mercurial.treestatus_url,
        known_hosts: mercurial.known_hosts,
        treeherder_url: mercurial.treeherder_url,
        view_policies,
        pages,
        redis_namespace: redis_namespace.unwrap_or(usual.redis_namespace),
        lando,
        triggers,
        notify,
        sentry_dsn,
        ..usual
    })
}

/// What `restricted_revisions` may say.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Restricted {
    Private,
    Build,
}

impl FromYaml for Restricted {
    const EXPECTED: &'static str = "private or build";
    fn from_yaml(node: &MarkedYaml<'_>) -> Option<Self> {
        match node.data.as_str()? {
            "private" => Some(Self::Private),
            "build" => Some(Self::Build),
            _ => None,
        }
    }
}

fn view_policies(keys: &Section<'_>) -> ViewPolicies {
    let more: Option<Vec<String>> = keys.optional("public_policies");
    match keys.optional("restricted_revisions") {
        Some(Restricted::Build) => ViewPolicies::Any,
        Some(Restricted::Private) | None => ViewPolicies::also(&more.unwrap_or_default()),
    }
}

fn redis_namespace(keys: &Section<'_>) -> Option<String> {
    let namespace: Option<String> = keys.optional("redis_namespace");
    if namespace
        .as_ref()
        .is_some_and(|namespace| namespace.contains(['{', '}']))
    {
        keys.reject(
            "redis_namespace",
            "expected a text without braces: it becomes a hash tag",
        );
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
