//! What no worker survives, or can read, ends in the dead letters, and everything else flows.

use serde_json::json;

use crate::world::passes;

#[test]
fn poison_messages_become_dead_letters_and_others_finish() {
    // The campaign itself compares every dead letter with what it must be: its message, step, reason and attempts.
    let report = passes("--messages 60 --kills 0 --seed 2");
    let expected =
        json!({ "panic": 3, "abort": 3, "undecodable": 1, "version": 1, "unexpected": 0 });
    assert_eq!(report["dead_letters"], expected, "{report}");
    assert_eq!(report["lost"], 0, "{report}");
    assert!(
        report["aborted"].as_u64() >= Some(5),
        "workers died of it, and were started again: {report}"
    );
}
