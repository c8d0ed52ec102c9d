//! The key of a log in the bucket.
//!
//! The texts of a task are foreign. So each part of a key has letters, digits, `.`, `_` and `-` only, and does not begin
//! with a full stop: it has the same meaning in every store and address. A key ends with the id of the task and the number
//! of the run. No text of a task can imitate them, so no task can replace the log of another one.

use crate::NotifiedTask;

/// The maximum length of a text of a task in a key, in bytes.
const MAX_TEXT: usize = 120;

/// The key of the log of a run.
pub(super) fn of(task: &NotifiedTask, run: u32) -> String {
    let prop = |name: &str| task.build_props.get(name).and_then(|text| sanitized(text));
    let or_unknown = |name: &str| prop(name).unwrap_or_else(|| format!("unknown-{name}"));
    let (branch, product, version) = (
        or_unknown("branch"),
        or_unknown("product"),
        or_unknown("version"),
    );
    let build = prop("build_number").map_or_else(
        || "unknown-build".to_owned(),
        |number| format!("build{number}"),
    );
    let name = sanitized(&task.name).unwrap_or_else(|| "unknown-name".to_owned());
    let (platform, id) = (or_unknown("platform"), &task.id);
    format!("{branch}/{product}-{version}/{build}/{name}-{platform}-{id}-{run}")
}

/// A text in a form that may be in a key; `None` if it is empty then.
fn sanitized(text: &str) -> Option<String> {
    let replaced = |character: char| {
        let fits = character.is_ascii_alphanumeric() || matches!(character, '.' | '_' | '-');
        if fits { character } else { '_' }
    };
    let text: String = text.trim().chars().map(replaced).take(MAX_TEXT).collect();
    let without_dot = text.strip_prefix('.').map(|rest| format!("_{rest}"));
    Some(without_dot.unwrap_or(text)).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn key(name: &str, props: &[(&str, &str)]) -> String {
        let props = props
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let task = NotifiedTask {
            id: "bGmvC3EFTSWLcp5Kb5E12A".to_owned(),
            name: name.to_owned(),
            group_id: "fNq1pK0NRKSlMhPvJ3zj5g".to_owned(),
            run_id: None,
            runs: vec![0],
            build_props: BTreeMap::from_iter(props),
        };
        of(&task, 3)
    }

    #[test]
    fn key_is_built_from_task_properties() {
        let props = [
            ("branch", "mozilla-beta"),
            ("product", "firefox"),
            ("version", "51.0b1"),
            ("build_number", "2"),
            ("platform", "linux64"),
        ];
        let expected =
            "mozilla-beta/firefox-51.0b1/build2/build-linux64_opt-linux64-bGmvC3EFTSWLcp5Kb5E12A-3";
        assert_eq!(key("build-linux64/opt", &props), expected);
    }

    #[test]
    fn missing_value_has_placeholder_in_key() {
        let expected = "unknown-branch/unknown-product-unknown-version/unknown-build/\
                        unknown-name-unknown-platform-bGmvC3EFTSWLcp5Kb5E12A-3";
        assert_eq!(key(" ", &[("branch", "")]), expected);
    }

    #[test]
    fn hostile_name_cannot_leave_its_key() {
        let props = [
            ("branch", ".."),
            ("product", "../../etc/passwd"),
            ("version", "1\r\n?x=%2e%2e#é\u{202e}"),
            ("build_number", "/../.."),
            ("platform", "."),
        ];
        let key = key(&"../".repeat(500), &props);
        assert!(key.starts_with("_./_._.._etc_passwd-1__"), "{key}");
        assert!(key.ends_with("-bGmvC3EFTSWLcp5Kb5E12A-3"), "{key}");
        assert_eq!(key.split('/').count(), 4, "{key}");
        assert!(
            key.split('/')
                .all(|part| !part.is_empty() && !part.starts_with('.')),
            "{key}"
        );
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/".contains(&byte);
        assert!(key.bytes().all(fits) && key.len() < 1024, "{key}");
    }
}
