//! A client on IRC that reads, and a listener for tests that play the server.

use std::time::Duration;

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    time::timeout,
};

/// The time limit of each wait.
const TIMEOUT: Duration = Duration::from_secs(180);

/// Lines over TCP.
pub(crate) struct Lines(BufReader<TcpStream>);

impl Lines {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self(BufReader::new(stream))
    }

    /// The next line; `None` when the peer has closed the connection.
    pub(crate) async fn line(&mut self) -> Option<String> {
        let mut bytes = Vec::new();
        let reading = self.0.read_until(b'\n', &mut bytes);
        let count = timeout(TIMEOUT, reading)
            .await
            .expect("a line arrives in time")
            .unwrap_or(0);
        (count > 0).then(|| {
            String::from_utf8(bytes)
                .unwrap()
                .trim_end_matches(['\r', '\n'])
                .to_owned()
        })
    }

    /// The next line that contains all of `parts`.
    pub(crate) async fn until(&mut self, parts: &[&str]) -> String {
        let mut before = Vec::new();
        while let Some(line) = self.line().await {
            if parts.iter().all(|part| line.contains(part)) {
                return line;
            }
            before.push(line);
        }
        panic!("closed before {parts:?} came: {before:#?}");
    }

    pub(crate) async fn send_line(&mut self, line: &str) {
        self.0
            .get_mut()
            .write_all(format!("{line}\r\n").as_bytes())
            .await
            .unwrap();
    }
}

/// A client in channels.
pub(crate) struct Reader {
    lines: Lines,
    password: String,
}

impl Reader {
    /// Connects with this nick, and joins `channels`.
    pub(crate) async fn join(port: u16, password: &str, nick: &str, channels: &[&str]) -> Self {
        let lines = Lines::new(TcpStream::connect(("127.0.0.1", port)).await.unwrap());
        let mut reader = Self {
            lines,
            password: password.to_owned(),
        };
        if !reader.password.is_empty() {
            reader.lines.send_line(&format!("PASS {password}")).await;
        }
        reader
            .lines
            .send_line(&format!("NICK {nick}\r\nUSER {nick} 0 * :a reader"))
            .await;
        reader.lines.until(&[" 001 "]).await;
        for channel in channels {
            reader.lines.send_line(&format!("JOIN {channel}")).await;
            reader.lines.until(&[" 366 ", channel]).await;
        }
        reader
    }

    /// The recipient and the text of the next message. Skips other lines.
    pub(crate) async fn message(&mut self) -> (String, String) {
        message(&self.until(&[" PRIVMSG "]).await).unwrap()
    }

    /// The texts of messages before a line that contains all of `parts`.
    pub(crate) async fn messages_until(&mut self, parts: &[&str]) -> Vec<String> {
        let mut texts = Vec::new();
        loop {
            let line = self.until(&[]).await;
            if parts.iter().all(|part| line.contains(part)) {
                return texts;
            }
            texts.extend(message(&line).map(|(_, text)| text));
        }
    }

    /// The next line that contains all of `parts`. Responds to PINGs.
    pub(crate) async fn until(&mut self, parts: &[&str]) -> String {
        loop {
            let line = self
                .lines
                .line()
                .await
                .expect("the server closed the connection");
            if let Some(token) = line.strip_prefix("PING ") {
                self.lines.send_line(&format!("PONG {token}")).await;
            }
            if parts.iter().all(|part| line.contains(part)) {
                return line;
            }
        }
    }

    pub(crate) async fn send_line(&mut self, line: &str) {
        self.lines.send_line(line).await;
    }
}

fn message(line: &str) -> Option<(String, String)> {
    let (to, text) = line.split_once(" PRIVMSG ")?.1.split_once(" :")?;
    Some((to.to_owned(), text.to_owned()))
}

/// A listener of a test that plays the server, and its port.
pub(crate) async fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    (listener, port)
}

/// The next connection.
pub(crate) async fn accept(listener: &TcpListener) -> Lines {
    Lines::new(
        timeout(TIMEOUT, listener.accept())
            .await
            .expect("a client connects in time")
            .unwrap()
            .0,
    )
}
