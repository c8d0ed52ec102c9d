//! Names that operators look up: the metrics. Each is on a page.

use std::{path::Path, str::FromStr};

use anyhow::anyhow;
use proc_macro2::{Delimiter, TokenStream, TokenTree};

use crate::{modules, sources};

/// The macros whose first argument is the name of a metric.
const METRICS: [&str; 3] = ["counter", "gauge", "histogram"];

/// Sources that are in no deployed program.
const FOR_TESTS: &[&str] = &["benches", "testing", "tests", "tests.rs"];

/// The pages with examples: what these name is in no program.
const EXAMPLES: &str = "docs/extend";

/// Every name that no page has as code.
pub(crate) fn faults(root: &Path) -> anyhow::Result<Vec<String>> {
    let mut pages = String::new();
    for page in sources::files(&root.join("docs"), &[".md"])? {
        if !page.starts_with(root.join(EXAMPLES)) {
            pages.push_str(&sources::read(&page)?);
        }
    }
    let mut faults = Vec::new();
    for file in sources::files(root, &[".rs"])? {
        let path = file.strip_prefix(root).unwrap_or(&file);
        if path
            .iter()
            .any(|part| FOR_TESTS.iter().any(|one| part == *one))
        {
            continue;
        }
        let text = sources::read(&file)?;
        let path = path.display().to_string();
        let tokens =
            TokenStream::from_str(&text).map_err(|error| anyhow!("cannot read {path}: {error}"))?;
        let mut names = Vec::new();
        first_arguments(tokens, &METRICS, &mut names);
        names.retain(|name| !is_code_in(&pages, name));
        faults.extend(names.iter().map(|name| {
            format!(
                "{path}: no page has the metric {name}: add it to docs/reference/api.md, or where it belongs"
            )
        }));
    }
    Ok(faults)
}

/// Adds the first argument of each of these `calls`, if it is a text. Modules for tests are left out.
fn first_arguments(tokens: TokenStream, calls: &[&str], names: &mut Vec<String>) {
    let tokens: Vec<_> = tokens.into_iter().collect();
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        if let Some(length) = modules::test_module(&tokens[at..]) {
            at += length;
            continue;
        }
        at += 1;
        match token {
            TokenTree::Ident(name) if calls.iter().any(|call| name == call) => {
                names.extend(first_text(&tokens[at..]));
            }
            TokenTree::Group(group) => first_arguments(group.stream(), calls, names),
            _ => {}
        }
    }
}

/// The first argument of a call whose name is in front of these tokens, if it is a text.
fn first_text(tokens: &[TokenTree]) -> Option<String> {
    let tokens = match tokens {
        [TokenTree::Punct(mark), rest @ ..] if mark.as_char() == '!' => rest,
        tokens => tokens,
    };
    let TokenTree::Group(group) = tokens.first()? else {
        return None;
    };
    if group.delimiter() != Delimiter::Parenthesis {
        return None;
    }
    let text = group.stream().into_iter().next()?.to_string();
    Some(text.strip_prefix('"')?.strip_suffix('"')?.to_owned())
}

/// Whether the pages have `name` as code, alone or with its labels.
fn is_code_in(pages: &str, name: &str) -> bool {
    pages.match_indices(name).any(|(at, _)| {
        let before = pages[..at].chars().next_back();
        let after = pages[at + name.len()..].chars().next();
        before == Some('`') && matches!(after, Some('`' | '{'))
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn metrics_without_a_page_are_faults() {
        let root = tempfile::tempdir().unwrap();
        let code = "
            fn count() {
                metrics::counter!(\"builds_total\", \"outcome\" => \"passed\").increment(1);
                metrics::gauge!(\"depth\").set(1.0);
                metrics::counter!(name).increment(1);
            }
            #[cfg(test)]
            mod tests { fn count() { metrics::counter!(\"tests_total\"); } }
        ";
        for (path, text) in [
            ("bus/src/meters.rs", code),
            (
                "bus/tests/it/meters.rs",
                "fn f() { counter!(\"x_total\"); }",
            ),
            ("docs/reference/api.md", "`builds_total`\n"),
            ("docs/extend/metric.md", "`depth`\n"),
        ] {
            let file = root.path().join(path);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        assert_eq!(
            faults(root.path()).unwrap(),
            [
                "bus/src/meters.rs: no page has the metric depth: add it to docs/reference/api.md, or where it belongs"
            ]
        );
    }
}
