//! Turning a build's stack of patches into changesets.
//!
//! The changesets are a pure function of the base, the stack and the target: their authors, dates and messages come
//! from the build, and nothing from the clock. So a build that is done again gives the same hashes, here or
//! elsewhere.

use phabricator::model::{BaseChoice, Build, Patch};

use crate::{
    HgError, RepositorySettings, TryMode,
    bases::Bases,
    clone::{Changeset, HgClone, is_hash},
    outcome,
    patch::{Kind, Refusal, Scanned},
    process::CommandOutput,
    text,
    tree::Tree,
    try_config,
};

/// Why a build ends without a head.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The patch is to blame; trying again cannot help.
    Patch(PatchFault),
    /// We are to blame.
    Ours(HgError),
}

impl From<HgError> for Failure {
    fn from(error: HgError) -> Self {
        Self::Ours(error)
    }
}

/// What is wrong with a patch, in words for its author.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PatchFault {
    pub(crate) summary: String,
    pub(crate) details: String,
    pub(crate) advice: String,
}

impl PatchFault {
    /// The patch was refused before anything was made of it.
    pub(crate) fn refused(patch: &Patch, refusal: &Refusal) -> Self {
        Self {
            summary: format!("The patch of D{} is refused: {refusal}.", patch.revision_id),
            details: String::new(),
            advice: "Change the patch and submit it again.".to_owned(),
        }
    }

    fn does_not_apply(build: &Build, patch: &Patch, base: &Changeset, output: &CommandOutput) -> Self {
        let base = short(base);
        let mut places = outcome::places(output);
        let more = places.len().saturating_sub(5);
        places.truncate(5);
        if more > 0 {
            places.push(format!("and {more} more"));
        }
        Self {
            summary: format!("The patch of D{} does not apply on {base}: {}.", patch.revision_id, places.join("; ")),
            details: text::block(&output.stderr),
            advice: format!(
                "Rebase the stack on {base} or a newer changeset and submit it again, for example with \
                 `moz-phab patch D{} --apply-to {base}`, then resolve the conflicts, then `moz-phab submit`.",
                build.request.revision_id
            ),
        }
    }

    fn changes_nothing(patch: &Patch, base: &Changeset) -> Self {
        let base = short(base);
        Self {
            summary: format!("The patch of D{} changes nothing on {base}.", patch.revision_id),
            details: String::new(),
            advice: "Perhaps it has landed already. If not, rebase it and submit it again.".to_owned(),
        }
    }
}

/// Chooses the base of a build, and writes the choice down before anything is built on it.
pub(crate) async fn choose_base(
    clone: &mut HgClone,
    build: &Build,
    settings: &RepositorySettings,
    bases: &Bases,
    now: jiff::Timestamp,
) -> Result<(BaseChoice, Changeset), HgError> {
    let target = &build.request.target;
    if let Some(choice) = bases.find(target)
        && let Some(changeset) = find_or_pull(clone, &choice.used).await?
    {
        return Ok((choice, changeset));
    }
    let named = build.stack.first().and_then(|patch| patch.diff.base.as_deref());
    let (wanted, changeset) = match named.filter(|hash| is_hash(hash) && !settings.use_latest_revision) {
        Some(hash) => (true, find_or_pull(clone, hash).await?),
        None => {
            clone.pull().await?;
            (false, None)
        }
    };
    let found = wanted && changeset.is_some();
    let changeset = match changeset {
        Some(changeset) => changeset,
        None => clone.resolve(&settings.default_revision).await?,
    };
    let differs = named.filter(|name| !found && *name != changeset.node);
    // Anything may stand there, and it is going to be shown.
    let instead_of = differs.map(|name| text::cut(&text::path(name.as_bytes()), 60));
    let choice = BaseChoice { used: changeset.node.clone(), instead_of };
    bases.store(target, &choice, now)?;
    Ok((choice, changeset))
}

async fn find_or_pull(clone: &mut HgClone, hash: &str) -> Result<Option<Changeset>, HgError> {
    match clone.find(hash).await? {
        None => {
            clone.pull().await?;
            clone.find(hash).await
        }
        found => Ok(found),
    }
}

/// Makes one changeset of each patch, and the one that tells Try what to do; returns that one.
pub(crate) async fn apply(
    clone: &mut HgClone,
    build: &Build,
    scanned: &[Scanned],
    base: &Changeset,
    mode: &TryMode,
    default_author: &str,
) -> Result<Changeset, Failure> {
    check_tree(clone, build, scanned, base).await?;
    let mut newest = clone.tip().await?.number;
    let mut parent = base.clone();
    for patch in &build.stack {
        let author = patch.author.as_deref().and_then(text::author);
        let commit = Commit {
            patch: &patch.content,
            author: author.as_deref().unwrap_or(default_author),
            date: patch.diff.created_at,
            message: &format!("{}\n\nDifferential Diff: {}", patch.message, patch.diff.phid),
        };
        parent = match commit.import(clone, &parent, newest).await? {
            Ok(made) if made.changes => made,
            Ok(_) => return Err(Failure::Patch(PatchFault::changes_nothing(patch, base))),
            Err(output) if outcome::is_patch_fault(&output) => {
                return Err(Failure::Patch(PatchFault::does_not_apply(build, patch, base, &output)));
            }
            Err(output) => return Err(import_failed(patch.revision_id, &output).into()),
        };
        newest += 1;
    }
    let content = try_config::content(mode, build)?;
    let commit = Commit {
        patch: &try_config::patch(&content, has_file(clone, &parent, try_config::PATH).await?)?,
        author: default_author,
        date: build.diff.created_at,
        message: &try_config::message(mode, build),
    };
    let made = commit.import(clone, &parent, newest).await?;
    made.map_err(|output| import_failed(build.request.revision_id, &output).into())
}

async fn check_tree(clone: &mut HgClone, build: &Build, scanned: &[Scanned], base: &Changeset) -> Result<(), Failure> {
    let adds = |scanned: &Scanned| scanned.files.iter().any(|file| !matches!(file.kind, Kind::Modify | Kind::Delete));
    if !scanned.iter().any(adds) {
        return Ok(());
    }
    let mut tree = Tree::new(clone.manifest(base).await?);
    for (patch, scanned) in build.stack.iter().zip(scanned) {
        if let Err(conflict) = tree.apply(scanned) {
            let reason = format!("it and {} cannot both be files", text::path(&conflict.other));
            let fault = PatchFault {
                summary: format!(
                    "The patch of D{} is refused: {}: {reason}.",
                    patch.revision_id,
                    text::path(&conflict.path)
                ),
                details: String::new(),
                advice: "Change the patch and submit it again.".to_owned(),
            };
            return Err(Failure::Patch(fault));
        }
    }
    Ok(())
}

/// A changeset to be made.
struct Commit<'a> {
    patch: &'a [u8],
    author: &'a str,
    date: jiff::Timestamp,
    message: &'a str,
}

impl Commit<'_> {
    /// Makes the changeset on `parent`. `newest` is the number of the clone's newest changeset. The inner error is
    /// what Mercurial says when it will not.
    async fn import(
        &self,
        clone: &mut HgClone,
        parent: &Changeset,
        newest: i64,
    ) -> Result<Result<Changeset, CommandOutput>, HgError> {
        clone.run("set the parent", &["debugsetparents", "--", &parent.node]).await?;
        let user = format!("--user={}", self.author);
        let date = format!("--date={} 0", self.date.as_second());
        let message = format!("--message={}", text::message(self.message));
        let deadline = clone.limits().command;
        let command = ["import", "--bypass", &user, &date, &message, "--", "-"];
        let output = clone.try_run(&command, self.patch, deadline).await?;
        if output.code != 0 {
            return Ok(Err(output));
        }
        let made = clone.tip().await?;
        if made.number == newest + 1 && made.parent == parent.node {
            Ok(Ok(made))
        } else {
            let words = format!("one changeset on {} was expected, the newest is {}", short(parent), short(&made));
            Err(HgError::Command { doing: "import a patch".to_owned(), words })
        }
    }
}

/// Whether `changeset` has a file at this path of ours.
async fn has_file(clone: &mut HgClone, changeset: &Changeset, path: &str) -> Result<bool, HgError> {
    let rev = format!("--rev={}", changeset.number);
    let pattern = format!("path:{path}");
    let deadline = clone.limits().command;
    let output = clone.try_run(&["files", &rev, "--", &pattern], b"", deadline).await?;
    match output.code {
        0 => Ok(true),
        1 => Ok(false),
        _ => Err(HgError::Command { doing: format!("look for {path}"), words: output.words() }),
    }
}

fn import_failed(revision_id: u64, output: &CommandOutput) -> HgError {
    HgError::Command { doing: format!("import the patches of D{revision_id}"), words: output.words() }
}

fn short(changeset: &Changeset) -> &str {
    changeset.node.get(..12).unwrap_or(&changeset.node)
}
