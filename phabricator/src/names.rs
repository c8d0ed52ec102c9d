//! Resolves the configured names of users and projects to PHIDs, and keeps them up to date while the process runs.

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

/// The time between two refreshes.
const REFRESH: Duration = Duration::from_secs(3600);

/// The names that a [`NameResolver`] resolves.
#[derive(Debug, Clone)]
pub struct ConfiguredNames {
    /// Usernames of the authors whose revisions are not built.
    pub skipped_authors: Vec<String>,
    /// Slugs of the projects whose revisions are private, whatever their policy says.
    pub secure_projects: Vec<String>,
}

/// The PHIDs of the configured names. Clones share them.
#[derive(Debug, Clone)]
pub struct NameResolver {
    names: Arc<ConfiguredNames>,
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

impl ConfiguredNames {
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

    /// The names without a PHID.
    fn unknown(&self, known: &Known) -> BTreeSet<Name> {
        let users = self.skipped_authors.iter().cloned().map(Name::User);
        let projects = self.secure_projects.iter().cloned().map(Name::Project);
        users
            .chain(projects)
            .filter(|name| !known.contains_key(name))
            .collect()
    }
}

impl NameResolver {
    /// Resolves `names` on Phabricator. A name that Phabricator does not know is not an error; see
    /// [`NameResolver::unknown`].
    pub async fn load(conduit: &Conduit, names: ConfiguredNames) -> Result<Self, ConduitError> {
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

    /// The names without a PHID, such as `user alice` and `project secure-revision`.
    pub fn unknown(&self) -> Vec<String> {
        self.names
            .unknown(&self.known())
            .iter()
            .map(Name::to_string)
            .collect()
    }

    /// A service that resolves the names again every hour, for all clones of this resolver.
    pub fn refresher(&self, conduit: Conduit, clock: Arc<dyn Clock>) -> NameRefresher {
        NameRefresher {
            resolver: self.clone(),
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

    /// The rules that make a revision private, as they are now.
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

    /// The PHIDs of the names.
    fn known(&self) -> RwLockReadGuard<'_, Known> {
        self.known.read()
    }

    /// Takes over the PHIDs in `fresh`. A name that `fresh` lacks keeps its PHID: a renamed user is the same user, and a
    /// private revision must not become public because our user does not see its project any more.
    fn learn(&self, fresh: Known) {
        let mut known = self.known.write();
        for (name, phid) in fresh {
            if known.get(&name) != Some(&phid) {
                info!("resolved {name} to {phid}");
                known.insert(name, phid);
            }
        }
    }
}

/// Keeps a [`NameResolver`] up to date.
pub struct NameRefresher {
    resolver: NameResolver,
    conduit: Conduit,
    clock: Arc<dyn Clock>,
    /// Whether the last refresh failed.
    fails: bool,
    /// The names that the last refresh did not find.
    lost: BTreeSet<Name>,
}

impl NameRefresher {
    async fn refresh(&mut self) {
        let names = &self.resolver.names;
        let fresh = match names.look_up(&self.conduit).await {
            Ok(fresh) => fresh,
            Err(error) => {
                if !self.fails {
                    let error = error_chain(&error);
                    warn!(
                        error,
                        "cannot refresh the configured names from phabricator; keeping the previous ones"
                    );
                }
                self.fails = true;
                return;
            }
        };
        if self.fails {
            info!("refreshed the configured names from phabricator again");
        }
        self.fails = false;
        let lost = names.unknown(&fresh);
        for name in lost.difference(&self.lost) {
            error!(
                "phabricator does not know {name} any more; keeping its previous PHID, but the next start will fail; \
                 correct the name, or let our user see it"
            );
        }
        self.lost = lost;
        self.resolver.learn(fresh);
    }
}

#[async_trait]
impl Service for NameRefresher {
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
