//! The time until the first build can begin.

use std::path::PathBuf;

use runtime::{Clock, SystemClock};

use crate::{
    ours::Ours,
    report::{Report, Row, median, since},
    stage::{Stage, Try},
    watch::Watch,
};

/// The original's clone, and the seconds that it took.
pub struct Copy {
    pub path: PathBuf,
    seconds: f64,
}

pub fn clone(stage: &Stage) -> Copy {
    let begin = SystemClock.now();
    let path = stage.vcs.clone_original(stage);
    Copy {
        path,
        seconds: since(begin),
    }
}

/// Starts without a clone and with a kept one.
pub async fn measure(
    stage: &mut Stage,
    report: &Report,
    watch: &mut Watch,
    rounds: usize,
    copy: &Copy,
) {
    let repository = stage.shape.name;
    let target = stage.fresh_try().await;
    let base = copy.seconds;
    let ours = start(stage, &target, watch).await;
    report.line(&Row {
        repository,
        measure: "first_start",
        base: Some(base),
        ours,
        unit: "s",
        ratio: Some(base / ours),
    });
    let mut kept = Vec::new();
    for _ in 0..rounds {
        kept.push(start(stage, &target, watch).await);
    }
    report.figure(repository, "start_to_ready_s", median(kept), "s");
}

async fn start(stage: &Stage, target: &Try, watch: &mut Watch) -> f64 {
    let begin = SystemClock.now();
    let ours = Ours::start(stage.vcs, stage.settings(target), watch).await;
    let seconds = since(begin);
    ours.stop().await;
    seconds
}
