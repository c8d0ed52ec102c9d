//! The configuration: the YAML document that operators of the original have already, with the sections `common` and
//! `events`, where `events` overrides `common`. `docs/reference/configuration.md` lists the keys.

mod bounds;
mod destination;
mod document;
mod fault;
mod mercurial;
mod notify;
pub mod pulse;
mod records;
pub mod reference;
mod repository;
mod schema;
mod secrets;
mod staging;
mod telemetry;
#[cfg(test)]
mod tests;
mod triggers;
mod values;
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
use phabricator::ViewPolicies;
use schemars::JsonSchema;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use thiserror::Error;
use url::Url;
use worker::Size;

use self::{
    document::Document,
    schema::{At, Keys},
    values::{Flag, FromText, Ignored, List, Secret, Text, Written},
};
pub use self::{
    fault::{Fault, Faults},
    mercurial::MercurialConfig,
    notify::{NotifierConfig, NotifyConfig},
    pulse::{PulseConfig, Variables},
    records::{RecordsConfig, ReportsConfig},
    repository::RepositoryConfig,
    telemetry::{HgPushesConfig, TelemetryConfig, TelemetryFaults},
    triggers::{
        FIREFOX, HookConfig, HookSource, TaskclusterConfig, TestSelectionConfig, TriggersConfig,
    },
    web::{ServerConfig, WebConfig},
};

/// Everything that a deployment sets. Not to be shown: addresses may hold passwords.
#[derive(Clone)]
#[cfg_attr(test, derive(Debug))]
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
    /// What the web server alone needs.
    pub server: ServerConfig,
    /// The page that explains to authors how builds end.
    pub docs_url: Option<Url>,
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
#[cfg_attr(test, derive(Debug))]
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
            build_expiry: mercurial::BUILD_EXPIRY,
            build_plan: None,
            build_retention: records::RETENTION,
            server: ServerConfig::default(),
            docs_url: None,
            clones_dir: PathBuf::from("clones"),
            clones_budget: None,
            max_stack_size: mercurial::MAX_STACK_SIZE,
            max_apply_time: mercurial::MAX_APPLY_TIME,
            max_author_time: mercurial::MAX_AUTHOR_TIME,
            treestatus_url: None,
            known_hosts: None,
            treeherder_url: mercurial::TREEHERDER.to_owned(),
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
                server: web.server,
                ..config
            })
        })
    }

    /// The same for a worker: the secrets of the web server are neither required nor kept.
    pub fn parse_worker(text: &str) -> (Option<Self>, Faults) {
        parse(text, |keys| {
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
fn parse<T>(text: &str, read: impl Fn(&Keys<'_>) -> Option<T>) -> (Option<T>, Faults) {
    let faults = RefCell::new(Faults::default());
    let document = Document::read(text, &faults);
    let config = document.as_ref().and_then(|document| {
        let all = reference::all();
        faults.borrow_mut().secrets = reference::has_secrets(document, &all);
        read(&Keys::new(document, &all, &faults))
    });
    let mut faults = faults.into_inner();
    faults.sort();
    (config.filter(|_| faults.errors.is_empty()), faults)
}

/// The base address of Phabricator. Documents of the original have that of its API, which is below `/api`.
fn without_api(mut url: Url) -> Url {
    if let Some(base) = url.path().trim_end_matches('/').strip_suffix("/api") {
        let base = format!("{base}/");
        url.set_path(&base);
    }
    url
}

/// The consequence for authors of builds that end without a push.
const NO_LINK: &str = "is not set: a build that ends without a push has no link to the reason, which Phorge hides on the revision";

/// The keys of a worker that are about Phabricator and its builds.
#[derive(Default, Deserialize, JsonSchema)]
struct BuildKeys {
    /// Phabricator or Phorge.
    #[serde(rename = "PHABRICATOR")]
    #[schemars(required)]
    phabricator: Option<PhabricatorKeys>,
    /// Lando.
    #[serde(rename = "LANDO")]
    lando: Option<LandoKeys>,
    /// Authors (usernames) whose diffs are not built.
    user_blacklist: Option<List<Text>>,
    /// [Projects](../use/configuration.md#names) (slugs) whose revisions are private under any view policy.
    #[schemars(extend("default" = ["secure-revision"]))]
    secure_projects: Option<List<Text>>,
    /// The treatment of a revision that not everybody may see: `private`, or `build` to push it when our user sees it.
    /// [More](../use/configuration.md#private-revisions).
    #[schemars(extend("default" = "private"))]
    restricted_revisions: Option<Restricted>,
    /// View policies that count as public beside `public` and `users`, such as the PHID of a project (`PHID-PROJ-…`) or a
    /// custom policy (`PHID-PLCY-…`).
    public_policies: Option<List<Text>>,
    /// The build plan that calls us (`PHID-HMCP-…`): the [audit](../operate/builds.md#the-audit) looks for its builds whose
    /// request was lost.
    build_plan_phid: Option<Written<PlanPhid>>,
    /// A page for authors that explains how builds end, such as your copy of [builds.md](../use/builds.md): the target of a
    /// build without a push [links](../use/builds.md#the-link-for-authors) to it.
    docs_url: Option<Written<Url>>,
    /// The address of the web server as people reach it, for the pages of builds that it will serve. It has no effect yet:
    /// nothing links to a page that is not served.
    #[schemars(extend("x-reason" = "has no effect yet: the web server serves no page of a build, so nothing links to one"))]
    #[expect(dead_code, reason = "known, and warned of")]
    public_url: Option<Written<Url>>,
    /// Has no effect.
    #[schemars(extend("x-reason" = "means nothing here: measurements are at /api/v1/metrics, for Prometheus"))]
    #[expect(dead_code, reason = "known, and warned of")]
    influxdb: Option<Ignored>,
    /// Has no effect.
    #[serde(rename = "PAPERTRAIL_HOST")]
    #[schemars(extend("x-reason" = "means nothing here: log lines go to standard error"))]
    #[expect(dead_code, reason = "known, and warned of")]
    papertrail_host: Option<Ignored>,
    /// Has no effect.
    #[serde(rename = "PAPERTRAIL_PORT")]
    #[schemars(extend("x-reason" = "means nothing here: log lines go to standard error"))]
    #[expect(dead_code, reason = "known, and warned of")]
    papertrail_port: Option<Ignored>,
}

#[derive(Deserialize, JsonSchema)]
struct PhabricatorKeys {
    /// Base url of Phabricator or Phorge; it may end in `/api/`.
    #[schemars(required)]
    url: Option<Written<Url>>,
    /// Conduit token of our user.
    #[schemars(required)]
    api_key: Option<Secret>,
    /// Whether anything is published on build targets.
    #[schemars(extend("default" = false))]
    publish: Option<Flag>,
}

#[derive(Deserialize, JsonSchema)]
struct LandoKeys {
    /// Base url of Lando's API.
    #[schemars(required)]
    url: Option<Written<Url>>,
    /// Whether Lando gets [warnings](../use/configuration.md#lando).
    #[schemars(extend("default" = false))]
    publish: Option<Flag>,
    /// Whether a build that failed by our fault gets a warning too.
    #[schemars(extend("default" = false))]
    publish_failure: Option<Flag>,
}

impl PhabricatorKeys {
    fn read(self, at: &At<'_>) -> Option<PhabricatorConfig> {
        let url = self.url.map(|url| url.0);
        secrets::advise_plain_http(at, "url", url.as_ref(), "the api key");
        Some(PhabricatorConfig {
            url: without_api(url?),
            api_key: self.api_key?.0,
            publish: self.publish.is_some_and(|flag| flag.0),
        })
    }
}

impl LandoKeys {
    fn read(self, at: &At<'_>) -> Option<LandoConfig> {
        let url = self.url.map(|url| url.0);
        let sent = "the api key of Phabricator";
        secrets::advise_plain_http(at, "url", url.as_ref(), sent);
        Some(LandoConfig {
            url: url?,
            publish: self.publish.is_some_and(|flag| flag.0),
            publish_failure: self.publish_failure.is_some_and(|flag| flag.0),
        })
    }
}

/// Reads all keys but those of the web server.
fn read(keys: &Keys<'_>) -> Option<Config> {
    let build: BuildKeys = keys.read();
    let at = keys.at("");
    // Everything is read before anything is given up for a fault, so that all faults are found.
    let phabricator = build
        .phabricator
        .and_then(|read| read.read(&at.child("PHABRICATOR")));
    let lando = build.lando.and_then(|read| read.read(&at.child("LANDO")));
    let mercurial = mercurial::read(keys);
    let records = records::read(keys);
    let docs_url = build.docs_url.map(|url| url.0);
    if docs_url.is_none() {
        at.advise("docs_url", NO_LINK);
    }
    let triggers = triggers::read(keys);
    let notify = notify::read(keys);
    let public = build.public_policies.map(List::values).unwrap_or_default();
    let view_policies = match build.restricted_revisions {
        Some(Restricted::Build) => ViewPolicies::Any,
        Some(Restricted::Private) | None => ViewPolicies::also(&public),
    };
    let mercurial = mercurial?;
    let usual = Config::new(phabricator?, mercurial.repositories);
    Some(Config {
        skipped_authors: build
            .user_blacklist
            .map_or(usual.skipped_authors, List::values),
        secure_projects: build
            .secure_projects
            .map_or(usual.secure_projects, List::values),
        skippable_files: mercurial.skippable_files,
        build_expiry: mercurial.build_expiry,
        build_plan: build.build_plan_phid.map(|Written(PlanPhid(phid))| phid),
        build_retention: records.build_retention,
        clones_dir: mercurial.clones_dir,
        clones_budget: mercurial.clones_budget,
        max_stack_size: mercurial.max_stack_size,
        max_apply_time: mercurial.max_apply_time,
        max_author_time: mercurial.max_author_time,
        treestatus_url: mercurial.treestatus_url,
        known_hosts: mercurial.known_hosts,
        treeherder_url: mercurial.treeherder_url,
        view_policies,
        docs_url,
        redis_namespace: records.redis_namespace,
        lando,
        triggers,
        notify,
        sentry_dsn: records.sentry_dsn,
        ..usual
    })
}

/// What `restricted_revisions` may say.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Restricted {
    Private,
    Build,
}

/// The PHID of a build plan.
#[derive(Debug, Clone)]
struct PlanPhid(Phid);

impl FromText for PlanPhid {
    const FORMAT: &'static str = "phid-of-a-build-plan";
    const EXPECTED: &'static str = "the PHID of a build plan, PHID-HMCP-…";
    fn from_text(text: &str) -> Option<Self> {
        Phid::parse_as("HMCP", text).ok().map(Self)
    }
}
