//! How fast the bus is on this machine, beside a bare Redis client that does the same in the same run: `./dev bench bus`.

#![expect(
    clippy::print_stdout,
    clippy::expect_used,
    reason = "a program that prints figures, or stops"
)]

mod bare;
mod ours;
mod processes;
mod report;
mod scale;
mod webhook;

use testkit::RedisServer;

use bare::Bare;
use report::Report;
use scale::scale;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    if arguments.iter().any(|argument| argument == "--smallest") {
        scale::smallest();
    }
    match arguments.iter().position(|argument| argument == "bare-web") {
        Some(at) => runtime.block_on(webhook::bare_server(&arguments[at + 1])),
        None => runtime.block_on(bench(Report::new(&arguments))),
    }
}

async fn bench(report: Report) {
    observe::metrics::install();
    let directory = tempfile::tempdir().expect("a directory for redis");
    let server = RedisServer::start(directory.path())
        .await
        .expect("redis-server starts");
    let mut redis = Bare::connect(&server).await;

    redis.append_only(true).await;
    let on = &server;
    let (enqueue, consume) = (
        async || ours::enqueue(on).await,
        async || ours::consume(on).await,
    );
    pairs(
        &report,
        &mut redis,
        ("enqueue", "messages/s"),
        enqueue,
        Bare::enqueue,
    )
    .await;
    pairs(
        &report,
        &mut redis,
        ("consume", "messages/s"),
        consume,
        Bare::consume,
    )
    .await;
    redis.append_only(false).await;
    let (through, latency) = (
        async || ours::through(on).await,
        async || ours::latency(on).await,
    );
    pairs(
        &report,
        &mut redis,
        ("through", "messages/s"),
        through,
        Bare::through,
    )
    .await;
    pairs(
        &report,
        &mut redis,
        ("latency_p50_us", "µs"),
        latency,
        Bare::latency,
    )
    .await;
    let mut rates = Vec::new();
    if report.wants("memory_through") {
        for _ in 0..scale().rounds {
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
        let (rss, cpu) = processes::idle(&server).await;
        report.line("idle_rss_mb", rss, "MB", None);
        report.line("idle_cpu_percent", cpu, "% of a core", None);
    }
}

/// Takes a measure and its limit in turn, each on an empty server, and reports the medians.
async fn pairs(
    report: &Report,
    redis: &mut Bare,
    (measure, unit): (&str, &str),
    ours: impl AsyncFn() -> f64,
    limit: impl AsyncFn(&mut Bare) -> f64,
) {
    if !report.wants(measure) {
        return;
    }
    let (mut values, mut limits) = (Vec::new(), Vec::new());
    for _ in 0..scale().rounds {
        redis.flush().await;
        values.push(ours().await);
        redis.flush().await;
        limits.push(limit(redis).await);
    }
    report.line(
        measure,
        report::median(values),
        unit,
        Some(report::median(limits)),
    );
}
