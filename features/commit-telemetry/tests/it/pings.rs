//! Pings of the recorded repository.

use commit_telemetry::TelemetryError;
use serde_json::{Value, json};

use crate::peers::{Peers, fixture};

const REVIEWED: &str = "30b686e0c48bde03742fb29c17ff80e54b3712a4";

/// The recorded pings, with the address of these peers.
pub(crate) fn recorded(peers: &Peers) -> Vec<Value> {
    let recorded = peers.moved(&fixture("telemetry/pings-from-real-committelemetry.json"));
    serde_json::from_str::<Vec<Value>>(&recorded).unwrap()
}

/// Method, path, content type and body of the sent pings.
pub(crate) fn sent(peers: &Peers) -> Vec<Value> {
    let seen = peers.seen("/submit/").into_iter();
    seen.map(|seen| {
        json!({
            "method": seen.method.as_str(),
            "path": seen.path,
            "type": seen.content_type,
            "body": serde_json::from_slice::<Value>(&seen.body).unwrap(),
        })
    })
    .collect()
}

/// The recorded pings, in the same form.
pub(crate) fn expected(peers: &Peers) -> Vec<Value> {
    recorded(peers)
        .into_iter()
        .map(|ping| {
            json!({
                "method": ping["method"],
                "path": ping["path"],
                "type": ping["headers"]["Content-Type"],
                "body": ping["body"],
            })
        })
        .collect()
}

#[tokio::test]
async fn pings_equal_those_of_the_predecessor() {
    let peers = Peers::start().await;
    let telemetry = peers.telemetry();
    for ping in recorded(&peers) {
        let node = ping["body"]["changesetID"].as_str().unwrap();
        telemetry
            .send(&telemetry.ping_for(&peers.repository(), node).await.unwrap())
            .await
            .unwrap();
    }
    assert_eq!(sent(&peers), expected(&peers));
    assert_eq!(sent(&peers).len(), 10);
}

#[tokio::test]
async fn diff_is_fetched_only_when_ping_reports_it() {
    let peers = Peers::start().await;
    for ping in recorded(&peers) {
        let node = ping["body"]["changesetID"].as_str().unwrap();
        peers
            .telemetry()
            .ping_for(&peers.repository(), node)
            .await
            .unwrap();
        let fetched = !peers.seen(&format!("/raw-rev/{node}")).is_empty();
        assert_eq!(fetched, !ping["body"]["diffstat"].is_null(), "{ping}");
    }
}

#[tokio::test]
async fn changeset_is_found_by_prefix_of_its_id() {
    let peers = Peers::start().await;
    let ping = peers
        .telemetry()
        .ping_for(&peers.repository(), "30b686e0c48b")
        .await
        .unwrap();
    assert_eq!(ping.changeset_id.as_str(), REVIEWED);
}

#[tokio::test]
async fn unknown_changeset_is_reported_with_its_repository() {
    let peers = Peers::start().await;
    for revision in ["deadbeefdead", "..", "", "../../etc"] {
        let error = peers
            .telemetry()
            .ping_for(&peers.repository(), revision)
            .await
            .unwrap_err();
        assert!(
            matches!(error, TelemetryError::NoSuchChangeset { .. }),
            "{revision}: {error}"
        );
        assert_eq!(
            error.to_string(),
            format!(
                "no such changeset: {revision} is not in {}",
                peers.repository()
            )
        );
    }
}

#[tokio::test]
async fn push_date_keeps_time_and_offset() {
    let peers = Peers::start().await;
    peers.change(REVIEWED, "pushdate", json!([1_795_228_689.0, -3600]));
    let ping = peers
        .telemetry()
        .ping_for(&peers.repository(), REVIEWED)
        .await
        .unwrap();
    assert_eq!(ping.push_date, 1_795_225_089);
}

#[tokio::test]
async fn every_kind_of_description_is_classified() {
    let peers = Peers::start().await;
    let (zero, long) = ("0".repeat(40), "x".repeat(1 << 20));
    for (description, parents, expected) in [
        (String::new(), 1, "unknown"),
        (String::new(), 3, "not_applicable"),
        ("\nBug 1400077 - x".to_owned(), 1, "unknown"),
        (long.clone(), 1, "unknown"),
        (format!("Bug 1400077 {long}"), 1, "no_bug"),
        (format!("{long} no bug"), 1, "no_bug"),
        ("Bug 1400077 - x".to_owned(), 3, "not_applicable"),
        ("Bug 1400009 - x".to_owned(), 0, "no_bug"),
    ] {
        peers.change(REVIEWED, "desc", json!(description));
        peers.change(REVIEWED, "parents", json!(vec![&zero; parents]));
        let ping = peers
            .telemetry()
            .ping_for(&peers.repository(), REVIEWED)
            .await
            .unwrap();
        assert_eq!(
            json!(ping.review_system_used),
            expected,
            "{:.40}",
            description
        );
    }
}
