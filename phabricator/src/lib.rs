//! Phabricator (or Phorge): its Conduit API, the workflow of a build, and the answers on a build target.
//!
//! [`Workflow`] handles a request of Harbormaster: it waits until the revision is public, loads its stack and sends the
//! build on. [`Eligibility`] checks whether a build is to be built. [`Publisher`] publishes its outcome on the build target.
//! [`DiffPoller`] finds diffs for which no request came. All of them call Phabricator through [`Conduit`], which is also the
//! source of the patches.

mod api;
mod audit;
mod closed_revisions;
mod conduit;
mod eligibility;
mod lando;
mod names;
mod patches;
mod poller;
mod publisher;
mod stack;
mod visibility;
mod workflow;

pub use api::{BuildOfTarget, BuildPlan, NewestBuilds};
pub use audit::{AuditError, AuditFinding, Auditor};
pub use conduit::{Conduit, ConduitError};
pub use eligibility::Eligibility;
pub use lando::{Lando, LandoError, LandoWarning, warning_for};
pub use names::{ConfiguredNames, NameRefresher, NameResolver};
pub use poller::DiffPoller;
pub use publisher::{LandoWarnings, PublishError, Publisher, TestResultPublisher, answer};
pub use visibility::ViewPolicies;
pub use workflow::{Workflow, WorkflowError, WorkflowSettings};
