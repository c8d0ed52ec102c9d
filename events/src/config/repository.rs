//! A repository of the configuration.

use schemars::JsonSchema;
use secrecy::SecretString;
use serde::Deserialize;
use url::Url;
use worker::TryMode;

use super::{
    schema::At,
    secrets,
    values::{Flag, Ignored, Secret, Text, Written},
};

/// A repository that is built.
#[derive(Clone)]
pub struct RepositoryConfig {
    /// Its short name on Phabricator.
    pub name: String,
    /// Where it is cloned from.
    pub url: String,
    /// Where heads are pushed to.
    pub try_url: String,
    /// The name of that place on Treeherder.
    pub try_name: String,
    /// How Try learns which jobs to run.
    pub try_mode: TryMode,
    /// What is built on when the base of a stack is unknown.
    pub default_revision: String,
    /// Whether that is always built on.
    pub use_latest_revision: bool,
    /// Who pushes.
    pub ssh_user: Option<String>,
    /// With which key.
    pub ssh_key: Option<SecretString>,
    /// How many builds are made side by side, each on a clone of its own.
    pub clone_slots: usize,
}

/// The keys of a repository.
#[derive(Deserialize, JsonSchema)]
pub(super) struct RepositoryKeys {
    /// Short name on Phabricator; names the clone too.
    #[schemars(required)]
    name: Option<Text>,
    /// The source of its clones.
    #[schemars(required)]
    url: Option<Text>,
    /// The destination of its heads.
    #[schemars(required)]
    try_url: Option<Text>,
    /// Its name on Treeherder.
    #[schemars(extend("default" = "try"))]
    try_name: Option<Text>,
    /// How Try learns which jobs to run: `json` (a file `try_task_config.json`) or `syntax`.
    #[schemars(extend("default" = "json"))]
    try_mode: Option<ModeKey>,
    /// The try syntax, for the mode `syntax`.
    try_syntax: Option<Text>,
    /// The base of a stack [without a known base](../design/mercurial.md#the-base): a bookmark, a branch or a tag of the
    /// source. Set it when the source has several branches.
    #[schemars(extend("default" = "tip"))]
    default_revision: Option<Text>,
    /// Whether `default_revision` is the base of every stack.
    #[schemars(extend("default" = false))]
    use_latest_revision: Option<Flag>,
    /// The user who pushes.
    ssh_user: Option<Text>,
    /// The private key itself (not a path), instead of the key for all repositories.
    ssh_key: Option<Secret>,
    /// The number of its builds that run at once, each on [a clone of its own](../design/worker.md#clones-and-slots). A
    /// connection of ssh carries ten sessions at once.
    #[schemars(range(min = 1, max = 10), extend("default" = 1, "x-expected" = "a whole number from 1 to 10"))]
    clone_slots: Option<usize>,
    /// Has no effect.
    #[schemars(extend("x-reason" = "means nothing any more: clones have no working copy"))]
    #[expect(dead_code, reason = "known, and warned of")]
    checkout: Option<Ignored>,
    /// Has no effect.
    #[schemars(extend("x-reason" = "means nothing any more: clones have no working copy"))]
    #[expect(dead_code, reason = "known, and warned of")]
    batch_size: Option<Ignored>,
    /// Belongs to another program.
    #[expect(dead_code, reason = "known, and of another program")]
    decision_env_prefix: Option<Ignored>,
}

#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum ModeKey {
    Json,
    Syntax,
}

impl RepositoryKeys {
    pub(super) fn name(&self) -> Option<&str> {
        self.name.as_ref().map(|Written(name)| name.as_str())
    }

    /// The repository; `None` when a key is faulty.
    pub(super) fn read(
        self,
        at: &At<'_>,
        ssh_key: Option<&SecretString>,
    ) -> Option<RepositoryConfig> {
        let try_mode = match (self.try_mode, self.try_syntax) {
            (Some(ModeKey::Syntax), Some(Written(syntax))) => Some(TryMode::Syntax(syntax)),
            (Some(ModeKey::Syntax), None) => {
                at.reject("try_syntax", "a try syntax, since try_mode is syntax");
                None
            }
            (Some(ModeKey::Json) | None, _) => Some(TryMode::Json),
        };
        let text = |key, value: Option<Text>| {
            let value = value?.0;
            if value.starts_with('-') || value.contains(char::is_control) {
                at.reject(
                    key,
                    "expected a text that does not begin with - and holds no control characters",
                );
            }
            Some(value)
        };
        let (name, url, try_url) = (
            text("name", self.name),
            text("url", self.url),
            text("try_url", self.try_url),
        );
        for (key, value) in [("url", &url), ("try_url", &try_url)] {
            let url = value.as_ref().and_then(|value| Url::parse(value).ok());
            let url = url.filter(|url| url.password().is_some());
            secrets::advise_plain_http(at, key, url.as_ref(), "its password");
        }
        if name
            .as_ref()
            .is_some_and(|name| name.contains(['/', '\\']) || name.starts_with('.'))
        {
            at.reject(
                "name",
                "expected a name without / and without a leading dot: a folder is named after it",
            );
        }
        Some(RepositoryConfig {
            name: name?,
            url: url?,
            try_url: try_url?,
            try_name: self
                .try_name
                .map_or_else(|| "try".to_owned(), |text| text.0),
            try_mode: try_mode?,
            default_revision: self
                .default_revision
                .map_or_else(|| "tip".to_owned(), |text| text.0),
            use_latest_revision: self.use_latest_revision.is_some_and(|flag| flag.0),
            ssh_user: self.ssh_user.map(|text| text.0),
            ssh_key: self.ssh_key.map(|key| key.0).or_else(|| ssh_key.cloned()),
            clone_slots: self.clone_slots.unwrap_or(1),
        })
    }
}
