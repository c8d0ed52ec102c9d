//! Pages of the documentation that show code which the tests compile.

use std::{fs, path::Path};

/// Asserts that `page` shows the whole of `file` as a block of Rust. Both are paths from the workspace's directory.
///
/// # Panics
///
/// When the page shows another text, or one of them cannot be read.
#[track_caller]
pub fn assert_page_shows(page: &str, file: &str) {
    let block = format!("```rust\n{}```\n", read(file));
    assert!(
        read(page).contains(&block),
        "{page} does not show {file} as it is compiled: copy the file into the page"
    );
}

#[track_caller]
#[expect(
    clippy::panic,
    reason = "a test of a page that cannot be read must fail"
)]
fn read(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    fs::read_to_string(root.join(path))
        .unwrap_or_else(|error| panic!("cannot read {path}: {error}"))
}
