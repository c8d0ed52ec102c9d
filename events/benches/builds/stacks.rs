//! The time that one build takes.

use std::path::Path;

use crate::{
    git::push::{BarePush, Connection},
    ours::Ours,
    report::{Report, Row, Times, median},
    stage::Stage,
    vcs::Vcs,
    watch::Watch,
};

/// Builds stacks on a worker that has nothing else to do, the original and ours in turn. With Git, a bare push of the
/// same commits follows each.
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
        let mut pushes = Vec::new();
        if stage.vcs == Vcs::Git {
            for connection in [Connection::Own, Connection::Kept] {
                let push = BarePush::start(stage, connection).await;
                pushes.push((push, connection, Vec::new()));
            }
        }
        let mut base = stage.vcs.original(stage, copy, &theirs);
        let mut ours = Ours::start(stage.vcs, stage.settings(&mine), watch).await;
        let (mut base_times, mut our_times) = (Vec::new(), Vec::new());
        for _ in 0..=rounds {
            let stack = stage.stack(length);
            base_times.push(base.build(&stack));
            our_times.push(ours.build(&stack).await);
            for (push, _, seconds) in &mut pushes {
                seconds.push(push.push(&stack, &mine));
            }
        }
        ours.stop().await;
        assert!(
            theirs.heads().await == rounds + 1 && mine.heads().await == rounds + 1,
            "every build is on Try"
        );
        // The first ones warm up.
        let (base_times, our_times) = (&base_times[1..], &our_times[1..]);
        let (base, ours) = (Times::median(base_times), Times::median(our_times));
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
        for (push, connection, seconds) in pushes {
            assert!(push.heads().await == rounds + 1, "every push is on its Try");
            let seconds = &seconds[1..];
            let name = match connection {
                Connection::Own => format!("push of {length}"),
                Connection::Kept => format!("push of {length}, ssh kept"),
            };
            report.figure(repository, &name, median(seconds.to_vec()), "s");
            // Of each round: what disturbs the machine disturbs both.
            let both = our_times.iter().zip(seconds);
            let over = both.map(|(ours, push)| (ours.total - push) * 1000.0);
            let over = median(over.collect());
            report.figure(repository, &format!("over {name}"), over, "ms");
        }
    }
}
