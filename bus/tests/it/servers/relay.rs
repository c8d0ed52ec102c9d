//! A way to a server that can be turned to another one, and that knows what went over it.

use std::sync::{
    Arc,
    atomic::{AtomicU16, Ordering},
};

use parking_lot::Mutex;

use testkit::{Port, RedisServer};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

pub struct Relay {
    pub port: u16,
    /// All bytes that clients sent.
    pub received: Arc<Mutex<Vec<u8>>>,
    target: Arc<AtomicU16>,
}

impl Relay {
    pub async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (received, target) = (
            Arc::new(Mutex::new(Vec::new())),
            Arc::new(AtomicU16::new(port)),
        );
        let relay = Self {
            port: listener.local_addr().unwrap().port(),
            received,
            target,
        };
        let (received, target) = (relay.received.clone(), relay.target.clone());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(("127.0.0.1", target.load(Ordering::SeqCst)))
                    .await
                    .unwrap();
                tokio::spawn(pass_on(client, server, received.clone()));
            }
        });
        relay
    }

    /// Leads new connections to another port. Those that are there stay.
    pub fn turn(&self, port: u16) {
        self.target.store(port, Ordering::SeqCst);
    }
}

async fn pass_on(client: TcpStream, server: TcpStream, received: Arc<Mutex<Vec<u8>>>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
    let mut bytes = vec![0; 4096];
    while let Ok(count @ 1..) = from_client.read(&mut bytes).await {
        received.lock().extend(&bytes[..count]);
        if to_server.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}

/// Has a server listen on a port too.
pub async fn listen(server: &RedisServer) -> Port {
    let port = Port::claim().unwrap();
    let () = server
        .command(&["CONFIG", "SET", "port", &port.number().to_string()])
        .await
        .unwrap();
    port
}
