//! The example of `docs/extend/destination.md`.

mod bundles;
mod delivery;

#[test]
fn page_shows_the_destination_and_its_test_as_they_are_compiled() {
    for file in ["bundles.rs", "delivery.rs"] {
        let file = format!("worker-hg/tests/it/docs/{file}");
        testkit::assert_page_shows("docs/extend/destination.md", &file);
    }
}
