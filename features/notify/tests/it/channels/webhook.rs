//! The webhook against a small HTTP server.

use std::sync::Arc;

use parking_lot::Mutex;

use aws_lc_rs::hmac;
use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use bus::{Retry, Retryable};
use notify::{ChannelError, Recipients};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::{checked, notification, open};
use crate::peers::closed;

const SECRET: &str = "0123456789abcdef";

/// A receiver that keeps what it gets, and answers as a test sets it.
#[derive(Default)]
struct Receiver {
    got: Mutex<Vec<(HeaderMap, Bytes)>>,
    answers: Mutex<Vec<(u16, Option<&'static str>)>>,
}

async fn receive(
    State(receiver): State<Arc<Receiver>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    receiver.got.lock().push((headers, body));
    match receiver.answers.lock().pop() {
        None => StatusCode::NO_CONTENT.into_response(),
        Some((status, None)) => StatusCode::from_u16(status).unwrap().into_response(),
        Some((status, Some(wait))) => (
            StatusCode::from_u16(status).unwrap(),
            [("retry-after", wait)],
        )
            .into_response(),
    }
}

async fn sending(receiver: Arc<Receiver>) -> Result<(), ChannelError> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let routes = Router::new().fallback(receive).with_state(receiver);
    tokio::spawn(async move { axum::serve(listener, routes).await });
    send(&url).await
}

async fn send(url: &str) -> Result<(), ChannelError> {
    let channels = open("webhook", &[("url", url), ("secret", SECRET)])
        .await
        .unwrap();
    let one = notification("webhook", Recipients::default());
    let channel = channels.get("webhook").unwrap();
    assert_eq!(
        channel.recipients(&one),
        ["127.0.0.1"],
        "the address may be a secret, the host is not"
    );
    channel.send(&one, "127.0.0.1").await
}

#[tokio::test]
async fn receiver_can_verify_signature() {
    let receiver = Arc::new(Receiver::default());
    sending(receiver.clone()).await.unwrap();
    let got = receiver.got.lock();
    let (headers, body) = &got[0];
    let header = |name: &str| headers[name].to_str().unwrap();
    let signed = [header("x-events-timestamp").as_bytes(), b".", body].concat();
    let tag: String = hmac::sign(
        &hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes()),
        &signed,
    )
    .as_ref()
    .iter()
    .map(|byte| format!("{byte:02x}"))
    .collect();
    assert_eq!(header("x-events-signature"), format!("sha256={tag}"));
    assert_eq!(header("x-events-timestamp"), "1795229285");
    let body: Value = serde_json::from_slice(body).unwrap();
    assert_eq!(
        (&body["status"], &body["subject"]),
        (&json!("task-failed"), &json!("build-linux64/opt failed"))
    );
    assert_eq!(body["task"]["name"], "build-linux64/opt");
    assert_eq!(
        header("x-events-delivery"),
        "bGmvC3EFTSWLcp5Kb5E12A/1/task-failed/webhook"
    );
}

#[tokio::test]
async fn responses_are_classified() {
    use std::time::Duration;
    for (status, wait, expected, words) in [
        (
            500,
            None,
            Retry::Backoff,
            "webhook failed: 127.0.0.1 answered the post with http status 500",
        ),
        (
            429,
            Some("7"),
            Retry::Defer(Duration::from_secs(7)),
            "webhook is busy",
        ),
        (
            429,
            Some("99999"),
            Retry::Defer(Duration::from_secs(600)),
            "webhook is busy",
        ),
        (
            403,
            None,
            Retry::Defer(Duration::from_secs(60)),
            "set notify.webhook.secret",
        ),
        (404, None, Retry::Never, "set notify.webhook.url"),
        (302, None, Retry::Never, "http status 302"),
    ] {
        let receiver = Arc::new(Receiver::default());
        receiver.answers.lock().push((status, wait));
        let error = sending(receiver).await.unwrap_err();
        assert_eq!(error.retry(), expected, "{status}");
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[tokio::test]
async fn closed_port_is_outage_and_address_stays_secret() {
    let error = send(&format!("{}/hunter2", closed())).await.unwrap_err();
    assert!(
        matches!(error, ChannelError::Unreachable { .. }),
        "{error:?}"
    );
    assert!(
        !format!("{error:?} {error}").contains("hunter2"),
        "{error:?}"
    );
}

#[tokio::test]
async fn post_without_answer_counts_an_attempt() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hunter2", listener.local_addr().unwrap());
    let silent = async {
        let (stream, _) = listener.accept().await.unwrap();
        stream.readable().await.unwrap();
    };
    let (sent, ()) = tokio::join!(send(&url), silent);
    let error = sent.unwrap_err();
    assert_eq!(
        error.retry(),
        Retry::Backoff,
        "it is not to get the same all day: {error}"
    );
    assert!(
        error
            .to_string()
            .ends_with("it may have arrived all the same"),
        "{error}"
    );
    assert!(
        !format!("{error:?} {error}").contains("hunter2"),
        "{error:?}"
    );
}

#[tokio::test]
async fn missing_settings_are_named() {
    for (file, expected) in [
        (&[][..], "webhook cannot be used: set notify.webhook.url"),
        (
            &[("url", "ftp://x")][..],
            "notify.webhook.url is not an address that begins with http or https",
        ),
        (&[("url", "http://x")][..], "set notify.webhook.secret"),
        (
            &[("url", "http://x"), ("secret", "")][..],
            "set notify.webhook.secret",
        ),
        (
            &[("uri", "http://x")][..],
            "unknown key notify.webhook.uri: webhook has url, secret",
        ),
    ] {
        let error = open("webhook", file).await.err().unwrap().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[tokio::test]
async fn check_reaches_the_receiver_and_posts_nothing() {
    let receiver = Arc::new(Receiver::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hunter2", listener.local_addr().unwrap());
    let post = axum::routing::post(receive).with_state(receiver.clone());
    let routes = Router::new().route("/hunter2", post);
    let serving = tokio::spawn(async move { axum::serve(listener, routes).await });
    let check = async || checked("webhook", &[("url", &url), ("secret", SECRET)]).await;
    let found = check().await.unwrap();
    assert_eq!(
        found, "127.0.0.1 answered a HEAD request with http status 405",
        "it takes posts alone"
    );
    assert!(receiver.got.lock().is_empty());
    serving.abort();
    let _ = serving.await;
    let fault = check().await.unwrap_err();
    assert!(
        fault.starts_with("webhook ") && !fault.contains("hunter2"),
        "{fault}"
    );
}

#[tokio::test]
async fn check_fails_where_the_receiver_is_at_fault() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let routes = Router::new().fallback(async || StatusCode::BAD_GATEWAY);
    tokio::spawn(async move { axum::serve(listener, routes).await });
    let fault = checked("webhook", &[("url", &url), ("secret", SECRET)])
        .await
        .unwrap_err();
    assert_eq!(
        fault,
        "webhook failed: 127.0.0.1 answered a HEAD request with http status 502"
    );
}
