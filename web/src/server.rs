//! Serving, with the limits that `axum::serve` has no settings for.

use std::{net::SocketAddr, time::Duration};

use async_trait::async_trait;
use axum::Router;
use bus::{Clock, Shutdown, Subsystem, SubsystemError, SystemClock};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use tokio::net::TcpListener;
use tracing::{debug, info, warn};

use crate::WebError;

/// How long a client may take to send the head of a request; a client that is slower is cut off.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// The largest head of a request, in bytes, and the most header fields.
const MAX_HEAD: usize = 16 * 1024;
const MAX_FIELDS: usize = 64;

/// A bound listener with the routes it serves.
pub struct WebServer {
    listener: TcpListener,
    address: SocketAddr,
    router: Router,
}

impl WebServer {
    /// Listens on `address`; port 0 takes a free one.
    pub async fn bind(address: SocketAddr, router: Router) -> Result<Self, WebError> {
        let listen = |source| WebError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        Ok(Self { listener, address, router })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

#[async_trait]
impl Subsystem for WebServer {
    fn name(&self) -> &str {
        "web"
    }

    async fn run(self: Box<Self>, shutdown: Shutdown) -> Result<(), SubsystemError> {
        info!(address = %self.address, "listening");
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(MAX_HEAD)
            .max_headers(MAX_FIELDS);
        let graceful = GracefulShutdown::new();
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = shutdown.stopping() => break,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of file descriptors, say: it passes when connections end, and until then it must not spin.
                    warn!(%error, "cannot accept a connection");
                    SystemClock.sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            if let Err(error) = stream.set_nodelay(true) {
                debug!(%error, "cannot set TCP_NODELAY");
            }
            let service = TowerToHyperService::new(self.router.clone());
            let connection = builder.serve_connection(TokioIo::new(stream), service);
            let connection = graceful.watch(connection);
            tokio::spawn(async move {
                if let Err(error) = connection.await {
                    debug!(%error, "a connection ended early");
                }
            });
        }
        drop(self.listener);
        tokio::select! {
            () = graceful.shutdown() => {}
            () = shutdown.cancelled() => warn!("connections were still open when the grace period ended"),
        }
        Ok(())
    }
}
