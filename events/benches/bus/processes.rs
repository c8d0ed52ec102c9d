//! The program's own processes.

use std::{
    net::{SocketAddr, TcpListener},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use bus::{Clock, SystemClock, testing::RedisServer};

/// A child process that ends with this value.
pub struct Process(pub Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A port that is free now.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

/// Waits until somebody listens.
pub async fn listens(port: u16) -> SocketAddr {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    while tokio::net::TcpStream::connect(address).await.is_err() {
        SystemClock.sleep(Duration::from_millis(5)).await;
    }
    address
}

/// `events run ROLE` on this Redis. There is no Phabricator: a worker asks for it in vain, as one that idles.
pub fn run(role: &str, server: &RedisServer, directory: &Path, port: u16) -> Process {
    let config = directory.join("config.yml");
    let text = format!(
        "events:\n  PHABRICATOR: {{url: \"http://127.0.0.1:9/\", api_key: \"cli-bench\", publish: true}}\n  clones_dir: {}\n  \
         repositories:\n    - {{name: product, url: /nonexistent, try_url: /nonexistent}}\n",
        directory.join("clones").display()
    );
    std::fs::write(&config, text).expect("a configuration is written");
    let child = Command::new(env!("CARGO_BIN_EXE_events"))
        .args(["run", role, "--bind", "127.0.0.1", "--port", &port.to_string(), "--config"])
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
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.0.id())).expect("the process lives");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory is told");
    let kb: f64 = line.trim().trim_end_matches("kB").trim().parse().expect("a number");
    kb / 1024.0
}

/// The larger of web and worker, once both have settled.
pub async fn idle_rss_mb(server: &RedisServer) -> f64 {
    let directory = tempfile::tempdir().expect("a directory");
    let port = free_port();
    let web = run("web", server, directory.path(), port);
    let worker = run("worker", server, directory.path(), port);
    listens(port).await;
    SystemClock.sleep(Duration::from_secs(3)).await;
    rss_mb(&web).max(rss_mb(&worker))
}
