//! The memory that a long log takes.
//!
//! The sending runs in a process of its own: the store, the source of the log and the tests take more memory.

use std::{fs, process::Command};

use super::{ANYBODY, BUCKET, collector, failed, get, store, uploads};
use crate::peers::{
    logs::{CHUNK, Log, Logs},
    moto::Moto,
};

/// The length of the log, in bytes.
const LENGTH: usize = 200_000_000;
/// The memory that the sending may take beyond that of the idle process, in kB.
const LIMIT: u64 = 20_000;

/// The addresses of the log's source and of the store, for the child.
const ROOT: &str = "TEST_LOG_ROOT";
const ENDPOINT: &str = "TEST_STORE_ENDPOINT";
/// The prefix of the line with which the child prints the memory that it took, in kB.
const RESULT: &str = "memory on top of the idle process: ";

#[ignore = "slow: 400 MB through a store in Python"]
#[tokio::test(flavor = "multi_thread")]
async fn log_of_200_mb_needs_less_than_20_mb_of_memory() {
    let moto = store().await;
    let pieces = LENGTH.div_ceil(CHUNK);
    for log in [Log::Text(pieces), Log::Packed(pieces)] {
        let logs = Logs::serve(log, Log::Unknown).await;
        let took = took(&logs, &moto).await;
        println!("{took} kB");
        assert!(took < LIMIT, "{took} kB");
        assert_eq!(uploads(&moto).await, 0);
        let list = get(&moto, "?list-type=2").await.body;
        let list = String::from_utf8_lossy(&list);
        let (_, size) = list.split_once("<Size>").unwrap();
        let (size, _) = size.split_once('<').unwrap();
        assert!(size.parse::<u64>().unwrap() > 100_000_000, "{list}");
    }
}

async fn took(logs: &Logs, moto: &Moto) -> u64 {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args([
        "--exact",
        "channels::log_collect::memory::sends_in_a_process_of_its_own",
        "--ignored",
        "--nocapture",
    ]);
    child
        .env(ROOT, logs.root.as_str())
        .env(ENDPOINT, moto.endpoint());
    let output = tokio::task::spawn_blocking(move || child.output().unwrap())
        .await
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains(RESULT), "{text}{:?}", output.stderr);
    let (_, result) = text.split_once(RESULT).unwrap();
    result.split_once(" kB").unwrap().0.parse().unwrap()
}

#[ignore = "what the test of this module runs in a process of its own"]
#[tokio::test(flavor = "multi_thread")]
async fn sends_in_a_process_of_its_own() {
    let (Ok(root), Ok(endpoint)) = (std::env::var(ROOT), std::env::var(ENDPOINT)) else {
        return;
    };
    let channels = collector(&root.parse().unwrap(), &endpoint, BUCKET, ANYBODY);
    let idle = kilobytes("VmRSS:");
    channels
        .get("log_collect")
        .unwrap()
        .send(&failed(), "run 1")
        .await
        .unwrap();
    println!("{RESULT}{} kB", kilobytes("VmHWM:") - idle);
}

fn kilobytes(line: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let found = status
        .lines()
        .find_map(|text| text.strip_prefix(line))
        .unwrap();
    found.trim().trim_end_matches(" kB").parse().unwrap()
}
