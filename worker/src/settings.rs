//! The settings of the worker, from its configuration.

use std::{
    collections::{BTreeSet, HashSet},
    fmt,
    os::unix::ffi::OsStrExt,
    path::PathBuf,
    time::Duration,
};

use build::{Build, Phid, VersionControl};
use secrecy::SecretString;
use url::Url;

use crate::{WorkerError, ref_template};

/// The file that the decision task reads, at the root of the tree.
pub const TRY_CONFIG: &str = "try_task_config.json";

/// The settings of the worker.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The repositories that are built.
    pub repositories: Vec<RepositorySettings>,
    /// The directory of the clones, kept between starts. No two processes can use the same clone: the second one waits.
    pub clones_dir: PathBuf,
    /// `Name <mail>` for patches without an author, and for the last commit of each build.
    pub default_author: String,
    /// The address of Treeherder: the links to a build's jobs begin with it.
    pub treeherder_url: String,
    /// Paths in a repository; a stack that touches one of them is not pushed.
    pub skippable_files: BTreeSet<String>,
    /// The greatest age at which a diff is pushed.
    pub build_expiry: Duration,
    /// The file of the host keys that ssh trusts, and no others. With `None`, ssh trusts those of its usual files: the user's
    /// and the system-wide ones.
    pub known_hosts: Option<PathBuf>,
    /// The address of the tree status service. With `None`, all trees count as open.
    pub tree_status: Option<Url>,
    /// The most bytes that the clones may take on the disk. With `None`, the disk is the bound.
    pub disk_budget: Option<u64>,
    /// Bounds on foreign input, time and memory.
    pub limits: Limits,
}

/// One repository.
#[derive(Clone)]
pub struct RepositorySettings {
    /// Its PHID on Phabricator, which does not change.
    pub phid: Phid,
    /// Its name here; also the name of its directory below `clones_dir`.
    pub name: String,
    /// The address of the source.
    pub url: String,
    /// Its version control, with the settings that are its own.
    pub vcs: VcsSettings,
    /// The address of the destination.
    pub try_url: String,
    /// Lando, if heads are not pushed, but submitted there as patches. `try_url` is then its address.
    pub lando: Option<LandoSettings>,
    /// The name of the destination on Treeherder, on the tree status service, and in texts for authors.
    pub try_name: String,
    /// The way in which the last commit of a build configures the decision task.
    pub mode: TryMode,
    /// The page with the jobs of a head: an address with `{commit}`, `{revision}` and `{diff}`, with Git also `{ref}` and
    /// `{branch}`. With `None`, a head has no link with Git, and one to Treeherder with Mercurial.
    pub jobs_url: Option<String>,
    /// The base of stacks whose own base is unknown or not wanted: a branch, a bookmark, a tag, or
    /// [`VcsSettings::default_revision`].
    pub default_revision: String,
    /// Build on the newest `default_revision`, whatever base the stack names.
    pub use_latest_revision: bool,
    /// The address that maps the commits of the authors' version control to that of the clones: `<address>/<hash>`.
    pub base_mapping: Option<Url>,
    /// The user for ssh.
    pub ssh_user: Option<String>,
    /// The private key for ssh.
    pub ssh_key: Option<SecretString>,
    /// The number of builds that run side by side, each on a clone of its own. At least 1.
    pub clone_slots: usize,
}

impl RepositorySettings {
    /// Settings with the default of each field that has one.
    pub fn new(phid: Phid, name: &str, url: &str, try_url: &str) -> Self {
        Self {
            phid,
            name: name.to_owned(),
            url: url.to_owned(),
            vcs: VcsSettings::Mercurial,
            try_url: try_url.to_owned(),
            lando: None,
            try_name: "try".to_owned(),
            mode: TryMode::Json,
            jobs_url: None,
            default_revision: "tip".to_owned(),
            use_latest_revision: false,
            base_mapping: None,
            ssh_user: None,
            ssh_key: None,
            clone_slots: 1,
        }
    }
}

/// Addresses may hold passwords.
impl fmt::Debug for RepositorySettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RepositorySettings")
            .field("phid", &self.phid)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// The settings of a repository whose stacks are submitted to Lando.
#[derive(Debug, Clone)]
pub struct LandoSettings {
    /// The address of Lando.
    pub url: Url,
    /// The token of the user who submits. No other program may submit with it: see `lando/records.rs`.
    pub token: SecretString,
    /// The mail address of that user, by which jobs of ours are known.
    pub user: String,
    /// The name of the repository at Lando.
    pub repository: String,
    /// The longest time for a request. Lando checks the patches of a submission before it responds. It must be shorter than the
    /// time for which `lando/records.rs` waits for an answer that was lost.
    pub timeout: Duration,
}

impl LandoSettings {
    /// Settings with the usual time for a request.
    pub fn new(url: Url, token: SecretString, user: &str, repository: &str) -> Self {
        Self {
            url,
            token,
            user: user.to_owned(),
            repository: repository.to_owned(),
            timeout: Duration::from_secs(60),
        }
    }
}

/// The version control of a repository, with the settings that are its own.
#[derive(Debug, Clone)]
pub enum VcsSettings {
    /// Mercurial.
    Mercurial,
    /// Git.
    Git(GitSettings),
}

impl VcsSettings {
    /// The version control.
    pub fn kind(&self) -> VersionControl {
        match self {
            Self::Mercurial => VersionControl::Mercurial,
            Self::Git(_) => VersionControl::Git,
        }
    }

    /// The name of the newest revision of the source: the newest changeset with Mercurial, the newest commit of the
    /// default branch with Git.
    pub fn default_revision(&self) -> &'static str {
        match self {
            Self::Mercurial => "tip",
            Self::Git(_) => "HEAD",
        }
    }

    /// The settings for Git, if that is the version control.
    pub fn git(&self) -> Option<&GitSettings> {
        match self {
            Self::Git(git) => Some(git),
            Self::Mercurial => None,
        }
    }
}

/// The settings of a repository with Git.
#[derive(Debug, Clone)]
pub struct GitSettings {
    /// The ref at the destination that gets the head of a build, with `{revision}` and `{diff}` for their numbers.
    pub ref_template: String,
    /// The options of each push, for the server and its CI.
    pub push_options: Vec<String>,
    /// The time after which a ref of ours is deleted.
    pub ref_retention: Duration,
    /// The token for https at the server of the destination.
    pub https_token: Option<SecretString>,
    /// Clone without the contents of files, and fetch those that a stack needs.
    pub partial: bool,
    /// Apply patches that change the commit of a submodule.
    pub submodules: bool,
    /// A hook that declines a push is about the patches: its author reads what it says.
    pub hook_rejects_patches: bool,
    /// The address of the staging area, to which clients push the commits of diffs. With `None` there is none.
    pub staging: Option<String>,
}

/// The ref of a head, unless the configuration names another.
pub const DEFAULT_REF: &str = "refs/heads/phabricator/D{revision}/{diff}";

impl GitSettings {
    /// The ref that gets the head of a build.
    pub fn reference(&self, build: &Build) -> String {
        self.ref_template
            .replace("{revision}", &build.request.revision_id.to_string())
            .replace("{diff}", &build.diff.id.to_string())
    }
}

impl Default for GitSettings {
    fn default() -> Self {
        Self {
            ref_template: DEFAULT_REF.to_owned(),
            push_options: Vec::new(),
            ref_retention: Duration::from_secs(14 * 24 * 3600),
            https_token: None,
            partial: false,
            submodules: false,
            hook_rejects_patches: false,
            staging: None,
        }
    }
}

/// The way in which the last commit of a build configures CI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TryMode {
    /// The parameters in `try_task_config.json`.
    Json,
    /// This try syntax in the commit message, and `try_task_config.json`.
    Syntax(String),
    /// A file.
    File {
        /// Its path in the repository.
        path: String,
        /// The template of its content, in the language of Jinja; see [`crate::check_try_template`].
        template: String,
    },
    /// There is no such commit: the last patch is the head.
    None,
}

impl TryMode {
    /// The path of the file that the last commit writes; `None` without such a commit.
    pub fn path(&self) -> Option<&str> {
        match self {
            Self::Json | Self::Syntax(_) => Some(TRY_CONFIG),
            Self::File { path, .. } => Some(path),
            Self::None => None,
        }
    }
}

/// Bounds on foreign input, time and memory.
#[derive(Debug, Clone)]
pub struct Limits {
    /// The largest patch, in bytes.
    pub patch_bytes: usize,
    /// The most bytes of files that the patches of one stack may make, all together; see `patch::stack_size`.
    pub stack_bytes: u64,
    /// The most files in one patch.
    pub files: usize,
    /// The most patches in one stack.
    pub patches: usize,
    /// The time for one command that stays on this machine.
    pub command: Duration,
    /// The time for the import of one patch. A longer import is a failure of ours; see `apply_time` for the patch's own
    /// bound.
    pub import: Duration,
    /// The most lines in the hunks of one stack. Mercurial makes some objects of each, about 200 bytes for an empty
    /// one.
    pub lines: usize,
    /// The processor time for applying the patches of one build. A stack that takes more is refused.
    pub apply_time: Duration,
    /// The part of `apply_time` for patches whose hunks are at other lines than they say, in files where a search can take
    /// long.
    pub search_time: Duration,
    /// The processor time for applying the patches of one author within ten minutes. Builds beyond it are deferred.
    pub author_time: Duration,
    /// The time for one pull or push.
    pub transfer: Duration,
    /// The time for the first clone.
    pub clone: Duration,
    /// The time that a delivery waits for a clone before its build is deferred. It delays only builds of the same
    /// repository, and a kept clone is opened within a second. Each deferral stores the message again, which can be
    /// large.
    pub ready_wait: Duration,
    /// The most address space that a command server may have, in bytes: with Mercurial, its memory and some 50 MB. A
    /// stack that needs more is refused.
    ///
    /// Measured: 0.6 GB for the largest file and the largest patch that are allowed. Before that, 0.3 GB for a
    /// repository of 100,000 files, and some 1 GB for one of the size of mozilla-central. But 6.6 GB for a patch of 62
    /// MB that adds empty lines, since each line is an object. A machine with 4 GB for each clone slot survives the
    /// default.
    pub memory: u64,
    /// A command server that takes more memory than this after a build, in bytes, is replaced.
    pub server_memory: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            patch_bytes: 64 << 20,
            stack_bytes: 256_000_000,
            files: 20_000,
            patches: 100,
            command: Duration::from_secs(180),
            import: Duration::from_secs(180),
            lines: 2_000_000,
            apply_time: Duration::from_secs(60),
            search_time: Duration::from_secs(3),
            author_time: Duration::from_secs(120),
            transfer: Duration::from_secs(900),
            clone: Duration::from_secs(6 * 3600),
            ready_wait: Duration::from_secs(60),
            memory: 3 << 30,
            server_memory: 1 << 30,
        }
    }
}

impl Settings {
    /// Settings with the default of each field that has one.
    pub fn new(repositories: Vec<RepositorySettings>, clones_dir: PathBuf) -> Self {
        Self {
            repositories,
            clones_dir,
            default_author: "code-review-events <noreply@localhost>".to_owned(),
            treeherder_url: "https://treeherder.mozilla.org".to_owned(),
            skippable_files: BTreeSet::new(),
            build_expiry: Duration::from_secs(24 * 3600),
            known_hosts: None,
            tree_status: None,
            disk_budget: None,
            limits: Limits::default(),
        }
    }

    /// Refuses names that cannot be directories of their own, and values that cannot be arguments of a version control.
    pub fn check(&self) -> Result<(), WorkerError> {
        let refuse = |reason: String| Err(WorkerError::Settings { reason });
        if self.clones_dir.as_os_str().as_bytes().contains(&b':') {
            return refuse(
                "the path of the clones directory holds a colon, which Mercurial takes for a list"
                    .to_owned(),
            );
        }
        let mut names = HashSet::new();
        let mut phids = HashSet::new();
        for repository in &self.repositories {
            let name = &repository.name;
            if !is_name(name) {
                return refuse(format!(
                    "{name:?} cannot name a repository: use letters, digits, `.`, `_` and `-`"
                ));
            }
            if repository.clone_slots == 0 {
                return refuse(format!(
                    "repository {name} has no clone slot: set clone_slots to 1 or more"
                ));
            }
            if !names.insert(name) || !phids.insert(&repository.phid) {
                return refuse(format!("repository {name} is configured twice"));
            }
            for (what, value) in [
                ("url", &repository.url),
                ("the destination", &repository.try_url),
                ("default_revision", &repository.default_revision),
            ] {
                if value.is_empty() || value.contains(char::is_control) {
                    return refuse(format!(
                        "{what} of repository {name} is empty or holds a control character"
                    ));
                }
            }
            if let Some(git) = repository.vcs.git()
                && let Err(fault) = ref_template::check(&git.ref_template)
            {
                return refuse(format!("the ref of repository {name}: {fault}"));
            }
        }
        if self.default_author.trim().is_empty() {
            return refuse("the default author is empty".to_owned());
        }
        Ok(())
    }
}

/// Whether this can be the name of a repository, and so of its directory.
pub(crate) fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repository(name: &str, phid: &str) -> RepositorySettings {
        let phid = Phid::parse(phid).expect("a PHID");
        RepositorySettings::new(
            phid,
            name,
            "https://hg.example.org/source",
            "ssh://hg.example.org/try",
        )
    }

    #[test]
    fn names_are_directories_of_their_own() {
        let table: [(&[&str], bool); 9] = [
            (&["mozilla-central", "nss"], true),
            (&[""], false),
            (&[".."], false),
            (&[".ssh"], false),
            (&["nss@2"], false),
            (&["a/b"], false),
            (&["-a"], false),
            (&["a\0"], false),
            (&["nss", "nss"], false),
        ];
        for (names, good) in table {
            let repositories = names
                .iter()
                .enumerate()
                .map(|(i, name)| repository(name, &format!("PHID-REPO-{i}")))
                .collect();
            let settings = Settings::new(repositories, PathBuf::from("clones"));
            assert_eq!(settings.check().is_ok(), good, "{names:?}");
        }
    }

    #[test]
    fn key_is_not_shown() {
        let mut settings = repository("nss", "PHID-REPO-1");
        settings.ssh_key = Some(SecretString::from("BEGIN PRIVATE"));
        assert!(!format!("{settings:?}").contains("PRIVATE"));
    }
}
