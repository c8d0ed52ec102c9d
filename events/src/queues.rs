//! The queues of all features under one name, for commands, benchmarks and tests.

pub use crate::features::{
    all,
    builds::{BUILD_LOAD, BUILD_PUBLISH, BUILD_PUSH, BUILD_QUEUES},
    hooks::HOOK_TASKS,
    notifier::{NOTIFY, PULSE_NOTIFY},
    of_builds,
    telemetry::PULSE_HGPUSHES,
};
