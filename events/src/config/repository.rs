//! A repository of the configuration.

use schemars::JsonSchema;
use secrecy::SecretString;
use serde::Deserialize;
use url::Url;
use worker::{
    LandoSettings, TryMode, VcsSettings, check_jobs_url, check_try_path, check_try_template,
};

use super::{
    destination::{self, Destination, DestinationKeys, VcsKey},
    schema::At,
    secrets,
    staging::StagingKey,
    values::{Flag, Ignored, Secret, Text, Written},
};

/// A repository that is built.
#[derive(Clone)]
#[cfg_attr(test, derive(Debug))]
pub struct RepositoryConfig {
    /// Its short name on Phabricator.
    pub name: String,
    /// Where it is cloned from.
    pub url: String,
    /// Its version control, and what is set for that alone.
    pub vcs: VcsSettings,
    /// Where heads are pushed to.
    pub try_url: String,
    /// The Lando that stacks are submitted to, at `try_url`.
    pub lando: Option<LandoSettings>,
    /// The name of that place on Treeherder and in texts.
    pub try_name: String,
    /// How CI learns what to do.
    pub try_mode: TryMode,
    /// The page with the jobs of a head.
    pub jobs_url: Option<String>,
    /// What is built on when the base of a stack is unknown.
    pub default_revision: String,
    /// Whether that is always built on.
    pub use_latest_revision: bool,
    /// Where the bases of authors who use another version control are looked up.
    pub base_mapping: Option<Url>,
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
    /// Its version control: `hg` (Mercurial) or [`git`](../use/git.md).
    #[schemars(extend("default" = "hg"))]
    pub(super) vcs: Option<VcsKey>,
    /// The destination of its heads, with `vcs: hg`. `destination` says the same.
    pub(super) try_url: Option<Text>,
    /// The destination of its heads.
    pub(super) destination: Option<DestinationKeys>,
    /// The name of the destination on Treeherder, on the tree status service and in texts for authors. With `vcs: git` it
    /// is the name of the repository. With Lando it is the one there.
    #[schemars(extend("default" = "try"))]
    try_name: Option<Text>,
    /// The address of the page that shows the jobs of a head, with `{commit}`, `{revision}`, `{diff}`, and with Git also
    /// `{ref}` and `{branch}`. Without it a head of Mercurial or of Lando has its page on Treeherder, and one of Git has none.
    jobs_url: Option<Text>,
    /// The file that [the last commit of a build](../use/git.md#the-file-for-ci) writes to tell CI what to do, instead of
    /// the one of `try_mode`.
    try_file: Option<FileKeys>,
    /// Whether clones leave out the contents of files (`--filter=blob:none`), with `vcs: git`. A build fetches those that it
    /// needs.
    #[schemars(extend("default" = false))]
    pub(super) partial: Option<Flag>,
    /// Whether a patch may change the commit of a submodule, with `vcs: git`.
    #[schemars(extend("default" = false))]
    pub(super) submodules: Option<Flag>,
    /// The [staging area](../use/git.md#the-staging-area), with `vcs: git`: `true` if clients push the commits of diffs to the
    /// source, or the address of another repository.
    pub(super) staging: Option<StagingKey>,
    /// The token for https, with `vcs: git`: it is sent to the server of the destination alone, of which the source may be
    /// another repository.
    pub(super) https_token: Option<Secret>,
    /// How Try learns which jobs to run, with `vcs: hg`: `json` (a file `try_task_config.json`) or `syntax`.
    #[schemars(extend("default" = "json"))]
    try_mode: Option<ModeKey>,
    /// The try syntax, for the mode `syntax`.
    try_syntax: Option<Text>,
    /// The base of a stack [without a known base](../design/mercurial.md#the-base): a bookmark, a branch or a tag of the
    /// source. Set it when a source of Mercurial has several branches. With `vcs: git` it is `HEAD`, the default branch.
    #[schemars(extend("default" = "tip"))]
    default_revision: Option<Text>,
    /// Whether `default_revision` is the base of every stack.
    #[schemars(extend("default" = false))]
    use_latest_revision: Option<Flag>,
    /// The service that maps the bases of authors who use another version control than `vcs`.
    base_mapping: Option<MappingKeys>,
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

/// The keys of a service that maps commits.
#[derive(Deserialize, JsonSchema)]
struct MappingKeys {
    /// [The address of Lando](../use/lando.md#bases-of-authors-with-git) to which the hash of a commit is appended, such as
    /// `https://lando.example.com/api/git2hg/firefox`.
    #[schemars(required)]
    url: Option<Written<Url>>,
}

/// The keys of the file that the last commit of a build writes.
#[derive(Deserialize, JsonSchema)]
struct FileKeys {
    /// Its path in the repository.
    #[schemars(required)]
    path: Option<Text>,
    /// Its content, as a [template](https://docs.rs/minijinja/latest/minijinja/syntax/) with `build.phid`, `diff.id`,
    /// `diff.phid`, `revision.id` and `revision.phid`.
    #[schemars(required)]
    template: Option<Text>,
}

impl FileKeys {
    fn read(self, at: &At<'_>) -> Option<TryMode> {
        let (path, template) = (
            self.path.map(|text| text.0),
            self.template.map(|text| text.0),
        );
        if let Some(Err(fault)) = path.as_deref().map(check_try_path) {
            at.reject(
                "path",
                &format!(
                    "expected a path of a file in the repository, such as ci/build.json: {fault}"
                ),
            );
        }
        if let Some(Err(fault)) = template.as_deref().map(check_try_template) {
            at.reject("template", &format!("cannot be used: {fault}"));
        }
        Some(TryMode::File {
            path: path?,
            template: template?,
        })
    }
}

/// A text that can be an argument of a version control. Reports another one.
pub(super) fn clean(at: &At<'_>, key: &str, value: Option<Text>) -> Option<String> {
    let value = value?.0;
    if value.starts_with('-') || value.contains(char::is_control) {
        at.reject(
            key,
            "expected a text that does not begin with - and holds no control characters",
        );
    }
    let url = Url::parse(&value)
        .ok()
        .filter(|url| url.password().is_some());
    secrets::advise_plain_http(at, key, url.as_ref(), "its password");
    Some(value)
}

#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum ModeKey {
    Json,
    Syntax,
}

impl RepositoryKeys {
    pub(super) fn url(&self) -> Option<&str> {
        self.url.as_ref().map(|Written(url)| url.as_str())
    }

    pub(super) fn name(&self) -> Option<&str> {
        self.name.as_ref().map(|Written(name)| name.as_str())
    }

    /// The repository; `None` when a key is faulty.
    pub(super) fn read(
        mut self,
        at: &At<'_>,
        ssh_key: Option<&SecretString>,
    ) -> Option<RepositoryConfig> {
        let destination = destination::read(&mut self, at);
        let is_git = self.vcs == Some(VcsKey::Git);
        let try_mode = self.try_mode(at, is_git);
        let name = clean(at, "name", self.name);
        let url = clean(at, "url", self.url);
        if name
            .as_ref()
            .is_some_and(|name| name.contains(['/', '\\']) || name.starts_with('.'))
        {
            at.reject(
                "name",
                "expected a name without / and without a leading dot: a folder is named after it",
            );
        }
        let jobs_url = self.jobs_url.map(|text| text.0);
        let has_ref = is_git && !at.child("destination").has("lando");
        if let Some(Err(fault)) = jobs_url.as_deref().map(|url| check_jobs_url(url, has_ref)) {
            at.reject("jobs_url", fault);
        }
        let (name, destination) = (name?, destination?);
        let Destination {
            url: try_url,
            vcs,
            lando,
        } = destination;
        if self.https_token.is_some() && !try_url.starts_with("https://") {
            at.advise(
                "https_token",
                "has no effect: the address of the destination does not begin with https://",
            );
        }
        Some(RepositoryConfig {
            try_name: match (self.try_name, &lando) {
                (Some(text), _) => text.0,
                (None, Some(lando)) => lando.repository.clone(),
                (None, None) if is_git => name.clone(),
                (None, None) => "try".to_owned(),
            },
            lando,
            name,
            url: url?,
            try_url,
            try_mode: try_mode?,
            jobs_url,
            default_revision: self
                .default_revision
                .map_or_else(|| vcs.default_revision().to_owned(), |text| text.0),
            vcs,
            use_latest_revision: self.use_latest_revision.is_some_and(|flag| flag.0),
            base_mapping: self.base_mapping.and_then(|keys| Some(keys.url?.0)),
            ssh_user: self.ssh_user.map(|text| text.0),
            ssh_key: self.ssh_key.map(|key| key.0).or_else(|| ssh_key.cloned()),
            clone_slots: self.clone_slots.unwrap_or(1),
        })
    }

    fn try_mode(&mut self, at: &At<'_>, is_git: bool) -> Option<TryMode> {
        let (mode, syntax) = (self.try_mode.take(), self.try_syntax.take());
        match self.try_file.take() {
            Some(file) => {
                if mode.is_some() {
                    at.reject("try_file", "expected either try_mode or try_file");
                }
                file.read(&at.child("try_file"))
            }
            None if at.has("try_file") => None,
            None if is_git => Some(TryMode::None),
            None => match (mode, syntax) {
                (Some(ModeKey::Syntax), Some(Written(syntax))) => Some(TryMode::Syntax(syntax)),
                (Some(ModeKey::Syntax), None) => {
                    at.reject("try_syntax", "a try syntax, since try_mode is syntax");
                    None
                }
                (Some(ModeKey::Json) | None, _) => Some(TryMode::Json),
            },
        }
    }
}
