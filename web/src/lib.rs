//! The web server: the endpoint that Harbormaster calls, the routes by which a platform monitors the process (Dockerflow),
//! and the operators' API. The server can serve other routes as well.

mod api;
mod client;
mod connection_limit;
mod dockerflow;
mod error;
mod harbormaster;
mod secret;
mod server;
mod strict;

use std::sync::Arc;

use axum::{
    Router,
    extract::DefaultBodyLimit,
    http::StatusCode,
    routing::{get, post},
};
use build::BuildLog;
use bus::{Admin, Producer};
use secrecy::SecretString;
use std::time::Duration;
use tower_http::{
    catch_panic::{CatchPanic, DefaultResponseForPanic},
    timeout::Timeout,
};

use crate::secret::RefusalLog;

pub use dockerflow::Version;
pub use error::WebError;
pub use server::WebServer;

/// The largest body, in bytes: Harbormaster's are empty, and a form has four short fields.
const MAX_BODY: usize = 16 * 1024;

/// The longest time for a request and its response. Harbormaster gives up after 60 s.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Settings and parts that the routes use.
#[derive(Clone)]
pub struct WebSettings {
    /// Stores accepted builds.
    pub producer: Producer,
    /// Records accepted builds.
    pub log: BuildLog,
    /// The secret that a client of `/codereview/new` must send. Without it, any client may request builds.
    pub secret: Option<SecretString>,
    /// The version that `/__version__` shows.
    pub version: Version,
    /// The queues that the API serves.
    pub admin: Admin,
    /// The token that a client of the API must send. Without it there is no API.
    pub api_token: Option<SecretString>,
}

/// All routes.
fn router(settings: WebSettings) -> Router {
    let refusals = Arc::new(RefusalLog::new(settings.producer.clock().clone()));
    let token = settings.api_token.clone();
    let api = token.map(|token| api::router(settings.admin.clone(), token, refusals.clone()));
    let settings = Arc::new(settings);
    let harbormaster = Router::new()
        .route("/codereview/new", post(harbormaster::accept))
        .with_state((settings.clone(), refusals));
    Router::new()
        .route("/__version__", get(dockerflow::version))
        .route("/__heartbeat__", get(dockerflow::heartbeat))
        .route("/__lbheartbeat__", get(dockerflow::lbheartbeat))
        .route("/ping", get(|| async { "pong" }))
        .with_state(settings)
        .merge(harbormaster)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .merge(api.unwrap_or_default())
}

/// The routes with a timeout and a guard against panics, so that one request cannot harm others. Both wrap the whole router:
/// as layers of the router they would wrap each route, and be cloned for each request.
type Limited = CatchPanic<Timeout<Router>, DefaultResponseForPanic>;

fn limited(routes: Router) -> Limited {
    CatchPanic::new(Timeout::with_status_code(
        routes,
        StatusCode::REQUEST_TIMEOUT,
        TIMEOUT,
    ))
}
