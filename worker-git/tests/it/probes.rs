//! What `config check --online` finds out about a repository.

use runtime::error_chain;
use worker::{probe::Probe, vcs::Vcs};
use worker_git::Git;

use crate::{peers::over_ssh, world::World};

/// The subject and the result of each probe.
async fn probed(world: &World) -> Vec<(String, Result<String, String>)> {
    let found = Git::with_program(&world.side.program)
        .probe(&world.settings, &world.settings.repositories[0])
        .await;
    found
        .into_iter()
        .map(|Probe { what, result, .. }| (what, result.map_err(|error| error_chain(&error))))
        .collect()
}

fn of<'a>(found: &'a [(String, Result<String, String>)], what: &str) -> &'a Result<String, String> {
    &found
        .iter()
        .find(|(name, _)| name.starts_with(what))
        .unwrap_or_else(|| panic!("no {what} in {found:?}"))
        .1
}

#[tokio::test]
async fn probe_of_a_sound_configuration_succeeds_and_leaves_nothing() {
    let (mut world, _sshd) = over_ssh().await;
    let hook = world.path("hook");
    let touch = format!("touch {}", hook.display());
    world.destination.hook("pre-receive", &touch);
    let tip = world.source.tip();
    world.source.git(&["tag", "-a", "-m", "tag", "annotated"]);
    for name in ["HEAD", "main", "annotated", "refs/tags/annotated"] {
        world.repository().default_revision = name.to_owned();
        let found = probed(&world).await;
        assert_eq!(found.len(), 5, "{found:?}");
        assert!(found.iter().all(|(_, result)| result.is_ok()), "{found:?}");
        assert_eq!(
            *of(&found, "the source"),
            Ok(format!("{name} is commit {tip:.12}"))
        );
    }
    // Also where it is not empty.
    let head = world.destination.strange_commit("refs/heads/main");
    let found = probed(&world).await;
    assert!(found.iter().all(|(_, result)| result.is_ok()), "{found:?}");
    assert_eq!(world.destination.rev("main"), head);
    assert!(!hook.exists(), "nothing was pushed");
    assert_eq!(world.destination.branches(), ["main"]);
    let left = std::fs::read_dir(world.settings.clones_dir.join(".ssh")).unwrap();
    assert_eq!(left.count(), 0);
}

#[tokio::test]
async fn probe_names_each_thing_that_builds_would_fail_of() {
    let (mut world, sshd) = over_ssh().await;
    world.repository().default_revision = "no-such-name".to_owned();
    world.repository().ssh_key = Some(sshd.wrong_key().unwrap().into());
    let found = probed(&world).await;
    let error = |what: &str| of(&found, what).clone().unwrap_err();
    assert!(
        error("the source").contains("no revision no-such-name at its source"),
        "{found:?}"
    );
    assert!(error("try").contains("Permission denied"), "{found:?}");

    world.repository().ssh_key = Some(sshd.private_key().unwrap().into());
    let nowhere = sshd.url(&world.path("nowhere"));
    world.repository().try_url = nowhere;
    world.repository().url = format!("file://{}", world.path("nowhere").display());
    let found = probed(&world).await;
    for what in ["the source", "try"] {
        let error = of(&found, what).clone().unwrap_err();
        assert!(
            error.contains("does not appear to be a git repository"),
            "{found:?}"
        );
    }

    world.side.program = world.path("no-git");
    let found = probed(&world).await;
    let (what, result) = found.last().unwrap();
    assert_eq!(what, "the program git");
    assert!(result.is_err());
}
