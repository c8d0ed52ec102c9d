//! The public face: the endpoint that Harbormaster calls, the routes by which a platform watches the process
//! (Dockerflow), and the API of operators. The server itself serves other routes as well.

mod api;
mod client;
mod dockerflow;
mod error;
mod guesses;
mod harbormaster;
mod places;
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
use phabricator::BuildPages;
use secrecy::SecretString;
use std::time::Duration;
use tower_http::{
    catch_panic::{CatchPanic, DefaultResponseForPanic},
    timeout::Timeout,
};

use crate::guesses::Guesses;

pub use dockerflow::Version;
pub use error::WebError;
pub use server::WebServer;

/// The largest body: Harbormaster's are empty, a form has four short fields.
const MAX_BODY: usize = 16 * 1024;

/// The longest that a request may take, its body included. Harbormaster gives up after 60 s.
const TIMEOUT: Duration = Duration::from_secs(20);

/// What the routes need.
#[derive(Clone)]
pub struct WebSettings {
    /// Where accepted builds go.
    pub producer: Producer,
    /// Records accepted builds, and sends them on.
    pub log: BuildLog,
    /// Where people read of builds.
    pub pages: BuildPages,
    /// What a client of `/codereview/new` must know, if anything.
    pub secret: Option<SecretString>,
    /// What is running.
    pub version: Version,
    /// The queues that the API serves.
    pub operator: Admin,
    /// What a client of the API must know. Without it there is no API.
    pub api_token: Option<SecretString>,
}

/// All routes of the public face.
fn router(settings: WebSettings) -> Router {
    let guesses = Arc::new(Guesses::new(settings.producer.clock().clone()));
    let token = settings.api_token.clone();
    let api = token.map(|token| api::router(settings.operator.clone(), token, guesses.clone()));
    let settings = Arc::new(settings);
    let harbormaster = Router::new()
        .route("/codereview/new", post(harbormaster::accept))
        .with_state((settings.clone(), guesses));
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

/// The routes with what keeps one request from harming the others. Around all routes at once: a layer of the router would
/// be around each, and be cloned into memory of its own for each request.
type Limited = CatchPanic<Timeout<Router>, DefaultResponseForPanic>;

fn limited(routes: Router) -> Limited {
    CatchPanic::new(Timeout::with_status_code(
        routes,
        StatusCode::REQUEST_TIMEOUT,
        TIMEOUT,
    ))
}
