//! `smtp` against a real mail server.

mod failures;
mod settings;

use std::{fs, time::Duration};

use bus::{Depth, Retry, Retryable};
use notify::{Channel, ChannelError, Channels, Notification, Recipients, SettingsError, muted};
use tokio::net::TcpListener;

use super::{notification, open, open_with};
use crate::{
    peers::smtp::{LOGIN, SmtpServer},
    world::{NOTIFICATIONS, NOW, World, capture_logs},
};

const ANN: &str = "ann@example.com";

fn to(emails: &[&str]) -> Notification {
    let emails = emails.iter().map(|&email| email.to_owned()).collect();
    notification(
        "smtp",
        Recipients {
            emails,
            ..Recipients::default()
        },
    )
}

/// The channel with a login at `server`, and with these settings changed.
async fn at(
    server: &SmtpServer,
    changed: &[(&'static str, &str)],
) -> Result<Channels, SettingsError> {
    let (port, ca) = (server.port().to_string(), server.ca());
    let mut file = vec![
        ("email", LOGIN.0),
        ("password", LOGIN.1),
        ("host", "localhost"),
        ("port", &port),
        ("ca_file", &ca),
        ("threading_domain", "ci.example.com"),
    ];
    file.retain(|(key, _)| changed.iter().all(|(other, _)| other != key));
    file.extend(changed.iter().filter(|(_, value)| !value.is_empty()));
    open("smtp", &file).await
}

fn channel(channels: &Channels) -> &dyn Channel {
    channels.get("smtp").unwrap()
}

/// The result of a mail to Ann.
async fn sent(channels: &Channels) -> Result<(), ChannelError> {
    channel(channels).send(&to(&[ANN]), ANN).await
}

#[tokio::test]
async fn each_address_gets_one_mail_and_default_is_used_without_recipients() {
    let server = SmtpServer::start("starttls").await;
    let channels = at(&server, &[]).await.unwrap();
    let named = to(&[
        "Ann <ann@example.com>",
        ANN,
        "\"Example, Bob\" <bob@example.com> (releng)",
        "nobody",
    ]);
    assert_eq!(
        channel(&channels).recipients(&named),
        [ANN, "bob@example.com", "nobody"]
    );
    assert_eq!(channel(&channels).recipients(&to(&[])), [LOGIN.0]);
    let names = [
        ("email", "Robot <robot@example.com>"),
        ("default_recipient", "Releng <releng@example.com>"),
        ("login", LOGIN.0),
    ];
    let channels = at(&server, &names).await.unwrap();
    assert_eq!(
        channel(&channels).recipients(&to(&[])),
        ["releng@example.com"]
    );
    channel(&channels)
        .send(&to(&[]), "Ann <ann@example.com>")
        .await
        .unwrap();
    let mail = server.mails(1).await.remove(0);
    assert_eq!(
        (mail.from.as_str(), mail.to.as_slice()),
        ("robot@example.com", &[ANN.to_owned()][..])
    );
    assert_eq!(
        (mail.header("from"), mail.header("to")),
        ("Robot <robot@example.com>", ANN)
    );
    let error = at(&server, &[("default_recipient", "nobody")])
        .await
        .err()
        .unwrap()
        .to_string();
    assert!(
        error.contains("notify.smtp.default_recipient is not a mail address"),
        "{error}"
    );
}

#[tokio::test]
async fn mail_is_sent_with_starttls_and_login() {
    let server = SmtpServer::start("starttls").await;
    sent(&at(&server, &[]).await.unwrap()).await.unwrap();
    let mails = server.mails(1).await;
    assert_eq!(
        (mails[0].from.as_str(), mails[0].to.as_slice()),
        (LOGIN.0, &[ANN.to_owned()][..])
    );
    assert_eq!(
        (mails[0].header("from"), mails[0].header("to")),
        (LOGIN.0, ANN)
    );
    assert_eq!(server.said("asked")[0]["encrypted"], true);
    assert_eq!(server.said("login")[0]["login"], LOGIN.0);
}

#[tokio::test]
async fn mail_is_sent_with_tls_and_another_sender_name() {
    let server = SmtpServer::start("tls").await;
    let channels = at(
        &server,
        &[
            ("tls", "tls"),
            ("email", "ci@example.com"),
            ("login", LOGIN.0),
        ],
    )
    .await
    .unwrap();
    sent(&channels).await.unwrap();
    assert_eq!(server.mails(1).await[0].from, "ci@example.com");
    assert_eq!(server.said("login")[0]["login"], LOGIN.0);
}

#[tokio::test]
async fn local_relay_needs_no_login() {
    let server = SmtpServer::start("plain").await;
    let port = server.port().to_string();
    let file = [
        ("email", LOGIN.0),
        ("host", "127.0.0.1"),
        ("port", &port),
        ("tls", "none"),
    ];
    sent(&open("smtp", &file).await.unwrap()).await.unwrap();
    assert_eq!(server.mails(1).await[0].header("to"), ANN);
}

#[tokio::test]
async fn mail_has_text_and_html_and_joins_thread_of_its_group() {
    let server = SmtpServer::start("starttls").await;
    let channels = at(&server, &[]).await.unwrap();
    let mut digest = Notification {
        subject: "2 more notifications".to_owned(),
        ..to(&[ANN])
    };
    digest.digest = vec![notify::DigestLine {
        status: digest.status,
        subject: "one <b>".to_owned(),
        link: digest.links.task.clone(),
    }];
    channel(&channels).send(&to(&[ANN]), ANN).await.unwrap();
    channel(&channels).send(&to(&[ANN]), ANN).await.unwrap();
    channel(&channels)
        .send(&to(&[ANN]), "bob@example.com")
        .await
        .unwrap();
    channel(&channels).send(&digest, ANN).await.unwrap();
    let mails = server.mails(4).await;
    let thread = "<fNq1pK0NRKSlMhPvJ3zj5g@ci.example.com>";
    for mail in &mails {
        assert_eq!(
            (mail.header("in-reply-to"), mail.header("references")),
            (thread, thread)
        );
        assert_eq!(mail.header("auto-submitted"), "auto-generated");
        assert_eq!(mail.header("date"), "Sat, 21 Nov 2026 02:48:05 +0000");
        assert!(
            mail.header("content-type")
                .starts_with("multipart/alternative"),
            "{mail:?}"
        );
        assert!(
            mail.header("message-id").ends_with("@ci.example.com>"),
            "{mail:?}"
        );
    }
    let ids: Vec<_> = mails.iter().map(|mail| mail.header("message-id")).collect();
    assert_eq!(ids[0], ids[1], "the same again is known by its id");
    assert!(ids[0] != ids[2] && ids[0] != ids[3], "{ids:?}");
    let [(plain, text), (rich, html)] = mails[0].parts.as_slice() else {
        panic!("{:?}", mails[0].parts)
    };
    assert_eq!((plain.as_str(), rich.as_str()), ("text/plain", "text/html"));
    assert!(
        text.starts_with("The build failed.\nSee its log.\n")
            && text.contains("Status: task-failed, run 1"),
        "{text}"
    );
    let link = "<a href=\"https://taskcluster.example/tasks/bGmvC3EFTSWLcp5Kb5E12A\">build-linux64/opt</a>";
    assert!(html.replace("&#x2f;", "/").contains(link), "{html}");
    assert!(
        mails[3].parts[1].1.contains("one &lt;b&gt;"),
        "{:?}",
        mails[3].parts
    );
}

#[tokio::test]
async fn foreign_text_cannot_add_headers_or_markup() {
    let server = SmtpServer::start("starttls").await;
    let channels = at(&server, &[]).await.unwrap();
    let mut one = to(&[ANN]);
    one.subject = "a\r\nBcc: all@example.com\r\n\r\n<script>alert(1)</script>".to_owned();
    one.identity = Some("x\r\nBcc: all@example.com".to_owned());
    one.task.name = "<script>alert(1)</script>\r\nBcc: all@example.com".to_owned();
    one.task.group_id = "g>\r\nBcc: <all@example.com".to_owned();
    one.message =
        "\r\n.\r\nMAIL FROM:<evil@example.com>\r\n<img src=x onerror=alert(1)>".to_owned();
    channel(&channels).send(&one, ANN).await.unwrap();
    channel(&channels).send(&to(&[ANN]), ANN).await.unwrap();
    let mails = server.mails(2).await;
    assert_eq!(mails[0].names(), mails[1].names());
    assert_eq!(
        mails[0].header("subject"),
        "a Bcc: all@example.com <script>alert(1)</script>"
    );
    assert_eq!(
        mails[0].header("references"),
        "<gBccallexamplecom@ci.example.com>"
    );
    assert_eq!(mails[0].parts.len(), 2);
    let html = &mails[0].parts[1].1;
    assert!(
        !html.contains("<script") && !html.contains("<img") && html.contains("&lt;script&gt;"),
        "{html}"
    );
    assert_eq!(
        mails[1].from, LOGIN.0,
        "the second was not a part of the first"
    );
}

#[tokio::test]
async fn malformed_address_is_not_sent_to_server() {
    let server = SmtpServer::start("starttls").await;
    let channels = at(&server, &[]).await.unwrap();
    for recipient in [
        "ann",
        "ann@",
        "@example.com",
        "a b@example.com",
        "ann@example.com>\r\nRCPT TO:<all@example.com",
        "a@b,c@d",
        "ann@ex\u{e4}mple.com",
        "\"a>\"@example.com",
    ] {
        let error = channel(&channels)
            .send(&to(&[recipient]), recipient)
            .await
            .unwrap_err();
        assert!(
            matches!(error, ChannelError::HardBounce { .. }),
            "{recipient}: {error:?}"
        );
        assert!(
            error.to_string().contains("it is not a mail address"),
            "{error}"
        );
        assert!(!error.to_string().contains('\n'), "{error}");
    }
    assert_eq!(server.said("asked").len(), 0);
}

#[tokio::test]
async fn unicode_and_long_lines_arrive_unchanged() {
    let server = SmtpServer::start("starttls").await;
    let channels = at(&server, &[]).await.unwrap();
    let mut one = to(&[ANN]);
    one.subject = "Ünïcode ✓ 構建失敗 ".repeat(12).trim_end().to_owned();
    one.message = format!("{}\n.\n..\nFrom here ✓", "x".repeat(5000));
    channel(&channels).send(&one, ANN).await.unwrap();
    let mut ascii = to(&[ANN]);
    ascii.subject = "y".repeat(380);
    channel(&channels).send(&ascii, ANN).await.unwrap();
    let mails = server.mails(2).await;
    assert_eq!(mails[0].header("subject"), one.subject);
    assert!(
        mails[0].parts[0].1.starts_with(&one.message),
        "{}",
        mails[0].parts[0].1
    );
    assert_eq!(mails[1].header("subject"), ascii.subject);
    for mail in mails {
        assert!(mail.ascii && mail.longest < 998, "{}", mail.longest);
    }
}
