//! `events config check --online` checks everything that a build needs, and finds each fault.

mod services;

use std::sync::Arc;

use runtime::SystemClock;
use testkit::{
    Sshd,
    phabricator::{Fault, Plan},
    repositories::hg,
    taskcluster::FakeTaskcluster,
};

use crate::{commands::Said, world::World};

/// A deployment in which everything is right.
struct Right {
    world: World,
    /// The server of Try, when it is not a path: each check takes twice as long over it.
    sshd: Option<Sshd>,
}

impl Right {
    async fn new() -> Self {
        Self::of(World::with_redis().await, None)
    }

    async fn over_ssh() -> Self {
        let world = World::with_redis().await;
        let sshd = Sshd::start(world.path("sshd")).await.unwrap();
        Self::of(world, Some(sshd))
    }

    fn of(world: World, sshd: Option<Sshd>) -> Self {
        let right = Self { world, sshd };
        right.write(&right.keys());
        let build = right.world.submit_stack();
        right.world.phabricator.answered(&build.target, 200);
        right
    }

    /// The keys of the section `events`, each with its value.
    fn keys(&self) -> Vec<(&'static str, String)> {
        let world = &self.world;
        let source = world.repositories.source.display();
        let target = &world.repositories.try_repository;
        let try_keys = match &self.sshd {
            Some(sshd) => format!(
                "try_url: \"{}\", ssh_user: {}, ssh_key: \"{}\"",
                sshd.url(target),
                sshd.user(),
                self.key()
            ),
            None => format!("try_url: {}", target.display()),
        };
        let repository = format!("[{{name: product, url: {source}, {try_keys}}}]");
        let token = secrecy::ExposeSecret::expose_secret(&world.phabricator.token()).to_owned();
        let phabricator = format!(
            "{{url: \"{}\", api_key: \"{token}\", publish: true}}",
            world.phabricator.url()
        );
        let known_hosts = self.sshd.as_ref().map(Sshd::known_hosts);
        let known_hosts = known_hosts.map(|file| ("known_hosts", file.display().to_string()));
        let mut keys = vec![
            ("PHABRICATOR", phabricator),
            (
                "build_plan_phid",
                world.phabricator.build_plan().to_string(),
            ),
            ("webhook_secret", "0123456789abcdef".to_owned()),
            ("clones_dir", world.path("clones").display().to_string()),
            ("repositories", repository),
        ];
        keys.extend(known_hosts);
        keys
    }

    fn sshd(&mut self) -> &mut Sshd {
        self.sshd.as_mut().unwrap()
    }

    /// The private key, as it stands in the configuration.
    fn key(&self) -> String {
        let key = self.sshd.as_ref().unwrap().private_key().unwrap();
        key.replace('\n', "\\n")
    }

    fn write(&self, keys: &[(&'static str, String)]) {
        let lines: String = keys
            .iter()
            .map(|(key, value)| format!("  {key}: {value}\n"))
            .collect();
        std::fs::write(self.world.path("config.yml"), format!("events:\n{lines}")).unwrap();
    }

    async fn check(&self) -> Said {
        self.world.events(&["config", "check", "--online"]).await
    }

    /// Checks with one key changed, and then with the right one again.
    async fn check_with(&self, key: &'static str, value: impl Fn(&str) -> String) -> Said {
        let mut keys = self.keys();
        let known = keys.iter_mut().find(|(name, _)| *name == key).unwrap();
        known.1 = value(&known.1);
        self.write(&keys);
        let said = self.check().await;
        self.write(&self.keys());
        said
    }

    /// Checks with another build plan, and then with the right one again.
    async fn check_plan(&self, edit: impl FnOnce(&mut Plan)) -> Said {
        let phabricator = &self.world.phabricator;
        let mut before = None;
        phabricator.edit_build_plan(&phabricator.build_plan(), |plan| {
            before = Some(plan.clone());
            edit(plan);
        });
        let said = self.check().await;
        phabricator.edit_build_plan(&phabricator.build_plan(), |plan| *plan = before.unwrap());
        said
    }
}

/// The one line that failed.
fn failed(said: &Said) -> &str {
    let mut failed = said.out.lines().filter(|line| line.starts_with("FAILED"));
    let line = failed
        .next()
        .unwrap_or_else(|| panic!("nothing failed: {said:?}"));
    assert_eq!((failed.next(), said.code), (None, Some(1)), "{said:?}");
    assert_eq!(said.err, "events: 1 check failed\n");
    line
}

fn has(said: &Said, verdict: &str, parts: &[&str]) {
    let fits =
        |line: &str| line.starts_with(verdict) && parts.iter().all(|part| line.contains(part));
    assert!(
        said.out.lines().any(fits),
        "{verdict} {parts:?} in\n{}",
        said.out
    );
}

#[tokio::test]
async fn each_requirement_of_a_build_is_checked_and_shown() {
    let right = Right::over_ssh().await;
    let said = right.check().await;
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""), "{said:?}");
    for (verdict, parts) in [
        ("ok", &["redis: "][..]),
        (
            "ok",
            &[
                "phabricator ",
                "user.whoami accepts the token, our user is bot",
            ],
        ),
        (
            "ok",
            &["names on phabricator: it knows every configured name"],
        ),
        ("ok", &["PHABRICATOR.publish: answers are written"]),
        (
            "ok",
            &[
                "build plan PHID-HMCP-",
                "harbormaster.buildplan.search finds it: code review, enabled",
            ],
        ),
        ("ok", &["Hold Drafts of build plan", "Never"]),
        (
            "ok",
            &["build step: harbormaster.step.search finds Notify code review"],
        ),
        (
            "BY HAND",
            &[
                "build step: its settings cannot be read through Conduit",
                "Wait For Message",
            ],
        ),
        ("ok", &["Herald rule: 1 of the newest 1 builds"]),
        (
            "BY HAND",
            &[
                "Herald rule: its type cannot be read through Conduit",
                "Differential Revision",
            ],
        ),
        (
            "ok",
            &[
                "rights of our user: our user sees the newest build and its target",
                "nothing was sent",
            ],
        ),
        (
            "ok",
            &["the clones directory ", "it can be written", "free"],
        ),
        (
            "ok",
            &["the ssh key of product", "ssh-ed25519", "ssh-keygen"],
        ),
        ("ok", &["the known host keys", "1 lines"]),
        (
            "ok",
            &["the source of product: tip is changeset", "hg identify"],
        ),
        (
            "ok",
            &[
                "try, to which product is pushed",
                "the right to push was not tried",
            ],
        ),
    ] {
        has(&said, verdict, parts);
    }
    assert!(
        !said.out.contains("api-fake") && !said.out.contains("PRIVATE KEY"),
        "{}",
        said.out
    );
    assert_eq!(
        right.world.repositories.try_changesets().await.unwrap(),
        0,
        "nothing was pushed"
    );
    assert!(
        !right.world.path("clones/product").exists(),
        "nothing was cloned"
    );
}

#[tokio::test]
async fn each_fault_of_a_repository_is_found() {
    let mut right = Right::over_ssh().await;
    let wrong = right.sshd().wrong_key().unwrap().replace('\n', "\\n");
    let key = right.key();
    let said = right
        .check_with("repositories", |value| value.replace(&key, &wrong))
        .await;
    assert!(
        failed(&said).contains("try, to which product is pushed: ")
            && said.out.contains("Permission denied")
    );

    let said = right
        .check_with("repositories", |value| {
            value.replace(
                "name: product,",
                "name: product, default_revision: nowhere,",
            )
        })
        .await;
    assert!(
        failed(&said)
            .contains("the source of product: product has no revision nowhere at its source"),
        "{said:?}"
    );

    let source = right.world.repositories.source.display().to_string();
    let gone = right.world.path("gone").display().to_string();
    let said = right
        .check_with("repositories", |value| value.replace(&source, &gone))
        .await;
    assert!(
        failed(&said).contains("the source of product: "),
        "{said:?}"
    );

    let other = right.world.path("other");
    std::fs::create_dir(&other).unwrap();
    hg(&other, &["init"]).await.unwrap();
    std::fs::write(other.join("file"), "x").unwrap();
    hg(
        &other,
        &[
            "commit",
            "--addremove",
            "--user=x",
            "--message=another repository",
        ],
    )
    .await
    .unwrap();
    let try_repository = right.world.repositories.try_repository.clone();
    let [try_url, other] = [try_repository, other].map(|path| right.sshd().url(&path));
    let said = right
        .check_with("repositories", |value| value.replace(&try_url, &other))
        .await;
    assert!(
        failed(&said).contains("try is another repository than product"),
        "{said:?}"
    );

    let said = right
        .check_with("clones_dir", |_| "/proc/clones".to_owned())
        .await;
    has(&said, "FAILED", &["the clones directory /proc/clones"]);
    assert_eq!(said.code, Some(1));

    right.sshd().change_host_key().await.unwrap();
    let said = right.check().await;
    assert!(
        failed(&said).contains("try, to which product is pushed: "),
        "{said:?}"
    );
}

#[tokio::test]
async fn a_broken_key_and_missing_host_keys_are_named_for_themselves() {
    let right = Right::over_ssh().await;
    let key = right.key();
    let broken = key.replace("KEY-----\\n", "KEY-----\\nAAAA");
    let said = right
        .check_with("repositories", |value| value.replace(&key, &broken))
        .await;
    has(&said, "FAILED", &["the ssh key of product: "]);
    assert_eq!(said.code, Some(1));
    let said = right
        .check_with("known_hosts", |_| "/nonexistent/known_hosts".to_owned())
        .await;
    has(
        &said,
        "FAILED",
        &[
            "the known host keys /nonexistent/known_hosts",
            "No such file",
        ],
    );
    has(
        &said,
        "FAILED",
        &[
            "try, to which product is pushed",
            "Host key verification failed",
        ],
    );
}
