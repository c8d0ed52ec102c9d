//! How many builds a worker does that always has some to do.

use std::path::Path;

use runtime::{Clock, SystemClock};

use crate::{
    ours::Ours,
    report::{Report, Row, since},
    stack::Stack,
    stage::Stage,
    watch::Watch,
};

/// How many patches each has.
const STACK: usize = 3;
/// How many builds of a repository are done side by side. The original does one after another.
const SLOTS: [usize; 2] = [1, 2];

pub async fn measure(
    stage: &mut Stage,
    report: &Report,
    watch: &mut Watch,
    copy: &Path,
    builds: usize,
) {
    for slots in SLOTS {
        let (theirs, mine) = (stage.fresh_try().await, stage.fresh_try().await);
        let (warm_up, stacks) = (stage.stack(STACK), stacks(stage, builds));

        let mut base = stage.vcs.original(stage, copy, &theirs);
        base.build(&warm_up);
        let begin = SystemClock.now();
        for stack in &stacks {
            base.build(stack);
        }
        let base_rate = per_minute(builds, since(begin));
        drop(base);

        let mut settings = stage.settings(&mine);
        settings
            .repositories
            .iter_mut()
            .for_each(|repository| repository.clone_slots = slots);
        let mut ours = Ours::start(stage.vcs, settings, watch).await;
        ours.build(&warm_up).await;
        let rate = per_minute(builds, ours.builds(&stacks).await);
        ours.stop().await;
        assert!(
            theirs.heads().await == builds + 1 && mine.heads().await == builds + 1,
            "every build is on Try"
        );

        let (repository, ratio) = (stage.shape.name, rate / base_rate);
        report.line(&Row {
            repository,
            measure: &format!("builds, {slots} at once"),
            base: Some(base_rate),
            ours: rate,
            unit: "/min",
            ratio: Some(ratio),
        });
    }
}

fn stacks(stage: &mut Stage, builds: usize) -> Vec<Stack> {
    (0..builds).map(|_| stage.stack(STACK)).collect()
}

fn per_minute(builds: usize, seconds: f64) -> f64 {
    builds as f64 * 60.0 / seconds
}
