//! SNS: what subscribers of a topic get.

use bus::{Retry, Retryable};
use notify::{ChannelError, DigestLine, Notification, Recipients, Status};
use serde_json::Value;
use tokio::net::TcpListener;

use super::{checked, notification, open, open_with};
use crate::peers::moto::{Moto, REGION, within};

/// A topic, and a queue that subscribed to it.
struct Topic {
    moto: Moto,
    arn: String,
    queue: String,
}

impl Topic {
    async fn new() -> Self {
        let mut topic = Self {
            moto: Moto::start().await,
            arn: String::new(),
            queue: String::new(),
        };
        topic.create().await;
        topic
    }

    async fn create(&mut self) {
        let moto = &self.moto;
        self.arn = within(
            &moto
                .form("sns", &[("Action", "CreateTopic"), ("Name", "ci")])
                .await,
            "TopicArn",
        );
        let queue = moto
            .form("sqs", &[("Action", "CreateQueue"), ("QueueName", "people")])
            .await;
        self.queue = within(&queue, "QueueUrl");
        let queue = format!("arn:aws:sqs:{REGION}:123456789012:people");
        let form = [
            ("Action", "Subscribe"),
            ("TopicArn", &self.arn),
            ("Protocol", "sqs"),
            ("Endpoint", queue.as_str()),
        ];
        moto.form("sns", &form).await;
    }

    async fn send(&self, one: &Notification) -> Result<(), ChannelError> {
        self.send_as(("AKIATEST", "hunter2"), one).await
    }

    async fn send_as(
        &self,
        (id, secret): (&str, &str),
        one: &Notification,
    ) -> Result<(), ChannelError> {
        let (endpoint, arn) = (self.moto.endpoint(), self.arn.as_str());
        let file = [
            ("arn", arn),
            ("access_key_id", id),
            ("secret_access_key", secret),
            ("endpoint", &endpoint),
        ];
        let channels = open("sns", &file).await.unwrap();
        let channel = channels.get("sns").unwrap();
        assert_eq!(channel.recipients(one), [arn]);
        channel.send(one, arn).await
    }

    /// Subject and message of what the queue got.
    async fn got(&self) -> (String, String) {
        let form = [
            ("Action", "ReceiveMessage"),
            ("QueueUrl", self.queue.as_str()),
            ("WaitTimeSeconds", "0"),
        ];
        let body = within(&self.moto.form("sqs", &form).await, "Body");
        let body = body
            .replace("&quot;", "\"")
            .replace("&gt;", ">")
            .replace("&lt;", "<")
            .replace("&amp;", "&");
        let body: Value = serde_json::from_str(&body).unwrap();
        (
            body["Subject"].as_str().unwrap().to_owned(),
            body["Message"].as_str().unwrap().to_owned(),
        )
    }
}

#[tokio::test]
async fn subscribers_get_text_and_log_links() {
    let topic = Topic::new().await;
    let mut one = notification("sns", Recipients::default());
    topic.send(&one).await.unwrap();
    let (subject, message) = topic.got().await;
    assert_eq!(subject, "build-linux64/opt failed");
    insta::assert_snapshot!(message);

    one.subject = format!("é{}\nBcc: x", "a".repeat(200));
    one.message = "<script> & \"ünïcode\"".to_owned();
    one.digest = vec![DigestLine {
        status: Status::TaskFailed,
        subject: "s".to_owned(),
        link: one.links.task.clone(),
    }];
    topic.send(&one).await.unwrap();
    let (subject, message) = topic.got().await;
    assert_eq!(
        subject,
        format!("?{}...", "a".repeat(96)),
        "of ASCII, and no longer than 100 characters"
    );
    assert_eq!(
        message.trim_end(),
        "<script> & \"ünïcode\"",
        "a digest lists tasks, not their logs"
    );
}

#[tokio::test]
async fn topic_responses_are_classified() {
    let mut topic = Topic::new().await;
    let one = notification("sns", Recipients::default());

    let known = std::mem::replace(
        &mut topic.arn,
        format!("arn:aws:sns:{REGION}:123456789012:none"),
    );
    let error = topic.send(&one).await.unwrap_err();
    assert!(matches!(error, ChannelError::Unreachable { .. }), "{error}");
    assert!(
        error
            .to_string()
            .contains("set notify.sns.arn to one that there is"),
        "{error}"
    );
    topic.arn = known;

    let (id, secret) = topic.moto.user("sns:Publish").await;
    topic.moto.demand_credentials().await;
    topic.send_as((&id, &secret), &one).await.unwrap();
    for (keys, words) in [
        (
            ("AKIATEST", "hunter2"),
            "http status 403, InvalidClientTokenId: The security token included in the request",
        ),
        (
            (id.as_str(), "hunter2"),
            "http status 403, SignatureDoesNotMatch: The request signature we calculated",
        ),
    ] {
        let error = topic.send_as(keys, &one).await.unwrap_err();
        assert!(matches!(error, ChannelError::Credentials { .. }), "{error}");
        assert!(error.to_string().contains(words), "{error}");
        assert!(
            error.to_string().contains("set notify.sns.access_key_id"),
            "{error}"
        );
        assert!(!format!("{error:?}").contains("hunter2"));
    }

    topic.moto.kill();
    let error = topic.send(&one).await.unwrap_err();
    assert!(matches!(error, ChannelError::Unreachable { .. }), "{error}");
    assert!(
        matches!(error.retry(), Retry::Defer(_)),
        "an outage costs no attempt"
    );
    assert!(
        error
            .to_string()
            .contains("tried at 127.0.0.1 to publish to the topic"),
        "{error}"
    );
    topic.moto.restart().await;
    topic.create().await;
    topic.send(&one).await.unwrap();
    assert_eq!(topic.got().await.0, "build-linux64/opt failed");
}

#[tokio::test]
async fn publish_without_answer_counts_an_attempt() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let file = [
        ("arn", "arn:aws:sns:us-west-2:123456789012:ci"),
        ("access_key_id", "AKIATEST"),
        ("secret_access_key", "hunter2"),
        ("endpoint", &endpoint),
    ];
    let channels = open("sns", &file).await.unwrap();
    let one = notification("sns", Recipients::default());
    let silent = async {
        let (stream, _) = listener.accept().await.unwrap();
        stream.readable().await.unwrap();
    };
    let (sent, ()) = tokio::join!(channels.get("sns").unwrap().send(&one, "topic"), silent);
    let error = sent.unwrap_err();
    assert_eq!(
        error.retry(),
        Retry::Backoff,
        "it is not to be published all day: {error}"
    );
    assert!(
        error
            .to_string()
            .ends_with("it may have been done all the same"),
        "{error}"
    );
}

#[tokio::test]
async fn environment_alone_configures_channel() {
    let topic = Topic::new().await;
    let endpoint = topic.moto.endpoint();
    let variables = [
        ("SNS_ARN", topic.arn.as_str()),
        ("AWS_ACCESS_KEY_ID", "AKIATEST"),
        ("AWS_SECRET_ACCESS_KEY", "hunter2"),
        ("AWS_ENDPOINT_URL", &endpoint),
    ];
    let environment = |name: &str| {
        variables
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| (*value).to_owned())
    };
    let channels = open_with("sns", &[], &environment, None).await.unwrap();
    channels
        .get("sns")
        .unwrap()
        .send(&notification("sns", Recipients::default()), &topic.arn)
        .await
        .unwrap();
    assert_eq!(topic.got().await.0, "build-linux64/opt failed");
}

#[tokio::test]
async fn missing_settings_are_named() {
    let arn = ("arn", "arn:aws:sns:us-west-2:123456789012:ci");
    let (id, secret) = (
        ("access_key_id", "AKIATEST"),
        ("secret_access_key", "hunter2"),
    );
    for (file, expected) in [
        (
            &[][..],
            "sns cannot be used: set notify.sns.arn (or SNS_ARN in the environment)",
        ),
        (
            &[("arn", "ci")][..],
            "is not the ARN of a standard topic, such as arn:aws:sns:us-west-2:123456789012:name",
        ),
        (
            &[arn, secret][..],
            "set notify.sns.access_key_id (or AWS_ACCESS_KEY_ID in the environment)",
        ),
        (
            &[arn, id][..],
            "set notify.sns.secret_access_key (or AWS_SECRET_ACCESS_KEY in the environment)",
        ),
        (
            &[arn, id, secret, ("endpoint", "moto")][..],
            "is not an address that begins with http or https",
        ),
    ] {
        let error = open("sns", file).await.err().unwrap().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[tokio::test]
async fn check_finds_the_topic_and_accepted_credentials() {
    let topic = Topic::new().await;
    let endpoint = topic.moto.endpoint();
    let check = async |(id, secret): (&str, &str), arn: &str| {
        let file = [
            ("arn", arn),
            ("access_key_id", id),
            ("secret_access_key", secret),
            ("endpoint", &endpoint),
        ];
        checked("sns", &file).await
    };
    let anybody = ("AKIATEST", "hunter2");
    let found = check(anybody, &topic.arn).await.unwrap();
    assert_eq!(
        found,
        "127.0.0.1 accepts our credentials, and let us read the attributes of the topic"
    );
    let fault = check(anybody, &format!("arn:aws:sns:{REGION}:123456789012:none"))
        .await
        .unwrap_err();
    assert!(
        fault.contains("set notify.sns.arn to one that there is"),
        "{fault}"
    );

    // Who may publish need not read.
    let (id, secret) = topic.moto.user("sns:Publish").await;
    topic.moto.demand_credentials().await;
    let found = check((&id, &secret), &topic.arn).await.unwrap();
    assert!(
        found.contains("accepts our credentials, and gives no right to read the attributes"),
        "{found}"
    );
    let fault = check((&id, "hunter2"), &topic.arn).await.unwrap_err();
    assert!(
        fault.contains("SignatureDoesNotMatch") && !fault.contains("hunter2"),
        "{fault}"
    );
}
