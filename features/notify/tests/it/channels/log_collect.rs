//! `log_collect` against moto's S3.

mod cancelled;
mod fetch;
mod memory;

use std::{collections::BTreeMap, io::Read, sync::Arc, time::Duration};

use bus::{Retry, Retryable};
use flate2::read::GzDecoder;
use http_client::Response;
use notify::{ChannelError, Channels, Notification, Parts, Recipients, Templates};
use reqwest::StatusCode;
use runtime::{Clock, ManualClock, SystemClock};
use secrecy::SecretString;
use taskcluster::{Credentials, Taskcluster};
use tokio::sync::Notify;

use super::{notification, open};
use crate::{
    peers::{
        logs::{Log, Logs, piece},
        moto::Moto,
    },
    world::{Hurried, NOW, http},
};

/// Credentials that the store does not check.
const ANYBODY: (&str, &str) = ("AKIATEST", "hunter2");
const BUCKET: &str = "ci-logs";
const PLACE: &str =
    "mozilla-beta/firefox-51.0b1/build2/build-linux64_opt-linux64-bGmvC3EFTSWLcp5Kb5E12A-1";
/// The number of pieces of a log that is stored in two parts, and fills exactly three without compression.
const TWO_PARTS: usize = 240;

/// A store with a bucket.
async fn store() -> Moto {
    let moto = Moto::start().await;
    make_bucket(&moto).await;
    moto
}

async fn make_bucket(moto: &Moto) {
    let made = moto
        .signed(
            http()
                .put(moto.address(&format!("/{BUCKET}")))
                .body(CONFIGURATION),
            "s3",
        )
        .await;
    assert_eq!(made.status, StatusCode::OK);
}

const CONFIGURATION: &str = "<CreateBucketConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
                             <LocationConstraint>us-west-2</LocationConstraint></CreateBucketConfiguration>";

/// The channel, with the logs of `root` and the bucket at `endpoint`.
fn collector(root: &url::Url, endpoint: &str, bucket: &str, keys: (&str, &str)) -> Channels {
    collector_with(root, endpoint, bucket, keys, &[])
}

fn collector_with(
    root: &url::Url,
    endpoint: &str,
    bucket: &str,
    (id, secret): (&str, &str),
    more: &[(&str, &str)],
) -> Channels {
    let clock = Arc::new(ManualClock::new(NOW.parse().unwrap()));
    let credentials = Credentials {
        client_id: "tests".to_owned(),
        access_token: "s3cret".into(),
        certificate: None,
    };
    let parts = Parts {
        templates: &Arc::new(Templates::ours().unwrap()),
        taskcluster: &Taskcluster::new(
            root.clone(),
            Some(credentials),
            http(),
            Arc::new(Hurried(clock.clone())),
        ),
        pulse: None,
        http: &http(),
        clock: &(clock as Arc<dyn Clock>),
    };
    let file = [
        ("bucket", bucket),
        ("endpoint", endpoint),
        ("access_key_id", id),
        ("secret_access_key", secret),
    ];
    let file = file
        .iter()
        .chain(more)
        .map(|(key, value)| ((*key).to_owned(), SecretString::from(*value)))
        .collect();
    Channels::open(
        &["log_collect".to_owned()],
        &BTreeMap::from([("log_collect".to_owned(), file)]),
        &|_| None,
        &parts,
    )
    .unwrap()
}

fn failed() -> Notification {
    notification("log_collect", Recipients::default())
}

async fn collect(logs: &Logs, moto: &Moto) -> Result<(), ChannelError> {
    collect_as(ANYBODY, logs, moto).await
}

async fn collect_as(keys: (&str, &str), logs: &Logs, moto: &Moto) -> Result<(), ChannelError> {
    let channels = collector(&logs.root, &moto.endpoint(), BUCKET, keys);
    channels
        .get("log_collect")
        .unwrap()
        .send(&failed(), "run 1")
        .await
}

async fn get(moto: &Moto, path: &str) -> Response {
    moto.signed(http().get(moto.address(&format!("/{BUCKET}{path}"))), "s3")
        .await
}

/// The number of incomplete uploads.
async fn uploads(moto: &Moto) -> usize {
    let list = get(moto, "?uploads").await.body;
    String::from_utf8_lossy(&list).matches("<Upload>").count()
}

async fn stored(moto: &Moto) -> Vec<String> {
    let list = get(moto, "?list-type=2").await.body;
    let list = String::from_utf8_lossy(&list);
    list.split("<Key>")
        .skip(1)
        .map(|rest| rest.split_once('<').unwrap().0.to_owned())
        .collect()
}

fn text(pieces: usize) -> Vec<u8> {
    (0..pieces).flat_map(piece).collect()
}

#[tokio::test]
async fn every_run_has_its_log_stored() {
    let logs = Logs::serve(Log::Text(1), Log::Unknown).await;
    let channels = collector(&logs.root, "http://127.0.0.1:9", BUCKET, ANYBODY);
    let channel = channels.get("log_collect").unwrap();
    assert_eq!(channel.recipients(&failed()), ["run 0", "run 1"]);
    assert!(!channel.is_read_by_people());
    let error = channel.send(&failed(), "run x").await.unwrap_err();
    assert_eq!(error.retry(), Retry::Never);
}

#[tokio::test]
async fn logs_are_stored_compressed_in_one_or_more_parts() {
    let moto = store().await;
    for (log, parts) in [
        (Log::Text(0), None),
        (Log::Text(3), None),
        (Log::Packed(3), None),
        (Log::Text(TWO_PARTS), Some("-2")),
        (Log::Packed(TWO_PARTS), Some("-3")),
    ] {
        collect(&Logs::serve(log.clone(), Log::Unknown).await, &moto)
            .await
            .unwrap();
        let found = get(&moto, &format!("/{PLACE}")).await;
        let header = |name: &str| found.headers[name].to_str().unwrap().to_owned();
        assert_eq!(
            (header("content-encoding"), header("content-type")),
            ("gzip".into(), "text/plain; charset=utf-8".into())
        );
        // The ETag of a multipart object ends with the number of its parts.
        let tag = header("etag");
        assert_eq!(
            tag.trim_matches('"')
                .find('-')
                .map(|at| &tag.trim_matches('"')[at..]),
            parts
        );
        let bytes = found.body;
        match log {
            Log::Packed(pieces) => assert!(
                bytes == text(pieces),
                "what comes packed is stored as it comes"
            ),
            Log::Text(pieces) => {
                let mut unpacked = Vec::new();
                GzDecoder::new(&bytes[..])
                    .read_to_end(&mut unpacked)
                    .unwrap();
                assert!(unpacked == text(pieces) && (pieces == 0 || bytes.len() < unpacked.len()));
            }
            _ => unreachable!(),
        }
    }
    assert_eq!(
        (stored(&moto).await, uploads(&moto).await),
        (vec![PLACE.to_owned()], 0)
    );
}

#[tokio::test]
async fn truncated_log_leaves_no_upload() {
    let moto = store().await;
    for pieces in [1, TWO_PARTS] {
        let error = collect(&Logs::serve(Log::Broken(pieces), Log::Unknown).await, &moto)
            .await
            .unwrap_err();
        assert!(matches!(error, ChannelError::Failed { .. }), "{error}");
        assert!(
            error
                .to_string()
                .contains("log_collect failed: the log was cut off: "),
            "{error}"
        );
        assert_eq!((stored(&moto).await, uploads(&moto).await), (Vec::new(), 0));
    }
}

#[tokio::test]
async fn log_is_public_only_when_configured() {
    let moto = store().await;
    for (more, pieces, expected) in [
        (&[][..], 1, false),
        (&[("acl", "private")][..], 1, false),
        (&[("acl", "public-read")][..], 1, true),
        (&[("acl", "public-read")][..], TWO_PARTS, true),
    ] {
        let logs = Logs::serve(Log::Packed(pieces), Log::Unknown).await;
        let channels = collector_with(&logs.root, &moto.endpoint(), BUCKET, ANYBODY, more);
        channels
            .get("log_collect")
            .unwrap()
            .send(&failed(), "run 1")
            .await
            .unwrap();
        let granted = get(&moto, &format!("/{PLACE}?acl")).await.body;
        let granted = String::from_utf8_lossy(&granted);
        assert_eq!(
            granted.contains("global/AllUsers") && granted.contains("READ"),
            expected,
            "{granted}"
        );
    }
}

#[tokio::test]
async fn hostile_name_cannot_change_object_key() {
    let moto = store().await;
    let logs = Logs::serve(Log::Text(1), Log::Unknown).await;
    let channels = collector(&logs.root, &moto.endpoint(), BUCKET, ANYBODY);
    let mut one = failed();
    one.task.name = "../../x?uploads#\r\n%2e%2e/\u{202e}".to_owned();
    for name in ["branch", "product", "version", "build_number", "platform"] {
        one.task
            .build_props
            .insert(name.to_owned(), "../..".to_owned());
    }
    channels
        .get("log_collect")
        .unwrap()
        .send(&one, "run 0")
        .await
        .unwrap();
    let expected =
        "_._../_._..-_._../build_._../_._.._x_uploads____2e_2e__-_._..-bGmvC3EFTSWLcp5Kb5E12A-0";
    assert_eq!(stored(&moto).await, [expected]);
}

#[tokio::test]
async fn store_responses_are_classified() {
    let mut moto = store().await;
    let logs = Logs::serve(Log::Text(1), Log::Unknown).await;
    let channels = collector(&logs.root, &moto.endpoint(), "no-such-bucket", ANYBODY);
    let error = channels
        .get("log_collect")
        .unwrap()
        .send(&failed(), "run 1")
        .await
        .unwrap_err();
    assert!(matches!(error, ChannelError::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains("NoSuchBucket"), "{error}");
    assert!(
        error
            .to_string()
            .contains("set notify.log_collect.bucket to one that there is"),
        "{error}"
    );

    let (id, secret) = moto.user("s3:*").await;
    moto.demand_credentials().await;
    // Each kind of call has a signature of its own form.
    for pieces in [1, TWO_PARTS] {
        let logs = Logs::serve(Log::Packed(pieces), Log::Unknown).await;
        collect_as((&id, &secret), &logs, &moto).await.unwrap();
    }
    for (keys, code) in [
        (ANYBODY, "InvalidAccessKeyId"),
        ((id.as_str(), "hunter2"), "SignatureDoesNotMatch"),
    ] {
        let error = collect_as(keys, &logs, &moto).await.unwrap_err();
        assert!(matches!(error, ChannelError::Credentials { .. }), "{error}");
        assert!(
            error
                .to_string()
                .contains(&format!("http status 403, {code}")),
            "{error}"
        );
        assert!(
            error
                .to_string()
                .contains("set notify.log_collect.access_key_id"),
            "{error}"
        );
        assert!(!format!("{error:?}").contains("hunter2"));
    }

    moto.kill();
    let error = collect(&logs, &moto).await.unwrap_err();
    assert!(matches!(error, ChannelError::Unreachable { .. }), "{error}");
    assert!(
        matches!(error.retry(), Retry::Defer(_)),
        "an outage costs no attempt"
    );
    moto.restart().await;
    make_bucket(&moto).await;
    collect(&logs, &moto).await.unwrap();
    assert_eq!(stored(&moto).await, [PLACE]);
}

#[tokio::test]
async fn missing_settings_are_named() {
    for (file, expected) in [
        (
            &[][..],
            "log_collect cannot be used: set notify.log_collect.bucket (or S3_BUCKET in the environment)",
        ),
        (
            &[("bucket", "a/../b")][..],
            "notify.log_collect.bucket (or S3_BUCKET in the environment) is not the name of a bucket",
        ),
        (
            &[("bucket", "logs"), ("secret_access_key", "x")][..],
            "set notify.log_collect.access_key_id (or AWS_ACCESS_KEY_ID in the environment)",
        ),
        (
            &[("bucket", "logs"), ("acl", "public")][..],
            "notify.log_collect.acl is not private or public-read",
        ),
        (
            &[
                ("bucket", "logs"),
                ("access_key_id", "a"),
                ("secret_access_key", "b"),
                ("allowed_networks", "intranet"),
            ][..],
            "notify.log_collect.allowed_networks is not a list of networks such as 10.1.0.0/16",
        ),
        (
            &[("bucket", "logs"), ("region", "evil.example/")][..],
            "is not the name of a region such as us-west-2",
        ),
    ] {
        let error = open("log_collect", file).await.err().unwrap().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[tokio::test]
async fn check_finds_the_bucket_and_stores_nothing() {
    let moto = store().await;
    let logs = Logs::serve(Log::Text(1), Log::Unknown).await;
    let endpoint = moto.endpoint();
    let check = async |keys: (&str, &str), bucket: &str| {
        let channels = collector(&logs.root, &endpoint, bucket, keys);
        let checked = channels.get("log_collect").unwrap().check().await;
        checked
            .map(|checked| checked.found.unwrap())
            .map_err(|error| error.to_string())
    };
    let found = check(ANYBODY, BUCKET).await.unwrap();
    assert_eq!(
        found,
        "127.0.0.1 accepts our credentials, and let us get the location of the bucket"
    );
    assert_eq!(stored(&moto).await, Vec::<String>::new());
    let fault = check(ANYBODY, "no-such-bucket").await.unwrap_err();
    assert!(
        fault.contains("set notify.log_collect.bucket to one that there is"),
        "{fault}"
    );

    let (id, secret) = moto.user("s3:PutObject").await;
    moto.demand_credentials().await;
    let found = check((&id, &secret), BUCKET).await.unwrap();
    assert!(
        found.contains(
            "accepts our credentials, and gives no right to get the location of the bucket"
        ),
        "{found}"
    );
    let fault = check((&id, "hunter2"), BUCKET).await.unwrap_err();
    assert!(
        fault.contains("set notify.log_collect.access_key_id") && !fault.contains("hunter2"),
        "{fault}"
    );
}
