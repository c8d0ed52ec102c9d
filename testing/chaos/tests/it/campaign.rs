//! Whatever dies, each message takes effect once.

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::json;
use tempfile::TempDir;

use crate::world::{assert_clean, command, passes, processes_within};

#[test]
fn campaign_of_kills_restarts_and_bad_links_loses_and_doubles_nothing() {
    let report = passes("--messages 500 --kills 6 --seed 7");
    let expected = [
        ("messages", json!(500)),
        ("kills", json!(6)),
        ("lost", json!(0)),
        ("duplicate_effects", json!(0)),
        ("duplicate_messages", json!(0)),
        ("dead", json!(8)),
        ("violations", json!([])),
    ];
    for (field, value) in expected {
        assert_eq!(report[field], value, "{field} of {report}");
    }
    // The seed is one that has each kind.
    for kind in ["sigkill", "sigterm", "sigstop", "redis_restarts"] {
        assert!(
            report["faults"][kind].as_u64() > Some(0),
            "{kind} of {report}"
        );
    }
    assert!(
        report["repeated"].as_u64() > Some(0),
        "the faults met work: {report}"
    );
    assert!(report["max_redelivery_s"].is_number(), "{report}");
}

#[test]
fn interrupted_campaign_leaves_nothing_behind() {
    let directory = TempDir::new().unwrap();
    let mut campaign = command("--messages 100000 --kills 300", &directory)
        .spawn()
        .unwrap();
    // Two servers and four workers.
    while processes_within(directory.path()).len() < 6 {
        assert_eq!(campaign.try_wait().unwrap(), None);
        std::thread::yield_now();
    }
    kill(
        Pid::from_raw(campaign.id().try_into().unwrap()),
        Signal::SIGINT,
    )
    .unwrap();
    assert!(!campaign.wait().unwrap().success());
    assert_clean(&directory);
}
