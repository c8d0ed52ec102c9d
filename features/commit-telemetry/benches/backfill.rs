//! The speed of a backfill, compared with one request after another: `./dev bench telemetry`. The servers take 50 ms for an
//! answer.

#![expect(
    clippy::print_stdout,
    clippy::expect_used,
    reason = "a program that prints figures, or stops"
)]

use std::{pin::pin, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::Path,
    routing::{get, put},
};
use commit_telemetry::{
    Backfill, Bugzilla, Cursor, Edge, EdgeSettings, Hgweb, PushRange, Repository, Telemetry,
};
use futures::StreamExt;
use runtime::{Clock, Shutdown, SystemClock};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use url::Url;

const LATENCY: Duration = Duration::from_millis(50);
/// The numbers of pushes, of one changeset each, that are processed one after another and concurrently.
const SIZES: (u64, u64) = (100, 4_000);
/// The same with `--smallest`, which checks that the benchmark works.
const SMALLEST: (u64, u64) = (2, 64);
/// The concurrency of the command.
const CONCURRENCY: usize = 32;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let option = |name: &str| std::env::args().any(|argument| argument == name);
    let (few, many) = if option("--smallest") {
        SMALLEST
    } else {
        SIZES
    };
    runtime.block_on(async {
        let root = servers().await;
        let alone = rate(&root, few, 1).await;
        let together = rate(&root, many, CONCURRENCY).await;
        if option("--json") {
            let line = json!({
                "measure": "telemetry backfill", "value": together, "unit": "pushes/s", "beside": alone,
            });
            println!("{line}");
            return;
        }
        println!("one request after another: {alone:.1} pushes/s ({few} pushes)");
        println!("{CONCURRENCY} changesets at once: {together:.1} pushes/s ({many} pushes)");
        println!("{:.1} times as fast", together / alone);
    });
}

/// An hgweb with a pushlog, and an ingestion edge.
async fn servers() -> Url {
    let changeset = |Path(node): Path<String>| async move {
        SystemClock.sleep(LATENCY).await;
        json!({
            "node": node, "desc": "No bug - x r=me", "user": "Ann <ann@example.com>", "parents": ["0".repeat(40)],
            "pushdate": [1_795_228_689, 0], "landingsystem": null,
        })
        .to_string()
    };
    let routes = Router::new()
        .route("/repository/json-pushes", get(pushlog))
        .route("/repository/json-rev/{node}", get(changeset))
        .route("/submit/{*ping}", put(|| SystemClock.sleep(LATENCY)));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move { axum::serve(listener, routes).await });
    Url::parse(&format!("http://{address}")).expect("an address")
}

async fn pushlog(uri: axum::http::Uri) -> String {
    SystemClock.sleep(LATENCY).await;
    let query = uri.query().unwrap_or_default();
    let number = |name: &str| {
        let value = query
            .split('&')
            .find_map(|part| part.strip_prefix(name))
            .expect("a range");
        value.parse::<u64>().expect("a number")
    };
    let (start, end) = (number("startID="), number("endID="));
    let push = |push: u64| {
        (
            push.to_string(),
            json!({"changesets": [format!("{push:040x}")]}),
        )
    };
    let pushes: serde_json::Map<String, Value> = (start + 1..=end).map(push).collect();
    json!({"lastpushid": SIZES.1, "pushes": pushes}).to_string()
}

/// The speed in pushes a second.
async fn rate(root: &Url, pushes: u64, concurrency: usize) -> f64 {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let http = http_client::client(Duration::from_secs(10)).expect("a client");
    let below = |path| root.join(path).expect("an address");
    let edge = EdgeSettings {
        base: below("submit"),
        namespace: "eng-workflow".to_owned(),
        doctype: "hgpush".to_owned(),
        version: "1".to_owned(),
    };
    let telemetry = Telemetry::new(
        Hgweb::new(http.clone(), clock.clone()),
        Bugzilla::new(below("rest"), http.clone(), clock.clone()),
        Edge::new(&edge, http, clock.clone()).expect("an edge"),
    );
    let repository: Repository = below("repository").as_str().parse().expect("a repository");
    let shutdown = Shutdown::new();
    let backfill = Backfill::new(&telemetry, &repository, clock.as_ref(), &shutdown);
    let begun = clock.now();
    let range = PushRange {
        from: Cursor::behind(0),
        end: pushes,
        concurrency,
    };
    let mut all = pin!(backfill.run(range));
    while let Some(result) = all.next().await {
        assert!(
            result.expect("the pushlog").failure.is_none(),
            "every ping is accepted"
        );
    }
    pushes as f64 / clock.now().duration_since(begun).as_secs_f64()
}
