//! The fake Phabricator's HTTP side.

use std::{
    collections::{HashMap, VecDeque},
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::{
    Form, Json, Router,
    body::{Body, Bytes},
    extract::{Path, State as Shared},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::post,
};
use bus::Clock;
use secrecy::SecretString;
use serde_json::{Map, Value, json};
use tokio::{net::TcpListener, task::JoinHandle};
use url::Url;

use super::{directory, harbormaster, review, search::Refusal, state::State};

/// The token that is accepted, in the form of a real one.
const TOKEN: &str = "api-faketokenfaketokenfaketoken1";

/// A running Phabricator; it ends when this is dropped.
pub struct FakePhabricator {
    url: Url,
    inner: Arc<Inner>,
    server: JoinHandle<io::Result<()>>,
}

struct Inner {
    state: Mutex<State>,
    traffic: Mutex<Traffic>,
}

#[derive(Default)]
struct Traffic {
    calls: Vec<Call>,
    faults: HashMap<String, VecDeque<Fault>>,
}

/// A call that was received.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// The method, such as `edge.search`.
    pub method: String,
    /// Its parameters, without the token.
    pub params: Map<String, Value>,
}

/// A way to fail a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Answered with this HTTP status and a page for people.
    Status(u16),
    /// The connection ends in the middle of the answer.
    Cut,
    /// Refused with this `error_code`.
    Refuse(&'static str),
}

impl FakePhabricator {
    /// Serves an empty Phabricator on a free port of this machine.
    pub async fn start(clock: Arc<dyn Clock>) -> io::Result<Self> {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)), clock).await
    }

    /// Serves an empty Phabricator at `address`.
    pub async fn start_at(address: SocketAddr, clock: Arc<dyn Clock>) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let url = format!("http://{}", listener.local_addr()?);
        let state = Mutex::new(State::new(clock, url.clone()));
        let inner = Arc::new(Inner { state, traffic: Mutex::default() });
        let routes = Router::new().route("/api/{method}", post(answer)).with_state(Arc::clone(&inner));
        let server = tokio::spawn(async move { axum::serve(listener, routes).await });
        Ok(Self { url: Url::parse(&url).map_err(io::Error::other)?, inner, server })
    }

    /// Its address, without `/api`.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The token that it accepts.
    pub fn token(&self) -> SecretString {
        SecretString::from(TOKEN)
    }

    /// Fails the next `times` calls of `method`.
    pub fn fail_next(&self, method: &str, times: usize, fault: &Fault) {
        let mut traffic = lock(&self.inner.traffic);
        traffic.faults.entry(method.to_owned()).or_default().extend(vec![fault.clone(); times]);
    }

    /// The calls that were received until now, those that were failed included.
    pub fn calls(&self) -> Vec<Call> {
        lock(&self.inner.traffic).calls.clone()
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.inner.state)
    }
}

impl Drop for FakePhabricator {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// State is whole between any two statements, so a panic elsewhere does not spoil it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn answer(
    Shared(inner): Shared<Arc<Inner>>,
    Path(method): Path<String>,
    Form(form): Form<HashMap<String, String>>,
) -> Response {
    let params = form.get("params").map(String::as_str).unwrap_or_default();
    let parsed: Option<Map<String, Value>> = match params {
        "" => Some(Map::new()),
        text => serde_json::from_str(text).ok(),
    };
    let Some(mut params) = parsed else {
        let info = format!("Invalid parameter information was passed to method '{method}'.");
        return refused(&Refusal::core(info));
    };
    let token = params.remove("__conduit__").and_then(|conduit| conduit.get("token")?.as_str().map(str::to_owned));
    let fault = {
        let mut traffic = lock(&inner.traffic);
        traffic.calls.push(Call { method: method.clone(), params: params.clone() });
        traffic.faults.get_mut(&method).and_then(VecDeque::pop_front)
    };
    match fault {
        None => {}
        Some(Fault::Status(status)) => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            return (status, "<!DOCTYPE html><title>Unhandled Exception</title>").into_response();
        }
        Some(Fault::Cut) => {
            let cut = async { Err::<Bytes, _>(io::Error::from(io::ErrorKind::ConnectionReset)) };
            return Body::from_stream(futures::stream::once(cut)).into_response();
        }
        Some(Fault::Refuse(code)) => return refused(&Refusal::new(code, "as the test wants it")),
    }
    // This method alone does not look at the token.
    if method != "conduit.ping"
        && let Err(refusal) = check_token(token.as_deref())
    {
        return refused(&refusal);
    }
    match call(&mut lock(&inner.state), &method, &params) {
        Ok(result) => Json(json!({ "result": result, "error_code": null, "error_info": null })).into_response(),
        Err(refusal) => refused(&refusal),
    }
}

fn check_token(token: Option<&str>) -> Result<(), Refusal> {
    let invalid = |problem: &str| {
        let token = token.unwrap_or_default();
        Err(Refusal::new("ERR-INVALID-AUTH", format!("API token \"{token}\" {problem}")))
    };
    match token {
        None => Err(Refusal::new("ERR-INVALID-SESSION", "Session key is not present.")),
        Some(TOKEN) => Ok(()),
        Some(token) if token.len() != 32 => invalid("has the wrong length. API tokens should be 32 characters long."),
        Some(_) => invalid("is not valid."),
    }
}

/// Errors have status 200.
fn refused(refusal: &Refusal) -> Response {
    Json(json!({ "result": null, "error_code": refusal.code, "error_info": refusal.info })).into_response()
}

fn call(state: &mut State, method: &str, params: &Map<String, Value>) -> Result<Value, Refusal> {
    match method {
        "conduit.ping" => Ok(json!("fake")),
        "user.whoami" => directory::whoami(state, params),
        "user.search" => directory::users(state, params),
        "project.search" => directory::projects(state, params),
        "diffusion.repository.search" => directory::repositories(state, params),
        "differential.revision.search" => review::revisions(state, params),
        "differential.diff.search" => review::diffs(state, params),
        "differential.getrawdiff" => review::raw_diff(state, params),
        "edge.search" => review::edges(state, params),
        "harbormaster.target.search" => harbormaster::targets(state, params),
        "harbormaster.sendmessage" => harbormaster::send_message(state, params),
        "harbormaster.createartifact" => harbormaster::create_artifact(state, params),
        _ => Err(Refusal::call(format!("Conduit API method \"{method}\" does not exist."))),
    }
}
