//! Revisions, diffs, and the edges between revisions.

use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::json;

use super::{PAGE, Page, params};
use crate::{Conduit, ConduitError};
use build::{PatchFile, Phid};

/// What is read of a revision.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct RevisionInfo {
    pub(crate) id: u64,
    pub(crate) phid: Phid,
    pub(crate) fields: RevisionFields,
    attachments: RevisionAttachments,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RevisionFields {
    pub(crate) title: String,
    pub(crate) uri: String,
    #[serde(rename = "authorPHID")]
    pub(crate) author: Phid,
    status: StatusField,
    #[serde(rename = "repositoryPHID")]
    pub(crate) repository: Option<Phid>,
    /// The newest diff.
    #[serde(rename = "diffPHID")]
    pub(crate) diff: Phid,
    #[serde(rename = "dateModified", deserialize_with = "epoch")]
    pub(crate) modified_at: Timestamp,
    policy: PolicyField,
}

#[derive(Debug, Clone, Deserialize)]
struct PolicyField {
    view: String,
}

#[derive(Debug, Clone, Deserialize)]
struct StatusField {
    value: Status,
}

/// A revision's status, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Status {
    /// It has landed.
    Published,
    /// Its author has given it up.
    Abandoned,
    /// Anything else.
    #[serde(other)]
    Open,
}

#[derive(Debug, Clone, Deserialize)]
struct RevisionAttachments {
    projects: Projects,
    reviewers: Reviewers,
}

#[derive(Debug, Clone, Deserialize)]
struct Projects {
    #[serde(rename = "projectPHIDs")]
    phids: Vec<Phid>,
}

#[derive(Debug, Clone, Deserialize)]
struct Reviewers {
    reviewers: Vec<Reviewer>,
}

#[derive(Debug, Clone, Deserialize)]
struct Reviewer {
    #[serde(rename = "reviewerPHID")]
    phid: Phid,
}

impl RevisionInfo {
    /// Whether its author has given it up.
    pub(crate) fn abandoned(&self) -> bool {
        self.fields.status.value == Status::Abandoned
    }

    /// Whether it has landed.
    pub(crate) fn landed(&self) -> bool {
        self.fields.status.value == Status::Published
    }

    /// Who may see it, as the server names that: `public`, `users`, or the PHID of a user, a project or a policy.
    pub(crate) fn view_policy(&self) -> &str {
        &self.fields.policy.view
    }

    /// The projects it is tagged with.
    pub(crate) fn projects(&self) -> &[Phid] {
        &self.attachments.projects.phids
    }

    /// Its reviewers, users and projects.
    pub(crate) fn reviewers(&self) -> Vec<Phid> {
        self.attachments
            .reviewers
            .reviewers
            .iter()
            .map(|reviewer| reviewer.phid.clone())
            .collect()
    }
}

/// What is read of a diff.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct DiffInfo {
    pub(crate) id: u64,
    pub(crate) phid: Phid,
    pub(crate) fields: DiffFields,
    attachments: DiffAttachments,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DiffFields {
    #[serde(rename = "revisionPHID")]
    pub(crate) revision: Option<Phid>,
    #[serde(rename = "dateCreated", deserialize_with = "epoch")]
    pub(crate) created_at: Timestamp,
    refs: Vec<Ref>,
}

#[derive(Debug, Clone, Deserialize)]
struct Ref {
    #[serde(rename = "type")]
    kind: String,
    identifier: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
struct DiffAttachments {
    commits: Commits,
}

#[derive(Debug, Clone, Deserialize)]
struct Commits {
    commits: Vec<Commit>,
}

/// One of the commits that a diff was made from.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Commit {
    pub(crate) author: Option<CommitAuthor>,
    pub(crate) message: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct CommitAuthor {
    /// `"Name" <mail>`, as the author's client gave it.
    pub(crate) raw: Option<String>,
}

impl DiffInfo {
    /// The revision that the diff was made on, as the author's client said.
    pub(crate) fn base(&self) -> Option<&str> {
        self.fields
            .refs
            .iter()
            .find(|entry| entry.kind == "base")?
            .identifier
            .as_deref()
    }

    /// The message of the first commit, if it says anything.
    pub(crate) fn message(&self) -> Option<&str> {
        let message = self.first_commit()?.message.as_deref()?;
        (!message.trim().is_empty()).then_some(message)
    }

    /// The first of the commits it was made from; there is none without commit information.
    pub(crate) fn first_commit(&self) -> Option<&Commit> {
        self.attachments.commits.commits.first()
    }
}

pub(super) fn epoch<'de, D: Deserializer<'de>>(from: D) -> Result<Timestamp, D::Error> {
    Timestamp::from_second(i64::deserialize(from)?).map_err(D::Error::custom)
}

#[derive(Deserialize)]
struct Edge {
    #[serde(rename = "sourcePHID")]
    source: Phid,
    #[serde(rename = "destinationPHID")]
    destination: Phid,
}

/// That one revision stands on another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Parent {
    pub(crate) child: Phid,
    pub(crate) parent: Phid,
}

impl Conduit {
    /// The revision with this number, if it is visible.
    pub(crate) async fn revision(&self, id: u64) -> Result<Option<RevisionInfo>, ConduitError> {
        Ok(self.revisions_by_id(&[id]).await?.pop())
    }

    /// Those of the revisions with these numbers that are visible. They are not more than [`PAGE`].
    pub(crate) async fn revisions_by_id(
        &self,
        ids: &[u64],
    ) -> Result<Vec<RevisionInfo>, ConduitError> {
        let request = json!({ "constraints": { "ids": ids }, "attachments": { "projects": true, "reviewers": true } });
        let page: Page<RevisionInfo> = self
            .call("differential.revision.search", params(request))
            .await?;
        Ok(page.data)
    }

    /// Those of the revisions that are visible.
    pub(crate) async fn revisions(
        &self,
        phids: &[Phid],
    ) -> Result<Vec<RevisionInfo>, ConduitError> {
        let attachments = json!({ "projects": true, "reviewers": true });
        self.search("differential.revision.search", "phids", phids, attachments)
            .await
    }

    /// The diff with this number, if it is visible.
    pub(crate) async fn diff(&self, id: u64) -> Result<Option<DiffInfo>, ConduitError> {
        let page: Page<DiffInfo> = self
            .call(
                "differential.diff.search",
                params(
                    json!({ "constraints": { "ids": [id] }, "attachments": { "commits": true } }),
                ),
            )
            .await?;
        Ok(page.data.into_iter().next())
    }

    /// Those of the diffs that are visible.
    pub(crate) async fn diffs(&self, phids: &[Phid]) -> Result<Vec<DiffInfo>, ConduitError> {
        self.search(
            "differential.diff.search",
            "phids",
            phids,
            json!({ "commits": true }),
        )
        .await
    }

    /// The direct parents of `children`, newest first; `None` when there are more than [`PAGE`]: this method's paging
    /// loses edges, and a lost edge is a lost patch.
    ///
    /// Every child must be visible, or the server refuses the whole call. The parents need not be.
    pub(crate) async fn parents(
        &self,
        children: &[Phid],
    ) -> Result<Option<Vec<Parent>>, ConduitError> {
        if children.is_empty() {
            return Ok(Some(Vec::new()));
        }
        let request =
            json!({ "sourcePHIDs": children, "types": ["revision.parent"], "limit": PAGE });
        let page: Page<Edge> = self.call("edge.search", params(request)).await?;
        if page.cursor.after.is_some() {
            return Ok(None);
        }
        let parents = page.data.into_iter().map(|edge| Parent {
            child: edge.source,
            parent: edge.destination,
        });
        Ok(Some(parents.collect()))
    }

    /// Loads the patch of a diff, in git's format, into the file for this place of a stack; it may have `most` bytes.
    /// `None` when the diff is unknown or invisible.
    pub(crate) async fn raw_diff(
        &self,
        id: u64,
        directory: &Path,
        place: usize,
        most: usize,
    ) -> Result<Option<PatchFile>, ConduitError> {
        let method = "differential.getrawdiff";
        let patch = PatchFile::create(directory, place)
            .map_err(|source| ConduitError::Disk { method, source })?;
        let params = params(json!({ "diffID": id }));
        match self.download(method, params, directory, patch, most).await {
            Ok(patch) => Ok(Some(patch.finish())),
            Err(ConduitError::Refused { code, .. }) if code == "ERR_NOT_FOUND" => Ok(None),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde::de::DeserializeOwned;

    use super::*;

    #[derive(Deserialize)]
    struct Recorded<T> {
        response: Answer<T>,
    }

    #[derive(Deserialize)]
    struct Answer<T> {
        result: Page<T>,
    }

    fn first<T: DeserializeOwned>(recorded: &str) -> T {
        let recorded: Recorded<T> = serde_json::from_str(recorded).unwrap();
        recorded.response.result.data.into_iter().next().unwrap()
    }

    macro_rules! fixture {
        ($name:literal) => {
            include_str!(concat!("../../tests/fixtures/phorge/", $name, ".json"))
        };
    }

    #[test]
    fn a_recorded_revision_is_read() {
        let revision: RevisionInfo =
            first(fixture!("differential.revision.search.phid-attachments"));
        assert_eq!((revision.id, revision.landed()), (1, false));
        assert_eq!(revision.fields.title, "Bug 1 - Simple change r?bob");
        let reviewers: Vec<String> = revision.reviewers().into_iter().map(String::from).collect();
        assert_eq!(
            reviewers,
            [
                "PHID-USER-nw3glx4prrlm7gz2tilf",
                "PHID-PROJ-l7duo3s2hhvestdy3xt2"
            ]
        );
        assert_eq!(
            (revision.projects(), revision.view_policy()),
            ([].as_slice(), "users")
        );
        let secure: RevisionInfo = first(fixture!("differential.revision.search.secure"));
        assert_eq!(
            (secure.projects().len(), secure.view_policy()),
            (1, "PHID-PROJ-tqu3hlbr7eoh6nowuays")
        );
    }

    #[test]
    fn recorded_diffs_are_read_with_and_without_commits_and_revision() {
        let diff: DiffInfo = first(fixture!("differential.diff.search.phid-commits"));
        assert_eq!(
            (diff.id, diff.base()),
            (3, Some("f7f4af8163abc93a4c96dac8c4f1321e99e02f67"))
        );
        assert_eq!(diff.fields.created_at.as_second(), 1_795_228_627);
        let commit = diff.first_commit().unwrap();
        let raw = commit.author.as_ref().unwrap().raw.as_deref();
        assert_eq!(raw, Some("\"Alice Example\" <alice@example.com>"));
        assert_eq!(
            commit.message.as_deref(),
            Some("Bug 1 - Simple change r?bob")
        );
        let bare: DiffInfo = first(fixture!("differential.diff.search.no-revision"));
        assert_eq!(
            (
                bare.fields.revision.is_none(),
                bare.base(),
                bare.first_commit().is_none()
            ),
            (true, None, true)
        );
    }
}
