//! Serving, with the limits that `axum::serve` has no settings for.

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
    client::Client,
    limited,
    places::{Place, Places},
    router,
    strict::{self, Strict},
};

/// How long a client may take to send the head of a request, the time before it included; a client that is slower is
/// cut off.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a client may take nothing of an answer that does not fit into the buffers of the system.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// The largest head of a request, in bytes, and the most header fields.
const MAX_HEAD: usize = 16 * 1024;
const MAX_FIELDS: usize = 64;

/// The most connections that wait for one client. Harbormaster has about one for each of its daemons, ten or so.
const MAX_WAITING: usize = 256;
/// The most connections. A process may usually have 1024 files open.
const MAX_CONNECTIONS: usize = 768;

/// A bound listener with the routes it serves.
pub struct WebServer {
    listener: TcpListener,
    address: SocketAddr,
    routes: Limited,
}

impl WebServer {
    /// Listens on `address`; port 0 takes a free one.
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

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A connection and its place, as soon as there are both.
    async fn accept(&self, places: &Places) -> (TcpStream, Client, Place) {
        loop {
            match self.listener.accept().await {
                Ok((stream, address)) => {
                    let client = Client::from(address.ip());
                    return (stream, client, places.take(client).await);
                }
                Err(error) => {
                    // Out of file descriptors, say: it passes when connections end, and until then it must not spin.
                    warn!(%error, "cannot accept a connection");
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
        let places = Places::new(MAX_WAITING, MAX_CONNECTIONS);
        let graceful = GracefulShutdown::new();
        loop {
            let (stream, client, place) = tokio::select! {
                accepted = self.accept(&places) => accepted,
                () = shutdown.stopping() => break,
            };
            let routes = self.routes.clone();
            tokio::spawn(serve(
                builder.clone(),
                graceful.watcher(),
                routes,
                stream,
                client,
                Arc::new(place),
            ));
        }
        drop(self.listener);
        tokio::select! {
            () = graceful.shutdown() => {}
            () = shutdown.cancelled() => warn!("connections were still open when the grace period ended"),
        }
        Ok(())
    }
}

/// Serves one connection until it ends or its place is given to another.
async fn serve(
    builder: http1::Builder,
    watcher: Watcher,
    routes: Limited,
    stream: TcpStream,
    client: Client,
    place: Arc<Place>,
) {
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "cannot set TCP_NODELAY");
    }
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(ANSWER_TIMEOUT));
    let routes = TowerToHyperService::new(routes);
    let service = service_fn(|request| answer(&routes, request, client, &place));
    let connection = watcher
        .watch(builder.serve_connection(TokioIo::new(Strict::new(Box::pin(stream))), service));
    tokio::select! {
        // An answer that is ready is written before anything is closed.
        biased;
        ended = connection => if let Err(error) = ended {
            debug!(%error, "a connection ended early");
        },
        () = place.lost() => debug!("a connection that waited for its client was closed for another"),
    }
}

async fn answer(
    routes: &TowerToHyperService<Limited>,
    request: Request<Incoming>,
    client: Client,
    place: &Arc<Place>,
) -> Result<Response, Infallible> {
    if let Some(fault) = strict::fault(request.version(), request.headers()) {
        // What follows it may be read in two ways as well.
        return Ok((fault.0, [(header::CONNECTION, "close")], fault.1).into_response());
    }
    let mut request = request.map(|incoming| {
        if incoming.is_end_stream() {
            return axum::body::Body::empty();
        }
        axum::body::Body::new(Arriving {
            incoming,
            place: place.clone(),
        })
    });
    request.extensions_mut().insert(client);
    if request.body().is_end_stream() && !place.answers() {
        // The connection is about to be closed, and nothing must happen without an answer.
        std::future::pending::<()>().await;
    }
    let response = hyper::service::Service::call(routes, request).await;
    place.answered();
    response.map(|response| response.map(axum::body::Body::new))
}

/// A body that says when the last of it has come.
struct Arriving {
    incoming: Incoming,
    place: Arc<Place>,
}

impl Body for Arriving {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let frame = ready!(Pin::new(&mut self.incoming).poll_frame(cx));
        if (frame.is_none() || self.incoming.is_end_stream()) && !self.place.answers() {
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
