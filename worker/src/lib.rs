//! The worker: applies a build's stack of patches on a clone, and pushes the head.
//!
//! [`Worker`] holds the clones of the repositories. [`Worker::clone_manager`] prepares them, and [`Worker::handler`]
//! handles builds. Their input (patches, names, messages) is hostile: [`patch`] parses and checks it. The traits of
//! [`vcs`] hide how a version control clones and applies, and the trait of [`destination`] how heads are pushed.

pub mod address;
mod backend;
mod base;
mod base_mapping;
mod clone;
pub mod destination;
pub mod disk;
mod error;
mod handler;
mod jobs_url;
pub mod lando;
mod outcome;
pub mod patch;
pub mod probe;
pub mod process;
mod processor_time;
mod ref_template;
mod refs;
mod repository;
pub mod revision;
mod settings;
mod size;
pub mod source_tip;
pub mod ssh;
pub mod text;
mod tree_status;
mod try_config;
pub mod vcs;
mod worker;

pub use backend::Backend;
pub use clone::inventory::{CloneReport, CloneState, Inventory};
pub use clone::requests::{MaintenanceResult, Outcome, Progress, Requests, Task};
pub use error::{Barrier, Integrity, Peer, WorkerError};
pub use handler::BuildHandler;
pub use jobs_url::check as check_jobs_url;
pub use processor_time::ProcessorTime;
pub use ref_template::check as check_ref_template;
pub use refs::{
    Due, FailedDeletion, PruneError, PruneOptions, Pruned, RefAction, RefPruner, RefReport,
};
pub use settings::{
    DEFAULT_REF, GitSettings, LandoSettings, Limits, RepositorySettings, Settings, TRY_CONFIG,
    TryMode, VcsSettings,
};
pub use size::Size;
pub use try_config::{check as check_try_template, check_path as check_try_path};
pub use worker::{CloneManager, Worker, maintain};
