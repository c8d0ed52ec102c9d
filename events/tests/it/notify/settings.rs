//! Settings, credentials, and what the start logs.

use super::*;

#[tokio::test]
async fn environment_overrides_the_file_and_is_logged_at_start() {
    let world = World::new().await;
    let mut notifier = world.start(&[
        ("PN_SERVICES", "webhook"),
        ("PULSE_QUEUE", "queue/pulseuser/mine"),
    ]);
    notifier.until_logged("listening to pulse").await;
    let line = "environment variable overrides the key of the file key=\"notify.services\" variable=\"PN_SERVICES\"";
    assert!(notifier.log().contains(line), "{}", notifier.log());
    assert_eq!(
        world.rabbit.depth("queue/pulseuser/mine").await.unwrap(),
        Some(0)
    );
    notifier.stop().await;

    for (variable, value, expected) in [
        (
            "PN_SERVICES",
            "webhok",
            "unknown channel webhok: the channels are ",
        ),
        (
            "PN_SERVICES",
            "smtp:webhok:sns",
            "set notify.smtp.email (or SMTP_EMAIL in the environment); unknown channel webhok: the channels are ",
        ),
        (
            "PULSE_QUEUE",
            "queue/other/mine",
            "queues of pulseuser begin with queue/pulseuser/",
        ),
        (
            "PULSE_SSL",
            "perhaps",
            "PULSE_SSL: expected on (1, true, yes, on) or off (0, false, no, off)",
        ),
    ] {
        let mut notifier = world.start(&[(variable, value)]);
        assert!(!notifier.ended().await.success());
        assert!(notifier.log().contains(expected), "{}", notifier.log());
    }
    let mut notifier = Process::start(&["notify"], &[]);
    assert!(!notifier.ended().await.success());
    assert!(
        notifier
            .log()
            .contains("no channel is enabled: set PN_SERVICES"),
        "{}",
        notifier.log()
    );
}

/// A service of Amazon's, and a container's source of credentials: with which key each call was signed, and with which token
/// beside it.
async fn amazon() -> (String, Arc<Mutex<Vec<(String, String)>>>) {
    let signed = Arc::new(Mutex::new(Vec::new()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let given = json!({ "AccessKeyId": "ASIACONTAINER", "SecretAccessKey": "s3cret", "Token": "t0ken",
                        "Expiration": "2099-01-01T00:00:00Z" });
    let noted = Arc::clone(&signed);
    let call = move |headers: HeaderMap| async move {
        let text = |name: &str| {
            headers
                .get(name)
                .map(|value| value.to_str().unwrap().to_owned())
                .unwrap_or_default()
        };
        let key = text("authorization")
            .split_once("Credential=")
            .unwrap()
            .1
            .split('/')
            .next()
            .unwrap()
            .to_owned();
        noted.lock().push((key, text("x-amz-security-token")));
        "<PublishResponse/>"
    };
    let routes = Router::new()
        .route(
            "/credentials",
            axum::routing::get(async move || given.to_string()),
        )
        .fallback(call);
    tokio::spawn(async move { axum::serve(listener, routes).await });
    (url, signed)
}

#[tokio::test]
async fn credentials_of_amazon_are_found_where_its_own_programs_find_them() {
    let world = World::new().await;
    let (amazon, signed) = amazon().await;
    let profile = world.directory.path().join("credentials");
    std::fs::write(
        &profile,
        "[ci]\naws_access_key_id = AKIAPROFILE\naws_secret_access_key = s3cret\n",
    )
    .unwrap();
    let profile = profile.to_str().unwrap();
    let container = format!("{amazon}/credentials");
    let nowhere = [
        ("AWS_EC2_METADATA_DISABLED", "true"),
        ("AWS_CONFIG_FILE", "/nonexistent"),
    ];
    let task = world.task(&json!({ "plugins": ["sns"] }));
    for (more, expected) in [
        (
            &[("AWS_CONTAINER_CREDENTIALS_FULL_URI", container.as_str())][..],
            Some(("ASIACONTAINER", "t0ken")),
        ),
        (
            &[
                ("AWS_SHARED_CREDENTIALS_FILE", profile),
                ("AWS_PROFILE", "ci"),
            ][..],
            Some(("AKIAPROFILE", "")),
        ),
        (
            &[
                ("AWS_ACCESS_KEY_ID", "AKIASET"),
                ("AWS_SECRET_ACCESS_KEY", "s3cret"),
            ][..],
            Some(("AKIASET", "")),
        ),
        (&[][..], None),
    ] {
        let set = [
            ("PN_SERVICES", "sns"),
            ("SNS_ARN", "arn:aws:sns:us-west-2:123456789012:ci"),
            ("AWS_ENDPOINT_URL", amazon.as_str()),
        ];
        let mut command = Command::new(env!("CARGO_BIN_EXE_events"));
        command
            .args([
                "notify",
                "replay",
                &task,
                "task-failed",
                "--config",
                &world.config(),
            ])
            .env_clear();
        command
            .envs(world.environment())
            .envs(set)
            .envs(nowhere)
            .envs(more.iter().copied());
        let output = command.output().await.unwrap();
        let told = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        let found = std::mem::take(&mut *signed.lock());
        let found: Vec<_> = found
            .iter()
            .map(|(key, token)| (key.as_str(), token.as_str()))
            .collect();
        assert_eq!(found, Vec::from_iter(expected), "{told}");
        assert_eq!(output.status.success(), expected.is_some(), "{told}");
        assert!(
            expected.is_some() || told.contains("or give this process a role that may"),
            "{told}"
        );
        assert!(
            !told.contains("s3cret") && !told.contains("t0ken"),
            "{told}"
        );
    }
}

/// As the notifier's predecessor was set up: without a document.
#[tokio::test]
async fn environment_alone_is_enough_and_unreachable_recipients_are_listed() {
    let world = World::new().await;
    let PulseSettings {
        address,
        vhost,
        user,
        password,
        ..
    } = world.rabbit.settings();
    let (port, own) = (address.port.to_string(), world.environment());
    let set = [
        ("PN_SERVICES", "smtp:irc"),
        ("PULSE_HOST", address.host.as_str()),
        ("PULSE_PORT", &port),
        ("PULSE_SSL", "0"),
        ("PULSE_VHOST", &vhost),
        ("PULSE_LOGIN", &user),
        ("PULSE_PASSWORD", password.expose_secret()),
        ("SMTP_EMAIL", "robot@example.com"),
        ("SMTP_PASSWD", "hunter2"),
        ("SMTP_HOST", "localhost"),
        ("SMTP_PORT", "9"),
        ("IRC_HOST", "localhost"),
        ("IRC_PORT", "9"),
        ("IRC_NAME", "notifier"),
        ("IRC_NICK", "notifier"),
        ("IRC_CHAN", "#ci"),
    ];
    let environment: Vec<_> = own
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .chain(set)
        .collect();
    let mut notifier = Process::start(&["notify", "--grace", "1"], &environment);
    notifier.until_logged("listening to pulse").await;
    // An address that can be none is known to be none without a relay.
    world
        .fails(&world.task(&json!({ "plugins": ["smtp"], "emails": ["nobody"] })))
        .await;
    notifier.until_logged("message failed permanently").await;
    while world.bus().depth(&NOTIFY.spec()).await.unwrap().dead == 0 {
        SystemClock.sleep(Duration::from_millis(20)).await;
    }
    let (well, out, err) = world.notify(&["muted"]).await;
    assert!(
        well && out.contains("smtp")
            && out.contains("nobody")
            && out.contains("it is not a mail address"),
        "{out}{err}"
    );
    let (well, _, err) = world.notify(&["unmute", "smtp", "somebody"]).await;
    assert!(
        !well && err.contains("cannot unmute somebody on smtp: it is not muted"),
        "{err}"
    );
    let (well, out, err) = world.notify(&["unmute", "smtp", "nobody"]).await;
    assert!(well && out == "unmuted nobody on smtp\n", "{out}{err}");
    let (well, out, err) = world.notify(&["muted"]).await;
    assert!(well && out == "no recipient is muted\n", "{out}{err}");
    assert!(!notifier.log().contains("hunter2"));
    notifier.stop().await;
}
