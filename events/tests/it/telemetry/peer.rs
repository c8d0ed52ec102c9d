//! A repository with a long pushlog, a Bugzilla and an ingestion edge, in one server that can be slow and can fail. The
//! shapes are the recorded ones.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use parking_lot::{Mutex, MutexGuard};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{Method, Response, Uri},
};
use runtime::{Clock, SystemClock};
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// The bug of the changesets that were reviewed on Phabricator.
const REVIEWED: u64 = 1_400_077;

#[derive(Default)]
pub struct World {
    /// The number of pushes; their numbers begin with 1.
    pub pushes: u64,
    /// The time until each answer.
    pub latency: Duration,
    /// One of this number of requests fails, in varying ways.
    pub fail_every: Option<usize>,
    /// Changesets that the repository lacks.
    pub missing: BTreeSet<String>,
    /// Pings get no answer.
    pub silent: bool,
    /// The number of times that each ping was accepted, by its id.
    pub accepted: BTreeMap<String, u32>,
    /// Pings that got no answer.
    pub unheard: BTreeSet<String>,
    /// The numbers of concurrent requests about changesets, now and at most.
    under_way: usize,
    pub most: usize,
    requests: usize,
}

#[derive(Clone)]
pub struct Peer {
    pub root: String,
    world: Arc<Mutex<World>>,
}

/// The changesets of a push: three in every tenth.
pub fn nodes(push: u64) -> Vec<String> {
    let count = if push.is_multiple_of(10) { 3 } else { 1 };
    (0..count)
        .map(|at| format!("{push:016x}{at:016x}00000000"))
        .collect()
}

/// The ids of the pings of pushes.
pub fn pings(pushes: impl IntoIterator<Item = u64>) -> BTreeSet<String> {
    let id = |node: String| uuid::Uuid::parse_str(&node[..32]).unwrap().to_string();
    pushes.into_iter().flat_map(nodes).map(id).collect()
}

impl Peer {
    pub async fn start(pushes: u64) -> Self {
        let world = Arc::new(Mutex::new(World {
            pushes,
            ..World::default()
        }));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let root = format!("http://{}", listener.local_addr().unwrap());
        let peer = Self { root, world };
        let routes = Router::new().fallback(answer).with_state(peer.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        peer
    }

    pub fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock()
    }

    pub fn repository(&self) -> String {
        format!("{}/mozilla-central", self.root)
    }

    /// The pings that were accepted once or more.
    pub fn accepted(&self) -> BTreeSet<String> {
        self.world().accepted.keys().cloned().collect()
    }

    /// The body of the message of a push on Pulse.
    pub fn message(&self, push: u64) -> Value {
        let repository = self.repository();
        let after = push - 1;
        let about = |full: &str| {
            format!("{repository}/json-pushes?version=2{full}&startID={after}&endID={push}")
        };
        json!({
            "payload": {
                "type": "changegroup.1",
                "data": {
                    "repo_url": repository,
                    "heads": [nodes(push).pop()],
                    "source": "push",
                    "pushlog_pushes": [{
                        "pushid": push, "user": "ann@example.com", "time": 1_795_228_689,
                        "push_json_url": about(""), "push_full_json_url": about("&full=1"),
                    }],
                },
            },
            "_meta": {
                "exchange": "exchange/hgpushes/v2", "routing_key": "mozilla-central", "serializer": "json",
                "sent": "2026-11-21T02:54:01.722278",
            },
        })
    }
}

impl World {
    fn answer(&mut self, path: &str, query: &str) -> (u16, String) {
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        match parts.as_slice() {
            ["mozilla-central", "json-pushes"] => (200, self.pushlog(query).to_string()),
            ["mozilla-central", "json-rev", node] => self.changeset(node),
            ["mozilla-central", "raw-rev", node] => (200, diff(node)),
            ["rest", "bug", bug, "attachment"] => {
                let attachment = json!({"content_type": "text/x-phabricator-request", "is_patch": 0, "is_obsolete": 0});
                let reviewed = if *bug == REVIEWED.to_string() {
                    vec![attachment]
                } else {
                    Vec::new()
                };
                (
                    200,
                    json!({"bugs": {*bug: reviewed}, "attachments": {}}).to_string(),
                )
            }
            ["submit", "eng-workflow", "hgpush", "1", id] => {
                *self.accepted.entry((*id).to_owned()).or_default() += 1;
                (200, String::new())
            }
            _ => (404, "not found".to_owned()),
        }
    }

    fn pushlog(&self, query: &str) -> Value {
        let query: HashMap<_, _> = url::form_urlencoded::parse(query.as_bytes())
            .into_owned()
            .collect();
        assert_eq!(query["version"], "2");
        let number = |name: &str| query[name].parse::<u64>().unwrap();
        let (start, end) = (number("startID"), number("endID").min(self.pushes));
        assert!(
            end.saturating_sub(start) <= 100,
            "pushes are requested in bounded steps"
        );
        let push = |push| {
            let push_json = json!({"changesets": nodes(push), "date": 1_795_228_689_u64 + push, "user": "ann@example.com"});
            (push.to_string(), push_json)
        };
        let pushes: serde_json::Map<String, Value> = (start + 1..=end).map(push).collect();
        json!({"lastpushid": self.pushes, "pushes": pushes})
    }

    fn changeset(&self, revision: &str) -> (u16, String) {
        let push = u64::from_str_radix(&revision[..revision.len().min(16)], 16).unwrap_or(u64::MAX);
        let known = (1..=self.pushes)
            .contains(&push)
            .then(|| nodes(push))
            .into_iter()
            .flatten();
        let Some(node) = known
            .into_iter()
            .find(|node| node.starts_with(revision) && !self.missing.contains(node))
        else {
            return (
                404,
                json!({"error": format!("unknown revision '{revision}'")}).to_string(),
            );
        };
        let description = match push % 100 {
            7 => format!("Bug {REVIEWED} - x r=a"),
            8 => format!("Revert \"Bug {REVIEWED} - x r=a\" for failures"),
            _ => "No bug - x r=me".to_owned(),
        };
        let changeset = json!({
            "node": node, "date": [1_571_000_300.0, 14400], "desc": description, "backedoutby": "",
            "branch": "default", "bookmarks": [], "tags": [], "user": "Ann <ann@example.com>",
            "parents": ["0".repeat(40)], "children": [], "phase": "public", "pushid": push,
            "pushdate": [1_795_228_689_u64 + push, 0], "pushuser": "ann@example.com", "landingsystem": null,
            "files": [{"file": "a", "status": "modified"}], "diff": [], "git_commit": null,
        });
        (200, changeset.to_string())
    }
}

/// A changeset as `raw-rev` writes it.
fn diff(node: &str) -> String {
    let parent = "0".repeat(40);
    format!(
        "\n# HG changeset patch\n# User Ann <ann@example.com>\n# Date 1571000300 14400\n# Node ID {node}\n# Parent {parent}\n\
         Bug {REVIEWED} - x r=a\n\ndiff --git a/a b/a\n--- a/a\n+++ b/a\n@@ -1,1 +1,1 @@\n-x\n+y\n\n"
    )
}

async fn answer(State(peer): State<Peer>, method: Method, uri: Uri, _: Bytes) -> Response<Body> {
    let path = uri.path().to_owned();
    let counted = path.contains("-rev/") || path.starts_with("/submit/");
    let (latency, fails, silent) = {
        let mut world = peer.world();
        world.requests += 1;
        if counted {
            world.under_way += 1;
            world.most = world.most.max(world.under_way);
        }
        let number = world.requests;
        let silent = world.silent && method == Method::PUT;
        if silent {
            world
                .unheard
                .insert(path.rsplit('/').next().unwrap().to_owned());
        }
        let fails = world
            .fail_every
            .filter(|every| number.is_multiple_of(*every))
            .map(|every| number / every);
        (world.latency, fails, silent)
    };
    if silent {
        std::future::pending::<()>().await;
    }
    SystemClock.sleep(latency).await;
    let mut world = peer.world();
    world.under_way -= usize::from(counted);
    let (status, body) = match fails {
        // Everybody leaves the server alone then, for a second.
        Some(fault) if fault.is_multiple_of(25) => (429, "not so fast".to_owned()),
        Some(fault) => ([500, 502, 503][fault % 3], "it is too much".to_owned()),
        None => world.answer(&path, uri.query().unwrap_or_default()),
    };
    let mut response = Response::builder().status(status);
    if status == 429 {
        response = response.header("Retry-After", "1");
    }
    response.body(body.into()).unwrap()
}
