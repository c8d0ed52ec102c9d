//! What the program says to whoever starts it wrongly.

use std::process::{Command, Output};

fn events(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_events"));
    command.args(arguments).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.envs(environment.iter().copied()).output().unwrap()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/example.yml");

#[test]
fn web_or_worker_alone_need_redis() {
    for (arguments, environment) in [
        (vec!["run", "web", "--config", EXAMPLE], vec![]),
        (vec!["run", "worker", "--config", EXAMPLE], vec![]),
        (vec!["run", "--config", EXAMPLE], vec![("DYNO", "worker.1")]),
        (vec!["run", "web", "--config", EXAMPLE], vec![("REDIS_URL", "")]),
    ] {
        let output = events(&arguments, &environment);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        let said = said(&output);
        assert!(said.contains("set REDIS_URL") && !said.contains("api-000"), "{arguments:?}: {said}");
    }
}

#[test]
fn the_example_configuration_is_right() {
    let output = events(&["check-config", EXAMPLE], &[]);
    assert!(output.status.success(), "{}", said(&output));
    assert!(
        said(&output).contains("is right: it has the repositories mozilla-central")
            && !said(&output).contains("warning"),
        "{}",
        said(&output)
    );
}

#[test]
fn a_faulty_configuration_is_refused_with_all_its_faults() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.yml");
    std::fs::write(&path, "events:\n  PHABRICATOR: {url: 7}\n  skipable_files: []\n").unwrap();
    for command in [vec!["check-config", path.to_str().unwrap()], vec!["run", "--config", path.to_str().unwrap()]] {
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
    let output = events(&["check-config", "/nonexistent/config.yml"], &[]);
    assert!(said(&output).contains("cannot read the configuration /nonexistent/config.yml: No such file"));
}

#[test]
fn a_url_that_is_none_of_redis_is_refused_without_showing_it() {
    let output = events(&["run", "web", "--config", EXAMPLE], &[("REDIS_URL", "http://:hunter2@localhost")]);
    assert_eq!(output.status.code(), Some(1));
    let said = said(&output);
    assert!(said.contains("url is not usable") && !said.contains("hunter2"), "{said}");
}

#[test]
fn a_file_of_trusted_certificates_that_is_none_is_refused_by_every_command() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.display().to_string()
    };
    let armoured = |bytes: &str| format!("-----BEGIN CERTIFICATE-----\n{bytes}\n-----END CERTIFICATE-----\n");
    for (file, reason) in [
        (directory.path().join("none").display().to_string(), "cannot be read: No such file"),
        (directory.path().display().to_string(), "cannot be read: Is a directory"),
        (file("empty", ""), "holds no certificate"),
        (file("text", "trust me"), "holds no certificate"),
        (file("torn", "-----BEGIN CERTIFICATE-----\nAAAA"), "is no PEM file"),
        (file("garbage", &armoured("AAAA")), "holds a certificate that cannot be used"),
    ] {
        for command in [vec!["run", "web", "--config", EXAMPLE], vec!["queues", "--config", EXAMPLE]] {
            for url in ["REDIS_URL", "REDIS_TLS_URL"] {
                let output = events(&command, &[(url, "rediss://localhost:1"), ("REDIS_CA_FILE", &file)]);
                assert_eq!(output.status.code(), Some(1), "{command:?}");
                let said = said(&output);
                assert!(said.contains(&format!("REDIS_CA_FILE is {file}, which {reason}")), "{command:?}: {said}");
            }
        }
    }
}

#[test]
fn the_demo_pushes_three_patches_and_says_so_in_one_line() {
    let output = events(&["demo", "--json"], &[]);
    assert!(output.status.success(), "{}", said(&output));
    let line: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((line["outcome"].as_str(), line["patches"].as_u64()), (Some("pushed"), Some(3)));
    let revision = line["revision"].as_str().unwrap();
    assert!(revision.len() == 40 && line["treeherder_url"].as_str().unwrap().ends_with(revision), "{line}");
    let story = String::from_utf8_lossy(&output.stderr);
    let steps = ["accepted", "visible", "loaded", "applied", "pushed", "published"];
    assert!(steps.iter().all(|step| story.contains(step)), "{story}");
}
