//! A changeset of 500 MB.
//!
//! Its test runs in a process of its own, because the memory of other tests would count.

use std::{fs, process::Command};

use axum::{Router, body::Body, response::IntoResponse, routing::get};
use bytes::Bytes;
use commit_telemetry::Diffstat;
use futures::stream;
use tokio::net::TcpListener;

use crate::peers::Peers;

const NODE: &str = "30b686e0c48bde03742fb29c17ff80e54b3712a4";
/// The number of chunks, of about 50 kB each.
const CHUNKS: usize = 10_000;
/// The number of lines of a chunk.
const LINES: usize = 500;

/// The peak memory of this process, in kB.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// An answer of a head, many chunks, and a tail.
fn long_answer(head: String, chunk: Bytes, tail: &'static str) -> impl IntoResponse {
    let chunks = std::iter::repeat_n(chunk, CHUNKS);
    let all = [Bytes::from(head)]
        .into_iter()
        .chain(chunks)
        .chain([Bytes::from(tail)]);
    Body::from_stream(stream::iter(all.map(Ok::<_, std::io::Error>)))
}

fn raw(line: String) -> impl IntoResponse {
    let head = format!(
        "\n# HG changeset patch\n# User A\n# Date 1 0\n# Node ID {NODE}\n\nBug 5\n\ndiff --git a/x b/x\nnew file mode 100644\n--- /dev/null\n+++ b/x\n@@ -0,0 +1,{} @@\n",
        LINES * CHUNKS
    );
    long_answer(head, Bytes::from(line.repeat(LINES)), "\n")
}

fn json() -> impl IntoResponse {
    let head = format!(
        r#"{{"node": "{NODE}", "desc": "Bug 5", "user": "A", "parents": [], "diff": [{{"lines": [0"#
    );
    let line = format!(r#", {{"t": "+", "n": 1, "l": "+{}\n"}}"#, "x".repeat(65));
    long_answer(
        head,
        Bytes::from(line.repeat(LINES)),
        r#"]}], "pushdate": [5, 0]}"#,
    )
}

/// Set in the process that measures.
const ALONE: &str = "TEST_ALONE";

#[test]
#[ignore = "slow: ./dev test --all"]
fn half_gigabyte_diff_needs_less_than_20_mb_of_memory() {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args([
        "--exact",
        "volume::streams_in_a_process_of_its_own",
        "--ignored",
        "--nocapture",
    ]);
    let output = child.env(ALONE, "1").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("on top of it"),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[tokio::test]
#[ignore = "run by the test of this module in a process of its own"]
async fn streams_in_a_process_of_its_own() {
    if std::env::var_os(ALONE).is_none() {
        return;
    }
    let peers = Peers::start().await;
    let routes = Router::new()
        .route("/big/json-rev/{node}", get(async || json()))
        .route("/big/raw-rev/{node}", get(async || raw(format!("+{}\n", "x".repeat(98)))))
        .route("/one/raw-rev/{node}", get(async || {
            let head = format!("# HG changeset patch\n# User A\n# Date 1 0\n# Node ID {NODE}\n\nBug 5\n\ndiff --git a/x b/x\n@@ -0,0 +1,1 @@\n+");
            long_answer(head, Bytes::from(vec![b'x'; 50_000]), "\n\n")
        }));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let root = format!("http://{}", listener.local_addr().unwrap());
    let server = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
    let hgweb = peers.hgweb();
    // Allocate before the measurement what every request allocates once.
    peers
        .telemetry()
        .ping_for(&peers.repository(), NODE)
        .await
        .unwrap();
    let idle = peak();
    let repository = format!("{root}/big").parse().unwrap();
    let changeset = hgweb.changeset(&repository, NODE).await.unwrap();
    assert_eq!(changeset.pushdate, Some((5.0, 0.0)));
    let counted = hgweb.diffstat(&repository, &changeset).await.unwrap();
    let additions = (LINES * CHUNKS) as u64;
    assert_eq!(
        counted,
        Diffstat {
            changed_files: 1,
            additions,
            deletions: 0
        }
    );
    let one = format!("{root}/one").parse().unwrap();
    let counted = hgweb.diffstat(&one, &changeset).await.unwrap();
    assert_eq!(
        counted,
        Diffstat {
            changed_files: 1,
            additions: 1,
            deletions: 0
        },
        "a single line of 500 MB"
    );
    let taken = peak() - idle;
    println!("idle: {idle} kB, on top of it: {taken} kB");
    assert!(taken < 20 * 1024, "{taken} kB");
    server.abort();
}
