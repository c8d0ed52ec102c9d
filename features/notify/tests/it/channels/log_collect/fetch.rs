//! The sources of logs.

use super::*;

#[tokio::test]
async fn missing_log_is_searched_elsewhere_then_skipped() {
    let moto = store().await;
    for gone in [Log::Unknown, Log::Status(404), Log::Status(410)] {
        collect(&Logs::serve(gone.clone(), gone).await, &moto)
            .await
            .unwrap();
        assert_eq!(stored(&moto).await, [""; 0]);
    }
    collect(&Logs::serve(Log::Unknown, Log::Text(1)).await, &moto)
        .await
        .unwrap();
    assert_eq!(stored(&moto).await, [PLACE]);
}

#[tokio::test]
async fn unsafe_or_failing_log_is_refused_or_retried() {
    let endpoint = "http://127.0.0.1:9";
    for (log, expected, words) in [
        (
            Log::At("http://127.0.0.1:9/latest/meta-data"),
            Retry::Never,
            "http://127.0.0.1, which is not allowed",
        ),
        (
            Log::At("file:///etc/passwd"),
            Retry::Never,
            "which is not allowed",
        ),
        (
            Log::Encoded("br"),
            Retry::Never,
            "the log has the encoding br, expected gzip or none",
        ),
        (Log::Status(403), Retry::Backoff, "http status 403"),
        (
            Log::Status(503),
            Retry::Defer(Duration::from_secs(30)),
            "log_collect cannot be reached: cannot fetch a log",
        ),
    ] {
        let logs = Logs::serve(log, Log::Text(1)).await;
        let channels = collector(&logs.root, endpoint, BUCKET, ANYBODY);
        let error = channels
            .get("log_collect")
            .unwrap()
            .send(&failed(), "run 1")
            .await
            .unwrap_err();
        assert_eq!(error.retry(), expected, "{error}");
        assert!(error.to_string().contains(words), "{error}");
    }
    let logs = Logs::serve(Log::At("http://127.0.0.1:9/"), Log::Text(1)).await;
    let channels = collector(&logs.root, endpoint, BUCKET, ANYBODY);
    channels
        .get("log_collect")
        .unwrap()
        .send(&failed(), "run 1")
        .await
        .unwrap_err();
    assert_eq!(logs.served(), 0);
}

#[tokio::test]
async fn log_is_fetched_from_private_address_only_when_allowed() {
    let endpoint = "http://127.0.0.1:9";
    for (more, expected) in [
        (&[][..], "https://127.0.0.1, which is not allowed"),
        // No server listens there.
        (
            &[("allowed_networks", "127.0.0.0/8")][..],
            "the server cannot be reached",
        ),
    ] {
        let logs = Logs::serve(Log::At("https://127.0.0.1:9/log"), Log::Unknown).await;
        let channels = collector_with(&logs.root, endpoint, BUCKET, ANYBODY, more);
        let error = channels
            .get("log_collect")
            .unwrap()
            .send(&failed(), "run 1")
            .await
            .unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
}
