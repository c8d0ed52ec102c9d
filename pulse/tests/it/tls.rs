//! The server's certificate is verified.

use std::sync::Arc;

use pulse::{Publisher, PulseError};
use runtime::{SystemClock, error_chain};
use tempfile::TempDir;
use testkit::{Authority, RabbitServer};

use crate::world::message;

#[tokio::test]
async fn server_needs_certificate_of_trusted_authority() {
    let directories = [
        TempDir::new().unwrap(),
        TempDir::new().unwrap(),
        TempDir::new().unwrap(),
    ];
    let [ours, other] = [0, 1].map(|number| Authority::new(directories[number].path()).unwrap());
    let rabbit = RabbitServer::start_with_tls(directories[2].path(), &ours)
        .await
        .unwrap();
    let settings = rabbit.settings();
    assert!(
        settings
            .address
            .to_string()
            .starts_with("amqps://localhost:")
    );
    let own = message("exchange/pulseuser/x", "a", "{}");
    let publish = async |settings| {
        Publisher::new(settings, Arc::new(SystemClock))
            .publish(&own)
            .await
    };
    publish(settings.clone()).await.unwrap();
    for (ca, expected) in [
        (Some(other.certificate().unwrap()), "UnknownIssuer"),
        (None, "UnknownIssuer"),
        (Some(b"no certificate".to_vec()), "its ca"),
    ] {
        let mut wrong = settings.clone();
        wrong.ca = ca;
        let error = publish(wrong).await.unwrap_err();
        assert!(
            error_chain(&error).contains(expected),
            "{}",
            error_chain(&error)
        );
    }
    let mut wrong = settings.clone();
    "127.0.0.1".clone_into(&mut wrong.address.host);
    let error = publish(wrong).await.unwrap_err();
    assert!(matches!(error, PulseError::Unreachable { .. }), "{error}");
    assert!(
        error_chain(&error).contains("not valid for name"),
        "{}",
        error_chain(&error)
    );
}
