//! Servers that behave badly.

use std::{
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, copy},
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};

/// Somebody who listens on a port of loopback. Goes, with all connections, when dropped.
pub struct Listener {
    port: u16,
    accepting: JoinHandle<()>,
}

impl Listener {
    pub fn port(&self) -> u16 {
        self.port
    }

    /// A port that nobody listens on.
    pub fn free_port() -> u16 {
        std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .unwrap()
            .local_addr()
            .unwrap()
            .port()
    }

    /// Accepts, and says nothing.
    pub async fn silent() -> Self {
        let (listener, port) = bind().await;
        let accepting = async move {
            let mut kept = Vec::new();
            loop {
                kept.push(listener.accept().await.unwrap());
            }
        };
        Self {
            port,
            accepting: tokio::spawn(accepting),
        }
    }

    /// Accepts, and hangs up.
    pub async fn hanging_up() -> Self {
        let (listener, port) = bind().await;
        let accepting = async move {
            loop {
                drop(listener.accept().await.unwrap());
            }
        };
        Self {
            port,
            accepting: tokio::spawn(accepting),
        }
    }

    /// Says the same to each request of HTTP, and hangs up.
    pub async fn answering(answer: &'static str) -> Self {
        let (listener, port) = bind().await;
        let accepting = async move {
            loop {
                let (mut connection, _) = listener.accept().await.unwrap();
                let mut lines = BufReader::new(&mut connection).lines();
                // What is left unread would take the answer along.
                while lines
                    .next_line()
                    .await
                    .unwrap()
                    .is_some_and(|line| !line.is_empty())
                {}
                connection.write_all(answer.as_bytes()).await.unwrap();
            }
        };
        Self {
            port,
            accepting: tokio::spawn(accepting),
        }
    }

    /// Passes everything on to the server at `port`, but cuts each of the first `times` connections when `bytes` have
    /// gone there.
    pub async fn cutting(to: u16, times: usize, bytes: u64) -> (Self, Arc<AtomicUsize>) {
        let (listener, port) = bind().await;
        let cuts = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&cuts);
        let accepting = async move {
            let mut passing = JoinSet::new();
            loop {
                let (connection, _) = listener.accept().await.unwrap();
                let counted = Arc::clone(&counted);
                passing.spawn(async move {
                    let limit = if counted.load(Ordering::SeqCst) < times {
                        bytes
                    } else {
                        u64::MAX
                    };
                    if !pass(connection, to, limit).await {
                        counted.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
        };
        (
            Self {
                port,
                accepting: tokio::spawn(accepting),
            },
            cuts,
        )
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn bind() -> (TcpListener, u16) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// Passes a connection on to its end. `false` when it was cut after `limit` bytes.
async fn pass(mut connection: TcpStream, to: u16, limit: u64) -> bool {
    let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, to)).await.unwrap();
    let (from_client, mut to_client) = connection.split();
    let (mut from_server, mut to_server) = server.split();
    let mut from_client = from_client.take(limit);
    tokio::select! {
        _ = copy(&mut from_client, &mut to_server) => from_client.limit() > 0,
        _ = copy(&mut from_server, &mut to_client) => true,
    }
}
