//! What the fake's Harbormaster receives: messages and artifacts.

use serde_json::{Map, Value, json};

use super::{
    Artifact,
    search::Refusal,
    state::{ListedArtifact, State, Stop},
};
use build::Phid;

/// The longest `engine` and `namespace`, in characters; with more the real one crashes.
const MAX_COLUMN: usize = 255;

/// Who a message is for.
enum Receiver {
    /// Its place in the list of targets.
    Target(usize),
    Build(Phid),
}

pub(super) fn send_message(
    state: &mut State,
    params: &Map<String, Value>,
) -> Result<Value, Refusal> {
    let text = |key: &str| match params.get(key) {
        Some(Value::String(text)) if !text.is_empty() => Ok(Some(text.as_str())),
        None | Some(Value::Null | Value::String(_)) => Ok(None),
        Some(other) => {
            let info = "Call to phutil_nonempty_string() expected null or a string, got:";
            Err(Refusal::core(format!("{info} {}.", php_type(other))))
        }
    };
    let receiver = match (text("receiver")?, text("buildTargetPHID")?) {
        (Some(_), Some(_)) => {
            let info = "Call specifies both \"receiver\" and \"buildTargetPHID\". When using the modern \"receiver\" \
                        parameter, omit the deprecated \"buildTargetPHID\" parameter.";
            return Err(Refusal::core(info));
        }
        (None, None) => {
            let info = "Call omits required \"receiver\" parameter. Specify the PHID of the object you want to send a \
                        message to.";
            return Err(Refusal::core(info));
        }
        (Some(receiver), None) | (None, Some(receiver)) => receiver,
    };
    let kind = text("type")?.ok_or_else(|| {
        Refusal::core(
            "Call omits required \"type\" parameter. Specify the type of message you want to send.",
        )
    })?;
    match find_receiver(state, receiver)? {
        Receiver::Build(build) => tell_build(state, &build, kind, params)?,
        Receiver::Target(index) => {
            let units = list(params, "unit", check_unit)?;
            list(params, "lint", check_lint)?;
            let target = &mut state.targets[index];
            target.units.extend(units);
            target.messages.push(kind.to_owned());
            let phid = target.phid.clone();
            state.act_on_messages(&phid);
        }
    }
    Ok(Value::Null)
}

fn find_receiver(state: &State, phid: &str) -> Result<Receiver, Refusal> {
    if let Some(index) = visible_target(state, phid) {
        return Ok(Receiver::Target(index));
    }
    if let Some(build) = state
        .builds
        .iter()
        .find(|build| build.phid.as_str() == phid)
        && state.visible_diff(build.diff_id).is_some()
    {
        return Ok(Receiver::Build(build.phid.clone()));
    }
    if state.users.iter().any(|user| user.phid.as_str() == phid) {
        let info = "Receiver object (of class \"PhabricatorUser\") is not a valid receiver.";
        return Err(Refusal::core(info));
    }
    Err(Refusal::core(format!(
        "Unable to load object \"{phid}\" to receive message."
    )))
}

fn tell_build(
    state: &mut State,
    build: &Phid,
    kind: &str,
    params: &Map<String, Value>,
) -> Result<(), Refusal> {
    if let Some(key) = ["unit", "lint"]
        .into_iter()
        .find(|key| params.contains_key(*key))
    {
        let info = format!(
            "Call includes \"{key}\" parameter. This parameter must be omitted when the receiver is not"
        );
        return Err(Refusal::core(format!("{info} a Build Target.")));
    }
    if kind == "restart" {
        check_restart(state, build)?;
    }
    match kind {
        "abort"
            if state
                .build(build)
                .is_some_and(|build| state.is_complete(build)) =>
        {
            let info = "Unable to Abort Build: You can not abort this build because it is already complete.";
            return Err(Refusal::core(info));
        }
        "abort" => state.stop(build, Stop::Aborted),
        "pause" => state.stop(build, Stop::Paused),
        "resume" => state.resume(build),
        "restart" => {
            // Nobody sends the request of the new target: whoever restarts it here does not play Harbormaster.
            state.restart(build);
        }
        _ => {
            return Err(Refusal::core(format!(
                "Message type \"{kind}\" is not supported."
            )));
        }
    }
    Ok(())
}

/// Conduit checks less than the page of a build does: nobody needs the right to edit the plan.
fn check_restart(state: &State, build: &Phid) -> Result<(), Refusal> {
    let plan = state
        .build(build)
        .and_then(|build| state.plans.iter().find(|plan| plan.phid == build.plan));
    let Some(plan) = plan else {
        return Ok(());
    };
    if !plan.is_visible {
        let info = "[You Shall Not Pass: Restricted Build Plan] (Can View) You do not have permission to view this \
                    object. // Administrators can take this action.";
        return Err(Refusal::core(info));
    }
    match plan.restartable {
        "never" => Err(Refusal::core(
            "Build Plan Prevents Restart: This build can not be restarted because the build plan is configured to \
             prevent the build from restarting.",
        )),
        "failed"
            if !state
                .build(build)
                .is_some_and(|build| state.has_failed(build)) =>
        {
            Err(Refusal::core(
                "Only Restartable if Failed: This build can not be restarted because the build plan is configured to \
                 prevent the build from restarting unless it has failed, and it has not failed.",
            ))
        }
        _ => Ok(()),
    }
}

/// The entries of a list of results, each checked; one that is wrong refuses all.
fn list(
    params: &Map<String, Value>,
    key: &str,
    check: fn(&Map<String, Value>) -> Result<(), Refusal>,
) -> Result<Vec<Map<String, Value>>, Refusal> {
    let entries: Vec<&Value> = match params.get(key) {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(entries)) => entries.iter().collect(),
        // PHP goes through the values of a map as well.
        Some(Value::Object(map)) => map.values().collect(),
        Some(other) => {
            let info = "foreach() argument must be of type array|object,";
            return Err(Refusal::core(format!("{info} {} given", php_type(other))));
        }
    };
    let checked = entries.into_iter().map(|entry| {
        let entry = entry.as_object().ok_or(Refusal::Crash)?;
        check(entry)?;
        Ok(entry.clone())
    });
    checked.collect()
}

fn check_unit(unit: &Map<String, Value>) -> Result<(), Refusal> {
    let keys = [
        ("name", "string"),
        ("result", "string"),
        ("namespace", "optional string"),
        ("engine", "optional string"),
        ("duration", "optional float|int"),
        ("path", "optional string"),
        ("coverage", "optional map<string, wild>"),
        ("format", "optional string"),
        ("details", "optional string"),
    ];
    check_types(unit, &keys)?;
    for column in ["engine", "namespace"] {
        let text = unit.get(column).and_then(Value::as_str).unwrap_or_default();
        if text.chars().count() > MAX_COLUMN {
            let info = format!("#1406: Data too long for column '{column}' at row 1");
            return Err(Refusal::Conduit {
                status: 500,
                code: "ERR-CONDUIT-CORE".to_owned(),
                info,
            });
        }
    }
    Ok(())
}

fn check_lint(lint: &Map<String, Value>) -> Result<(), Refusal> {
    let keys = [
        ("name", "string"),
        ("code", "string"),
        ("severity", "string"),
        ("path", "string"),
        ("line", "optional int"),
        ("char", "optional int"),
        ("description", "optional string"),
    ];
    check_types(lint, &keys)
}

fn check_types(map: &Map<String, Value>, keys: &[(&str, &str)]) -> Result<(), Refusal> {
    let missing = keys
        .iter()
        .find(|(key, expected)| !expected.starts_with("optional") && !map.contains_key(*key));
    if let Some((key, _)) = missing {
        return Err(Refusal::call(format!("Missing required parameters: {key}")));
    }
    for (key, expected) in keys {
        let Some(value) = map.get(*key) else { continue };
        let fits = match expected.trim_start_matches("optional ") {
            "string" => value.is_string(),
            "int" => value.is_i64() || value.is_u64(),
            "bool" => value.is_boolean(),
            "float|int" => value.is_number(),
            // An empty map is an empty list in PHP.
            _ => value.is_object() || value.as_array().is_some_and(Vec::is_empty),
        };
        if !fits {
            let info =
                format!("Parameter '{key}' has invalid type. Expected type '{expected}', got type");
            return Err(Refusal::core(format!("{info} '{}'.", php_type(value))));
        }
    }
    Ok(())
}

fn php_type(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) => "bool".to_owned(),
        Value::Number(number) if number.is_f64() => "float".to_owned(),
        Value::Number(_) => "int".to_owned(),
        Value::String(_) => "string".to_owned(),
        Value::Array(list) => {
            let mut types: Vec<String> = list.iter().map(php_type).collect();
            types.dedup();
            match types.as_slice() {
                [one] => format!("list<{one}>"),
                _ => "list<wild>".to_owned(),
            }
        }
        Value::Object(_) => "map<string, wild>".to_owned(),
    }
}

pub(super) fn create_artifact(
    state: &mut State,
    params: &Map<String, Value>,
) -> Result<Value, Refusal> {
    let text = |key: &str| params.get(key).and_then(Value::as_str).unwrap_or_default();
    let (phid, kind) = (text("buildTargetPHID"), text("artifactType"));
    let index = visible_target(state, phid)
        .ok_or_else(|| Refusal::core(format!("No such build target \"{phid}\"!")))?;
    if kind != "uri" {
        let info =
            format!("There is no implementation available for artifacts of type \"{kind}\".");
        return Err(Refusal::core(info));
    }
    let data = match params.get("artifactData") {
        Some(Value::Object(data)) => data.clone(),
        Some(Value::Array(list)) if list.is_empty() => Map::new(),
        _ => return Err(Refusal::Crash),
    };
    check_link(&data)?;
    let Some(key) = params.get("artifactKey").and_then(Value::as_str) else {
        return Err(Refusal::core("#1048: Column 'artifactKey' cannot be null"));
    };
    if state.targets[index]
        .artifacts
        .iter()
        .any(|artifact| artifact.key == key)
    {
        return Err(Refusal::core(
            "#1062: Duplicate entry 'uri-p6Unn3hDYt05' for key 'key_artifact'",
        ));
    }
    let (phid, created_at) = (state.new_phid("HMBA"), state.clock.now());
    let target = &mut state.targets[index];
    target.artifacts.push(Artifact {
        key: key.to_owned(),
        data: Value::Object(data),
    });
    let (key, target) = (key.to_owned(), target.phid.clone());
    state.artifacts.push(ListedArtifact {
        phid: phid.clone(),
        target,
        key,
        created_at,
    });
    Ok(json!({ "data": [{ "phid": phid }] }))
}

fn check_link(data: &Map<String, Value>) -> Result<(), Refusal> {
    let keys = [
        ("uri", "string"),
        ("name", "optional string"),
        ("ui.external", "optional bool"),
    ];
    if let Some(unknown) = data
        .keys()
        .find(|key| keys.iter().all(|(known, _)| known != key))
    {
        return Err(Refusal::call(format!(
            "Got unexpected parameters: {unknown}"
        )));
    }
    check_types(data, &keys)?;
    let uri = data.get("uri").and_then(Value::as_str).unwrap_or_default();
    let Some((protocol, _)) = uri.split_once(':') else {
        let info = format!(
            "Unable to identify the protocol for URI \"{uri}\". URIs must be fully qualified and have"
        );
        return Err(Refusal::core(format!("{info} an identifiable protocol.")));
    };
    if !["http", "https", "mailto"].contains(&protocol) {
        let allowed = "Configure protocols in `uri.allowed-protocols`. Allowed protocols are: http, https, mailto.";
        return Err(Refusal::core(format!(
            "URI \"{uri}\" does not have an allowable protocol. {allowed}"
        )));
    }
    Ok(())
}

fn visible_target(state: &State, phid: &str) -> Option<usize> {
    let index = state
        .targets
        .iter()
        .position(|target| target.phid.as_str() == phid)?;
    state
        .visible_diff(state.targets[index].diff_id)
        .map(|_| index)
}
