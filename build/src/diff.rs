//! Diffs that were found by looking for them.

use bus::Message;
use serde::{Deserialize, Serialize};

use super::Phid;

/// A diff of a public revision that is new to us.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewDiff {
    /// Its PHID.
    pub phid: Phid,
    /// Its number.
    pub id: u64,
    /// The revision that it belongs to.
    pub revision: Phid,
    /// The repository that it was made in, one of those that are enabled.
    pub repository: Phid,
}

impl Message for NewDiff {
    const VERSION: u16 = 1;
}
