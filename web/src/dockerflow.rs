//! The routes of Mozilla's Dockerflow: the version and the health of a process, for its platform.

use std::{path::PathBuf, sync::Arc, time::Duration};

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use bus::BusError;
use runtime::error_chain;
use serde_json::{Map, Value, json};
use tracing::warn;

use crate::{WebError, WebSettings};

/// The time after which a backing service that does not respond counts as down.
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);

/// The running version: `{source, version, commit, build}`.
#[derive(Debug, Clone)]
pub struct Version(Value);

impl Version {
    /// The JSON object in the file at `path`; without one, the values of `EVENTS_SOURCE`, `EVENTS_COMMIT` and `EVENTS_BUILD`
    /// at compile time.
    pub fn load(path: Option<PathBuf>) -> Result<Self, WebError> {
        let Some(path) = path else {
            return Ok(Self(json!({
                "source": option_env!("EVENTS_SOURCE").unwrap_or_default(),
                "version": env!("CARGO_PKG_VERSION"),
                "commit": option_env!("EVENTS_COMMIT").unwrap_or_default(),
                "build": option_env!("EVENTS_BUILD").unwrap_or_default(),
            })));
        };
        let fault = |path: PathBuf, reason: String| WebError::Version { path, reason };
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) => return Err(fault(path, error.to_string())),
        };
        match serde_json::from_str::<Value>(&text) {
            Ok(value) if value.is_object() => Ok(Self(value)),
            Ok(_) => Err(fault(path, "it is not a JSON object".to_owned())),
            Err(error) => Err(fault(path, error.to_string())),
        }
    }
}

/// `GET /__version__`
pub(crate) async fn version(State(settings): State<Arc<WebSettings>>) -> Json<Value> {
    Json(settings.version.0.clone())
}

/// `GET /__heartbeat__`: 200 when a build would be stored now, else 503. Accepting depends on the bus alone.
pub(crate) async fn heartbeat(State(settings): State<Arc<WebSettings>>) -> Response {
    let (bus, queue) = (settings.producer.bus(), settings.log.queues().load.spec());
    let answers = check(bus.ping()).await;
    // A Redis that is a replica, or whose memory is full, responds but stores nothing.
    let writes = match answers {
        Ok(()) => check(bus.probe_write()).await,
        Err(_) => Err("not checked: the bus does not answer".to_owned()),
    };
    let room = async {
        let policy = queue.policy;
        if policy.max_depth.is_none() && policy.max_bytes.is_none() {
            return Ok(());
        }
        let status = bus.status(&queue).await?;
        policy.bound_reached(&status).map_or(Ok(()), |bound| {
            Err(BusError::Full {
                queue: queue.name,
                bound,
            })
        })
    };
    let room = match answers {
        Ok(()) => check(room).await,
        Err(_) => Err("not checked: the bus does not answer".to_owned()),
    };
    let checks = [
        ("bus", answers),
        ("bus_write", writes),
        ("queue_room", room),
    ];
    let failed: Vec<&str> = checks
        .iter()
        .filter(|(_, outcome)| outcome.is_err())
        .map(|(name, _)| *name)
        .collect();
    let code = if failed.is_empty() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    if let Some((check, Err(error))) = checks.iter().find(|(_, outcome)| outcome.is_err()) {
        warn!(check, error, "heartbeat failed; builds are not stored");
    }
    let status = |fails: bool| if fails { "error" } else { "ok" };
    let shown = checks.iter().map(|(name, outcome)| {
        let check = json!({"status": status(outcome.is_err()), "detail": outcome.as_ref().err()});
        ((*name).to_owned(), check)
    });
    let shown: Map<String, Value> = shown.collect();
    (
        code,
        Json(json!({"status": status(!failed.is_empty()), "checks": shown})),
    )
        .into_response()
}

/// Runs a probe of the bus. The error is its text for the response.
async fn check(probe: impl Future<Output = Result<(), BusError>>) -> Result<(), String> {
    match tokio::time::timeout(PROBE_TIMEOUT, probe).await {
        Ok(outcome) => outcome.map_err(|error| error_chain(&error)),
        Err(_) => Err(format!("no answer within {} s", PROBE_TIMEOUT.as_secs())),
    }
}

/// `GET /__lbheartbeat__`: 200 while the process serves requests.
pub(crate) async fn lbheartbeat() -> Json<Value> {
    Json(json!({"status": "ok"}))
}
