//! SES: the mails that it is given.

use bus::{Retry, Retryable};
use notify::{ChannelError, Notification, Recipients};
use serde_json::{Value, json};

use super::{checked, notification, open};
use crate::{peers::moto::Moto, world::http};

const FROM: &str = "ci@example.com";
const ANN: &str = "ann@example.com";

/// An account that may send from [`FROM`].
async fn account() -> Moto {
    let moto = Moto::start().await;
    verify(&moto).await;
    moto
}

async fn verify(moto: &Moto) {
    let request = http()
        .post(moto.address("/v2/email/identities"))
        .json(&json!({ "EmailIdentity": FROM }));
    moto.signed(request, "ses").await;
}

fn failed() -> Notification {
    notification(
        "ses",
        Recipients {
            emails: vec![ANN.to_owned()],
            ..Recipients::default()
        },
    )
}

async fn send(moto: &Moto, from: &str, to: &str) -> Result<(), ChannelError> {
    send_as(moto, ("AKIATEST", "hunter2"), from, to).await
}

async fn send_as(
    moto: &Moto,
    (id, secret): (&str, &str),
    from: &str,
    to: &str,
) -> Result<(), ChannelError> {
    let endpoint = moto.endpoint();
    let file = [
        ("access_key_id", id),
        ("secret_access_key", secret),
        ("email", from),
        ("endpoint", &endpoint),
    ];
    let channels = open("ses", &file).await.unwrap();
    let channel = channels.get("ses").unwrap();
    assert_eq!(channel.recipients(&failed()), [ANN]);
    channel.send(&failed(), to).await
}

async fn sent(moto: &Moto) -> Vec<Value> {
    moto.held("ses", "RawMessage").await
}

#[tokio::test]
async fn mail_is_sent_byte_for_byte() {
    let moto = account().await;
    send(&moto, FROM, ANN).await.unwrap();
    let sent = sent(&moto).await;
    assert_eq!((sent.len(), &sent[0]["source"]), (1, &json!(FROM)));
    let mail = sent[0]["raw_data"].as_str().unwrap();
    for expected in [
        "From: ci@example.com\r\n",
        "To: ann@example.com\r\n",
        "Subject: build-linux64/opt failed\r\n",
        "In-Reply-To: <fNq1pK0NRKSlMhPvJ3zj5g@example.com>\r\n",
        "References: <fNq1pK0NRKSlMhPvJ3zj5g@example.com>\r\n",
        "Content-Type: text/plain",
        "Content-Type: text/html",
        "The build failed.",
    ] {
        assert!(mail.contains(expected), "{expected}: {mail}");
    }
}

#[tokio::test]
async fn ses_responses_are_classified() {
    let mut moto = account().await;
    let error = send(&moto, "somebody@example.org", ANN).await.unwrap_err();
    assert_eq!(error.retry(), Retry::Never, "{error}");
    assert!(error.to_string().contains("MessageRejected: "), "{error}");
    let error = send(&moto, FROM, "nobody").await.unwrap_err();
    assert!(matches!(error, ChannelError::HardBounce { .. }), "{error}");

    let (id, secret) = moto.user("ses:SendEmail").await;
    moto.demand_credentials().await;
    send_as(&moto, (&id, &secret), FROM, ANN).await.unwrap();
    for keys in [("AKIATEST", "hunter2"), (&id, "hunter2")] {
        let error = send_as(&moto, keys, FROM, ANN).await.unwrap_err();
        assert!(matches!(error, ChannelError::Credentials { .. }), "{error}");
        assert!(
            error.to_string().contains("set notify.ses.access_key_id"),
            "{error}"
        );
    }

    moto.kill();
    let error = send(&moto, FROM, ANN).await.unwrap_err();
    assert!(matches!(error, ChannelError::Unreachable { .. }), "{error}");
    moto.restart().await;
    verify(&moto).await;
    send(&moto, FROM, ANN).await.unwrap();
    assert_eq!(sent(&moto).await.len(), 1);
}

#[tokio::test]
async fn check_finds_accepted_credentials_and_sends_nothing() {
    let mut moto = account().await;
    let endpoint = moto.endpoint();
    let check = async |(id, secret): (&str, &str)| {
        let file = [
            ("access_key_id", id),
            ("secret_access_key", secret),
            ("email", FROM),
            ("endpoint", &endpoint),
        ];
        checked("ses", &file).await
    };
    let found = check(("AKIATEST", "hunter2")).await.unwrap();
    assert_eq!(
        found,
        "127.0.0.1 accepts our credentials, and let us read the sending quota"
    );
    assert_eq!(sent(&moto).await.len(), 0);

    let (id, secret) = moto.user("ses:SendEmail").await;
    moto.demand_credentials().await;
    let found = check((&id, &secret)).await.unwrap();
    assert!(
        found.contains("accepts our credentials, and gives no right to read the sending quota"),
        "{found}"
    );
    let fault = check((&id, "hunter2")).await.unwrap_err();
    assert!(
        fault.contains("set notify.ses.access_key_id") && !fault.contains("hunter2"),
        "{fault}"
    );
    moto.kill();
    let fault = check((&id, &secret)).await.unwrap_err();
    assert!(fault.starts_with("ses cannot be reached: "), "{fault}");
}
