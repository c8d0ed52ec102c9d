//! A configuration as a whole.

mod digest;
mod git;
mod lando;
mod reference;
mod roles;
mod secrets;

use worker::TryMode;

use super::*;

const GOOD: &str = "\
common:
  APP_CHANNEL: testing
  SENTRY_DSN: https://sentry.example.com/1
  PHABRICATOR:
    url: https://phabricator.example.com
    api_key: api-secret
    publish: true
  user_blacklist: [alice]
events:
  ssh_key: |
    a key
  repositories:
    - name: mozilla-central
      url: https://hg.example.com/mozilla-central
      try_url: ssh://hg.example.com/try
      try_mode: syntax
      try_syntax: -a -b
      checkout: batch
      batch_size: 10000
  user_blacklist: [bob, carol]
  build_expiry: 36h
";

#[test]
fn a_file_of_the_original_is_read_and_events_overrides_common() {
    let (config, faults) = Config::parse(GOOD);
    let config = config.expect("it is right");
    assert_eq!(config.skipped_authors, ["bob", "carol"]);
    assert_eq!(config.build_expiry, Duration::from_secs(36 * 3600));
    assert!(config.phabricator.publish);
    let repository = &config.repositories[0];
    assert_eq!(repository.try_mode, TryMode::Syntax("-a -b".to_owned()));
    assert_eq!(
        (
            repository.try_name.as_str(),
            repository.default_revision.as_str()
        ),
        ("try", "tip")
    );
    assert!(
        repository.ssh_key.is_some(),
        "the common key is the repository's"
    );
    let warnings: Vec<_> = faults.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        warnings,
        [
            "line 3: common.SENTRY_DSN: is not a DSN, so errors are not reported: expected https://KEY@HOST/PROJECT",
            "line 9: events.docs_url: is not set: a build that ends without a push has no link to the reason, which Phorge \
             hides on the revision",
            "line 9: events.webhook_secret: is not set: whoever reaches the port can start builds",
            "line 18: events.repositories[0].checkout: means nothing any more: clones have no working copy",
            "line 19: events.repositories[0].batch_size: means nothing any more: clones have no working copy",
        ]
    );
}

#[test]
fn address_of_phabricator_may_be_that_of_its_api() {
    for (given, expected) in [
        (
            "https://phabricator.example.com",
            "https://phabricator.example.com/",
        ),
        (
            "https://phabricator.example.com/api",
            "https://phabricator.example.com/",
        ),
        (
            "https://phabricator.example.com/api/",
            "https://phabricator.example.com/",
        ),
        (
            "https://example.com/review/api/",
            "https://example.com/review/",
        ),
        ("https://example.com/review", "https://example.com/review"),
    ] {
        let text = GOOD.replace("https://phabricator.example.com", given);
        assert_eq!(
            Config::parse(&text)
                .0
                .expect("it is right")
                .phabricator
                .url
                .as_str(),
            expected
        );
    }
}

#[test]
fn restricted_revisions_and_pages_of_builds_are_as_configured() {
    let read = |more: &str| Config::parse(&format!("{GOOD}{more}"));
    let config = read("").0.expect("it is right");
    assert_eq!(
        (config.view_policies, config.docs_url),
        (ViewPolicies::also(&[]), None)
    );
    let warns = |more: &str, of: &str| read(more).1.to_string().contains(of);
    let (no_link, no_page) = ("docs_url: is not set", "public_url: has no effect yet");
    assert!(warns("", no_link) && !warns("", no_page));
    assert!(!warns("  docs_url: https://docs.example.com\n", no_link));
    // No page of a build is served.
    let public_url = "  public_url: https://events.example.com\n";
    assert!(warns(public_url, no_link) && warns(public_url, no_page));
    let config =
        read("  public_policies: [PHID-PLCY-staff]\n  docs_url: https://docs.example.com\n").0;
    let config = config.expect("it is right");
    assert_eq!(
        config.view_policies,
        ViewPolicies::also(&["PHID-PLCY-staff".to_owned()])
    );
    assert_eq!(
        config.docs_url.map(String::from).as_deref(),
        Some("https://docs.example.com/")
    );
    let config = read("  restricted_revisions: build\n")
        .0
        .expect("it is right");
    assert_eq!(config.view_policies, ViewPolicies::Any);
    let (config, faults) = read("  restricted_revisions: yes\n");
    assert!(config.is_none());
    assert!(
        faults
            .to_string()
            .contains("restricted_revisions: expected private or build"),
        "{faults}"
    );
}

#[test]
fn every_fault_is_found_at_once_with_its_path_and_line() {
    let (config, faults) = Config::parse(
        "\
events:
  PHABRICATOR:
    url: ftp://x
    publish: perhaps
    api_keys: hunter2
  repositories:
    - name: one
      url: [x]
      try_mode: yaml
    - name: one
      url: -x
      clone_slots: 0
      try_url: y
      try_mode: syntax
    - 7
  user_blacklist: alice
  build_expiry: 24
  skipable_files: [a]
",
    );
    assert!(config.is_none());
    let expected = "\
error: line 2: events.PHABRICATOR.api_key: is missing, expected a text that is not empty
error: line 3: events.PHABRICATOR.url: expected an http or https url, found another text
error: line 4: events.PHABRICATOR.publish: expected true or false, found another text
error: line 7: events.repositories[0].try_url: is missing, expected a text that is not empty
error: line 8: events.repositories[0].url: expected a text that is not empty, found a list
error: line 9: events.repositories[0].try_mode: expected json or syntax, found another text
error: line 10: events.repositories[1].name: is the name of an earlier repository too
error: line 10: events.repositories[1].try_syntax: is missing, expected a try syntax, since try_mode is syntax
error: line 11: events.repositories[1].url: expected a text that does not begin with - and holds no control characters
error: line 12: events.repositories[1].clone_slots: expected a whole number from 1 to 10, found 0
error: line 15: events.repositories[2]: expected a map, found a number
error: line 16: events.user_blacklist: expected a list of texts, found another text
error: line 17: events.build_expiry: expected a duration such as 24h or 90m, found a number
warning: line 1: events.docs_url: is not set: a build that ends without a push has no link to the reason, which Phorge hides on the revision
warning: line 1: events.webhook_secret: is not set: whoever reaches the port can start builds
warning: line 5: events.PHABRICATOR.api_keys: unknown key, did you mean api_key?
warning: line 18: events.skipable_files: unknown key, did you mean skippable_files?";
    assert_eq!(faults.to_string(), expected);
}

#[test]
fn there_is_a_secure_project_unless_an_empty_list_says_that_there_is_none() {
    let secure = |text: &str| {
        let (config, faults) = Config::parse(&format!("{GOOD}{text}"));
        config.unwrap_or_else(|| panic!("{faults}")).secure_projects
    };
    assert_eq!(secure(""), ["secure-revision"]);
    assert_eq!(secure("  secure_projects:\n"), ["secure-revision"]);
    assert_eq!(secure("  secure_projects: []\n"), Vec::<String>::new());
    assert_eq!(
        secure("  secure_projects: [hidden, bmo-core-security]\n"),
        ["hidden", "bmo-core-security"]
    );
}

#[test]
fn lando_receives_nothing_unless_that_is_wanted() {
    let parse = |text: &str| Config::parse(&format!("{GOOD}{text}"));
    let lando = |text: &str| {
        let (config, faults) = parse(text);
        config.unwrap_or_else(|| panic!("{faults}")).lando
    };
    assert_eq!(lando(""), None);
    let url = Url::parse("https://lando.example.com/api").expect("a url");
    let quiet = LandoConfig {
        url,
        publish: false,
        publish_failure: false,
    };
    assert_eq!(
        lando("  LANDO: {url: https://lando.example.com/api}\n"),
        Some(quiet.clone())
    );
    let loud = LandoConfig {
        publish: true,
        publish_failure: true,
        ..quiet
    };
    let text =
        "  LANDO: {url: https://lando.example.com/api, publish: true, publish_failure: true}\n";
    assert_eq!(lando(text), Some(loud));
    for (text, expected) in [
        (
            "LANDO: {publish: true}",
            "events.LANDO.url: is missing, expected an http or https url",
        ),
        (
            "LANDO: {url: lando.example.com}",
            "events.LANDO.url: expected an http or https url, found another text",
        ),
        (
            "LANDO: {url: https://x, publish: 1}",
            "events.LANDO.publish: expected true or false, found a number",
        ),
        (
            "LANDO: https://x",
            "events.LANDO: expected a map, found another text",
        ),
    ] {
        let (config, faults) = parse(&format!("  {text}\n"));
        assert!(config.is_none());
        assert!(faults.to_string().contains(expected), "{faults}");
    }
}

#[test]
fn limits_of_a_stack_can_be_set_and_are_those_of_the_worker_else() {
    let (config, _) = Config::parse(&format!(
        "{GOOD}  max_stack_size: 1GB\n  max_apply_time: 5m\n  max_author_time: 20m\n"
    ));
    let config = config.expect("it is right");
    assert_eq!(
        (config.max_stack_size, config.max_apply_time),
        (Size(1_000_000_000), Duration::from_secs(300))
    );
    assert_eq!(config.max_author_time, Duration::from_secs(1200));
    let (config, _) = Config::parse(GOOD);
    let (config, limits) = (config.expect("it is right"), worker::Limits::default());
    assert_eq!(
        (config.max_stack_size, config.max_apply_time),
        (Size(limits.stack_bytes), limits.apply_time)
    );
    assert_eq!(config.max_author_time, limits.author_time);
}

#[test]
fn a_build_plan_is_a_phid_of_its_kind() {
    let parse = |plan: &str| Config::parse(&format!("{GOOD}  build_plan_phid: {plan}\n"));
    let (config, _) = parse("PHID-HMCP-n3nisprxbb7ehv2lzdcb");
    assert!(config.expect("it is right").build_plan.is_some());
    for plan in ["PHID-HMBT-n3nisprxbb7ehv2lzdcb", "7", "plan"] {
        let (config, faults) = parse(plan);
        assert!(config.is_none());
        assert!(
            faults
                .to_string()
                .contains("expected the PHID of a build plan, PHID-HMCP-…"),
            "{faults}"
        );
    }
}

#[test]
fn a_budget_is_a_size_with_its_unit() {
    let parse = |budget: &str| Config::parse(&format!("{GOOD}  clones_budget: {budget}\n"));
    let (config, _) = parse("200 GB");
    assert_eq!(
        config.expect("it is right").clones_budget,
        Some(Size(200_000_000_000))
    );
    for (budget, found) in [
        ("200", "a number"),
        ("much", "another text"),
        ("0GB", "another text"),
        ("[1GB]", "a list"),
    ] {
        let (config, faults) = parse(budget);
        assert!(config.is_none());
        let expected = format!(
            "error: line 22: events.clones_budget: expected a size with its unit, such as 200GB or 500 MiB, found {found}"
        );
        assert!(faults.to_string().contains(&expected), "{faults}");
    }
}

#[test]
fn garbage_is_refused_with_a_line() {
    for (text, expected) in [
        (
            "",
            "line 1: document: the document is empty, expected the sections common and events",
        ),
        ("a: [b\nc: d", "not YAML"),
        ("- a", "line 1: document: expected a map, found a list"),
        ("a: 1\n---\nb: 2", "document: there is a second document"),
        ("events: {<<: {}}", "merge keys are not supported"),
        (
            "events: {repositories: []}",
            "line 1: events.repositories: expected at least one, found an empty list",
        ),
        (
            "other: 1",
            "events: is missing, expected a map with our settings: every key is below it",
        ),
        (
            "events: {}",
            "error: line 1: events.PHABRICATOR: is missing, expected a map\nerror: line 1: events.repositories: is missing, \
             expected a list of maps\n",
        ),
        (
            "events: 1",
            "line 1: events: expected a map, found a number",
        ),
    ] {
        let (config, faults) = Config::parse(text);
        assert!(config.is_none());
        assert!(faults.to_string().contains(expected), "{text:?}: {faults}");
    }
}

#[test]
fn a_document_that_is_too_deep_or_too_long_is_refused_with_its_line() {
    let mut nested = "events:\n  a: ".to_owned();
    nested.push_str(&"{a: ".repeat(20_000));
    let mut lines = "events:\n".to_owned();
    for level in 1..20_000 {
        lines.push_str(&" ".repeat(level.min(60)));
        lines.push_str("- ");
        if level > 60 {
            lines.push_str(&"- ".repeat(20_000));
            break;
        }
    }
    let long = format!("events:\n{}", "  # a comment\n".repeat(100_000));
    for (text, expected) in [
        (
            nested.as_str(),
            "line 2: document: maps and lists are nested more than 32 levels deep",
        ),
        (
            lines.as_str(),
            "document: maps and lists are nested more than 32 levels deep",
        ),
        (
            long.as_str(),
            "document: the document is longer than 1048576 bytes",
        ),
    ] {
        let (config, faults) = Config::parse(text);
        assert!(config.is_none());
        assert!(faults.to_string().contains(expected), "{faults}");
    }
}

#[test]
fn aliases_that_make_a_document_too_deep_or_too_long_are_refused_with_their_line() {
    let mut bomb = "events:\n  a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n".to_owned();
    for level in 1..=9 {
        let below = format!("*a{}, ", level - 1).repeat(9);
        bomb.push_str(&format!("  a{level}: &a{level} [{below}]\n"));
    }
    let text = "x".repeat(100_000);
    let long = format!("events:\n  a: &a {text}\n  b: [{}]\n", "*a, ".repeat(10));
    let mut deep = "events:\n  a0: &a0 []\n".to_owned();
    for level in 1..40 {
        deep.push_str(&format!("  a{level}: &a{level} [*a{}]\n", level - 1));
    }
    let too_long =
        "document: the document is longer than 1048576 bytes with its aliases written out";
    for (text, expected) in [
        (bomb, format!("line 7: {too_long}")),
        (long, format!("line 3: {too_long}")),
        (
            deep,
            "line 32: document: maps and lists are nested more than 32 levels deep".to_owned(),
        ),
    ] {
        let (config, faults) = Config::parse(&text);
        assert!(config.is_none());
        assert!(faults.to_string().contains(&expected), "{faults}");
    }
    let (config, faults) = Config::parse(&format!(
        "{GOOD}  public_policies: &names [PHID-PLCY-staff]\n  secure_projects: *names\n"
    ));
    let config = config.unwrap_or_else(|| panic!("{faults}"));
    assert_eq!(config.secure_projects, ["PHID-PLCY-staff"]);
}

#[test]
fn number_with_a_fraction_is_not_a_whole_one() {
    for (keys, expected) in [
        (
            "clone_slots: 2.0",
            "repositories[0].clone_slots: expected a whole number from 1 to 10, found 2.0",
        ),
        (
            "notify: {rate_limit_per_minute: 3.0}",
            "notify.rate_limit_per_minute: expected a whole number from 1 to 10000, found 3.0",
        ),
        (
            "notify: {irc: {password: 2.00}}",
            "notify.irc.password: expected a text, a whole number, true or false, found a number",
        ),
        (
            "HOOKS: [{type: code-coverage, hookId: x, interval: 60.0}]",
            "HOOKS[0].interval: expected a duration such as 60s, or a number of seconds, found a number",
        ),
    ] {
        let text = if keys.starts_with("clone_slots") {
            GOOD.replace("      batch_size: 10000\n", &format!("      {keys}\n"))
        } else {
            format!("{GOOD}  {keys}\n")
        };
        let (config, faults) = Config::parse(&text);
        assert!(config.is_none(), "{keys}");
        assert!(
            faults.to_string().contains(&format!("events.{expected}")),
            "{faults}"
        );
    }
    let (config, faults) = Config::parse(&format!("{GOOD}  test_selection_share: 1.0\n"));
    assert!(config.is_some(), "{faults}");
}
