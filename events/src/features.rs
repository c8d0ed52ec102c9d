//! The features, each with its queues and what works on them.
//!
//! A file declares the queues of one feature and has its `install`, which adds consumers, listeners and pollers to the
//! `App` of a process. [`FEATURES`] is the registry: it needs no configuration and no service.

pub(crate) mod builds;
mod code_coverage;
mod ended;
pub(crate) mod hooks;
mod landed;
mod lando;
mod mozreview;
mod names;
mod new_diffs;
pub(crate) mod notifier;
mod pipeline;
mod policies;
mod risk_analysis;
pub(crate) mod telemetry;
mod test_selection;
#[cfg(test)]
mod tests;
mod triggers;
mod web;

use bus::QueueSpec;

use crate::{
    app::{Feature, Registered},
    role::Role,
};

pub(crate) use self::{
    builds::{auditor, backend_of, build_log, worker_settings},
    ended::admin,
    hooks::Deployment,
    names::unknown_names,
    notifier::Notifier,
    triggers::{has_triggers, without_taskcluster},
};
pub use self::{pipeline::Pipeline, web::web};

/// Every feature. What builds pass comes first, in that order.
pub const FEATURES: &[Feature] = &[
    builds::FEATURE,
    lando::FEATURE,
    new_diffs::FEATURE,
    code_coverage::FEATURE,
    mozreview::FEATURE,
    landed::FEATURE,
    risk_analysis::FEATURE,
    test_selection::FEATURE,
    hooks::FEATURE,
    notifier::FEATURE,
    telemetry::FEATURE,
];

fn registered() -> impl Iterator<Item = &'static Registered> {
    FEATURES.iter().flat_map(|feature| feature.queues)
}

/// Every queue, whether this process works on it or not.
pub fn all() -> Vec<QueueSpec> {
    registered().map(|queue| queue.spec).collect()
}

/// The queues that builds pass, in that order.
pub fn of_builds() -> Vec<QueueSpec> {
    let of_builds = registered().filter(|queue| queue.tracks_builds);
    of_builds.map(|queue| queue.spec).collect()
}

/// The queues that a process with this role works on.
pub fn of_role(role: Role) -> Vec<QueueSpec> {
    let features = FEATURES
        .iter()
        .filter(|feature| feature.roles.contains(&role));
    let queues = features.flat_map(|feature| feature.queues);
    queues.map(|queue| queue.spec).collect()
}
