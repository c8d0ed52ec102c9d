//! What operators of the predecessors have works as it is: every variable of their samples with each value it took, every
//! key of their document, and every command with its options. `docs/use/predecessors.md` lists all of them.

use std::process::{Command, Output};

/// Runs the program with this environment alone.
fn events(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_events"));
    command
        .args(arguments)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command
        .envs(environment.iter().copied())
        .current_dir("/")
        .output()
        .unwrap()
}

fn check(role: &str, environment: &[(&str, &str)]) -> Output {
    events(&["config", "check", "--role", role], environment)
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// The variables with those of `changed` in their place.
fn with<'a>(
    sample: &[(&'a str, &'a str)],
    changed: &[(&'a str, &'a str)],
) -> Vec<(&'a str, &'a str)> {
    let kept = sample
        .iter()
        .filter(|(name, _)| !changed.iter().any(|(other, _)| other == name));
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
        let said = said(&output);
        assert!(
            output.status.success() && said.contains("the notifier is valid"),
            "{changed:?}: {said}"
        );
    }
}

/// Telemetry's sample.
const TELEMETRY: &[(&str, &str)] = &[
    ("PULSE_EXCHANGE", "exchange/hgpushes/v2"),
    ("PULSE_USERNAME", "your-pulse-username"),
    ("PULSE_PASSWORD", "***secret***"),
    ("PULSE_QUEUE_NAME", "my-commit-telemetry-queue"),
    ("PULSE_QUEUE_ROUTING_KEY", "integration/mozilla-inbound"),
    (
        "TMO_BASE_URL",
        "http://incoming.telemetry.mozilla.org/submit",
    ),
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
        &[
            ("PULSE_QUEUE_NAME", "hgpush-inbound-test-queue"),
            ("PULSE_QUEUE_ROUTING_KEY", "#"),
        ],
        &[
            ("TMO_BASE_URL", ""),
            ("BMO_API_URL", ""),
            ("PULSE_EXCHANGE", ""),
        ],
        &[("DYNO", "worker.1")],
    ] {
        let output = check("telemetry", &with(TELEMETRY, changed));
        assert!(
            output.status.success(),
            "{changed:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

/// The document of code-review, which its bot, its backend and its events share: every key of its sample.
const DOCUMENT: &str = "\
common:
  APP_CHANNEL: testing
  influxdb: {ssl: true, password: p, username: u, database: d, port: 8086, host: influx.example.com}
  PAPERTRAIL_HOST: logs.example.com
  PAPERTRAIL_PORT: 12345
  PHABRICATOR:
    url: \"https://phabricator.example.com/api/\"
    api_key: api-xxxx
    publish: true
  repositories:
    - name: mozilla-central
      url: https://hg.example.com/mozilla-central
      try_url: ssh://hg.example.com/try
      try_name: try
      checkout: robust
      decision_env_prefix: GECKO
      ssh_user: someone@example.com
      ssh_key: a key
      use_latest_revision: true
    - name: nss
      url: https://hg.example.com/nss
      try_url: ssh://hg.example.com/nss-try
      try_mode: syntax
      try_syntax: -a -b
      checkout: batch
      batch_size: 10000
      default_revision: default
bot:
  REPORTERS: [{reporter: phabricator}]
backend:
  cors-domains: [https://example.com]
events:
  SENTRY_DSN: https://key:secret@sentry.example.com/1
  admins: [admin@example.com]
  LANDO: {url: https://lando.example.com, publish: false, publish_failure: false}
  autoland_enabled: true
  mozilla_central_enabled: true
  pulse_user: user
  pulse_password: password
  bugbug_phabricator_deployment: dev
  test_selection_enabled: false
  test_selection_share: 0.03
  test_selection_notify_addresses: [admin@example.com]
  user_blacklist: [bot-a, bot-b]
  skippable_files: [a.json]
  taskcluster_community: {client_id: a/b, access_token: token}
  communitytc_pulse_user: user
  communitytc_pulse_password: password
  risk_analysis_users: [user-a]
  ssh_key: |-
    -----BEGIN RSA PRIVATE KEY-----
    SomePrivateKeyHere
    -----END RSA PRIVATE KEY-----
";

#[test]
fn document_of_the_former_events_works_with_every_key_that_it_had() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config.yml");
    std::fs::write(&file, DOCUMENT).unwrap();
    let output = events(&["config", "check", file.to_str().unwrap()], &[]);
    let said = said(&output);
    assert!(output.status.success(), "{said}");
    // A key without an effect gets a warning, and no key is unknown.
    let warnings: Vec<&str> = said
        .lines()
        .filter_map(|line| line.strip_prefix("warning: "))
        .collect();
    let of = |key: &str| {
        warnings
            .iter()
            .filter(|warning| warning.contains(&format!("{key}: means nothing")))
            .count()
    };
    let without_effect = [
        "influxdb",
        "PAPERTRAIL_HOST",
        "PAPERTRAIL_PORT",
        "checkout",
        "batch_size",
    ]
    .map(of);
    assert_eq!(without_effect, [1, 1, 1, 2, 1], "{said}");
    assert!(!said.contains("unknown key"), "{said}");
}

#[test]
fn keys_of_the_former_listener_are_answered_with_ours() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config.yml");
    let text = format!(
        "{DOCUMENT}  ADMINS: [a@example.com]\n  PULSE_USER: user\n  PULSE_PASSWORD: password\n"
    );
    std::fs::write(&file, text).unwrap();
    let said = said(&events(&["config", "check", file.to_str().unwrap()], &[]));
    for (theirs, ours) in [
        ("ADMINS", "admins"),
        ("PULSE_USER", "pulse_user"),
        ("PULSE_PASSWORD", "pulse_password"),
    ] {
        assert!(
            said.contains(&format!("{theirs}: unknown key, did you mean {ours}?")),
            "{said}"
        );
    }
}

#[test]
fn commands_of_the_former_telemetry_have_their_names_and_options() {
    for (command, options) in [
        (
            "process-queue-messages",
            &["--debug", "--no-send", "--timeout", "--help"][..],
        ),
        (
            "dump-telemetry",
            &["--debug", "--target-repo", "--help", "<NODE>"],
        ),
        (
            "backfill-pushlog",
            &["--debug", "--no-send", "--help", "<REPO_URL> <START> <END>"],
        ),
    ] {
        let output = events(&["telemetry", command, "--help"], &[]);
        let said = said(&output);
        assert!(output.status.success(), "{said}");
        for option in options {
            assert!(said.contains(option), "{command} {option}: {said}");
        }
    }
}

const PAGE: &str = include_str!("../../../docs/use/predecessors.md");

#[test]
fn page_of_the_predecessors_lists_each_variable_key_and_command() {
    let keys = DOCUMENT.lines().filter_map(|line| line.split_once(':'));
    let keys = keys.map(|(key, _)| key.trim_start_matches([' ', '-']));
    // Keys of the bot and of the backend.
    let keys = keys.filter(|key| !["REPORTERS", "cors-domains"].contains(key));
    let samples = NOTIFIER.iter().chain(TELEMETRY).map(|(name, _)| *name);
    let monitor = "start_pulse_monitor buildCallback testCallback pulseCallback label tree platform mobile buildtype logger \
                   includeTalos join";
    let hooks = "HookPhabricator HookStaticAnalysis HookCodeCoverage";
    let commands = [
        "process-queue-messages",
        "dump-telemetry SHA",
        "backfill-pushlog REPO_URL START END",
    ];
    let commands = commands.map(|command| format!("bin/{command}"));
    let commands = commands.iter().map(String::as_str);
    let names = keys
        .chain(samples)
        .chain(commands)
        .chain(monitor.split(' '))
        .chain(hooks.split(' '));
    let missing: Vec<&str> = names
        .filter(|name| !PAGE.contains(&format!("`{name}`")))
        .collect();
    assert_eq!(missing, Vec::<&str>::new());
}

#[test]
fn page_of_the_predecessors_says_of_each_row_whether_it_is_the_same() {
    let is_row = |line: &&str| {
        line.starts_with('|') && !line.starts_with("| ---") && !line.ends_with("same or why not |")
    };
    let last = |line: &'static str| line.trim_end_matches(" |").rsplit(" | ").next().unwrap();
    let says = |cell: &&str| {
        ["same", "differs", "accepted without effect", "not read"]
            .iter()
            .any(|word| cell.starts_with(word))
    };
    let silent: Vec<&str> = PAGE
        .lines()
        .filter(is_row)
        .map(last)
        .filter(|cell| !says(cell))
        .collect();
    assert_eq!(silent, Vec::<&str>::new());
}
