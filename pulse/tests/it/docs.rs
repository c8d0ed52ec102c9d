//! The example of `docs/extend/metric.md`.

mod mirror_meters;

#[test]
fn page_shows_the_metrics_as_they_are_compiled() {
    testkit::assert_page_shows(
        "docs/extend/metric.md",
        "pulse/tests/it/docs/mirror_meters.rs",
    );
}
