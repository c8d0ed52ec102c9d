//! The fake's build targets.

use serde_json::{Map, Value, json};

use super::{
    Artifact, Target, TargetStatus,
    search::{Known, Refusal, Search, only},
    state::State,
};

pub(super) fn targets(state: &State, params: &Map<String, Value>) -> Result<Value, Refusal> {
    let known = Known { integers: &["ids"], strings: &["phids", "buildPHIDs"], attachments: &[] };
    let search = Search::read("harbormaster.target.search", params, &known)?;
    let found = state.targets.iter().filter(|target| {
        state.sees_target(target)
            && search.wants("ids", target.id)
            && search.wants("phids", target.phid.as_str())
            && search.wants("buildPHIDs", build_phid(target))
    });
    let shown = found.map(|target| {
        let (value, name) = match target.status {
            TargetStatus::Building => ("target/building", "Building"),
            TargetStatus::Waiting => ("target/waiting", "Waiting for Message"),
            TargetStatus::Passed => ("target/passed", "Passed"),
            TargetStatus::Failed => ("target/failed", "Failed"),
        };
        let started = target.started_at.as_second();
        let completed = target.completed_at.map(|at| at.as_second());
        let fields = json!({
            "name": "Notify code review",
            "buildPHID": build_phid(target),
            "buildStepPHID": "PHID-HMCS-00000000000000000000",
            "status": { "value": value, "name": name },
            "epochStarted": started,
            "epochCompleted": completed,
            "buildGeneration": 1,
            "dateCreated": started,
            "dateModified": completed.unwrap_or(started),
            "policy": { "view": "users" },
        });
        (
            target.id,
            json!({ "id": target.id, "type": "HMBT", "phid": target.phid, "fields": fields, "attachments": {} }),
        )
    });
    Ok(search.page(shown.collect()))
}

/// Each build has one target here.
fn build_phid(target: &Target) -> String {
    format!("PHID-HMBD-{:020}", target.id)
}

pub(super) fn send_message(state: &mut State, params: &Map<String, Value>) -> Result<Value, Refusal> {
    only("harbormaster.sendmessage", params, &["receiver", "type", "unit", "lint"])?;
    let text = |key: &str| params.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    let receiver = text("receiver").ok_or_else(|| {
        Refusal::core(
            "Call omits required \"receiver\" parameter. Specify the PHID of the object you want to send a message to.",
        )
    })?;
    let kind = text("type").ok_or_else(|| {
        Refusal::core("Call omits required \"type\" parameter. Specify the type of message you want to send.")
    })?;
    let units = match params.get("unit") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(units)) => units.iter().map(check_unit).collect::<Result<_, _>>()?,
        Some(_) => return Err(Refusal::core("foreach() argument must be of type array|object, string given")),
    };
    let now = state.clock.now();
    let unknown = format!("Unable to load object \"{receiver}\" to receive message.");
    let target = visible_target(state, receiver).ok_or_else(|| Refusal::core(unknown))?;
    target.units.extend(units);
    target.messages.push(kind.to_owned());
    target.act(now);
    Ok(Value::Null)
}

/// The keys of a unit that are used here and the types of their values; the real one has more keys.
const UNIT_KEYS: [(&str, &str); 8] = [
    ("name", "string"),
    ("result", "string"),
    ("namespace", "optional string"),
    ("engine", "optional string"),
    ("path", "optional string"),
    ("details", "optional string"),
    ("format", "optional string"),
    ("duration", "optional float|int"),
];

fn check_unit(unit: &Value) -> Result<Map<String, Value>, Refusal> {
    let unit = unit.as_object().ok_or_else(|| Refusal::core("Argument #2 ($dict) must be of type array"))?;
    for (key, expected) in UNIT_KEYS {
        let Some(value) = unit.get(key) else {
            if expected.starts_with("optional") {
                continue;
            }
            return Err(Refusal::call(format!("Missing required parameters: {key}")));
        };
        let fits = if expected.ends_with("string") { value.is_string() } else { value.is_number() };
        if !fits {
            return Err(Refusal::core(format!(
                "Parameter '{key}' has invalid type. Expected type '{expected}', got type '{}'.",
                php_type(value)
            )));
        }
    }
    Ok(unit.clone())
}

fn php_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float",
        Value::Number(_) => "int",
        Value::String(_) => "string",
        Value::Array(_) => "list<wild>",
        Value::Object(_) => "map<string, wild>",
    }
}

pub(super) fn create_artifact(state: &mut State, params: &Map<String, Value>) -> Result<Value, Refusal> {
    let known = ["buildTargetPHID", "artifactKey", "artifactType", "artifactData"];
    only("harbormaster.createartifact", params, &known)?;
    let text = |key: &str| params.get(key).and_then(Value::as_str).unwrap_or_default();
    let (phid, key, kind) = (text("buildTargetPHID"), text("artifactKey"), text("artifactType"));
    let new_phid = state.new_phid("HMBA");
    let target =
        visible_target(state, phid).ok_or_else(|| Refusal::core(format!("No such build target \"{phid}\"!")))?;
    if kind != "uri" {
        let info = format!("There is no implementation available for artifacts of type \"{kind}\".");
        return Err(Refusal::core(info));
    }
    let data = params.get("artifactData").cloned().unwrap_or_default();
    let Some(uri) = data.get("uri").and_then(Value::as_str) else {
        return Err(Refusal::call("Missing required parameters: uri"));
    };
    if !["http://", "https://", "mailto:"].iter().any(|allowed| uri.starts_with(allowed)) {
        let allowed = "Configure protocols in `uri.allowed-protocols`. Allowed protocols are: http, https, mailto.";
        return Err(Refusal::core(format!("URI \"{uri}\" does not have an allowable protocol. {allowed}")));
    }
    if let Some(external) = data.get("ui.external").filter(|external| !external.is_boolean()) {
        let info = "Parameter 'ui.external' has invalid type. Expected type 'optional bool', got type";
        return Err(Refusal::core(format!("{info} '{}'.", php_type(external))));
    }
    if target.artifacts.iter().any(|artifact| artifact.key == key) {
        return Err(Refusal::core("#1062: Duplicate entry 'uri-p6Unn3hDYt05' for key 'key_artifact'"));
    }
    target.artifacts.push(Artifact { key: key.to_owned(), data });
    Ok(json!({ "data": [{ "phid": new_phid }] }))
}

fn visible_target<'a>(state: &'a mut State, phid: &str) -> Option<&'a mut Target> {
    let index = state.targets.iter().position(|target| target.phid.as_str() == phid)?;
    if !state.sees_target(&state.targets[index]) {
        return None;
    }
    state.targets.get_mut(index)
}
