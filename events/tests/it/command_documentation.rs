//! Help texts, manual pages, completions, and the pages that name commands.

use std::{path::Path, process::Command};

use clap::CommandFactory;
use events::cli::Cli;

/// The paths of the commands without subcommands, such as "builds show", and that of each group that runs alone.
fn paths(command: &clap::Command, prefix: &str) -> Vec<String> {
    let mut found = Vec::new();
    for one in command.get_subcommands() {
        let path = format!("{prefix}{}", one.get_name());
        if !one.is_subcommand_required_set() {
            found.push(path.clone());
        }
        found.extend(paths(one, &format!("{path} ")));
    }
    found
}

/// What a page shows as code: its spans, each in one line, and the lines of its blocks.
fn code(page: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, part) in page.split("```").enumerate() {
        if at % 2 == 1 {
            found.extend(part.lines().map(str::to_owned));
            continue;
        }
        let text = part.split_whitespace().collect::<Vec<_>>().join(" ");
        found.extend(text.split('`').skip(1).step_by(2).map(str::to_owned));
    }
    found
}

/// The first word of a line of code that should be a subcommand of `events` and is not.
fn unknown_command(line: &str) -> Option<String> {
    let line = line.strip_prefix("$ ").unwrap_or(line);
    let mut command = Cli::command();
    for word in line.strip_prefix("events ")?.split(' ') {
        let is_name = word.starts_with(|first: char| first.is_ascii_lowercase());
        if !is_name || !command.has_subcommands() {
            return None;
        }
        match command.find_subcommand(word) {
            Some(found) => command = found.clone(),
            None => return Some(word.to_owned()),
        }
    }
    None
}

fn pages() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files = Vec::new();
    let mut directories = vec![root.join("docs")];
    for entry in std::fs::read_dir(root).unwrap() {
        files.push(entry.unwrap().path());
    }
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else {
                files.push(path);
            }
        }
    }
    files.retain(|file| file.extension().is_some_and(|extension| extension == "md"));
    files
        .iter()
        .map(|file| {
            (
                file.display().to_string(),
                std::fs::read_to_string(file).unwrap(),
            )
        })
        .collect()
}

#[test]
fn operating_page_names_each_command() {
    let page = include_str!("../../../docs/operate/operating.md");
    let code = code(page);
    let missing: Vec<String> = paths(&Cli::command(), "")
        .into_iter()
        .filter(|path| {
            let command = format!("events {path}");
            !code.iter().any(|line| {
                line.strip_prefix(&command)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
            })
        })
        .collect();
    assert!(
        missing.is_empty(),
        "docs/operate/operating.md lacks {missing:?}"
    );
}

#[test]
fn pages_name_no_command_that_does_not_exist() {
    assert_eq!(
        unknown_command("events builds restart D1 --json"),
        None,
        "an argument is no command"
    );
    assert_eq!(unknown_command("$ events why D1"), Some("why".to_owned()));
    assert_eq!(
        unknown_command("events queues stop x"),
        Some("stop".to_owned())
    );
    let pages = pages();
    assert!(pages.len() > 10);
    for (name, page) in pages {
        let unknown: Vec<String> = code(&page)
            .iter()
            .filter(|line| unknown_command(line).is_some())
            .cloned()
            .collect();
        assert!(unknown.is_empty(), "{name} names {unknown:?}");
    }
}

#[test]
fn commands_and_options_have_one_line_of_help_without_a_full_stop() {
    fn check(command: &clap::Command, path: &str) {
        let texts = command
            .get_arguments()
            .map(|argument| (argument.get_id().as_str(), argument.get_help()))
            .chain([("the command", command.get_about())]);
        for (name, help) in texts {
            let help = help.map(ToString::to_string).unwrap_or_default();
            assert!(
                help.starts_with(char::is_uppercase) && !help.ends_with('.'),
                "help of {name} in {path}: {help:?}"
            );
        }
        for one in command.get_subcommands() {
            check(one, &format!("{path} {}", one.get_name()));
        }
    }
    let command = Cli::command();
    command.clone().debug_assert();
    check(&command, "events");
}

#[test]
fn completions_know_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let output = Command::new(env!("CARGO_BIN_EXE_events"))
            .args(["completions", shell])
            .output()
            .unwrap();
        let script = String::from_utf8(output.stdout).unwrap();
        assert!(
            output.status.success() && script.contains("dead-letters"),
            "{shell}: {script}"
        );
    }
}

#[test]
fn manual_has_a_page_for_each_command() {
    let directory = tempfile::tempdir().unwrap();
    let man = |directory: &Path| {
        Command::new(env!("CARGO_BIN_EXE_events"))
            .arg("man")
            .arg(directory)
            .output()
            .unwrap()
    };
    let output = man(directory.path());
    assert!(output.status.success(), "{output:?}");
    for path in paths(&Cli::command(), "") {
        let name = format!("events-{}.1", path.replace(' ', "-"));
        assert!(directory.path().join(&name).exists(), "{name} is missing");
    }
    let name = "events-dead-letters-requeue";
    let page = std::fs::read_to_string(directory.path().join(format!("{name}.1"))).unwrap();
    let (title, usage) = (
        format!(".TH {name} 1  \"events {}\"", env!("CARGO_PKG_VERSION")),
        "[OPTIONS] <ID|\\-\\-reason <TEXT>|\\-\\-all>",
    );
    assert!(
        page.contains(&title) && page.contains(usage) && !page.contains("[\\fB\\-\\-config"),
        "{page}"
    );
    let output = man(&directory.path().join("none"));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(
        output.status.code() == Some(1) && error.contains("name an existing directory"),
        "{error}"
    );
}
