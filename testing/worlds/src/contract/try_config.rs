//! What the last commit tells CI to do.

use worker::TryMode;

use super::stacks::commits;
use crate::{Repository, Side, World, add, add_mode};

pub async fn try_syntax_goes_into_the_message<S: Side>() {
    let mut world = World::<S>::new();
    world.repository().mode = TryMode::Syntax("-b do -p linux64 -u none".to_owned());
    world.start();
    let pushed = world.pushed(&world.simple_build(7)).await;
    let last = commits(&world, &pushed).pop().unwrap();
    assert_eq!(
        last.message,
        "try: -b do -p linux64 -u none\nPhabricator Revision: https://phabricator.example.org/D7"
    );
    let config = world.text(&pushed.revision, "try_task_config.json");
    let expected = r#"{
    "parameters": {
        "code-review": {
            "phabricator-build-target": "PHID-HMBT-7"
        }
    },
    "version": 2
}"#;
    assert_eq!(config, expected);
    world.stop().await;
}

pub async fn config_that_is_there_already_is_replaced_whatever_it_is<S: Side>() {
    let mut world = World::<S>::new();
    world.repository().mode = TryMode::Json;
    world.start();
    let fresh = world.pushed(&world.simple_build(7)).await;
    let config = world.text(&fresh.revision, "try_task_config.json");
    let same = config.replace("HMBT-7", "HMBT-11");
    let same: String = same.lines().map(|line| format!("+{line}\n")).collect();
    let same = format!(
        "diff --git a/try_task_config.json b/try_task_config.json\nnew file mode 100644\n--- /dev/null\n\
         +++ b/try_task_config.json\n@@ -0,0 +1,8 @@\n{same}\\ No newline at end of file\n"
    );
    let table = [
        (8, add("try_task_config.json", "old")),
        (9, add_mode("try_task_config.json", "/etc/passwd", "120000")),
        (
            10,
            "diff --git a/hello.txt b/try_task_config.json\nrename from hello.txt\nrename to try_task_config.json\n"
                .to_owned(),
        ),
        (11, same),
    ];
    for (number, patch) in table {
        let pushed = world
            .pushed(&world.build_of(vec![world.patch(number, patch)]))
            .await;
        let head = &pushed.revision;
        assert_eq!(
            world.text(head, "try_task_config.json"),
            config.replace("HMBT-7", &format!("HMBT-{number}"))
        );
        let path = "try_task_config.json";
        assert!(world.destination.is_plain_file(head, path), "D{number}");
        let count = commits(&world, &pushed).len();
        assert_eq!(count, 2, "one for the patch, one for the config");
    }
    world.stop().await;
}

/// CI may want a file of its own.
pub async fn configured_file_has_the_content_of_its_template<S: Side>() {
    let mut world = World::<S>::new();
    world.repository().mode = TryMode::File {
        path: "ci/try.json".to_owned(),
        template: "{\"diff\": {{ diff.id }}}\n".to_owned(),
    };
    world.start();
    let pushed = world.pushed(&world.simple_build(4)).await;
    let commits = commits(&world, &pushed);
    let files: Vec<_> = commits.iter().map(|commit| &commit.files[..]).collect();
    assert_eq!(files, [["new.txt"], ["ci/try.json"]]);
    assert_eq!(
        world.text(&pushed.revision, "ci/try.json"),
        "{\"diff\": 1004}\n"
    );
    world.stop().await;
}

pub async fn last_patch_is_the_head_where_ci_needs_no_commit<S: Side>() {
    let mut world = World::<S>::new();
    world.repository().mode = TryMode::None;
    world.start();
    let pushed = world.pushed(&world.simple_build(4)).await;
    let commits = commits(&world, &pushed);
    assert_eq!(commits.len(), 1);
    assert_eq!(commits[0].files, ["new.txt"]);
    world.stop().await;
}
