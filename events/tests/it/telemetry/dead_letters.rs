//! Messages that cannot be processed.

use super::*;

#[tokio::test]
async fn malformed_message_moves_to_file_of_dead_letters_and_next_run_succeeds() {
    let deployment = Deployment::with_queue().await;
    let elsewhere = json!({
        "pushid": 1, "time": 1, "user": "ann@example.com", "push_json_url": "http://127.0.0.1:1/json-pushes",
        "push_full_json_url": "http://127.0.0.1:1/json-pushes",
    });
    let data = json!({"repo_url": deployment.peer.repository(), "heads": [], "pushlog_pushes": [elsewhere]});
    deployment
        .publish(&json!({"payload": {"type": "changegroup.1", "data": {}}}))
        .await;
    deployment
        .publish(&json!({"payload": {"type": "changegroup.1", "data": data}}))
        .await;
    deployment.push(1..=5).await;
    let preview = deployment.process(&["--no-send"]).await;
    assert_eq!(preview.code, Some(1), "{}", preview.err);
    deployment.until_depth(7).await;
    let default = deployment
        .directory
        .path()
        .join(".local/state/code-review-events/telemetry/dead-letters.jsonl");
    assert!(!default.exists(), "a dry run writes no file");

    let result = deployment.process(&[]).await;
    assert_eq!(result.code, Some(1), "{}", result.err);
    let expected = format!(
        "events: 2 messages can never be processed: moved from the queue to {}\n",
        default.display()
    );
    assert!(result.err.ends_with(&expected), "{}", result.err);
    assert_eq!(deployment.peer.accepted(), pings(1..=5));
    deployment.until_depth(0).await;
    let letters = dead_letters(&default);
    let reasons: Vec<_> = letters
        .iter()
        .map(|letter| letter["reason"].as_str().unwrap())
        .collect();
    assert!(
        reasons
            .iter()
            .any(|reason| reason.contains("payload.data.missing field `repo_url`")),
        "{reasons:?}"
    );
    assert!(
        reasons
            .iter()
            .any(|reason| reason.contains("push_json_url: is not below")),
        "{reasons:?}"
    );
    for letter in &letters {
        assert_eq!(
            (&letter["exchange"], &letter["key"]),
            (&json!(EXCHANGE), &json!("mozilla-central"))
        );
        let body: Value = serde_json::from_str(letter["body"].as_str().unwrap()).unwrap();
        assert_eq!(body["payload"]["type"], "changegroup.1");
    }

    let result = deployment.process(&[]).await;
    assert_eq!(result.code, Some(0), "{}", result.err);
    let other = deployment.directory.path().join("other");
    deployment.publish(&json!(5)).await;
    let result = deployment
        .process(&["--dead-letters", other.to_str().unwrap()])
        .await;
    assert_eq!(result.code, Some(1), "{}", result.err);
    assert_eq!(
        (dead_letters(&other).len(), dead_letters(&default).len()),
        (1, 2)
    );
}

#[tokio::test]
async fn message_stays_in_the_queue_when_the_file_cannot_be_written() {
    let deployment = Deployment::with_queue().await;
    deployment.publish(&json!(5)).await;
    let folder = deployment.directory.path().to_str().unwrap();
    let result = deployment.process(&["--dead-letters", folder]).await;
    assert_eq!(result.code, Some(1), "{}", result.err);
    assert!(
        result.err.contains(&format!("cannot write to {folder}")),
        "{}",
        result.err
    );
    let left = "events: 1 message could not be processed: left in the queue for a later run\n";
    assert!(result.err.ends_with(left), "{}", result.err);
    deployment.until_depth(1).await;
}

#[tokio::test]
#[ignore = "slow: ./dev test --all"]
async fn push_with_stripped_changeset_becomes_dead_letter_at_its_second_delivery() {
    let deployment = Deployment::with_queue().await;
    deployment.peer.world().missing.insert(nodes(3)[0].clone());
    deployment.push([3, 4]).await;
    for (left, ending) in [
        (1, "left in the queue for a later run"),
        (0, "telemetry/dead-letters.jsonl"),
    ] {
        let result = deployment.process(&[]).await;
        assert!(
            result.code == Some(1) && result.err.ends_with(&format!("{ending}\n")),
            "{}",
            result.err
        );
        deployment.until_depth(left).await;
    }
    assert_eq!(deployment.process(&[]).await.code, Some(0));
    assert_eq!(deployment.peer.accepted(), pings([4]));
}
