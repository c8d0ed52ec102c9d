//! The fake Phabricator's HTTP side.

use std::{io, net::SocketAddr, sync::Arc};

use parking_lot::{Mutex, MutexGuard};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{Path, State as Shared},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use runtime::Clock;
use secrecy::SecretString;
use serde_json::{Map, Value, json};
use tokio::{
    net::{TcpListener, TcpSocket},
    task::JoinHandle,
};
use url::Url;

use super::{
    conduit::{Request, TOKEN, perform},
    faults::{Fault, Traffic, Trouble, cut, page},
    search::Refusal,
    state::State,
};

/// How many connections may wait to be accepted.
pub(super) const BACKLOG: u32 = 1024;

/// A running Phabricator; it ends when this is dropped.
pub struct FakePhabricator {
    pub(super) address: SocketAddr,
    url: Url,
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
}

/// A call that was received.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// The method, such as `edge.search`.
    pub method: String,
    /// Its parameters, without the token.
    pub params: Map<String, Value>,
}

impl FakePhabricator {
    /// Serves an empty Phabricator on a free port of this machine.
    pub async fn start(clock: Arc<dyn Clock>) -> io::Result<Self> {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)), clock).await
    }

    /// Serves an empty Phabricator at `address`.
    pub async fn start_at(address: SocketAddr, clock: Arc<dyn Clock>) -> io::Result<Self> {
        let listener = bound(address)?.listen(BACKLOG)?;
        let address = listener.local_addr()?;
        let url = format!("http://{address}");
        let state = Mutex::new(State::new(clock, url.clone()));
        let inner = Arc::new(Inner {
            state,
            traffic: Mutex::default(),
        });
        let serving = Mutex::new(Serving {
            server: Some(serve(listener, &inner)),
            reserved: None,
        });
        Ok(Self {
            address,
            url: Url::parse(&url).map_err(io::Error::other)?,
            inner,
            serving,
        })
    }

    /// Its address, without `/api`.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The token that it accepts.
    pub fn token(&self) -> SecretString {
        SecretString::from(TOKEN)
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock()
    }
}

impl Drop for FakePhabricator {
    fn drop(&mut self) {
        if let Some(server) = &self.serving.lock().server {
            server.abort();
        }
    }
}

/// A socket at `address` that does not listen yet.
pub(super) fn bound(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    // Connections of the time before do not keep the address.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

pub(super) fn serve(listener: TcpListener, inner: &Arc<Inner>) -> JoinHandle<io::Result<()>> {
    let routes = Router::new()
        .route("/api/{method}", post(answer))
        .with_state(Arc::clone(inner));
    tokio::spawn(async move { axum::serve(listener, routes).await })
}

async fn answer(
    Shared(inner): Shared<Arc<Inner>>,
    Path(method): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind == "application/json")
    {
        let info = "Use form-encoded data to submit parameters to Conduit endpoints. Sending a JSON-encoded body and \
                    setting 'Content-Type': 'application/json' is not currently supported.";
        return refused(&Refusal::core(info));
    }
    let request = match Request::read(method, &body) {
        Ok(request) => request,
        Err(refusal) => return refused(&refusal),
    };
    let trouble = inner.traffic.lock().arrived(request.call.clone());
    match &trouble {
        Some(Trouble::Fault(Fault::Status(status))) => return page(*status),
        Some(Trouble::Fault(Fault::Cut)) => return cut(),
        Some(Trouble::Fault(Fault::Refuse(code))) => {
            return refused(&Refusal::new(code, "as the test wants it"));
        }
        _ => {}
    }
    let (answer, clock) = {
        let mut state = inner.state.lock();
        (perform(&mut state, &request), Arc::clone(&state.clock))
    };
    match trouble {
        Some(Trouble::Fault(Fault::StatusAfter(status))) => return page(status),
        Some(Trouble::Fault(Fault::CutAfter)) => return cut(),
        Some(Trouble::Fault(Fault::Delay(duration))) => clock.sleep(duration).await,
        Some(Trouble::Hold(hold)) => hold.wait().await,
        _ => {}
    }
    match answer {
        Ok(result) => Json(json!({ "result": result, "error_code": null, "error_info": null }))
            .into_response(),
        Err(refusal) => refused(&refusal),
    }
}

fn refused(refusal: &Refusal) -> Response {
    match refusal {
        Refusal::Crash => page(500),
        Refusal::Conduit { status, code, info } => {
            let status = StatusCode::from_u16(*status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            (
                status,
                Json(json!({ "result": null, "error_code": code, "error_info": info })),
            )
                .into_response()
        }
    }
}
