//! Signatures, temporary credentials, and the errors for those that Taskcluster does not accept.

use std::{collections::HashMap, time::Duration};

use bus::{Retry, Retryable};
use jiff::Timestamp;
use runtime::Clock;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::json;
use taskcluster::{Credentials, TaskclusterError};
use testkit::taskcluster::Client;

use crate::stage::{NOW, Signature, Stage, client_credentials, http, payload_hash, response_to};

/// A request of the crate `taskcluster` 114 as it was recorded, and npm hawk's verdict.
#[derive(Deserialize)]
struct Judged {
    method: String,
    url: String,
    headers: HashMap<String, String>,
    body: String,
    hawk: String,
}

#[tokio::test]
async fn fake_verifies_signatures_as_npm_hawk() {
    let judged: Vec<Judged> =
        serde_json::from_str(include_str!("../fixtures/rust-crate-114-requests.json")).unwrap();
    let now: Timestamp = NOW.parse().unwrap();
    for (
        index,
        Judged {
            method,
            url,
            headers,
            body,
            hawk,
        },
    ) in judged.into_iter().enumerate()
    {
        let recorded = headers["authorization"]
            .split_once("hash=\"")
            .map(|(_, rest)| rest.trim_end_matches('"'));
        let body = Some(body).filter(|body| !body.is_empty());
        assert_eq!(
            recorded,
            body.as_deref().map(payload_hash).as_deref(),
            "{method} {url}"
        );

        // The key is not known. So the request is signed again with one that is, and with the mistake of that crate.
        let stage = Stage::set().await;
        let credentials = stage.fake.credentials();
        let (key, nonce) = (
            credentials.access_token.expose_secret(),
            format!("n{index}"),
        );
        let id = &credentials.client_id;
        let signature = Signature {
            id,
            key,
            time: now.as_second(),
            nonce: &nonce,
            ext: "",
        };
        let url = stage.url(&url);
        let mut signed = url.clone();
        signed.set_query(None);
        let header = signature.header(&method, &signed, body.as_deref());
        let request = http()
            .request(method.parse().unwrap(), url.clone())
            .header("authorization", header);
        let request = request
            .header("content-type", "application/json")
            .body(body.unwrap_or_default());
        let answer = response_to(request).await.body;
        let answer = String::from_utf8_lossy(&answer);
        assert_eq!(
            hawk.contains("Bad mac"),
            answer.contains("Unauthorized: Bad mac"),
            "{method} {url}: {answer}"
        );
        assert_eq!(
            hawk.starts_with("OK"),
            !answer.contains("Unauthorized"),
            "{method} {url}: {answer}"
        );
    }
}

#[tokio::test]
async fn tampered_or_replayed_request_is_refused() {
    let stage = Stage::set().await;
    stage.fake.add_hook("g", "h", None);
    let credentials = stage.fake.credentials();
    let signature = |time: i64, nonce: &'static str| Signature {
        id: "static/taskcluster/root",
        key: credentials.access_token.expose_secret(),
        time,
        nonce,
        ext: "",
    };
    let now = stage.clock.now().as_second();
    let hook = stage.url("/api/hooks/v1/hooks/g/h/trigger");
    let send = |url: url::Url, header: String, body: &'static str| async move {
        let request = http()
            .post(url)
            .header("authorization", header)
            .header("content-type", "application/json");
        let answer = response_to(request.body(body)).await.body;
        let answer = String::from_utf8_lossy(&answer);
        answer.split("\\n").next().unwrap().to_owned()
    };
    let signed = |nonce, time| signature(time, nonce).header("POST", &hook, Some("{}"));

    assert_eq!(send(hook.clone(), signed("a", now), "{}").await, "{}");
    assert!(
        send(hook.clone(), signed("a", now), "{}")
            .await
            .ends_with("Unauthorized: Invalid nonce")
    );
    assert!(
        send(hook.clone(), signed("b", now), "{\"A\": 1}")
            .await
            .ends_with("Unauthorized: Bad payload hash")
    );
    assert!(
        send(hook.clone(), signed("c", now - 62), "{}")
            .await
            .ends_with("Unauthorized: Stale timestamp")
    );
    assert!(
        send(hook.clone(), signed("d", now + 62), "{}")
            .await
            .ends_with("Unauthorized: Stale timestamp")
    );
    let mut other = hook.clone();
    other.set_query(Some("x=1"));
    assert!(
        send(other, signed("e", now), "{}")
            .await
            .ends_with("Unauthorized: Bad mac")
    );
    let unhashed = signature(now, "f").header("POST", &hook, None);
    assert!(
        send(hook.clone(), unhashed, "{}")
            .await
            .ends_with("Unauthorized: Missing required payload hash")
    );
    assert_eq!(stage.fake.triggers().len(), 1);
}

#[tokio::test]
async fn temporary_credentials_grant_their_scopes_until_they_expire() {
    let stage = Stage::set().await;
    for name in ["mine", "other"] {
        stage.fake.add_secret(name, json!({}));
    }
    let credentials = stage.fake.temporary_credentials(&["secrets:get:mine"]);
    let client = stage.client_with(Some(client_credentials(credentials)));
    client.secret("mine").await.unwrap();
    assert!(matches!(
        client.secret("other").await,
        Err(TaskclusterError::Scopes { .. })
    ));

    stage.clock.advance(Duration::from_secs(3601));
    let error = client.secret("mine").await.unwrap_err();
    assert!(
        matches!(error, TaskclusterError::Credentials { .. }),
        "{error}"
    );
    assert!(
        error.to_string().contains("ext.certificate.expiry < now"),
        "{error}"
    );
}

#[tokio::test]
async fn missing_scope_is_no_fault_of_the_message() {
    let stage = Stage::set().await;
    let client = Client {
        id: "me".to_owned(),
        access_token: "right".to_owned(),
        scopes: Vec::new(),
    };
    stage.fake.add_client(client);
    let with = |token: &str| {
        let (client_id, access_token) = ("me".to_owned(), SecretString::from(token));
        stage.client_with(Some(Credentials {
            client_id,
            access_token,
            certificate: None,
        }))
    };
    with("right").ping().await.unwrap();

    let error = with("s3cret").ping().await.unwrap_err();
    assert!(
        matches!(error, TaskclusterError::Credentials { .. }),
        "{error}"
    );
    assert!(matches!(error.retry(), Retry::Defer(_)));
    assert!(!format!("{error} {error:?} {:?}", with("s3cret")).contains("s3cret"));

    let error = with("right").secret("x").await.unwrap_err();
    assert!(matches!(error, TaskclusterError::Scopes { .. }), "{error}");
    assert!(matches!(error.retry(), Retry::Defer(_)));

    // None of these is tried again within the call.
    assert_eq!(stage.clock.waits(), [Duration::ZERO; 0]);
}

#[tokio::test]
async fn clock_skew_is_reported() {
    let stage = Stage::set().await;
    let (root, credentials) = (stage.fake.root().clone(), Some(stage.credentials()));
    let late = crate::stage::Stopwatch::at("2026-11-21T02:58:05.000Z");
    let error = taskcluster::Taskcluster::new(root, credentials, http(), late)
        .ping()
        .await
        .unwrap_err();
    assert!(error.to_string().contains("Stale timestamp"), "{error}");
    assert!(error.to_string().contains("this machine's time"), "{error}");
}
