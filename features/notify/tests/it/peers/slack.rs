//! Slack, as far as incoming webhooks go: workspaces' webhooks, their channels, and a limit.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use serde_json::Value;

use super::serve;

/// The path of the webhook that works.
pub(crate) const HOOK: &str = "/services/T0/B0/hunter2";

/// What stands between a webhook and its channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Revoked,
    Prohibited,
    Archived,
    NoChannel,
    /// Too much was posted; the text says how long to wait.
    Limited(&'static str),
    Broken,
    /// It does not like what is posted.
    Invalid,
    /// It is some other server, with a page for everything.
    NotSlack,
    Moved,
    /// It names the path in its page.
    Echo,
}

#[derive(Default)]
struct Workspace {
    /// What is wrong with webhooks, by their paths.
    hooks: HashMap<String, Option<Fault>>,
    posted: Vec<Value>,
}

#[derive(Clone)]
pub(crate) struct Slack {
    url: String,
    workspace: Arc<Mutex<Workspace>>,
}

impl Slack {
    pub(crate) async fn start() -> Self {
        let workspace = Arc::new(Mutex::new(Workspace::default()));
        workspace.lock().hooks.insert(HOOK.to_owned(), None);
        let url = serve(Router::new().fallback(post).with_state(workspace.clone())).await;
        Self { url, workspace }
    }

    /// The address of the webhook.
    pub(crate) fn hook(&self) -> String {
        format!("{}{HOOK}", self.url)
    }

    pub(crate) fn fail(&self, fault: Fault) {
        self.workspace
            .lock()
            .hooks
            .insert(HOOK.to_owned(), Some(fault));
    }

    /// What people can read in the channel.
    pub(crate) fn posted(&self) -> Vec<Value> {
        self.workspace.lock().posted.clone()
    }
}

async fn post(State(workspace): State<Arc<Mutex<Workspace>>>, uri: Uri, body: Bytes) -> Response {
    let mut workspace = workspace.lock();
    let Some(fault) = workspace.hooks.get(uri.path()) else {
        return (StatusCode::NOT_FOUND, "no_team").into_response();
    };
    match fault {
        Some(Fault::Revoked) => (StatusCode::NOT_FOUND, "no_service").into_response(),
        Some(Fault::Prohibited) => (StatusCode::FORBIDDEN, "action_prohibited").into_response(),
        Some(Fault::Archived) => (StatusCode::GONE, "channel_is_archived").into_response(),
        Some(Fault::NoChannel) => (StatusCode::NOT_FOUND, "channel_not_found").into_response(),
        Some(Fault::Limited(wait)) => (
            StatusCode::TOO_MANY_REQUESTS,
            [(header::RETRY_AFTER, *wait)],
            "rate_limited",
        )
            .into_response(),
        Some(Fault::Broken) => (StatusCode::INTERNAL_SERVER_ERROR, "rollup_error").into_response(),
        Some(Fault::Invalid) => (StatusCode::BAD_REQUEST, "invalid_payload").into_response(),
        Some(Fault::NotSlack) => "<html>welcome\n</html>".repeat(10_000).into_response(),
        Some(Fault::Moved) => {
            (StatusCode::FOUND, [(header::LOCATION, "/elsewhere")]).into_response()
        }
        Some(Fault::Echo) => {
            (StatusCode::NOT_FOUND, format!("Cannot POST {}", uri.path())).into_response()
        }
        None => match fit(&body) {
            Ok(message) => {
                workspace.posted.push(message);
                "ok".into_response()
            }
            Err(code) => (StatusCode::BAD_REQUEST, code).into_response(),
        },
    }
}

/// The message, if it keeps Slack's limits.
fn fit(body: &[u8]) -> Result<Value, &'static str> {
    let message: Value = serde_json::from_slice(body).map_err(|_| "invalid_payload")?;
    let text = message["text"].as_str().ok_or("no_text")?;
    if text.chars().count() > 40_000 {
        return Err("invalid_payload");
    }
    for attachment in message["attachments"].as_array().into_iter().flatten() {
        let blocks = attachment["blocks"]
            .as_array()
            .ok_or("invalid_attachments")?;
        let fits = |block: &Value| {
            let text = &block["text"];
            let length = text["text"].as_str().map_or(0, |text| text.chars().count());
            block["type"] == "section" && text["type"] == "mrkdwn" && (1..=3000).contains(&length)
        };
        if blocks.len() > 50 || !blocks.iter().all(fits) {
            return Err("invalid_blocks");
        }
    }
    Ok(message)
}
