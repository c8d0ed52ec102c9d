//! The jobs of Treeherder: a message for each step of each job of today's CI. The last step of a job is an event.
//!
//! A job has other fields than a message of buildbot. [`read`] maps them.

use jiff::Timestamp;
use serde::Deserialize;
use url::Url;

use super::{ParseError, Selection, combine};
use crate::{
    event::{BuildFinished, Event, TestFinished, is_mobile, timestamp},
    filters::Filters,
};

pub(super) const EXCHANGE: &str = "exchange/taskcluster-treeherder/v1/jobs";

/// The fields of a job that are read, as in Treeherder's schema `pulse-job`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Job {
    origin: Origin,
    display: Display,
    state: String,
    result: Option<String>,
    #[serde(default)]
    is_retried: bool,
    job_kind: String,
    #[serde(default)]
    labels: Vec<String>,
    product_name: Option<String>,
    build_machine: Option<Machine>,
    run_machine: Option<Machine>,
    #[serde(default)]
    logs: Vec<Log>,
    #[serde(default)]
    job_info: JobInfo,
    time_started: Option<String>,
    time_completed: Option<String>,
}

#[derive(Deserialize)]
struct Origin {
    project: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Display {
    job_name: String,
}

#[derive(Deserialize)]
struct Machine {
    platform: String,
    os: String,
}

#[derive(Deserialize)]
struct Log {
    url: String,
}

#[derive(Default, Deserialize)]
struct JobInfo {
    #[serde(default)]
    links: Vec<Link>,
}

#[derive(Deserialize)]
struct Link {
    url: String,
}

/// A routing key is `<destination>.<project>.<reserved>`.
pub(super) fn topics(filters: &Filters, selection: Selection) -> Vec<String> {
    if selection.messages {
        vec!["#".to_owned()]
    } else {
        combine("*", &[&filters.trees], "#")
    }
}

/// The end of a job, of the kinds `build` and `test`.
///
/// A job that is not `completed` has no end yet. One that was `canceled` or `superseded`, and one that is tried once
/// more (`retry`, `isRetried`), ended without a result, so it is not an event. A job that was requested again is a job
/// of its own. Jobs that were `coalesced` into this one are covered by its end.
pub(super) fn read(
    key: &str,
    body: &[u8],
    received: Timestamp,
) -> Result<Option<Event>, ParseError> {
    let job: Job = serde_json::from_slice(body)?;
    let without_result = matches!(
        job.result.as_deref(),
        Some("canceled" | "superseded" | "retry")
    );
    if job.state != "completed" || job.is_retried || without_result {
        return Ok(None);
    }
    Ok(match job.job_kind.as_str() {
        "build" => Some(Event::Build(job.build(key, received))),
        "test" => Some(Event::Test(job.test(key, received))),
        _ => None,
    })
}

impl Job {
    fn build(self, key: &str, received: Timestamp) -> BuildFinished {
        let (platform, buildtype) = (self.platform(), self.build_type());
        let started = self
            .time_started
            .as_deref()
            .and_then(|text| text.parse::<Timestamp>().ok());
        BuildFinished {
            buildurl: self.artifact(&is_build),
            testsurl: self
                .artifact(&|name| name.starts_with("target.common.tests."))
                .or_else(|| self.artifact(&|name| name == "target.test_packages.json")),
            builddate: started.map(Timestamp::as_second),
            buildid: None,
            timestamp: timestamp(self.time_completed.as_deref(), received),
            product: self.product(),
            tags: self
                .labels
                .into_iter()
                .filter(|label| *label != buildtype)
                .collect(),
            branch: self.origin.project.clone(),
            tree: self.origin.project,
            platform,
            buildtype,
            key: key.to_owned(),
        }
    }

    fn test(self, key: &str, received: Timestamp) -> TestFinished {
        let (platform, test) = (self.platform(), self.test_name().to_owned());
        TestFinished {
            os: self.os().unwrap_or(&platform).to_owned(),
            buildtype: self.build_type(),
            builddate: None,
            timestamp: timestamp(self.time_completed.as_deref(), received),
            logurl: self
                .logs
                .iter()
                .find(|log| is_web(&log.url))
                .map(|log| log.url.clone()),
            mobile: is_mobile(&platform),
            talos: test.starts_with("talos"),
            product: self.product(),
            branch: self.origin.project.clone(),
            tree: self.origin.project,
            platform,
            test,
            key: key.to_owned(),
        }
    }

    /// The platform of the build machine, else of the machine that ran the job, else the part before the slash in the
    /// job's name, without the kind of the job.
    fn platform(&self) -> String {
        let machine = self
            .build_machine
            .as_ref()
            .or(self.run_machine.as_ref())
            .map(|machine| machine.platform.as_str());
        let platform = machine.or_else(|| {
            let (named, _) = self.display.job_name.split_once('/')?;
            named.split_once('-').map(|(_kind, platform)| platform)
        });
        platform.unwrap_or_default().to_owned()
    }

    /// The system that ran the job. Where Taskcluster has a dash, the machine's platform stands for it.
    fn os(&self) -> Option<&str> {
        let machine = self.run_machine.as_ref()?;
        Some(if machine.os == "-" {
            &machine.platform
        } else {
            &machine.os
        })
    }

    /// `debug` or `opt` when it is a label, else the first label; without labels `opt`, as Treeherder itself assumes.
    fn build_type(&self) -> String {
        let labels = || self.labels.iter().map(String::as_str);
        let usual = ["debug", "opt"]
            .into_iter()
            .find(|usual| labels().any(|label| label == *usual));
        usual
            .or_else(|| labels().next())
            .unwrap_or("opt")
            .to_owned()
    }

    /// The part after platform and build type in a name such as `test-linux1804-64-qr/debug-reftest-2`; the whole name
    /// in another form.
    fn test_name(&self) -> &str {
        let name = self.display.job_name.as_str();
        let test = name
            .split_once('/')
            .and_then(|(_, rest)| rest.split_once('-'))
            .map(|(_build_type, test)| test);
        test.filter(|test| !test.is_empty()).unwrap_or(name)
    }

    /// In lower case, as buildbot has it.
    fn product(&self) -> Option<String> {
        self.product_name
            .as_deref()
            .map(str::to_lowercase)
            .filter(|product| product != "unknown")
    }

    /// The address of the first artifact whose name matches. The name is the end of the link's path; its text is for people.
    fn artifact(&self, matches: &dyn Fn(&str) -> bool) -> Option<String> {
        let named = |link: &&Link| {
            let name = Url::parse(&link.url)
                .ok()
                .and_then(|url| Some(url.path_segments()?.next_back()?.to_owned()));
            is_web(&link.url) && name.is_some_and(|name| matches(&name))
        };
        self.job_info
            .links
            .iter()
            .find(named)
            .map(|link| link.url.clone())
    }
}

/// Whether an artifact of this name is the build itself: `target.` and the ending of an archive or a package.
fn is_build(name: &str) -> bool {
    let ending = name.strip_prefix("target.");
    ending.is_some_and(|ending| {
        matches!(
            ending,
            "tar.bz2" | "tar.gz" | "tar.xz" | "zip" | "dmg" | "apk"
        )
    })
}

fn is_web(url: &str) -> bool {
    url.starts_with("https://") || url.starts_with("http://")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const SAMPLES: &str = include_str!("../../tests/fixtures/treeherder/pulse-jobs-samples.json");
    const SCHEMA: &str = include_str!("../../tests/fixtures/treeherder/pulse-job.schema.json");
    const KEY: &str = "primary.autoland._";

    /// The samples of Treeherder's own tests. These set the project themselves.
    fn samples() -> Vec<Value> {
        let mut samples: Vec<Value> = serde_json::from_str(SAMPLES).unwrap();
        for sample in &mut samples {
            sample["origin"]["project"] = json!("autoland");
        }
        samples
    }

    /// A sample with these fields instead of its own. All of them are as the schema requires.
    fn event(more: Value) -> Option<Value> {
        let mut job = samples().swap_remove(0);
        job.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        let schema = serde_json::from_str(SCHEMA).unwrap();
        let faults: Vec<_> = jsonschema::validator_for(&schema)
            .unwrap()
            .iter_errors(&job)
            .map(|e| e.to_string())
            .collect();
        assert_eq!(faults, [""; 0], "{job}");
        let event = read(KEY, job.to_string().as_bytes(), Timestamp::UNIX_EPOCH).unwrap();
        event.map(|event| serde_json::to_value(event).unwrap())
    }

    #[test]
    fn schema_samples_are_all_sent() {
        let validator = jsonschema::validator_for(&serde_json::from_str(SCHEMA).unwrap()).unwrap();
        let mut tests = Vec::new();
        for sample in samples() {
            assert!(validator.is_valid(&sample), "{sample}");
            let event = read(KEY, sample.to_string().as_bytes(), Timestamp::UNIX_EPOCH).unwrap();
            let Some(Event::Test(test)) = event else {
                panic!("it is a test: {sample}")
            };
            tests.push(test.test);
        }
        let expected = [
            "mochitest-browser-chrome-spi-nw-5",
            "mochitest-devtools-chrome-10",
            "jsreftest-2",
            "mochitest-browser-chrome-swr-11",
            "mochitest-browser-chrome-spi-nw-11",
            "mochitest-browser-chrome-swr-9",
        ];
        assert_eq!(tests, expected);
    }

    #[test]
    fn test_is_sent_with_every_field() {
        let log = "https://firefox-ci-tc.services.mozilla.com/api/queue/v1/task/AI3Nrr3gSDSpZ9E9aBA3rg/runs/0/artifacts/\
                   public/logs/live_backing.log";
        let expected = json!({
            "event": "test",
            "tree": "autoland",
            "branch": "autoland",
            "os": "linux",
            "platform": "linux64",
            "buildtype": "debug",
            "builddate": null,
            "test": "mochitest-browser-chrome-spi-nw-5",
            "timestamp": "20250227070642",
            "logurl": log,
            "mobile": false,
            "talos": false,
            "product": "firefox",
            "key": KEY,
        });
        assert_eq!(event(json!({})).unwrap(), expected);
    }

    #[test]
    fn build_is_sent_with_every_field() {
        let link = |name: &str| {
            let url = format!("https://tc.example/runs/0/artifacts/public/build/{name}");
            json!({ "url": url, "linkText": name, "label": "artifact uploaded" })
        };
        let names = [
            "target.langpack.xpi",
            "target.tar.xz",
            "target.test_packages.json",
            "target.common.tests.tar.zst",
        ];
        let machine = json!({ "platform": "linux64-shippable", "os": "-", "architecture": "-" });
        let build = event(json!({
            "jobKind": "build",
            "display": { "jobSymbol": "Bpgo", "groupSymbol": "?", "jobName": "build-linux64-shippable/opt" },
            "labels": ["shippable", "opt"],
            "buildMachine": machine,
            "jobInfo": { "links": names.map(link) },
        }));
        let expected = json!({
            "event": "build",
            "buildurl": "https://tc.example/runs/0/artifacts/public/build/target.tar.xz",
            "testsurl": "https://tc.example/runs/0/artifacts/public/build/target.common.tests.tar.zst",
            "tree": "autoland",
            "branch": "autoland",
            "builddate": 1740639843,
            "buildid": null,
            "timestamp": "20250227070642",
            "platform": "linux64-shippable",
            "buildtype": "opt",
            "product": "firefox",
            "tags": ["shippable"],
            "key": KEY,
        });
        assert_eq!(build.unwrap(), expected);
    }

    #[test]
    fn only_finished_builds_and_tests_are_sent() {
        for (more, expected) in [
            (json!({ "state": "unscheduled" }), false),
            (json!({ "state": "pending" }), false),
            (json!({ "state": "running", "result": "unknown" }), false),
            (json!({ "result": "canceled" }), false),
            (json!({ "result": "superseded" }), false),
            (json!({ "result": "retry" }), false),
            (json!({ "isRetried": true, "result": "exception" }), false),
            (json!({ "jobKind": "other" }), false),
            (json!({ "result": "fail" }), true),
            (json!({ "result": "exception" }), true),
            (json!({ "retryId": 1 }), true),
            (json!({ "coalesced": ["a1", "a2"] }), true),
        ] {
            assert_eq!(event(more.clone()).is_some(), expected, "{more}");
        }
    }

    #[test]
    fn fields_missing_in_job_are_derived() {
        let machine =
            |platform: &str| json!({ "platform": platform, "os": "-", "architecture": "-" });
        let display = |name: &str| json!({ "jobSymbol": "x", "groupSymbol": "x", "jobName": name });
        for (more, field, expected) in [
            (
                json!({ "runMachine": machine("t-linux") }),
                "os",
                json!("t-linux"),
            ),
            (
                json!({ "buildMachine": machine("android-hw-p5") }),
                "mobile",
                json!(true),
            ),
            (json!({ "labels": ["asan"] }), "buildtype", json!("asan")),
            (json!({ "labels": [] }), "buildtype", json!("opt")),
            (
                json!({ "labels": ["ccov", "debug"] }),
                "buildtype",
                json!("debug"),
            ),
            (json!({ "productName": "unknown" }), "product", json!(null)),
            (
                json!({ "display": display("test-linux64/opt-talos-g1") }),
                "talos",
                json!(true),
            ),
            (
                json!({ "display": display("a strange name") }),
                "test",
                json!("a strange name"),
            ),
            (
                json!({ "logs": [{ "url": "javascript:alert(1)", "name": "x" }] }),
                "logurl",
                json!(null),
            ),
        ] {
            assert_eq!(event(more.clone()).unwrap()[field], expected, "{more}");
        }
        let mut job = samples().swap_remove(0);
        for field in ["buildMachine", "runMachine", "timeCompleted"] {
            job.as_object_mut().unwrap().remove(field);
        }
        let event = read(KEY, job.to_string().as_bytes(), Timestamp::UNIX_EPOCH).unwrap();
        let Some(Event::Test(test)) = event else {
            panic!("it is a test")
        };
        assert_eq!(
            (test.platform.as_str(), test.os.as_str()),
            ("linux1804-64-qr", "linux1804-64-qr")
        );
        assert_eq!(test.timestamp, "19700101000000", "when it came");
    }

    #[test]
    fn malformed_job_is_refused() {
        for body in ["", "{}", "[]", "null", "{\"state\": \"completed\"}"] {
            assert!(
                read(KEY, body.as_bytes(), Timestamp::UNIX_EPOCH).is_err(),
                "{body}"
            );
        }
    }

    #[test]
    fn only_trees_are_selectable_by_topic() {
        let selection = Selection {
            builds: true,
            tests: true,
            messages: false,
        };
        let filters = Filters {
            trees: vec!["try".to_owned(), "autoland".to_owned()],
            ..Filters::default()
        };
        assert_eq!(topics(&filters, selection), ["*.try.#", "*.autoland.#"]);
        assert_eq!(
            topics(
                &Filters {
                    trees: Vec::new(),
                    ..filters.clone()
                },
                selection
            ),
            ["*.*.#"]
        );
        assert_eq!(
            topics(
                &filters,
                Selection {
                    messages: true,
                    ..selection
                }
            ),
            ["#"]
        );
    }
}
