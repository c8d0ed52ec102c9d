//! A fake Taskcluster with logs of any length, which are generated while they are read.

use std::{
    convert::Infallible,
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use parking_lot::Mutex;

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use futures::stream;
use serde_json::json;
use tokio::{net::TcpListener, sync::Notify};

/// The size of a piece of a log, in bytes.
pub(crate) const CHUNK: usize = 64 * 1024;

/// The response to a request for a log.
#[derive(Clone)]
pub(crate) enum Log {
    /// This number of pieces of text, of [`CHUNK`] bytes each.
    Text(usize),
    /// The same, with `Content-Encoding: gzip`.
    Packed(usize),
    /// With another encoding.
    Encoded(&'static str),
    /// This number of pieces, and then the connection ends.
    Broken(usize),
    /// This number of pieces, then nothing more; notifies a test.
    Silent(usize, Arc<Notify>),
    /// An error of the store, with this status.
    Status(u16),
    /// A redirect to this address.
    At(&'static str),
    /// 404 of the queue.
    Unknown,
}

#[derive(Clone)]
pub(crate) struct Logs {
    pub(crate) root: url::Url,
    log: Arc<Mutex<(Log, Log)>>,
    served: Arc<AtomicUsize>,
}

impl Logs {
    /// Every run has `backing` as its `live_backing.log` and `live` as its `live.log`.
    pub(crate) async fn serve(backing: Log, live: Log) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let root = format!("http://{}", listener.local_addr().unwrap())
            .parse()
            .unwrap();
        let logs = Self {
            root,
            log: Arc::new(Mutex::new((backing, live))),
            served: Arc::default(),
        };
        let routes = Router::new()
            .route(
                "/api/queue/v1/task/{task}/runs/{run}/artifacts/{name}",
                get(artifact),
            )
            .route("/store/{name}", get(stored))
            .with_state(logs.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        logs
    }

    /// The number of requests for a log's content.
    pub(crate) fn served(&self) -> usize {
        self.served.load(Ordering::SeqCst)
    }

    fn named(&self, name: &str) -> Log {
        let logs = self.log.lock();
        if name.ends_with("live_backing.log") {
            logs.0.clone()
        } else {
            logs.1.clone()
        }
    }
}

async fn artifact(
    State(logs): State<Logs>,
    Path((_, _, name)): Path<(String, String, String)>,
) -> Response {
    let url = match logs.named(&name) {
        Log::Unknown => {
            let words = json!({ "code": "ResourceNotFound", "message": "Artifact not found" });
            return (StatusCode::NOT_FOUND, Json(words)).into_response();
        }
        Log::At(url) => url.to_owned(),
        _ => logs
            .root
            .join(&format!(
                "store/{}?signed",
                name.rsplit('/').next().unwrap()
            ))
            .unwrap()
            .into(),
    };
    (
        StatusCode::SEE_OTHER,
        [(header::LOCATION, url.clone())],
        Json(json!({ "storageType": "s3", "url": url })),
    )
        .into_response()
}

async fn stored(
    State(logs): State<Logs>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Response {
    logs.served.fetch_add(1, Ordering::SeqCst);
    assert!(
        !headers.contains_key(header::AUTHORIZATION),
        "the store is shown credentials"
    );
    let pieces = |count| stream::iter((0..count).map(piece).map(Ok::<_, io::Error>));
    let encoded = |encoding: &'static str, body| {
        ([(header::CONTENT_ENCODING, encoding)], body).into_response()
    };
    match logs.named(&name) {
        Log::Text(count) => Body::from_stream(pieces(count)).into_response(),
        Log::Packed(count) => encoded("gzip", Body::from_stream(pieces(count))),
        Log::Encoded(encoding) => encoded(encoding, Body::from("log")),
        Log::Broken(count) => {
            let cut = stream::once(async {
                // What came before is sent meanwhile.
                tokio::task::yield_now().await;
                Err(io::Error::from(io::ErrorKind::ConnectionReset))
            });
            Body::from_stream(futures::StreamExt::chain(pieces(count), cut)).into_response()
        }
        Log::Silent(count, reached) => {
            let silence = stream::once(async move {
                reached.notify_one();
                std::future::pending::<Infallible>().await;
                Ok(Bytes::new())
            });
            Body::from_stream(futures::StreamExt::chain(pieces(count), silence)).into_response()
        }
        Log::Status(status) => StatusCode::from_u16(status).unwrap().into_response(),
        Log::Unknown | Log::At(_) => StatusCode::NOT_FOUND.into_response(),
    }
}

/// A piece of a log: text that can be packed to about half its length.
pub(crate) fn piece(number: usize) -> Bytes {
    let mut state = (number as u64)
        .wrapping_add(1)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut piece = Vec::with_capacity(CHUNK);
    while piece.len() < CHUNK {
        // The generator of Marsaglia, xorshift64.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        piece.extend_from_slice(format!("{state:015x}\n").as_bytes());
    }
    piece.truncate(CHUNK);
    piece.into()
}
