//! How fast the bus is on this machine, beside a bare Redis client that does the same in the same run: `./dev bench bus`.

#![expect(clippy::print_stdout, clippy::expect_used, reason = "a program that prints figures, or stops")]

mod bare;
mod ours;
mod processes;
mod report;
mod webhook;

use bus::testing::RedisServer;

use report::Report;

/// How often each measure is taken, ours and the limit in turn; the medians are reported.
const ROUNDS: usize = 3;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    match arguments.iter().position(|argument| argument == "bare-web") {
        Some(at) => runtime.block_on(webhook::bare_server(&arguments[at + 1])),
        None => runtime.block_on(bench(Report::new(&arguments))),
    }
}

async fn bench(report: Report) {
    observe::metrics::install();
    let directory = tempfile::tempdir().expect("a directory for redis");
    let server = RedisServer::start(directory.path()).await.expect("redis-server starts");
    let mut redis = bare::Bare::connect(&server).await;

    redis.append_only(true).await;
    pairs(&report, "enqueue", "messages/s", async || {
        redis.flush().await;
        let ours = ours::enqueue(&server).await;
        redis.flush().await;
        (ours, redis.enqueue().await)
    })
    .await;
    pairs(&report, "consume", "messages/s", async || {
        redis.flush().await;
        let ours = ours::consume(&server).await;
        redis.flush().await;
        (ours, redis.consume().await)
    })
    .await;
    redis.append_only(false).await;
    pairs(&report, "through", "messages/s", async || {
        redis.flush().await;
        let ours = ours::through(&server).await;
        redis.flush().await;
        (ours, redis.through().await)
    })
    .await;
    pairs(&report, "latency_p50_us", "µs", async || {
        redis.flush().await;
        let ours = ours::latency(&server).await;
        redis.flush().await;
        (ours, redis.latency().await)
    })
    .await;
    let mut rates = Vec::new();
    if report.wants("memory_through") {
        for _ in 0..ROUNDS {
            rates.push(ours::memory_through().await);
        }
        report.line("memory_through", report::median(rates), "messages/s", None);
    }
    redis.append_only(true).await;
    for connections in [32, 128] {
        if report.wants(&format!("webhook_{connections}")) {
            webhook::measure(&report, &server, &mut redis, connections).await;
        }
    }
    redis.flush().await;
    if report.wants("idle_rss_mb") {
        report.line("idle_rss_mb", processes::idle_rss_mb(&server).await, "MB", None);
    }
}

/// Takes a measure and its limit in turn and reports the medians.
async fn pairs(report: &Report, measure: &str, unit: &str, mut take: impl AsyncFnMut() -> (f64, f64)) {
    if !report.wants(measure) {
        return;
    }
    let (mut ours, mut limits) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let (our, limit) = take().await;
        ours.push(our);
        limits.push(limit);
    }
    report.line(measure, report::median(ours), unit, Some(report::median(limits)));
}
