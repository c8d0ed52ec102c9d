//! The Conduit client against recorded exchanges, and against a Phabricator that fails.

use std::{error::Error, sync::Arc, time::Duration};

use parking_lot::Mutex;

use axum::{
    Router,
    body::Bytes,
    extract::Path,
    http::{StatusCode, header},
    routing::post,
};
use bus::{Retry, Retryable};
use http_client::HttpError;
use phabricator::{Conduit, ConduitError};
use secrecy::SecretString;
use serde_json::{Map, Value, json};
use testkit::phabricator::Fault;
use url::Url;

use crate::{
    recorded::{REDACTED, Recorded, form_fields},
    world::{conduit, fake, http},
};

/// Serves one answer to everything and keeps what was sent: method and body.
async fn serve(status: u16, body: Vec<u8>) -> (Url, Arc<Mutex<Vec<(String, Bytes)>>>) {
    let received = Arc::new(Mutex::new(Vec::new()));
    let kept = received.clone();
    let answer = (
        StatusCode::from_u16(status).unwrap(),
        [(header::CONTENT_TYPE, "application/json")],
        Bytes::from(body),
    );
    let routes = Router::new().route(
        "/api/{method}",
        post(move |Path(method): Path<String>, sent: Bytes| {
            kept.lock().push((method, sent));
            std::future::ready(answer.clone())
        }),
    );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
    tokio::spawn(async move { axum::serve(listener, routes).await });
    (url, received)
}

fn params(value: &Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap_or_default()
}

/// An error with its causes, as a log would show it, and its debug form.
fn shown(error: &ConduitError) -> String {
    let mut text = format!("{error} {error:?}");
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(" {error} {error:?}"));
        cause = error.source();
    }
    text
}

#[tokio::test]
async fn requests_have_the_recorded_form_and_responses_are_read() {
    for name in [
        "user.whoami",
        "differential.revision.search.phid-attachments",
        "differential.diff.search.phid-commits",
        "differential.diff.search.no-revision",
        "differential.getrawdiff.unicode",
        "edge.search.parent.diamond",
        "project.search.slug",
        "harbormaster.sendmessage.fail-with-units",
        "harbormaster.createartifact.uri",
        "harbormaster.createartifact.same-key",
        "harbormaster.sendmessage.unknown-target",
        "error.unknown-method",
    ] {
        let recorded = Recorded::read(name);
        let (url, received) = serve(
            recorded.http_status,
            recorded.response.to_string().into_bytes(),
        )
        .await;
        let conduit = Conduit::new(url, SecretString::from(REDACTED), http());
        let method: &'static str = recorded.method.clone().leak();
        let answer = conduit
            .call::<Value>(method, params(&recorded.params))
            .await;

        let received = received.lock();
        assert_eq!(received.len(), 1, "{name}");
        let (called, body) = &received[0];
        assert_eq!(*called, recorded.method);
        let (mut sent, mut expected) = (form_fields(body), recorded.form());
        let object = |text: Option<String>| serde_json::from_str::<Value>(&text.unwrap()).unwrap();
        assert_eq!(
            object(sent.remove("params")),
            object(expected.remove("params")),
            "{name}"
        );
        assert_eq!(sent, expected, "{name}");
        match (answer, recorded.response["error_code"].as_str()) {
            (Ok(result), None) => assert_eq!(result, recorded.response["result"], "{name}"),
            (Err(ConduitError::Refused { code, info, .. }), Some(expected)) => {
                assert_eq!(
                    (code.as_str(), json!(info)),
                    (expected, recorded.response["error_info"].clone()),
                    "{name}"
                );
            }
            (answer, expected) => panic!("{name}: {answer:?}, expected {expected:?}"),
        }
    }
}

#[tokio::test]
async fn error_about_a_bad_token_does_not_hold_it() {
    let fake = fake().await;
    for token in ["api-0123456789012345678901234567", "api-short"] {
        let conduit = Conduit::new(fake.url().clone(), SecretString::from(token), http());
        let error = conduit.check().await.unwrap_err();
        assert!(
            matches!(&error, ConduitError::InvalidToken { code, .. } if code == "ERR-INVALID-AUTH"),
            "{error:?}"
        );
        assert_eq!(
            error.retry(),
            Retry::Defer(Duration::from_secs(30)),
            "no build is to blame"
        );
        assert!(!shown(&error).contains(token), "{error:?}");
        assert!(!format!("{conduit:?}").contains(token), "{conduit:?}");
    }
    conduit(&fake).check().await.unwrap();
}

#[tokio::test]
async fn no_error_shows_the_token_or_the_password_of_the_address() {
    let echo = json!({"result": null, "error_code": "ERR-X", "error_info": "what is api-secret?"})
        .to_string();
    let unreadable =
        json!({"result": {"title": "private title"}, "error_code": null, "error_info": null})
            .to_string();
    for (status, body) in [
        (200, echo.as_str()),
        (200, unreadable.as_str()),
        (200, "<html>"),
        (404, ""),
    ] {
        let (mut url, _) = serve(status, body.as_bytes().to_vec()).await;
        url.set_username("user").unwrap();
        url.set_password(Some("passw0rd")).unwrap();
        let conduit = Conduit::new(url, SecretString::from("api-secret"), http());
        let error = conduit
            .call::<String>("user.whoami", Map::new())
            .await
            .unwrap_err();
        for secret in ["api-secret", "passw0rd", "private title"] {
            assert!(!shown(&error).contains(secret), "{}", shown(&error));
            assert!(!format!("{conduit:?}").contains(secret), "{conduit:?}");
        }
    }
}

#[tokio::test]
async fn short_outage_is_retried_within_the_call() {
    let fake = fake().await;
    fake.fail_next("user.whoami", 1, &Fault::Status(503));
    fake.fail_next("user.whoami", 1, &Fault::Cut);
    conduit(&fake).check().await.unwrap();
    assert_eq!(fake.calls().len(), 3);
}

#[tokio::test]
async fn long_outage_is_a_retryable_error() {
    let fake = fake().await;
    fake.fail_next("user.whoami", 3, &Fault::Status(502));
    let error = conduit(&fake).check().await.unwrap_err();
    assert!(
        matches!(
            &error,
            ConduitError::Http {
                source: HttpError::Busy { status: 502, .. },
                ..
            }
        ),
        "{error:?}"
    );
    assert_eq!(error.retry(), Retry::Backoff);
    assert_eq!(fake.calls().len(), 3);
}

#[tokio::test]
async fn other_status_than_200_is_no_answer() {
    let fake = fake().await;
    for status in [202, 204, 302, 404] {
        fake.fail_next("user.whoami", 1, &Fault::Status(status));
        let error = conduit(&fake).check().await.unwrap_err();
        let error = runtime::error_chain(&error);
        assert!(error.contains(&format!("http status {status}")), "{error}");
    }
    assert_eq!(fake.calls().len(), 4);
}

#[tokio::test]
async fn unreachable_server_is_an_error_without_the_address() {
    let url = Url::parse("http://user:passw0rd@127.0.0.1:1/").unwrap();
    let error = Conduit::new(url, SecretString::from("api-secret"), http())
        .check()
        .await
        .unwrap_err();
    assert!(
        matches!(
            &error,
            ConduitError::Http {
                source: HttpError::Unreachable(_),
                ..
            }
        ),
        "{error:?}"
    );
    assert_eq!(error.retry(), Retry::Backoff);
    for private in ["passw0rd", "http://"] {
        assert!(!shown(&error).contains(private), "{}", shown(&error));
    }
}

#[tokio::test]
async fn refusals_are_not_retried_within_the_call() {
    let fake = fake().await;
    let wrong = conduit(&fake)
        .call::<Value>("user.nosuchmethod", Map::new())
        .await
        .unwrap_err();
    assert_eq!(wrong.retry(), Retry::Never);
    fake.fail_next("user.whoami", 1, &Fault::Refuse("ERR-CONDUIT-CORE"));
    let hiccup = conduit(&fake).check().await.unwrap_err();
    assert_eq!(hiccup.retry(), Retry::Backoff);
    assert_eq!(fake.calls().len(), 2);
}

#[tokio::test]
async fn endless_response_is_not_read_to_its_end() {
    let (url, received) = serve(200, vec![b' '; 129 << 20]).await;
    let error = Conduit::new(url, SecretString::from("api-secret"), http())
        .check()
        .await
        .unwrap_err();
    assert!(
        matches!(
            &error,
            ConduitError::Http {
                source: HttpError::TooLarge { .. },
                ..
            }
        ),
        "{error:?}"
    );
    assert_eq!(received.lock().len(), 1);
}

#[tokio::test]
async fn names_are_resolved_and_unknown_ones_left_out() {
    let fake = fake().await;
    let alice = fake.add_user("alice", "Alice Example");
    let first = fake.add_repository("first");
    for number in 0..150 {
        fake.add_repository(&format!("repository-{number}"));
    }
    let names = |names: &[&str]| {
        names
            .iter()
            .map(|name| (*name).to_owned())
            .collect::<Vec<_>>()
    };
    let users = conduit(&fake)
        .users(&names(&["Alice", "nobody"]))
        .await
        .unwrap();
    assert_eq!(
        users.into_iter().collect::<Vec<_>>(),
        [("Alice".to_owned(), alice)]
    );
    // The oldest is on the second page.
    let repositories = conduit(&fake)
        .repositories(&names(&["first", "unknown"]))
        .await
        .unwrap();
    assert_eq!(
        repositories.into_iter().collect::<Vec<_>>(),
        [("first".to_owned(), first)]
    );
    assert!(conduit(&fake).users(&[]).await.unwrap().is_empty());
}

/// What must not happen twice is tried once, and says so.
#[tokio::test]
async fn error_names_the_number_of_attempts() {
    let fake = fake().await;
    let build = build::Phid::parse("PHID-HMBD-00000000000000000001").unwrap();
    fake.fail_until_mended("user.whoami", &Fault::Cut);
    fake.fail_until_mended("harbormaster.sendmessage", &Fault::Cut);
    let error = conduit(&fake)
        .call::<Value>("user.whoami", Map::new())
        .await
        .unwrap_err()
        .to_string();
    assert!(error.ends_with("user.whoami, 3 tries failed"), "{error}");
    let error = conduit(&fake)
        .restart(&build)
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.ends_with("harbormaster.sendmessage, 1 try failed"),
        "{error}"
    );
}
