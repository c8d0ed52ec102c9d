//! Patches on their way from Phabricator to the disk of a worker.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use axum::{Router, routing::post};
use build::{Build, PatchContent, PatchSource, PatchSourceError};
use phabricator::Conduit;
use runtime::error_chain;
use secrecy::SecretString;
use serde_json::json;
use tempfile::TempDir;
use testkit::phabricator::{CreatedRevision, Fault, NewDiff};
use url::Url;

use crate::world::{World, conduit, http};

const RAW_DIFF: &str = "differential.getrawdiff";

/// A build of a stack of these patches, as a worker gets it.
async fn build_of(world: &World, patches: &[&str]) -> Build {
    let mut created = None;
    for patch in patches {
        let mut revision = world.revision_with("a patch", NewDiff::new(*patch));
        if let Some(CreatedRevision { phid, .. }) = &created {
            revision = revision.parent(phid);
        }
        created = Some(world.fake.create_revision(revision));
    }
    world.build(&created.unwrap()).await;
    world.work().await;
    world.builds().await.remove(0)
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn large_patch_is_a_file_that_nobody_else_can_read() {
    let world = World::new().await;
    // Its answer has escapes, and is longer than it.
    let patch = "+\tthe \"pàtch\" €\\ 😀\r\n".repeat((30 << 20) / 25);
    let build = build_of(&world, &[&patch]).await;
    let directory = TempDir::new().unwrap();
    let loaded = conduit(&world.fake).load(&build, directory.path()).await;
    let [PatchContent { file, .. }] = &loaded.unwrap()[..] else {
        panic!("one patch")
    };
    assert_eq!(file.size(), patch.len());
    assert!(file.read().unwrap() == patch.as_bytes(), "another patch");
    assert_eq!(names(directory.path()), ["0.patch"], "and nothing else");
    assert_eq!(file.path(), directory.path().join("0.patch"));
    let mode = fs::metadata(file.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn patch_whose_answer_breaks_off_is_loaded_again_within_the_call() {
    let world = World::new().await;
    let build = build_of(&world, &["the lowest", "", "the highest"]).await;
    for fault in [Fault::Cut, Fault::CutAfter, Fault::Status(503)] {
        world.fake.fail_next(RAW_DIFF, 2, &fault);
        let contents = world.contents(&build).await;
        let bytes: Vec<&[u8]> = contents.iter().map(|one| one.bytes.as_slice()).collect();
        assert_eq!(
            bytes,
            [&b"the lowest"[..], b"", b"the highest"],
            "{fault:?}"
        );
    }
}

/// Loads a build from a Phabricator that answers so when it is asked for a patch.
async fn load_from(
    build: &Build,
    answer: &[u8],
    directory: &Path,
) -> Result<Vec<PatchContent>, PatchSourceError> {
    let stack = build.stack.iter().map(|patch| {
        json!({
            "id": patch.diff.id,
            "phid": patch.diff.phid,
            "fields": { "revisionPHID": null, "dateCreated": 0, "refs": [] },
            "attachments": { "commits": { "commits": [] } },
        })
    });
    let diffs =
        json!({ "result": { "data": stack.collect::<Vec<_>>(), "cursor": { "after": null } } });
    let (diffs, answer) = (diffs.to_string(), answer.to_vec());
    let routes = Router::new()
        .route(
            "/api/differential.diff.search",
            post(move || std::future::ready(diffs.clone())),
        )
        .route(
            "/api/differential.getrawdiff",
            post(move || std::future::ready(answer.clone())),
        );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
    let serving = tokio::spawn(async move { axum::serve(listener, routes).await });
    let conduit = Conduit::new(url, SecretString::from("api-secret"), http());
    let loaded = conduit.load(build, directory).await;
    serving.abort();
    loaded
}

#[tokio::test]
async fn answer_that_is_no_patch_says_nothing_of_what_it_is() {
    let world = World::new().await;
    let build = build_of(&world, &["patch"]).await;
    let table: [(&[u8], &str); 8] = [
        (b"{\"result\":\"secret", "end of input error at line 1"),
        (b"{\"result\":\"secret\xff\"}", "syntax error at line 1"),
        (b"{\"result\":\"secret\\ud800\"}", "syntax error at line 1"),
        (b"{\"result\":[\"secret\"]}", "type error at line 1"),
        (
            b"{\"result\":null,\"error_code\":null}",
            "type error at line 0",
        ),
        (b"<html>secret</html>", "syntax error at line 1"),
        (b"", "end of input error at line 1"),
        (
            b"{\"result\":null,\"error_code\":\"ERR-CONDUIT-CORE\",\"error_info\":\"secret\"}",
            "refused differential.getrawdiff: ERR-CONDUIT-CORE",
        ),
    ];
    for (answer, expected) in table {
        let text = String::from_utf8_lossy(answer);
        let directory = TempDir::new().unwrap();
        let error = load_from(&build, answer, directory.path()).await;
        let error = error.expect_err(&text);
        assert!(matches!(error, PatchSourceError::Unclear(_)), "{error:?}");
        let shown = error_chain(&error);
        assert!(shown.contains(expected), "{text}: {shown}");
        assert!(!format!("{shown} {error:?}").contains("secret"), "{shown}");
    }
    let directory = TempDir::new().unwrap();
    let invalid = br#"{"result":null,"error_code":"ERR-INVALID-AUTH","error_info":"api-secret"}"#;
    let error = load_from(&build, invalid, directory.path()).await;
    assert!(matches!(error, Err(PatchSourceError::Away(_))), "{error:?}");
}

#[tokio::test]
async fn directory_that_takes_no_files_is_no_fault_of_phabricator() {
    let world = World::new().await;
    let build = build_of(&world, &["patch"]).await;
    let missing = TempDir::new().unwrap().path().join("missing");
    let error = conduit(&world.fake).load(&build, &missing).await;
    assert!(matches!(error, Err(PatchSourceError::Disk(_))), "{error:?}");
}
