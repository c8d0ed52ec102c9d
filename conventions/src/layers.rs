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
    "observe",
    "bus",
    "build",
    "phabricator",
    "worker-hg",
    "pulse",
    "taskcluster",
    "notify",
    "commit-telemetry",
    "web",
    "events",
    "chaos",
    "conventions",
];

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
        for Dependency { name } in &one.dependencies {
            if layer(name).is_some_and(|other| other >= own) {
                faults.push(format!(
                    "crate {} imports {name}, which is not below it",
                    one.name
                ));
            }
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &str, dependencies: &[&str]) -> Crate {
        let dependencies = dependencies.iter().map(|name| Dependency {
            name: (*name).to_owned(),
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
}
