//! The fake Phabricator answers as the real one: every recorded request of the methods that are used here is sent to
//! it, with the objects of its own world in the place of the recorded ones.

use std::collections::{BTreeMap, BTreeSet};

use secrecy::ExposeSecret;
use serde_json::{Value, json};
use url::form_urlencoded;

use crate::{
    recorded::{REDACTED, Recorded, form_fields},
    stage::Stage,
    world::{http, response_to},
};

/// The methods that are used here. Each must be compared.
const METHODS: [&str; 17] = [
    "conduit.ping",
    "user.whoami",
    "user.search",
    "project.search",
    "diffusion.repository.search",
    "differential.revision.search",
    "differential.diff.search",
    "differential.getrawdiff",
    "edge.search",
    "harbormaster.buildplan.search",
    "harbormaster.step.search",
    "harbormaster.buildable.search",
    "harbormaster.build.search",
    "harbormaster.target.search",
    "harbormaster.artifact.search",
    "harbormaster.sendmessage",
    "harbormaster.createartifact",
];

const FORM: &str =
    "its parameters are fields of a form: the client sends them as JSON in one field";
const VERB: &str = "it is not a POST: the client sends nothing else";
const OTHER_USER: &str = "it is another user's view: the fake knows one token";
const NOT_ASKED: &str =
    "nobody here asks for this constraint, order or attachment: the fake refuses it as unknown";

/// Recorded exchanges that are not compared, and why.
const LEFT_OUT: [(&str, &str); 23] = [
    ("differential.diff.search.id.form", FORM),
    ("differential.diff.search.secure-as-carol", OTHER_USER),
    ("differential.getrawdiff.simple.form", FORM),
    (
        "differential.revision.search.invisible-as-alice",
        OTHER_USER,
    ),
    ("differential.revision.search.phid-attachments.form", FORM),
    ("differential.revision.search.responsible", NOT_ASKED),
    ("differential.revision.search.secure-as-carol", OTHER_USER),
    ("differential.revision.search.statuses", NOT_ASKED),
    ("diffusion.repository.search.callsign", NOT_ASKED),
    ("diffusion.repository.search.phid-attachments", NOT_ASKED),
    ("edge.search.form", FORM),
    ("error.bad-token.form", FORM),
    ("harbormaster.createartifact.form", FORM),
    ("harbormaster.sendmessage.as-carol", OTHER_USER),
    ("harbormaster.sendmessage.form", FORM),
    ("http.put", VERB),
    ("project.search.name", NOT_ASKED),
    ("project.search.phid-attachments", NOT_ASKED),
    ("user.search.availability", NOT_ASKED),
    ("user.search.phid.form", FORM),
    ("user.whoami.form", FORM),
    ("user.whoami.get", VERB),
    ("user.whoami.get-json", VERB),
];

/// What must be the same and not only of the same type: words, switches, and places in a page.
const EXACT: [&str; 10] = [
    ".value",
    ".type",
    ".edgeType",
    ".closed",
    ".isDraft",
    ".artifactType",
    ".isReleased",
    ".buildGeneration",
    ".limit",
    ".order",
];
/// The same, where the objects have the recorded numbers, or times.
const NUMBERED: [&str; 3] = [".id", ".after", ".before"];

#[tokio::test]
async fn fake_answers_recorded_requests_as_recorded() {
    let left_out: BTreeMap<&str, &str> = LEFT_OUT.into_iter().collect();
    let names = Recorded::names();
    let unknown: Vec<&str> = left_out
        .keys()
        .copied()
        .filter(|name| !names.iter().any(|known| known == name))
        .collect();
    assert!(unknown.is_empty(), "left out, but not there: {unknown:?}");

    let http = http();
    // The methods of which an answer that holds something was compared.
    let mut answered = BTreeSet::new();
    let mut differences = Vec::new();
    for name in names
        .iter()
        .filter(|name| !left_out.contains_key(name.as_str()))
    {
        let recorded = Recorded::read(name);
        let response = &recorded.response;
        let found_nothing = response["result"]["data"]
            .as_array()
            .is_some_and(Vec::is_empty);
        if response["error_code"].is_null() && !found_nothing {
            answered.insert(recorded.method.clone());
        }
        differences.extend(replay(name, recorded, &http).await);
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    for method in METHODS {
        assert!(
            answered.contains(method),
            "no answer of {method} was compared"
        );
    }
}

/// Sends one recorded request to the fake. Returns how its answer differs.
async fn replay(name: &str, recorded: Recorded, http: &reqwest::Client) -> Vec<String> {
    let stage = Stage::of(name, http).await;
    let token = match name {
        // Well formed, and nobody's.
        "error.bad-token.unknown" | "conduit.ping.bad-token" => {
            "api-0123456789012345678901234567".to_owned()
        }
        _ => stage.fake.token().expose_secret().to_owned(),
    };
    let ours = |text: &str| stage.translate(text).replace(REDACTED, &token);
    let (kind, body) = match recorded.request_body.starts_with('{') {
        true => ("application/json", ours(&recorded.request_body)),
        false => {
            let mut form = form_fields(recorded.request_body.as_bytes());
            if let Some(params) = form.get_mut("params") {
                *params = without_subscribers(&ours(params));
            }
            let body = form_urlencoded::Serializer::new(String::new())
                .extend_pairs(&form)
                .finish();
            ("application/x-www-form-urlencoded", body)
        }
    };
    let url = format!("{}api/{}", stage.fake.url(), recorded.method);
    let request = http.post(url).header("content-type", kind).body(body);
    let answer = response_to(request).await.unwrap();

    let mut differences = Vec::new();
    let mut compare = |what: &str, ours: &Value, theirs: &Value| {
        if ours != theirs {
            differences.push(format!("{name}: {what} is {ours}, recorded was {theirs}"));
        }
    };
    compare(
        "the status",
        &json!(answer.status.as_u16()),
        &json!(recorded.http_status),
    );
    let media = |kind: &str| json!(kind.split(';').next());
    let kind = answer.headers["content-type"].to_str().unwrap();
    compare(
        "the content type",
        &media(kind),
        &media(&recorded.http_headers["Content-Type"]),
    );
    if recorded.response.is_null() {
        // A page for people.
        return differences;
    }
    let answer: Value = answer.json().unwrap();
    let theirs: Value =
        serde_json::from_str(&without_subscribers(&recorded.response.to_string())).unwrap();
    compare("the code", &answer["error_code"], &theirs["error_code"]);
    compare(
        "the text",
        &answer["error_info"],
        &json!(theirs["error_info"].as_str().map(ours)),
    );
    let (shown, expected) = (
        shape(&recorded.method, &answer),
        shape(&recorded.method, &theirs),
    );
    differences.extend(
        expected
            .difference(&shown)
            .map(|line| format!("{name}: recorded was {line}")),
    );
    differences.extend(
        shown
            .difference(&expected)
            .map(|line| format!("{name}: there is {line}")),
    );
    differences
}

/// The fake does not have this attachment: nobody asks for it, but half of the recorded requests do. Text that is no
/// JSON stays as it is.
fn without_subscribers(text: &str) -> String {
    fn walk(value: &mut Value) {
        match value {
            Value::Object(map) => {
                map.remove("subscribers");
                map.values_mut().for_each(walk);
            }
            Value::Array(list) => list.iter_mut().for_each(walk),
            _ => {}
        }
    }
    let Ok(mut value) = serde_json::from_str::<Value>(text) else {
        return text.to_owned();
    };
    walk(&mut value);
    value.to_string()
}

/// Every path in an answer, with the type of what is there, or what is there if it must be the same. Objects in a
/// list are compared one by one; plain values in a list, and edges (whose order within a second is open), are not.
fn shape(method: &str, answer: &Value) -> BTreeSet<String> {
    let numbered = !method.starts_with("harbormaster.");
    let ordered = method != "edge.search";
    let is_exact = |path: &str| {
        EXACT.iter().any(|key| path.ends_with(key))
            || numbered && NUMBERED.iter().any(|key| path.ends_with(key))
    };
    let mut lines = BTreeSet::new();
    let mut left = vec![(String::new(), answer)];
    while let Some((path, value)) = left.pop() {
        let kind = match value {
            Value::Null => "null",
            Value::Bool(_) => "bool",
            Value::Number(_) => "number",
            Value::String(_) => "string",
            Value::Array(list) => {
                let place = |index: usize, entry: &Value| match ordered && entry.is_object() {
                    true => format!("{path}[{index}]"),
                    false => format!("{path}[]"),
                };
                left.extend(
                    list.iter()
                        .enumerate()
                        .map(|(index, entry)| (place(index, entry), entry)),
                );
                if list.iter().any(Value::is_object) {
                    lines.insert(format!("{path} has {} entries", list.len()));
                }
                "list"
            }
            Value::Object(map) => {
                left.extend(
                    map.iter()
                        .map(|(key, entry)| (format!("{path}.{key}"), entry)),
                );
                "map"
            }
        };
        lines.insert(if is_exact(&path) {
            format!("{path} = {value}")
        } else {
            format!("{path}: {kind}")
        });
    }
    lines
}
