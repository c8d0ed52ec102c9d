//! `smtp` against a real mail server.

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

/// The channel, logged in at `server`, with this set differently.
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

/// What comes of a mail to Ann.
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

/// The seed knows no other settings, and such a relay is one of another kind.
#[tokio::test]
async fn environment_alone_configures_channel_without_plaintext_fallback() {
    let server = SmtpServer::start("plain").await;
    let port = server.port().to_string();
    let environment = |name: &str| {
        let value = match name {
            "SMTP_EMAIL" => LOGIN.0,
            "SMTP_PASSWD" => LOGIN.1,
            "SMTP_HOST" => "localhost",
            "SMTP_PORT" => &port,
            "EMAIL_THREADING_DOMAIN" => "ci.example.com",
            _ => return None,
        };
        Some(value.to_owned())
    };
    let error = sent(&open_with("smtp", &[], &environment, None).await.unwrap())
        .await
        .unwrap_err();
    assert!(
        matches!(error, ChannelError::Unreachable { .. }),
        "{error:?}"
    );
    assert!(error.to_string().contains("offers no STARTTLS"), "{error}");
    assert_eq!(server.said("asked").len() + server.said("login").len(), 0);
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
            error.to_string().contains("it is no mail address"),
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

#[tokio::test]
async fn wrong_credentials_are_reported_without_counting_an_attempt() {
    let server = SmtpServer::start("starttls").await;
    let channels = at(&server, &[("password", "hunter2")]).await.unwrap();
    let error = sent(&channels).await.unwrap_err();
    assert_eq!(error.retry(), Retry::Defer(Duration::from_secs(60)));
    let text = format!("{error}, {error:?}");
    assert!(
        text.contains("notify.smtp.password") && text.contains("535") && !text.contains("hunter2"),
        "{text}"
    );
    let without = at(&server, &[("password", "")]).await.unwrap();
    let error = sent(&without).await.unwrap_err();
    assert!(
        matches!(error, ChannelError::Credentials { .. }) && error.to_string().contains("530"),
        "{error:?}"
    );
}

#[tokio::test]
async fn full_mailbox_gets_mail_once_it_has_room() {
    let server = SmtpServer::start("starttls").await;
    server.answers(ANN, "452 4.2.2 mailbox full");
    let world = World::over(at(&server, &[]).await.unwrap()).await;
    world.send(&NOTIFICATIONS, &to(&[ANN])).await;
    world.work().await;
    world.pass(60).await;
    server.until("asked", 2).await;
    assert_eq!(server.said("mail").len(), 0);
    server.takes_everything();
    world.pass(60).await;
    assert_eq!(server.mails(1).await[0].to, [ANN]);
    assert_eq!(
        (
            world.depth(&NOTIFICATIONS).await,
            server.said("asked").len()
        ),
        (Depth::default(), 3)
    );
}

#[tokio::test]
async fn unknown_recipient_is_muted_for_a_day_and_others_are_served() {
    let (_guard, logs) = capture_logs();
    let server = SmtpServer::start("starttls").await;
    server.answers(ANN, "550 5.1.1 no such user");
    let world = World::over(at(&server, &[]).await.unwrap()).await;
    world
        .send(&NOTIFICATIONS, &to(&[ANN, "bob@example.com", "nobody"]))
        .await;
    world.work().await;
    assert_eq!(server.mails(1).await[0].to, ["bob@example.com"]);
    let mut alone = muted(world.bus.as_ref(), NOW.parse().unwrap())
        .await
        .unwrap();
    alone.sort_by(|one, other| one.recipient.cmp(&other.recipient));
    let told: Vec<_> = alone
        .iter()
        .map(|muted| (muted.recipient.as_str(), muted.problem.as_str()))
        .collect();
    let refused = format!(
        "localhost:{} answered the recipient with 550 5.1.1 no such user",
        server.port()
    );
    let unfit = "it is no mail address: write another one into the task's section";
    assert_eq!(told, [(ANN, refused.as_str()), ("nobody", unfit)]);
    assert!(
        logs.text().contains("nothing more is sent there for a day"),
        "{}",
        logs.text()
    );
    let mut another = to(&[ANN]);
    another.task.id = "EHvlZcWCR6WAZapcRiLoNg".to_owned();
    let asked = server.said("asked").len();
    world.send(&NOTIFICATIONS, &another).await;
    world.work().await;
    assert_eq!(
        (
            world.dead(&NOTIFICATIONS).await.len(),
            server.said("asked").len()
        ),
        (2, asked)
    );
}

#[tokio::test]
async fn refused_sender_or_text_mutes_no_recipient() {
    let server = SmtpServer::start("starttls").await;
    let channels = at(&server, &[]).await.unwrap();
    for (asked, said, expected, words) in [
        (
            "MAIL",
            "553 5.7.1 not your address",
            Retry::Defer(Duration::from_secs(60)),
            "set notify.smtp.email",
        ),
        (
            "DATA",
            "554 5.7.1 this is spam",
            Retry::Never,
            "answered the mail with 554 5.7.1 this is spam",
        ),
        ("DATA", "552 5.3.4 too big", Retry::Never, "smtp refused it"),
        (
            ANN,
            "550 5.7.1 relaying denied",
            Retry::Never,
            "smtp refused it",
        ),
        (
            ANN,
            "421 4.3.2 shutting down",
            Retry::Defer(Duration::from_secs(30)),
            "smtp has too much to do",
        ),
    ] {
        server.answers(asked, said);
        let error = sent(&channels).await.unwrap_err();
        assert_eq!(error.retry(), expected, "{said}");
        assert!(error.to_string().contains(words), "{error}");
        assert!(
            !matches!(error, ChannelError::HardBounce { .. }),
            "{error:?}"
        );
    }
    server.takes_everything();
    sent(&channels).await.unwrap();
    assert_eq!(
        server.said("login").len(),
        2,
        "a refusal does not cost the connection, a 421 does"
    );
}

#[tokio::test]
async fn sending_resumes_after_server_outage() {
    let mut server = SmtpServer::start("starttls").await;
    let channels = at(&server, &[]).await.unwrap();
    sent(&channels).await.unwrap();
    sent(&channels).await.unwrap();
    assert_eq!(server.said("login").len(), 1, "the connection was kept");
    server.kill().await;
    let error = sent(&channels).await.unwrap_err();
    assert_eq!(error.retry(), Retry::Defer(Duration::from_secs(30)));
    assert!(
        error.to_string().contains("connect to localhost:"),
        "{error}"
    );
    assert!(error.to_string().contains("notify.smtp.port"), "{error}");
    server.restart().await;
    sent(&channels).await.unwrap();
    server.mails(3).await;
    channel(&channels).close().await;
}

#[tokio::test]
async fn relay_that_never_confirms_gets_bounded_attempts() {
    let server = SmtpServer::start("starttls").await;
    server.answers("DATA", "hang up");
    let world = World::over(at(&server, &[]).await.unwrap()).await;
    world.send(&NOTIFICATIONS, &to(&[ANN])).await;
    world.work().await;
    for _ in 0..10 {
        world.pass(600).await;
    }
    let dead = world.dead(&NOTIFICATIONS).await;
    assert!(
        dead[0].contains("broke off when it was given the mail, which it may have taken"),
        "{dead:?}"
    );
    let mails = server.mails(5).await;
    assert_eq!(mails.len(), 5, "as often as a notification is tried");
    assert!(
        mails
            .iter()
            .all(|mail| mail.header("message-id") == mails[0].header("message-id"))
    );
}

#[tokio::test]
async fn interrupted_mail_does_not_leak_into_another() {
    let server = SmtpServer::start("starttls").await;
    let channels = std::sync::Arc::new(at(&server, &[]).await.unwrap());
    server.answers(ANN, "never");
    let sending = tokio::spawn({
        let channels = channels.clone();
        async move { sent(&channels).await }
    });
    server.until("asked", 1).await;
    sending.abort();
    assert!(sending.await.unwrap_err().is_cancelled());
    let other = "bob@example.com";
    channel(&channels).send(&to(&[other]), other).await.unwrap();
    assert_eq!(server.mails(1).await[0].to, [other]);
    assert_eq!(
        server.said("login").len(),
        2,
        "its connection is not used again"
    );
}

#[tokio::test]
async fn untrusted_certificate_error_names_the_setting() {
    let server = SmtpServer::start("starttls").await;
    let implicit = SmtpServer::start("tls").await;
    for channels in [
        at(&server, &[("ca_file", "")]).await,
        at(&server, &[("ca_file", &implicit.ca())]).await,
        at(&server, &[("host", "127.0.0.1")]).await,
        at(&implicit, &[("tls", "tls"), ("ca_file", &server.ca())]).await,
    ] {
        let error = sent(&channels.unwrap()).await.unwrap_err();
        assert!(
            matches!(error, ChannelError::Unreachable { .. }),
            "{error:?}"
        );
        assert!(error.to_string().contains("is not trusted"), "{error}");
        assert!(
            error.to_string().contains("set notify.smtp.ca_file"),
            "{error}"
        );
    }
    assert_eq!(server.said("login").len() + implicit.said("login").len(), 0);
}

#[tokio::test]
async fn cancelled_send_leaves_nothing_behind() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let file = [
        ("email", LOGIN.0),
        ("host", "127.0.0.1"),
        ("port", &port),
        ("tls", "none"),
    ];
    let channels = open("smtp", &file).await.unwrap();
    let left = tokio::select! {
        result = sent(&channels) => panic!("nothing was answered: {result:?}"),
        accepted = listener.accept() => accepted.unwrap().0,
    };
    let mut nothing = [0; 1];
    left.readable().await.unwrap();
    assert_eq!(left.try_read(&mut nothing).unwrap(), 0);
}

#[tokio::test]
async fn html_template_of_deployment_replaces_default() {
    let server = SmtpServer::start("starttls").await;
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), "<p>{{ task.name }}: {{ status }}</p>").unwrap();
    let path = file.path().display().to_string();
    sent(&at(&server, &[("template", &path)]).await.unwrap())
        .await
        .unwrap();
    assert_eq!(
        server.mails(1).await[0].parts[1].1.trim(),
        "<p>build-linux64&#x2f;opt: task-failed</p>"
    );
    fs::write(file.path(), "{{ tasc }}").unwrap();
    let error = at(&server, &[("template", &path)])
        .await
        .err()
        .unwrap()
        .to_string();
    assert!(
        error.contains("smtp cannot be used: the template mail.html cannot be used"),
        "{error}"
    );
}

#[tokio::test]
async fn check_logs_in_and_sends_nothing() {
    let server = SmtpServer::start("starttls").await;
    let checked = async |changed: &[(&'static str, &str)]| {
        let channels = at(&server, changed).await.unwrap();
        channel(&channels)
            .check()
            .await
            .map_err(|error| error.to_string())
    };
    let found = checked(&[]).await.unwrap().found.unwrap();
    assert!(
        found.ends_with("accepts a connection, and our login where one is set"),
        "{found}"
    );
    assert_eq!(
        (
            server.until("login", 1).await.len(),
            server.said("mail").len()
        ),
        (1, 0)
    );
    let refused = checked(&[("password", "wrong")]).await.unwrap_err();
    assert!(
        refused.contains("the login") && !refused.contains("wrong"),
        "{refused}"
    );
    assert!(
        checked(&[("port", "9")])
            .await
            .unwrap_err()
            .contains("localhost:9")
    );
}

#[tokio::test]
async fn switch_for_the_template_chooses_html_or_plain_text() {
    for (value, kinds) in [
        ("True", &["text/plain", "text/html"][..]),
        ("1", &["text/plain", "text/html"]),
        ("False", &["text/plain"]),
        ("0", &["text/plain"]),
    ] {
        let server = SmtpServer::start("starttls").await;
        sent(&at(&server, &[("template", value)]).await.unwrap())
            .await
            .unwrap();
        let mails = server.mails(1).await;
        let found: Vec<&str> = mails[0]
            .parts
            .iter()
            .map(|(kind, _)| kind.as_str())
            .collect();
        assert_eq!(found, kinds, "{value}");
        assert!(
            mails[0].parts[0].1.contains("build-linux64"),
            "{:?}",
            mails[0].parts
        );
    }
}

#[tokio::test]
async fn impossible_settings_are_reported_at_start() {
    let basis = [("email", LOGIN.0), ("host", "mail.example.com")];
    for (changed, expected) in [
        (
            ("email", "robot"),
            "notify.smtp.email (or SMTP_EMAIL in the environment) is not a mail address",
        ),
        (
            ("port", "0"),
            "notify.smtp.port (or SMTP_PORT in the environment) is not a port from 1 to 65535",
        ),
        (
            ("tls", "ssl"),
            "notify.smtp.tls is not starttls, tls or none",
        ),
        (
            ("login", "ci"),
            "set notify.smtp.password (or SMTP_PASSWD in the environment)",
        ),
        (
            ("threading_domain", "a b"),
            "EMAIL_THREADING_DOMAIN in the environment) is not the name of a domain",
        ),
        (
            ("threading_domain", "x>\r\nBcc: <a"),
            "is not the name of a domain",
        ),
        (
            ("ca_file", "/nowhere"),
            "notify.smtp.ca_file is not a file that can be read",
        ),
        (
            ("template", "/nowhere"),
            "cannot read the template /nowhere",
        ),
        (
            ("host", ""),
            "set notify.smtp.host (or SMTP_HOST in the environment)",
        ),
    ] {
        let mut file: Vec<_> = basis
            .into_iter()
            .filter(|(key, _)| *key != changed.0)
            .collect();
        file.extend(Some(changed).filter(|(_, value)| !value.is_empty()));
        let error = open("smtp", &file).await.err().unwrap().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let bare = [basis[0], basis[1], ("tls", "none"), ("password", "hunter2")];
    let error = open("smtp", &bare).await.err().unwrap().to_string();
    assert!(
        error.contains("starttls or tls, which it has to be where a password is sent"),
        "{error}"
    );
}
