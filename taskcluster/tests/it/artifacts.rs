//! Artifacts of every kind, and where their contents are fetched from.

use bus::{Classify, Disposition};
use serde_json::json;
use taskcluster::{
    Artifact, TaskclusterError,
    testing::{FakeArtifact, Fault},
};

use crate::stage::Stage;

const LIMIT: usize = 1000;

async fn task_with(artifact: FakeArtifact) -> (Stage, String) {
    let stage = Stage::set().await;
    let id = stage.fake.add_task(json!({}));
    stage.fake.add_artifact(&id, "public/a b.json", artifact);
    stage.fake.add_artifact(&id, "public/link", FakeArtifact::Link("public/a b.json".to_owned()));
    (stage, id)
}

#[tokio::test]
async fn a_content_is_read_without_showing_the_store_our_credentials() {
    // The store refuses whoever shows some.
    for kind in [FakeArtifact::S3, FakeArtifact::Gzip] {
        let (stage, id) = task_with(kind(b"0.07".to_vec())).await;
        for name in ["public/a b.json", "public/link"] {
            let (client, id) = (stage.client(), id.clone());
            // In a task of its own, as handlers read it.
            let reading = tokio::spawn(async move { client.artifact_content(&id, name, LIMIT).await });
            assert_eq!(reading.await.unwrap().unwrap(), "0.07");
        }
        assert_eq!(stage.fake.calls().iter().filter(|call| *call == "store").count(), 2);
    }
}

#[tokio::test]
async fn a_content_has_a_limit_packed_or_not() {
    for kind in [FakeArtifact::S3, FakeArtifact::Gzip] {
        let (stage, id) = task_with(kind(vec![b'a'; LIMIT + 1])).await;
        let error = stage.client().artifact_content(&id, "public/a b.json", LIMIT).await.unwrap_err();
        assert!(matches!(error, TaskclusterError::TooLarge { limit: LIMIT, .. }), "{error}");
        assert_eq!(stage.client().artifact_content(&id, "public/a b.json", LIMIT + 1).await.unwrap().len(), LIMIT + 1);
    }
}

#[tokio::test]
async fn a_reference_says_where_the_content_is_and_is_followed_only_where_that_is_safe() {
    let elsewhere = "http://127.0.0.1:9/latest/meta-data?token=s3cret";
    let (stage, id) = task_with(FakeArtifact::Reference(elsewhere.to_owned())).await;
    let Artifact { storage_type, url } = stage.client().artifact(&id, "public/link").await.unwrap();
    assert_eq!((storage_type.as_str(), url.as_str()), ("reference", elsewhere));

    let error = stage.client().artifact_content(&id, "public/link", LIMIT).await.unwrap_err();
    assert!(matches!(error, TaskclusterError::Elsewhere { .. }), "{error}");
    assert_eq!(error.disposition(), Disposition::Dead);
    assert!(!error.to_string().contains("s3cret"));
}

/// A proxy signs all that passes through it, also what a worker made up.
#[tokio::test]
async fn a_reference_into_our_proxy_opens_nothing() {
    let (stage, id) = task_with(FakeArtifact::S3(Vec::new())).await;
    stage.fake.add_secret("ours", json!({ "api_token": "s3cret" }));
    let proxy = stage.fake.start_proxy().await.unwrap();
    let secret = proxy.join("api/secrets/v1/secret/ours").unwrap();
    stage.fake.add_artifact(&id, "public/actions.json", FakeArtifact::Reference(secret.to_string()));
    let client = taskcluster::Taskcluster::new(proxy, None, crate::stage::http(), stage.clock.clone());
    let error = client.artifact_content(&id, "public/actions.json", LIMIT).await.unwrap_err();
    assert!(matches!(error, TaskclusterError::Elsewhere { .. }), "{error}");
    assert!(!stage.fake.calls().iter().any(|call| call == "secrets.get"));
}

#[tokio::test]
async fn redirects_lead_to_a_content_and_never_elsewhere() {
    // An answer of the queue is a redirect as well as that of any store.
    let (stage, id) = task_with(FakeArtifact::S3(b"found".to_vec())).await;
    let reference = |name: &str| {
        FakeArtifact::Reference(stage.url(&format!("/api/queue/v1/task/{id}/artifacts/{name}")).to_string())
    };
    stage.fake.add_artifact(&id, "public/near", reference("public%2Flink"));
    assert_eq!(stage.client().artifact_content(&id, "public/near", LIMIT).await.unwrap(), "found");

    stage.fake.add_artifact(&id, "public/out", FakeArtifact::Reference("http://127.0.0.1:9/".to_owned()));
    stage.fake.add_artifact(&id, "public/far", reference("public%2Fout"));
    let error = stage.client().artifact_content(&id, "public/far", LIMIT).await.unwrap_err();
    assert!(matches!(error, TaskclusterError::Elsewhere { .. }), "{error}");

    stage.fake.add_artifact(&id, "public/round", reference("public%2Fround"));
    let error = stage.client().artifact_content(&id, "public/round", LIMIT).await.unwrap_err();
    assert!(error.to_string().contains("too many redirects"), "{error}");
}

#[tokio::test]
async fn an_error_in_the_place_of_an_artifact_is_told() {
    let reason = "file-missing-on-worker".to_owned();
    let (stage, id) = task_with(FakeArtifact::Error { reason, message: "not found".to_owned() }).await;
    let error = stage.client().artifact_content(&id, "public/link", LIMIT).await.unwrap_err();
    let expected = "the artifact stands for an error of its task: file-missing-on-worker: not found";
    assert_eq!(error.to_string(), expected);

    let error = stage.client().artifact(&id, "public/nope").await.unwrap_err();
    assert!(matches!(error, TaskclusterError::NotFound { .. }), "{error}");
}

#[tokio::test]
async fn a_store_in_trouble_is_asked_again_and_its_signed_address_is_kept_to_ourselves() {
    let (stage, id) = task_with(FakeArtifact::S3(b"0.07".to_vec())).await;
    for fault in [Fault::Status(503), Fault::Cut] {
        stage.fake.fail_next("store", 2, &fault);
        assert_eq!(stage.client().artifact_content(&id, "public/link", LIMIT).await.unwrap(), "0.07");

        stage.fake.fail_until_mended("store", &fault);
        let error = stage.client().artifact_content(&id, "public/link", LIMIT).await.unwrap_err();
        stage.fake.mend();
        let told = format!("{} {error:?}", bus::error_chain(&error));
        assert!(!told.contains("Signature") && !told.contains("store/"), "{told}");
        assert!(matches!(error.disposition(), Disposition::Defer(_)));
    }
}

#[tokio::test]
async fn a_long_content_comes_in_pieces_as_the_store_has_it() {
    for (kind, encoding) in [(FakeArtifact::S3 as fn(_) -> _, None), (FakeArtifact::Gzip, Some("gzip"))] {
        let (stage, id) = task_with(kind(vec![b'a'; 500_000])).await;
        let mut stream = stage.client().artifact_stream(&id, 0, "public/link").await.unwrap();
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
async fn a_stream_is_opened_where_that_is_safe_and_tried_again_until_it_is_open() {
    let (stage, id) = task_with(FakeArtifact::S3(b"log".to_vec())).await;
    stage.fake.add_artifact(&id, "public/out", FakeArtifact::Reference("http://127.0.0.1:9/".to_owned()));
    let error = stage.client().artifact_stream(&id, 0, "public/out").await.err().unwrap();
    assert!(matches!(error, TaskclusterError::Elsewhere { .. }), "{error}");
    for (run, name) in [(1, "public/link"), (0, "public/nope")] {
        let error = stage.client().artifact_stream(&id, run, name).await.err().unwrap();
        assert!(matches!(error, TaskclusterError::NotFound { .. }), "{error}");
    }
    stage.fake.fail_next("store", 1, &Fault::Status(503));
    stage.fake.fail_next("store", 1, &Fault::Cut);
    let mut stream = stage.client().artifact_stream(&id, 0, "public/link").await.unwrap();
    assert_eq!(stream.chunk().await.unwrap().unwrap(), "log");
    assert_eq!(stream.chunk().await.unwrap(), None);
}
