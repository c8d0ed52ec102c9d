//! The filters of events.

use crate::event::{BuildFinished, Event, TestFinished, is_mobile};

/// The values of the selected events. An empty list selects all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Filters {
    pub(crate) trees: Vec<String>,
    pub(crate) platforms: Vec<String>,
    pub(crate) build_types: Vec<String>,
    /// Selects tests, and no builds.
    pub(crate) tests: Vec<String>,
    pub(crate) products: Vec<String>,
    /// Selects builds that have all tags of one of these lists, and no tests.
    pub(crate) build_tags: Vec<Vec<String>>,
    /// None: both.
    pub(crate) mobile: Option<bool>,
    /// Whether performance tests are selected.
    pub(crate) talos: bool,
}

impl Default for Filters {
    fn default() -> Self {
        Self {
            trees: vec!["mozilla-central".to_owned()],
            platforms: Vec::new(),
            build_types: Vec::new(),
            tests: Vec::new(),
            products: Vec::new(),
            build_tags: Vec::new(),
            mobile: Some(false),
            talos: false,
        }
    }
}

impl Filters {
    pub(crate) fn select(&self, event: &Event) -> bool {
        match event {
            Event::Build(build) => self.selects_build(build),
            Event::Test(test) => self.selects_test(test),
        }
    }

    fn selects_build(&self, build: &BuildFinished) -> bool {
        let has_all = |tags: &Vec<String>| tags.iter().all(|tag| build.tags.contains(tag));
        self.selects_common(
            &build.tree,
            &build.platform,
            &build.buildtype,
            build.product.as_deref(),
        ) && (self.build_tags.is_empty() || self.build_tags.iter().any(has_all))
    }

    fn selects_test(&self, test: &TestFinished) -> bool {
        self.selects_common(
            &test.tree,
            &test.platform,
            &test.buildtype,
            test.product.as_deref(),
        ) && allows(&self.tests, &test.test)
            && (self.talos || !test.talos)
    }

    fn selects_common(
        &self,
        tree: &str,
        platform: &str,
        build_type: &str,
        product: Option<&str>,
    ) -> bool {
        allows(&self.trees, tree)
            && allows(&self.platforms, platform)
            && allows(&self.build_types, build_type)
            && (self.products.is_empty()
                || product.is_some_and(|product| allows(&self.products, product)))
            && self
                .mobile
                .is_none_or(|mobile| mobile == is_mobile(platform))
    }
}

fn allows(values: &[String], value: &str) -> bool {
    values.is_empty() || values.iter().any(|one| one == value)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn event(value: Value) -> Event {
        serde_json::from_value(value).unwrap()
    }

    fn build(more: &Value) -> Event {
        let mut build = json!({
            "event": "build", "tree": "mozilla-central", "branch": "b", "platform": "linux64", "buildtype": "opt",
            "product": "firefox", "tags": ["nightly", "l10n"], "timestamp": "t", "key": "k",
        });
        build
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        event(build)
    }

    fn test(more: &Value) -> Event {
        let mut test = json!({
            "event": "test", "tree": "mozilla-central", "branch": "b", "os": "o", "platform": "linux64",
            "buildtype": "opt", "test": "reftest", "product": "firefox", "mobile": false, "talos": false,
            "timestamp": "t", "key": "k",
        });
        test.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        event(test)
    }

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    fn all() -> Filters {
        Filters {
            trees: Vec::new(),
            mobile: None,
            ..Filters::default()
        }
    }

    #[test]
    fn each_filter_selects_by_itself() {
        let (none, android) = (
            json!({}),
            json!({ "platform": "android-4-3", "mobile": true }),
        );
        let talos = json!({ "talos": true });
        // The selected ones of: a build, a test, and each of these with another value of the field.
        for (filters, other, expected) in [
            (
                Filters::default(),
                json!({ "tree": "try" }),
                [true, true, false, false],
            ),
            (all(), json!({ "tree": "try" }), [true, true, true, true]),
            (
                Filters {
                    trees: texts(&["try", "x"]),
                    ..all()
                },
                json!({ "tree": "try" }),
                [false, false, true, true],
            ),
            (
                Filters {
                    platforms: texts(&["linux64"]),
                    ..all()
                },
                json!({ "platform": "linux" }),
                [true, true, false, false],
            ),
            (
                Filters {
                    build_types: texts(&["debug"]),
                    ..all()
                },
                json!({ "buildtype": "debug" }),
                [false, false, true, true],
            ),
            (
                Filters {
                    products: texts(&["firefox"]),
                    ..all()
                },
                json!({ "product": null }),
                [true, true, false, false],
            ),
            (
                Filters {
                    tests: texts(&["reftest"]),
                    ..all()
                },
                json!({ "test": "reftest-1" }),
                [true, true, true, false],
            ),
            (
                Filters {
                    build_tags: vec![texts(&["l10n"])],
                    ..all()
                },
                json!({ "tags": [] }),
                [true, true, false, true],
            ),
            (
                Filters {
                    mobile: Some(true),
                    ..all()
                },
                android.clone(),
                [false, false, true, true],
            ),
            (
                Filters {
                    mobile: Some(false),
                    ..all()
                },
                android.clone(),
                [true, true, false, false],
            ),
            (
                Filters {
                    mobile: None,
                    ..all()
                },
                android.clone(),
                [true, true, true, true],
            ),
            (Filters::default(), android, [true, true, false, false]),
            (
                Filters {
                    talos: true,
                    ..all()
                },
                talos.clone(),
                [true, true, true, true],
            ),
            (
                Filters {
                    talos: false,
                    ..all()
                },
                talos,
                [true, true, true, false],
            ),
        ] {
            let wanted = [build(&none), test(&none), build(&other), test(&other)]
                .map(|event| filters.select(&event));
            assert_eq!(wanted, expected, "{filters:?} {other}");
        }
    }

    #[test]
    fn one_complete_list_of_tags_is_enough() {
        for (lists, expected) in [
            (&[][..], true),
            (&[&["nightly"][..]], true),
            (&[&["nightly", "l10n"]], true),
            (&[&["l10n", "nightly"]], true),
            (&[&["nightly", "pgo"]], false),
            (&[&["night"]], false),
            // The predecessor compared with the number of lists, so it selected none of these.
            (&[&["nightly"], &["pgo"]], true),
            (&[&["pgo"], &["l10n", "nightly"], &["x"]], true),
            (&[&["pgo", "nightly"], &["x", "l10n"]], false),
            (&[&["nightly", "nightly"]], true),
        ] {
            let filters = Filters {
                build_tags: lists.iter().map(|tags| texts(tags)).collect(),
                ..all()
            };
            assert_eq!(filters.select(&build(&json!({}))), expected, "{lists:?}");
        }
    }

    /// The meaning of the filters, as sets over the event's JSON.
    fn model(filters: &Filters, event: &Value) -> bool {
        let is_build = event["event"] == "build";
        let set = |list: &[String]| list.iter().map(|text| json!(text)).collect::<HashSet<_>>();
        let among =
            |list: &[String], field: &str| list.is_empty() || set(list).contains(&event[field]);
        let tags: HashSet<Value> = event["tags"]
            .as_array()
            .into_iter()
            .flatten()
            .cloned()
            .collect();
        let mobile = event["platform"].as_str().unwrap().starts_with("android");
        let mut conditions = vec![
            among(&filters.trees, "tree"),
            among(&filters.platforms, "platform"),
            among(&filters.build_types, "buildtype"),
            among(&filters.products, "product"),
            filters.mobile != Some(!mobile),
        ];
        if is_build {
            let lists = &filters.build_tags;
            conditions
                .push(lists.is_empty() || lists.iter().any(|list| set(list).is_subset(&tags)));
        } else {
            conditions.push(among(&filters.tests, "test"));
            conditions.push(filters.talos || event["talos"] == false);
        }
        !conditions.contains(&false)
    }

    fn some(words: &'static [&'static str], most: usize) -> impl Strategy<Value = Vec<String>> {
        prop::collection::vec(
            prop::sample::select(words).prop_map(str::to_owned),
            0..=most,
        )
    }

    const TREES: &[&str] = &["mozilla-central", "try", "autoland"];
    const PLATFORMS: &[&str] = &["linux64", "win32", "android-4-3", "androidx"];
    const TYPES: &[&str] = &["opt", "debug", "pgo"];
    const TESTS: &[&str] = &["reftest", "xpcshell"];
    const PRODUCTS: &[&str] = &["firefox", "mobile"];
    const TAGS: &[&str] = &["nightly", "l10n", "pgo"];

    prop_compose! {
        fn filters()(
            trees in some(TREES, 2),
            platforms in some(PLATFORMS, 3),
            build_types in some(TYPES, 2),
            tests in some(TESTS, 1),
            products in some(PRODUCTS, 1),
            build_tags in prop::collection::vec(some(TAGS, 3), 0..3),
            mobile in any::<Option<bool>>(),
            talos in any::<bool>(),
        ) -> Filters {
            Filters { trees, platforms, build_types, tests, products, build_tags, mobile, talos }
        }
    }

    prop_compose! {
        fn events()(
            is_build in any::<bool>(),
            tree in prop::sample::select(TREES),
            platform in prop::sample::select(PLATFORMS),
            buildtype in prop::sample::select(TYPES),
            test_name in prop::sample::select(TESTS),
            product in prop::option::of(prop::sample::select(PRODUCTS)),
            tags in some(TAGS, 3),
            talos in any::<bool>(),
        ) -> Value {
            let common = json!({ "tree": tree, "platform": platform, "buildtype": buildtype, "product": product });
            let mut more = common;
            let own = if is_build { json!({ "tags": tags }) } else { json!({ "test": test_name, "talos": talos }) };
            more.as_object_mut().unwrap().extend(own.as_object().unwrap().clone());
            serde_json::to_value(if is_build { build(&more) } else { test(&more) }).unwrap()
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn combined_filters_agree_with_model(filters in filters(), event in events()) {
            let expected = model(&filters, &event);
            prop_assert_eq!(filters.select(&serde_json::from_value(event).unwrap()), expected);
        }
    }
}
