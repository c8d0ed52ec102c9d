//! Diffs that the poller found.

use bus::Message;
use serde::{Deserialize, Serialize};

use super::Phid;

/// A diff of a public revision that the poller had not seen before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewDiff {
    /// The diff's PHID.
    pub phid: Phid,
    /// The diff's number.
    pub id: u64,
    /// The revision that it belongs to.
    pub revision: Phid,
    /// The repository that it was made in, one of the enabled ones.
    pub repository: Phid,
}

impl Message for NewDiff {
    const VERSION: u16 = 1;
}
