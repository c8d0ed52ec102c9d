//! Review systems from answers of Bugzilla.

use bus::{Retry, Retryable};
use commit_telemetry::{ReviewSystem, TelemetryError};
use serde_json::{Value, json};

use crate::peers::{Fault, Peers, json_fixture};

/// The attachments of a recorded answer.
fn attachments(name: &str) -> Value {
    let recorded = json_fixture(&format!("bugzilla/{name}.json"));
    recorded["response"]["body"]["bugs"]
        .as_object()
        .unwrap()
        .values()
        .next()
        .unwrap()
        .clone()
}

/// The history of a recorded answer.
fn history(name: &str) -> Value {
    json_fixture(&format!("bugzilla/{name}.json"))["response"]["body"]["bugs"][0]["history"].clone()
}

#[tokio::test]
async fn review_system_of_recorded_bugs_is_found() {
    let peers = Peers::start().await;
    for (number, (attached, changes, expected)) in (1..).zip([
        (
            "attachment-phabricator",
            "history-empty",
            ReviewSystem::Phabricator,
        ),
        (
            "attachment-patch-with-flag",
            "history-review-plus",
            ReviewSystem::Bmo,
        ),
        (
            "attachment-patch-with-flag",
            "history-empty",
            ReviewSystem::Unknown,
        ),
        (
            "attachment-obsolete",
            "history-review-plus",
            ReviewSystem::Unknown,
        ),
        (
            "attachment-empty",
            "history-review-plus",
            ReviewSystem::Unknown,
        ),
    ]) {
        peers.bug(number, attachments(attached), history(changes));
        assert_eq!(
            peers.bugzilla().review_system(number).await.unwrap(),
            expected,
            "{attached}, {changes}"
        );
    }
}

#[tokio::test]
async fn only_the_review_flag_grants_a_review() {
    let peers = Peers::start().await;
    for (number, (field, added, expected)) in (1..).zip([
        ("flagtypes.name", "review+", ReviewSystem::Bmo),
        ("flagtypes.name", "feedback+, review+", ReviewSystem::Bmo),
        (
            "flagtypes.name",
            "review?(bob@example.com)",
            ReviewSystem::Unknown,
        ),
        ("flagtypes.name", "review-", ReviewSystem::Unknown),
        ("flagtypes.name", "superreview+", ReviewSystem::Unknown),
        ("keywords", "review+", ReviewSystem::Unknown),
    ]) {
        let history = json!([{"changes": [{"field_name": field, "added": added, "removed": ""}]}]);
        peers.bug(number, attachments("attachment-patch-with-flag"), history);
        assert_eq!(
            peers.bugzilla().review_system(number).await.unwrap(),
            expected,
            "{field}: {added}"
        );
    }
}

#[tokio::test]
async fn rule_6_refusal_by_bugzilla_means_no_bug() {
    let peers = Peers::start().await;
    let bugzilla = peers.bugzilla();
    assert_eq!(
        bugzilla.review_system(1_400_009).await.unwrap(),
        ReviewSystem::NoBug,
        "it is private"
    );
    assert_eq!(
        bugzilla.review_system(1_400_077).await.unwrap(),
        ReviewSystem::NoBug,
        "it is missing"
    );
    let table = [
        (401, "", ReviewSystem::NoBug),
        (401, "<html>", ReviewSystem::NoBug),
        (400, r#"{"error": true, "code": 100}"#, ReviewSystem::NoBug),
        (200, r#"{"error": true, "code": 102}"#, ReviewSystem::NoBug),
        (403, r#"{"error": false}"#, ReviewSystem::NoBug),
        (404, "<html>not here</html>", ReviewSystem::Unknown),
        (403, "", ReviewSystem::Unknown),
    ];
    for resource in ["attachment", "history"] {
        for (number, (status, body, expected)) in (1..).zip(table) {
            peers.bug(
                number,
                attachments("attachment-patch-with-flag"),
                history("history-review-plus"),
            );
            peers.fail(
                &format!("/bug/{number}/{resource}"),
                Fault {
                    status,
                    ..Fault::body(body)
                },
            );
            let system = peers.bugzilla().review_system(number).await.unwrap();
            assert_eq!(system, expected, "{resource}: {status} {body}");
        }
    }
}

#[tokio::test]
async fn unknown_bugzilla_endpoint_is_an_error_of_the_server() {
    let peers = Peers::start().await;
    let body =
        r#"{"code":32614,"error":true,"message":"The requested method '/whoami' was not found."}"#;
    peers.fail(
        "/bug/1400001/",
        Fault {
            status: 404,
            ..Fault::body(body)
        },
    );
    let error = peers.bugzilla().review_system(1_400_001).await.unwrap_err();
    assert!(error.to_string().contains("404"), "{error}");
    assert_eq!(error.retry(), Retry::Backoff);
}

#[tokio::test]
async fn outage_is_deferred_and_not_classified() {
    let peers = Peers::start().await;
    let bugzilla = peers.bugzilla();
    for status in [500, 502, 503, 429] {
        peers.outage("/bug/1400001/", status);
        let error = bugzilla.review_system(1_400_001).await.unwrap_err();
        assert!(
            matches!(error.retry(), Retry::Defer(_)),
            "{status}: {error}"
        );
    }
    // Also with an error body.
    for _ in 0..4 {
        peers.fail(
            "/bug/1400001/",
            Fault {
                status: 500,
                ..Fault::body(r#"{"error": true, "code": 100500}"#)
            },
        );
    }
    assert!(bugzilla.review_system(1_400_001).await.is_err());
    assert_eq!(
        bugzilla.review_system(1_400_001).await.unwrap(),
        ReviewSystem::Phabricator,
        "a failure is not cached"
    );
}

#[tokio::test]
async fn brief_failure_is_retried() {
    let peers = Peers::start().await;
    for _ in 0..3 {
        peers.fail("/bug/1400001/", Fault::status(503));
    }
    assert_eq!(
        peers.bugzilla().review_system(1_400_001).await.unwrap(),
        ReviewSystem::Phabricator
    );
}

#[tokio::test]
async fn concurrent_lookups_of_a_bug_share_one_request() {
    let peers = Peers::start().await;
    let bugzilla = peers.bugzilla();
    let all = futures::future::join_all((0..50).map(|_| bugzilla.review_system(1_400_004))).await;
    assert!(
        all.into_iter()
            .all(|system| system.unwrap() == ReviewSystem::Bmo)
    );
    assert_eq!(
        bugzilla.clone().review_system(1_400_004).await.unwrap(),
        ReviewSystem::Bmo
    );
    assert_eq!(peers.seen("/bug/1400004/attachment").len(), 1);
    assert_eq!(peers.seen("/bug/1400004/history").len(), 1);
}

#[tokio::test]
async fn malformed_answer_error_names_the_field() {
    let peers = Peers::start().await;
    for (number, (body, problem)) in (1..).zip([
        (
            r#"{"bugs": {"1": [{"content_type": 5, "is_patch": 0, "is_obsolete": 0}]}}"#,
            "bugs.1[0].content_type: invalid type",
        ),
        (
            r#"{"bugs": {"1": [{"content_type": "", "is_patch": "1", "is_obsolete": 0}]}}"#,
            "bugs.1[0].is_patch: invalid type",
        ),
        (r#"{"bugs": []}"#, "bugs: invalid type"),
        (r"{}", "missing field `bugs`"),
        ("<html>", "expected value"),
    ]) {
        peers.fail(&format!("/bug/{number}/attachment"), Fault::body(body));
        let error = peers.bugzilla().review_system(number).await.unwrap_err();
        assert!(error.to_string().contains(problem), "{error}");
        assert_eq!(error.retry(), Retry::Backoff);
    }
}

#[tokio::test]
async fn redirect_is_not_followed() {
    let peers = Peers::start().await;
    let location = vec![(
        "location",
        peers.address("/rest/bug/1400001/attachment?exclude_fields=data"),
    )];
    peers.fail(
        "/bug/7/attachment",
        Fault {
            headers: location,
            ..Fault::status(302)
        },
    );
    let TelemetryError::Bugzilla(error) = peers.bugzilla().review_system(7).await.unwrap_err()
    else {
        panic!()
    };
    assert!(
        matches!(*error, TelemetryError::UnexpectedStatus { status: 302, .. }),
        "{error}"
    );
    assert_eq!(peers.seen("/bug/1400001/"), []);
}
