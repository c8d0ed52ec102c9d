//! Settings, and their check.

use super::*;

/// The predecessor has these settings alone. A relay without STARTTLS gets no login and no mail.
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
            "notify.smtp.ca_file is not a readable file with certificates",
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
        error.contains("starttls or tls, which a password needs"),
        "{error}"
    );
}
