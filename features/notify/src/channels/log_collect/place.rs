//! How a log is named in the bucket.
//!
//! What a task says of itself was written by whoever made it. A name is made of letters, digits, `.`, `_` and `-` only, so
//! it means the same to every store and in every address, and of no part that begins with a full stop. It ends in the id
//! of the task and the number of the run, which no text of a task can imitate: nobody replaces another's log.

use crate::NotifiedTask;

/// The longest text that is taken over, in bytes.
const MAX_TEXT: usize = 120;

/// The name of the log of a run.
pub(super) fn of(task: &NotifiedTask, run: u32) -> String {
    let prop = |name: &str| task.build_props.get(name).and_then(|text| harmless(text));
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
    let name = harmless(&task.name).unwrap_or_else(|| "unknown-name".to_owned());
    let (platform, id) = (or_unknown("platform"), &task.id);
    format!("{branch}/{product}-{version}/{build}/{name}-{platform}-{id}-{run}")
}

/// A text as it can be a part of a name; none where nothing is left of it.
fn harmless(text: &str) -> Option<String> {
    let harmless = |character: char| {
        let fits = character.is_ascii_alphanumeric() || matches!(character, '.' | '_' | '-');
        if fits { character } else { '_' }
    };
    let text: String = text.trim().chars().map(harmless).take(MAX_TEXT).collect();
    let hidden = text.strip_prefix('.').map(|rest| format!("_{rest}"));
    Some(hidden.unwrap_or(text)).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn place(name: &str, props: &[(&str, &str)]) -> String {
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
        assert_eq!(place("build-linux64/opt", &props), expected);
    }

    #[test]
    fn missing_value_has_placeholder_in_key() {
        let expected = "unknown-branch/unknown-product-unknown-version/unknown-build/\
                        unknown-name-unknown-platform-bGmvC3EFTSWLcp5Kb5E12A-3";
        assert_eq!(place(" ", &[("branch", "")]), expected);
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
        let place = place(&"../".repeat(500), &props);
        assert!(place.starts_with("_./_._.._etc_passwd-1__"), "{place}");
        assert!(place.ends_with("-bGmvC3EFTSWLcp5Kb5E12A-3"), "{place}");
        assert_eq!(place.split('/').count(), 4, "{place}");
        assert!(
            place
                .split('/')
                .all(|part| !part.is_empty() && !part.starts_with('.')),
            "{place}"
        );
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/".contains(&byte);
        assert!(place.bytes().all(fits) && place.len() < 1024, "{place}");
    }
}
