//! Publishes what the plan says on Phabricator, as authors do, and says how each build has to end.

use std::time::Duration;

use build::Phid;
use runtime::{Clock, SystemClock};
use testkit::phabricator::{BuildVariables, CreatedRevision, NewDiff, NewRevision, RevisionStatus};

use super::{
    plan::{Base, Build, Interruption, Kind, Secrecy},
    repository::Content,
    stage::Stage,
    verify::Truth,
};

/// A build that can be asked for.
#[derive(Debug, Clone)]
pub struct Published {
    /// What Harbormaster sends.
    pub variables: BuildVariables,
    /// The diff that is built.
    pub diff: Phid,
    /// How it has to end.
    pub truth: Truth,
    /// What its head has to hold, if it has one.
    pub content: Content,
}

/// Publishes build number `number` of the plan with all that it stands on, and starts it.
pub fn publish(stage: &Stage, number: usize, build: &Build) -> anyhow::Result<Published> {
    let mut stack: Vec<CreatedRevision> = Vec::new();
    let mut patches = Vec::new();
    for place in 0..build.patches {
        let patch = patch(stage, number, place, build);
        let new = revision(stage, (number, place), build, patch.clone(), stack.last())?;
        let created = stage.phabricator.create_revision(new);
        patches.push((created.diff.phid.clone(), patch));
        stack.push(created);
    }
    let Some(top) = stack.last() else {
        anyhow::bail!("build {number} has no patch")
    };
    match build.kind {
        Kind::PublicLater(how, _) | Kind::Private(how) => set_private(stage, top.id, how, true),
        Kind::Superseded => {
            stage
                .phabricator
                .update_revision(top.id, NewDiff::new(change(number, 0, true)));
        }
        Kind::HiddenParent => {
            let parent = NewRevision::new(
                "Hidden",
                &stage.author,
                &repository(stage, build),
                NewDiff::new(""),
            );
            let parent = stage.phabricator.create_revision(parent);
            stage.phabricator.set_visible(parent.id, false);
            stage.phabricator.add_parent(&top.phid, &parent.phid);
        }
        _ => {}
    }
    let truth = truth(
        build,
        &stack.iter().map(|revision| revision.id).collect::<Vec<_>>(),
        top,
    );
    Ok(Published {
        variables: stage.phabricator.start_build(top.diff.id),
        diff: top.diff.phid.clone(),
        truth,
        content: Content {
            revision_id: top.id,
            diff_id: top.diff.id,
            closes: matches!(build.kind, Kind::Interrupted(Interruption::Abandon, _)),
            base: known_base(stage, build).cloned(),
            patches,
        },
    })
}

/// Interrupts a build; returns the new one if it is restarted.
pub fn interrupt(stage: &Stage, build: &Published, how: Interruption) -> Option<Published> {
    let BuildVariables {
        target,
        revision_id,
        ..
    } = &build.variables;
    match how {
        Interruption::Abort => stage.phabricator.abort_build(target),
        Interruption::Abandon => stage
            .phabricator
            .set_status(*revision_id, RevisionStatus::Abandoned),
        Interruption::Restart => {
            return Some(Published {
                variables: stage.phabricator.restart_build(target),
                truth: Truth::Pushed,
                ..build.clone()
            });
        }
    }
    None
}

/// Makes a revision private, or public.
pub fn set_private(stage: &Stage, revision: u64, how: Secrecy, private: bool) {
    match how {
        Secrecy::Hidden => stage.phabricator.set_visible(revision, !private),
        Secrecy::Secured if private => stage
            .phabricator
            .set_projects(revision, std::slice::from_ref(&stage.secure)),
        Secrecy::Secured => stage.phabricator.set_projects(revision, &[]),
    }
}

fn repository(stage: &Stage, build: &Build) -> Phid {
    match build.kind {
        Kind::Unsupported => stage.unsupported.clone(),
        _ => stage.repositories[build.repository].phid.clone(),
    }
}

/// The base that a stack names, if the source has it.
fn known_base<'a>(stage: &'a Stage, build: &Build) -> Option<&'a String> {
    match build.base {
        Base::Known(age) => Some(&stage.repositories[build.repository].history[age]),
        Base::Unknown | Base::Unnamed => None,
    }
}

fn patch(stage: &Stage, number: usize, place: usize, build: &Build) -> String {
    match build.kind {
        Kind::Hostile => stage.vcs.hostile_patch(),
        Kind::DoesNotApply(bad) => change(number, place, place != bad),
        _ => change(number, place, true),
    }
}

fn revision(
    stage: &Stage,
    (number, place): (usize, usize),
    build: &Build,
    patch: String,
    parent: Option<&CreatedRevision>,
) -> anyhow::Result<NewRevision> {
    let mut diff = NewDiff::new(patch);
    if let Some(base) = known_base(stage, build) {
        diff = diff.base(base);
    } else if build.base == Base::Unknown {
        diff = diff.base(format!("{number:0>40}"));
    }
    if build.kind == Kind::Expired {
        diff = diff.created_at(
            SystemClock
                .now()
                .checked_sub(Duration::from_secs(25 * 3600))?,
        );
    }
    let author = if build.kind == Kind::SkippedAuthor {
        &stage.skipped_author
    } else {
        &stage.author
    };
    let new = NewRevision::new(
        format!("Change {number}.{place}"),
        author,
        &repository(stage, build),
        diff,
    );
    Ok(match parent {
        Some(parent) => new.parent(&parent.phid),
        None => new,
    })
}

/// A patch to a file that the source has and nobody else changes; without `fits` the line that it replaces is not
/// there. Patches of one stack stay out of each other's context.
fn change(number: usize, place: usize, fits: bool) -> String {
    let line = 3 + 12 * place + number % 9;
    let (before, after) = (line - 1, line + 1);
    let old = if fits { "step" } else { "stop" };
    format!(
        "diff --git a/src/engine.rs b/src/engine.rs\n--- a/src/engine.rs\n+++ b/src/engine.rs\n@@ -{before},3 +{before},3 @@\n \
         fn step_{before}() {{}}\n-fn {old}_{line}() {{}}\n+fn step_{line}() {{ /* {number}.{place} */ }}\n fn step_{after}() {{}}\n"
    )
}

fn truth(build: &Build, stack: &[u64], top: &CreatedRevision) -> Truth {
    let patch_failed =
        |id: u64, words: &str| Truth::PatchFailed(vec![format!("D{id} "), words.to_owned()]);
    let neutral = |words: &str| Truth::Neutral(words.to_owned());
    match build.kind {
        Kind::Good | Kind::PublicLater(..) => Truth::Pushed,
        Kind::DoesNotApply(at) => patch_failed(stack[at], "does not apply"),
        Kind::Hostile => patch_failed(top.id, "is refused"),
        Kind::HiddenParent => patch_failed(top.id, "was deleted or is not public"),
        Kind::SkippedAuthor => neutral("Revisions of this author are not built"),
        Kind::Superseded => neutral("Superseded"),
        Kind::Expired => neutral("Expired"),
        Kind::Unsupported => neutral("Unsupported repository"),
        // The target of a revision that our user does not see is not seen either.
        Kind::Private(Secrecy::Hidden) => Truth::Silent,
        Kind::Private(Secrecy::Secured) => neutral("This is a private revision"),
        Kind::Interrupted(Interruption::Abort | Interruption::Restart, _) => Truth::Stopped,
        Kind::Interrupted(Interruption::Abandon, _) => {
            Truth::PushedOr("was abandoned, its patch is not built".to_owned())
        }
    }
}
