//! Artifacts of every kind, and where their contents are fetched from.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bus::{Retry, Retryable};
use http_client::HttpError;
use runtime::{Clock, error_chain};
use serde_json::json;
use taskcluster::{Artifact, Taskcluster, TaskclusterError};
use testkit::taskcluster::{FakeArtifact, Fault};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::stage::{Stage, http};

const LIMIT: usize = 1000;

async fn task_with(artifact: FakeArtifact) -> (Stage, String) {
    let stage = Stage::set().await;
    let id = stage.fake.add_task(json!({}));
    stage.fake.add_artifact(&id, "public/a b.json", artifact);
    stage.fake.add_artifact(
        &id,
        "public/link",
        FakeArtifact::Link("public/a b.json".to_owned()),
    );
    (stage, id)
}

#[tokio::test]
async fn artifact_is_fetched_from_store_without_credentials() {
    // The store refuses whoever shows some.
    for kind in [FakeArtifact::S3, FakeArtifact::Gzip] {
        let (stage, id) = task_with(kind(b"0.07".to_vec())).await;
        for name in ["public/a b.json", "public/link"] {
            let (client, id) = (stage.client(), id.clone());
            // In a task of its own, as handlers read it.
            let reading =
                tokio::spawn(async move { client.artifact_content(&id, name, LIMIT).await });
            assert_eq!(reading.await.unwrap().unwrap(), "0.07");
        }
        assert_eq!(
            stage
                .fake
                .calls()
                .iter()
                .filter(|call| *call == "store")
                .count(),
            2
        );
    }
}

#[tokio::test]
async fn artifact_size_is_bounded_compressed_or_not() {
    for kind in [FakeArtifact::S3, FakeArtifact::Gzip] {
        let (stage, id) = task_with(kind(vec![b'a'; LIMIT + 1])).await;
        let error = stage
            .client()
            .artifact_content(&id, "public/a b.json", LIMIT)
            .await
            .unwrap_err();
        assert!(
            matches!(
                &error,
                TaskclusterError::Http {
                    source: HttpError::TooLarge { limit: LIMIT },
                    ..
                }
            ),
            "{error}"
        );
        assert_eq!(
            stage
                .client()
                .artifact_content(&id, "public/a b.json", LIMIT + 1)
                .await
                .unwrap()
                .len(),
            LIMIT + 1
        );
    }
}

#[tokio::test]
async fn reference_is_followed_to_safe_addresses_only() {
    let elsewhere = "http://127.0.0.1:9/latest/meta-data?token=s3cret";
    let (stage, id) = task_with(FakeArtifact::Reference(elsewhere.to_owned())).await;
    let Artifact { storage_type, url } = stage.client().artifact(&id, "public/link").await.unwrap();
    assert_eq!(
        (storage_type.as_str(), url.as_str()),
        ("reference", elsewhere)
    );

    let error = stage
        .client()
        .artifact_content(&id, "public/link", LIMIT)
        .await
        .unwrap_err();
    assert!(
        matches!(error, TaskclusterError::Elsewhere { .. }),
        "{error}"
    );
    assert_eq!(error.retry(), Retry::Never);
    assert!(!error.to_string().contains("s3cret"));
}

/// A client that fetches from public addresses and from these networks.
fn fetching(client: Taskcluster, allowed: &str) -> Taskcluster {
    let elsewhere =
        http_client::public_client(Duration::from_secs(10), allowed.parse().unwrap()).unwrap();
    client.fetching_elsewhere(elsewhere)
}

#[tokio::test]
async fn private_address_needs_permission() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = connections.clone();
    tokio::spawn(async move {
        // No TLS is spoken here: whoever connects gets nothing.
        while listener.accept().await.is_ok() {
            counted.fetch_add(1, Ordering::SeqCst);
        }
    });
    let (stage, id) = task_with(FakeArtifact::S3(Vec::new())).await;
    for host in ["localhost", "127.0.0.1", "2130706433", "[::ffff:127.0.0.1]"] {
        stage.fake.add_artifact(
            &id,
            "public/log",
            FakeArtifact::Reference(format!("https://{host}:{port}/s3cret")),
        );
        // What the queue answers for it is a redirect.
        let hop = stage.url(&format!("/api/queue/v1/task/{id}/artifacts/public%2Flog"));
        stage
            .fake
            .add_artifact(&id, "public/hop", FakeArtifact::Reference(hop.to_string()));
        for name in ["public/log", "public/hop"] {
            for client in [stage.client(), fetching(stage.client(), "")] {
                let streamed = client.artifact_stream(&id, 0, name).await.err().unwrap();
                let read = client.artifact_content(&id, name, LIMIT).await.unwrap_err();
                for error in [streamed, read] {
                    assert!(
                        matches!(error, TaskclusterError::Elsewhere { .. }),
                        "{host} {name}: {error}"
                    );
                    assert_eq!(error.retry(), Retry::Never);
                    assert!(!error.to_string().contains("s3cret"));
                }
            }
        }
    }
    assert_eq!(connections.load(Ordering::SeqCst), 0);
    stage.fake.add_artifact(
        &id,
        "public/log",
        FakeArtifact::Reference(format!("https://localhost:{port}/")),
    );
    let error = fetching(stage.client(), "127.0.0.0/8")
        .artifact_stream(&id, 0, "public/log")
        .await
        .err()
        .unwrap();
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
    assert!(connections.load(Ordering::SeqCst) > 0);
}

#[tokio::test]
async fn artifact_of_own_deployment_is_fetched_without_credentials() {
    let (stage, id) = task_with(FakeArtifact::S3(b"log".to_vec())).await;
    let client = stage.client_with(None);
    let mut stream = client.artifact_stream(&id, 0, "public/link").await.unwrap();
    assert_eq!(stream.chunk().await.unwrap().unwrap(), "log");
    assert_eq!(
        client
            .artifact_content(&id, "public/link", LIMIT)
            .await
            .unwrap(),
        "log"
    );
}

/// A store that sends a byte on command.
#[tokio::test]
async fn trickling_stream_is_ended() {
    let store = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let root = format!("http://{}", store.local_addr().unwrap());
    let (send, mut sent) = tokio::sync::mpsc::channel::<usize>(1);
    let address = format!("{root}/store");
    tokio::spawn(async move {
        let (mut queue, _) = store.accept().await.unwrap();
        let _ = queue.read(&mut [0; 4096]).await.unwrap();
        let body = json!({ "storageType": "s3", "url": address }).to_string();
        let answer = format!(
            "HTTP/1.1 303 See Other\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        queue.write_all(answer.as_bytes()).await.unwrap();
        drop(queue);
        let (mut store, _) = store.accept().await.unwrap();
        let _ = store.read(&mut [0; 4096]).await.unwrap();
        store
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
            .await
            .unwrap();
        while let Some(bytes) = sent.recv().await {
            store.write_all(&vec![b'x'; bytes]).await.unwrap();
        }
    });
    let clock = crate::stage::Stopwatch::at(crate::stage::NOW);
    let client = Taskcluster::new(root.parse().unwrap(), None, http(), clock.clone());
    let mut stream = client
        .artifact_stream("bGmvC3EFTSWLcp5Kb5E12A", 0, "public/log")
        .await
        .unwrap();
    for _ in 0..2 {
        send.send(1).await.unwrap();
        assert_eq!(stream.chunk().await.unwrap().unwrap(), "x");
        // A reader that takes its time is no reason to end it.
        clock.advance(Duration::from_secs(3600));
    }
    let slow = clock.clone();
    let (chunk, ()) = tokio::join!(stream.chunk(), async move {
        slow.sleep(Duration::from_secs(61)).await;
        send.send(1).await.unwrap();
    });
    let error = chunk.unwrap_err();
    assert!(
        matches!(
            &error,
            TaskclusterError::Http {
                source: HttpError::Slow { .. },
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(error.retry(), Retry::Backoff, "it costs an attempt");
}

/// A proxy signs all that passes through it, also what a worker made up.
#[tokio::test]
async fn reference_to_proxy_is_refused() {
    let (stage, id) = task_with(FakeArtifact::S3(Vec::new())).await;
    stage
        .fake
        .add_secret("ours", json!({ "api_token": "s3cret" }));
    let proxy = stage.fake.start_proxy().await.unwrap();
    let secret = proxy.join("api/secrets/v1/secret/ours").unwrap();
    stage.fake.add_artifact(
        &id,
        "public/actions.json",
        FakeArtifact::Reference(secret.to_string()),
    );
    let client = Taskcluster::through_proxy(
        proxy,
        stage.fake.root().clone(),
        http(),
        stage.clock.clone(),
    );
    let error = client
        .artifact_content(&id, "public/actions.json", LIMIT)
        .await
        .unwrap_err();
    assert!(
        matches!(error, TaskclusterError::Elsewhere { .. }),
        "{error}"
    );
    assert!(!stage.fake.calls().iter().any(|call| call == "secrets.get"));
}

#[tokio::test]
async fn redirects_are_followed_to_safe_addresses_only() {
    // An answer of the queue is a redirect as well as that of any store.
    let (stage, id) = task_with(FakeArtifact::S3(b"found".to_vec())).await;
    let reference = |name: &str| {
        FakeArtifact::Reference(
            stage
                .url(&format!("/api/queue/v1/task/{id}/artifacts/{name}"))
                .to_string(),
        )
    };
    stage
        .fake
        .add_artifact(&id, "public/near", reference("public%2Flink"));
    assert_eq!(
        stage
            .client()
            .artifact_content(&id, "public/near", LIMIT)
            .await
            .unwrap(),
        "found"
    );

    stage.fake.add_artifact(
        &id,
        "public/out",
        FakeArtifact::Reference("http://127.0.0.1:9/".to_owned()),
    );
    stage
        .fake
        .add_artifact(&id, "public/far", reference("public%2Fout"));
    let error = stage
        .client()
        .artifact_content(&id, "public/far", LIMIT)
        .await
        .unwrap_err();
    assert!(
        matches!(error, TaskclusterError::Elsewhere { .. }),
        "{error}"
    );

    stage
        .fake
        .add_artifact(&id, "public/round", reference("public%2Fround"));
    let error = stage
        .client()
        .artifact_content(&id, "public/round", LIMIT)
        .await
        .unwrap_err();
    let error = error_chain(&error);
    assert!(error.contains("too many redirects"), "{error}");
}

#[tokio::test]
async fn error_artifact_is_reported() {
    let reason = "file-missing-on-worker".to_owned();
    let (stage, id) = task_with(FakeArtifact::Error {
        reason,
        message: "not found".to_owned(),
    })
    .await;
    let error = stage
        .client()
        .artifact_content(&id, "public/link", LIMIT)
        .await
        .unwrap_err();
    let expected = "the artifact is an error of its task: file-missing-on-worker: not found";
    assert_eq!(error.to_string(), expected);

    let error = stage
        .client()
        .artifact(&id, "public/nope")
        .await
        .unwrap_err();
    assert!(
        matches!(error, TaskclusterError::NotFound { .. }),
        "{error}"
    );
}

#[tokio::test]
async fn failing_store_is_retried_without_showing_signed_address() {
    let (stage, id) = task_with(FakeArtifact::S3(b"0.07".to_vec())).await;
    for fault in [Fault::Status(503), Fault::Cut] {
        stage.fake.fail_next("store", 2, &fault);
        assert_eq!(
            stage
                .client()
                .artifact_content(&id, "public/link", LIMIT)
                .await
                .unwrap(),
            "0.07"
        );

        stage.fake.fail_until_mended("store", &fault);
        let error = stage
            .client()
            .artifact_content(&id, "public/link", LIMIT)
            .await
            .unwrap_err();
        stage.fake.mend();
        let told = format!("{} {error:?}", runtime::error_chain(&error));
        assert!(
            !told.contains("Signature") && !told.contains("store/"),
            "{told}"
        );
        assert!(matches!(error.retry(), Retry::Defer(_)));
    }
}

#[tokio::test]
async fn long_artifact_is_streamed_unchanged() {
    for (kind, encoding) in [
        (FakeArtifact::S3 as fn(_) -> _, None),
        (FakeArtifact::Gzip, Some("gzip")),
    ] {
        let (stage, id) = task_with(kind(vec![b'a'; 500_000])).await;
        let mut stream = stage
            .client()
            .artifact_stream(&id, 0, "public/link")
            .await
            .unwrap();
        assert_eq!(stream.encoding().as_deref(), encoding);
        let mut content = Vec::new();
        while let Some(chunk) = stream.chunk().await.unwrap() {
            content.extend_from_slice(&chunk);
        }
        match encoding {
            None => assert_eq!(content, vec![b'a'; 500_000]),
            Some(_) => assert_eq!(content[..2], [0x1f, 0x8b], "left as it is"),
        }
    }
}

#[tokio::test]
async fn stream_is_opened_at_safe_addresses_with_retries() {
    let (stage, id) = task_with(FakeArtifact::S3(b"log".to_vec())).await;
    stage.fake.add_artifact(
        &id,
        "public/out",
        FakeArtifact::Reference("http://127.0.0.1:9/".to_owned()),
    );
    let error = stage
        .client()
        .artifact_stream(&id, 0, "public/out")
        .await
        .err()
        .unwrap();
    assert!(
        matches!(error, TaskclusterError::Elsewhere { .. }),
        "{error}"
    );
    for (run, name) in [(1, "public/link"), (0, "public/nope")] {
        let error = stage
            .client()
            .artifact_stream(&id, run, name)
            .await
            .err()
            .unwrap();
        assert!(
            matches!(error, TaskclusterError::NotFound { .. }),
            "{error}"
        );
    }
    stage.fake.fail_next("store", 1, &Fault::Status(503));
    stage.fake.fail_next("store", 1, &Fault::Cut);
    let mut stream = stage
        .client()
        .artifact_stream(&id, 0, "public/link")
        .await
        .unwrap();
    assert_eq!(stream.chunk().await.unwrap().unwrap(), "log");
    assert_eq!(stream.chunk().await.unwrap(), None);
}
