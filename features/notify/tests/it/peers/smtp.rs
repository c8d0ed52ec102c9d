//! A mail server (aiosmtpd), as a process of its own that ends with this value.

use std::{fs, process::Stdio, sync::Arc, time::Duration};

use parking_lot::Mutex;

use runtime::{Clock, SystemClock};
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::Authority;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

/// The login that it accepts.
pub(crate) const LOGIN: (&str, &str) = ("robot@example.com", "open sesame");
/// How often it is looked whether something has happened.
const LOOKS: usize = 1500;

/// A mail as the server's own library reads it.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Received {
    pub(crate) from: String,
    pub(crate) to: Vec<String>,
    headers: Vec<(String, String)>,
    pub(crate) parts: Vec<(String, String)>,
    /// Its longest line.
    pub(crate) longest: usize,
    pub(crate) ascii: bool,
}

impl Received {
    /// The only header of that name.
    pub(crate) fn header(&self, name: &str) -> &str {
        let mut found = self
            .headers
            .iter()
            .filter(|(known, _)| known == name)
            .map(|(_, value)| value);
        let value = found
            .next()
            .unwrap_or_else(|| panic!("no {name} in {:?}", self.headers));
        assert_eq!(found.next(), None, "{name} is there twice");
        value
    }

    /// The names of all headers.
    pub(crate) fn names(&self) -> Vec<&str> {
        self.headers.iter().map(|(name, _)| name.as_str()).collect()
    }
}

pub(crate) struct SmtpServer {
    security: &'static str,
    folder: TempDir,
    authority: Authority,
    port: u16,
    process: Child,
    said: Arc<Mutex<Vec<Value>>>,
}

impl SmtpServer {
    /// Starts one that speaks in `plain` text, offers `starttls` and insists on it, or speaks `tls` only. With the latter
    /// two, everybody has to log in.
    pub(crate) async fn start(security: &'static str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new(folder.path()).unwrap();
        authority.certify(folder.path(), "localhost").unwrap();
        let (process, port, lines) = spawn(&folder, 0, security).await;
        let server = Self {
            security,
            folder,
            authority,
            port,
            process,
            said: Arc::default(),
        };
        server.listen(lines);
        server
    }

    /// Ends it at once.
    pub(crate) async fn kill(&mut self) {
        self.process.kill().await.unwrap();
    }

    /// Starts it again, on the same port.
    pub(crate) async fn restart(&mut self) {
        let (process, _, lines) = spawn(&self.folder, self.port, self.security).await;
        self.process = process;
        self.listen(lines);
    }

    fn listen(&self, mut lines: Lines<BufReader<ChildStdout>>) {
        let said = self.said.clone();
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                said.lock().push(serde_json::from_str(&line).unwrap());
            }
        });
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The certificate of the authority that it is of.
    pub(crate) fn ca(&self) -> String {
        self.authority.file().display().to_string()
    }

    /// From now on it answers `said` to `asked`: a recipient, `MAIL` or `DATA`.
    pub(crate) fn answers(&self, asked: &str, said: &str) {
        fs::write(
            self.folder.path().join("answers.json"),
            json!({ asked: said }).to_string(),
        )
        .unwrap();
    }

    /// From now on it takes everything.
    pub(crate) fn takes_everything(&self) {
        fs::remove_file(self.folder.path().join("answers.json")).unwrap();
    }

    /// What it said under that name.
    pub(crate) fn said(&self, name: &str) -> Vec<Value> {
        self.said
            .lock()
            .iter()
            .filter(|said| said.get(name).is_some())
            .cloned()
            .collect()
    }

    /// What it got, once that is `count` mails.
    pub(crate) async fn mails(&self, count: usize) -> Vec<Received> {
        let mails = self.until("mail", count).await;
        mails
            .into_iter()
            .map(|mut said| serde_json::from_value(said["mail"].take()).unwrap())
            .collect()
    }

    /// What it said under that name, once that is `count` times.
    pub(crate) async fn until(&self, name: &str, count: usize) -> Vec<Value> {
        for _ in 0..LOOKS {
            let said = self.said(name);
            if said.len() >= count {
                return said;
            }
            SystemClock.sleep(Duration::from_millis(20)).await;
        }
        panic!(
            "waited in vain for {count} times {name}: {:?}",
            self.said.lock()
        );
    }
}

async fn spawn(
    folder: &TempDir,
    port: u16,
    security: &'static str,
) -> (Child, u16, Lines<BufReader<ChildStdout>>) {
    // Debian's own Python has Debian's aiosmtpd.
    let mut process = Command::new("/usr/bin/python3")
        .arg(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/it/peers/smtp.py"
        ))
        .arg(folder.path())
        .args([&port.to_string(), security])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let started = lines
        .next_line()
        .await
        .unwrap()
        .unwrap_or_else(|| panic!("no mail server: is aiosmtpd installed?"));
    let started: Value = serde_json::from_str(&started).unwrap();
    (
        process,
        started["port"].as_u64().unwrap().try_into().unwrap(),
        lines,
    )
}
