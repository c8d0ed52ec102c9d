//! Every text for authors whose words depend on the version control, from what Git really prints. The golden files are
//! in `snapshots`.

use build::BuildUpdate;
use phabricator::answer;

use crate::world::{TestPatch, World, add, change, phid};

/// The answers of the builds of `cases`, under their names.
async fn golden(world: &mut World, cases: Vec<(&str, Vec<TestPatch>)>) -> String {
    let mut texts = Vec::new();
    world.start_ready().await;
    for (number, (case, stack)) in (0..).zip(cases) {
        let mut build = world.build_of(stack);
        build.request.target = phid(&format!("PHID-HMBT-case{number}"));
        let update = world.build(&build).await;
        assert!(
            matches!(update, BuildUpdate::PatchFailed(_)),
            "{case}: {update:?}"
        );
        let answers = answer(&build.request.target, &update);
        let answers: Vec<String> = answers.iter().map(ToString::to_string).collect();
        texts.push(format!("======== {case}\n\n{}\n", answers.join("\n\n")));
    }
    world.stop().await;
    texts.join("\n")
}

#[tokio::test]
async fn patches_that_do_not_apply() {
    let mut world = World::new();
    let misfit = || change("line V", "line five");
    let on = |base: Option<&str>| {
        let mut patch = world.patch(9, misfit());
        patch.diff.base = base.map(str::to_owned);
        vec![patch]
    };
    let unknown = "1234567890".repeat(4);
    let cases = vec![
        ("one hunk", vec![world.patch(9, misfit())]),
        (
            "below the top of a stack",
            vec![
                world.patch(7, add("a", "a")),
                world.patch(8, misfit()),
                world.patch(9, add("b", "b")),
            ],
        ),
        ("on an unknown base", on(Some(&unknown))),
        ("on a base that is no hash", on(Some("`{F1}`"))),
        ("without a base", on(None)),
        (
            "a change that is there already",
            vec![world.patch(
                9,
                "diff --git a/hello.txt b/hello.txt\nold mode 100755\nnew mode 100644\n",
            )],
        ),
    ];
    let text = golden(&mut world, cases).await;
    insta::assert_snapshot!(text);
}

#[tokio::test]
async fn patches_that_are_refused() {
    let mut world = World::new();
    world.settings.limits.patches = 2;
    world.git_settings().hook_rejects_patches = true;
    world
        .destination
        .hook("pre-receive", "echo 'line 1: no tabs, please' >&2; exit 1");
    let simple = |number: u64| world.patch(number, add(&format!("{number}"), "x"));
    let cases = vec![
        (
            "Git's own directory",
            vec![world.patch(9, add(".git/config", "evil"))],
        ),
        (
            "a submodule",
            vec![world.patch(
                9,
                "diff --git a/m b/m\nnew file mode 160000\n--- /dev/null\n+++ b/m\n@@ -0,0 +1 @@\n+Subproject commit 1234567890123456789012345678901234567890\n",
            )],
        ),
        ("too long a stack", vec![simple(7), simple(8), simple(9)]),
        ("a hook refuses it", vec![simple(9)]),
    ];
    let text = golden(&mut world, cases).await;
    insta::assert_snapshot!(text);
}
