//! The last commit of a build, which configures CI: the decision task on Try, or whatever reads the file of a repository.

use build::{Build, VersionControl};
use minijinja::{Environment, UndefinedBehavior, value::Serde};
use runtime::error_chain;
use serde::Serialize;
use serde_json::ser::PrettyFormatter;

use crate::{
    TRY_CONFIG, TryMode, WorkerError,
    patch::{self, Rules},
    vcs::LastCommit,
};

/// The most instructions of a template, and the most bytes of one.
const FUEL: u64 = 100_000;
const LONGEST_TEMPLATE: usize = 64 << 10;

/// The variables of a template: numbers and PHIDs, which need no escapes in any format.
#[derive(Serialize)]
struct Variables<'a> {
    build: Target<'a>,
    diff: Object<'a>,
    revision: Object<'a>,
}

#[derive(Serialize)]
struct Target<'a> {
    phid: &'a str,
}

#[derive(Serialize)]
struct Object<'a> {
    id: u64,
    phid: &'a str,
}

impl<'a> Variables<'a> {
    fn of(build: &'a Build) -> Self {
        Self {
            build: Target {
                phid: build.request.target.as_str(),
            },
            diff: Object {
                id: build.diff.id,
                phid: build.diff.phid.as_str(),
            },
            revision: Object {
                id: build.revision.id,
                phid: build.revision.phid.as_str(),
            },
        }
    }
}

/// Checks the path of a file, by the rules for those of patches with either version control. Returns the fault.
pub fn check_path(path: &str) -> Result<(), String> {
    [Rules::Mercurial, Rules::Git { submodules: false }]
        .into_iter()
        .try_for_each(|rules| patch::check_path(path.as_bytes(), rules))
}

/// Checks a template: that it can be parsed, and has only known variables. Returns the fault with its line.
pub fn check(template: &str) -> Result<(), String> {
    let example = Variables {
        build: Target {
            phid: "PHID-HMBT-00000000000000000001",
        },
        diff: Object {
            id: 2,
            phid: "PHID-DIFF-00000000000000000002",
        },
        revision: Object {
            id: 1,
            phid: "PHID-DREV-00000000000000000001",
        },
    };
    render(template, &example).map(drop)
}

fn render(template: &str, variables: &Variables<'_>) -> Result<String, String> {
    if template.len() > LONGEST_TEMPLATE {
        return Err(format!("it is longer than {LONGEST_TEMPLATE} bytes"));
    }
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(FUEL));
    let mut text = environment
        .render_str(template, Serde(variables))
        .map_err(|error| error_chain(&error))?;
    // Templates lose their last line end, which a file keeps.
    if template.ends_with('\n') {
        text.push('\n');
    }
    Ok(text)
}

// The fields are in alphabetical order, as they have to be in the file.

#[derive(Serialize)]
struct Config<P> {
    parameters: P,
    version: u32,
}

#[derive(Serialize)]
struct JsonParameters<'a> {
    optimize_target_tasks: bool,
    phabricator_diff: &'a str,
    target_tasks_method: &'static str,
}

#[derive(Serialize)]
struct SyntaxParameters<'a> {
    #[serde(rename = "code-review")]
    code_review: CodeReview<'a>,
}

#[derive(Serialize)]
struct CodeReview<'a> {
    #[serde(rename = "phabricator-build-target")]
    target: &'a str,
}

/// The last commit of a build, if it has one. `exists` tells whether its file exists before.
pub(crate) fn last_commit(
    mode: &TryMode,
    build: &Build,
    exists: bool,
) -> Result<Option<LastCommit>, WorkerError> {
    let Some(path) = mode.path() else {
        return Ok(None);
    };
    Ok(Some(LastCommit {
        path: path.to_owned(),
        content: content(mode, build)?,
        exists,
        message: message(mode, build),
        date: build.diff.created_at,
        revision_id: build.request.revision_id,
    }))
}

/// The content of the file.
fn content(mode: &TryMode, build: &Build) -> Result<Vec<u8>, WorkerError> {
    let target = build.request.target.as_str();
    let written = match mode {
        TryMode::Json => {
            let method = "codereview";
            let parameters = JsonParameters {
                optimize_target_tasks: true,
                phabricator_diff: target,
                target_tasks_method: method,
            };
            write(&Config {
                parameters,
                version: 2,
            })
        }
        TryMode::Syntax(_) => write(&Config {
            parameters: SyntaxParameters {
                code_review: CodeReview { target },
            },
            version: 2,
        }),
        TryMode::File { path, template } => {
            return render(template, &Variables::of(build))
                .map(String::into_bytes)
                .map_err(|fault| WorkerError::Settings {
                    reason: format!("the template of {path} cannot be used: {fault}"),
                });
        }
        TryMode::None => return Ok(Vec::new()),
    };
    written.map_err(|error| WorkerError::io(format!("write {TRY_CONFIG}"))(error.into()))
}

fn write(config: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut serializer =
        serde_json::Serializer::with_formatter(&mut bytes, PrettyFormatter::with_indent(b"    "));
    config.serialize(&mut serializer)?;
    Ok(bytes)
}

/// The message of the commit.
fn message(mode: &TryMode, build: &Build) -> String {
    let url = &build.revision.url;
    match mode {
        TryMode::Json => {
            let what = if url.is_empty() { "code-review" } else { url };
            // Git takes all lines before an empty one for the subject. Those who read Try's Mercurial know the message without it.
            let end = match build.vcs {
                VersionControl::Mercurial => "\n",
                VersionControl::Git => "\n\n",
            };
            format!(
                "try_task_config for {what}{end}Differential Diff: {}",
                build.diff.phid
            )
        }
        TryMode::File { path, .. } => {
            let what = if url.is_empty() { "code-review" } else { url };
            format!(
                "{path} for {what}\n\nDifferential Diff: {}",
                build.diff.phid
            )
        }
        TryMode::None => String::new(),
        TryMode::Syntax(syntax) => format!("try: {syntax}\nPhabricator Revision: {url}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The template of `try_task_config.json` on the page about the keys.
    const JSON: &str = r#"{
    "parameters": {
        "optimize_target_tasks": true,
        "phabricator_diff": "{{ build.phid }}",
        "target_tasks_method": "codereview"
    },
    "version": 2
}"#;

    fn build() -> Build {
        serde_json::from_value(serde_json::json!({
            "request": {
                "target": "PHID-HMBT-5", "diff_id": 9, "repository": "PHID-REPO-1", "revision_id": 7,
                "accepted_at": "2026-01-01T00:00:00Z",
            },
            "revision": {
                "id": 7, "phid": "PHID-DREV-7", "url": "https://phabricator.example.org/D7",
                "author": "PHID-USER-1", "reviewers": [],
            },
            "diff": {"id": 9, "phid": "PHID-DIFF-9", "created_at": "2026-01-01T00:00:00Z", "base": null},
            "stack": [], "landed": [],
        }))
        .expect("a build")
    }

    fn file(template: &str) -> TryMode {
        TryMode::File {
            path: "ci.json".to_owned(),
            template: template.to_owned(),
        }
    }

    #[test]
    fn subject_of_a_commit_of_git_is_its_first_line() {
        let mut build = build();
        for (vcs, end) in [
            (VersionControl::Mercurial, "\n"),
            (VersionControl::Git, "\n\n"),
        ] {
            build.vcs = vcs;
            assert_eq!(
                message(&TryMode::Json, &build),
                format!(
                    "try_task_config for https://phabricator.example.org/D7{end}Differential Diff: PHID-DIFF-9"
                )
            );
        }
    }

    #[test]
    fn template_can_say_what_the_mode_json_says() {
        let build = build();
        assert_eq!(
            String::from_utf8(content(&file(JSON), &build).expect("a template")),
            String::from_utf8(content(&TryMode::Json, &build).expect("the parameters")),
        );
    }

    #[test]
    fn template_has_the_numbers_and_phids_of_a_build_and_keeps_its_last_line_end() {
        let template = "{{ diff.id }} {{ diff.phid }} {{ revision.id }} {{ revision.phid }}\n";
        let content = content(&file(template), &build()).expect("a template");
        assert_eq!(content, b"9 PHID-DIFF-9 7 PHID-DREV-7\n");
        assert_eq!(
            message(&file(template), &build()),
            "ci.json for https://phabricator.example.org/D7\n\nDifferential Diff: PHID-DIFF-9"
        );
    }

    #[test]
    fn faulty_template_is_found_before_a_build() {
        assert_eq!(check(JSON), Ok(()));
        for template in [
            "{{ build.number }}",
            "{{ build.phid",
            "{% for x in range(100000) %}{% for y in range(100000) %}.{% endfor %}{% endfor %}",
        ] {
            assert!(check(template).is_err(), "{template}");
        }
        assert!(check(&" ".repeat(LONGEST_TEMPLATE + 1)).is_err());
    }
}
