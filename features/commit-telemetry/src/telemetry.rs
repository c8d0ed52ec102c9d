//! The steps from a changeset to its ping.

use std::{fmt, io, sync::Arc};

use crate::{
    Bugzilla, Changeset, Classification, Edge, Hgweb, Node, Ping, Repository, ReviewSystem, Rules,
    TelemetryError, classify,
};

/// Prints a ping instead of sending it.
pub type PrintPing = Arc<dyn Fn(&Ping) -> io::Result<()> + Send + Sync>;

/// Makes and sends pings. Clones share Bugzilla's cache.
#[derive(Clone)]
pub struct Telemetry {
    hgweb: Hgweb,
    bugzilla: Bugzilla,
    edge: Edge,
    rules: Rules,
    /// Set in a dry run.
    print: Option<PrintPing>,
}

impl fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            hgweb,
            bugzilla,
            edge,
            rules,
            print: _,
        } = self;
        f.debug_struct("Telemetry")
            .field("hgweb", hgweb)
            .field("bugzilla", bugzilla)
            .field("edge", edge)
            .field("rules", rules)
            .field("sends", &self.sends())
            .finish_non_exhaustive()
    }
}

impl Telemetry {
    /// Telemetry with the default rules.
    pub fn new(hgweb: Hgweb, bugzilla: Bugzilla, edge: Edge) -> Self {
        Self {
            hgweb,
            bugzilla,
            edge,
            rules: Rules::default(),
            print: None,
        }
    }

    /// Sets the rules of the classification.
    pub fn with_rules(self, rules: Rules) -> Self {
        Self { rules, ..self }
    }

    /// Prints each ping instead of sending it.
    pub fn dry_run(self, print: PrintPing) -> Self {
        Self {
            print: Some(print),
            ..self
        }
    }

    /// Whether pings are sent. False in a dry run.
    pub fn sends(&self) -> bool {
        self.print.is_none()
    }

    /// The client of the repositories' servers.
    pub fn hgweb(&self) -> &Hgweb {
        &self.hgweb
    }

    /// The ping of the changeset with this id, or with this prefix of its id.
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
        if Node::try_from(revision.to_owned()).is_ok_and(|node| node != changeset.node) {
            return Err(undecodable("node: not the requested one"));
        }
        let (seconds, offset) = changeset.pushdate.ok_or_else(|| {
            undecodable(
                "pushdate: missing: the pushlog of the repository does not have the changeset",
            )
        })?;
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
            // Whole seconds. The schema rejects a value that is not a date.
            push_date: (seconds + offset) as i64,
        })
    }

    async fn review_system(&self, changeset: &Changeset) -> Result<ReviewSystem, TelemetryError> {
        let description = String::from_utf8_lossy(&changeset.description);
        let author = String::from_utf8_lossy(&changeset.author);
        match classify(self.rules, &description, &author, changeset.parents.len()) {
            Classification::System(system) => Ok(system),
            Classification::Bug(bug) => self.bugzilla.review_system(bug).await,
        }
    }

    /// Sends a ping, or prints it in a dry run. `Ok` means that the ingestion accepted it. Repeats are harmless.
    pub async fn send(&self, ping: &Ping) -> Result<(), TelemetryError> {
        let Some(print) = &self.print else {
            return self.edge.send(ping).await;
        };
        self.edge.check(ping)?;
        print(ping).map_err(|source| TelemetryError::PrintFailed {
            node: ping.changeset_id.clone(),
            source,
        })
    }
}
