//! Which crate may import which.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, ensure};
use serde::Deserialize;

/// The crates from the lowest to the highest. Each imports only crates before it, in its tests too.
const LAYERS: &[&str] = &[
    "runtime",
    "http-client",
    "observe",
    "bus",
    "build",
    "pulse",
    "taskcluster",
    TESTKIT,
    "phabricator",
    "worker",
    "worlds",
    "worker-hg",
    "worker-git",
    "triggers",
    "notify",
    "commit-telemetry",
    "build-monitor",
    "web",
    "events",
    "demo",
    "chaos",
    "conventions",
];

/// What the tests of every crate may have, those before it too.
const TESTKIT: &str = "testkit";

/// The crates that are in no deployed program: only these may import each other, and what is [`FOR_TESTS`].
const TESTING: &[&str] = &[TESTKIT, "worlds", "demo", "chaos", "conventions"];

/// Libraries for tests alone.
const FOR_TESTS: &[&str] = &["insta", "proptest"];

/// A crate of the workspace.
#[derive(Debug, Deserialize)]
pub(crate) struct Crate {
    pub(crate) name: String,
    manifest_path: PathBuf,
    dependencies: Vec<Dependency>,
}

#[derive(Debug, Deserialize)]
struct Dependency {
    name: String,
    /// `dev` or `build`; none for what is linked.
    kind: Option<String>,
}

impl Dependency {
    fn is_for_tests(&self) -> bool {
        self.kind.as_deref() == Some("dev")
    }
}

impl Crate {
    /// Where its modules are.
    pub(crate) fn sources(&self) -> PathBuf {
        self.manifest_path.with_file_name("src")
    }
}

/// All crates of the workspace in `root`, as cargo knows them.
pub(crate) fn crates(root: &Path) -> anyhow::Result<Vec<Crate>> {
    #[derive(Deserialize)]
    struct Metadata {
        packages: Vec<Crate>,
    }
    let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .current_dir(root)
        .output()
        .context("cannot start cargo")?;
    ensure!(
        output.status.success(),
        "cargo metadata failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Metadata =
        serde_json::from_slice(&output.stdout).context("cannot read cargo's metadata")?;
    Ok(metadata.packages)
}

/// Every import that goes up, and every crate that has no layer.
pub(crate) fn faults(crates: &[Crate]) -> Vec<String> {
    let layer = |name: &str| LAYERS.iter().position(|one| *one == name);
    let mut faults = Vec::new();
    for one in crates {
        let Some(own) = layer(&one.name) else {
            faults.push(format!("crate {} has no layer: give it one", one.name));
            continue;
        };
        for dependency in &one.dependencies {
            let name = dependency.name.as_str();
            if name == TESTKIT && dependency.is_for_tests() {
                continue;
            }
            if is_deployed(&one.name) && !dependency.is_for_tests() && !may_be_deployed(name) {
                faults.push(format!(
                    "crate {} is deployed and imports {name}, which is for tests: make it a dev-dependency",
                    one.name
                ));
            } else if layer(name).is_some_and(|other| other >= own) {
                faults.push(format!(
                    "crate {} imports {name}, which is not below it",
                    one.name
                ));
            }
        }
    }
    faults
}

fn is_deployed(name: &str) -> bool {
    !TESTING.contains(&name)
}

fn may_be_deployed(name: &str) -> bool {
    is_deployed(name) && !FOR_TESTS.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &str, dependencies: &[&str]) -> Crate {
        let dependencies = dependencies.iter().map(|name| {
            let (name, kind) = match name.strip_prefix("dev:") {
                Some(name) => (name, Some("dev".to_owned())),
                None => (*name, None),
            };
            let name = name.to_owned();
            Dependency { name, kind }
        });
        Crate {
            name: name.to_owned(),
            manifest_path: PathBuf::new(),
            dependencies: dependencies.collect(),
        }
    }

    #[test]
    fn imports_go_down() {
        assert_eq!(
            faults(&[one("bus", &["runtime", "tokio"]), one("runtime", &[])]),
            Vec::<String>::new()
        );
        assert_eq!(
            faults(&[one("bus", &["build"]), one("web", &["events", "bus"])]),
            [
                "crate bus imports build, which is not below it",
                "crate web imports events, which is not below it"
            ]
        );
        assert_eq!(
            faults(&[one("left", &[])]),
            ["crate left has no layer: give it one"]
        );
    }

    #[test]
    fn deployed_crates_have_testing_crates_for_their_tests_only() {
        assert_eq!(
            faults(&[
                one("bus", &["runtime", "dev:testkit", "dev:proptest"]),
                one("demo", &["events", "testkit"]),
            ]),
            Vec::<String>::new()
        );
        assert_eq!(
            faults(&[
                one("events", &["bus", "testkit"]),
                one("bus", &["insta"]),
                one("testkit", &["dev:events"]),
            ]),
            [
                "crate events is deployed and imports testkit, which is for tests: make it a dev-dependency",
                "crate bus is deployed and imports insta, which is for tests: make it a dev-dependency",
                "crate testkit imports events, which is not below it",
            ]
        );
    }
}
