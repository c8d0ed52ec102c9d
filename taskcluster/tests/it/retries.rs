//! Failures of Taskcluster: the calls that are retried, the waits between, and the error in the end.

use std::time::Duration;

use bus::{Retry, Retryable};
use http_client::HttpError;
use serde_json::json;
use taskcluster::{TaskclusterError, model::TaskDefinition};
use testkit::taskcluster::{EVERY_CALL, Fault};

use crate::stage::Stage;

const TRIES: usize = 4;

#[tokio::test]
async fn transient_failures_are_retried_with_backoff() {
    let stage = Stage::set().await;
    let id = stage.fake.add_task(json!({}));
    let faults = [
        Fault::Status(500),
        Fault::Status(503),
        Fault::Cut,
        Fault::CutAfter,
        Fault::TooManyRequests { retry_after: None },
    ];
    for fault in faults {
        stage.fake.fail_next("queue.task", TRIES - 1, &fault);
        stage.client().task(&id).await.unwrap();
        let waits = stage.clock.waits();
        assert_eq!(waits.len(), TRIES - 1, "{fault:?}");
        for (wait, expected) in waits.iter().zip([0.5, 1.0, 2.0]) {
            assert!(
                (expected * 0.9..=expected * 1.1).contains(&wait.as_secs_f64()),
                "{fault:?}: {waits:?}"
            );
        }
    }
}

#[tokio::test]
async fn retry_after_is_respected() {
    let stage = Stage::set().await;
    let id = stage.fake.add_task(json!({}));
    let seven = Duration::from_secs(7);
    stage.fake.fail_next(
        "queue.task",
        1,
        &Fault::TooManyRequests {
            retry_after: Some(seven),
        },
    );
    stage.client().task(&id).await.unwrap();
    assert_eq!(stage.clock.waits(), [seven]);
}

#[tokio::test]
async fn long_retry_after_defers_the_message() {
    let stage = Stage::set().await;
    let table = [(60, 60), (0, 1), (86_400, 600)];
    for (asked, kept) in table {
        let fault = Fault::TooManyRequests {
            retry_after: Some(Duration::from_secs(asked)),
        };
        stage.fake.fail_until_mended("queue.task", &fault);
        let error = stage.client().task("x").await.unwrap_err();
        assert_eq!(
            error.retry(),
            Retry::Defer(Duration::from_secs(kept)),
            "{error}"
        );
        stage.fake.mend();
    }
    // Only the wait of nothing was worth another try.
    assert_eq!(stage.fake.calls().len(), 2 + TRIES);
}

#[tokio::test]
async fn outage_counts_no_attempt_of_a_message() {
    let stage = Stage::set().await;
    let (client, id) = (stage.client(), stage.fake.add_task(json!({})));
    stage.fake.go_down().await.unwrap();
    let error = client.task(&id).await.unwrap_err();
    assert!(
        matches!(
            &error,
            TaskclusterError::Http {
                source: HttpError::Unreachable(_),
                ..
            }
        ),
        "{error}"
    );
    assert!(matches!(error.retry(), Retry::Defer(_)));
    assert_eq!(stage.clock.waits().len(), TRIES - 1);
    stage.fake.come_up().unwrap();
    client.task(&id).await.unwrap();

    stage
        .fake
        .fail_until_mended(EVERY_CALL, &Fault::Status(502));
    let error = client.task(&id).await.unwrap_err();
    assert!(
        matches!(
            &error,
            TaskclusterError::Http {
                source: HttpError::Busy { status: 502, .. },
                ..
            }
        ),
        "{error}"
    );
    assert!(matches!(error.retry(), Retry::Defer(_)));
}

#[tokio::test]
async fn task_whose_answer_was_lost_is_created_once() {
    let stage = Stage::set().await;
    let id = stage.fake.add_task(json!({}));
    let task: TaskDefinition = stage.client().task(&id).await.unwrap();
    stage
        .fake
        .fail_next("queue.createTask", 1, &Fault::CutAfter);
    stage
        .client()
        .create_task("fN1SbArXTPSVFNUvaOlinQ", &task)
        .await
        .unwrap();
    assert_eq!(
        stage.fake.task_ids(),
        [id.as_str(), "fN1SbArXTPSVFNUvaOlinQ"]
    );
}

#[tokio::test]
async fn permanent_refusal_is_not_retried() {
    let stage = Stage::set().await;
    let error = stage.client().task("nope").await.unwrap_err();
    assert_eq!(error.retry(), Retry::Never);
    assert_eq!(stage.fake.calls(), ["queue.task"]);
}

#[tokio::test]
async fn error_page_of_proxy_is_no_answer_about_a_task() {
    let stage = Stage::set().await;
    let id = stage.fake.add_task(json!({}));
    for status in [401, 403, 404, 409] {
        stage
            .fake
            .fail_next("queue.task", 1, &Fault::Status(status));
        let error = stage.client().task(&id).await.unwrap_err();
        assert!(matches!(&error, TaskclusterError::Http { .. }), "{error}");
        assert_eq!(error.retry(), Retry::Backoff, "{error}");
    }
}
