//! Connection, login, JOIN, and refusals of the server.

use super::*;

#[tokio::test]
async fn reconnect_after_server_kill_rejoins_channels() {
    let mut server = Ngircd::start().await;
    let channels = channel(server.port, &[]).await;
    send(&channels, &to(&[], &[]), "#builds").await.unwrap();
    server.kill();
    let error = send(&channels, &to(&[], &[]), "#builds").await.unwrap_err();
    // `Failed` if the line was written before the client noticed the end of the connection.
    assert!(
        matches!(
            error,
            ChannelError::Unreachable { .. } | ChannelError::Failed { .. }
        ),
        "{error}"
    );
    server.start_again().await;
    let mut ann = Reader::join(server.port, "", "ann", &["#ci", "#builds"]).await;
    // Without a message to send.
    let mut joined = vec![
        ann.until(&[":notifier!", " JOIN "]).await,
        ann.until(&[":notifier!", " JOIN "]).await,
    ];
    joined.sort();
    assert!(
        joined[0].ends_with("#builds") && joined[1].ends_with("#ci"),
        "{joined:?}"
    );
    send_at_last(&channels, &with_subject("again"), "#builds").await;
    let (to, text) = ann.message().await;
    assert!(to == "#builds" && text.contains("again"), "{to} {text}");
}

#[tokio::test]
async fn nick_in_use_is_reclaimed() {
    let server = Ngircd::start().await;
    let mut ann = Reader::join(server.port, "", "ann", &["#ci"]).await;
    let mut thief = Reader::join(server.port, "", "notifier", &["#ci"]).await;
    let channels = channel(server.port, &[]).await;
    send(&channels, &with_subject("one"), "#ci").await.unwrap();
    ann.until(&[":notifier_!", " PRIVMSG #ci :", "one"]).await;
    thief.send_line("NICK somebody").await;
    ann.until(&[":notifier_!", " NICK :notifier"]).await;
    send(&channels, &with_subject("two"), "#ci").await.unwrap();
    ann.until(&[":notifier!", " PRIVMSG #ci :", "two"]).await;
}

#[tokio::test]
async fn kicked_client_rejoins_with_next_message() {
    let server = Ngircd::start().await;
    let mut ann = Reader::join(server.port, "", "ann", &["#builds"]).await;
    let channels = channel(server.port, &[]).await;
    send(&channels, &with_subject("one"), "#builds")
        .await
        .unwrap();
    ann.until(&["one"]).await;
    ann.send_line("KICK #builds notifier :enough").await;
    ann.until(&[" KICK "]).await;
    // The server has sent the KICK to the notifier before its reply to this.
    send(&channels, &with_subject("between"), "ann")
        .await
        .unwrap();
    send(&channels, &with_subject("two"), "#builds")
        .await
        .unwrap();
    ann.until(&[":notifier!", " JOIN "]).await;
    ann.until(&[" PRIVMSG #builds :", "two"]).await;
}

#[tokio::test]
async fn server_refusals_are_classified() {
    let server = Ngircd::start().await;
    let clock = Arc::new(ManualClock::new(NOW.parse().unwrap()));
    let channels = channel_by(clock.clone(), server.port, &[]).await;
    for (recipient, words) in [
        ("#banned", "irc.example.net answered 474"),
        ("#invited", "irc.example.net answered 473"),
        ("#key", "irc.example.net answered 475"),
    ] {
        clock.advance(Duration::from_secs(10));
        let error = send(&channels, &to(&[], &[]), recipient).await.unwrap_err();
        assert!(
            matches!(&error, ChannelError::HardBounce { recipient: who, .. } if who == recipient),
            "{error}"
        );
        assert!(error.to_string().contains(words), "{error}");
    }
    // The refusal may be about the text, so the channel is not muted.
    clock.advance(Duration::from_secs(10));
    let error = send(&channels, &to(&[], &[]), "#silent").await.unwrap_err();
    assert!(matches!(error, ChannelError::Refused { .. }), "{error}");
    assert!(
        error.to_string().contains("irc.example.net answered 404"),
        "{error}"
    );
    clock.advance(Duration::from_secs(10));
    let error = send(&channels, &to(&[], &[]), "nobody").await.unwrap_err();
    assert!(matches!(error, ChannelError::Refused { .. }), "{error}");
    assert!(
        error.to_string().contains("answered 401")
            && error.to_string().contains("`events dead-letters requeue`"),
        "{error}"
    );
    // The connection stays usable.
    clock.advance(Duration::from_secs(10));
    send(&channels, &to(&[], &[]), "#ci").await.unwrap();
}

#[tokio::test]
async fn least_recently_used_channel_is_left_at_server_limit() {
    let server = Ngircd::start().await;
    let mut ann = Reader::join(server.port, "", "ann", &["#ci", "#a", "#b"]).await;
    let clock = Arc::new(ManualClock::new(NOW.parse().unwrap()));
    let channels = channel_by(clock.clone(), server.port, &[]).await;
    for recipient in ["#a", "#b", "#c"] {
        clock.advance(Duration::from_secs(10));
        send(&channels, &to(&[], &[]), recipient).await.unwrap();
    }
    clock.advance(Duration::from_secs(10));
    let error = send(&channels, &to(&[], &[]), "#d").await.unwrap_err();
    assert!(matches!(error, ChannelError::Failed { .. }), "{error}");
    clock.advance(Duration::from_secs(10));
    send(&channels, &to(&[], &[]), "#d").await.unwrap();
    let left = ann.until(&[":notifier!", " PART "]).await;
    assert!(left.contains("#a"), "it was told the longest ago: {left}");
}

#[tokio::test]
async fn wrong_password_is_credentials_error_without_showing_it() {
    let server = Ngircd::start_with_password("opensesame").await;
    let mut ann = Reader::join(server.port, "opensesame", "ann", &["#ci"]).await;
    for wrong in [&[][..], &[("password", "hunter2")]] {
        let channels = channel(server.port, wrong).await;
        let error = send(&channels, &to(&[], &[]), "#ci").await.unwrap_err();
        assert!(matches!(error, ChannelError::Credentials { .. }), "{error}");
        let text = format!("{error} {error:?}");
        assert!(
            text.contains("notify.irc.password") && !text.contains("hunter2"),
            "{text}"
        );
    }
    let channels = channel(server.port, &[("password", "opensesame")]).await;
    send(&channels, &to(&[], &[]), "#ci").await.unwrap();
    ann.message().await;
}

#[tokio::test]
async fn server_certificate_needs_trusted_authority() {
    let directories = [TempDir::new().unwrap(), TempDir::new().unwrap()];
    let [ours, other] = [0, 1].map(|number| Authority::new(directories[number].path()).unwrap());
    let server = Ngircd::start_with_tls(&ours).await;
    let mut ann = Reader::join(server.port, "", "ann", &["#ci"]).await;
    let channels = channel(
        server.tls_port,
        &[("ca_file", ours.file().to_str().unwrap())],
    )
    .await;
    send(&channels, &to(&[], &[]), "#ci").await.unwrap();
    ann.message().await;
    let channels = channel(
        server.tls_port,
        &[("ca_file", other.file().to_str().unwrap())],
    )
    .await;
    let error = send(&channels, &to(&[], &[]), "#ci").await.unwrap_err();
    assert!(matches!(error, ChannelError::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains("UnknownIssuer"), "{error}");
}

#[tokio::test]
async fn check_logs_in_without_joining_or_sending() {
    let server = Ngircd::start_with_password("sesame").await;
    let mut ann = Reader::join(server.port, "sesame", "ann", &["#ci"]).await;
    let port = server.port.to_string();
    let check = async |port: &str, password: &str| {
        let file = [
            ("host", "localhost"),
            ("port", port),
            ("tls", "off"),
            ("nick", "notifier"),
            ("channel", "#ci"),
        ];
        let password = Some(("password", password)).filter(|(_, password)| !password.is_empty());
        checked("irc", &file.into_iter().chain(password).collect::<Vec<_>>()).await
    };
    let found = check(&port, "sesame").await.unwrap();
    assert_eq!(
        found,
        format!("localhost:{port} accepts our login, with the nick notifier")
    );
    let fault = check(&port, "hunter2").await.unwrap_err();
    assert!(
        fault.contains("rejects our credentials") && !fault.contains("hunter2"),
        "{fault}"
    );
    let fault = check("9", "").await.unwrap_err();
    assert!(fault.contains("connect to localhost:9"), "{fault}");
    // The next JOIN is that of the notifier, not of the check.
    let channels = channel(server.port, &[("password", "sesame")]).await;
    send(&channels, &to(&[], &[]), "#ci").await.unwrap();
    assert!(ann.until(&[":notifier!"]).await.contains(" JOIN "));
}

#[tokio::test]
async fn check_verifies_the_certificate() {
    let directories = [TempDir::new().unwrap(), TempDir::new().unwrap()];
    let [ours, other] = [0, 1].map(|number| Authority::new(directories[number].path()).unwrap());
    let server = Ngircd::start_with_tls(&ours).await;
    let port = server.tls_port.to_string();
    let check = async |authority: &Authority| {
        let ca_file = ("ca_file", authority.file().to_str().unwrap());
        checked(
            "irc",
            &[
                ("host", "localhost"),
                ("port", &port),
                ("nick", "notifier"),
                ("channel", "#ci"),
                ca_file,
            ],
        )
        .await
    };
    assert!(check(&ours).await.unwrap().contains("accepts our login"));
    let fault = check(&other).await.unwrap_err();
    assert!(
        fault.contains("UnknownIssuer") && fault.contains("ca_file"),
        "{fault}"
    );
}
