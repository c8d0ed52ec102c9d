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
    /// How much it changes. Only told of what was reviewed, on Phabricator or on Bugzilla.
    pub diffstat: Option<Diffstat>,
    /// The program that landed it, such as `lando`.
    pub landing_system: Option<String>,
    /// Where it was reviewed.
    pub review_system_used: ReviewSystem,
    /// The repository to which it was pushed.
    pub repository: Repository,
    /// When it was pushed, in seconds since 1970 plus the offset of the pushlog's time zone, as this ping always had it.
    pub push_date: i64,
}

impl ReviewSystem {
    /// Whether pings of this system tell how much was changed.
    pub(crate) fn has_diffstat(self) -> bool {
        matches!(self, Self::Phabricator | Self::Bmo)
    }
}
