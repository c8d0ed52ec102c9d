//! The tables of `docs/use/triggers.md` against what is triggered.

use std::{collections::BTreeSet, path::Path};

use triggers::Trigger;

/// The group of the hooks that are configured; the others are the program's own.
const CONFIGURED: &str = "project-releng";

/// The code in a cell of a table.
fn code(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// The names in a cell that are fields of a payload.
fn fields(cell: &str) -> BTreeSet<&str> {
    let is_field = |name: &&str| name.chars().all(|c| c.is_ascii_uppercase() || c == '_');
    code(cell).into_iter().filter(is_field).collect()
}

/// The cells of the row below `heading` whose first cell ends with one of these names. Empty if there is none.
fn row<'a>(page: &'a str, heading: &str, names: &[&str]) -> Vec<&'a str> {
    let (_, section) = page.split_once(&format!("\n## {heading}\n")).unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let rows = section.lines().filter(|line| line.starts_with('|'));
    let mut rows = rows.map(|row| row.split('|').skip(1).map(str::trim).collect::<Vec<_>>());
    let row = rows.find(|cells| {
        let last = code(cells[0]).last().copied();
        last.is_some_and(|last| names.contains(&last))
    });
    row.unwrap_or_default()
}

/// Asserts that the page has what `setting` triggers: the hook, and the fields of its payload.
#[track_caller]
pub(crate) fn assert_documented(setting: &str, Trigger { hook, payload, .. }: &Trigger) {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/use/triggers.md");
    let page = std::fs::read_to_string(page).unwrap();
    let sent: BTreeSet<&str> = payload
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();

    let triggers = row(&page, "What triggers what", &[setting]);
    let repeats = row(&page, "Repeats", &[setting, &hook.id]);
    assert!(
        !triggers.is_empty() && !repeats.is_empty(),
        "{setting} is not in both tables"
    );
    let cell = triggers[2];
    let own = hook.to_string().replace("-testing", "-<APP_CHANNEL>");
    let named = if hook.group == CONFIGURED {
        cell.contains("the configured one")
    } else {
        code(cell).contains(&own.as_str())
    };
    assert!(named, "{setting} triggers {hook}: {cell}");
    assert_eq!(fields(cell), sent, "the payload of {setting}");

    let same = fields(repeats[1]);
    assert!(
        !same.is_empty() && same.is_subset(&sent),
        "{setting}: {same:?}"
    );
}
