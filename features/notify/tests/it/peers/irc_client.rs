//! Somebody on IRC who reads, and a server that says what a test wants.

use std::time::Duration;

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    time::timeout,
};

/// How long something may take before a test gives it up.
const PATIENCE: Duration = Duration::from_secs(180);

/// Lines over TCP.
pub(crate) struct Lines(BufReader<TcpStream>);

impl Lines {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self(BufReader::new(stream))
    }

    /// The next line; none when the other side has closed.
    pub(crate) async fn line(&mut self) -> Option<String> {
        let mut bytes = Vec::new();
        let reading = self.0.read_until(b'\n', &mut bytes);
        let count = timeout(PATIENCE, reading)
            .await
            .expect("waited in vain for a line")
            .unwrap_or(0);
        (count > 0).then(|| {
            String::from_utf8(bytes)
                .unwrap()
                .trim_end_matches(['\r', '\n'])
                .to_owned()
        })
    }

    /// The first line from here on that holds all of `parts`.
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

    pub(crate) async fn say(&mut self, line: &str) {
        self.0
            .get_mut()
            .write_all(format!("{line}\r\n").as_bytes())
            .await
            .unwrap();
    }
}

/// Somebody who is in channels and reads.
pub(crate) struct Reader {
    lines: Lines,
    password: String,
}

impl Reader {
    /// Comes by this nick, and is in `channels`.
    pub(crate) async fn come(port: u16, password: &str, nick: &str, channels: &[&str]) -> Self {
        let lines = Lines::new(TcpStream::connect(("127.0.0.1", port)).await.unwrap());
        let mut reader = Self {
            lines,
            password: password.to_owned(),
        };
        if !reader.password.is_empty() {
            reader.lines.say(&format!("PASS {password}")).await;
        }
        reader
            .lines
            .say(&format!("NICK {nick}\r\nUSER {nick} 0 * :a reader"))
            .await;
        reader.lines.until(&[" 001 "]).await;
        for channel in channels {
            reader.lines.say(&format!("JOIN {channel}")).await;
            reader.lines.until(&[" 366 ", channel]).await;
        }
        reader
    }

    /// The next message, its recipient and its text; other lines are skipped.
    pub(crate) async fn told(&mut self) -> (String, String) {
        told(&self.until(&[" PRIVMSG "]).await).unwrap()
    }

    /// The texts that are told before a line that holds all of `parts`.
    pub(crate) async fn told_until(&mut self, parts: &[&str]) -> Vec<String> {
        let mut texts = Vec::new();
        loop {
            let line = self.until(&[]).await;
            if parts.iter().all(|part| line.contains(part)) {
                return texts;
            }
            texts.extend(told(&line).map(|(_, text)| text));
        }
    }

    /// The first line from here on that holds all of `parts`. Answers the server's questions.
    pub(crate) async fn until(&mut self, parts: &[&str]) -> String {
        loop {
            let line = self
                .lines
                .line()
                .await
                .expect("the server closed the connection");
            if let Some(token) = line.strip_prefix("PING ") {
                self.lines.say(&format!("PONG {token}")).await;
            }
            if parts.iter().all(|part| line.contains(part)) {
                return line;
            }
        }
    }

    pub(crate) async fn say(&mut self, line: &str) {
        self.lines.say(line).await;
    }
}

fn told(line: &str) -> Option<(String, String)> {
    let (to, text) = line.split_once(" PRIVMSG ")?.1.split_once(" :")?;
    Some((to.to_owned(), text.to_owned()))
}

/// A port on which a test plays the server.
pub(crate) async fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    (listener, port)
}

/// The next one who connects.
pub(crate) async fn accept(listener: &TcpListener) -> Lines {
    Lines::new(
        timeout(PATIENCE, listener.accept())
            .await
            .expect("waited in vain for a client")
            .unwrap()
            .0,
    )
}
