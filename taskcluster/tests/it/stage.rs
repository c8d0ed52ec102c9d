//! What the tests share: a fake Taskcluster, a clock that never makes them wait, and a signature by hand.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;

use async_trait::async_trait;
use aws_lc_rs::{digest, hmac};
use base64::{Engine, engine::general_purpose::STANDARD};
use http_client::{Limits, Response};
use jiff::Timestamp;
use runtime::{Clock, ManualClock};
use taskcluster::{Credentials, Taskcluster};
use testkit::taskcluster::FakeTaskcluster;
use url::{Position, Url};

/// When the answers were recorded.
pub(crate) const NOW: &str = "2026-11-21T02:48:05.000Z";

pub(crate) struct Stage {
    pub(crate) fake: FakeTaskcluster,
    pub(crate) clock: Arc<Stopwatch>,
}

/// A clock on which every wait is over at once, and noted.
#[derive(Debug)]
pub(crate) struct Stopwatch {
    clock: ManualClock,
    waits: Mutex<Vec<Duration>>,
}

impl Stopwatch {
    pub(crate) fn at(now: &str) -> Arc<Self> {
        Arc::new(Self {
            clock: ManualClock::new(now.parse().unwrap()),
            waits: Mutex::default(),
        })
    }

    pub(crate) fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }

    /// The waits since this was last asked.
    pub(crate) fn waits(&self) -> Vec<Duration> {
        std::mem::take(&mut self.waits.lock())
    }
}

#[async_trait]
impl Clock for Stopwatch {
    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    async fn sleep(&self, duration: Duration) {
        self.waits.lock().push(duration);
        self.clock.advance(duration);
    }

    fn random(&self) -> u64 {
        self.clock.random()
    }
}

impl Stage {
    pub(crate) async fn set() -> Self {
        let clock = Stopwatch::at(NOW);
        Self {
            fake: FakeTaskcluster::start(clock.clone()).await.unwrap(),
            clock,
        }
    }

    /// A client that may do everything.
    pub(crate) fn client(&self) -> Taskcluster {
        self.client_with(Some(self.credentials()))
    }

    pub(crate) fn credentials(&self) -> Credentials {
        credentials(&self.fake)
    }

    pub(crate) fn client_with(&self, credentials: Option<Credentials>) -> Taskcluster {
        Taskcluster::new(
            self.fake.root().clone(),
            credentials,
            http(),
            self.clock.clone(),
        )
    }

    pub(crate) fn url(&self, target: &str) -> Url {
        self.fake.root().join(target).unwrap()
    }
}

/// Credentials that may do everything.
pub(crate) fn credentials(fake: &FakeTaskcluster) -> Credentials {
    client_credentials(fake.credentials())
}

pub(crate) fn client_credentials(shown: testkit::taskcluster::Credentials) -> Credentials {
    Credentials {
        client_id: shown.client_id,
        access_token: shown.access_token,
        certificate: shown.certificate,
    }
}

pub(crate) fn http() -> reqwest::Client {
    http_client::client(Duration::from_secs(20)).unwrap()
}

/// Sends a request as it is and reads the whole response.
pub(crate) async fn response_to(request: reqwest::RequestBuilder) -> Response {
    let sent = http_client::send(request, Limits::body(usize::MAX));
    sent.await.unwrap()
}

/// A Hawk signature, written after the protocol's description and not with the client's means.
pub(crate) struct Signature<'a> {
    pub(crate) id: &'a str,
    pub(crate) key: &'a str,
    pub(crate) time: i64,
    pub(crate) nonce: &'a str,
    pub(crate) ext: &'a str,
}

impl Signature<'_> {
    pub(crate) fn header(&self, method: &str, url: &Url, body: Option<&str>) -> String {
        let Self {
            id,
            time,
            nonce,
            ext,
            ..
        } = self;
        let hash = body.map(payload_hash).unwrap_or_default();
        let mac = self.mac(method, url, &hash);
        let mut header =
            format!("Hawk id=\"{id}\", ts=\"{time}\", nonce=\"{nonce}\", mac=\"{mac}\"");
        for (name, value) in [("hash", hash.as_str()), ("ext", ext)] {
            if !value.is_empty() {
                header.push_str(&format!(", {name}=\"{value}\""));
            }
        }
        header
    }

    fn mac(&self, method: &str, url: &Url, hash: &str) -> String {
        let Self {
            key,
            time,
            nonce,
            ext,
            ..
        } = self;
        let (target, host) = (&url[Position::BeforePath..], url.host_str().unwrap());
        let port = url.port_or_known_default().unwrap();
        let text = format!(
            "hawk.1.header\n{time}\n{nonce}\n{method}\n{target}\n{host}\n{port}\n{hash}\n{ext}\n"
        );
        STANDARD.encode(hmac::sign(
            &hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes()),
            text.as_bytes(),
        ))
    }
}

pub(crate) fn payload_hash(body: &str) -> String {
    let text = format!("hawk.1.payload\napplication/json\n{body}\n");
    STANDARD.encode(digest::digest(&digest::SHA256, text.as_bytes()))
}
