//! What an operator does with the refs at a destination of Git.

use std::{fs, path::Path, process::Command};

use secrecy::ExposeSecret;
use testkit::phabricator::{CreatedRevision, NewDiff, NewRevision, RevisionStatus};

use crate::world::{World, until};

const PATCH: &str = "diff --git a/new.txt b/new.txt\nnew file mode 100644\n--- /dev/null\n+++ b/new.txt\n@@ -0,0 +1 @@\n+hello\n";

fn git(directory: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .args(["-c", "user.name=src", "-c", "user.email=src@example.org"])
        .args(arguments)
        .current_dir(directory)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

impl World {
    /// Has the deployment build `product` with Git; returns the base of its patches.
    fn use_git(&self) -> String {
        let (source, destination) = (self.path("git-source"), self.path("git-destination"));
        for (path, bare) in [(&source, false), (&destination, true)] {
            fs::create_dir(path).unwrap();
            let mut arguments = vec!["init", "--quiet", "--initial-branch=main"];
            arguments.extend(bare.then_some("--bare"));
            git(path, &arguments);
        }
        git(
            &source,
            &["commit", "--quiet", "--allow-empty", "-m", "the beginning"],
        );
        let config = format!(
            "events:\n  PHABRICATOR: {{url: \"{}\", api_key: \"{}\", publish: true}}\n  clones_dir: {}\n  repositories:\n    \
             - {{name: product, vcs: git, url: {}, destination: {{git: {{url: {}}}}}}}\n",
            self.phabricator.url(),
            self.phabricator.token().expose_secret(),
            self.path("clones").display(),
            source.display(),
            destination.display(),
        );
        fs::write(self.path("config.yml"), config).unwrap();
        git(&source, &["rev-parse", "HEAD"])
    }

    fn submit_on(&self, base: &str) -> CreatedRevision {
        let diff = NewDiff::new(PATCH).base(base);
        let revision = NewRevision::new("Bug 1 - Do it", &self.author, &self.repository, diff);
        self.phabricator.create_revision(revision)
    }

    /// Builds a new revision to its answer.
    async fn build_on(&self, base: &str) -> CreatedRevision {
        let mut process = self.start("all");
        let web = process.address().await;
        let revision = self.submit_on(base);
        let build = self.phabricator.start_build(revision.diff.id);
        assert_eq!(self.request(web, &build).await, 200);
        let answered = || !self.target(&build).units.is_empty();
        until("the answer on the build", &process, answered).await;
        process.stop().await;
        revision
    }
}

#[tokio::test]
async fn refs_are_listed_and_those_of_closed_revisions_pruned() {
    let world = World::with_redis().await;
    let base = world.use_git();
    let listed = world.events(&["refs", "list"]).await;
    assert_eq!(listed.lines(), ["there are no refs of ours"]);
    let unknown = world
        .events(&["refs", "prune", "--repository", "products"])
        .await;
    assert_eq!(
        unknown.fault(),
        "there is no repository \"products\" with vcs: git in the configuration; it has product"
    );
    let revision = world.build_on(&base).await;

    let name = format!(
        "refs/heads/phabricator/D{}/{}",
        revision.id, revision.diff.id
    );
    let destination = world.path("git-destination");
    let head = git(&destination, &["rev-parse", &name]);
    let listed = world.events(&["refs", "list", "--json"]).await.json();
    assert_eq!(listed.len(), 1);
    assert_eq!(
        (&listed[0]["ref"], &listed[0]["head"], &listed[0]["action"]),
        (&name.as_str().into(), &head.as_str().into(), &"kept".into())
    );
    let table = world
        .events(&["refs", "list", "--repository", "product"])
        .await;
    let lines = table.lines();
    assert!(
        lines[0].starts_with("REPOSITORY") && lines[1].contains(&head[..12]),
        "{lines:?}"
    );
    let none = world.events(&["refs", "prune"]).await;
    assert_eq!(none.lines(), ["no ref is to be deleted"]);

    world
        .phabricator
        .set_status(revision.id, RevisionStatus::Abandoned);
    let dry = world.events(&["refs", "prune", "--dry-run"]).await;
    let lines = dry.lines();
    assert!(
        lines[0].ends_with("TO DO") && lines[1].contains("the revision is closed"),
        "{lines:?}"
    );
    assert_eq!(lines[2], "would delete 1 ref");
    assert_eq!(git(&destination, &["rev-parse", &name]), head);
    let pruned = world.events(&["refs", "prune", "--json"]).await.json();
    assert_eq!(
        (&pruned[0]["due"], &pruned[0]["action"]),
        (&"closed".into(), &"deleted".into())
    );
    assert_eq!(git(&destination, &["for-each-ref"]), "");
    let listed = world.events(&["refs", "list"]).await;
    assert_eq!(listed.lines(), ["there are no refs of ours"]);
}

#[tokio::test]
async fn destination_that_is_gone_fails_the_command() {
    let world = World::with_redis().await;
    let base = world.use_git();
    let revision = world.build_on(&base).await;
    world
        .phabricator
        .set_status(revision.id, RevisionStatus::Published);
    fs::remove_dir_all(world.path("git-destination")).unwrap();
    let failed = world.events(&["refs", "prune"]).await;
    assert_eq!(failed.code, Some(1));
    assert!(
        failed.out.contains("kept: the destination failed"),
        "{failed:?}"
    );
    assert!(
        failed
            .err
            .starts_with("events: cannot delete old refs of product: "),
        "{failed:?}"
    );
}
