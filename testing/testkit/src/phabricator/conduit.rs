//! Conduit: how a call is read and checked, and which methods there are.

use std::collections::HashMap;

use serde_json::{Map, Value, json};
use url::form_urlencoded;

use super::{
    Call, directory, harbormaster, message, plans, review,
    search::{Refusal, php_map},
    state::State,
};

/// The token that is accepted, in the form of a real one.
pub(super) const TOKEN: &str = "api-faketokenfaketokenfaketoken1";

/// The parameters of every search.
const SEARCH: &[&str] = &[
    "queryKey",
    "constraints",
    "attachments",
    "order",
    "before",
    "after",
    "limit",
];

/// A call, and who makes it.
pub(super) struct Request {
    pub(super) call: Call,
    token: Option<String>,
}

impl Request {
    pub(super) fn read(method: String, form: &[u8]) -> Result<Self, Refusal> {
        let form: HashMap<String, String> = form_urlencoded::parse(form).into_owned().collect();
        let params = match form.get("params").map(String::as_str).unwrap_or_default() {
            "" => Some(Map::new()),
            text => serde_json::from_str(text)
                .ok()
                .and_then(|params: Value| php_map(&params)),
        };
        let Some(mut params) = params else {
            return Err(Refusal::core(format!(
                "Invalid parameter information was passed to method '{method}'."
            )));
        };
        let token = params
            .remove("__conduit__")
            .and_then(|conduit| conduit.get("token")?.as_str().map(str::to_owned));
        Ok(Self {
            call: Call { method, params },
            token,
        })
    }
}

/// Does what a method does.
pub(super) fn perform(state: &mut State, request: &Request) -> Result<Value, Refusal> {
    let Call { method, params } = &request.call;
    let Some(known) = parameters(method) else {
        return Err(Refusal::call(format!(
            "Conduit API method \"{method}\" does not exist."
        )));
    };
    if let Some(key) = params.keys().find(|key| !known.contains(&key.as_str())) {
        return Err(Refusal::call(format!(
            "API Method \"{method}\" does not define these parameters: '{key}'."
        )));
    }
    // This method alone does not look at the token.
    if method != "conduit.ping" {
        check_token(request.token.as_deref())?;
    }
    match method.as_str() {
        "user.whoami" => Ok(directory::whoami(state)),
        "user.search" => directory::users(state, params),
        "project.search" => directory::projects(state, params),
        "diffusion.repository.search" => directory::repositories(state, params),
        "differential.revision.search" => review::revisions(state, params),
        "differential.diff.search" => review::diffs(state, params),
        "differential.getrawdiff" => review::raw_diff(state, params),
        "edge.search" => review::edges(state, params),
        "harbormaster.buildable.search" => harbormaster::buildables(state, params),
        "harbormaster.buildplan.search" => plans::plans(state, params),
        "harbormaster.step.search" => plans::steps(state, params),
        "harbormaster.build.search" => harbormaster::builds(state, params),
        "harbormaster.target.search" => harbormaster::targets(state, params),
        "harbormaster.artifact.search" => harbormaster::artifacts(state, params),
        "harbormaster.sendmessage" => message::send_message(state, params),
        "harbormaster.createartifact" => message::create_artifact(state, params),
        _ => Ok(json!("fake")),
    }
}

/// The parameters that a method has; `None` when there is no such method.
fn parameters(method: &str) -> Option<&'static [&'static str]> {
    Some(match method {
        "conduit.ping" | "user.whoami" => &[],
        "differential.getrawdiff" => &["diffID"],
        "edge.search" => &[
            "sourcePHIDs",
            "types",
            "destinationPHIDs",
            "before",
            "after",
            "limit",
        ],
        "harbormaster.sendmessage" => &["receiver", "type", "unit", "lint", "buildTargetPHID"],
        "harbormaster.createartifact" => &[
            "buildTargetPHID",
            "artifactKey",
            "artifactType",
            "artifactData",
        ],
        "user.search"
        | "project.search"
        | "diffusion.repository.search"
        | "differential.revision.search"
        | "differential.diff.search"
        | "harbormaster.buildable.search"
        | "harbormaster.build.search"
        | "harbormaster.buildplan.search"
        | "harbormaster.step.search"
        | "harbormaster.target.search"
        | "harbormaster.artifact.search" => SEARCH,
        _ => return None,
    })
}

fn check_token(token: Option<&str>) -> Result<(), Refusal> {
    let invalid = |problem: &str| {
        let token = token.unwrap_or_default();
        Err(Refusal::new(
            "ERR-INVALID-AUTH",
            format!("API token \"{token}\" {problem}"),
        ))
    };
    match token {
        None => Err(Refusal::new(
            "ERR-INVALID-SESSION",
            "Session key is not present.",
        )),
        Some(TOKEN) => Ok(()),
        Some(token) if token.len() != 32 => {
            invalid("has the wrong length. API tokens should be 32 characters long.")
        }
        Some(_) => invalid("is not valid."),
    }
}
