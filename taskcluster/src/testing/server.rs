//! The fake's HTTP side.

use std::{io, net::SocketAddr, sync::Arc};

use parking_lot::{Mutex, MutexGuard};

use axum::{
    Router,
    body::Bytes,
    extract::State as Shared,
    http::{HeaderMap, Method, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use runtime::Clock;
use tokio::{
    net::{TcpListener, TcpSocket},
    task::JoinHandle,
};
use url::Url;

use super::{
    auth::Caller,
    faults::{Fault, Traffic, page},
    request::{Refusal, Reply, Request},
    state::State,
};

/// How many connections may wait to be accepted.
pub(super) const BACKLOG: u32 = 1024;

/// A running Taskcluster; it ends when this is dropped.
pub struct FakeTaskcluster {
    pub(super) address: SocketAddr,
    root: Url,
    pub(super) inner: Arc<Inner>,
    pub(super) serving: Mutex<Serving>,
}

pub(super) struct Inner {
    state: Mutex<State>,
    pub(super) traffic: Mutex<Traffic>,
}

/// Either it serves, or it keeps its address for later: a socket that is bound and does not listen refuses.
#[derive(Default)]
pub(super) struct Serving {
    pub(super) server: Option<JoinHandle<io::Result<()>>>,
    pub(super) reserved: Option<TcpSocket>,
    proxies: Vec<JoinHandle<io::Result<()>>>,
}

impl FakeTaskcluster {
    /// Serves a deployment without tasks on a free port of this machine.
    pub async fn start(clock: Arc<dyn Clock>) -> io::Result<Self> {
        let listener = bound(SocketAddr::from(([127, 0, 0, 1], 0)))?.listen(BACKLOG)?;
        let address = listener.local_addr()?;
        let root = url_of(address)?;
        let state = Mutex::new(State::new(clock, root.clone()));
        let inner = Arc::new(Inner {
            state,
            traffic: Mutex::default(),
        });
        let server = Some(serve(listener, &inner, false));
        Ok(Self {
            address,
            root,
            inner,
            serving: Mutex::new(Serving {
                server,
                ..Serving::default()
            }),
        })
    }

    /// Its address.
    pub fn root(&self) -> &Url {
        &self.root
    }

    /// Starts a proxy to it, as a task has one (`TASKCLUSTER_PROXY_URL`): what comes through it may do everything, and
    /// must not be signed. Returns the proxy's address.
    pub async fn start_proxy(&self) -> io::Result<Url> {
        let listener = bound(SocketAddr::from(([127, 0, 0, 1], 0)))?.listen(BACKLOG)?;
        let address = listener.local_addr()?;
        self.serving
            .lock()
            .proxies
            .push(serve(listener, &self.inner, true));
        url_of(address)
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock()
    }
}

impl Drop for FakeTaskcluster {
    fn drop(&mut self) {
        let serving = self.serving.lock();
        for server in serving.server.iter().chain(&serving.proxies) {
            server.abort();
        }
    }
}

fn url_of(address: SocketAddr) -> io::Result<Url> {
    Url::parse(&format!("http://{address}")).map_err(io::Error::other)
}

/// A socket at `address` that does not listen yet.
pub(super) fn bound(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    // Connections of the time before do not keep the address.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

pub(super) fn serve(
    listener: TcpListener,
    inner: &Arc<Inner>,
    proxied: bool,
) -> JoinHandle<io::Result<()>> {
    let routes = Router::new()
        .fallback(move |inner, method, uri, headers, body| {
            answer(inner, method, uri, headers, body, proxied)
        })
        .with_state(Arc::clone(inner));
    tokio::spawn(async move { axum::serve(listener, routes).await })
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
        let fault = inner.traffic.lock().arrived("store");
        return match fault {
            Some(fault) => fault.answer(),
            None => inner.state.lock().stored(path, uri.query(), &headers),
        };
    }
    let Some(request) = Request::read(method, &uri, &headers, body, proxied) else {
        return (StatusCode::NOT_FOUND, page()).into_response();
    };
    let fault = inner.traffic.lock().arrived(request.name);
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
