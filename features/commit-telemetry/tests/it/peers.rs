//! An hgweb with a pushlog, a Bugzilla and an ingestion edge, in one server. They hold the recorded repository, the
//! recorded bugs, and the pings that they were sent.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use parking_lot::{Mutex, MutexGuard};

use async_trait::async_trait;
use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, Method, Response, StatusCode, Uri},
};
use commit_telemetry::{Bugzilla, Edge, EdgeSettings, Hgweb, Repository, Telemetry};
use jiff::Timestamp;
use runtime::{Clock, SystemClock};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::Barrier, task::JoinHandle};
use url::Url;

/// The address of the recorded servers.
const RECORDED: &str = "http://127.0.0.1:18088";

/// A recorded file, from the folder of fixtures.
pub(crate) fn fixture(name: &str) -> String {
    std::fs::read_to_string(format!(
        "{}/tests/fixtures/{name}",
        env!("CARGO_MANIFEST_DIR")
    ))
    .unwrap()
}

pub(crate) fn json_fixture(name: &str) -> Value {
    serde_json::from_str(&fixture(name)).unwrap()
}

/// A clock whose sleeps take no time.
#[derive(Debug)]
pub(crate) struct InstantClock;

#[async_trait]
impl Clock for InstantClock {
    fn now(&self) -> Timestamp {
        SystemClock.now()
    }

    async fn sleep(&self, _duration: Duration) {
        tokio::task::yield_now().await;
    }

    fn random(&self) -> u64 {
        7
    }
}

/// An answer in place of the regular one.
#[derive(Clone)]
pub(crate) struct Fault {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Bytes,
}

impl Fault {
    pub(crate) fn status(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Bytes::new(),
        }
    }

    pub(crate) fn body(body: impl Into<Bytes>) -> Self {
        Self {
            body: body.into(),
            ..Self::status(200)
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) content_type: Option<String>,
    pub(crate) body: Bytes,
}

#[derive(Default)]
struct World {
    /// The answers of `json-rev` and `raw-rev`, by id.
    changesets: BTreeMap<String, (Value, String)>,
    /// Attachments and history, by number.
    bugs: HashMap<u64, (Value, Value)>,
    secure: Vec<u64>,
    seen: Vec<Seen>,
    /// Answers in place of the regular ones, once each, by a part of the address.
    faults: HashMap<String, VecDeque<Fault>>,
    /// A part of the address, and the barrier at which such requests wait for one another.
    gate: Option<(&'static str, Arc<Barrier>)>,
}

pub(crate) struct Peers {
    pub(crate) root: Url,
    world: Arc<Mutex<World>>,
    server: JoinHandle<()>,
}

impl Drop for Peers {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// The recorded changesets.
const CHANGESETS: [&str; 10] = [
    "backout",
    "ignore-this",
    "merge",
    "nobug",
    "rename-binary-unicode",
    "reviewed-lando",
    "reviewed",
    "side",
    "uplift",
    "wptsync",
];

impl Peers {
    pub(crate) async fn start() -> Self {
        let mut world = World::default();
        for name in CHANGESETS {
            let json = json_fixture(&format!("hg/json-rev-{name}.json"));
            let node = json["node"].as_str().unwrap().to_owned();
            world
                .changesets
                .insert(node, (json, fixture(&format!("hg/raw-rev-{name}.txt"))));
        }
        let vectors = json_fixture("telemetry/classifier-vectors.json");
        for (bug, answers) in vectors["bugs"].as_object().unwrap() {
            world.bugs.insert(
                bug.parse().unwrap(),
                (answers[0].clone(), answers[1].clone()),
            );
        }
        let secure = vectors["unauthorized"].as_array().unwrap();
        world.secure = secure
            .iter()
            .map(|bug| bug.as_str().unwrap().parse().unwrap())
            .collect();
        let world = Arc::new(Mutex::new(world));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let root = Url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        let routes = Router::new().fallback(answer).with_state(world.clone());
        let server = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self {
            root,
            world,
            server,
        }
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock()
    }

    pub(crate) fn address(&self, path: &str) -> String {
        format!("{}{path}", self.root.as_str().trim_end_matches('/'))
    }

    pub(crate) fn repository(&self) -> Repository {
        self.address("/mozilla-central").parse().unwrap()
    }

    pub(crate) fn hgweb(&self) -> Hgweb {
        Hgweb::new(http(), Arc::new(InstantClock))
    }

    pub(crate) fn bugzilla(&self) -> Bugzilla {
        Bugzilla::new(
            Url::parse(&self.address("/rest")).unwrap(),
            http(),
            Arc::new(InstantClock),
        )
    }

    pub(crate) fn edge(&self) -> Edge {
        let settings = EdgeSettings {
            base: Url::parse(&self.address("/submit")).unwrap(),
            namespace: "eng-workflow".to_owned(),
            doctype: "hgpush".to_owned(),
            version: "1".to_owned(),
        };
        Edge::new(&settings, http(), Arc::new(InstantClock)).unwrap()
    }

    pub(crate) fn telemetry(&self) -> Telemetry {
        Telemetry::new(self.hgweb(), self.bugzilla(), self.edge())
    }

    /// A recorded text with the address of this server.
    pub(crate) fn moved(&self, recorded: &str) -> String {
        recorded.replace(RECORDED, self.root.as_str().trim_end_matches('/'))
    }

    /// Changes a field of a changeset.
    pub(crate) fn change(&self, node: &str, field: &str, value: Value) {
        self.world().changesets.get_mut(node).unwrap().0[field] = value;
    }

    /// Sets the answers about a bug.
    pub(crate) fn bug(&self, number: u64, attachments: Value, history: Value) {
        self.world().bugs.insert(number, (attachments, history));
    }

    /// Answers the next request whose address contains `part` with `fault`.
    pub(crate) fn fail(&self, part: &str, fault: Fault) {
        self.world()
            .faults
            .entry(part.to_owned())
            .or_default()
            .push_back(fault);
    }

    /// Answers all requests of one call whose address contains `part` with `status`.
    pub(crate) fn outage(&self, part: &str, status: u16) {
        for _ in 0..4 {
            self.fail(part, Fault::status(status));
        }
    }

    /// Delays requests whose address contains `part` until `requests` of them are waiting.
    pub(crate) fn gate(&self, part: &'static str, requests: usize) {
        self.world().gate = Some((part, Arc::new(Barrier::new(requests))));
    }

    /// The requests whose address contains `part`.
    pub(crate) fn seen(&self, part: &str) -> Vec<Seen> {
        self.world()
            .seen
            .iter()
            .filter(|seen| seen.path.contains(part))
            .cloned()
            .collect()
    }
}

pub(crate) fn http() -> reqwest::Client {
    http_client::client(Duration::from_secs(10)).unwrap()
}

async fn answer(
    State(world): State<Arc<Mutex<World>>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response<Body> {
    let path = uri.path_and_query().unwrap().to_string();
    let content_type = headers
        .get("content-type")
        .map(|value| value.to_str().unwrap().to_owned());
    let gate = {
        let mut world = world.lock();
        world.seen.push(Seen {
            method: method.clone(),
            path: path.clone(),
            content_type,
            body,
        });
        world
            .gate
            .as_ref()
            .filter(|(part, _)| path.contains(part))
            .map(|(_, gate)| Arc::clone(gate))
    };
    if let Some(gate) = gate {
        gate.wait().await;
    }
    let mut world = world.lock();
    let fault = world
        .faults
        .iter_mut()
        .find(|(part, _)| path.contains(*part))
        .and_then(|(_, queue)| queue.pop_front());
    let (status, body) = match fault {
        Some(fault) => {
            let mut response = Response::builder().status(fault.status);
            for (name, value) in fault.headers {
                response = response.header(name, value);
            }
            return response.body(fault.body.into()).unwrap();
        }
        None => world.answer(&method, uri.path(), uri.query().unwrap_or_default()),
    };
    Response::builder()
        .status(status)
        .body(body.into())
        .unwrap()
}

impl World {
    fn answer(&self, method: &Method, path: &str, query: &str) -> (StatusCode, String) {
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        match (method.as_str(), parts.as_slice()) {
            ("GET", ["mozilla-central", "json-rev", revision]) => match self.changeset(revision) {
                Some((json, _)) => (StatusCode::OK, json.to_string()),
                None => (StatusCode::NOT_FOUND, fixture("hg/json-rev-404.json")),
            },
            ("GET", ["mozilla-central", "raw-rev", revision]) => match self.changeset(revision) {
                Some((_, raw)) => (StatusCode::OK, raw.clone()),
                None => (StatusCode::NOT_FOUND, fixture("hg/raw-rev-404.txt")),
            },
            ("GET", ["mozilla-central", "json-pushes"]) => {
                (StatusCode::OK, self.pushes(query).to_string())
            }
            ("GET", ["rest", "bug", bug, resource @ ("attachment" | "history")]) => {
                assert_eq!(
                    query,
                    if *resource == "attachment" {
                        "exclude_fields=data"
                    } else {
                        ""
                    }
                );
                self.bug(bug.parse().unwrap(), resource)
            }
            ("PUT", ["submit", _, _, _, _]) => (StatusCode::OK, String::new()),
            _ => (StatusCode::NOT_FOUND, String::new()),
        }
    }

    fn changeset(&self, revision: &str) -> Option<&(Value, String)> {
        self.changesets
            .iter()
            .find(|(node, _)| node.starts_with(revision))
            .map(|(_, answers)| answers)
    }

    /// `json-pushes?version=2&startID=…&endID=…`
    fn pushes(&self, query: &str) -> Value {
        let query: HashMap<_, _> = url::form_urlencoded::parse(query.as_bytes())
            .into_owned()
            .collect();
        assert_eq!(query["version"], "2");
        let number = |name: &str| query[name].parse::<u64>().unwrap();
        let (start, end) = (number("startID"), number("endID"));
        let mut pushes = json!({});
        for (node, (json, _)) in &self.changesets {
            let push = json["pushid"].as_u64().unwrap();
            if start < push && push <= end {
                let push = &mut pushes[push.to_string()];
                *push = json!({"changesets": push["changesets"].as_array().cloned().unwrap_or_default()});
                push["changesets"].as_array_mut().unwrap().push(json!(node));
            }
        }
        json!({"lastpushid": 8, "pushes": pushes})
    }

    fn bug(&self, bug: u64, resource: &str) -> (StatusCode, String) {
        let recorded = |name: &str| {
            let recorded = json_fixture(&format!("bugzilla/{resource}-{name}.json"));
            let status = recorded["response"]["status"].as_u64().unwrap();
            (
                StatusCode::from_u16(status.try_into().unwrap()).unwrap(),
                recorded["response"]["body"].to_string(),
            )
        };
        match self.bugs.get(&bug) {
            _ if self.secure.contains(&bug) => recorded("401-102-secure"),
            None => recorded("404-101-missing"),
            Some((attachments, _)) if resource == "attachment" => (
                StatusCode::OK,
                json!({"bugs": {bug.to_string(): attachments}, "attachments": {}}).to_string(),
            ),
            Some((_, history)) => (
                StatusCode::OK,
                json!({"bugs": [{"id": bug, "alias": [], "history": history}]}).to_string(),
            ),
        }
    }
}
