//! Names that operators look up: the keys of the configuration, and the metrics. Each is on a page.

use std::{path::Path, str::FromStr};

use anyhow::anyhow;
use proc_macro2::{Delimiter, TokenStream, TokenTree};

use crate::{modules, sources};

/// Names of one kind: where and by which calls the program defines them, and where a page lists them.
struct Kind {
    what: &'static str,
    /// The beginning of the paths of its sources.
    sources: &'static str,
    /// Methods, functions and macros whose first argument is a name.
    calls: &'static [&'static str],
    page: &'static str,
}

const KINDS: [Kind; 2] = [
    Kind {
        what: "key",
        sources: "events/src/config",
        calls: &[
            "optional",
            "optional_section",
            "optional_sections",
            "required",
            "secret_text",
            "section",
            "sections",
        ],
        page: "docs/reference/configuration.md",
    },
    Kind {
        what: "metric",
        sources: "",
        calls: &["counter", "gauge", "histogram"],
        page: "docs/reference/api.md",
    },
];

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
        for kind in KINDS.iter().filter(|kind| path.starts_with(kind.sources)) {
            let tokens = TokenStream::from_str(&text)
                .map_err(|error| anyhow!("cannot read {path}: {error}"))?;
            let mut names = Vec::new();
            first_arguments(tokens, kind.calls, &mut names);
            names.retain(|name| !is_code_in(&pages, name));
            let Kind { what, page, .. } = kind;
            faults.extend(names.iter().map(|name| {
                format!(
                    "{path}: no page has the {what} {name}: add it to {page}, or where it belongs"
                )
            }));
        }
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
    // In between are the `!` of a macro, or `::<…>` with the type of a value.
    let is_between = |token: &&TokenTree| match token {
        TokenTree::Punct(mark) => "!:<>".contains(mark.as_char()),
        TokenTree::Ident(_) => true,
        _ => false,
    };
    let arguments = tokens.get(tokens.iter().take_while(is_between).count())?;
    let TokenTree::Group(group) = arguments else {
        return None;
    };
    if group.delimiter() != Delimiter::Parenthesis {
        return None;
    }
    let text = group.stream().into_iter().next()?.to_string();
    Some(text.strip_prefix('"')?.strip_suffix('"')?.to_owned())
}

/// Whether the pages have `name` as code, alone or within a path such as `PHABRICATOR.url`.
fn is_code_in(pages: &str, name: &str) -> bool {
    pages.match_indices(name).any(|(at, _)| {
        let before = pages[..at].chars().next_back();
        let after = pages[at + name.len()..].chars().next();
        matches!(before, Some('`' | '.')) && matches!(after, Some('`' | '.' | '[' | ':'))
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn keys_and_metrics_without_a_page_are_faults() {
        let root = tempfile::tempdir().unwrap();
        let code = "
            fn read(keys: &Section<'_>) {
                keys.optional::<Vec<String>>(\"admins\");
                keys.section(\"lando\").required(\n\"url\");
                keys.section(\"lando\").optional(\"publish\");
            }
            fn count() {
                metrics::counter!(\"builds_total\", \"outcome\" => \"passed\").increment(1);
                metrics::gauge!(\"depth\").set(1.0);
                metrics::counter!(name).increment(1);
            }
            #[cfg(test)]
            mod tests { fn count() { metrics::counter!(\"tests_total\"); } }
        ";
        for (path, text) in [
            ("events/src/config/lando.rs", code),
            ("bus/src/meters.rs", "fn f() { keys.optional(\"other\"); }"),
            (
                "bus/tests/it/meters.rs",
                "fn f() { counter!(\"x_total\"); }",
            ),
            (
                "docs/reference/api.md",
                "`admins`, `lando.url`: publish, `builds_total`\n",
            ),
            ("docs/extend/metric.md", "`depth`\n"),
        ] {
            let file = root.path().join(path);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        let file = "events/src/config/lando.rs: no page has";
        assert_eq!(
            faults(root.path()).unwrap(),
            [
                format!(
                    "{file} the key publish: add it to docs/reference/configuration.md, or where it belongs"
                ),
                format!(
                    "{file} the metric depth: add it to docs/reference/api.md, or where it belongs"
                ),
            ]
        );
    }
}
