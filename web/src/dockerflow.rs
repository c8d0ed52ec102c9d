//! The routes of Mozilla's Dockerflow, by which a platform knows what runs and whether it is well.

use std::{path::PathBuf, sync::Arc, time::Duration};

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use tracing::warn;

use crate::{WebError, WebSettings};

/// How long a backing service may take to answer before it counts as away.
const PATIENCE: Duration = Duration::from_secs(3);

/// What is running: `{source, version, commit, build}`.
#[derive(Debug, Clone)]
pub struct Version(Value);

impl Version {
    /// What was built in at compile time (`EVENTS_COMMIT`, `EVENTS_BUILD`), or, when given, the JSON file at `path`.
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

/// `GET /__heartbeat__`: whether the backing services answer. Only the bus is one: accepting depends on nothing else.
pub(crate) async fn heartbeat(State(settings): State<Arc<WebSettings>>) -> Response {
    let failure = match tokio::time::timeout(PATIENCE, settings.producer.bus().ping()).await {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some(format!("no answer within {} s", PATIENCE.as_secs())),
    };
    let (code, status) = match &failure {
        None => (StatusCode::OK, "ok"),
        Some(failure) => {
            warn!(error = failure, "heartbeat: the bus does not answer");
            (StatusCode::SERVICE_UNAVAILABLE, "error")
        }
    };
    let check = json!({"status": status, "detail": failure});
    (code, Json(json!({"status": status, "checks": {"bus": check}}))).into_response()
}

/// `GET /__lbheartbeat__`: the process serves.
pub(crate) async fn lbheartbeat() -> Json<Value> {
    Json(json!({"status": "ok"}))
}
