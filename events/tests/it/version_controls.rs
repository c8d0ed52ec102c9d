//! One worker, with repositories of both version controls.

use build::Phid;
use testkit::{
    phabricator::{BuildVariables, CreatedRevision, NewDiff, NewRevision, TargetStatus},
    repositories::{Repositories, Side},
};

use crate::world::{Process, World, until};

/// Starts the build of a patch in a repository.
fn build(world: &World, repository: &Phid, base: &str, patches: &[(&str, &str)]) -> BuildVariables {
    let mut top: Option<CreatedRevision> = None;
    for (title, patch) in patches {
        let diff = NewDiff::new(*patch).base(base);
        let mut revision = NewRevision::new(*title, &world.author, repository, diff);
        if let Some(parent) = &top {
            revision = revision.parent(&parent.phid);
        }
        top = Some(world.phabricator.create_revision(revision));
    }
    world.phabricator.start_build(top.unwrap().diff.id)
}

/// The names and results of the units on a target, once there is one.
async fn units(world: &World, build: &BuildVariables, process: &Process) -> Vec<(String, String)> {
    until("a unit", process, || !world.target(build).units.is_empty()).await;
    let units = world.target(build).units;
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    units
        .iter()
        .map(|unit| (text(&unit["name"]), text(&unit["result"])))
        .collect()
}

#[tokio::test]
async fn one_worker_builds_repositories_of_both_version_controls() {
    let world = World::alone().await;
    let directory = world.path("git");
    std::fs::create_dir(&directory).unwrap();
    let git = Repositories::create_with(Side::Git, &directory)
        .await
        .unwrap();
    let twin = world.phabricator.add_repository("twin");
    world.configure(&format!(
        "    - {{name: twin, vcs: git, url: {}, destination: {{git: {{url: {}}}}}}}\n",
        git.source.display(),
        git.try_repository.display()
    ));
    let stack = git.work().await.unwrap();
    let stack: Vec<_> = stack
        .iter()
        .map(|work| (work.title, work.patch.as_str()))
        .collect();
    let wrong = "diff --git a/README.md b/README.md\n--- a/README.md\n+++ b/README.md\n@@ -1,1 +1,1 @@\n-Not there\n+New\n";
    let wrong = [("It does not apply", wrong)];
    let hg_base = &world.repositories.base;

    let mut all = world.start("all");
    let web = all.address().await;
    let mut builds = Vec::new();
    for patches in [&stack[..], &wrong] {
        for (repository, base) in [(&world.repository, hg_base), (&twin, &git.base)] {
            let build = build(&world, repository, base, patches);
            assert_eq!(world.request(web, &build).await, 200);
            builds.push(build);
        }
    }
    let expected = [
        ("mercurial", "pass"),
        ("git", "pass"),
        ("mercurial", "fail"),
        ("git", "fail"),
    ];
    for (build, (name, result)) in builds.iter().zip(expected) {
        let unit = (name.to_owned(), result.to_owned());
        assert_eq!(units(&world, build, &all).await, [unit]);
    }
    for build in &builds[2..] {
        until("the end of the build", &all, || {
            world.target(build).status == TargetStatus::Failed
        })
        .await;
    }
    for repositories in [&world.repositories, &git] {
        assert_eq!(repositories.try_heads().await.unwrap().len(), 1);
    }
    all.stop().await;
    assert_eq!(world.processes(), Vec::<String>::new());
}
