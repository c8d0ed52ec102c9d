//! What Harbormaster, and whoever else finds the port, is answered.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

mod api;
mod away;
mod flood;
mod heartbeat;
mod limits;
mod secret;

use std::{path::PathBuf, sync::Arc, time::Duration};

use build::{BuildLog, BuildQueues, BuildRequest};
use bus::{Admin, Bus, MemoryBus, Message, Policy, Producer, Queue};
use runtime::{Service, Shutdown, SystemClock};
use secrecy::SecretString;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use web::{Version, WebServer, WebSettings};

use crate::away::Away;

const LOAD: Queue<BuildRequest> = Queue::new(
    "build:load",
    Policy {
        max_depth: Some(10_000),
        ..Policy::DEFAULT
    },
);
const TARGET: &str = "PHID-HMBT-6om2iuajepxcv7v6poue";
const GOOD: &str =
    "diff=3&repo=PHID-REPO-gheyr7w2d2ab3qg236ha&revision=1&target=PHID-HMBT-6om2iuajepxcv7v6poue";

struct World {
    address: std::net::SocketAddr,
    bus: Arc<dyn Bus>,
    shutdown: Shutdown,
    running: tokio::task::JoinHandle<()>,
}

impl World {
    async fn start(bus: Arc<dyn Bus>, secret: Option<&str>, version: Version) -> Self {
        let secret = secret.map(SecretString::from);
        Self::serve(WebSettings {
            secret,
            version,
            ..settings(bus)
        })
        .await
    }

    async fn serve(settings: WebSettings) -> Self {
        let bus = settings.producer.bus().clone();
        let server = WebServer::bind("127.0.0.1:0".parse().unwrap(), settings)
            .await
            .unwrap();
        let address = server.address();
        let shutdown = Shutdown::new();
        let stop = shutdown.clone();
        let running = tokio::spawn(async move { Box::new(server).run(stop).await.unwrap() });
        Self {
            address,
            bus,
            shutdown,
            running,
        }
    }

    async fn open() -> Self {
        Self::start(memory(), None, Version::load(None).unwrap()).await
    }

    /// Sends bytes as they are and returns status and body.
    async fn raw(&self, bytes: &[u8]) -> (u16, String) {
        let (head, body) = self.answer(bytes).await;
        (
            head.split(' ')
                .nth(1)
                .and_then(|code| code.parse().ok())
                .unwrap_or(0),
            body,
        )
    }

    /// Sends bytes as they are and returns head, in lower case, and body.
    async fn answer(&self, bytes: &[u8]) -> (String, String) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        read(&mut stream).await
    }

    async fn post(&self, query: &str) -> (u16, String) {
        self.raw(
            format!(
                "POST /codereview/new?{query} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
            )
            .as_bytes(),
        )
        .await
    }

    async fn get(&self, path: &str) -> (u16, String) {
        self.raw(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes())
            .await
    }

    async fn stored(&self) -> Vec<BuildRequest> {
        let found = self.bus.peek(&LOAD.spec(), 10_000).await.unwrap();
        found
            .iter()
            .map(|waiting| &waiting.envelope)
            .map(|envelope| BuildRequest::decode(envelope.version, &envelope.body).unwrap())
            .collect()
    }
}

/// Reads one answer: its head, in lower case, and its body.
async fn read(stream: &mut TcpStream) -> (String, String) {
    let mut answer = Vec::new();
    let end = loop {
        if let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        assert!(
            stream.read_buf(&mut answer).await.unwrap() > 0,
            "the answer has no head"
        );
    };
    let head = String::from_utf8(answer[..end + 2].to_vec())
        .unwrap()
        .to_lowercase();
    let length = head
        .split("content-length: ")
        .nth(1)
        .and_then(|rest| rest.lines().next()?.parse().ok())
        .unwrap_or(0);
    while answer.len() < end + 4 + length {
        assert!(
            stream.read_buf(&mut answer).await.unwrap() > 0,
            "the answer is cut short"
        );
    }
    (head, String::from_utf8(answer[end + 4..].to_vec()).unwrap())
}

/// The log of builds whose requests go to this queue.
fn log(load: Queue<BuildRequest>) -> BuildLog {
    let queues = BuildQueues::new(
        load,
        Queue::new("build:push", Policy::DEFAULT),
        Queue::new("build:publish", Policy::DEFAULT),
    );
    BuildLog::new(Duration::from_secs(3600), "web", queues)
}

fn settings(bus: Arc<dyn Bus>) -> WebSettings {
    WebSettings {
        producer: Producer::new(bus.clone(), Arc::new(SystemClock)),
        log: log(LOAD),
        secret: None,
        version: Version::load(None).unwrap(),
        admin: Admin::new(bus, &[LOAD.spec(), api::PARTITIONED.spec()]),
        api_token: None,
    }
}

fn memory() -> Arc<dyn Bus> {
    Arc::new(MemoryBus::new(Arc::new(SystemClock)))
}

/// The requests as a real Harbormaster sent them: without and with a credential.
fn recorded() -> Vec<Vec<u8>> {
    let path =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/harbormaster-requests.txt");
    let text = std::fs::read_to_string(path).unwrap();
    text.split_inclusive("\r\n\r\n")
        .map(|request| request.as_bytes().to_vec())
        .collect()
}

#[tokio::test]
async fn recorded_request_of_harbormaster_is_stored() {
    let world = World::open().await;
    let requests = recorded();
    assert_eq!(requests.len(), 2);
    for (request, target) in requests
        .iter()
        .zip([TARGET, "PHID-HMBT-pfo2to7xzddsxlazab6f"])
    {
        let (status, text) = world.raw(request).await;
        assert_eq!(status, 200);
        // The log of the build shows it to its author.
        let follow = "Its operators follow it with `events builds show`, and its outcome will be shown on this build.";
        assert_eq!(
            text,
            format!("Build queued: {target}, diff 3 of D1.\n{follow}\n")
        );
    }
    let stored = world.stored().await;
    let seen: Vec<_> = stored
        .iter()
        .map(|b| (b.diff_id, b.revision_id, b.target.as_str()))
        .collect();
    assert_eq!(
        seen,
        [(3, 1, TARGET), (3, 1, "PHID-HMBT-pfo2to7xzddsxlazab6f")]
    );
    assert_eq!(
        stored[0].repository.as_str(),
        "PHID-REPO-gheyr7w2d2ab3qg236ha"
    );
}

#[tokio::test]
async fn repeated_request_is_accepted_and_stored_once() {
    let world = World::open().await;
    for _ in 0..3 {
        assert_eq!(world.post(GOOD).await.0, 200);
    }
    assert_eq!(world.stored().await.len(), 1);
}

#[tokio::test]
async fn parameters_are_read_from_a_form() {
    let world = World::open().await;
    let form = |kind: &str| {
        format!(
            "POST /codereview/new HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n{GOOD}",
            GOOD.len()
        )
    };
    assert_eq!(
        world
            .raw(form("application/x-www-form-urlencoded; charset=utf-8").as_bytes())
            .await
            .0,
        200
    );
    let (status, text) = world.raw(form("application/json").as_bytes()).await;
    assert_eq!((status, text.contains("form")), (400, true), "{text}");
    assert_eq!(world.stored().await.len(), 1);
}

#[tokio::test]
async fn staging_area_is_stored_as_it_is_named() {
    let world = World::open().await;
    let long = "x".repeat(10_000);
    let table = [
        ("", None, None),
        ("&staging_uri=&staging_ref=", None, None),
        (
            "&staging_uri=https%3A%2F%2Fgit.example.org%2Fs&staging_ref=refs/tags/phabricator/diff/3",
            Some("https://git.example.org/s"),
            Some("refs/tags/phabricator/diff/3"),
        ),
        (&format!("&staging_ref={long}"), None, Some(&long[..500])),
    ];
    for (number, (more, url, reference)) in table.iter().enumerate() {
        let request = GOOD.replace(TARGET, &format!("PHID-HMBT-{number:020}"));
        assert_eq!(world.post(&(request + more)).await.0, 200);
        let staged = world.stored().await.pop().unwrap().staged;
        let staged = staged.map(|staged| (staged.url, staged.reference));
        let expected = url.is_some() || reference.is_some();
        let expected = expected.then(|| (url.map(str::to_owned), reference.map(str::to_owned)));
        assert_eq!(staged, expected, "{more:.50}");
    }
}

#[tokio::test]
async fn response_names_the_bad_parameter() {
    let world = World::open().await;
    let with = |name: &str, value: &str| {
        let pairs = GOOD.split('&').map(|pair| {
            let (key, old) = pair.split_once('=').unwrap();
            format!("{key}={}", if key == name { value } else { old })
        });
        pairs.collect::<Vec<_>>().join("&")
    };
    let long = "1".repeat(65);
    let table = [
        (GOOD.replace("diff=3&", ""), "parameter diff is missing"),
        (with("diff", ""), "parameter diff is empty"),
        (format!("{GOOD}&diff=3"), "parameter diff is repeated"),
        (with("diff", "0"), "parameter diff is zero"),
        (with("diff", "-1"), "parameter diff is negative"),
        (with("diff", "abc"), "parameter diff is not an integer"),
        (with("diff", "3.5"), "parameter diff is not an integer"),
        (with("diff", "%2B3"), "parameter diff is not an integer"),
        (
            with("diff", "99999999999999999999"),
            "parameter diff is not an integer",
        ),
        (
            with("diff", &long),
            "parameter diff is longer than 64 characters",
        ),
        (with("revision", ""), "parameter revision is empty"),
        (with("repo", ""), "parameter repo is empty"),
        (
            with("repo", TARGET),
            "parameter repo is a PHID of another type, expected PHID-REPO-…",
        ),
        (
            with("target", "PHID-REPO-gheyr7w2d2ab3qg236ha"),
            "expected PHID-HMBT-…",
        ),
        (
            with("target", "PHID-HMBT-%00%0a"),
            "parameter target is not a PHID",
        ),
        (
            with("target", &"%C3%A4".repeat(65)),
            "parameter target is longer than 64 characters",
        ),
        (
            with("target", &"%C3%A4".repeat(64)),
            "parameter target is not a PHID",
        ),
        (String::new(), "parameter diff is missing"),
        ("%ff%fe=%".to_owned(), "parameter diff is missing"),
    ];
    for (query, expected) in table {
        let (status, text) = world.post(&query).await;
        assert_eq!(
            (status, text.contains(expected)),
            (400, true),
            "{query}: {text}"
        );
    }
    assert!(world.stored().await.is_empty());
}

#[tokio::test]
async fn unknown_routes_and_methods_are_refused() {
    let world = World::open().await;
    let table = [
        ("/ping", 200, "pong"),
        ("/__lbheartbeat__", 200, "ok"),
        ("/__heartbeat__", 200, r#""bus""#),
        ("/__version__", 200, env!("CARGO_PKG_VERSION")),
        ("/codereview/new", 405, ""),
        ("/nothing", 404, ""),
    ];
    for (path, status, text) in table {
        let answer = world.get(path).await;
        assert_eq!(
            (answer.0, answer.1.contains(text)),
            (status, true),
            "{path}: {answer:?}"
        );
    }
}

#[tokio::test]
async fn version_is_read_from_the_configured_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("version.json");
    std::fs::write(&path, r#"{"commit": "abc"}"#).unwrap();
    let world = World::start(memory(), None, Version::load(Some(path.clone())).unwrap()).await;
    assert_eq!(
        world.get("/__version__").await,
        (200, r#"{"commit":"abc"}"#.to_owned())
    );
    std::fs::write(&path, "nonsense").unwrap();
    let error = Version::load(Some(path)).unwrap_err().to_string();
    assert!(error.contains("VERSION_PATH"), "{error}");
}

#[tokio::test]
async fn shutdown_finishes_requests_and_refuses_new_connections() {
    let world = World::open().await;
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    let head = format!(
        "POST /codereview/new HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n\
         Content-Length: {}\r\nExpect: 100-continue\r\n\r\n",
        GOOD.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    // "100 Continue" says that the handler waits for the body.
    let mut interim = [0; 25];
    stream.read_exact(&mut interim).await.unwrap();
    world.shutdown.stop();
    while TcpStream::connect(world.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    stream.write_all(GOOD.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    world.running.await.unwrap();
    let found = world.bus.peek(&LOAD.spec(), 10).await.unwrap();
    assert_eq!(found.len(), 1);
}

#[tokio::test]
async fn build_that_is_not_stored_never_gets_200() {
    for full in [true, false] {
        let world = World::start(
            Arc::new(Away::new(full)),
            None,
            Version::load(None).unwrap(),
        )
        .await;
        let mut stream = TcpStream::connect(world.address).await.unwrap();
        let request =
            format!("POST /codereview/new?{GOOD} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        assert!(answer.to_lowercase().contains("retry-after: 5"), "{answer}");
        let why = if full {
            "too many builds wait"
        } else {
            "its queue does not work"
        };
        assert!(
            answer.contains("did not store this build") && answer.contains(why),
            "{answer}"
        );
        assert!(
            answer.contains("restart this build in Harbormaster"),
            "{answer}"
        );
        let (status, text) = world.get("/__heartbeat__").await;
        assert_eq!((status, text.contains(r#""bus":{"#)), (503, true), "{text}");
        assert_eq!(world.get("/__lbheartbeat__").await.0, 200);
    }
}
