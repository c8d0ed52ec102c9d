//! The channel to Slack against a workspace.

use std::time::Duration;

use bus::{Retry, Retryable};
use notify::{ChannelError, DigestLine, Notification, Recipients, Status};
use serde_json::Value;

use super::{checked, notification, open};
use crate::peers::{
    closed,
    slack::{Fault, Slack},
};

fn one() -> Notification {
    notification("slack", Recipients::default())
}

async fn send(url: &str, one: &Notification) -> Result<(), ChannelError> {
    let channels = open("slack", &[("url", url)]).await.unwrap();
    let channel = channels.get("slack").unwrap();
    assert_eq!(
        channel.recipients(one),
        ["127.0.0.1"],
        "the address is a secret, the host is not"
    );
    channel.send(one, "127.0.0.1").await
}

async fn posted(one: &Notification) -> Value {
    let slack = Slack::start().await;
    send(&slack.hook(), one).await.unwrap();
    slack.posted().pop().unwrap()
}

/// Everything in a message that Slack would read as markup.
fn texts(message: &Value) -> String {
    let blocks = message["attachments"][0]["blocks"].as_array().unwrap();
    let texts = blocks
        .iter()
        .map(|block| block["text"]["text"].as_str().unwrap());
    [message["text"].as_str().unwrap()]
        .into_iter()
        .chain(texts)
        .collect::<Vec<_>>()
        .join("\n")
}

#[tokio::test]
async fn texts_match_snapshots() {
    let failed = posted(&one()).await;
    let artifact = Notification {
        status: Status::ArtifactCreated,
        artifact: Some("public/build/target.tar.bz2".to_owned()),
        ..one()
    };
    let line = |number| DigestLine {
        status: Status::TaskFailed,
        subject: format!("test {number} failed"),
        link: one().links.task,
    };
    let digest = Notification {
        digest: vec![line(1), line(2)],
        subject: "2 more notifications".to_owned(),
        ..one()
    };
    for (name, message) in [
        ("failed", failed),
        ("artifact", posted(&artifact).await),
        ("digest", posted(&digest).await),
    ] {
        insta::assert_snapshot!(
            format!("slack {name}"),
            serde_json::to_string_pretty(&message).unwrap()
        );
    }
}

#[tokio::test]
async fn foreign_text_creates_no_links_or_mentions() {
    let hostile = "<script> <!channel> <!here|x> <@U1> <https://evil.example|log> &lt;!everyone&gt; *b* _i_ `c`\u{1b}[31m";
    let mut bad = one();
    bad.task.name = format!("{hostile}|\n{hostile}");
    (bad.subject, bad.message) = (hostile.to_owned(), format!("{hostile}\r\n> {hostile}"));
    bad.artifact = Some(hostile.to_owned());
    let digest = Notification {
        digest: vec![DigestLine {
            status: Status::TaskFailed,
            subject: hostile.to_owned(),
            link: bad.links.task.clone(),
        }],
        ..bad.clone()
    };
    for one in [bad, digest] {
        let message = posted(&one).await;
        let text = texts(&message);
        assert!(
            message["text"]
                .as_str()
                .unwrap()
                .starts_with("&lt;script&gt;"),
            "{message}"
        );
        let marked: Vec<_> = text.split('<').skip(1).collect();
        assert!(!marked.is_empty());
        for marked in marked {
            assert!(
                marked.starts_with("https://taskcluster.example/"),
                "{marked}"
            );
        }
        assert!(
            !text.contains(['*', '`', '\u{1b}']) && !text.contains("_i_"),
            "{text}"
        );
        assert!(
            text.contains("&lt;!channel&gt;") && text.contains("&amp;lt;!everyone&amp;gt;"),
            "{text}"
        );
        assert_eq!(
            (&message["parse"], &message["unfurl_links"]),
            (&"none".into(), &false.into())
        );
        assert_eq!(
            message["attachments"][0]["blocks"][0]["text"]["verbatim"],
            true
        );
    }
}

#[tokio::test]
async fn long_message_keeps_slack_limits() {
    let line = DigestLine {
        status: Status::TaskFailed,
        subject: "<&>".repeat(160),
        link: one().links.task,
    };
    let many = Notification {
        digest: vec![line; 500],
        ..one()
    };
    let long = Notification {
        message: "<&> ".repeat(5000),
        ..one()
    };
    for one in [many, long] {
        let text = texts(&posted(&one).await);
        assert!(text.ends_with('…') && text.len() < 40_000, "{}", text.len());
    }
}

#[tokio::test]
async fn responses_are_classified() {
    let (again, wait) = (Retry::Backoff, |seconds| {
        Retry::Defer(Duration::from_secs(seconds))
    });
    for (fault, expected, words) in [
        (
            Fault::Revoked,
            wait(60),
            "slack rejects our credentials: 127.0.0.1 answered the post with http status \
             404: no_service: the webhook is revoked or mistyped; set notify.slack.url to a new one",
        ),
        (
            Fault::Prohibited,
            wait(60),
            "403: action_prohibited: an administrator of the workspace has to allow",
        ),
        (
            Fault::Archived,
            Retry::Never,
            "slack cannot reach 127.0.0.1; muted for a day",
        ),
        (
            Fault::NoChannel,
            Retry::Never,
            "404: channel_not_found: the webhook's channel is gone",
        ),
        (
            Fault::Limited("7"),
            wait(7),
            "slack is busy: 127.0.0.1 answered the post with http status 429",
        ),
        (Fault::Limited("99999"), wait(600), "429: rate_limited"),
        (
            Fault::Broken,
            again,
            "slack failed: 127.0.0.1 answered the post with http status 500: rollup_error",
        ),
        (
            Fault::Invalid,
            Retry::Never,
            "slack refused the notification: 127.0.0.1 answered the post with http status 400: invalid_payload: look at the template \
             slack.mrkdwn",
        ),
        (
            Fault::NotSlack,
            Retry::Never,
            "200: <html>welcome </html><html>welcome",
        ),
        (
            Fault::Moved,
            Retry::Never,
            "302: : set notify.slack.url to the address of an incoming webhook",
        ),
        (
            Fault::Echo,
            wait(60),
            "404: Cannot POST (secret): the webhook is revoked or mistyped",
        ),
    ] {
        let slack = Slack::start().await;
        slack.fail(fault);
        let error = send(&slack.hook(), &one()).await.unwrap_err();
        assert_eq!(error.retry(), expected, "{error}");
        let text = error.to_string();
        assert!(text.contains(words), "{text}");
        assert!(
            text.len() < 500
                && !text.contains("services")
                && !format!("{error:?}").contains("hunter2"),
            "{text}"
        );
        assert_eq!(slack.posted(), Vec::<Value>::new());
    }
}

#[tokio::test]
async fn mistyped_address_is_reported() {
    let slack = Slack::start().await;
    let error = send(&format!("{}x", slack.hook()), &one())
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("404: no_team: the webhook is revoked or mistyped"),
        "{error}"
    );
}

#[tokio::test]
async fn closed_port_is_outage_and_address_stays_secret() {
    let error = send(&format!("{}/services/hunter2", closed()), &one())
        .await
        .unwrap_err();
    assert!(
        matches!(error, ChannelError::Unreachable { .. }),
        "{error:?}"
    );
    let text = format!("{error} {error:?}");
    assert!(
        text.contains("post to 127.0.0.1") && !text.contains("hunter2"),
        "{text}"
    );
}

#[tokio::test]
async fn address_needs_tls_except_on_loopback() {
    for (url, fits) in [
        ("https://hooks.slack.com/services/x", true),
        ("http://localhost:1/x", true),
        ("http://[::1]:1/x", true),
        ("http://hooks.slack.com/services/x", false),
        ("http://10.0.0.1/x", false),
        ("http://localhost.example.org/x", false),
        ("ftp://127.0.0.1/x", false),
        ("hooks.slack.com", false),
    ] {
        assert_eq!(open("slack", &[("url", url)]).await.is_ok(), fits, "{url}");
    }
    let error = open("slack", &[("url", "http://hooks.slack.com/hunter2")])
        .await
        .err()
        .unwrap()
        .to_string();
    assert_eq!(
        error,
        "slack cannot be used: notify.slack.url is not an address that begins with https"
    );
}

#[tokio::test]
async fn check_reaches_the_host_and_posts_nothing() {
    let slack = Slack::start().await;
    let found = checked("slack", &[("url", &slack.hook())]).await.unwrap();
    assert!(
        found.starts_with("127.0.0.1 answered a HEAD request with http status "),
        "{found}"
    );
    assert_eq!(slack.posted(), Vec::<Value>::new());
    let away = format!("{}/services/T0/B0/hunter2", closed());
    let fault = checked("slack", &[("url", &away)]).await.unwrap_err();
    assert!(
        fault.starts_with("slack cannot be reached: ") && !fault.contains("hunter2"),
        "{fault}"
    );
}
