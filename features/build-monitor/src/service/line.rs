//! An event as a line. Foreign text in it can neither begin another line nor control a terminal.

use runtime::sanitize;

use crate::{Event, latest::readable};

/// The most bytes of a line for people.
const LINE: usize = 1000;

/// For people.
pub(super) fn text(event: &Event) -> String {
    let line = match event {
        Event::Build(build) => {
            let (tree, platform, buildtype) = (&build.tree, &build.platform, &build.buildtype);
            let url = build.buildurl.as_deref().unwrap_or("nothing to download");
            format!(
                "{} build {tree} {platform} {buildtype}: {url}",
                readable(&build.timestamp)
            )
        }
        Event::Test(test) => {
            let (tree, os, buildtype, name) = (&test.tree, &test.os, &test.buildtype, &test.test);
            let log = test.logurl.as_deref().unwrap_or("no log");
            format!(
                "{} test {tree} {os} {buildtype} {name}: {log}",
                readable(&test.timestamp)
            )
        }
    };
    sanitize::one_line(&line, LINE)
}

/// For programs.
pub(super) fn json(event: &Event) -> serde_json::Result<String> {
    Ok(sanitize::json(&serde_json::to_string(event)?).into_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(more: serde_json::Value) -> Event {
        let mut event = json!({
            "event": "build", "tree": "try", "branch": "try", "platform": "linux64", "buildtype": "opt", "tags": [],
            "timestamp": "20261121025554", "key": "k", "os": "ubuntu", "test": "reftest", "mobile": false, "talos": false,
        });
        event
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        serde_json::from_value(event).unwrap()
    }

    #[test]
    fn line_has_time_kind_place_and_address() {
        for (more, expected) in [
            (
                json!({}),
                "2026-11-21 02:55:54 build try linux64 opt: nothing to download",
            ),
            (
                json!({ "buildurl": "http://a/b" }),
                "2026-11-21 02:55:54 build try linux64 opt: http://a/b",
            ),
            (
                json!({ "event": "test" }),
                "2026-11-21 02:55:54 test try ubuntu opt reftest: no log",
            ),
            (
                json!({ "tree": "a\nb\u{1b}[2J\u{9b}\u{202e}\u{2066}" }),
                "2026-11-21 02:55:54 build a b[2J linux64 opt: nothing to download",
            ),
        ] {
            assert_eq!(text(&event(more)), expected);
        }
        let hostile = event(json!({ "tree": "a\nb\u{9b}\u{202e}" }));
        let line = json(&hostile).unwrap();
        assert!(
            !line.contains(|c: char| c.is_control() || sanitize::is_format(c)),
            "{line}"
        );
        assert_eq!(serde_json::from_str::<Event>(&line).unwrap(), hostile);
    }
}
