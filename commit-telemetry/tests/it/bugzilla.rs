//! What is made of Bugzilla's answers.

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
async fn recorded_bugs_tell_their_review_system() {
    let peers = Peers::start().await;
    for (number, (attached, told, expected)) in (1..).zip([
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
        peers.bug(number, attachments(attached), history(told));
        assert_eq!(
            peers.bugzilla().review_system(number).await.unwrap(),
            expected,
            "{attached}, {told}"
        );
    }
}

#[tokio::test]
async fn a_review_is_granted_by_its_own_flag_only() {
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
async fn rule_6_refusals_of_bugzilla_mean_no_bug_and_others_say_nothing() {
    let peers = Peers::start().await;
    let bugzilla = peers.bugzilla();
    assert_eq!(
        bugzilla.review_system(1_400_009).await.unwrap(),
        ReviewSystem::NoBug,
        "nobody may see it"
    );
    assert_eq!(
        bugzilla.review_system(1_400_077).await.unwrap(),
        ReviewSystem::NoBug,
        "it is not there"
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
    for what in ["attachment", "history"] {
        for (number, (status, body, expected)) in (1..).zip(table) {
            peers.bug(
                number,
                attachments("attachment-patch-with-flag"),
                history("history-review-plus"),
            );
            peers.fail(
                &format!("/bug/{number}/{what}"),
                Fault {
                    status,
                    ..Fault::body(body)
                },
            );
            let system = peers.bugzilla().review_system(number).await.unwrap();
            assert_eq!(system, expected, "{what} answered with {status} {body}");
        }
    }
}

#[tokio::test]
async fn an_address_that_bugzilla_does_not_know_is_a_fault_of_ours_and_tells_no_system() {
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
async fn an_outage_is_waited_for_and_tells_no_system() {
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
    // Also in Bugzilla's own words.
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
        "a failure is not kept"
    );
}

#[tokio::test]
async fn a_moment_of_trouble_goes_unnoticed() {
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
async fn a_bug_that_is_asked_for_by_many_is_asked_for_once() {
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
async fn an_answer_of_another_shape_names_the_field() {
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
async fn a_redirect_is_not_followed() {
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
        matches!(*error, TelemetryError::Status { status: 302, .. }),
        "{error}"
    );
    assert_eq!(peers.seen("/bug/1400001/"), []);
}
