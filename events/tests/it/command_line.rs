//! Configurations and arguments that the program accepts or refuses.

use std::{
    os::unix::fs::PermissionsExt,
    process::{Command, Output},
};

fn events(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_events"));
    command
        .args(arguments)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.envs(environment.iter().copied()).output().unwrap()
}

fn said(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/example.yml");

#[test]
fn web_or_worker_alone_need_redis() {
    for (arguments, environment) in [
        (vec!["run", "web", "--config", EXAMPLE], vec![]),
        (vec!["run", "worker", "--config", EXAMPLE], vec![]),
        (vec!["run", "--config", EXAMPLE], vec![("DYNO", "worker.1")]),
        (
            vec!["run", "web", "--config", EXAMPLE],
            vec![("REDIS_URL", "")],
        ),
    ] {
        let output = events(&arguments, &environment);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        let said = said(&output);
        assert!(
            said.contains("set REDIS_URL") && !said.contains("api-000"),
            "{arguments:?}: {said}"
        );
    }
}

#[test]
fn example_configurations_are_valid_except_for_their_placeholders() {
    let directory = tempfile::tempdir().unwrap();
    let copy = |name: &str| {
        let path = directory.path().join(name);
        std::fs::copy(
            format!("{}/../config/{name}", env!("CARGO_MANIFEST_DIR")),
            &path,
        )
        .unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path.display().to_string()
    };
    let (all, git, web) = (
        copy("example.yml"),
        copy("example.git.yml"),
        copy("web.example.yml"),
    );
    for (arguments, right) in [
        (
            vec!["config", "check", &all],
            "is valid: it has the repositories mozilla-central",
        ),
        (
            vec!["config", "check", &git],
            "is valid: it has the repositories product",
        ),
        (
            vec!["config", "check", "--role", "web", &web],
            "is valid for web",
        ),
    ] {
        let output = events(&arguments, &[]);
        let said = said(&output);
        assert!(output.status.success() && said.contains(right), "{said}");
        let warnings: Vec<&str> = said
            .lines()
            .filter(|line| line.starts_with("warning"))
            .collect();
        assert!(
            warnings
                .iter()
                .all(|warning| warning.contains("is a placeholder"))
                && warnings.len() < 3,
            "{said}"
        );
    }
}

/// A role requires its own keys, and none of another role.
#[test]
fn each_role_starts_with_a_configuration_that_has_its_own_keys_alone() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let web = file("web.yml", "events: {webhook_secret: 0123456789abcdef}\n");
    let notify = file(
        "notify.yml",
        "events: {pulse_user: us, pulse_password: x, notify: {services: [webhook], webhook: {url: 'https://hooks.example'}}}\n",
    );
    // Without Redis, a role with all its other settings reports that, and exits.
    for (arguments, environment) in [
        (vec!["run", "web", "--config", &web], vec![]),
        (vec!["run", "--config", &web], vec![("DYNO", "web.1")]),
        (
            vec!["notify", "--config", &notify],
            vec![("DYNO", "notify.1")],
        ),
        (vec!["run", "--config", &notify], vec![("DYNO", "notify.1")]),
        (
            vec!["run", "notify"],
            vec![("DYNO", "notify.1"), ("PN_SERVICES", "webhook")],
        ),
        (vec!["run", "worker", "--config", EXAMPLE], vec![]),
    ] {
        let output = events(&arguments, &environment);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(
            said(&output).contains("set REDIS_URL"),
            "{arguments:?}: {}",
            said(&output)
        );
    }
    let output = events(&["run", "worker", "--config", &web], &[]);
    assert!(
        said(&output).contains("events.PHABRICATOR: is missing"),
        "{}",
        said(&output)
    );
}

/// Redis is away: a command that needs nothing else fails only there.
#[test]
fn commands_on_queues_and_records_need_no_phabricator_in_the_configuration() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.yml");
    std::fs::write(
        &path,
        "events: {pulse_user: us, pulse_password: x, redis_namespace: tasks}\n",
    )
    .unwrap();
    let path = path.to_str().unwrap();
    let redis = ("REDIS_URL", "redis://127.0.0.1:1");
    for command in [
        &["queues", "list"][..],
        &["dead-letters", "list"],
        &["builds", "list"],
        &["builds", "show", "D1"],
        &["builds", "retry", "D1"],
        &["builds", "cancel", "D1"],
        &["notify", "muted"],
    ] {
        let (group, action) = command.split_at(1);
        for arguments in [
            [command, &["--config", path]].concat(),
            [group, &["--config", path, "--json"], action].concat(),
            command.to_vec(),
        ] {
            let output = events(&arguments, &[redis]);
            let said = said(&output);
            assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
            assert!(
                said.contains("redis") && !said.contains("PHABRICATOR"),
                "{arguments:?}: {said}"
            );
        }
    }
    let clones = directory.path().join("clones");
    std::fs::create_dir(&clones).unwrap();
    let repos = directory.path().join("repos.yml");
    let text = format!(
        "events: {{clones_dir: {}, repositories: [{{name: a, url: 'https://b', try_url: 'ssh://c'}}]}}\n",
        clones.display()
    );
    std::fs::write(&repos, text).unwrap();
    let output = events(
        &["repositories", "list", "--config", repos.to_str().unwrap()],
        &[],
    );
    assert!(
        output.status.success() && said(&output).contains("missing"),
        "{}",
        said(&output)
    );
}

#[test]
fn preview_of_the_notifier_is_refused_before_an_action() {
    for action in [
        &["replay", "a-task", "task-failed"][..],
        &["muted"],
        &["unmute", "smtp", "ann@example.com"],
    ] {
        let output = events(&[&["notify", "--dry-run"][..], action].concat(), &[]);
        assert_eq!(output.status.code(), Some(2), "{action:?}");
        let text = said(&output);
        assert!(
            text.contains("`events notify replay --dry-run TASK STATUS`")
                && text.contains("Usage: events notify [OPTIONS] [COMMAND]"),
            "{action:?}: {text}"
        );
    }
}

#[test]
fn check_of_the_notifier_fails_where_its_start_fails() {
    let channel = [
        ("PN_SERVICES", "smtp"),
        ("SMTP_EMAIL", "robot@example.com"),
        ("SMTP_HOST", "localhost"),
    ];
    let user = [("PULSE_LOGIN", "us"), ("PULSE_PASSWORD", "hunter2")];
    let check = &["config", "check", "--role", "notify"][..];
    for (more, problem) in [
        (
            &[][..],
            "the notifier needs a user on Pulse: set pulse_user",
        ),
        (
            &[user[0], user[1], ("PULSE_QUEUE", "queue/other/mine")],
            "queues of us begin with queue/us/",
        ),
    ] {
        for command in [check, &["notify"]] {
            let output = events(command, &[&channel[..], more].concat());
            assert_eq!(output.status.code(), Some(1), "{command:?}");
            let text = said(&output);
            assert!(
                text.contains(problem) && !text.contains("is valid"),
                "{command:?}: {text}"
            );
        }
    }
    let output = events(check, &[&channel[..], &user].concat());
    assert!(output.status.success(), "{}", said(&output));
}

#[test]
fn environment_names_the_secret_that_holds_the_configuration() {
    let credentials = [("TASKCLUSTER_SECRET", "project/review/testing")];
    let needed =
        "the secret project/review/testing needs TASKCLUSTER_PROXY_URL, or TASKCLUSTER_CLIENT_ID";
    for arguments in [
        &["run", "web"][..],
        &["config", "check"],
        &["queues", "list"],
        &["notify"],
        &["monitor"],
        &["repositories", "list"],
    ] {
        let output = events(arguments, &credentials);
        assert!(
            said(&output).contains(needed),
            "{arguments:?}: {}",
            said(&output)
        );
    }
}

#[test]
fn faulty_configuration_is_refused_with_all_its_faults() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.yml");
    std::fs::write(
        &path,
        "events:\n  PHABRICATOR: {url: 7}\n  skipable_files: []\n",
    )
    .unwrap();
    for command in [
        vec!["config", "check", path.to_str().unwrap()],
        vec!["run", "--config", path.to_str().unwrap()],
    ] {
        let output = events(&command, &[]);
        assert_eq!(output.status.code(), Some(1));
        let said = said(&output);
        for expected in [
            "line 2: events.PHABRICATOR.url: expected an http or https url, found a number",
            "line 2: events.PHABRICATOR.api_key: is missing",
            "events.repositories: is missing",
            "line 3: events.skipable_files: unknown key, did you mean skippable_files?",
        ] {
            assert!(said.contains(expected), "{expected} in\n{said}");
        }
    }
    let output = events(&["config", "check", "/nonexistent/config.yml"], &[]);
    assert!(
        said(&output)
            .contains("cannot read the configuration /nonexistent/config.yml: No such file")
    );
}

#[test]
fn invalid_redis_url_is_refused_and_not_printed() {
    let output = events(
        &["run", "web", "--config", EXAMPLE],
        &[("REDIS_URL", "http://:hunter2@localhost")],
    );
    assert_eq!(output.status.code(), Some(1));
    let said = said(&output);
    assert!(
        said.contains("url is not usable") && !said.contains("hunter2"),
        "{said}"
    );
}

#[test]
fn invalid_redis_ca_file_is_refused_by_every_command() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.display().to_string()
    };
    let armoured =
        |bytes: &str| format!("-----BEGIN CERTIFICATE-----\n{bytes}\n-----END CERTIFICATE-----\n");
    for (file, reason) in [
        (
            directory.path().join("none").display().to_string(),
            "cannot be read: No such file",
        ),
        (
            directory.path().display().to_string(),
            "cannot be read: Is a directory",
        ),
        (file("empty", ""), "holds no certificate"),
        (file("text", "trust me"), "holds no certificate"),
        (
            file("torn", "-----BEGIN CERTIFICATE-----\nAAAA"),
            "is no PEM file",
        ),
        (
            file("garbage", &armoured("AAAA")),
            "holds a certificate that cannot be used",
        ),
    ] {
        for command in [
            vec!["run", "web", "--config", EXAMPLE],
            vec!["queues", "list", "--config", EXAMPLE],
        ] {
            for url in ["REDIS_URL", "REDIS_TLS_URL"] {
                let output = events(
                    &command,
                    &[(url, "rediss://localhost:1"), ("REDIS_CA_FILE", &file)],
                );
                assert_eq!(output.status.code(), Some(1), "{command:?}");
                let said = said(&output);
                assert!(
                    said.contains(&format!("REDIS_CA_FILE is {file}, which {reason}")),
                    "{command:?}: {said}"
                );
            }
        }
    }
}

#[test]
fn empty_or_ambiguous_selection_is_refused_with_the_name_of_its_option() {
    for (arguments, option) in [
        (
            vec!["dead-letters", "drop", "--reason", "", "--yes"],
            "--reason",
        ),
        (vec!["dead-letters", "requeue", "--reason", ""], "--reason"),
        (vec!["dead-letters", "list", "--reason", ""], "--reason"),
        (vec!["dead-letters", "drop", "", "--yes"], "ID"),
        (
            vec!["dead-letters", "drop", "--reason", "x", "--all", "--yes"],
            "--all",
        ),
    ] {
        let output = events(&arguments, &[]);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(
            said(&output).contains(option),
            "{arguments:?}: {}",
            said(&output)
        );
    }
}

#[test]
fn check_without_a_configuration_names_its_own_arguments() {
    let output = events(&["config", "check"], &[]);
    assert_eq!(output.status.code(), Some(1));
    let text = said(&output);
    assert!(
        text.contains("the argument FILE or EVENTS_CONFIG") && !text.contains("--config"),
        "{text}"
    );
    let other = said(&events(
        &["builds", "audit"],
        &[("REDIS_URL", "redis://127.0.0.1:1")],
    ));
    assert!(other.contains("--config FILE or EVENTS_CONFIG"), "{other}");
}

#[test]
fn restart_with_an_unclear_selection_is_refused_with_one_remedy() {
    let forms = "Usage: events builds restart [OPTIONS] <BUILD>...\n       \
                 events builds restart [OPTIONS] --outcome <OUTCOME> --since <DURATION>\n";
    for (arguments, problem) in [
        (
            &[][..],
            "no build is selected: name each BUILD, or all with --outcome OUTCOME and --since DURATION",
        ),
        (&["--since", "2h"], "--since needs --outcome OUTCOME"),
        (&["--outcome", "pushed"], "--outcome needs --since DURATION"),
        (
            &["--repository", "x"],
            "--repository needs --outcome OUTCOME and --since DURATION",
        ),
        (
            &["D1", "--since", "2h"],
            "BUILD cannot be used with --outcome, --since or --repository",
        ),
    ] {
        let output = events(&[&["builds", "restart"][..], arguments].concat(), &[]);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let text = said(&output);
        assert!(
            text.starts_with(&format!("error: {problem}\n\n{forms}")),
            "{arguments:?}: {text}"
        );
    }
    for outcome in ["passed", "failed", "broken"] {
        let output = events(
            &["builds", "restart", "--outcome", outcome, "--since", "2h"],
            &[],
        );
        assert_eq!(output.status.code(), Some(2), "{outcome}");
        let text = said(&output);
        let valid = "[possible values: pushed, patch_failed, skipped, infra_failed, private]";
        assert!(text.contains(valid), "{outcome}: {text}");
    }
}

#[test]
fn malformed_id_is_refused_with_the_name_of_its_argument() {
    for (arguments, argument, what) in [
        (
            &["queues", "peek", "build:load", "--id", "x"][..],
            "--id <ID>",
            "message",
        ),
        (
            &["queues", "requeue", "build:load", "--id", "x"],
            "--id <ID>",
            "message",
        ),
        (
            &["queues", "drop", "build:load", "--id", "x"],
            "--id <ID>",
            "message",
        ),
        (&["dead-letters", "show", "x"], "<ID>", "dead letter"),
        (&["dead-letters", "requeue", "x"], "[ID]...", "dead letter"),
        (
            &["dead-letters", "drop", "x", "--yes"],
            "[ID]...",
            "dead letter",
        ),
    ] {
        let output = events(arguments, &[]);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let text = said(&output);
        let problem = format!("invalid value 'x' for '{argument}': expected the id of a {what}");
        assert!(text.contains(&problem), "{arguments:?}: {text}");
    }
}
