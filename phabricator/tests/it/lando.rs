//! Warnings on a Lando that keeps them.

use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Duration};

use parking_lot::Mutex;

use axum::{
    Json, Router,
    extract::{Query, State},
    http::{HeaderMap, StatusCode},
    routing::get,
};
use build::{BuildUpdate, InfraFailure, PatchFailure, SkipReason, VersionControl};
use bus::{Backoff, Bus, Consumer, Depth, MemoryBus, Policy, Producer, Queue};
use phabricator::{Lando, LandoWarning, warning_for};
use runtime::ManualClock;
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};
use url::Url;

use crate::world::{http, start};

const KEY: &str = "api-knownknownknownknownknownkno";
/// Two attempts, the second after a minute or so.
const LANDO: Queue<LandoWarning> = Queue::new(
    "lando",
    Policy {
        attempts: 2,
        backoff: Backoff {
            first: Duration::from_secs(60),
            factor: 1,
            cap: Duration::from_secs(60),
        },
        ..Policy::DEFAULT
    },
);

/// Recorded requests and answers of a real one.
fn recorded() -> Value {
    serde_json::from_str(include_str!("../fixtures/lando/diff_warnings.json")).unwrap()
}

#[derive(Default)]
struct Kept {
    warnings: Vec<Value>,
    /// The status that the next request is answered with.
    fault: Option<u16>,
    /// Whether the next warning is taken in, and answered with 502.
    lose_answer: bool,
    /// The status for the next warning, which is not taken in.
    ignore_with: Option<u16>,
    /// Method and data of what was sent.
    seen: Vec<(&'static str, Value)>,
}

/// A Lando that knows one token.
struct FakeLando {
    address: SocketAddr,
    kept: Arc<Mutex<Kept>>,
    server: JoinHandle<()>,
}

type Answer = (StatusCode, Json<Value>);

fn refuse(kept: &mut Kept, headers: &HeaderMap) -> Option<Answer> {
    if headers
        .get("X-Phabricator-API-Key")
        .is_none_or(|key| key != KEY)
    {
        return Some((
            StatusCode::UNAUTHORIZED,
            Json(json!({"title": "X-Phabricator-API-Key Required"})),
        ));
    }
    let status = kept.fault.take()?;
    Some((
        StatusCode::from_u16(status).unwrap(),
        Json(json!({"title": "as the test wants it"})),
    ))
}

async fn list(
    State(kept): State<Arc<Mutex<Kept>>>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> Answer {
    let mut kept = kept.lock();
    kept.seen.push(("GET", json!(query)));
    if let Some(answer) = refuse(&mut kept, &headers) {
        return answer;
    }
    let matches = |warning: &&Value| {
        ["revision_id", "diff_id"]
            .iter()
            .all(|key| json!(query[*key].parse::<u64>().unwrap()) == warning[*key])
            && query["group"] == warning["group"]
    };
    (
        StatusCode::OK,
        Json(kept.warnings.iter().filter(matches).cloned().collect()),
    )
}

async fn add(
    State(kept): State<Arc<Mutex<Kept>>>,
    headers: HeaderMap,
    Json(mut warning): Json<Value>,
) -> Answer {
    let mut kept = kept.lock();
    kept.seen.push(("POST", warning.clone()));
    if let Some(answer) = refuse(&mut kept, &headers) {
        return answer;
    }
    if let Some(status) = kept.ignore_with.take() {
        return (StatusCode::from_u16(status).unwrap(), Json(json!([])));
    }
    warning["id"] = json!(kept.warnings.len() + 1);
    warning["status"] = json!("ACTIVE");
    kept.warnings.push(warning.clone());
    let status = if std::mem::take(&mut kept.lose_answer) {
        StatusCode::BAD_GATEWAY
    } else {
        StatusCode::CREATED
    };
    (status, Json(warning))
}

impl FakeLando {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let kept: Arc<Mutex<Kept>> = Arc::default();
        let routes = Router::new()
            .route("/api/diff_warnings/", get(list).post(add))
            .with_state(kept.clone());
        let server = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self {
            address,
            kept,
            server,
        }
    }

    /// The messages that are shown.
    fn shown(&self) -> Vec<String> {
        let kept = self.kept.lock();
        let shown = kept
            .warnings
            .iter()
            .filter(|warning| warning["status"] == "ACTIVE");
        shown
            .map(|warning| warning["data"]["message"].as_str().unwrap().to_owned())
            .collect()
    }

    /// Takes all warnings back, as the review bot does when it is done.
    fn archive(&self) {
        for warning in &mut self.kept.lock().warnings {
            warning["status"] = json!("ARCHIVED");
        }
    }

    /// Answers the next request with this status.
    fn fail(&self, status: u16) {
        self.kept.lock().fault = Some(status);
    }
}

/// The handler on a bus.
struct World {
    clock: Arc<ManualClock>,
    bus: Arc<dyn Bus>,
    consumer: Consumer,
}

impl World {
    fn new(lando: &FakeLando, key: &str) -> Self {
        let clock = Arc::new(ManualClock::new(start()));
        let bus: Arc<dyn Bus> = Arc::new(MemoryBus::new(clock.clone()));
        let url = Url::parse(&format!("http://{}/api", lando.address)).unwrap();
        let handler = Lando::new(url, SecretString::from(key), http());
        Self {
            consumer: Consumer::new(bus.clone(), clock.clone(), LANDO, handler),
            clock,
            bus,
        }
    }

    async fn warn(&self, warning: &LandoWarning) {
        Producer::new(self.bus.clone(), self.clock.clone())
            .send(&LANDO, warning)
            .await
            .unwrap();
        assert_eq!(self.consumer.step().await.unwrap(), 1);
    }

    /// Lets the second attempt happen.
    async fn again(&self) {
        self.clock.advance(Duration::from_secs(70));
        assert_eq!(self.consumer.step().await.unwrap(), 1);
    }

    async fn depth(&self) -> Depth {
        self.bus.depth(&LANDO.spec()).await.unwrap()
    }

    /// Why a warning could not be shown.
    async fn dead(&self) -> String {
        let letters = self.bus.dead(&LANDO.spec(), "", 10).await.unwrap();
        assert_eq!(letters.len(), 1);
        letters[0].reason.clone()
    }
}

fn warning() -> LandoWarning {
    let text = warning_for(&BuildUpdate::Working, false)
        .unwrap()
        .to_owned();
    LandoWarning {
        revision_id: 36474,
        diff_id: 125_397,
        text,
    }
}

/// A value with every leaf replaced by the name of its type.
fn shape(value: &Value) -> Value {
    match value {
        Value::Object(map) => map
            .iter()
            .map(|(key, value)| (key.clone(), shape(value)))
            .collect(),
        Value::Array(items) => items.iter().map(shape).collect(),
        Value::Number(_) => json!("number"),
        Value::String(_) => json!("string"),
        other => other.clone(),
    }
}

#[test]
fn each_update_has_its_warning() {
    let failure = PatchFailure {
        vcs: VersionControl::Mercurial,
        summary: String::new(),
        details: String::new(),
        advice: String::new(),
        commands: String::new(),
        base: None,
        seconds: 0.0,
    };
    let infra_failure = InfraFailure {
        summary: String::new(),
        details: String::new(),
        attempts: 1,
        seconds: 0.0,
    };
    let generic = "Static analysis and linting did not run due to a generic failure.";
    for (update, expected) in [
        (
            BuildUpdate::Working,
            [Some("Static analysis and linting are still in progress."); 2],
        ),
        (
            BuildUpdate::PatchFailed(failure),
            [Some("Static analysis and linting did not run due to failure in applying the patch.");
                2],
        ),
        (
            BuildUpdate::InfraFailed(infra_failure),
            [None, Some(generic)],
        ),
        (
            BuildUpdate::skipped(SkipReason::Expired, "reason"),
            [None; 2],
        ),
        (BuildUpdate::Private, [None; 2]),
    ] {
        assert_eq!(
            [false, true].map(|failures| warning_for(&update, failures)),
            expected,
            "{update:?}"
        );
    }
}

#[tokio::test]
async fn warning_is_added_by_requests_of_the_recorded_form() {
    let lando = FakeLando::start().await;
    let world = World::new(&lando, KEY);
    world.warn(&warning()).await;
    assert_eq!(lando.shown(), [warning().text]);
    assert_eq!(world.depth().await, Depth::default());

    let recorded = recorded();
    let kept = lando.kept.lock();
    let mut posted = recorded["add"]["request"]["body"].clone();
    posted["data"]["message"] = json!(warning().text);
    let asked = json!({"revision_id": "36474", "diff_id": "125397", "group": "LINT"});
    assert_eq!(kept.seen, [("GET", asked), ("POST", posted)]);
    let listed = &recorded["list"];
    assert_eq!(
        listed["request"]["path"],
        "/diff_warnings/?revision_id=36474&diff_id=125397&group=LINT"
    );
    assert_eq!(
        shape(&json!(kept.warnings)),
        shape(&listed["response"]),
        "the fake lists what the real one does"
    );
}

#[tokio::test]
async fn repeated_warning_is_added_once() {
    let lando = FakeLando::start().await;
    let world = World::new(&lando, KEY);
    let other_text = LandoWarning {
        text: "another".to_owned(),
        ..warning()
    };
    let other_diff = LandoWarning {
        diff_id: 125_398,
        ..warning()
    };
    for warning in [
        &warning(),
        &warning(),
        &other_text,
        &other_diff,
        &other_text,
    ] {
        world.warn(warning).await;
    }
    assert_eq!(
        lando.shown(),
        [&*warning().text, "another", &*warning().text]
    );
    // A build of the same diff that is started again is in progress again.
    lando.archive();
    world.warn(&warning()).await;
    assert_eq!(lando.shown(), [warning().text]);
}

#[tokio::test]
async fn warning_whose_response_was_lost_is_not_repeated() {
    let lando = FakeLando::start().await;
    let world = World::new(&lando, KEY);
    lando.kept.lock().lose_answer = true;
    world.warn(&warning()).await;
    assert_eq!((lando.shown().len(), world.depth().await.delayed), (1, 1));
    world.again().await;
    assert_eq!(
        (lando.shown().len(), world.depth().await),
        (1, Depth::default())
    );
}

#[tokio::test]
async fn warning_is_retried_while_lando_is_down_and_then_dead_lettered() {
    let lando = FakeLando::start().await;
    let world = World::new(&lando, KEY);
    lando.fail(503);
    world.warn(&warning()).await;
    assert_eq!((lando.shown().len(), world.depth().await.delayed), (0, 1));
    world.again().await;
    assert_eq!(
        (lando.shown().len(), world.depth().await),
        (1, Depth::default())
    );

    lando.server.abort();
    while tokio::net::TcpStream::connect(lando.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    world
        .warn(&LandoWarning {
            diff_id: 1,
            ..warning()
        })
        .await;
    world.again().await;
    let reason = world.dead().await;
    assert!(
        reason.contains("cannot list the warnings of a diff: no usable response from lando"),
        "{reason}"
    );
}

#[tokio::test]
async fn other_status_than_created_is_no_success() {
    for status in [200, 202, 204, 302] {
        let lando = FakeLando::start().await;
        let world = World::new(&lando, KEY);
        lando.kept.lock().ignore_with = Some(status);
        world.warn(&warning()).await;
        let reason = world.dead().await;
        assert!(
            reason.contains(&format!("http status {status}")),
            "{reason}"
        );
    }
}

#[tokio::test]
async fn refused_warning_becomes_a_dead_letter_without_the_token() {
    let lando = FakeLando::start().await;
    let wrong = World::new(&lando, "api-wrong");
    wrong.warn(&warning()).await;
    let reason = wrong.dead().await;
    assert!(
        reason.contains("set a PHABRICATOR.api_key that this lando knows"),
        "{reason}"
    );
    assert!(!reason.contains("api-wrong"), "{reason}");

    let unsendable = World::new(&lando, "api-\nbroken");
    unsendable.warn(&warning()).await;
    assert!(!unsendable.dead().await.contains("broken"));

    let elsewhere = World::new(&lando, KEY);
    lando.fail(404);
    elsewhere.warn(&warning()).await;
    let reason = elsewhere.dead().await;
    assert!(reason.contains("http status 404"), "{reason}");
    assert!(lando.shown().is_empty());
}
