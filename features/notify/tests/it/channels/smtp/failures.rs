//! Refusals, outages, and connections that break.

use super::*;

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
    let unfit = "it is not a mail address: write another one into the task's section";
    assert_eq!(told, [(ANN, refused.as_str()), ("nobody", unfit)]);
    assert!(
        logs.text().contains("muting recipient for a day"),
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
        (
            "DATA",
            "552 5.3.4 too big",
            Retry::Never,
            "smtp refused the notification",
        ),
        (
            ANN,
            "550 5.7.1 relaying denied",
            Retry::Never,
            "smtp refused the notification",
        ),
        (
            ANN,
            "421 4.3.2 shutting down",
            Retry::Defer(Duration::from_secs(30)),
            "smtp is busy",
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
        dead[0].contains("failed during the mail, which it may have accepted"),
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
