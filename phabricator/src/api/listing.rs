//! Searches for the poller: diffs in the order of their creation, and revisions in the order of their changes.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{PAGE, Page, params, review::epoch};
use crate::{Conduit, ConduitError, api::RevisionInfo};
use build::Phid;

const DIFFS: &str = "differential.diff.search";
const REVISIONS: &str = "differential.revision.search";

/// A result of a search for diffs.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Listed {
    pub(crate) id: u64,
    #[serde(flatten)]
    pub(crate) object: Object,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "type")]
pub(crate) enum Object {
    #[serde(rename = "DIFF")]
    Diff { phid: Phid, fields: ListedFields },
    /// A type that this release does not know.
    #[serde(other)]
    Other,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ListedFields {
    /// `None` until its author's client attaches the diff to a revision, with a call of its own.
    #[serde(rename = "revisionPHID")]
    pub(crate) revision: Option<Phid>,
    #[serde(rename = "repositoryPHID")]
    pub(crate) repository: Option<Phid>,
    #[serde(rename = "dateCreated", deserialize_with = "epoch")]
    pub(crate) created_at: Timestamp,
}

impl Conduit {
    /// The visible diffs that come after number `id`, oldest first, up to [`PAGE`] of them.
    pub(crate) async fn diffs_after(&self, id: u64) -> Result<Vec<Listed>, ConduitError> {
        let mut request = params(json!({ "order": "oldest", "limit": PAGE }));
        if id > 0 {
            request.insert("after".to_owned(), Value::String(id.to_string()));
        }
        let mut found = match self.call::<Page<Listed>>(DIFFS, request).await {
            Ok(page) => page.data,
            // The server searches only after a diff that it shows; this one may have become private, or was destroyed.
            // The code of that refusal stands for many others, too.
            Err(ConduitError::Refused { code, .. }) if code == "ERR-CONDUIT-CORE" && id > 0 => {
                self.diffs_down_to(id).await?
            }
            Err(error) => return Err(error),
        };
        found.retain(|listed| listed.id > id);
        found.sort_unstable_by_key(|listed| listed.id);
        found.truncate(PAGE);
        Ok(found)
    }

    /// The same without naming a diff: from the newest one down to number `id`, page by page.
    async fn diffs_down_to(&self, id: u64) -> Result<Vec<Listed>, ConduitError> {
        let request = params(json!({ "order": "newest", "limit": PAGE }));
        self.pages(DIFFS, request, |page: &[Listed]| {
            page.iter().all(|listed| listed.id > id)
        })
        .await
    }

    /// The number of the newest visible diff; 0 when there is none.
    pub(crate) async fn newest_diff(&self) -> Result<u64, ConduitError> {
        let page: Page<Listed> = self
            .call(DIFFS, params(json!({ "order": "newest", "limit": 1 })))
            .await?;
        Ok(page.data.first().map_or(0, |listed| listed.id))
    }

    /// The visible ones of these diffs.
    pub(crate) async fn listed_diffs(&self, phids: &[&Phid]) -> Result<Vec<Listed>, ConduitError> {
        self.search(DIFFS, "phids", phids, json!({})).await
    }

    /// The visible revisions that changed at `since` or later, by the server's clock. A revision that changes during the
    /// search may be listed twice.
    pub(crate) async fn revisions_since(
        &self,
        since: Timestamp,
    ) -> Result<Vec<RevisionInfo>, ConduitError> {
        let attachments = json!({ "projects": true, "reviewers": true });
        let request =
            params(json!({ "order": "updated", "limit": PAGE, "attachments": attachments }));
        let is_new = |revision: &RevisionInfo| revision.fields.modified_at >= since;
        let mut found = self
            .pages(REVISIONS, request, |page: &[RevisionInfo]| {
                page.iter().all(is_new)
            })
            .await?;
        found.retain(is_new);
        Ok(found)
    }

    /// The time of the last change of a visible revision, by the server's clock; `None` when there is none.
    pub(crate) async fn last_change(&self) -> Result<Option<Timestamp>, ConduitError> {
        let attachments = json!({ "projects": true, "reviewers": true });
        let request = params(json!({ "order": "updated", "limit": 1, "attachments": attachments }));
        let page: Page<RevisionInfo> = self.call(REVISIONS, request).await?;
        Ok(page
            .data
            .first()
            .map(|revision| revision.fields.modified_at))
    }
}
