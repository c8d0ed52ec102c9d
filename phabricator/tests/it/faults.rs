//! What a test can let go wrong with the fake Phabricator, as a client sees it.

use std::{sync::Arc, time::Duration};

use build::Phid;
use http_client::HttpError;
use runtime::{Clock, ManualClock};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use testkit::phabricator::{EVERY_METHOD, FakePhabricator, Fault, NewDiff, NewRevision};

use crate::world::{http, response_to, start};

/// A build target that waits, and somebody who sends units to it.
struct Line {
    fake: FakePhabricator,
    clock: Arc<ManualClock>,
    target: Phid,
    http: reqwest::Client,
}

/// What a client gets: a status and an `error_code`, or nothing.
type Answer = Option<(u16, Value)>;

const FINE: Answer = Some((200, Value::Null));

impl Line {
    async fn new() -> Self {
        let clock = Arc::new(ManualClock::new(start()));
        let fake = FakePhabricator::start(clock.clone()).await.unwrap();
        let (alice, repository) = (
            fake.add_user("alice", "Alice"),
            fake.add_repository("mozilla-central"),
        );
        let revision = fake.create_revision(NewRevision::new(
            "x",
            &alice,
            &repository,
            NewDiff::new("patch"),
        ));
        let target = fake.start_build(revision.diff.id).target;
        fake.answered(&target, 200);
        Self {
            fake,
            clock,
            target,
            http: http(),
        }
    }

    /// Sends one unit, once.
    fn send(&self) -> impl Future<Output = Answer> + Send + 'static {
        let unit = json!([{ "name": "general", "result": "pass" }]);
        let params = json!({ "receiver": self.target, "type": "work", "unit": unit });
        self.call("harbormaster.sendmessage", params)
    }

    fn call(
        &self,
        method: &str,
        mut params: Value,
    ) -> impl Future<Output = Answer> + Send + 'static {
        params["__conduit__"] = json!({ "token": self.fake.token().expose_secret() });
        let url = format!("{}api/{method}", self.fake.url());
        let request = self.http.post(url).form(&[("params", params.to_string())]);
        async move {
            let answer = response_to(request).await.ok()?;
            let code = answer
                .json::<Value>()
                .map_or(Value::Null, |body| body["error_code"].clone());
            Some((answer.status.as_u16(), code))
        }
    }

    /// How many units have arrived.
    fn units(&self) -> usize {
        self.fake.target(&self.target).unwrap().units.len()
    }
}

async fn assert_refuses_connections(fake: &FakePhabricator) {
    let error = response_to(http().post(fake.url().clone())).await.err();
    assert!(
        matches!(&error, Some(HttpError::Unreachable(cause)) if cause.is_connect()),
        "{error:?}"
    );
}

#[tokio::test]
async fn call_fails_before_or_after_its_effect() {
    let table: [(Fault, Answer, usize); 5] = [
        (Fault::Status(503), Some((503, Value::Null)), 0),
        (Fault::Cut, None, 0),
        (
            Fault::Refuse("ERR-CONDUIT-CORE"),
            Some((200, json!("ERR-CONDUIT-CORE"))),
            0,
        ),
        (Fault::StatusAfter(502), Some((502, Value::Null)), 1),
        (Fault::CutAfter, None, 1),
    ];
    for (fault, answer, units) in table {
        let line = Line::new().await;
        line.fake.fail_next("harbormaster.sendmessage", 1, &fault);
        assert_eq!(
            (line.send().await, line.units()),
            (answer, units),
            "{fault:?}"
        );
        assert_eq!(
            (line.send().await, line.units()),
            (FINE, units + 1),
            "after {fault:?}"
        );
        assert_eq!(line.fake.calls().len(), 2);
    }
}

#[tokio::test]
async fn faults_apply_in_order_and_by_method() {
    let line = Line::new().await;
    line.fake
        .fail_next("harbormaster.sendmessage", 2, &Fault::Status(502));
    line.fake.fail_next(EVERY_METHOD, 1, &Fault::Status(503));
    line.fake.fail_next("user.whoami", 0, &Fault::Cut);
    let status = |status| Some((status, Value::Null));
    assert_eq!(line.call("user.whoami", json!({})).await, status(503));
    assert_eq!(line.call("user.whoami", json!({})).await, FINE);
    for expected in [status(502), status(502), FINE] {
        assert_eq!(line.send().await, expected);
    }
}

#[tokio::test]
async fn fault_lasts_until_it_is_mended() {
    let line = Line::new().await;
    line.fake
        .fail_until_mended(EVERY_METHOD, &Fault::Status(503));
    for _ in 0..5 {
        assert_eq!(line.send().await, Some((503, Value::Null)));
        assert_eq!(
            line.call("user.whoami", json!({})).await,
            Some((503, Value::Null))
        );
    }
    line.fake.mend();
    assert_eq!((line.send().await, line.units()), (FINE, 1));
}

#[tokio::test]
async fn held_response_follows_the_effect_of_its_call() {
    let line = Line::new().await;
    let mut held = line.fake.hold_next("harbormaster.sendmessage");
    let sending = tokio::spawn(line.send());
    held.acted().await;
    assert_eq!(line.units(), 1);
    // Others are not held back.
    assert_eq!((line.send().await, line.units()), (FINE, 2));
    assert!(!sending.is_finished());
    held.release();
    assert_eq!(sending.await.unwrap(), FINE);
}

#[tokio::test]
async fn response_is_late_by_the_clock() {
    let line = Line::new().await;
    line.fake.fail_next(
        "harbormaster.sendmessage",
        1,
        &Fault::Delay(Duration::from_secs(60)),
    );
    let sending = tokio::spawn(line.send());
    while !sending.is_finished() {
        line.clock.advance(Duration::from_secs(10));
        tokio::task::yield_now().await;
    }
    assert_eq!((sending.await.unwrap(), line.units()), (FINE, 1));
    assert!(line.clock.now().duration_since(start()).as_secs() >= 60);
}

#[tokio::test]
async fn fake_refuses_connections_while_down_and_keeps_its_state() {
    let line = Line::new().await;
    assert_eq!(line.send().await, FINE);
    line.fake.go_down().await.unwrap();
    // The connection that is open is of no use, and a new one is not to be had.
    assert_eq!(line.send().await, None);
    assert_refuses_connections(&line.fake).await;
    line.fake.go_down().await.unwrap();
    assert_eq!(line.units(), 1);

    for _ in 0..2 {
        line.fake.come_up().unwrap();
        assert_eq!(line.send().await, FINE);
    }
    assert_eq!(line.units(), 3);
    line.fake.go_down().await.unwrap();
    assert_refuses_connections(&line.fake).await;
}
