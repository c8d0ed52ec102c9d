//! `POST /codereview/new` on a web process of its own, stored on Redis; the limit is a bare axum that adds to a stream.

use std::{
    net::SocketAddr,
    process::{Command, Stdio},
    sync::Arc,
};

use axum::{Router, extract::State, routing::post};
use runtime::{Clock, SystemClock};
use testkit::{Port, RedisServer};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    bare::Bare,
    ours::envelope_size,
    processes::{Process, Surroundings, listens, rss_mb, run},
    report::{Report, median},
    scale::scale,
};

pub async fn measure(report: &Report, server: &RedisServer, redis: &mut Bare, connections: usize) {
    let around = Surroundings::make().await;
    let claimed = [(); 2].map(|()| Port::claim().expect("a port"));
    let [port, bare_port] = claimed.each_ref().map(Port::number);
    let web = run("web", server, &around, port);
    let bare = Command::new(std::env::current_exe().expect("this program"))
        .args(["bare-web", &format!("{bare_port} {}", server.url())])
        .stdin(Stdio::null())
        .spawn();
    let _bare = Process(bare.expect("this program starts"));
    let (ours, limit) = (listens(port).await, listens(bare_port).await);
    let (mut rates, mut p99s, mut limits) = (Vec::new(), Vec::new(), Vec::new());
    let before = rss_mb(&web);
    for _ in 0..scale().rounds {
        redis.flush().await;
        let (rate, p99) = load(ours, connections).await;
        assert!(
            redis.builds().await as usize == scale().requests,
            "every build is stored"
        );
        rates.push(rate);
        p99s.push(p99);
        redis.flush().await;
        limits.push(load(limit, connections).await.0);
    }
    report.line(
        &format!("webhook_{connections}"),
        median(rates),
        "requests/s",
        Some(median(limits)),
    );
    report.line(
        &format!("webhook_{connections}_p99_ms"),
        median(p99s),
        "ms",
        None,
    );
    report.line(
        &format!("webhook_{connections}_rss_growth_mb"),
        rss_mb(&web) - before,
        "MB",
        None,
    );
}

/// Requests a second, and the 99th percentile of their times in ms.
async fn load(address: SocketAddr, connections: usize) -> (f64, f64) {
    let begin = SystemClock.now();
    let clients = (0..connections).map(|client| {
        tokio::spawn(async move {
            let mut stream = TcpStream::connect(address).await.expect("the server listens");
            stream.set_nodelay(true).expect("an option of the socket");
            let mut answer = vec![0; 4096];
            let mut times = Vec::new();
            for number in (client..scale().requests).step_by(connections) {
                let request = format!(
                    "POST /codereview/new?diff={}&repo=PHID-REPO-aaaaaaaaaaaaaaaaaaaa&revision=1&target=PHID-HMBT-{number:020} \
                     HTTP/1.1\r\nhost: bench\r\ncontent-length: 0\r\n\r\n",
                    number + 1
                );
                let begin = SystemClock.now();
                stream.write_all(request.as_bytes()).await.expect("the server takes it");
                let length = stream.read(&mut answer).await.expect("the server answers");
                assert!(answer[..length].starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer[..length]));
                times.push(SystemClock.now().duration_since(begin).as_secs_f64() * 1e3);
            }
            times
        })
    });
    let times = futures::future::try_join_all(clients)
        .await
        .expect("the clients end");
    let rate = scale().requests as f64 / SystemClock.now().duration_since(begin).as_secs_f64();
    let mut times: Vec<f64> = times.into_iter().flatten().collect();
    times.sort_by(f64::total_cmp);
    (rate, times[times.len() * 99 / 100])
}

/// A web server that does nothing but add each request to a stream. `place`: its port and the address of Redis.
pub async fn bare_server(place: &str) {
    let (port, url) = place.split_once(' ').expect("a port and an address");
    let client = redis::Client::open(url).expect("an address");
    let connection = client
        .get_multiplexed_async_connection()
        .await
        .expect("redis answers");
    let body = Arc::new(vec![7_u8; envelope_size() - crate::ours::SIZE + 200]);
    let app = Router::new().route(
        "/codereview/new",
        post(
            |State((mut connection, body)): State<(
                redis::aio::MultiplexedConnection,
                Arc<Vec<u8>>,
            )>| async move {
                let mut add = redis::cmd("XADD");
                add.arg("q")
                    .arg("*")
                    .arg("a")
                    .arg(0)
                    .arg("e")
                    .arg(&body[..]);
                let _: redis::Value = add
                    .query_async(&mut connection)
                    .await
                    .expect("redis stores it");
                "Build queued"
            },
        ),
    );
    let address = SocketAddr::from(([127, 0, 0, 1], port.parse().expect("a port")));
    let listener = tokio::net::TcpListener::bind(address)
        .await
        .expect("a port");
    axum::serve(listener, app.with_state((connection, body)))
        .await
        .expect("the server runs");
}
