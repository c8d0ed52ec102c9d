//! Errors that are reported to Sentry, to a peer that takes what it is sent.

use std::sync::Arc;

use parking_lot::Mutex;

use axum::{Router, extract::State, routing::post};
use secrecy::ExposeSecret;

use crate::world::{World, until};

/// Envelopes, as they came.
type Envelopes = Arc<Mutex<Vec<String>>>;

/// Where Sentry is, as a DSN, and what it got.
async fn peer() -> (String, Envelopes) {
    let envelopes = Envelopes::default();
    let take = async |State(envelopes): State<Envelopes>, body: String| {
        envelopes.lock().push(body);
        "{}"
    };
    let routes = Router::new()
        .route("/api/7/envelope/", post(take))
        .with_state(envelopes.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, routes).await });
    (format!("http://k3y@{address}/7"), envelopes)
}

#[tokio::test]
async fn error_is_reported_once_and_without_secrets() {
    let (dsn, envelopes) = peer().await;
    let world = World::with_redis().await;
    let token = world.phabricator.token().expose_secret().to_owned();
    let wrong = token.replace("api-", "api+");
    let config = std::fs::read_to_string(world.path("config.yml"))
        .unwrap()
        .replace(&token, &wrong);
    std::fs::write(world.path("config.yml"), config).unwrap();
    let mut worker = world.start_with("worker", &[("SENTRY_DSN", &dsn)]);
    until("the report", &worker, || !envelopes.lock().is_empty()).await;
    worker.stop().await;

    let envelopes = envelopes.lock();
    assert_eq!(envelopes.len(), 1, "{envelopes:?}");
    let envelope = &envelopes[0];
    let event: serde_json::Value = serde_json::from_str(envelope.lines().nth(2).unwrap()).unwrap();
    let message = event["message"].as_str().unwrap();
    assert!(
        message.starts_with("phabricator does not accept the api token"),
        "{event}"
    );
    // What is not said of the level is "error" to Sentry.
    assert_eq!(
        (event.get("level"), &event["logger"]),
        (None, &"phabricator::conduit".into())
    );
    assert_eq!(
        (
            event.get("user"),
            event.get("server_name"),
            event.get("extra")
        ),
        (None, None, None),
        "{event}"
    );
    let directory = world.directory.path().display().to_string();
    for secret in [&wrong, &directory, &world.redis().url()] {
        assert!(!envelope.contains(secret.as_str()), "{envelope}");
    }
    assert!(!worker.log().contains("k3y"), "{}", worker.log());
}

#[tokio::test]
async fn configuration_may_name_sentry_and_the_environment_wins() {
    let ((documented, unused), (dsn, envelopes)) = (peer().await, peer().await);
    let world = World::with_redis().await;
    let token = world.phabricator.token().expose_secret().to_owned();
    let config = std::fs::read_to_string(world.path("config.yml"))
        .unwrap()
        .replace(&token, "wrong");
    std::fs::write(world.path("config.yml"), config).unwrap();
    world.configure(&format!("  SENTRY_DSN: {documented}\n"));
    let mut worker = world.start_with("worker", &[("SENTRY_DSN", &dsn)]);
    until("the report", &worker, || !envelopes.lock().is_empty()).await;
    worker.stop().await;
    assert!(unused.lock().is_empty());

    let mut worker = world.start("worker");
    until("the report", &worker, || !unused.lock().is_empty()).await;
    worker.stop().await;
}
