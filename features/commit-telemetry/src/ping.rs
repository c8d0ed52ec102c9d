//! The ping of a changeset.

use serde::Serialize;

use crate::{Diffstat, Node, Repository, ReviewSystem};

/// A changeset's ping, in the fields of the schema `hgpush.1`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Ping {
    /// The changeset.
    #[serde(rename = "changesetID")]
    pub changeset_id: Node,
    /// The size of its change; only for changesets that were reviewed on Phabricator or Bugzilla.
    pub diffstat: Option<Diffstat>,
    /// The program that landed it, such as `lando`.
    pub landing_system: Option<String>,
    /// The result of the classification.
    pub review_system_used: ReviewSystem,
    /// The repository to which it was pushed.
    pub repository: Repository,
    /// The time of the push, in seconds since 1970 plus the offset of the pushlog's time zone. The predecessor sent this sum.
    pub push_date: i64,
}

impl ReviewSystem {
    /// Whether pings of this system have a diffstat.
    pub(crate) fn has_diffstat(self) -> bool {
        matches!(self, Self::Phabricator | Self::Bmo)
    }
}
