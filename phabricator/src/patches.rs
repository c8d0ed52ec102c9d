//! The contents of patches, loaded by their diffs.

use std::{collections::BTreeMap, path::Path};

use async_trait::async_trait;
use build::{Build, Patch, PatchContent, PatchFailure, PatchSource, PatchSourceError, Phid};

use crate::{
    Conduit, ConduitError,
    api::DiffInfo,
    stack::{MAX_BYTES, RejectReason},
};

/// Why a patch has no content.
enum Failed {
    Refused(RejectReason),
    Conduit(ConduitError),
}

impl From<ConduitError> for Failed {
    fn from(error: ConduitError) -> Self {
        match error {
            error if error.is_too_large() => Self::Refused(RejectReason::TooLarge),
            error => Self::Conduit(error),
        }
    }
}

impl From<RejectReason> for Failed {
    fn from(reason: RejectReason) -> Self {
        Self::Refused(reason)
    }
}

#[async_trait]
impl PatchSource for Conduit {
    async fn load(
        &self,
        build: &Build,
        directory: &Path,
    ) -> Result<Vec<PatchContent>, PatchSourceError> {
        contents(self, &build.stack, directory)
            .await
            .map_err(|failed| match failed {
                Failed::Refused(reason) => {
                    let failure: PatchFailure =
                        reason.failure(build.vcs, build.request.revision_id, 0.0);
                    PatchSourceError::Refused(Box::new(failure))
                }
                Failed::Conduit(ConduitError::Disk { source, .. }) => {
                    PatchSourceError::Disk(source)
                }
                Failed::Conduit(error) if error.is_outage() => PatchSourceError::Away(error.into()),
                Failed::Conduit(error) => PatchSourceError::Unclear(error.into()),
            })
    }
}

async fn contents(
    conduit: &Conduit,
    stack: &[Patch],
    directory: &Path,
) -> Result<Vec<PatchContent>, Failed> {
    let phids: Vec<Phid> = stack.iter().map(|patch| patch.diff.phid.clone()).collect();
    let diffs: BTreeMap<Phid, DiffInfo> = conduit
        .diffs(&phids)
        .await?
        .into_iter()
        .map(|diff| (diff.phid.clone(), diff))
        .collect();
    let (mut left, mut contents) = (MAX_BYTES, Vec::new());
    for (place, patch) in stack.iter().enumerate() {
        let missing = || RejectReason::NoPatch(patch.revision_id);
        let diff = diffs.get(&patch.diff.phid).ok_or_else(missing)?;
        let file = conduit
            .raw_diff(diff.id, directory, place, left)
            .await?
            .ok_or_else(missing)?;
        left -= file.size();
        contents.push(PatchContent {
            author: author(diff),
            message: diff
                .message()
                .or(patch.message.as_deref())
                .map_or_else(|| format!("D{}", patch.revision_id), str::to_owned),
            file,
        });
    }
    Ok(contents)
}

/// The author of a diff's first commit.
fn author(diff: &DiffInfo) -> Option<String> {
    one_line(diff.first_commit()?.author.as_ref()?.raw.as_deref()?)
}

/// `Name <mail>` from `"Name" <mail>`, on one line.
fn one_line(raw: &str) -> Option<String> {
    let plain: String = raw
        .chars()
        .filter(|c| *c != '"')
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    let plain = plain.trim();
    (!plain.is_empty()).then(|| plain.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_author_is_a_plain_line() {
        let table = [
            (
                "\"Alice Example\" <alice@example.com>",
                Some("Alice Example <alice@example.com>"),
            ),
            (
                "Alice\n<alice@example.com>",
                Some("Alice <alice@example.com>"),
            ),
            ("\"\"", None),
            (" ", None),
        ];
        for (raw, expected) in table {
            assert_eq!(one_line(raw).as_deref(), expected, "{raw:?}");
        }
    }
}
