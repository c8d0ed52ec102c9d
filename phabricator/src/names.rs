//! Who and what configured names are on Phabricator, kept up to date while the process runs.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
    time::Duration,
};

use parking_lot::{RwLock, RwLockReadGuard};

use async_trait::async_trait;
use runtime::{Clock, Service, ServiceError, Shutdown, error_chain};
use tracing::{error, info, warn};

use crate::{
    Conduit, ConduitError,
    visibility::{Privacy, ViewPolicies},
};
use build::Phid;

/// How often the names are looked up again.
const REFRESH: Duration = Duration::from_secs(3600);

/// The names that a [`Directory`] knows.
#[derive(Debug, Clone)]
pub struct DirectoryNames {
    /// Usernames of the authors whose revisions are not built.
    pub skipped_authors: Vec<String>,
    /// Slugs of the projects whose revisions are private, whatever their policy says. Without one, every revision that
    /// our user sees counts as public.
    pub secure_projects: Vec<String>,
}

/// What names mean on Phabricator. Clones share what they know.
#[derive(Debug, Clone)]
pub struct Directory {
    names: Arc<DirectoryNames>,
    policies: ViewPolicies,
    known: Arc<RwLock<Known>>,
}

type Known = BTreeMap<Name, Phid>;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Name {
    User(String),
    Project(String),
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(name) => write!(f, "user {name}"),
            Self::Project(slug) => write!(f, "project {slug}"),
        }
    }
}

impl DirectoryNames {
    async fn look_up(&self, conduit: &Conduit) -> Result<Known, ConduitError> {
        let users = conduit.users(&self.skipped_authors).await?;
        let mut known: Known = users
            .into_iter()
            .map(|(name, phid)| (Name::User(name), phid))
            .collect();
        for slug in &self.secure_projects {
            if let Some(phid) = conduit.project(slug).await? {
                known.insert(Name::Project(slug.clone()), phid);
            }
        }
        Ok(known)
    }

    /// Those that mean nothing.
    fn unknown(&self, known: &Known) -> BTreeSet<Name> {
        let users = self.skipped_authors.iter().cloned().map(Name::User);
        let projects = self.secure_projects.iter().cloned().map(Name::Project);
        users
            .chain(projects)
            .filter(|name| !known.contains_key(name))
            .collect()
    }
}

impl Directory {
    /// Asks Phabricator what `names` mean.
    pub async fn load(conduit: &Conduit, names: DirectoryNames) -> Result<Self, ConduitError> {
        let known = names.look_up(conduit).await?;
        Ok(Self {
            names: Arc::new(names),
            policies: ViewPolicies::default(),
            known: Arc::new(RwLock::new(known)),
        })
    }

    /// Counts revisions with other view policies as private.
    #[must_use]
    pub fn with_view_policies(self, policies: ViewPolicies) -> Self {
        Self { policies, ..self }
    }

    /// The names that mean nothing, such as `user alice` and `project secure-revision`.
    pub fn unknown(&self) -> Vec<String> {
        self.names
            .unknown(&self.known())
            .iter()
            .map(Name::to_string)
            .collect()
    }

    /// Looks the names up again every hour, for all clones of this directory.
    pub fn keeper(&self, conduit: Conduit, clock: Arc<dyn Clock>) -> DirectoryKeeper {
        DirectoryKeeper {
            directory: self.clone(),
            conduit,
            clock,
            fails: false,
            lost: BTreeSet::new(),
        }
    }

    pub(crate) fn skips(&self, author: &Phid) -> bool {
        self.known()
            .iter()
            .any(|(name, phid)| matches!(name, Name::User(_)) && phid == author)
    }

    /// What makes a revision private, as it is now.
    pub(crate) fn privacy(&self) -> Privacy {
        let known = self.known();
        let projects = known
            .iter()
            .filter(|(name, _)| matches!(name, Name::Project(_)));
        let secure = projects.map(|(_, phid)| phid.clone()).collect();
        Privacy {
            secure,
            policies: self.policies.clone(),
        }
    }

    /// What is known is whole between any two statements, so a panic elsewhere does not spoil it.
    fn known(&self) -> RwLockReadGuard<'_, Known> {
        self.known.read()
    }

    /// Takes over what `fresh` knows. A name that it does not know keeps its meaning: a user who was renamed is the
    /// same user, and a private revision must not become public because our user lost sight of its project.
    fn learn(&self, fresh: Known) {
        let mut known = self.known.write();
        for (name, phid) in fresh {
            if known.get(&name) != Some(&phid) {
                info!("{name} is now {phid}");
                known.insert(name, phid);
            }
        }
    }
}

/// Keeps a [`Directory`] up to date.
pub struct DirectoryKeeper {
    directory: Directory,
    conduit: Conduit,
    clock: Arc<dyn Clock>,
    /// Whether the last look failed.
    fails: bool,
    /// The names that the last look did not find.
    lost: BTreeSet<Name>,
}

impl DirectoryKeeper {
    async fn refresh(&mut self) {
        let names = &self.directory.names;
        let fresh = match names.look_up(&self.conduit).await {
            Ok(fresh) => fresh,
            Err(error) => {
                if !self.fails {
                    let error = error_chain(&error);
                    warn!(
                        error,
                        "phabricator does not tell what the configured names are now, so they stay as they were"
                    );
                }
                self.fails = true;
                return;
            }
        };
        if self.fails {
            info!("phabricator tells what the configured names are again");
        }
        self.fails = false;
        let lost = names.unknown(&fresh);
        for name in lost.difference(&self.lost) {
            error!(
                "phabricator does not know {name} any more: it stays what it was, but the next start will fail; \
                 correct the name, or let our user see it"
            );
        }
        self.lost = lost;
        self.directory.learn(fresh);
    }
}

#[async_trait]
impl Service for DirectoryKeeper {
    fn name(&self) -> &str {
        "directory"
    }

    async fn run(mut self: Box<Self>, shutdown: Shutdown) -> Result<(), ServiceError> {
        let clock = Arc::clone(&self.clock);
        loop {
            let refreshed = async {
                clock.sleep(REFRESH).await;
                self.refresh().await;
            };
            tokio::select! {
                () = refreshed => {}
                () = shutdown.stopping() => return Ok(()),
            }
        }
    }
}
