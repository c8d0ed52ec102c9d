//! Every call, against the fake with its state.

use std::time::Duration;

use serde_json::{Value, json};
use taskcluster::{
    Email, EmailTemplate, Mailed, TaskclusterError,
    model::{TaskDefinition, TaskState},
};

use crate::stage::{Stage, http, response_to};

#[tokio::test]
async fn hook_creates_a_task_or_none() {
    let stage = Stage::set().await;
    let task = json!({ "metadata": { "name": "bot", "description": "", "owner": "a@b.c", "source": "https://b.c" } });
    stage
        .fake
        .add_hook("project-relman", "code-review-dev", Some(task));
    stage.fake.add_hook("project-relman", "null-hook", None);
    let client = stage.client();

    let payload = json!({ "PHABRICATOR_OBJECT_PHID": "PHID-HMBT-abc" });
    let made = client
        .trigger_hook("project-relman", "code-review-dev", &payload)
        .await
        .unwrap();
    let task = client.task(&made.unwrap()).await.unwrap();
    assert_eq!(task.metadata.name, "bot");
    assert_eq!(task.env("PHABRICATOR_OBJECT_PHID"), Some("PHID-HMBT-abc"));

    assert_eq!(
        client
            .trigger_hook("project-relman", "null-hook", &json!({}))
            .await
            .unwrap(),
        None
    );

    let error = client
        .trigger_hook("project-relman", "nope", &json!({}))
        .await
        .unwrap_err();
    assert!(
        matches!(error, TaskclusterError::NotFound { .. }),
        "{error}"
    );
    assert_eq!(stage.fake.triggers().len(), 2);
}

#[tokio::test]
async fn names_with_any_character_arrive() {
    let stage = Stage::set().await;
    for (group, hook) in [
        ("project/relman", "code review"),
        ("a?b", "c#d"),
        ("ü%2F", "x&y=z+1"),
    ] {
        stage.fake.add_hook(group, hook, None);
        stage
            .client()
            .trigger_hook(group, hook, &json!({}))
            .await
            .unwrap();
        let trigger = stage.fake.triggers().pop().unwrap();
        assert_eq!(
            (trigger.group.as_str(), trigger.hook.as_str()),
            (group, hook)
        );
    }
}

#[tokio::test]
async fn payload_violating_schema_is_refused_permanently() {
    let stage = Stage::set().await;
    let schema = json!({ "type": "object", "properties": { "A": { "type": "string" } } });
    stage.fake.add_hook_with_schema("g", "h", None, schema);
    let error = stage
        .client()
        .trigger_hook("g", "h", &json!({ "A": 7 }))
        .await
        .unwrap_err();
    let expected =
        "taskcluster refused hooks.triggerHook as invalid: InputError: data/A must be string";
    assert_eq!(error.to_string(), expected);
    assert_eq!(bus::Retryable::retry(&error), bus::Retry::Never);
}

#[tokio::test]
async fn task_status_is_read_from_creation_to_end() {
    let stage = Stage::set().await;
    let (client, id) = (stage.client(), stage.fake.add_task(json!({})));
    let states = [
        (testkit::taskcluster::TaskState::Pending, TaskState::Pending),
        (testkit::taskcluster::TaskState::Running, TaskState::Running),
        (
            testkit::taskcluster::TaskState::Exception,
            TaskState::Exception,
        ),
        (testkit::taskcluster::TaskState::Running, TaskState::Running),
        (
            testkit::taskcluster::TaskState::Completed,
            TaskState::Completed,
        ),
    ];
    for (now, state) in states {
        stage.fake.move_on(&id, now);
        let status = client.status(&id).await.unwrap();
        assert_eq!(status.state, state);
        assert_eq!(status.runs.last().unwrap().state, state);
    }
    let status = client.status(&id).await.unwrap();
    assert_eq!(status.runs.len(), 2);
    assert_eq!(
        status.runs[0].reason_resolved.as_deref(),
        Some("worker-shutdown")
    );
    assert_eq!(status.runs[1].reason_resolved.as_deref(), Some("completed"));
}

#[tokio::test]
async fn recreated_task_differs_only_in_dates() {
    let stage = Stage::set().await;
    let client = stage.client();
    let old = stage.fake.add_task(
        json!({ "routes": ["a.b"], "requires": "all-resolved", "extra": { "x": [1.5, null] } }),
    );
    stage.clock.advance(Duration::from_secs(7200));
    let now = runtime::Clock::now(stage.clock.as_ref()) + Duration::from_nanos(999);
    let again = client.task(&old).await.unwrap().created_at(now);
    let new = "fN1SbArXTPSVFNUvaOlinQ";
    client.create_task(new, &again).await.unwrap();

    let mut expected = stage.fake.task(&old).unwrap();
    expected.insert("created".to_owned(), json!("2026-11-21T04:48:05.000Z"));
    expected.insert("deadline".to_owned(), json!("2026-11-22T04:48:05.000Z"));
    expected.insert("expires".to_owned(), json!("2026-12-21T04:48:05.000Z"));
    assert_eq!(stage.fake.task(new).unwrap(), expected);
}

#[tokio::test]
async fn task_id_conflicts_only_with_different_task() {
    let stage = Stage::set().await;
    let client = stage.client();
    let id = stage.fake.add_task(json!({}));
    let task = client.task(&id).await.unwrap();
    client.create_task(&id, &task).await.unwrap();
    let other = TaskDefinition {
        retries: Some(1),
        ..task
    };
    let error = client.create_task(&id, &other).await.unwrap_err();
    assert!(
        matches!(error, TaskclusterError::Conflict { .. }),
        "{error}"
    );
}

#[tokio::test]
async fn group_is_read_page_by_page() {
    let stage = Stage::set().await;
    let mut expected: Vec<_> = (0..5)
        .map(|_| stage.fake.add_task(json!({ "taskGroupId": "group" })))
        .collect();
    stage.fake.add_task(json!({}));
    stage.fake.page_size(2);
    let (client, mut token, mut found, mut pages) = (stage.client(), None, Vec::new(), 0);
    loop {
        let page = client.task_group("group", token.as_deref()).await.unwrap();
        pages += 1;
        found.extend(page.tasks.into_iter().map(|task| task.status.task_id));
        token = page.continuation_token;
        if token.is_none() {
            break;
        }
    }
    expected.sort();
    assert_eq!((pages, found), (3, expected));
    assert!(matches!(
        client.task_group("none", None).await,
        Err(TaskclusterError::NotFound { .. })
    ));
}

#[tokio::test]
async fn tasks_are_found_by_name() {
    let stage = Stage::set().await;
    let id = stage.fake.add_task(json!({}));
    stage
        .fake
        .index("gecko.v2.try.revision.abc.taskgraph.decision", &id);
    let client = stage.client();
    let found = client
        .find_task("gecko.v2.try.revision.abc.taskgraph.decision")
        .await
        .unwrap();
    assert_eq!(found.task_id, id);
    assert!(matches!(
        client.find_task("gecko.v2.try").await,
        Err(TaskclusterError::NotFound { .. })
    ));
}

#[tokio::test]
async fn address_of_indexed_artifact_works_without_credentials() {
    let stage = Stage::set().await;
    let id = stage.fake.add_task(json!({}));
    stage.fake.index("a.b", &id);
    let artifact =
        testkit::taskcluster::FakeArtifact::Reference("https://example.com/jobs".to_owned());
    stage.fake.add_artifact(&id, "public/jobs.json", artifact);

    let mut place = stage
        .client()
        .indexed_artifact_url("a.b", "public/jobs.json")
        .unwrap()
        .to_string();
    assert!(
        place.ends_with("/api/index/v1/task/a.b/artifacts/public%2Fjobs.json"),
        "{place}"
    );
    for _ in 0..2 {
        let answer = response_to(http().get(&place)).await;
        assert_eq!(answer.status, 303);
        place = answer.headers["location"].to_str().unwrap().to_owned();
    }
    assert_eq!(place, "https://example.com/jobs");
}

#[tokio::test]
async fn mail_is_sent_once_and_skips_denied_addresses() {
    let stage = Stage::set().await;
    let client = stage.client();
    let mail = Email {
        address: "dev@example.com".to_owned(),
        subject: "report".to_owned(),
        content: "# all is well".to_owned(),
        template: EmailTemplate::Fullscreen,
    };
    assert_eq!(client.email(&mail).await.unwrap(), Mailed::Sent);
    assert_eq!(client.email(&mail).await.unwrap(), Mailed::Discarded);
    let sent = stage.fake.mails();
    assert_eq!(sent.len(), 1);
    assert_eq!(
        (sent[0].subject.as_str(), sent[0].template.as_str()),
        ("report", "fullscreen")
    );

    stage.fake.denylist("dev@example.com");
    assert!(matches!(
        client.email(&mail).await,
        Err(TaskclusterError::DenylistedAddress)
    ));
}

#[tokio::test]
async fn secret_is_read() {
    let stage = Stage::set().await;
    let secret = json!({ "common": { "APP_CHANNEL": "test" }, "events": { "admins": ["a@b.c"] } });
    stage
        .fake
        .add_secret("project/relman/code-review/test", secret.clone());
    let client = stage.client();
    assert_eq!(
        client
            .secret("project/relman/code-review/test")
            .await
            .unwrap(),
        secret
    );
    assert!(matches!(
        client.secret("project/nope").await,
        Err(TaskclusterError::NotFound { .. })
    ));
    let anyone = stage
        .client_with(None)
        .secret("project/relman/code-review/test")
        .await
        .unwrap_err();
    assert!(
        matches!(anyone, TaskclusterError::Scopes { .. }),
        "{anyone}"
    );
    assert!(
        anyone
            .to_string()
            .contains("secrets:get:project/relman/code-review/test"),
        "{anyone}"
    );
}

#[tokio::test]
async fn calls_through_proxy_are_unsigned() {
    let stage = Stage::set().await;
    stage.fake.add_secret("x", Value::Null);
    let proxy = stage.fake.start_proxy().await.unwrap();
    let client = |credentials| {
        taskcluster::Taskcluster::new(proxy.clone(), credentials, http(), stage.clock.clone())
    };
    assert_eq!(client(None).secret("x").await.unwrap(), Value::Null);
    assert!(client(Some(stage.credentials())).secret("x").await.is_err());
}
