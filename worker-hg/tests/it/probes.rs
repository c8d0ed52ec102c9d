//! What `config check --online` finds out about a repository.

use worker::{probe::Probe, vcs::Vcs};
use worker_hg::Mercurial;

use crate::{
    outcomes::over_ssh,
    world::{Repo, World},
};

/// The subject and the result of each probe.
async fn probed(world: &World) -> Vec<(String, Result<String, String>)> {
    let found = Mercurial::with_program(&world.side.program)
        .probe(&world.settings, &world.settings.repositories[0])
        .await;
    found
        .into_iter()
        .map(|Probe { what, result, .. }| {
            (what, result.map_err(|error| runtime::error_chain(&error)))
        })
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
    let (world, _sshd) = over_ssh().await;
    let found = probed(&world).await;
    assert_eq!(found.len(), 5, "{found:?}");
    assert!(found.iter().all(|(_, result)| result.is_ok()), "{found:?}");
    let root = world.source.node("0");
    assert_eq!(
        *of(&found, "the source"),
        Ok(format!("tip is changeset {root:.12}"))
    );
    assert_eq!(
        *of(&found, "try"),
        Ok(format!(
            "it answers, and has the first changeset {root:.12} of central"
        ))
    );
    assert_eq!(*of(&found, "the ssh key"), Ok("ssh-ed25519".to_owned()));
    let left: Vec<_> = std::fs::read_dir(world.settings.clones_dir.join(".ssh"))
        .unwrap()
        .collect();
    assert!(left.is_empty(), "{left:?}");
    world.nothing_has_landed();
}

#[tokio::test]
async fn probe_names_each_thing_that_builds_would_fail_of() {
    let (mut world, mut sshd) = over_ssh().await;
    world.repository().default_revision = "no-such-name".to_owned();
    world.repository().ssh_key = Some("no key at all".into());
    let found = probed(&world).await;
    let error = |found: &[(String, Result<String, String>)], what: &str| {
        of(found, what).clone().unwrap_err()
    };
    assert!(
        error(&found, "the source").contains("no revision no-such-name at its source"),
        "{found:?}"
    );
    assert!(
        error(&found, "the ssh key").starts_with("cannot use the ssh key of central: "),
        "{found:?}"
    );
    assert!(
        error(&found, "try").contains("Permission denied"),
        "{found:?}"
    );

    let other = Repo::init(world.path("other"));
    other.write("other", b"x");
    other.commit("another repository");
    world.repository().default_revision = "tip".to_owned();
    world.repository().ssh_key = Some(sshd.private_key().unwrap().into());
    let url = sshd.url(&other.path);
    world.repository().try_url = url;
    assert!(error(&probed(&world).await, "try").contains("is another repository than central"));

    sshd.change_host_key().await.unwrap();
    assert!(error(&probed(&world).await, "try").contains("REMOTE HOST IDENTIFICATION HAS CHANGED"));
    world.repository().url = world.path("nowhere").display().to_string();
    world.settings.known_hosts = Some(world.path("no known hosts"));
    let found = probed(&world).await;
    assert!(
        error(&found, "the source").contains("nowhere not found"),
        "{found:?}"
    );
    assert!(
        error(&found, "the known host keys").contains("No such file"),
        "{found:?}"
    );

    std::fs::write(world.path("a file"), "").unwrap();
    world.settings.clones_dir = world.path("a file");
    assert!(
        error(&probed(&world).await, "the clones directory")
            .contains("cannot use the clones directory")
    );
}

#[tokio::test]
async fn probe_warns_of_several_lines_of_development_without_a_default_revision() {
    let mut world = World::new();
    world.has_clone = false;
    world.source.hg(&["branch", "--quiet", "other"]);
    world.source.write("other", b"x");
    world.source.commit("on another branch");
    world.source.hg(&["update", "--quiet", "default"]);
    world.source.write("later", b"x");
    world.source.commit("on the default branch");
    let warnings = async |world: &World| {
        let found = Mercurial::with_program(&world.side.program)
            .probe(&world.settings, &world.settings.repositories[0])
            .await;
        found
            .into_iter()
            .filter_map(|probe| probe.warning)
            .collect::<Vec<_>>()
    };
    let found = warnings(&world).await;
    assert!(
        matches!(found.as_slice(), [one] if one.contains("2 lines of development (head 1, head 2)")),
        "{found:?}"
    );
    let (_guard, logs) = testkit::capture_logs();
    world.start_ready().await;
    let warned = || {
        logs.text().contains("WARN")
            && logs
                .text()
                .contains("2 lines of development (default, other)")
    };
    crate::world::until("the warning at the start", warned).await;
    world.stop().await;
    let found = warnings(&world).await;
    assert!(
        matches!(found.as_slice(), [one] if one.contains("2 lines of development (default, other)")),
        "{found:?}"
    );
    world.repository().default_revision = "default".to_owned();
    assert_eq!(warnings(&world).await, Vec::<String>::new());
}
