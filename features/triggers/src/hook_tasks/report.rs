//! The report on tasks that ended, in Markdown.

use std::{collections::BTreeMap, fmt::Write as _};

use jiff::Timestamp;
use runtime::sanitize;
use serde::Serialize;
use url::Url;

use super::{EndedTask, TaskResult};
use crate::HookName;

/// The most tasks that are listed for one result of one hook. A mail has at most 102,400 characters.
const LISTED: usize = 50;
/// The length of the text, in bytes, after which no further hook is added. The text on one hook has at most 25,000.
const LENGTH: usize = 70_000;

/// The deployment that a report is about.
#[derive(Debug, Clone)]
pub struct ReportScope {
    /// Its name in reports.
    pub name: String,
    /// Its address, for links to tasks.
    pub root: Url,
}

/// The results of the tasks of each hook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The tasks that ended, by hook.
    #[serde(skip)]
    hooks: BTreeMap<HookName, Vec<EndedTask>>,
    /// The text, in Markdown. Empty if all tasks completed.
    pub text: String,
}

impl Report {
    /// Makes the report on `tasks`.
    pub fn new(scope: &ReportScope, tasks: Vec<EndedTask>) -> Self {
        let mut hooks: BTreeMap<HookName, Vec<EndedTask>> = BTreeMap::new();
        for task in tasks {
            hooks.entry(task.hook.clone()).or_default().push(task);
        }
        let mut text = String::new();
        let all_completed = |tasks: &[EndedTask]| {
            tasks
                .iter()
                .all(|task| task.result == TaskResult::Completed)
        };
        let mut left_out = 0;
        for (hook, tasks) in hooks.iter().filter(|(_, tasks)| !all_completed(tasks)) {
            if text.len() > LENGTH {
                left_out += 1;
            } else {
                section(&mut text, scope, hook, tasks);
            }
        }
        if left_out > 0 {
            let _ = writeln!(
                text,
                "There are {left_out} more hooks whose tasks did not all complete."
            );
        }
        Self { hooks, text }
    }

    /// The number of its tasks, including those of hooks that the text leaves out.
    pub fn tasks(&self) -> usize {
        self.hooks.values().map(Vec::len).sum()
    }

    pub(super) fn into_tasks(self) -> impl Iterator<Item = EndedTask> {
        self.hooks.into_values().flatten()
    }

    /// The times at which the first and the last of its tasks ended.
    pub fn period(&self) -> Option<(Timestamp, Timestamp)> {
        let times = || self.hooks.values().flatten().map(|task| task.at);
        Some((times().min()?, times().max()?))
    }
}

fn section(text: &mut String, scope: &ReportScope, hook: &HookName, tasks: &[EndedTask]) {
    let _ = writeln!(text, "## {}\n", plain(&hook.to_string()));
    let mut results: BTreeMap<TaskResult, Vec<&EndedTask>> = BTreeMap::new();
    for task in tasks {
        results.entry(task.result).or_default().push(task);
    }
    for (result, of_it) in &results {
        #[expect(clippy::cast_precision_loss, reason = "a report has far fewer tasks")]
        let share = 100.0 * of_it.len() as f64 / tasks.len() as f64;
        let _ = writeln!(
            text,
            "* {}: {share:.1} % ({} of {})",
            name(*result),
            of_it.len(),
            tasks.len()
        );
    }
    text.push('\n');
    for (result, of_it) in results
        .iter()
        .filter(|(result, _)| **result != TaskResult::Completed)
    {
        let _ = writeln!(text, "{}:\n", name(*result));
        for task in of_it.iter().take(LISTED) {
            let _ = write!(text, "* {}", link(scope, &task.task_id));
            if let Some(new) = &task.retried_as {
                let _ = write!(text, ", retried as {}", link(scope, new));
            }
            text.push('\n');
        }
        if let Some(more) = of_it.len().checked_sub(LISTED).filter(|more| *more > 0) {
            let _ = writeln!(text, "* and {more} more");
        }
        text.push('\n');
    }
}

fn link(scope: &ReportScope, task_id: &str) -> String {
    format!(
        "[{task_id}]({}/tasks/{task_id})",
        scope.root.as_str().trim_end_matches('/')
    )
}

fn name(result: TaskResult) -> &'static str {
    match result {
        TaskResult::Completed => "completed",
        TaskResult::Failed => "failed",
        TaskResult::Exception => "exception",
        TaskResult::Expired => "expired",
    }
}

/// `text` on one line, escaped so that Markdown shows it as it is.
fn plain(text: &str) -> String {
    let mut plain = String::new();
    for letter in sanitize::one_line(text, usize::MAX).chars() {
        if letter.is_ascii_punctuation() && !"/-.".contains(letter) {
            plain.push('\\');
        }
        plain.push(letter);
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope() -> ReportScope {
        ReportScope {
            name: "Firefox".to_owned(),
            root: Url::parse("https://tc.example").unwrap(),
        }
    }

    fn task(hook: &str, id: &str, result: TaskResult) -> EndedTask {
        let at = "2026-11-21T12:00:00Z".parse().unwrap();
        let hook = HookName::new("project-releng", hook);
        EndedTask {
            task_id: id.to_owned(),
            hook,
            result,
            at,
            retried_as: None,
        }
    }

    #[test]
    fn hook_with_only_completed_tasks_is_omitted() {
        let retried = EndedTask {
            retried_as: Some("D2".to_owned()),
            ..task("bot", "D", TaskResult::Exception)
        };
        let report = Report::new(
            &scope(),
            vec![
                task("bot", "A", TaskResult::Completed),
                task("bot", "B", TaskResult::Completed),
                task("bot", "C", TaskResult::Failed),
                retried,
                task("good", "E", TaskResult::Completed),
            ],
        );
        let expected = "## project-releng/bot\n\n* completed: 50.0 % (2 of 4)\n* failed: 25.0 % (1 of 4)\n\
                        * exception: 25.0 % (1 of 4)\n\nfailed:\n\n* [C](https://tc.example/tasks/C)\n\nexception:\n\n\
                        * [D](https://tc.example/tasks/D), retried as [D2](https://tc.example/tasks/D2)\n\n";
        assert_eq!((report.text.as_str(), report.tasks()), (expected, 5));
        assert_eq!(
            Report::new(&scope(), vec![task("good", "E", TaskResult::Completed)]).text,
            ""
        );
    }

    #[test]
    fn report_is_bounded_to_mail_size() {
        let tasks = (0..1000).flat_map(|hook| {
            (0..100).map(move |number| {
                task(
                    &format!("*hook*{hook}"),
                    &format!("{number:022}"),
                    TaskResult::Failed,
                )
            })
        });
        let report = Report::new(&scope(), tasks.collect());
        assert!(report.text.contains("* and 50 more") && report.text.contains("\\*hook\\*0"));
        assert!(report.text.contains("more hooks"));
        assert!(report.text.len() < 102_400, "{}", report.text.len());
    }
}
