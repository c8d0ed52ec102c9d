//! Malformed and hostile answers of hgweb.

use bus::{Retry, Retryable};
use commit_telemetry::{DiffFault, Hgweb, TelemetryError};
use http_client::HttpError;
use serde_json::{Value, json};

use crate::peers::{Fault, Peers, fixture};

const NODE: &str = "30b686e0c48bde03742fb29c17ff80e54b3712a4";

async fn changeset(
    peers: &Peers,
    body: impl Into<bytes::Bytes>,
) -> Result<commit_telemetry::Changeset, TelemetryError> {
    peers.fail("/json-rev/", Fault::body(body));
    Hgweb::changeset(&peers.hgweb(), &peers.repository(), NODE).await
}

#[tokio::test]
async fn malformed_changeset_error_names_the_field() {
    let peers = Peers::start().await;
    let good = json!({"node": NODE, "desc": "x", "user": "y", "parents": [], "pushdate": [1, 0], "landingsystem": null});
    assert_eq!(
        changeset(&peers, good.to_string())
            .await
            .unwrap()
            .description,
        b"x"
    );
    for (field, value, problem) in [
        (
            "node",
            json!("30b686"),
            "node: the id of a changeset has 40 lower-case hex digits",
        ),
        ("node", json!(5), "node: invalid type"),
        ("desc", json!(5), "desc: invalid type"),
        ("desc", json!(["a"]), "desc: invalid type"),
        ("user", Value::Null, "user: invalid type"),
        ("parents", json!("x"), "parents: invalid type"),
        ("parents", json!([NODE, 7]), "parents[1]: invalid type"),
        ("pushdate", json!("now"), "pushdate: invalid type"),
        ("pushdate", json!([1]), "pushdate: invalid length"),
        ("landingsystem", json!({}), "landingsystem: invalid type"),
    ] {
        let mut wrong = good.clone();
        wrong[field] = value;
        let error = changeset(&peers, wrong.to_string()).await.unwrap_err();
        assert!(error.to_string().contains(problem), "{error}");
        assert_eq!(error.retry(), Retry::Backoff);
    }
    for (body, problem) in [
        ("", "EOF"),
        ("[]", "invalid length"),
        ("{}", "missing field `node`"),
        ("<html>", "expected"),
    ] {
        let error = changeset(&peers, body).await.unwrap_err();
        assert!(error.to_string().contains(problem), "{error}");
    }
}

#[tokio::test]
async fn invalid_utf_8_arrives_unchanged() {
    let peers = Peers::start().await;
    let json = |desc: &[u8]| {
        let mut body = format!(r#"{{"node": "{NODE}", "user": "\udcff", "parents": [], "desc": ""#)
            .into_bytes();
        body.extend_from_slice(desc);
        body.extend_from_slice(b"\"}");
        body
    };
    for (written, expected) in [
        (
            &br"a\udc80\udce9\udcbf\udcffz"[..],
            &b"a\x80\xe9\xbf\xffz"[..],
        ),
        (b"a\x80\xffz", b"a\x80\xffz"),
        ("\u{d7ff}\\ud7ff".as_bytes(), "\u{d7ff}\u{d7ff}".as_bytes()),
        (br"\ud83d\ude00", "😀".as_bytes()),
    ] {
        let changeset = changeset(&peers, json(written)).await.unwrap();
        assert_eq!(
            changeset.description,
            expected,
            "{}",
            written.escape_ascii()
        );
        assert_eq!(changeset.author, b"\xff");
    }
}

#[tokio::test]
async fn description_beyond_limit_is_rejected() {
    let peers = Peers::start().await;
    let body = format!(r#"{{"node": "{NODE}", "desc": "{}""#, "x".repeat(17 << 20));
    let error = changeset(&peers, body).await.unwrap_err();
    assert!(
        matches!(
            error,
            TelemetryError::Http {
                source: HttpError::TooLarge { limit: 16_777_216 },
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(error.retry(), Retry::Never);
}

#[tokio::test]
async fn inconsistent_diff_is_rejected() {
    let peers = Peers::start().await;
    let raw = fixture("hg/raw-rev-reviewed.txt");
    for (body, expected) in [
        (String::new(), DiffFault::Truncated),
        ("<html>\n".to_owned(), DiffFault::Header { line: 1 }),
        (raw[..raw.len() - 10].to_owned(), DiffFault::Truncated),
        (
            raw.replace("Add the widget", "Add\nthe widget"),
            DiffFault::Description,
        ),
        (
            raw.replace("+1,3", "+1,2"),
            DiffFault::HunkLength { hunk: 2 },
        ),
    ] {
        peers.fail("/raw-rev/", Fault::body(body.clone()));
        let error = peers
            .telemetry()
            .ping_for(&peers.repository(), NODE)
            .await
            .unwrap_err();
        assert_eq!(error.retry(), Retry::Backoff);
        let TelemetryError::Diff { source, .. } = error else {
            panic!("{body}: {error}")
        };
        assert_eq!(source, expected, "{body}");
    }
}

#[tokio::test]
async fn redirect_is_not_followed() {
    let peers = Peers::start().await;
    for part in ["/json-rev/", "/raw-rev/"] {
        let location = vec![("location", peers.address("/elsewhere"))];
        peers.fail(
            part,
            Fault {
                headers: location,
                ..Fault::status(301)
            },
        );
        let error = peers
            .telemetry()
            .ping_for(&peers.repository(), NODE)
            .await
            .unwrap_err();
        assert!(
            matches!(error, TelemetryError::UnexpectedStatus { status: 301, .. }),
            "{error}"
        );
    }
    assert_eq!(peers.seen("/elsewhere"), []);
}

#[tokio::test]
async fn different_changeset_in_answer_is_rejected() {
    let peers = Peers::start().await;
    peers.fail(
        "/json-rev/",
        Fault::body(fixture("hg/json-rev-backout.json")),
    );
    let error = peers
        .telemetry()
        .ping_for(&peers.repository(), NODE)
        .await
        .unwrap_err();
    assert!(
        error.to_string().ends_with("node: not the requested one"),
        "{error}"
    );
}

#[tokio::test]
async fn changeset_without_push_date_is_reported() {
    let peers = Peers::start().await;
    let body = json!({"node": NODE, "desc": "No bug", "user": "y", "parents": []});
    peers.fail("/json-rev/", Fault::body(body.to_string()));
    let error = peers
        .telemetry()
        .ping_for(&peers.repository(), NODE)
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("pushdate: missing: the pushlog of the repository"),
        "{error}"
    );
}
