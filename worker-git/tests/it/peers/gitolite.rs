//! Gitolite 3. Its rules about refs are for operators; its checks of what is pushed (`VREF`) are hooks.

use std::{fs, process::Command, sync::Arc, time::Duration};

use testkit::Sshd;
use worker::{PruneOptions, RefAction};

use super::{assert_barred, ssh::use_server};
use crate::world::{Repo, World, add};

const CONFIGURATION: &str = "
repo try
    RW+ refs/heads/phabricator/ = bot
    - VREF/NAME/forbidden/ = bot
repo kept
    RWD refs/heads/phabricator/D8/ = bot
    RW refs/heads/phabricator/ = bot
repo readable
    R = bot
";

/// A world whose destination is behind Gitolite, and the repository there.
async fn behind_gitolite() -> (World, Sshd, Repo) {
    let mut world = World::new();
    let sshd = Sshd::start(world.path("ssh")).await.unwrap();
    // `sshd` gives its sessions this directory as their home.
    let home = world.path("ssh");
    fs::copy(home.join("client_key.pub"), home.join("bot.pub")).unwrap();
    let gitolite = |arguments: &[&str]| {
        let output = Command::new("gitolite")
            .args(arguments)
            .current_dir(&home)
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("HOME", &home)
            .env("USER", sshd.user())
            .output()
            .expect("gitolite3 is installed");
        assert!(
            output.status.success(),
            "gitolite {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    };
    gitolite(&["setup", "-pk", "bot.pub"]);
    let file = home.join(".gitolite/conf/gitolite.conf");
    let own = fs::read_to_string(&file).unwrap();
    fs::write(&file, own + CONFIGURATION).unwrap();
    gitolite(&["compile"]);
    gitolite(&["trigger", "POST_COMPILE"]);
    fs::copy(
        home.join(".ssh/authorized_keys"),
        home.join("authorized_keys"),
    )
    .unwrap();
    let url = url(&sshd, "try");
    use_server(&mut world, &sshd, url);
    let there = Repo {
        path: home.join("repositories/try.git"),
    };
    (world, sshd, there)
}

fn url(sshd: &Sshd, name: &str) -> String {
    format!("ssh://127.0.0.1:{}/{name}", sshd.port())
}

#[tokio::test]
async fn build_is_pushed() {
    let (mut world, _sshd, there) = behind_gitolite().await;
    world.start_ready().await;
    world.lands(&there).await;
    world.stop().await;
}

#[tokio::test]
async fn rule_about_a_ref_is_for_operators() {
    let (mut world, _sshd, there) = behind_gitolite().await;
    // Also where hooks are for authors.
    world.git_settings().hook_rejects_patches = true;
    world.git_settings().ref_template = "refs/heads/other/{diff}".to_owned();
    world.start_ready().await;
    assert_barred(
        world.is_barred().await,
        "try takes no pushes from us.",
        "DENIED by ",
    );
    assert_eq!(there.branches(), [""; 0]);
    world.stop().await;
}

#[tokio::test]
async fn repository_that_may_only_be_read_is_for_operators() {
    let (mut world, sshd, _there) = behind_gitolite().await;
    for name in ["readable", "no-such-repository"] {
        world.repository().try_url = url(&sshd, name);
        world.start_ready().await;
        assert_barred(
            world.is_barred().await,
            "try takes no pushes from us.",
            "DENIED by fallthru",
        );
        world.stop().await;
    }
}

#[tokio::test]
async fn check_of_the_content_is_for_the_author_where_that_is_configured() {
    let (mut world, _sshd, there) = behind_gitolite().await;
    world.start_ready().await;
    let forbidden = world.build_of(vec![world.patch(7, add("forbidden/a", "a"))]);
    let words = world.failed(&forbidden).await;
    assert!(
        words.starts_with("3: push to try was refused by a hook there: ")
            && words.contains("DENIED by VREF/NAME/forbidden/"),
        "{words}"
    );
    world.stop().await;
    world.git_settings().hook_rejects_patches = true;
    world.start_ready().await;
    world.die_before_the_end_is_recorded(&forbidden).await;
    let failure = world.patch_failed(&forbidden).await;
    assert!(
        failure.details.contains("VREF/NAME/forbidden/"),
        "{failure:?}"
    );
    assert_eq!(there.branches(), [""; 0]);
    world.stop().await;
}

#[tokio::test]
async fn refs_that_may_not_be_deleted_stay_and_the_others_go() {
    let (mut world, sshd, try_) = behind_gitolite().await;
    let there = Repo {
        path: try_.path.with_file_name("kept.git"),
    };
    world.repository().try_url = url(&sshd, "kept");
    world.start_ready().await;
    for number in [7, 8] {
        world.pushed(&world.simple_build(number)).await;
    }
    world.clock.advance(Duration::from_secs(15 * 24 * 3600));
    let pruned = world.prune(&Arc::default(), PruneOptions::default()).await;
    assert!(pruned.failures.is_empty(), "{pruned:?}");
    let actions: Vec<RefAction> = pruned.refs.iter().map(|one| one.action).collect();
    assert_eq!(actions, [RefAction::Deleted, RefAction::Refused]);
    let refused = world.listed_refs().await[0].refused.clone().unwrap();
    assert!(
        refused.error.contains(super::REF) && refused.error.contains("DENIED by "),
        "{refused:?}"
    );
    assert_eq!(there.branches(), ["phabricator/D7/1007"]);
    world.stop().await;
}
