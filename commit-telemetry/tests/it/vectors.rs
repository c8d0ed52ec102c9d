//! The original's answers to what it was asked.

use commit_telemetry::{Evidence, ReviewSystem};
use serde_json::{Value, json};

use crate::peers::{Peers, json_fixture};

#[tokio::test]
async fn every_changeset_gets_the_review_system_that_the_original_gave_it() {
    let peers = Peers::start().await;
    let bugzilla = peers.bugzilla();
    let vectors = json_fixture("telemetry/classifier-vectors.json");
    let vectors = vectors["vectors"].as_array().unwrap();
    assert!(vectors.len() > 15);
    for vector in vectors {
        let text = |field: &str| vector[field].as_str().unwrap_or_default();
        let parents = vector["parents"].as_u64().unwrap_or(1).try_into().unwrap();
        let system = match Evidence::of(text("desc"), text("user"), parents) {
            Evidence::Clear(system) => system,
            Evidence::Bug(bug) => bugzilla.review_system(bug).await.unwrap(),
        };
        // What the original died of is of no known system here.
        let expected = if text("result") == "raises IndexError" { json!("unknown") } else { vector["result"].clone() };
        assert_eq!(json!(system), expected, "{vector}");
    }
}

#[test]
fn systems_have_the_names_that_the_dashboards_know() {
    let names: Vec<Value> = [
        ReviewSystem::Phabricator,
        ReviewSystem::Bmo,
        ReviewSystem::ReviewUnneeded,
        ReviewSystem::NotApplicable,
        ReviewSystem::NoBug,
        ReviewSystem::Unknown,
    ]
    .map(|system| json!(system))
    .into();
    assert_eq!(json!(names), json!(["phabricator", "bmo", "review_unneeded", "not_applicable", "no_bug", "unknown"]));
}
