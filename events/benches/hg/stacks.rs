//! The time that one build takes.

use std::path::Path;

use crate::{
    base::Base,
    ours::Ours,
    report::{Report, Row, Times},
    stage::Stage,
    watch::Watch,
};

/// Builds stacks on a worker that has nothing else to do, the original and ours in turn.
pub async fn measure(
    stage: &mut Stage,
    report: &Report,
    watch: &mut Watch,
    copy: &Path,
    rounds: usize,
) {
    let repository = stage.shape.name;
    for length in [1, 3, 10] {
        let (theirs, mine) = (stage.fresh_try().await, stage.fresh_try().await);
        let mut base = Base::start(stage, copy, &theirs);
        let mut ours = Ours::start(stage.settings(&mine), watch).await;
        // The first ones warm up.
        let stack = stage.stack(length);
        base.build(&stack);
        ours.build(&stack).await;
        let (mut base_times, mut our_times) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            let stack = stage.stack(length);
            base_times.push(base.build(&stack));
            our_times.push(ours.build(&stack).await);
        }
        ours.stop().await;
        assert!(
            theirs.heads().await == rounds + 1 && mine.heads().await == rounds + 1,
            "every build is on Try"
        );
        let (base, ours) = (Times::median(&base_times), Times::median(&our_times));
        let ratio = base.total / ours.total;
        report.line(&Row {
            repository,
            measure: &format!("stack of {length}"),
            base: Some(base.total),
            ours: ours.total,
            unit: "s",
            ratio: Some(ratio),
        });
        report.steps("original", &base);
        report.steps("ours", &ours);
    }
}
