//! A request as the fake reads it, and what it may be answered with.

use std::collections::BTreeMap;

use axum::{
    body::Bytes,
    http::{HeaderMap, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use jiff::Timestamp;
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value, json};
use url::form_urlencoded;

use crate::fake;

/// A call of the API.
pub(super) struct Request {
    /// Service and method, such as `queue.task`.
    pub(super) name: &'static str,
    pub(super) method: Method,
    /// What the path names, decoded.
    pub(super) params: BTreeMap<&'static str, String>,
    pub(super) query: BTreeMap<String, String>,
    /// Path and query as they were sent: that is what is signed.
    pub(super) target: String,
    pub(super) host: String,
    pub(super) authorization: Option<String>,
    pub(super) body: Bytes,
    /// Whether it came through the proxy, which has its own credentials.
    pub(super) proxied: bool,
}

/// What a path stands for, segment by segment: `:name` is any segment, `*name` is all that follows.
const ROUTES: [(&str, &str, &str); 13] = [
    ("queue.ping", "GET", "queue/v1/ping"),
    ("auth.currentScopes", "GET", "auth/v1/scopes/current"),
    (
        "hooks.triggerHook",
        "POST",
        "hooks/v1/hooks/:hookGroupId/:hookId/trigger",
    ),
    ("queue.task", "GET", "queue/v1/task/:taskId"),
    ("queue.createTask", "PUT", "queue/v1/task/:taskId"),
    ("queue.status", "GET", "queue/v1/task/:taskId/status"),
    (
        "queue.listTaskGroup",
        "GET",
        "queue/v1/task-group/:taskGroupId/list",
    ),
    (
        "queue.getLatestArtifact",
        "GET",
        "queue/v1/task/:taskId/artifacts/*name",
    ),
    (
        "queue.getArtifact",
        "GET",
        "queue/v1/task/:taskId/runs/:runId/artifacts/*name",
    ),
    ("index.findTask", "GET", "index/v1/task/:indexPath"),
    (
        "index.findArtifactFromTask",
        "GET",
        "index/v1/task/:indexPath/artifacts/*name",
    ),
    ("notify.email", "POST", "notify/v1/email"),
    ("secrets.get", "GET", "secrets/v1/secret/:name"),
];

impl Request {
    /// `None` if the fake does not know the call.
    pub(super) fn read(
        method: Method,
        uri: &Uri,
        headers: &HeaderMap,
        body: Bytes,
        proxied: bool,
    ) -> Option<Self> {
        let (name, params) = ROUTES.iter().find_map(|(name, verb, pattern)| {
            let path = uri.path().strip_prefix("/api/")?;
            Some((*name, matched(pattern, path)?)).filter(|_| method == *verb)
        })?;
        let text = |name| {
            headers
                .get(name)
                .and_then(|value| value.to_str().ok())
                .map(str::to_owned)
        };
        let query = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes())
            .into_owned()
            .collect();
        let target = uri.path_and_query()?.to_string();
        let (host, authorization) = (text(header::HOST)?, text(header::AUTHORIZATION));
        Some(Self {
            name,
            method,
            params,
            query,
            target,
            host,
            authorization,
            body,
            proxied,
        })
    }

    pub(super) fn param(&self, name: &str) -> &str {
        self.params.get(name).map_or("", String::as_str)
    }

    /// The body as an object, which is empty for a body that is not JSON.
    pub(super) fn payload(&self) -> Map<String, Value> {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

fn matched(pattern: &'static str, path: &str) -> Option<BTreeMap<&'static str, String>> {
    let decoded = |text: &str| {
        percent_decode_str(text)
            .decode_utf8()
            .ok()
            .map(String::from)
    };
    let (mut params, mut rest) = (BTreeMap::new(), Some(path));
    for part in pattern.split('/') {
        if let Some(name) = part.strip_prefix('*') {
            params.insert(name, decoded(rest.take()?)?);
            break;
        }
        let (segment, tail) = rest?
            .split_once('/')
            .map_or((rest?, None), |(segment, tail)| (segment, Some(tail)));
        rest = tail;
        match part.strip_prefix(':') {
            Some(name) => drop(params.insert(name, decoded(segment)?)),
            None if part == segment => {}
            None => return None,
        }
    }
    rest.is_none().then_some(params)
}

/// An answer other than a refusal.
pub(super) enum Reply {
    Json(Value),
    /// With a status of its own.
    Other(u16, Value),
    Text(&'static str),
    Empty,
    /// 303 with a body.
    See(String, Value),
    /// 303 without one for programs.
    Redirect(String),
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        match self {
            Self::Json(body) => axum::Json(body).into_response(),
            Self::Other(code, body) => (fake::status(code), axum::Json(body)).into_response(),
            Self::Text(text) => text.into_response(),
            Self::Empty => StatusCode::NO_CONTENT.into_response(),
            Self::Redirect(place) => {
                let text = format!("See Other. Redirecting to {place}");
                (StatusCode::SEE_OTHER, [(header::LOCATION, place)], text).into_response()
            }
            Self::See(place, body) => (
                StatusCode::SEE_OTHER,
                [(header::LOCATION, place)],
                axum::Json(body),
            )
                .into_response(),
        }
    }
}

/// Taskcluster's no.
#[derive(Debug)]
pub(super) struct Refusal {
    status: u16,
    code: &'static str,
    message: String,
}

impl Refusal {
    pub(super) fn input(message: impl Into<String>) -> Self {
        Self {
            status: 400,
            code: "InputError",
            message: message.into(),
        }
    }

    /// The body does not fit the method's schema.
    pub(super) fn schema(problem: &str) -> Self {
        let message = format!("\nSchema Validation Failed!\nErrors:\n  * {problem}");
        Self {
            status: 400,
            code: "InputValidationError",
            message,
        }
    }

    pub(super) fn denylisted(address: &str) -> Self {
        Self {
            status: 400,
            code: "DenylistedAddress",
            message: format!("Email {address} is denylisted"),
        }
    }

    pub(super) fn unauthenticated(message: impl Into<String>) -> Self {
        Self {
            status: 401,
            code: "AuthenticationFailed",
            message: message.into(),
        }
    }

    pub(super) fn scopes(message: String) -> Self {
        Self {
            status: 403,
            code: "InsufficientScopes",
            message,
        }
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self {
            status: 404,
            code: "ResourceNotFound",
            message: message.into(),
        }
    }

    pub(super) fn conflict(message: String) -> Self {
        Self {
            status: 409,
            code: "RequestConflict",
            message,
        }
    }

    pub(super) fn answer(&self, request: &Request, now: Timestamp) -> Response {
        let Self {
            status,
            code: name,
            message,
        } = self;
        let (method, time) = (
            request.name.split('.').next_back().unwrap_or_default(),
            format!("{now:.3}"),
        );
        let facts = format!(
            "\n\n---\n\n* method:     {method}\n* errorCode:  {name}\n* statusCode: {status}\n* time:       {time}"
        );
        let info = json!({ "method": method, "params": request.params, "payload": request.payload(), "time": time });
        let body =
            json!({ "code": name, "message": format!("{message}{facts}"), "requestInfo": info });
        let mut response = (fake::status(*status), axum::Json(body)).into_response();
        if *status == 401 {
            response.headers_mut().insert(
                header::WWW_AUTHENTICATE,
                header::HeaderValue::from_static("hawk"),
            );
        }
        response
    }
}
