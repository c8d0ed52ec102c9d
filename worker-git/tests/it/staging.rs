//! Changes from a staging area.

use build::{BaseReason, StagedCommit};
use worlds::numbered;

use crate::world::{Repo, World, change};

/// A patch of Phabricator for a binary file whose content was not uploaded.
const WITHOUT_CONTENT: &str = "diff --git a/logo.png b/logo.png\nnew file mode 100644\nindex 0000000..1234567\nBinary files /dev/null and b/logo.png differ\n";

const LOGO: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\xff\xfe";

fn bare(world: &World, name: &str) -> Repo {
    let repository = Repo {
        path: world.path(name),
    };
    repository.init_bare();
    repository
}

/// A world with a staging area, and the clone of an author.
fn with_staging() -> (World, Repo, Repo) {
    let mut world = World::new();
    let staging = bare(&world, "staging");
    world.git_settings().staging = Some(staging.url());
    let author = Repo {
        path: world.path("author"),
    };
    let (from, to) = (world.source.url(), author.path.display().to_string());
    world.source.git(&["clone", "--quiet", &from, &to]);
    (world, staging, author)
}

impl Repo {
    /// Pushes a diff as `arc` does.
    fn stage(&self, area: &Repo, diff: u64, base: &str, commit: &str) {
        let url = area.url();
        let tag =
            |kind: &str, commit: &str| format!("{commit}:refs/tags/phabricator/{kind}/{diff}");
        self.git(&[
            "push",
            "--quiet",
            &url,
            &tag("base", base),
            &tag("diff", commit),
        ]);
    }

    fn tree(&self, commit: &str) -> String {
        self.rev(&format!("{commit}^{{tree}}"))
    }
}

#[tokio::test]
async fn content_that_a_patch_lacks_is_that_of_the_staged_commit() {
    let (mut world, staging, author) = with_staging();
    let base = author.tip();
    author.write("logo.png", LOGO);
    author.write("name with \u{e9}.txt", b"text\n");
    let commit = author.commit("Other words");
    world.start_ready().await;
    let build = world.build_of(vec![world.patch(7, WITHOUT_CONTENT)]);
    let without = world.patch_failed(&build).await;
    assert!(
        without
            .details
            .contains("the content of a binary file is missing"),
        "{without:?}"
    );
    author.stage(&staging, 1007, &base, &commit);
    world.die_before_the_end_is_recorded(&build).await;
    let pushed = world.pushed(&build).await;
    assert_eq!(
        (pushed.base.reason, &pushed.base.used),
        (BaseReason::Staged, &base)
    );
    let head = pushed.revision;
    assert_eq!(world.destination.tree(&head), author.tree(&commit));
    assert_eq!(
        world.destination.log(&base, &head, "%an <%ae> %s %P"),
        format!("Ada <ada@example.org> Bug 7 - Do it {base}"),
        "all but the tree is as for any patch"
    );
    assert!(
        !world.own_clone().has(&commit),
        "nothing of it is in the clone"
    );
    // A worker that dies after the push.
    world.die_before_the_end_is_recorded(&build).await;
    assert_eq!(world.pushed(&build).await.revision, head);
    world.stop().await;
}

#[tokio::test]
async fn stack_that_does_not_apply_is_built_on_the_staged_base() {
    let (mut world, staging, author) = with_staging();
    let base = author.tip();
    author.write(
        "hello.txt",
        numbered("line", 20).replace("line 5", "mine").as_bytes(),
    );
    let commit = author.commit("mine");
    // The source has moved on, and the diff names no base.
    world
        .source
        .write("hello.txt", numbered("other", 20).as_bytes());
    world.source.commit("newer");
    world.start_ready().await;
    let mut lower = world.patch(7, change("line 5", "mine"));
    lower.diff.base = None;
    let mut upper = world.patch(8, change("mine", "ours"));
    upper.diff.base = None;
    let build = world.build_of(vec![lower, upper]);
    let failure = world.patch_failed(&build).await;
    assert!(failure.summary.contains("does not apply"), "{failure:?}");
    author.stage(&staging, 1007, &base, &commit);
    world.die_before_the_end_is_recorded(&build).await;
    let pushed = world.pushed(&build).await;
    assert_eq!(
        (pushed.base.reason, &pushed.base.used),
        (BaseReason::Staged, &base)
    );
    let head = pushed.revision;
    let lower = world.destination.rev(&format!("{head}^"));
    assert_eq!(world.destination.tree(&lower), author.tree(&commit));
    assert!(
        world
            .destination
            .git(&["show", &format!("{head}:hello.txt")])
            .contains("\nours\n")
    );
    world.die_before_the_end_is_recorded(&build).await;
    assert_eq!(world.pushed(&build).await.revision, head);
    world.stop().await;
}

#[tokio::test]
async fn patch_that_can_be_used_needs_no_staging_area() {
    let (mut world, _staging, _author) = with_staging();
    let nowhere = format!("file://{}", world.path("nowhere").display());
    world.git_settings().staging = Some(nowhere);
    world.start_ready().await;
    let pushed = world.pushed(&world.simple_build(7)).await;
    assert_eq!(pushed.base.reason, BaseReason::Named);
    // Without the area, the fault of the patch stands.
    let build = world.build_of(vec![world.patch(8, WITHOUT_CONTENT)]);
    let failure = world.patch_failed(&build).await;
    assert!(
        failure.details.contains("binary file is missing"),
        "{failure:?}"
    );
    world.stop().await;
}

#[tokio::test]
async fn source_can_be_the_staging_area() {
    let (mut world, _staging, author) = with_staging();
    world.git_settings().staging = Some(world.source.url());
    let base = author.tip();
    author.write("logo.png", LOGO);
    let commit = author.commit("logo");
    author.stage(&world.source, 1007, &base, &commit);
    world.start_ready().await;
    let build = world.build_of(vec![world.patch(7, WITHOUT_CONTENT)]);
    let head = world.pushed(&build).await.revision;
    assert_eq!(world.destination.tree(&head), author.tree(&commit));
    world.stop().await;
}

#[tokio::test]
async fn request_that_names_another_area_or_ref_is_not_believed() {
    let (mut world, staging, author) = with_staging();
    let foreign = bare(&world, "foreign");
    let base = author.tip();
    author.write("logo.png", LOGO);
    let commit = author.commit("logo");
    for area in [&staging, &foreign] {
        author.stage(area, 1007, &base, &commit);
    }
    world.start_ready().await;
    let tag = "refs/tags/phabricator/diff/1007".to_owned();
    let mut build = world.build_of(vec![world.patch(7, WITHOUT_CONTENT)]);
    for (url, reference) in [
        (foreign.url(), tag.clone()),
        (staging.url(), "refs/heads/main".to_owned()),
        (staging.url(), "refs/tags/phabricator/diff/1008".to_owned()),
    ] {
        build.request.staged = Some(StagedCommit {
            url: Some(url),
            reference: Some(reference),
        });
        world.die_before_the_end_is_recorded(&build).await;
        let failure = world.patch_failed(&build).await;
        assert!(
            failure.details.contains("binary file is missing"),
            "{failure:?}"
        );
    }
    build.request.staged = Some(StagedCommit {
        url: Some(staging.url()),
        reference: Some(tag),
    });
    world.die_before_the_end_is_recorded(&build).await;
    world.pushed(&build).await;
    world.stop().await;
}

#[tokio::test]
async fn newest_base_of_the_source_is_pulled() {
    let (mut world, staging, author) = with_staging();
    world.start_ready().await;
    world.source.write("newer.txt", b"newer\n");
    let base = world.source.commit("newer");
    author.git(&["pull", "--quiet", "--ff-only"]);
    author.write("logo.png", LOGO);
    let commit = author.commit("logo");
    author.stage(&staging, 1007, &base, &commit);
    let build = world.build_of(vec![world.patch(7, WITHOUT_CONTENT)]);
    let pushed = world.pushed(&build).await;
    assert_eq!(pushed.base.used, base);
    assert_eq!(
        world.destination.tree(&pushed.revision),
        author.tree(&commit)
    );
    world.stop().await;
}

/// Whatever is staged, the build must fail by the fault of its patch, and leave nothing.
#[tokio::test]
async fn hostile_staged_commits_are_not_used() {
    let (mut world, staging, author) = with_staging();
    world.settings.limits.stack_bytes = 4 << 20;
    world.settings.limits.patch_bytes = 1 << 20;
    let base = author.tip();
    let beside = |names: &str| {
        // The tree of the base with more entries.
        let path = world.path("tree");
        let tree = author.git(&["ls-tree", &base]) + "\n" + names;
        std::fs::write(&path, tree).unwrap();
        let command = format!("git mktree < {}", path.display());
        let output = std::process::Command::new("sh")
            .args(["-c", &command])
            .current_dir(&author.path)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let tree = String::from_utf8(output.stdout).unwrap().trim().to_owned();
        author.git(&["commit-tree", "-m", "hostile", "-p", &base, &tree])
    };
    let blob = |content: &[u8]| {
        let path = world.path("blob");
        std::fs::write(&path, content).unwrap();
        author.git(&["hash-object", "-w", path.to_str().unwrap()])
    };
    let text = blob(b"x\n");
    let options = blob(b"[submodule \"a\"]\n\tpath = a\n\turl = --upload-pack=touch /tmp/x\n");
    let target = blob(b"/etc/passwd");
    let dir = author.git(&["rev-parse", "HEAD:dir"]);
    // What compresses well, and what does not.
    let zeros = blob(&vec![0; 64 << 20]);
    let mut random = vec![0; 8 << 20];
    fastrand::Rng::with_seed(7).fill(&mut random);
    let random = blob(&random);
    let table = [
        ("a directory of Git", format!("040000 tree {dir}\t.git\n")),
        (
            "the same for Windows",
            format!("100644 blob {text}\tGIT~1\n"),
        ),
        (
            "options as the address",
            format!("100644 blob {options}\t.gitmodules\n"),
        ),
        (
            "a link to settings",
            format!("120000 blob {target}\t.gitmodules\n"),
        ),
        (
            "a name that differs by case",
            format!("100644 blob {text}\tHELLO.TXT\n"),
        ),
        ("a submodule", format!("160000 commit {base}\tsub\n")),
        (
            "a directory of Git for Windows",
            format!("100644 blob {text}\tdir\\.git\n"),
        ),
        (
            "a large file of zeros",
            format!("100644 blob {zeros}\tzeros\n"),
        ),
        ("a large file", format!("100644 blob {random}\trandom\n")),
    ];
    let mut staged: Vec<(&str, String, String)> = table
        .iter()
        .map(|(name, names)| (*name, base.clone(), beside(names)))
        .collect();
    // Not made on the source.
    let strange = author.strange_commit("refs/heads/strange");
    let on_strange = author.git(&[
        "commit-tree",
        "-m",
        "x",
        "-p",
        &strange,
        &author.tree(&base),
    ]);
    staged.push(("a base that is not in the source", strange, on_strange));
    staged.push(("no change", base.clone(), base.clone()));
    staged.push(("a file", base.clone(), text.clone()));
    staged.push(("a tree", base.clone(), author.tree(&base)));
    world.start_ready().await;
    for (number, (name, base, commit)) in (10..).zip(&staged) {
        author.stage(&staging, number + 1000, base, commit);
        let build = world.build_of(vec![world.patch(number, WITHOUT_CONTENT)]);
        let failure = world.patch_failed(&build).await;
        assert!(
            failure
                .details
                .contains("the content of a binary file is missing"),
            "{name}: {failure:?}"
        );
        let is_of_source = world.source.has(commit);
        assert!(!world.own_clone().has(commit) || is_of_source, "{name}");
    }
    assert_eq!(world.destination.branches(), [""; 0]);
    // What is left of them is removed before the next build.
    world.pushed(&world.simple_build(7)).await;
    world.stop().await;
}
