//! The visibility of revisions: public ones may be named in logs, records and answers, private ones may not.

use std::collections::BTreeSet;

use crate::api::RevisionInfo;
use build::Phid;

/// View policies with which a revision counts as public.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ViewPolicies {
    /// Any policy: a revision that our user sees is public.
    Any,
    /// These, as Phabricator names them: `public`, `users`, or the PHID of a project or of a custom policy.
    Only(BTreeSet<String>),
}

impl Default for ViewPolicies {
    /// Everybody (`public`), or everybody with an account (`users`).
    fn default() -> Self {
        Self::also(&[])
    }
}

impl ViewPolicies {
    /// `public`, `users` and `more`.
    pub fn also(more: &[String]) -> Self {
        let usual = ["public", "users"].map(str::to_owned);
        Self::Only(usual.into_iter().chain(more.iter().cloned()).collect())
    }

    fn allow(&self, policy: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Only(public) => public.contains(policy),
        }
    }
}

/// The rules that make a revision private, as they are now.
#[derive(Debug, Clone, Default)]
pub(crate) struct Privacy {
    /// Projects whose revisions are private, whatever their policy says.
    pub(crate) secure: BTreeSet<Phid>,
    /// A revision with another view policy is private.
    pub(crate) policies: ViewPolicies,
}

impl Privacy {
    /// The public ones of `revisions`.
    pub(crate) fn public(&self, mut revisions: Vec<RevisionInfo>) -> Vec<RevisionInfo> {
        revisions.retain(|revision| {
            let secure = revision
                .projects()
                .iter()
                .any(|project| self.secure.contains(project));
            !secure && self.policies.allow(revision.view_policy())
        });
        revisions
    }
}
