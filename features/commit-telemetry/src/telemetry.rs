//! From a changeset to its ping.

use std::{fmt, io, sync::Arc};

use crate::{
    Bugzilla, Changeset, Edge, Evidence, Hgweb, Node, Ping, Repository, ReviewSystem, Rules,
    TelemetryError,
};

/// Shows a ping to somebody.
pub type Show = Arc<dyn Fn(&Ping) -> io::Result<()> + Send + Sync>;

/// The three servers that are needed, and what is done with them. Clones share what Bugzilla answered.
#[derive(Clone)]
pub struct Telemetry {
    hgweb: Hgweb,
    bugzilla: Bugzilla,
    edge: Edge,
    rules: Rules,
    /// Who is shown the pings, if they are not sent.
    show: Option<Show>,
}

impl fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            hgweb,
            bugzilla,
            edge,
            rules,
            show: _,
        } = self;
        let mut parts = f.debug_struct("Telemetry");
        parts
            .field("hgweb", hgweb)
            .field("bugzilla", bugzilla)
            .field("edge", edge);
        parts.field("rules", rules).field("sends", &self.sends());
        parts.finish_non_exhaustive()
    }
}

impl Telemetry {
    /// Asks and sends by these clients.
    pub fn new(hgweb: Hgweb, bugzilla: Bugzilla, edge: Edge) -> Self {
        Self {
            hgweb,
            bugzilla,
            edge,
            rules: Rules::default(),
            show: None,
        }
    }

    /// Classifies by these rules.
    pub fn classified_by(self, rules: Rules) -> Self {
        Self { rules, ..self }
    }

    /// Shows the pings that it would send, and sends none.
    pub fn only_shown(self, show: Show) -> Self {
        Self {
            show: Some(show),
            ..self
        }
    }

    /// Whether pings are sent, and not only shown.
    pub fn sends(&self) -> bool {
        self.show.is_none()
    }

    /// The servers of the repositories.
    pub fn hgweb(&self) -> &Hgweb {
        &self.hgweb
    }

    /// Where pings are sent.
    pub fn edge(&self) -> &Edge {
        &self.edge
    }

    /// The ping of the changeset that the repository knows by this name: its id, or the beginning of it.
    pub async fn ping_for(
        &self,
        repository: &Repository,
        revision: &str,
    ) -> Result<Ping, TelemetryError> {
        let changeset = self.hgweb.changeset(repository, revision).await?;
        let undecodable = |problem: &str| TelemetryError::Undecodable {
            call: format!("changeset {revision} of {repository}"),
            problem: problem.to_owned(),
        };
        if Node::try_from(revision.to_owned()).is_ok_and(|asked| asked != changeset.node) {
            return Err(undecodable("node: is another than was asked for"));
        }
        let pushdate = || {
            undecodable(
                "pushdate: is not there: the repository has no pushlog, or not of this changeset",
            )
        };
        let (seconds, offset) = changeset.pushdate.ok_or_else(pushdate)?;
        let review_system_used = self.review_system(&changeset).await?;
        let diffstat = match review_system_used.has_diffstat() {
            true => Some(self.hgweb.diffstat(repository, &changeset).await?),
            false => None,
        };
        Ok(Ping {
            changeset_id: changeset.node,
            diffstat,
            landing_system: changeset.landingsystem,
            review_system_used,
            repository: repository.clone(),
            // Whole seconds; what does not fit is no date, and the schema says so.
            push_date: (seconds + offset) as i64,
        })
    }

    async fn review_system(&self, changeset: &Changeset) -> Result<ReviewSystem, TelemetryError> {
        let text = |bytes| String::from_utf8_lossy(bytes);
        let (description, author) = (text(&changeset.description), text(&changeset.author));
        match Evidence::of(self.rules, &description, &author, changeset.parents.len()) {
            Evidence::Clear(system) => Ok(system),
            Evidence::Bug(bug) => self.bugzilla.review_system(bug).await,
        }
    }

    /// Sends a ping. It is accepted when this returns `Ok`; to send it again does no harm.
    pub async fn send(&self, ping: &Ping) -> Result<(), TelemetryError> {
        let Some(show) = &self.show else {
            return self.edge.send(ping).await;
        };
        self.edge.check(ping)?;
        show(ping).map_err(|source| TelemetryError::Unshown {
            node: ping.changeset_id.clone(),
            source,
        })
    }
}
