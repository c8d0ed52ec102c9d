//! What a changeset tells Try to do.

use worker::TryMode;

use crate::world::{World, add, add_mode};

#[tokio::test]
async fn try_syntax_goes_into_the_message() {
    let mut world = World::new();
    world.repository().mode = TryMode::Syntax("-b do -p linux64 -u none".to_owned());
    world.start();
    let pushed = world.pushed(&world.simple_build(7)).await;
    let message = world.try_repo.log(&pushed.revision, "{desc}");
    assert_eq!(
        message,
        "try: -b do -p linux64 -u none\nPhabricator Revision: https://phabricator.example.org/D7"
    );
    let config =
        String::from_utf8(world.try_repo.cat(&pushed.revision, "try_task_config.json")).unwrap();
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

#[tokio::test]
async fn config_that_is_there_already_is_replaced_whatever_it_is() {
    let mut world = World::new();
    world.start();
    let fresh = world.pushed(&world.simple_build(7)).await;
    let config = world.try_repo.cat(&fresh.revision, "try_task_config.json");
    let same = String::from_utf8(config.clone())
        .unwrap()
        .replace("HMBT-7", "HMBT-11");
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
        let content =
            String::from_utf8(world.try_repo.cat(&pushed.revision, "try_task_config.json"))
                .unwrap();
        assert_eq!(
            content,
            String::from_utf8_lossy(&config).replace("HMBT-7", &format!("HMBT-{number}"))
        );
        let kinds = world
            .try_repo
            .hg(&["manifest", "--verbose", "--rev", &pushed.revision]);
        assert!(kinds.contains("644   try_task_config.json"), "{kinds}");
        let parents = world
            .try_repo
            .log(&format!("{0}~2::{0}", pushed.revision), "x");
        assert_eq!(parents.len(), 3, "one for the patch, one for the config");
    }
    world.stop().await;
}
