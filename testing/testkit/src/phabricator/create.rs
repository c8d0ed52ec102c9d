//! Putting things into the fake Phabricator, and changing them.

use jiff::Timestamp;

use super::{
    FakePhabricator, RevisionStatus,
    state::{Diff, Edge, Project, Repository, Revision, State, User},
};
use build::Phid;

/// A diff to create.
#[derive(Debug, Clone)]
pub struct NewDiff {
    patch: String,
    base: Option<String>,
    commit: Commit,
    created_at: Option<Timestamp>,
    kind: &'static str,
}

#[derive(Debug, Clone)]
enum Commit {
    /// By the revision's author, with its title as the message.
    Usual,
    Given(String, String),
    Missing,
}

impl NewDiff {
    /// A diff with this patch, made now from one commit of the revision's author, on an unnamed base.
    pub fn new(patch: impl Into<String>) -> Self {
        Self {
            patch: patch.into(),
            base: None,
            commit: Commit::Usual,
            created_at: None,
            kind: "DIFF",
        }
    }

    /// Made on this changeset.
    pub fn base(mut self, base: impl Into<String>) -> Self {
        self.base = Some(base.into());
        self
    }

    /// Made from a commit of this author (`"Name" <mail>`) with this message.
    pub fn commit(mut self, author: impl Into<String>, message: impl Into<String>) -> Self {
        self.commit = Commit::Given(author.into(), message.into());
        self
    }

    /// Made without commit information, as by pasting a patch into the web page.
    pub fn without_commit(mut self) -> Self {
        self.commit = Commit::Missing;
        self
    }

    /// Shown by searches as an object of another type than `DIFF`.
    pub fn shown_as(mut self, kind: &'static str) -> Self {
        self.kind = kind;
        self
    }

    /// Made then.
    pub fn created_at(mut self, at: Timestamp) -> Self {
        self.created_at = Some(at);
        self
    }
}

/// A revision to create.
#[derive(Debug, Clone)]
pub struct NewRevision {
    title: String,
    author: Phid,
    repository: Phid,
    diff: NewDiff,
    parents: Vec<Phid>,
    projects: Vec<Phid>,
    reviewers: Vec<Phid>,
}

impl NewRevision {
    /// A revision that needs review, with its first diff.
    pub fn new(title: impl Into<String>, author: &Phid, repository: &Phid, diff: NewDiff) -> Self {
        Self {
            title: title.into(),
            author: author.clone(),
            repository: repository.clone(),
            diff,
            parents: Vec::new(),
            projects: Vec::new(),
            reviewers: Vec::new(),
        }
    }

    /// Stands on `parent`.
    pub fn parent(mut self, parent: &Phid) -> Self {
        self.parents.push(parent.clone());
        self
    }

    /// Is tagged with `project`.
    pub fn project(mut self, project: &Phid) -> Self {
        self.projects.push(project.clone());
        self
    }

    /// Is to be reviewed by `reviewer`, a user or a project.
    pub fn reviewer(mut self, reviewer: &Phid) -> Self {
        self.reviewers.push(reviewer.clone());
        self
    }
}

/// A diff that was created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreatedDiff {
    /// Its number.
    pub id: u64,
    /// Its PHID.
    pub phid: Phid,
}

/// A revision that was created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreatedRevision {
    /// Its number.
    pub id: u64,
    /// Its PHID.
    pub phid: Phid,
    /// Its first diff.
    pub diff: CreatedDiff,
}

impl FakePhabricator {
    /// Adds a user. Usernames are lower case.
    pub fn add_user(&self, username: &str, real_name: &str) -> Phid {
        let mut state = self.state();
        let (id, phid, created_at) = (
            state.users.len() as u64 + 1,
            state.new_phid("USER"),
            state.clock.now(),
        );
        let (username, real_name) = (username.to_owned(), real_name.to_owned());
        state.users.push(User {
            id,
            phid: phid.clone(),
            username,
            real_name,
            created_at,
        });
        phid
    }

    /// Gives a user another name.
    pub fn rename_user(&self, phid: &Phid, username: &str) {
        let mut state = self.state();
        for user in state.users.iter_mut().filter(|user| user.phid == *phid) {
            user.username = username.to_owned();
        }
    }

    /// Takes a project away, or hides it, which looks the same.
    pub fn remove_project(&self, phid: &Phid) {
        self.state()
            .projects
            .retain(|project| project.phid != *phid);
    }

    /// Adds a project.
    pub fn add_project(&self, slug: &str) -> Phid {
        let mut state = self.state();
        let (id, phid, created_at) = (
            state.projects.len() as u64 + 1,
            state.new_phid("PROJ"),
            state.clock.now(),
        );
        state.projects.push(Project {
            id,
            phid: phid.clone(),
            slug: slug.to_owned(),
            created_at,
        });
        phid
    }

    /// Adds a repository.
    pub fn add_repository(&self, short_name: &str) -> Phid {
        let mut state = self.state();
        let (id, phid, created_at) = (
            state.repositories.len() as u64 + 1,
            state.new_phid("REPO"),
            state.clock.now(),
        );
        state.repositories.push(Repository {
            id,
            phid: phid.clone(),
            short_name: short_name.to_owned(),
            created_at,
        });
        phid
    }

    /// Creates a revision.
    pub fn create_revision(&self, new: NewRevision) -> CreatedRevision {
        let mut state = self.state();
        let phid = state.new_phid("DREV");
        let created_at = state.clock.now();
        let diff_phid = state.new_phid("DIFF");
        let id = state.revisions.len() as u64 + 1;
        state.revisions.push(Revision {
            id,
            phid: phid.clone(),
            title: new.title,
            author: new.author,
            repository: new.repository,
            status: RevisionStatus::NeedsReview,
            projects: new.projects,
            reviewers: new.reviewers,
            visible: true,
            view_policy: "users".to_owned(),
            newest_diff: diff_phid.clone(),
            created_at,
            modified_at: created_at,
        });
        let edge = |parent| Edge {
            child: phid.clone(),
            parent,
            created_at,
        };
        state.edges.extend(new.parents.into_iter().map(edge));
        let diff = state.attach(diff_phid, id, new.diff);
        CreatedRevision { id, phid, diff }
    }

    /// Gives a revision a newer diff.
    pub fn update_revision(&self, id: u64, diff: NewDiff) -> CreatedDiff {
        let mut state = self.state();
        let phid = state.new_phid("DIFF");
        state.attach(phid, id, diff)
    }

    /// Adds a diff that belongs to no revision; one that was pasted into the web page has no repository either.
    pub fn add_diff(&self, author: &Phid, repository: Option<&Phid>, diff: NewDiff) -> CreatedDiff {
        let mut state = self.state();
        let phid = state.new_phid("DIFF");
        state.keep_diff(phid, None, author.clone(), repository.cloned(), diff)
    }

    /// Makes a diff that belonged to no revision the newest of this one.
    pub fn attach_diff(&self, id: u64, diff: &CreatedDiff) {
        let mut state = self.state();
        let revision = state.change(id);
        revision.newest_diff = diff.phid.clone();
        let phid = revision.phid.clone();
        for known in state.diffs.iter_mut().filter(|known| known.id == diff.id) {
            known.revision = Some(phid.clone());
        }
    }

    /// Moves a revision on in its review.
    pub fn set_status(&self, id: u64, status: RevisionStatus) {
        self.state().change(id).status = status;
    }

    /// Shows a revision and all that belongs to it to the token, or hides it.
    pub fn set_visible(&self, id: u64, visible: bool) {
        self.state().change(id).visible = visible;
    }

    /// Changes who may see a revision: `public`, `users`, or the PHID of a user, a project or a policy. The token goes on
    /// seeing it.
    pub fn set_view_policy(&self, id: u64, policy: &str) {
        self.state().change(id).view_policy = policy.to_owned();
    }

    /// Tags a revision with these projects and no others.
    pub fn set_projects(&self, id: u64, projects: &[Phid]) {
        self.state().change(id).projects = projects.to_vec();
    }

    /// Makes a revision stand on one more parent. The real one refuses cycles; this one makes them, since they were
    /// seen to exist.
    pub fn add_parent(&self, child: &Phid, parent: &Phid) {
        let mut state = self.state();
        let created_at = state.clock.now();
        state.edges.push(Edge {
            child: child.clone(),
            parent: parent.clone(),
            created_at,
        });
    }
}

impl State {
    fn attach(&mut self, phid: Phid, revision_id: u64, new: NewDiff) -> CreatedDiff {
        let revision = self.change(revision_id);
        revision.newest_diff = phid.clone();
        let (author, repository) = (revision.author.clone(), Some(revision.repository.clone()));
        let revision = (revision.phid.clone(), revision.title.clone());
        self.keep_diff(phid, Some(revision), author, repository, new)
    }

    /// `revision` is its PHID and its title.
    fn keep_diff(
        &mut self,
        phid: Phid,
        revision: Option<(Phid, String)>,
        author: Phid,
        repository: Option<Phid>,
        new: NewDiff,
    ) -> CreatedDiff {
        let id = self.diffs.len() as u64 + 1;
        let now = self.clock.now();
        let (revision, title) = revision.unzip();
        let commit = match new.commit {
            Commit::Missing => None,
            Commit::Given(author, message) => Some((author, message)),
            Commit::Usual => {
                let user = self.users.iter().find(|user| user.phid == author);
                let raw = user
                    .map(|user| format!("\"{}\" <{}@example.com>", user.real_name, user.username));
                Some((raw.unwrap_or_default(), title.unwrap_or_default()))
            }
        };
        self.diffs.push(Diff {
            id,
            phid: phid.clone(),
            kind: new.kind,
            revision,
            author,
            repository,
            base: new.base,
            commit,
            patch: new.patch,
            created_at: new.created_at.unwrap_or(now),
        });
        CreatedDiff { id, phid }
    }

    /// A revision that changes now.
    #[expect(
        clippy::panic,
        reason = "whoever names a revision that was never created has a fault in the test"
    )]
    fn change(&mut self, id: u64) -> &mut Revision {
        let now = self.clock.now();
        let Some(revision) = self.revisions.iter_mut().find(|revision| revision.id == id) else {
            panic!("there is no D{id}")
        };
        revision.modified_at = now;
        revision
    }
}
