//! The program's own processes.

use std::{
    net::SocketAddr,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use build::{BuildRequest, Phid};
use bus::{Bus, Outgoing, RedisBus, RedisOptions};
use events::queues::BUILD_LOAD;
use runtime::{Clock, SystemClock};
use secrecy::ExposeSecret;
use tempfile::TempDir;
use testkit::{Port, RedisServer, phabricator::FakePhabricator, repositories::Repositories};

use crate::scale::scale;

/// A child process that ends with this value.
pub struct Process(pub Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until somebody listens.
pub async fn listens(port: u16) -> SocketAddr {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    while tokio::net::TcpStream::connect(address).await.is_err() {
        SystemClock.sleep(Duration::from_millis(5)).await;
    }
    address
}

/// What the program works with.
pub struct Surroundings {
    directory: TempDir,
    phabricator: FakePhabricator,
    repositories: Repositories,
}

impl Surroundings {
    pub async fn make() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let repositories = Repositories::create(directory.path())
            .await
            .expect("repositories");
        let phabricator = FakePhabricator::start(Arc::new(SystemClock))
            .await
            .expect("a Phabricator");
        phabricator.add_repository("product");
        phabricator.add_project("secure-revision");
        Self {
            directory,
            phabricator,
            repositories,
        }
    }
}

/// `events run ROLE` on this Redis.
pub fn run(role: &str, server: &RedisServer, around: &Surroundings, port: u16) -> Process {
    let config = around.directory.path().join("config.yml");
    let text = format!(
        "events:\n  PHABRICATOR: {{url: \"{}\", api_key: \"{}\", publish: true}}\n  clones_dir: {}\n  \
         repositories:\n    - {{name: product, url: {}, try_url: {}}}\n",
        around.phabricator.url(),
        around.phabricator.token().expose_secret(),
        around.directory.path().join("clones").display(),
        around.repositories.source.display(),
        around.repositories.try_repository.display(),
    );
    std::fs::write(&config, text).expect("a configuration is written");
    let child = Command::new(env!("CARGO_BIN_EXE_events"))
        .args([
            "run",
            role,
            "--bind",
            "127.0.0.1",
            "--port",
            &port.to_string(),
            "--config",
        ])
        .arg(&config)
        .env("REDIS_URL", server.url())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    Process(child.expect("events starts"))
}

/// Resident memory of a process, in MB.
pub fn rss_mb(process: &Process) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.0.id()))
        .expect("the process lives");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .expect("its memory is in it");
    let kb: f64 = line
        .trim()
        .trim_end_matches("kB")
        .trim()
        .parse()
        .expect("a number");
    kb / 1024.0
}

/// Time on a processor that a process has used so far, in seconds.
fn cpu_s(process: &Process) -> f64 {
    // Of each thread, in ns: the clock ticks of `stat` are too coarse for a process that idles.
    let threads =
        std::fs::read_dir(format!("/proc/{}/task", process.0.id())).expect("the process lives");
    let used = threads.map(|thread| {
        let path = thread.expect("a thread").path().join("schedstat");
        let stat = std::fs::read_to_string(path).unwrap_or_default();
        stat.split_whitespace()
            .next()
            .and_then(|nanos| nanos.parse::<f64>().ok())
            .unwrap_or(0.0)
    });
    used.sum::<f64>() / 1e9
}

/// Web and worker with many deferred messages and none that is ready: the resident memory of the larger, in MB, and the
/// processor time of both together, in percent of one core.
pub async fn idle(server: &RedisServer) -> (f64, f64) {
    let bus = RedisBus::new(
        &RedisOptions {
            namespace: "events".to_owned(),
            ..server.options()
        },
        &SystemClock,
    );
    let bus = bus.expect("a bus on redis");
    let request = BuildRequest {
        diff_id: 1,
        repository: Phid::parse_as(Phid::REPOSITORY, "PHID-REPO-aaaaaaaaaaaaaaaaaaaa")
            .expect("a PHID"),
        revision_id: 1,
        target: Phid::parse_as(Phid::TARGET, "PHID-HMBT-aaaaaaaaaaaaaaaaaaaa").expect("a PHID"),
        accepted_at: SystemClock.now(),
        staged: None,
    };
    for _ in 0..scale().deferred {
        let packed = BUILD_LOAD
            .pack(&request, &SystemClock)
            .expect("a build is packed");
        let later = Outgoing {
            after: Duration::from_secs(3600),
            ..packed
        };
        bus.push(vec![later]).await.expect("the bus stores it");
    }
    let around = Surroundings::make().await;
    let claimed = Port::claim().expect("a port");
    let port = claimed.number();
    let web = run("web", server, &around, port);
    let worker = run("worker", server, &around, port);
    listens(port).await;
    // The worker makes its clone.
    while !around.directory.path().join("clones/product").exists() {
        SystemClock.sleep(Duration::from_millis(20)).await;
    }
    SystemClock.sleep(scale().settle).await;
    let (begin, before) = (SystemClock.now(), cpu_s(&web) + cpu_s(&worker));
    SystemClock.sleep(scale().watched).await;
    let used = cpu_s(&web) + cpu_s(&worker) - before;
    let seconds = SystemClock.now().duration_since(begin).as_secs_f64();
    (rss_mb(&web).max(rss_mb(&worker)), used / seconds * 100.0)
}
