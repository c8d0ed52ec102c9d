//! The fake's HTTP side.

use std::{io, sync::Arc};

use parking_lot::{Mutex, MutexGuard};

use axum::{
    Router,
    body::Bytes,
    extract::State as Shared,
    http::{HeaderMap, Method, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use runtime::Clock;
use url::Url;

use super::{
    auth::Caller,
    faults::{Fault, Traffic, page},
    request::{Refusal, Reply, Request},
    state::State,
};
use crate::fake::{Fake, Reserved, Server};

/// A running Taskcluster; it ends when this is dropped.
pub struct FakeTaskcluster {
    root: Url,
    pub(super) inner: Arc<Inner>,
    pub(super) fake: Fake<String, Fault>,
    proxies: Mutex<Vec<Server>>,
}

pub(super) struct Inner {
    state: Mutex<State>,
    pub(super) traffic: Arc<Mutex<Traffic>>,
}

impl FakeTaskcluster {
    /// Serves a deployment without tasks on a free port of this machine.
    pub async fn start(clock: Arc<dyn Clock>) -> io::Result<Self> {
        let reserved = Reserved::take_any()?;
        let root = reserved.url()?;
        let inner = Arc::new(Inner {
            state: Mutex::new(State::new(clock, root.clone())),
            traffic: Arc::default(),
        });
        let server = reserved.serve(routes(&inner, false))?;
        Ok(Self {
            root,
            fake: Fake::new(server, Arc::clone(&inner.traffic)),
            inner,
            proxies: Mutex::default(),
        })
    }

    /// Its address.
    pub fn root(&self) -> &Url {
        &self.root
    }

    /// Starts a proxy to it, as a task has one (`TASKCLUSTER_PROXY_URL`): requests through it may do everything, and must
    /// not be signed. Returns the proxy's address.
    pub async fn start_proxy(&self) -> io::Result<Url> {
        let reserved = Reserved::take_any()?;
        let url = reserved.url()?;
        let proxy = reserved.serve(routes(&self.inner, true))?;
        self.proxies.lock().push(proxy);
        Ok(url)
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock()
    }
}

fn routes(inner: &Arc<Inner>, proxied: bool) -> Router {
    Router::new()
        .fallback(move |inner, method, uri, headers, body| {
            answer(inner, method, uri, headers, body, proxied)
        })
        .with_state(Arc::clone(inner))
}

async fn answer(
    Shared(inner): Shared<Arc<Inner>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
    proxied: bool,
) -> Response {
    if let Some(path) = uri.path().strip_prefix("/store/") {
        let fault = inner.traffic.lock().received("store", "store".to_owned());
        return match fault {
            Some(fault) => fault.answer(),
            None => inner.state.lock().stored(path, uri.query(), &headers),
        };
    }
    let Some(request) = Request::read(method, &uri, &headers, body, proxied) else {
        return (StatusCode::NOT_FOUND, page()).into_response();
    };
    let fault = inner
        .traffic
        .lock()
        .received(request.name, request.name.to_owned());
    match &fault {
        None | Some(Fault::CutAfter) => {}
        Some(fault) => return fault.answer(),
    }
    let mut state = inner.state.lock();
    let answer = match perform(&request, &mut state) {
        Ok(reply) => reply.into_response(),
        Err(refusal) => refusal.answer(&request, state.clock.now()),
    };
    fault.map_or(answer, |fault| fault.answer())
}

fn perform(request: &Request, state: &mut State) -> Result<Reply, Refusal> {
    let caller = Caller::of(request, state)?;
    match request.name {
        "auth.currentScopes" => caller.current_scopes(),
        "hooks.triggerHook" => state.trigger_hook(&caller, request),
        "queue.task" => state.definition(&caller, request),
        "queue.status" => state.status(&caller, request),
        "queue.createTask" => state.create_task(&caller, request),
        "queue.listTaskGroup" => state.list_task_group(&caller, request),
        "queue.getLatestArtifact" => state.latest_artifact(&caller, request),
        "queue.getArtifact" => state.artifact(&caller, request),
        "index.findTask" => state.find_task(&caller, request),
        "index.findArtifactFromTask" => state.find_artifact(&caller, request),
        "notify.email" => state.email(&caller, request),
        "secrets.get" => state.secret(&caller, request),
        _ => state.ping(),
    }
}
