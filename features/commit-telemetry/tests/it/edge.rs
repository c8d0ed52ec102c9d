//! Pings to the ingestion edge, and its answers.

use bus::{Retry, Retryable};
use commit_telemetry::{Ping, TelemetryError};
use serde_json::Value;

use crate::peers::{Fault, Peers, fixture};

const NODE: &str = "30b686e0c48bde03742fb29c17ff80e54b3712a4";

async fn ping(peers: &Peers) -> Ping {
    peers
        .telemetry()
        .ping_for(&peers.repository(), NODE)
        .await
        .unwrap()
}

#[tokio::test]
async fn permanent_rejection_is_not_retried_and_has_a_remedy() {
    let peers = Peers::start().await;
    let ping = ping(&peers).await;
    for status in [400, 404, 405, 411, 413, 414] {
        peers.fail("/submit/", Fault::status(status));
        let error = peers.edge().send(&ping).await.unwrap_err();
        assert_eq!(error.retry(), Retry::Never);
        let TelemetryError::Rejected {
            node,
            status: reported,
            advice,
        } = error
        else {
            panic!("{error}")
        };
        assert_eq!((node.as_str(), reported), (NODE, status));
        assert!(!advice.is_empty());
    }
    assert_eq!(peers.seen("/submit/").len(), 6, "no ping is sent twice");
}

#[tokio::test]
async fn temporary_rejection_is_deferred() {
    let peers = Peers::start().await;
    let ping = ping(&peers).await;
    for status in [500, 502, 503, 504, 429] {
        peers.outage("/submit/", status);
        let error = peers.edge().send(&ping).await.unwrap_err();
        assert!(matches!(error.retry(), Retry::Defer(_)), "{error}");
    }
    // A server that requests a pause gets no further request before its end.
    let before = peers.seen("/submit/").len();
    peers.fail(
        "/submit/",
        Fault {
            headers: vec![("retry-after", "120".to_owned())],
            ..Fault::status(429)
        },
    );
    let error = peers.edge().send(&ping).await.unwrap_err();
    assert_eq!(
        error.retry(),
        Retry::Defer(std::time::Duration::from_secs(120))
    );
    assert_eq!(peers.seen("/submit/").len(), before + 1);
    for _ in 0..3 {
        peers.fail("/submit/", Fault::status(503));
    }
    peers.edge().send(&ping).await.unwrap();
}

#[tokio::test]
async fn unreachable_edge_defers_ping() {
    let peers = Peers::start().await;
    let ping = ping(&peers).await;
    let edge = peers.edge();
    drop(peers);
    let error = edge.send(&ping).await.unwrap_err();
    assert!(matches!(error.retry(), Retry::Defer(_)), "{error}");
}

#[tokio::test]
async fn unknown_status_is_not_an_acceptance() {
    let peers = Peers::start().await;
    let ping = ping(&peers).await;
    for status in [201, 204, 302, 401, 403] {
        peers.fail("/submit/", Fault::status(status));
        let error = peers.edge().send(&ping).await.unwrap_err();
        assert!(
            matches!(error, TelemetryError::UnexpectedStatus { status: reported, .. } if reported == status),
            "{error}"
        );
        assert_eq!(error.retry(), Retry::Backoff);
    }
}

#[tokio::test]
async fn ping_violating_schema_is_not_sent() {
    let peers = Peers::start().await;
    let ping = Ping {
        push_date: -1,
        ..ping(&peers).await
    };
    let error = peers.edge().send(&ping).await.unwrap_err();
    assert_eq!(error.retry(), Retry::Never);
    let TelemetryError::SchemaViolation {
        node,
        place,
        schema,
        ..
    } = error
    else {
        panic!("{error}")
    };
    assert_eq!(
        (node.as_str(), place.as_str(), schema),
        (NODE, "/pushDate", "hgpush.1")
    );
    assert_eq!(peers.seen("/submit/"), []);
}

#[test]
fn schema_accepts_its_samples() {
    let schema: Value =
        serde_json::from_str(include_str!("../../src/hgpush.1.schema.json")).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    for name in ["diffstat_null", "landingSystem_null", "sample"] {
        let sample =
            serde_json::from_str(&fixture(&format!("telemetry/hgpush.1.{name}.pass.json")))
                .unwrap();
        assert!(validator.is_valid(&sample), "{name}");
    }
}
