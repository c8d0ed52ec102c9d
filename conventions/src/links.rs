//! Links of pages, and paths of pages in sources: each leads to a file, and to a heading of it.

use std::{
    collections::BTreeMap,
    fs,
    path::{Component, Path, PathBuf},
};

use anyhow::Context;

use crate::{markdown::Page, sources};

/// Hidden directories with files of ours.
const HIDDEN: &[&str] = &[".cargo", ".ci", ".config"];

/// Every link of a markdown file that leads nowhere, and every path below `docs/`, in whatever file, that does not exist.
pub(crate) fn faults(root: &Path) -> anyhow::Result<Vec<String>> {
    let mut pages = BTreeMap::new();
    let mut faults = Vec::new();
    for file in files(root)? {
        // Its tests name pages that do not exist.
        if file.ends_with(file!()) {
            continue;
        }
        let bytes = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let text = String::from_utf8_lossy(&bytes);
        let name = file.strip_prefix(root).unwrap_or(&file).to_owned();
        let missing = missing_paths(root, &text).into_iter();
        faults.extend(missing.map(|(line, path)| {
            format!("{}:{line}: {path}: there is no such file", name.display())
        }));
        if is_page(&name) {
            pages.insert(name, Page::read(&text));
        }
    }
    for (name, page) in &pages {
        for link in &page.links {
            if let Some(fault) = fault(root, &pages, name, &link.target) {
                let (name, line, target) = (name.display(), link.line, &link.target);
                faults.push(format!("{name}:{line}: link to {target}: {fault}"));
            }
        }
    }
    Ok(faults)
}

fn files(root: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = sources::files(root, &[""])?;
    for directory in HIDDEN {
        let directory = root.join(directory);
        if directory.is_dir() {
            files.extend(sources::files(&directory, &[""])?);
        }
    }
    Ok(files)
}

fn is_page(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension == "md")
}

/// What is wrong with a link to `target` on the page `name`. A link to another host is not followed.
fn fault(
    root: &Path,
    pages: &BTreeMap<PathBuf, Page>,
    name: &Path,
    target: &str,
) -> Option<&'static str> {
    let (path, anchor) = match target.split_once('#') {
        Some((path, anchor)) => (path, Some(anchor)),
        None => (target, None),
    };
    if path.contains(':') || path.starts_with("//") {
        return None;
    }
    if path.starts_with('/') {
        return Some("write it relative to this page");
    }
    let file = if path.is_empty() {
        Some(name.to_owned())
    } else {
        within(name.parent().unwrap_or(Path::new("")), path)
    };
    let Some(file) = file.filter(|file| root.join(file).exists()) else {
        return Some("there is no such file");
    };
    let (page, anchor) = (pages.get(&file)?, anchor?);
    (!page.anchors.contains(anchor)).then_some("the page has no such heading")
}

/// `path` as seen from `directory`, without `..`; nothing if it leads out of the workspace.
fn within(directory: &Path, path: &str) -> Option<PathBuf> {
    let mut found = directory.to_owned();
    for component in Path::new(path).components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                if !found.pop() {
                    return None;
                }
            }
            other => found.push(other),
        }
    }
    Some(found)
}

/// Every path to a page or a directory below `docs/` in `text` that does not exist in `root`, with its line. A markdown
/// link is not one of them. Files with other extensions are those of repositories in tests.
fn missing_paths(root: &Path, text: &str) -> Vec<(usize, String)> {
    let mut missing = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let is_of_path = |c: char| c.is_ascii_alphanumeric() || "._-/:@".contains(c);
        for token in line.split(|c| !is_of_path(c)) {
            let path = token.trim_end_matches(['.', ':', '/']);
            let path = path.trim_start_matches("../").trim_start_matches("./");
            let Some(rest) = path.strip_prefix("docs/") else {
                continue;
            };
            let name = rest.rsplit('/').next().unwrap_or(rest);
            let is_ours = !name.contains('.') || is_page(Path::new(name));
            let is_link = line.contains(&format!("]({token}"));
            if is_ours && !is_link && !root.join(path).exists() {
                missing.push((number + 1, path.to_owned()));
            }
        }
    }
    missing
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The faults of a workspace with these files.
    fn faults_of(files: &[(&str, &str)]) -> Vec<String> {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let file = root.path().join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        faults(root.path()).unwrap()
    }

    #[test]
    fn links_to_files_directories_and_headings_are_followed() {
        let page = "# Queues\n\n[here](#queues), [up](../../README.md#start), [folder](../use),\n\
                    [`code`](../../bus/src/lib.rs), [web](https://example.com/none.md#none)\n";
        assert_eq!(
            faults_of(&[
                (
                    "README.md",
                    "# Start\n\n[queues](docs/use/queues.md#queues)\n"
                ),
                ("docs/use/queues.md", page),
                ("bus/src/lib.rs", ""),
            ]),
            Vec::<String>::new()
        );
    }

    #[test]
    fn link_to_a_missing_file_or_heading_is_a_fault() {
        let page = "# Queues\n\n[gone](gone.md), and [a line\nbelow](../README.md#stop)\n\n\
                    [out](../../x.md) [own](#own) [root](/README.md)\n";
        assert_eq!(
            faults_of(&[("README.md", "# Start\n"), ("docs/queues.md", page)]),
            [
                "docs/queues.md:3: link to gone.md: there is no such file",
                "docs/queues.md:4: link to ../README.md#stop: the page has no such heading",
                "docs/queues.md:6: link to ../../x.md: there is no such file",
                "docs/queues.md:6: link to #own: the page has no such heading",
                "docs/queues.md:6: link to /README.md: write it relative to this page",
            ]
        );
    }

    #[test]
    fn path_of_a_missing_page_in_a_source_is_a_fault() {
        let source = "//! See docs/use/gone.md, `docs/use/here.md`.\n\
                      const PAGE: &str = include_str!(\"../../docs/old.md\");\n\
                      // https://example.com/docs/x.md, a/docs/x.md, docs/greeting.txt\n\
                      // docs/use, docs/decisions/ and `docs/`.\n";
        assert_eq!(
            faults_of(&[
                ("bus/src/lib.rs", source),
                ("docs/use/here.md", "`docs/none.md`\n"),
                (".ci/run", "cat docs/gone.md\n"),
            ]),
            [
                "bus/src/lib.rs:1: docs/use/gone.md: there is no such file",
                "bus/src/lib.rs:2: docs/old.md: there is no such file",
                "bus/src/lib.rs:4: docs/decisions: there is no such file",
                "docs/use/here.md:1: docs/none.md: there is no such file",
                ".ci/run:1: docs/gone.md: there is no such file",
            ]
        );
    }

    #[test]
    fn missing_page_that_is_linked_is_one_fault() {
        assert_eq!(
            faults_of(&[("README.md", "[it](docs/gone.md#x)\n")]),
            ["README.md:1: link to docs/gone.md#x: there is no such file"]
        );
    }
}
