//! `/api/v1`: the operators' commands, for programs. All responses but the metrics are JSON; a failure is `{"error": …}`.

use std::sync::Arc;

use axum::{
    Extension, Json, Router,
    body::Bytes,
    extract::{
        DefaultBodyLimit, FromRequest, FromRequestParts, MatchedPath, Path, Query, Request, State,
        rejection::{BytesRejection, PathRejection, QueryRejection},
    },
    http::{HeaderValue, StatusCode, header, request::Parts},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use bus::{Admin, AdminError, DeadLetterFilter, Messages, Requeued};
use runtime::error_chain;
use secrecy::SecretString;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tracing::warn;
use uuid::Uuid;

use crate::{
    client::ClientAddr,
    secret::{self, RefusalLog},
};

/// The largest body, in bytes: the ids of some thousand dead letters.
const MAX_BODY: usize = 256 * 1024;

/// The path of all routes.
const ROOT: &str = "/api/v1";

/// The default length of a list of messages or dead letters.
const LIMIT: usize = 100;
/// The greatest length that a client may request.
const MAX_LIMIT: usize = 10_000;

/// The routes, for clients that send `token`.
pub(crate) fn router(admin: Admin, token: SecretString, refusals: Arc<RefusalLog>) -> Router {
    let routes = Router::new()
        .route("/metrics", get(metrics))
        .route("/queues", get(queues))
        .route("/queues/{queue}/messages", get(messages))
        .route("/queues/{queue}/messages/{id}", get(message))
        .route("/queues/{queue}/requeue", post(requeue))
        .route("/queues/{queue}/drop", post(drop_waiting))
        .route("/queues/{queue}/pause", post(pause))
        .route("/queues/{queue}/resume", post(resume))
        .route("/dead-letters", get(dead_letters))
        .route("/dead-letters/requeue", post(requeue_dead))
        .route("/dead-letters/drop", post(drop_dead))
        .route("/dead-letters/{queue}/{id}", get(dead_letter))
        .fallback(|| async { Fault(StatusCode::NOT_FOUND, "there is no such route".to_owned()) })
        .method_not_allowed_fallback(|| async {
            Fault(
                StatusCode::METHOD_NOT_ALLOWED,
                "this route has another method".to_owned(),
            )
        })
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn_with_state(
            Arc::new((token, refusals)),
            authorize,
        ))
        .with_state(admin);
    Router::new().nest(ROOT, routes)
}

async fn authorize(
    State(guard): State<Arc<(SecretString, Arc<RefusalLog>)>>,
    Extension(client): Extension<ClientAddr>,
    request: Request,
    next: Next,
) -> Response {
    let (token, refusals) = guard.as_ref();
    let offered = request
        .headers()
        .get(header::AUTHORIZATION)
        .map(HeaderValue::as_bytes)
        .and_then(|value| {
            let (scheme, token) = value.split_at_checked("Bearer ".len())?;
            scheme.eq_ignore_ascii_case(b"Bearer ").then_some(token)
        });
    if offered.is_some_and(|offered| secret::verify(token, offered)) {
        return next.run(request).await;
    }
    // The path of the request may hold the secret.
    let route = request.extensions().get::<MatchedPath>();
    refusals.record(client, route.map_or(ROOT, MatchedPath::as_str));
    let fault = Fault(
        StatusCode::UNAUTHORIZED,
        "the token is missing or wrong; send that of the configuration key api_token in the header \
         `Authorization: Bearer TOKEN`"
            .to_owned(),
    );
    ([(header::WWW_AUTHENTICATE, "Bearer")], fault).into_response()
}

/// A failure: its status, and the error for the client.
struct Fault(StatusCode, String);

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let Self(status, error) = self;
        (status, Json(json!({"error": error}))).into_response()
    }
}

impl From<AdminError> for Fault {
    fn from(error: AdminError) -> Self {
        let status = match &error {
            AdminError::UnknownQueue { .. }
            | AdminError::NoMessage { .. }
            | AdminError::NoDeadLetters { .. } => StatusCode::NOT_FOUND,
            AdminError::Unclear(_) | AdminError::Empty(_) => StatusCode::BAD_REQUEST,
            AdminError::Useless { .. } | AdminError::Unreadable { .. } => StatusCode::CONFLICT,
            AdminError::Bus(_) => {
                warn!(
                    error = error_chain(&error),
                    "API request failed: the bus is unavailable"
                );
                StatusCode::SERVICE_UNAVAILABLE
            }
        };
        Self(status, error_chain(&error))
    }
}

/// A JSON body; an empty one is an empty object.
struct Body<T>(T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Fault;

    async fn from_request(request: Request, state: &S) -> Result<Self, Fault> {
        let bytes = Bytes::from_request(request, state).await;
        let bytes = bytes.map_err(|rejection: BytesRejection| {
            Fault(rejection.status(), rejection.body_text())
        })?;
        let text: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
        let read = serde_json::from_slice(text).map(Self);
        read.map_err(|error| {
            Fault(
                StatusCode::BAD_REQUEST,
                format!("cannot read the body: {error}"),
            )
        })
    }
}

/// The parameters of a query.
struct Parameters<T>(T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Parameters<T> {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Fault> {
        let read = Query::<T>::from_request_parts(parts, state).await;
        let read = read.map(|Query(parameters)| Self(parameters));
        read.map_err(|rejection: QueryRejection| Fault(rejection.status(), rejection.body_text()))
    }
}

/// The names in the path.
struct Named<T>(T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Named<T> {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Fault> {
        let read = Path::<T>::from_request_parts(parts, state).await;
        let read = read.map(|Path(names)| Self(names));
        read.map_err(|rejection: PathRejection| Fault(rejection.status(), rejection.body_text()))
    }
}

/// The metrics of this process, and the depths of the queues of all processes, in Prometheus's text format.
async fn metrics(State(admin): State<Admin>) -> String {
    let mut text = observe::metrics::render();
    let reports = admin.queues().await.unwrap_or_else(|error| {
        warn!(
            error = error_chain(&error),
            "cannot read the depths of the queues; the metrics leave them out"
        );
        Vec::new()
    });
    text.push_str("# TYPE bus_queue_messages gauge\n");
    for report in &reports {
        let depth = report.depth;
        for (state, count) in [
            ("ready", depth.ready),
            ("in_flight", depth.in_flight),
            ("delayed", depth.delayed),
            ("dead", depth.dead),
        ] {
            text.push_str(&format!(
                "bus_queue_messages{{queue=\"{}\",state=\"{state}\"}} {count}\n",
                report.queue
            ));
        }
    }
    text.push_str("# TYPE bus_queue_bytes gauge\n");
    for report in &reports {
        let (queue, bytes) = (report.queue, report.bytes);
        text.push_str(&format!("bus_queue_bytes{{queue=\"{queue}\"}} {bytes}\n"));
    }
    text.push_str("# TYPE bus_queue_full gauge\n");
    for report in &reports {
        let (queue, full) = (report.queue, u8::from(report.full));
        text.push_str(&format!("bus_queue_full{{queue=\"{queue}\"}} {full}\n"));
    }
    text
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Listing {
    limit: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DeadLetterListing {
    queue: Option<String>,
    reason: Option<String>,
    limit: Option<usize>,
}

/// A body without fields.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

fn limit(requested: Option<usize>) -> Result<usize, Fault> {
    match requested.unwrap_or(LIMIT) {
        limit @ 1..=MAX_LIMIT => Ok(limit),
        _ => Err(Fault(
            StatusCode::BAD_REQUEST,
            format!("limit must be from 1 to {MAX_LIMIT}"),
        )),
    }
}

type Answer = Result<Json<Value>, Fault>;

async fn queues(State(admin): State<Admin>, Parameters(Nothing {}): Parameters<Nothing>) -> Answer {
    Ok(Json(json!({"queues": admin.queues().await?})))
}

async fn messages(
    State(admin): State<Admin>,
    Named(queue): Named<String>,
    Parameters(listing): Parameters<Listing>,
) -> Answer {
    Ok(Json(
        json!({"messages": admin.messages(&queue, limit(listing.limit)?).await?}),
    ))
}

async fn message(State(admin): State<Admin>, Named((queue, id)): Named<(String, Uuid)>) -> Answer {
    Ok(Json(json!(admin.message(&queue, id).await?)))
}

async fn requeue(
    State(admin): State<Admin>,
    Named(queue): Named<String>,
    Body(messages): Body<Messages>,
) -> Answer {
    Ok(Json(
        json!({"requeued": admin.requeue(&queue, messages).await?}),
    ))
}

async fn drop_waiting(
    State(admin): State<Admin>,
    Named(queue): Named<String>,
    Body(messages): Body<Messages>,
) -> Answer {
    Ok(Json(
        json!({"dropped": admin.drop_waiting(&queue, messages).await?}),
    ))
}

async fn pause(
    State(admin): State<Admin>,
    Named(queue): Named<String>,
    Body(Nothing {}): Body<Nothing>,
) -> Answer {
    Ok(Json(json!(admin.set_paused(&queue, true).await?)))
}

async fn resume(
    State(admin): State<Admin>,
    Named(queue): Named<String>,
    Body(Nothing {}): Body<Nothing>,
) -> Answer {
    Ok(Json(json!(admin.set_paused(&queue, false).await?)))
}

async fn dead_letters(
    State(admin): State<Admin>,
    Parameters(listing): Parameters<DeadLetterListing>,
) -> Answer {
    let limit = limit(listing.limit)?;
    let reason = listing.reason.as_deref();
    if reason == Some("") {
        return Err(AdminError::Empty("reason").into());
    }
    let dead_letters = admin
        .dead(listing.queue.as_deref(), reason.unwrap_or_default(), limit)
        .await?;
    Ok(Json(json!({"dead_letters": dead_letters})))
}

async fn dead_letter(
    State(admin): State<Admin>,
    Named((queue, id)): Named<(String, String)>,
) -> Answer {
    Ok(Json(json!(admin.dead_letter(Some(&queue), &id).await?)))
}

/// 409 when dead letters match and none could be requeued.
async fn requeue_dead(
    State(admin): State<Admin>,
    Body(filter): Body<DeadLetterFilter>,
) -> Result<(StatusCode, Json<Requeued>), Fault> {
    let chosen = admin.choose(&filter).await?;
    let outcome = admin.requeue_dead(&chosen).await?;
    let nothing = outcome.requeued == 0 && !outcome.kept.is_empty();
    Ok((
        if nothing {
            StatusCode::CONFLICT
        } else {
            StatusCode::OK
        },
        Json(outcome),
    ))
}

async fn drop_dead(State(admin): State<Admin>, Body(filter): Body<DeadLetterFilter>) -> Answer {
    let chosen = admin.choose(&filter).await?;
    Ok(Json(json!({"dropped": admin.drop_dead(&chosen).await?})))
}
