//! What an operator does with the clones on a worker's machine.

use std::{fs, os::unix::fs::symlink};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::json;

use crate::world::{World, until};

impl World {
    /// Runs `events repositories` without log lines.
    async fn repositories(&self, arguments: &[&str]) -> crate::commands::Said {
        let arguments = [&["repositories"], arguments].concat();
        let output = self
            .command(&arguments)
            .env("RUST_LOG", "off")
            .output()
            .await
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        crate::commands::Said {
            code: output.status.code(),
            out: text(&output.stdout),
            err: text(&output.stderr),
        }
    }

    /// Names and states of what is in the clones' directory.
    async fn states(&self) -> Vec<(String, String)> {
        let reports = self.repositories(&["list", "--json"]).await.json();
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        reports
            .iter()
            .map(|report| (text(&report["directory"]), text(&report["state"])))
            .collect()
    }

    /// A clone of what is not configured, and garbage beside it.
    fn litter(&self) {
        let clones = self.path("clones");
        fs::create_dir_all(clones.join("old")).unwrap();
        fs::write(clones.join("old/source-tip"), "a".repeat(40)).unwrap();
        fs::create_dir(clones.join(".product.quarantined")).unwrap();
        fs::create_dir(clones.join("notes\n\x1b[2J")).unwrap();
        symlink("/", clones.join("root")).unwrap();
    }
}

fn named(states: &[(&str, &str)]) -> Vec<(String, String)> {
    states
        .iter()
        .map(|(name, state)| ((*name).to_owned(), (*state).to_owned()))
        .collect()
}

#[tokio::test]
async fn clones_are_listed_and_unneeded_ones_pruned_while_a_worker_runs() {
    let world = World::with_redis().await;
    assert_eq!(world.states().await, named(&[("product", "missing")]));
    world.litter();
    let mut worker = world.start("worker");
    worker.until_logged("is ready").await;
    worker.until_logged("old take").await;
    assert!(
        worker
            .log()
            .contains("not configured any more: `events repositories prune` removes them"),
        "{}",
        worker.log()
    );

    let listed = world.repositories(&["list"]).await;
    let lines = listed.lines();
    assert_eq!(lines.len(), 5, "{lines:?}");
    assert!(lines[0].starts_with("CLONE") && lines[0].ends_with("DIRECTORY"));
    let cells = |line: &str| {
        line.split("  ")
            .map(str::trim)
            .filter(|cell| !cell.is_empty())
            .map(str::to_owned)
            .collect()
    };
    let old: Vec<String> = cells(lines[1]);
    assert_eq!(
        (old[0].as_str(), old[2].as_str(), old[4].as_str()),
        ("old", "not configured", "aaaaaaaaaaaa")
    );
    let product: Vec<String> = cells(lines[2]);
    assert_eq!(
        (product[0].as_str(), product[2].as_str()),
        ("product", "in use")
    );
    assert_eq!(product[4], world.repositories.base[..12]);
    assert!(lines[4].ends_with(&format!("in {}", world.path("clones").display())));

    let refused = world.repositories(&["prune"]).await;
    assert_eq!(refused.code, Some(1));
    assert!(
        refused
            .err
            .contains("would be removed permanently: pass --yes"),
        "{refused:?}"
    );
    let dry = world.repositories(&["prune", "--dry-run"]).await;
    assert!(
        dry.lines()
            .last()
            .unwrap()
            .starts_with("would remove 2 clones ("),
        "{dry:?}"
    );
    assert_eq!(world.states().await.len(), 3, "nothing was removed");
    let pruned = world
        .repositories(&["prune", "--yes", "--json"])
        .await
        .json();
    assert_eq!(
        (pruned.len(), &pruned[2]["removable"], &pruned[2]["removed"]),
        (3, &json!(2), &json!(2))
    );
    assert_eq!(world.states().await, named(&[("product", "in_use")]));
    assert_eq!(
        world.repositories(&["prune"]).await.lines(),
        ["there are no clones to remove"]
    );
    assert!(world.path("clones/root").exists() && world.path("clones/notes\n\x1b[2J").exists());
    worker.stop().await;
    assert_eq!(world.states().await, named(&[("product", "ready")]));
}

#[tokio::test]
async fn clones_are_pulled_and_recloned_with_and_without_a_worker() {
    let world = World::with_redis().await;
    let tip = world.repositories.base[..12].to_owned();
    let cloned = [format!("product: recloned, at {tip}")];
    let same = [format!("product: nothing new, at {tip}")];
    assert_eq!(
        world.repositories(&["pull", "product"]).await.lines(),
        same,
        "it is made"
    );
    assert_eq!(
        world.repositories(&["reclone", "product"]).await.lines(),
        cloned
    );
    let mut worker = world.start("worker");
    worker.until_logged("is ready").await;
    assert_eq!(world.repositories(&["pull", "product"]).await.lines(), same);
    let old = world.path("clones/product/old");
    fs::write(&old, "").unwrap();
    assert_eq!(
        world.repositories(&["reclone", "product"]).await.lines(),
        cloned
    );
    assert!(!old.exists());
    worker.until_logged("the reclone of product is done").await;
    let said = world
        .repositories(&["pull", "product", "--json"])
        .await
        .json();
    assert_eq!(
        said[0]["done"],
        json!([{"clone": "product", "tip": tip, "new_changesets": 0}])
    );

    fs::rename(&world.repositories.source, world.path("away")).unwrap();
    let failed = world.repositories(&["pull", "product"]).await;
    assert!(
        failed
            .fault()
            .starts_with("the pull of product failed: cannot pull product"),
        "{failed:?}"
    );
    let unknown = world.repositories(&["pull", "produce"]).await;
    assert_eq!(
        unknown.fault(),
        "the configuration has no repository \"produce\"; it has product"
    );
    worker.stop().await;
}

#[tokio::test]
async fn reclone_survives_the_command_and_the_worker() {
    let world = World::with_redis().await;
    world.repositories(&["pull", "product"]).await.lines();
    // The hook runs when the new clone is all but done.
    let gate = world.gate(&world.repositories.source, "outgoing");
    let mut worker = world.start("worker");
    worker.until_logged("is ready").await;
    let asking = world
        .command(&["repositories", "reclone", "product"])
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    gate.until_reached(&worker).await;
    assert_eq!(
        world.states().await,
        named(&[("product", "in_use"), (".product.cloning", "cloning")])
    );
    kill(
        Pid::from_raw(asking.id().unwrap().cast_signed()),
        Signal::SIGINT,
    )
    .unwrap();
    let said = asking.wait_with_output().await.unwrap();
    assert_eq!(said.status.code(), Some(1));
    let said = String::from_utf8(said.stderr).unwrap();
    assert!(said.contains("the request remains"), "{said}");

    worker.signal(Signal::SIGKILL);
    worker.ended().await;
    let old = world.path("clones/product/old");
    fs::write(&old, "").unwrap();
    let mut next = world.start("worker");
    next.until_logged("killing the `hg clone` that a dead worker left")
        .await;
    gate.open();
    next.until_logged("the reclone of product is done").await;
    until("the old clone to go", &next, || !old.exists()).await;
    next.stop().await;
    assert_eq!(world.states().await, named(&[("product", "ready")]));
}
