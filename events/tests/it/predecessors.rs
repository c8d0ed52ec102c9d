//! The environments of the predecessors work as they are: every variable of their samples, with each value it took.

use std::process::{Command, Output};

fn check(role: &str, environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_events"));
    command
        .args(["check-config", "--role", role])
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.envs(environment.iter().copied()).current_dir("/").output().unwrap()
}

/// The variables with those of `changed` in their place.
fn with<'a>(sample: &[(&'a str, &'a str)], changed: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let kept = sample.iter().filter(|(name, _)| !changed.iter().any(|(other, _)| other == name));
    kept.chain(changed).copied().collect()
}

/// The notifier's sample.
const NOTIFIER: &[(&str, &str)] = &[
    ("PN_SERVICES", "irc:log_collect"),
    ("PULSE_HOST", "pulse.mozilla.org"),
    ("PULSE_LOGIN", "my_username"),
    ("PULSE_PASSWORD", "my_pass"),
    ("PULSE_SSL", "True"),
    ("PULSE_PORT", "5671"),
    ("PULSE_QUEUE", "some_queue"),
    ("AWS_ACCESS_KEY_ID", "key1"),
    ("AWS_SECRET_ACCESS_KEY", "key2"),
    ("SNS_ARN", "arn:aws:sns:us-west-2:123456789012:tasks"),
    ("SMTP_EMAIL", "email_address@host.com"),
    ("SMTP_PASSWD", "email_pass"),
    ("SMTP_HOST", "smtp.gmail.com"),
    ("SMTP_PORT", "587"),
    ("SMTP_TEMPLATE", "True"),
    ("S3_BUCKET", "i_has_a_bucket"),
    ("SES_EMAIL", "sender_mail@host.com"),
    ("IRC_HOST", "irc.mozilla.org"),
    ("IRC_NAME", "\"myrealname\""),
    ("IRC_PORT", "6697"),
    ("IRC_NICK", "nickname"),
    ("IRC_CHAN", "#ci"),
    ("IRC_PASS", "irc_pass"),
    ("FLUX_RECORD", "0"),
];

#[test]
fn environment_of_the_former_notifier_works_with_each_value_that_it_took() {
    for changed in [
        &[][..],
        &[("PN_SERVICES", "smtp")],
        &[("PN_SERVICES", "ses")],
        &[("PN_SERVICES", "sns")],
        &[("PN_SERVICES", "repulse")],
        &[("PN_SERVICES", "ses:smtp:sns:irc:log_collect:repulse")],
        &[("PN_SERVICES", "smtp"), ("SMTP_TEMPLATE", "False")],
        &[("PN_SERVICES", "smtp"), ("SMTP_TEMPLATE", "true")],
        &[("PN_SERVICES", "smtp"), ("SMTP_TEMPLATE", "0")],
        &[("PN_SERVICES", "smtp"), ("SMTP_TEMPLATE", "1")],
        &[("PN_SERVICES", "smtp"), ("SMTP_TEMPLATE", "")],
        &[("PULSE_SSL", "False"), ("PULSE_PORT", "5672")],
        &[("PULSE_SSL", "1")],
        &[("PULSE_SSL", "0")],
        &[("PULSE_SSL", "")],
        &[("PULSE_PORT", "")],
        &[("PULSE_QUEUE", "queue/my_username/some_queue")],
        &[("FLUX_RECORD", "1")],
        &[("FLUX_RECORD", "True")],
        &[("FLUX_RECORD", "False")],
        &[("FLUX_RECORD", "")],
        &[("IRC_CHAN", "ci")],
        &[("IRC_PASS", "")],
        &[("ROUTING_KEYS", "primary.#:route.index.#")],
        &[("DYNO", "worker.1")],
    ] {
        let output = check("notify", &with(NOTIFIER, changed));
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.contains("the notifier is right"), "{changed:?}: {said}");
    }
}

/// Telemetry's sample.
const TELEMETRY: &[(&str, &str)] = &[
    ("PULSE_EXCHANGE", "exchange/hgpushes/v2"),
    ("PULSE_USERNAME", "your-pulse-username"),
    ("PULSE_PASSWORD", "***secret***"),
    ("PULSE_QUEUE_NAME", "my-commit-telemetry-queue"),
    ("PULSE_QUEUE_ROUTING_KEY", "integration/mozilla-inbound"),
    ("TMO_BASE_URL", "http://incoming.telemetry.mozilla.org/submit"),
    ("TMO_PING_NAMESPACE", "eng-workflow"),
    ("TMO_PING_DOCTYPE", "hgpush"),
    ("TMO_PING_DOCVERSION", "1"),
    ("BMO_API_URL", "https://bugzilla.mozilla.org/rest"),
    ("SENTRY_DSN", "https://key:secret@sentry.example.com/1"),
];

#[test]
fn environment_of_the_former_telemetry_works_as_it_is() {
    for changed in [
        &[][..],
        &[("PULSE_QUEUE_NAME", "hgpush-inbound-test-queue"), ("PULSE_QUEUE_ROUTING_KEY", "#")],
        &[("TMO_BASE_URL", ""), ("BMO_API_URL", ""), ("PULSE_EXCHANGE", "")],
        &[("DYNO", "worker.1")],
    ] {
        let output = check("telemetry", &with(TELEMETRY, changed));
        assert!(output.status.success(), "{changed:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
