//! The network between a process and Redis: a TCP listener in front of the server's socket, which can be made as bad as
//! networks get.

use std::{io, net::SocketAddr, path::PathBuf, time::Duration};

use runtime::{Clock, SystemClock};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream, UnixStream},
    sync::watch,
    task::{JoinHandle, JoinSet},
};

/// What a link does to the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weather {
    /// Hands them on.
    Clear,
    /// Hands them on late, each chunk by this much.
    Slow(Duration),
    /// Holds them until the weather changes. Then they arrive, however late.
    Hole,
    /// Hands requests on, and closes the connection instead of bringing the answer.
    Mute,
}

#[derive(Debug, Clone, Copy)]
struct State {
    weather: Weather,
    /// How often the connections were cut.
    cuts: u64,
}

/// The link of one process. Ends, with its connections, when it is dropped.
#[derive(Debug)]
pub struct Link {
    address: SocketAddr,
    state: watch::Sender<State>,
    accepting: JoinHandle<()>,
}

impl Link {
    /// A link to the server that listens on `socket`.
    pub async fn open(socket: PathBuf) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let (state, seen) = watch::channel(State {
            weather: Weather::Clear,
            cuts: 0,
        });
        let accepting = tokio::spawn(accept(listener, socket, seen));
        Ok(Self {
            address,
            state,
            accepting,
        })
    }

    /// The address of Redis behind this link.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Changes the weather.
    pub fn set(&self, weather: Weather) {
        self.state.send_modify(|state| state.weather = weather);
    }

    /// Closes all connections that are open now.
    pub fn cut(&self) {
        self.state.send_modify(|state| state.cuts += 1);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, socket: PathBuf, state: watch::Receiver<State>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((client, _)) => { connections.spawn(connect(client, socket.clone(), state.clone())); }
                // Out of files, say. The client tries again, and so do we.
                Err(_) => SystemClock.sleep(Duration::from_millis(50)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// One connection, until either side closes it or it is cut. A server that is away closes it at once.
async fn connect(client: TcpStream, socket: PathBuf, mut state: watch::Receiver<State>) {
    let cuts = state.borrow_and_update().cuts;
    let Ok(server) = UnixStream::connect(socket).await else {
        return;
    };
    let _ = client.set_nodelay(true);
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::select! {
        _ = carry(from_client, to_server, state.clone(), false) => {}
        _ = carry(from_server, to_client, state.clone(), true) => {}
        _ = state.wait_for(|state| state.cuts != cuts) => {}
    }
}

async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut state: watch::Receiver<State>,
    answers: bool,
) -> io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        let weather = state.borrow_and_update().weather;
        match weather {
            Weather::Clear => {}
            Weather::Slow(by) => SystemClock.sleep(by).await,
            Weather::Hole => {
                let _ = state.wait_for(|state| state.weather != Weather::Hole).await;
            }
            Weather::Mute if answers => return Ok(()),
            Weather::Mute => {}
        }
        to.write_all(&buffer[..read]).await?;
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;
    use tokio::net::UnixListener;

    use super::*;

    /// A server that answers each byte with the next one.
    async fn link() -> (Link, TempDir) {
        let directory = TempDir::new().unwrap();
        let socket = directory.path().join("socket");
        let listener = UnixListener::bind(&socket).unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    while let Ok(byte) = stream.read_u8().await {
                        let _ = stream.write_u8(byte + 1).await;
                    }
                });
            }
        });
        (Link::open(socket).await.unwrap(), directory)
    }

    async fn ask(stream: &mut TcpStream) -> io::Result<u8> {
        stream.write_u8(6).await?;
        stream.read_u8().await
    }

    #[tokio::test]
    async fn clear_and_slow_links_deliver_responses() {
        let (link, _directory) = link().await;
        let mut stream = TcpStream::connect(link.address).await.unwrap();
        assert_eq!(ask(&mut stream).await.unwrap(), 7);
        link.set(Weather::Slow(Duration::from_millis(1)));
        assert_eq!(ask(&mut stream).await.unwrap(), 7);
    }

    #[tokio::test]
    async fn cut_closes_open_connections_only() {
        let (link, _directory) = link().await;
        let mut stream = TcpStream::connect(link.address).await.unwrap();
        assert_eq!(ask(&mut stream).await.unwrap(), 7);
        link.cut();
        assert!(stream.read_u8().await.is_err());
        let mut stream = TcpStream::connect(link.address).await.unwrap();
        assert_eq!(ask(&mut stream).await.unwrap(), 7);
    }

    #[tokio::test]
    async fn mute_link_forwards_request_and_drops_response() {
        let (link, _directory) = link().await;
        let mut stream = TcpStream::connect(link.address).await.unwrap();
        link.set(Weather::Mute);
        assert!(ask(&mut stream).await.is_err());
    }

    #[tokio::test]
    async fn stalled_link_delays_bytes_until_it_ends() {
        let (link, _directory) = link().await;
        let mut stream = TcpStream::connect(link.address).await.unwrap();
        assert_eq!(ask(&mut stream).await.unwrap(), 7);
        link.set(Weather::Hole);
        stream.write_u8(1).await.unwrap();
        let silent = tokio::time::timeout(Duration::from_millis(100), stream.read_u8()).await;
        assert!(silent.is_err(), "{silent:?}");
        link.set(Weather::Clear);
        assert_eq!(stream.read_u8().await.unwrap(), 2);
    }
}
