//! Classifications, compared with recorded ones of the predecessor.

use commit_telemetry::{Classification, ReviewSystem, Rules, classify};
use serde_json::{Value, json};

use crate::peers::{Peers, json_fixture};

/// The descriptions that the current rules classify differently from the predecessor, with the reason.
const DIFFERS: [(&str, &str); 1] = [(
    "Revert \"Bug 1400001\"",
    "the form of back-outs since the move to Git",
)];

#[tokio::test]
async fn review_systems_equal_those_of_the_predecessor() {
    let peers = Peers::start().await;
    let bugzilla = peers.bugzilla();
    let vectors = json_fixture("telemetry/classifier-vectors.json");
    let vectors = vectors["vectors"].as_array().unwrap();
    assert!(vectors.len() > 15);
    let mut differ = Vec::new();
    for vector in vectors {
        let text = |field: &str| vector[field].as_str().unwrap_or_default();
        let parents = vector["parents"].as_u64().unwrap_or(1).try_into().unwrap();
        let system = async |rules| match classify(rules, text("desc"), text("user"), parents) {
            Classification::System(system) => system,
            Classification::Bug(bug) => bugzilla.review_system(bug).await.unwrap(),
        };
        // The predecessor crashed on these; here their system is unknown.
        let expected = if text("result") == "raises IndexError" {
            json!("unknown")
        } else {
            vector["result"].clone()
        };
        assert_eq!(json!(system(Rules::Classic).await), expected, "{vector}");
        let current = system(Rules::Current).await;
        if json!(current) != expected {
            assert_eq!(current, ReviewSystem::ReviewUnneeded, "{vector}");
            differ.push(text("desc"));
        }
    }
    assert_eq!(differ, DIFFERS.map(|(description, _)| description));
}

#[test]
fn review_systems_keep_names_of_dashboards() {
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
    assert_eq!(
        json!(names),
        json!([
            "phabricator",
            "bmo",
            "review_unneeded",
            "not_applicable",
            "no_bug",
            "unknown"
        ])
    );
}
