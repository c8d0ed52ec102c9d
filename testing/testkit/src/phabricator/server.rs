//! The fake Phabricator's HTTP side.

use std::{io, net::SocketAddr, sync::Arc};

use parking_lot::{Mutex, MutexGuard};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{Path, State as Shared},
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
    routing::post,
};
use runtime::Clock;
use secrecy::SecretString;
use serde_json::{Map, Value, json};
use url::Url;

use super::{
    conduit::{Request, TOKEN, perform},
    faults::{Fault, Traffic, Trouble, page},
    search::Refusal,
    state::State,
};
use crate::fake::{self, Fake, Reserved};

/// A running Phabricator; it ends when this is dropped.
pub struct FakePhabricator {
    url: Url,
    pub(super) inner: Arc<Inner>,
    pub(super) fake: Fake<Call, Trouble>,
}

pub(super) struct Inner {
    state: Mutex<State>,
    pub(super) traffic: Arc<Mutex<Traffic>>,
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
        let reserved = Reserved::take(address)?;
        let url = reserved.url()?;
        let root = url.as_str().trim_end_matches('/').to_owned();
        let inner = Arc::new(Inner {
            state: Mutex::new(State::new(clock, root)),
            traffic: Arc::default(),
        });
        let routes = Router::new()
            .route("/api/{method}", post(answer))
            .with_state(Arc::clone(&inner));
        let fake = Fake::new(reserved.serve(routes)?, Arc::clone(&inner.traffic));
        Ok(Self { url, inner, fake })
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
    let trouble = inner
        .traffic
        .lock()
        .received(&request.call.method, request.call.clone());
    match &trouble {
        Some(Trouble::Fault(Fault::Status(status))) => return page(*status),
        Some(Trouble::Fault(Fault::Cut)) => return fake::cut(),
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
        Some(Trouble::Fault(Fault::CutAfter)) => return fake::cut(),
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
        Refusal::Conduit { status, code, info } => (
            fake::status(*status),
            Json(json!({ "result": null, "error_code": code, "error_info": info })),
        )
            .into_response(),
    }
}
