//! The pages of `docs/extend` whose examples are unit tests of this crate.

#[test]
fn pages_show_their_examples_as_they_are_compiled() {
    for (page, example) in [
        ("queue.md", "features/tests/example.rs"),
        ("hook-source.md", "features/tests/pushed_heads.rs"),
        ("command.md", "commands/tests/depth.rs"),
        ("configuration-key.md", "config/tests/digest.rs"),
    ] {
        testkit::assert_page_shows(
            &format!("docs/extend/{page}"),
            &format!("events/src/{example}"),
        );
    }
}
