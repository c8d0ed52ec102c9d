use build::Phid;
use tempfile::TempDir;
use testkit::repositories::Side;

use super::*;

const REF: &str = "refs/heads/phabricator/D7/9";

/// A Try with the head of one build, and that build.
struct World {
    git: Git,
    build: Content,
    directory: TempDir,
}

fn phid(text: &str) -> Phid {
    Phid::try_from(text.to_owned()).unwrap()
}

impl World {
    async fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let repositories = Repositories::create_with(Side::Git, directory.path())
            .await
            .unwrap();
        let patch = "diff --git a/docs/greeting.txt b/docs/greeting.txt\n--- a/docs/greeting.txt\n\
                     +++ b/docs/greeting.txt\n@@ -1 +1 @@\n-Hello\n+Bye\n";
        let build = Content {
            revision_id: 7,
            diff_id: 9,
            closes: false,
            base: Some(repositories.base.clone()),
            patches: vec![(phid("PHID-DIFF-9"), patch.to_owned())],
        };
        let git = Git::prepare(repositories, false).await.unwrap();
        let world = Self {
            git,
            build,
            directory,
        };
        world.push("Bye\n", "Part").await;
        world
    }

    /// Pushes a commit on the base of the build, with this text.
    async fn push(&self, text: &str, subject: &str) {
        let checkout = self.directory.path().join("checkout");
        run_git(&checkout, &["reset", "--quiet", "--hard", "origin/main"])
            .await
            .unwrap();
        fs::write(checkout.join("docs/greeting.txt"), text).unwrap();
        let message = format!("--message={subject}\n\nDifferential Diff: PHID-DIFF-9");
        run_git(&checkout, &["commit", "--quiet", "--all", &message])
            .await
            .unwrap();
        let refspec = format!("+HEAD:{REF}");
        run_git(&checkout, &["push", "--quiet", "../try", &refspec])
            .await
            .unwrap();
    }

    async fn at_try(&self, arguments: &[&str]) {
        run_git(&self.git.repositories.try_repository, arguments)
            .await
            .unwrap();
    }

    async fn pushed(&self) -> Try {
        self.git.pushed(&[&self.build]).await.unwrap()
    }

    /// The one thing that is wrong.
    async fn wrong(&self) -> (String, String) {
        let mut wrong = self.pushed().await.wrong;
        assert_eq!(wrong.len(), 1, "{wrong:?}");
        wrong.remove(0)
    }
}

#[tokio::test]
async fn head_that_its_stack_makes_is_right() {
    let world = World::new().await;
    let pushed = world.pushed().await;
    assert_eq!(pushed.wrong, []);
    assert_eq!((pushed.heads.len(), pushed.changesets), (1, 1));
    assert_eq!(pushed.heads[0].diff, "PHID-DIFF-9");
    assert!(!pushed.heads[0].replaced);
    // The same tree by another commit.
    world.push("Bye\n", "Leave").await;
    let pushed = world.pushed().await;
    assert_eq!(pushed.wrong, []);
    let replaced: Vec<bool> = pushed.heads.iter().map(|head| head.replaced).collect();
    assert_eq!((replaced, pushed.changesets), (vec![true, false], 2));
}

#[tokio::test]
async fn ref_of_a_closed_revision_may_be_deleted() {
    let mut world = World::new().await;
    world.build.closes = true;
    world.at_try(&["update-ref", "-d", REF]).await;
    let pushed = world.pushed().await;
    assert_eq!(pushed.wrong, []);
    assert_eq!((pushed.heads.len(), pushed.changesets), (1, 1));
}

#[tokio::test]
async fn each_fault_of_a_ref_is_found() {
    let mut world = World::new().await;
    world
        .at_try(&["update-ref", "refs/heads/main", "main~1"])
        .await;
    assert_eq!(world.wrong().await.0, "refs/heads/main");
    world
        .at_try(&["update-ref", "refs/heads/main", "main@{1}"])
        .await;
    // What it was, and its log shows that it was moved.
    assert_eq!(world.wrong().await.0, "refs/heads/main");
    world.git.foreign = world.git.refs().await.unwrap();
    world.git.foreign.remove(REF);

    world.at_try(&["tag", "--delete", "v1"]).await;
    assert_eq!(world.wrong().await.0, "refs/tags/v1");
    world.at_try(&["update-ref", "refs/tags/v1", "main"]).await;

    world
        .at_try(&["update-ref", "refs/heads/phabricator/D7/10", "main"])
        .await;
    let (name, what) = world.wrong().await;
    assert_eq!(name, "refs/heads/phabricator/D7/10");
    assert_eq!(what, "is a ref of no build");
    world
        .at_try(&["update-ref", "-d", "refs/heads/phabricator/D7/10"])
        .await;

    world.push("Good bye\n", "Part").await;
    let (name, what) = world.wrong().await;
    assert_eq!(name, REF);
    assert!(what.contains("has the tree"), "{what}");
    world
        .at_try(&["update-ref", REF, &format!("{REF}@{{1}}")])
        .await;
    let (_, what) = world.wrong().await;
    assert!(what.contains("was given"), "{what}");
    world.at_try(&["update-ref", "-d", REF]).await;
    assert_eq!(world.wrong().await.1, "was deleted");
    world.push("Bye\n", "Part").await;
    assert_eq!(world.wrong().await.1, "was deleted, and made again");
    fs::remove_dir_all(world.git.repositories.try_repository.join(DELETED)).unwrap();

    world.build.base = Some("0".repeat(40));
    let (_, what) = world.wrong().await;
    assert!(what.contains("its stack names"), "{what}");
    world.build.base = None;
    world.build.patches[0].0 = phid("PHID-DIFF-8");
    let (_, what) = world.wrong().await;
    assert!(what.contains("without"), "{what}");
}

#[tokio::test]
async fn locks_of_killed_programs_are_removed_and_no_other_file() {
    let world = World::new().await;
    let at_try = &world.git.repositories.try_repository;
    for lock in ["packed-refs.lock", &format!("{REF}.lock")] {
        fs::write(at_try.join(lock), "").unwrap();
    }
    world.git.recover_try().await.unwrap();
    let mut locks = Vec::new();
    find_locks(at_try, &mut locks).unwrap();
    find_locks(&at_try.join("refs"), &mut locks).unwrap();
    assert_eq!(locks, Vec::<PathBuf>::new());
    assert_eq!(world.pushed().await.wrong, []);
}
