//! Phabricator (or Phorge): its Conduit API, the workflow of a build, and the answers on a build target.
//!
//! [`Workflow`] takes what Harbormaster asked for, waits until the revision is public, loads its stack and hands the
//! build on. [`Conduit`] is also the source of the patches, and [`Eligibility`] decides what is built. [`Publisher`] reports its outcome on the build target. [`DiffPoller`] finds diffs for which no request came.
//! All of them speak to Phabricator through [`Conduit`].

mod api;
mod audit;
mod conduit;
mod directory;
mod eligibility;
mod lando;
mod pages;
mod patches;
mod poller;
mod publisher;
mod stack;
mod visibility;
mod workflow;

pub use api::{BuildOfTarget, BuildPlan, NewestBuilds};
pub use audit::{AuditError, AuditFinding, Auditor};
pub use conduit::{Conduit, ConduitError};
pub use directory::{Directory, DirectoryKeeper, DirectoryNames};
pub use eligibility::Eligibility;
pub use lando::{Lando, LandoError, LandoWarning, warning_for};
pub use pages::BuildPages;
pub use poller::DiffPoller;
pub use publisher::{LandoWarnings, PublishError, Publisher, TestResultPublisher, answer};
pub use visibility::ViewPolicies;
pub use workflow::{Workflow, WorkflowError, WorkflowSettings};
