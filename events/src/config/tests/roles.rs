//! The keys that each role reads and requires.

use super::*;

#[test]
fn the_web_server_requires_and_keeps_its_own_keys_alone() {
    let small = "events:
  webhook_secret: 0123456789abcdef
  redis_namespace: review
  docs_url: https://docs.example.com
";
    let (config, faults) = WebConfig::parse(small);
    let config = config.unwrap_or_else(|| panic!("{faults}"));
    assert_eq!(
        (faults.to_string().as_str(), config.redis_namespace.as_str()),
        ("", "review")
    );
    assert!(config.server.webhook_secret.is_some() && config.server.api_token.is_none());

    let (config, faults) =
        WebConfig::parse(&format!("{GOOD}  api_tokn: x\n  build_plan_phid: 7\n"));
    assert!(
        config.is_some(),
        "what is wrong for another role is no fault of this one: {faults}"
    );
    let warnings: Vec<_> = faults.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        warnings,
        [
            "line 3: common.SENTRY_DSN: is not a DSN, so errors are not reported: expected https://KEY@HOST/PROJECT",
            "line 9: events.webhook_secret: is not set: whoever reaches the port can start builds",
            "line 22: events.api_tokn: unknown key, did you mean api_token?",
        ]
    );
}

#[test]
fn a_worker_neither_requires_nor_keeps_the_secrets_of_the_web_server() {
    let (config, faults) = Config::parse_worker(&format!("{GOOD}  api_token: 0123456789abcdef\n"));
    let config = config.unwrap_or_else(|| panic!("{faults}"));
    assert!(config.server.api_token.is_none() && config.server.webhook_secret.is_none());
    assert!(
        !faults.to_string().contains("webhook_secret") && !faults.to_string().contains("api_token"),
        "{faults}"
    );
    assert!(config.phabricator.publish);
}

#[test]
fn commands_of_operators_need_only_the_keys_that_they_use() {
    let (records, faults) =
        RecordsConfig::parse("events: {redis_namespace: x, build_retention: 2h, PHABRICATOR: 7}");
    let records = records.unwrap_or_else(|| panic!("{faults}"));
    assert_eq!(
        (records.build_retention, records.redis_namespace.as_str()),
        (Duration::from_secs(7200), "x")
    );
    assert_eq!((records.publish, faults.to_string().as_str()), (None, ""));
    for (phabricator, publish) in [
        ("{publish: true}", true),
        ("{publish: no}", false),
        ("{}", false),
    ] {
        let (records, _) = RecordsConfig::parse(&format!("events: {{PHABRICATOR: {phabricator}}}"));
        assert_eq!(
            records.and_then(|records| records.publish),
            Some(publish),
            "{phabricator}"
        );
    }
    let (reports, faults) = ReportsConfig::parse("events: {admins: [ann@example.com]}");
    assert_eq!(
        (
            reports.expect("it is right").triggers.admins.len(),
            faults.to_string().as_str()
        ),
        (1, "")
    );
    let (clones, faults) =
        MercurialConfig::parse("events: {repositories: [{name: a, url: b, try_url: c}]}");
    assert_eq!(
        (
            clones.expect("it is right").repositories.len(),
            faults.to_string().as_str()
        ),
        (1, "")
    );
}
