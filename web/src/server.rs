//! The HTTP server, with limits for which `axum::serve` has no settings. The alternatives, and why they do not fit:
//! docs/design/decisions/0017-waiting-connections-are-evicted.md.

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use async_trait::async_trait;
use axum::{
    Router,
    http::header,
    response::{IntoResponse, Response},
};
use hyper::{
    Request,
    body::{Body, Bytes, Frame, Incoming, SizeHint},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::{GracefulShutdown, Watcher},
    service::TowerToHyperService,
};
use runtime::{Clock, Service, ServiceError, Shutdown, SystemClock};
use tokio::net::{TcpListener, TcpStream};
use tokio_io_timeout::TimeoutStream;
use tracing::{debug, info, warn};

use crate::{
    Limited, WebError, WebSettings,
    client::ClientAddr,
    connection_limit::{ConnectionLimit, ConnectionSlot},
    limited, router,
    strict::{self, Strict},
};

/// The longest time until a client has sent the head of a request, from the end of the last response on. The server closes
/// the connection of a slower client.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest time for which a client may read nothing of a response that does not fit into the buffers of the system.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);

/// The largest head of a request, in bytes.
const MAX_HEAD: usize = 16 * 1024;
/// The most header fields of a request.
const MAX_FIELDS: usize = 64;

/// The most connections of one client that wait for it. Harbormaster has about one for each of its daemons, ten or so.
const MAX_WAITING: usize = 256;
/// The most connections in all. A process may have 1024 files open by default.
const MAX_CONNECTIONS: usize = 768;

/// A bound listener with the routes it serves.
pub struct WebServer {
    listener: TcpListener,
    address: SocketAddr,
    routes: Limited,
}

impl WebServer {
    /// Listens on `address`; port 0 stands for any free one.
    pub async fn bind(address: SocketAddr, settings: WebSettings) -> Result<Self, WebError> {
        Self::with_routes(address, router(settings)).await
    }

    /// The same for other routes, with the same limits.
    pub async fn with_routes(address: SocketAddr, routes: Router) -> Result<Self, WebError> {
        let listen = |source| WebError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        Ok(Self {
            listener,
            address,
            routes: limited(routes),
        })
    }

    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts a connection and acquires a slot for it.
    async fn accept(&self, limit: &ConnectionLimit) -> (TcpStream, ClientAddr, ConnectionSlot) {
        loop {
            match self.listener.accept().await {
                Ok((stream, address)) => {
                    let client = ClientAddr::from(address.ip());
                    return (stream, client, limit.acquire(client).await);
                }
                Err(error) => {
                    // Such as too many open files, until connections end. The pause keeps the loop from spinning.
                    warn!(%error, "cannot accept a connection; retrying in 100 ms");
                    SystemClock.sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

#[async_trait]
impl Service for WebServer {
    fn name(&self) -> &str {
        "web"
    }

    async fn run(self: Box<Self>, shutdown: Shutdown) -> Result<(), ServiceError> {
        info!(address = %self.address, "listening");
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(MAX_HEAD)
            .max_headers(MAX_FIELDS);
        let limit = ConnectionLimit::new(MAX_WAITING, MAX_CONNECTIONS);
        let graceful = GracefulShutdown::new();
        loop {
            let (stream, client, slot) = tokio::select! {
                accepted = self.accept(&limit) => accepted,
                () = shutdown.stopping() => break,
            };
            let routes = self.routes.clone();
            tokio::spawn(serve(
                builder.clone(),
                graceful.watcher(),
                routes,
                stream,
                client,
                Arc::new(slot),
            ));
        }
        drop(self.listener);
        tokio::select! {
            () = graceful.shutdown() => {}
            () = shutdown.cancelled() => warn!("closing open connections: the grace period ended"),
        }
        Ok(())
    }
}

/// Serves one connection until it ends, or its slot is evicted for another one.
async fn serve(
    builder: http1::Builder,
    watcher: Watcher,
    routes: Limited,
    stream: TcpStream,
    client: ClientAddr,
    slot: Arc<ConnectionSlot>,
) {
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "cannot set TCP_NODELAY");
    }
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(RESPONSE_TIMEOUT));
    let routes = TowerToHyperService::new(routes);
    let service = service_fn(|request| answer(&routes, request, client, &slot));
    let connection = watcher
        .watch(builder.serve_connection(TokioIo::new(Strict::new(Box::pin(stream))), service));
    tokio::select! {
        // Write a response that is ready before closing the connection.
        biased;
        ended = connection => if let Err(error) = ended {
            debug!(%error, "connection ended early");
        },
        () = slot.evicted() => debug!("closed a connection that waited for its client, to make room for another"),
    }
}

async fn answer(
    routes: &TowerToHyperService<Limited>,
    request: Request<Incoming>,
    client: ClientAddr,
    slot: &Arc<ConnectionSlot>,
) -> Result<Response, Infallible> {
    if let Some(fault) = strict::fault(request.version(), request.headers()) {
        // Requests behind it on this connection may be ambiguous as well.
        return Ok((fault.0, [(header::CONNECTION, "close")], fault.1).into_response());
    }
    let mut request = request.map(|incoming| {
        if incoming.is_end_stream() {
            return axum::body::Body::empty();
        }
        axum::body::Body::new(Arriving {
            incoming,
            slot: slot.clone(),
        })
    });
    request.extensions_mut().insert(client);
    if request.body().is_end_stream() && !slot.begin_response() {
        // The connection is about to be closed, and no request may be handled without a response.
        std::future::pending::<()>().await;
    }
    let response = hyper::service::Service::call(routes, request).await;
    slot.finish_response();
    response.map(|response| response.map(axum::body::Body::new))
}

/// A body that marks its slot as responding when its last byte has arrived.
struct Arriving {
    incoming: Incoming,
    slot: Arc<ConnectionSlot>,
}

impl Body for Arriving {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let frame = ready!(Pin::new(&mut self.incoming).poll_frame(cx));
        if (frame.is_none() || self.incoming.is_end_stream()) && !self.slot.begin_response() {
            return Poll::Pending;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
