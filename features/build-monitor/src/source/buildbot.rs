//! The normalized messages of buildbot.
//!
//! The routing key is `build.<tree>.<platform>.<buildtype>.<tag…>.<builder>`, or
//! `unittest|talos.<tree>.<platform>.<os>.<buildtype>.<test>.<product>.<builder>`. It decides between build and
//! test, as in this monitor's predecessor; the other fields come from the [`Payload`].

use jiff::Timestamp;
use serde::Deserialize;

use super::{ParseError, Selection, combine};
use crate::{
    event::{BuildFinished, Event, TestFinished, is_mobile, timestamp},
    filters::Filters,
};

pub(super) const EXCHANGE: &str = "exchange/build/normalized";

/// The least words of the routing key of a build, and of a test. The last one takes the rest.
const BUILD_WORDS: usize = 5;
const TEST_WORDS: usize = 8;

#[derive(Deserialize)]
struct Body {
    payload: Payload,
}

/// The fields of a payload that are read.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Payload {
    buildurl: Option<String>,
    testsurl: Option<String>,
    logurl: Option<String>,
    builddate: Option<i64>,
    buildid: Option<String>,
    product: Option<String>,
    tags: Option<Vec<String>>,
    /// When the normalizer received buildbot's own message.
    timestamp: Option<String>,
    /// The routing key of buildbot's own message.
    key: Option<String>,
}

pub(super) fn topics(filters: &Filters, selection: Selection) -> Vec<String> {
    if selection.messages {
        return ["build.#", "unittest.#", "talos.#"]
            .map(str::to_owned)
            .to_vec();
    }
    let Filters {
        trees,
        platforms,
        build_types,
        tests,
        products,
        talos,
        ..
    } = filters;
    let mut topics = Vec::new();
    if selection.builds {
        topics.extend(combine("build", &[trees, platforms, build_types], "#"));
    }
    if selection.tests {
        let lists: [&[String]; 6] = [trees, platforms, &[], build_types, tests, products];
        topics.extend(combine("unittest", &lists, "#"));
        if *talos {
            topics.extend(combine("talos", &lists, "#"));
        }
    }
    topics
}

pub(super) fn read(key: &str, body: &[u8], received: Timestamp) -> Result<Event, ParseError> {
    let kind = key.split('.').next().unwrap_or_default();
    let count = if kind == "build" {
        BUILD_WORDS
    } else {
        TEST_WORDS
    };
    let words: Vec<&str> = key.splitn(count, '.').collect();
    let payload = || Ok::<_, ParseError>(serde_json::from_slice::<Body>(body)?.payload);
    match *words {
        ["build", tree, platform, buildtype, _extra] => {
            let payload = payload()?;
            Ok(Event::Build(BuildFinished {
                buildurl: payload.buildurl,
                testsurl: payload.testsurl,
                tree: tree.to_owned(),
                branch: tree.to_owned(),
                builddate: payload.builddate,
                buildid: payload.buildid,
                timestamp: timestamp(payload.timestamp.as_deref(), received),
                platform: platform.to_owned(),
                buildtype: buildtype.to_owned(),
                product: payload.product,
                // Some messages have an empty one.
                tags: payload
                    .tags
                    .unwrap_or_default()
                    .into_iter()
                    .filter(|tag| !tag.is_empty())
                    .collect(),
                key: payload.key.unwrap_or_else(|| key.to_owned()),
            }))
        }
        [
            kind @ ("unittest" | "talos"),
            tree,
            platform,
            os,
            buildtype,
            test,
            product,
            _builder,
        ] => {
            let payload = payload()?;
            Ok(Event::Test(TestFinished {
                tree: tree.to_owned(),
                branch: tree.to_owned(),
                os: os.to_owned(),
                platform: platform.to_owned(),
                buildtype: buildtype.to_owned(),
                builddate: payload.builddate,
                test: test.to_owned(),
                timestamp: timestamp(payload.timestamp.as_deref(), received),
                logurl: payload.logurl,
                mobile: is_mobile(platform),
                talos: kind == "talos",
                product: Some(product.to_owned()),
                key: payload.key.unwrap_or_else(|| key.to_owned()),
            }))
        }
        _ => Err(ParseError::Key),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use pulse::Topic;
    use serde_json::json;

    use super::*;

    const KEYS: &str = include_str!("../../tests/fixtures/buildbot/all-routing-keys.json");
    const EMPTY: &[u8] = br#"{"payload": {}}"#;

    fn epoch() -> Timestamp {
        Timestamp::UNIX_EPOCH
    }

    /// The routing keys and the bodies of all recorded messages.
    fn recorded() -> Vec<(String, serde_json::Value)> {
        let files = fs::read_dir(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/fixtures/buildbot"
        ))
        .unwrap();
        let files = files.map(|file| file.unwrap().path());
        let files = files.filter(|path| {
            path.file_name()
                .unwrap()
                .to_str()
                .unwrap()
                .starts_with("normalized-")
        });
        let messages = files.map(|path| {
            let mut message: serde_json::Value =
                serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
            (
                message["routing_key"].as_str().unwrap().to_owned(),
                message["body"].take(),
            )
        });
        let messages: Vec<_> = messages.collect();
        assert_eq!(messages.len(), 13);
        messages
    }

    #[test]
    fn recorded_build_is_sent_with_every_field() {
        let (key, body) = recorded()
            .into_iter()
            .find(|(key, _)| key.contains("win32-nightly"))
            .unwrap();
        let event = read(&key, body.to_string().as_bytes(), epoch()).unwrap();
        let place = "http://archive.mozilla.org/pub/firefox/tinderbox-builds/mozilla-central-win32/1446548568";
        let expected = json!({
            "event": "build",
            "buildurl": format!("{place}/firefox-45.0a1.en-US.win32.zip"),
            "testsurl": format!("{place}/firefox-45.0a1.en-US.win32.web-platform.tests.zip"),
            "tree": "mozilla-central",
            "branch": "mozilla-central",
            "builddate": 1446519768,
            "buildid": "20151103030248",
            "timestamp": "20261121025231",
            "platform": "win32",
            "buildtype": "opt",
            "product": "firefox",
            "tags": ["nightly"],
            "key": "build.mozilla-central-win32-nightly.22.log_uploaded",
        });
        assert_eq!(serde_json::to_value(event).unwrap(), expected);
    }

    #[test]
    fn key_and_payload_of_recorded_messages_agree() {
        for (key, body) in recorded() {
            let event =
                serde_json::to_value(read(&key, body.to_string().as_bytes(), epoch()).unwrap())
                    .unwrap();
            for field in [
                "tree",
                "platform",
                "buildtype",
                "product",
                "os",
                "test",
                "talos",
                "key",
            ] {
                if let Some(said) = event.get(field) {
                    assert!(
                        body["payload"]
                            .get(field)
                            .is_none_or(|payload| payload == said),
                        "{key}: {field}"
                    );
                }
            }
        }
    }

    #[test]
    fn every_recorded_routing_key_is_read() {
        let keys: Vec<String> = serde_json::from_str(KEYS).unwrap();
        assert!(keys.len() > 100);
        for key in keys {
            let Event::Build(build) = read(&key, EMPTY, epoch()).unwrap() else {
                panic!("{key} is of a build")
            };
            let words: Vec<&str> = key.split('.').collect();
            assert_eq!(
                [build.tree.as_str(), &build.platform, &build.buildtype],
                words[1..4],
                "{key}"
            );
        }
    }

    #[test]
    fn message_with_empty_payload_is_sent_with_fields_of_its_key() {
        let Event::Test(test) = read(
            "talos.try.android-4-3.panda.opt.tp5o.mobile.b",
            EMPTY,
            epoch(),
        )
        .unwrap() else {
            panic!("it is of a test")
        };
        assert_eq!(
            (test.timestamp.as_str(), test.logurl, test.builddate),
            ("19700101000000", None, None)
        );
        assert!(test.mobile && test.talos);
        assert_eq!(test.key, "talos.try.android-4-3.panda.opt.tp5o.mobile.b");
    }

    #[test]
    fn unreadable_message_is_refused() {
        for key in [
            "",
            "build",
            "build.a.b.c",
            "unittest.a.b.c.d.e.f",
            "builds.a.b.c.d",
            "talos",
            "nightly.a.b.c.d.e.f.g",
        ] {
            assert!(
                matches!(read(key, EMPTY, epoch()), Err(ParseError::Key)),
                "{key}"
            );
        }
        for body in [
            "",
            "{}",
            "[]",
            "no json",
            "{\"payload\": null}",
            "{\"payload\": {\"tags\": \"x\"}}",
            "{\"payload\": {\"builddate\": \"soon\"}}",
            "{\"payload\": {\"buildurl\": [1]}}",
        ] {
            assert!(
                matches!(
                    read("build.a.b.c.d", body.as_bytes(), epoch()),
                    Err(ParseError::Body(_))
                ),
                "{body}"
            );
        }
    }

    #[test]
    fn topics_select_no_more_than_needed() {
        let selection = Selection {
            builds: true,
            tests: true,
            messages: false,
        };
        let filters = Filters {
            platforms: vec!["linux64".to_owned()],
            tests: vec!["reftest".to_owned(), "xpcshell".to_owned()],
            ..Filters::default()
        };
        let narrow = [
            "build.mozilla-central.linux64.*.#",
            "unittest.mozilla-central.linux64.*.*.reftest.*.#",
            "unittest.mozilla-central.linux64.*.*.xpcshell.*.#",
        ];
        assert_eq!(topics(&filters, selection), narrow);
        assert_eq!(
            topics(
                &filters,
                Selection {
                    tests: false,
                    ..selection
                }
            ),
            narrow[..1]
        );
        assert_eq!(
            topics(
                &filters,
                Selection {
                    builds: false,
                    ..selection
                }
            ),
            narrow[1..]
        );
        assert_eq!(
            topics(
                &filters,
                Selection {
                    messages: true,
                    ..selection
                }
            ),
            ["build.#", "unittest.#", "talos.#"]
        );
        let talos = topics(
            &Filters {
                talos: true,
                ..filters
            },
            selection,
        );
        assert_eq!(talos[3], "talos.mozilla-central.linux64.*.*.reftest.*.#");
    }

    #[test]
    fn topics_pass_everything_that_filters_select() {
        let selection = Selection {
            builds: true,
            tests: true,
            messages: false,
        };
        let texts = |words: &[&str]| {
            words
                .iter()
                .map(|word| (*word).to_owned())
                .collect::<Vec<_>>()
        };
        for (trees, platforms, build_types, talos) in [
            (&["mozilla-central"][..], &[][..], &[][..], false),
            (
                &["mozilla-central"],
                &["win32", "linux64"],
                &["opt", "pgo"],
                true,
            ),
            (&["try", "mozilla-aurora"], &[], &["debug"], true),
            (&[], &["macosx64"], &[], false),
            (&[], &[], &[], true),
        ] {
            let filters = Filters {
                trees: texts(trees),
                platforms: texts(platforms),
                build_types: texts(build_types),
                talos,
                ..Filters::default()
            };
            let topics: Vec<Topic> = topics(&filters, selection)
                .iter()
                .map(|topic| topic.parse().unwrap())
                .collect();
            for (key, body) in recorded() {
                let event = read(&key, body.to_string().as_bytes(), epoch()).unwrap();
                let comes = topics.iter().any(|topic| topic.matches(&key));
                assert_eq!(comes, filters.select(&event), "{key} with {filters:?}");
            }
        }
    }
}
